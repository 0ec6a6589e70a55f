//! The embedded Kafka broker, librdkafka's own mock cluster, and the events that are produced to it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};

pub(crate) const TOPIC: &str = "events";
const PARTITIONS: u32 = 4;
/// Tenants that share.
const SMALL: u32 = 1_200;
/// 21 November 2026, 00:00 UTC.
const FIRST_DAY_MS: i64 = 1_795_219_200_000;
const DAYS: [&str; 3] = ["2026-11-21", "2026-11-22", "2026-11-23"];

/// Something that happened to a tenant; its number says everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    pub(crate) number: u32,
}

/// Whom an event is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Tenant(String),
    Nobody,
    /// Its header says this, its field says that.
    Disputed,
}

impl Event {
    pub(crate) fn all(records: u32) -> impl Iterator<Item = Self> {
        (0..records).map(|number| Self { number })
    }

    pub(crate) fn owner(self) -> Owner {
        match self.number % 20 {
            _ if self.number % 97 == 96 => Owner::Disputed,
            0..8 => Owner::Tenant("acme".to_owned()),
            8..10 => Owner::Tenant("globex".to_owned()),
            19 => Owner::Nobody,
            turn => Owner::Tenant(format!("t-{}", (self.number / 20 * 9 + turn) % SMALL)),
        }
    }

    /// How many routes the simplest layout would have.
    pub(crate) fn tenants_and_days(records: u32) -> usize {
        let places = Self::all(records).filter_map(|event| match event.owner() {
            Owner::Tenant(tenant) => Some((tenant, event.day())),
            Owner::Nobody => Some((String::new(), event.day())),
            Owner::Disputed => None,
        });
        places.collect::<BTreeSet<_>>().len()
    }

    pub(crate) fn day(self) -> &'static str {
        DAYS[self.number as usize % DAYS.len()]
    }

    /// Some have none.
    pub(crate) fn key(self) -> Option<String> {
        (!self.number.is_multiple_of(7)).then(|| format!("order-{}", self.number % 500))
    }

    /// The tenant as its header and its field have it: one of them, or both.
    fn names(self) -> [Option<String>; 2] {
        match self.owner() {
            Owner::Nobody => [None, None],
            Owner::Disputed => [Some("acme".to_owned()), Some("globex".to_owned())],
            Owner::Tenant(tenant) => match self.number % 3 {
                0 => [Some(tenant), None],
                1 => [None, Some(tenant)],
                _ => [Some(tenant.clone()), Some(tenant)],
            },
        }
    }

    pub(crate) fn value(self) -> String {
        let [_, field] = self.names();
        let tenant = field.map_or(String::new(), |tenant| format!(r#","meta":{{"tenant":"{tenant}"}}"#));
        format!(r#"{{"number":{}{tenant}}}"#, self.number)
    }

    fn at_ms(self) -> i64 {
        let day = i64::from(self.number) % 3;
        FIRST_DAY_MS + day * 86_400_000 + i64::from(self.number) * 1_000 % 86_400_000
    }
}

/// A running broker; it ends when this is dropped.
pub(crate) struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    pub(crate) fn start() -> Result<Self> {
        let cluster = MockCluster::new(1).context("cannot start the embedded broker")?;
        let created = cluster.create_topic(TOPIC, PARTITIONS.cast_signed(), 1);
        created.context("the embedded broker does not take the topic")?;
        Ok(Self { cluster })
    }

    pub(crate) fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Produces `records` events and returns when all of them are stored.
    pub(crate) async fn produce(&self, records: u32) -> Result<()> {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", RECORDS_MAX.to_string())
            .create()
            .context("cannot make a producer")?;
        let mut sent = Vec::new();
        for event in Event::all(records) {
            let ([header, _], key, value) = (event.names(), event.key(), event.value());
            let mut record = FutureRecord::<String, String>::to(TOPIC)
                .partition((event.number % PARTITIONS).cast_signed())
                .timestamp(event.at_ms())
                .payload(&value);
            record.key = key.as_ref();
            record.headers = header
                .map(|tenant| OwnedHeaders::new().insert(Header { key: "tenant", value: Some(&tenant) }));
            let delivery = producer.send_result(record).map_err(|(error, _)| error);
            sent.push(delivery.context("a record cannot be produced")?);
        }
        for delivery in sent {
            let stored = delivery.await.context("the producer has ended")?;
            stored.map_err(|(error, _)| error).context("the embedded broker refused a record")?;
        }
        Ok(())
    }
}

/// What the broker keeps of a few partitions, with room to spare.
pub(crate) const RECORDS_MAX: u32 = 100_000;
