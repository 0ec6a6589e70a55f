//! Partitioners: under which route a record is stored.
//!
//! | Partitioner          | Levels                                        | Needs of the value |
//! |----------------------|-----------------------------------------------|--------------------|
//! | [`ByKafkaPartition`] | `partition=0`                                 | nothing            |
//! | [`ByField`]          | `service=checkout/host=a.example`             | [`Fields`]         |
//! | [`ByTime`]           | `year=2024/month=06/day=01/hour=09`           | [`Fields`], if the time is one |
//! | [`ByKey`]            | `customer-7`                                  | nothing            |
//! | [`by_fn`]            | what the function appends                     | what it needs      |
//! | [`chain`]            | those of its parts, one below the other       | what they need     |
//!
//! All of them are pure, so that a replay after a crash finds the same routes; also [`SegmentOpened`], which reads the
//! segment's pinned opening time instead of a clock. Every value is escaped: no record adds a level or leaves its
//! prefix. A record without a route is a [`Poison`](aqueduct_core::Poison) that names the field and never shows the
//! value.
//!
//! ```
//! use aqueduct_core::{BatchBuilder, FieldPath, FieldValue, Fields, Offset, Partitioner, Permit, RoutePath};
//! use aqueduct_core::{Timestamp, TopicPartition};
//! use aqueduct_partitioners::{ByField, ByTime, chain};
//!
//! struct Event {
//!     service: &'static str,
//! }
//!
//! impl Fields for Event {
//!     fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
//!         (path.name() == "service").then(|| FieldValue::Str(self.service.into()))
//!     }
//! }
//!
//! let layout = chain((ByField::new("service")?, ByTime::hourly("Asia/Seoul")?));
//!
//! let mut batch = BatchBuilder::new(TopicPartition::new("logs", 0), 64);
//! batch.push(Offset::ZERO, Timestamp::Create(1_717_200_000_000), None, Some(b"{}"), []);
//! let batch = batch.build(Permit::unlimited());
//! let mut path = RoutePath::default();
//! layout.route(&batch.get(0).unwrap(), &Event { service: "checkout" }, &mut path)?;
//! assert_eq!(path.as_str(), "service=checkout/year=2024/month=06/day=01/hour=09");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Fields`]: aqueduct_core::Fields

pub use chain::{Chain, chain};
pub use error::LayoutError;
pub use field::ByField;
pub use function::{ByFn, by_fn};
pub use kafka_partition::ByKafkaPartition;
pub use key::ByKey;
pub use time::{ByTime, Extract, FieldTime, HeaderTime, RecordTimestamp, SegmentOpened, TimeFormat};

mod chain;
mod error;
mod field;
mod function;
mod kafka_partition;
mod key;
mod short_text;
mod time;

#[cfg(test)]
mod tests {
    use aqueduct_core::{
        BatchBuilder, FieldPath, FieldValue, Fields, Fingerprint, Offset, Partitioner, Permit, Poison,
        RoutePath, Timestamp, TopicPartition,
    };

    /// One record to route.
    pub(crate) struct Sample {
        pub(crate) lane: TopicPartition,
        pub(crate) key: Option<Vec<u8>>,
        pub(crate) timestamp: Timestamp,
        pub(crate) headers: Vec<(&'static str, Option<Vec<u8>>)>,
        pub(crate) opened_at_ms: i64,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self {
                lane: TopicPartition::new("t", 0),
                key: None,
                timestamp: Timestamp::None,
                headers: Vec::new(),
                opened_at_ms: 0,
            }
        }
    }

    impl Sample {
        pub(crate) fn route<T: ?Sized>(&self, by: &impl Partitioner<T>, value: &T) -> Result<String, Poison> {
            let mut builder = BatchBuilder::new(self.lane.clone(), 0);
            let headers = self.headers.iter().map(|(name, value)| (*name, value.as_deref()));
            builder.push(Offset::ZERO, self.timestamp, self.key.as_deref(), None, headers);
            let mut path = RoutePath::new(self.opened_at_ms);
            by.route(&builder.build(Permit::unlimited()).get(0).unwrap(), value, &mut path)?;
            Ok(path.as_str().to_owned())
        }
    }

    /// A value with the given fields.
    pub(crate) struct Tree(Vec<(FieldPath, FieldValue<'static>)>);

    impl Tree {
        pub(crate) fn new(fields: &[(&str, FieldValue<'static>)]) -> Self {
            Self(
                fields.iter().map(|(path, value)| (FieldPath::parse(path).unwrap(), value.clone())).collect(),
            )
        }
    }

    impl Fields for Tree {
        fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
            self.0.iter().find(|(known, _)| known == path).map(|(_, value)| value.clone())
        }
    }

    pub(crate) fn fingerprint<T: ?Sized>(by: &impl Partitioner<T>) -> Fingerprint {
        let mut parts = Fingerprint::new();
        by.fingerprint(&mut parts);
        parts
    }
}
