//! How records are laid out, and where each is to be found then.

use std::sync::Arc;

use anyhow::Result;
use aqueduct::partition::TimeFormat;
use aqueduct::{ByField, ByKafkaPartition, ByTime, Fields, Partitioner, chain};
use xtask::readers::{Cell, Unit};

use super::calendar::Moment;
use super::truth::Place;

/// A layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// No level at all.
    None,
    /// The Kafka partition.
    Partition,
    /// The hour of the record's timestamp.
    RecordTime,
    /// A field of a field.
    Field,
    /// The hour of a field's time.
    FieldTime,
    /// A field, the Kafka partition, then the hour of the record.
    Chain,
}

impl Layout {
    pub(super) const ALL: [Self; 6] =
        [Self::None, Self::Partition, Self::RecordTime, Self::Field, Self::FieldTime, Self::Chain];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "unlevelled",
            Self::Partition => "by-partition",
            Self::RecordTime => "by-time",
            Self::Field => "by-field",
            Self::FieldTime => "by-field-time",
            Self::Chain => "chained",
        }
    }

    /// Whether it reads the value.
    pub(super) fn needs_fields(self) -> bool {
        matches!(self, Self::Field | Self::FieldTime | Self::Chain)
    }

    /// The partitioner, for values without fields; none if it needs some.
    pub(super) fn plain<T: 'static>(self) -> Result<Option<Arc<dyn Partitioner<T>>>> {
        Ok(Some(match self {
            Self::None => Arc::new(chain(Vec::<Arc<dyn Partitioner<T>>>::new())),
            Self::Partition => Arc::new(ByKafkaPartition),
            Self::RecordTime => Arc::new(ByTime::hourly("UTC")?),
            Self::Field | Self::FieldTime | Self::Chain => return Ok(None),
        }))
    }

    /// The partitioner; `time` is how the values hold the field `at`.
    pub(super) fn of_fields<T: Fields + 'static>(self, time: TimeFormat) -> Result<Arc<dyn Partitioner<T>>> {
        if let Some(plain) = self.plain()? {
            return Ok(plain);
        }
        let city = || ByField::new("place.city");
        Ok(match self {
            Self::FieldTime => Arc::new(ByTime::hourly("UTC")?.field("at", time)?),
            Self::Chain => {
                let levels: Vec<Arc<dyn Partitioner<T>>> =
                    vec![Arc::new(city()?), Arc::new(ByKafkaPartition), Arc::new(ByTime::hourly("UTC")?)];
                Arc::new(chain(levels))
            }
            _ => Arc::new(city()?),
        })
    }

    /// Where the record is to be.
    pub(super) fn route(self, place: Place, value: &Cell) -> String {
        let partition = format!("partition={}", place.partition);
        let city = || match value.member("place").and_then(|place| place.member("city")) {
            Some(Cell::Text(city)) => format!("city={}", escaped(city)),
            _ => String::new(),
        };
        match self {
            Self::None => String::new(),
            Self::Partition => partition,
            Self::RecordTime => hour(place.timestamp()),
            Self::Field => city(),
            Self::FieldTime => match value.member("at") {
                Some(Cell::Timestamp(ms, Unit::Millis, _)) => hour(*ms),
                _ => String::new(),
            },
            Self::Chain => [city(), partition, hour(place.timestamp())].join("/"),
        }
    }
}

/// The levels of an hour, as `ByTime::hourly` lays them out.
pub(crate) fn hour(ms: i64) -> String {
    let Moment { year, month, day, hour, .. } = Moment::at(ms, Unit::Millis);
    format!("year={year:04}/month={month:02}/day={day:02}/hour={hour:02}")
}

/// As a level shows a value.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '/' => out.push_str("%2F"),
            '\\' => out.push_str("%5C"),
            '%' => out.push_str("%25"),
            '=' => out.push_str("%3D"),
            other => out.push(other),
        }
    }
    out
}
