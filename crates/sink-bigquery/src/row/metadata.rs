//! The columns that say which record a row is of.

use aqueduct_core::{Poison, PoisonReason, Record, TimeUnit, Timestamp};

use super::calendar;
use super::wire::{Tag, WireType, put_bytes, put_int};
use crate::schema::{Field, FieldType};

/// The columns that say which record a row is of.
///
/// The first three are what recovery asks for when a stream is gone, what an audit counts, and what a query finds a duplicate by;
/// every row has them. The others are there if they have a name. All are nullable, so a table that exists can be given them.
///
/// All of them are of the record and its segment, and not of the moment they are written in: a segment that is written again from
/// its intent writes the same. Where there are no intents, at least once, a row that is written again after a crash may have another
/// load time: that of the segment it is in then.
///
/// ```
/// use aqueduct_sink_bigquery::{KeyAs, MetadataColumns};
///
/// let columns = MetadataColumns::default()
///     .with_timestamp("_kafka_timestamp")
///     .with_key("_kafka_key", KeyAs::Text)
///     .with_load_time("_loaded_at");
/// assert_eq!(columns.offset, "_kafka_offset");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetadataColumns {
    /// A `STRING`.
    pub topic: String,
    /// An `INTEGER`.
    pub partition: String,
    /// An `INTEGER`.
    pub offset: String,
    /// A `TIMESTAMP`: the record's own, whether its producer or its broker has set it; null if it has none.
    pub timestamp: Option<String>,
    /// The record's key as it was read, before any converter; null if there is none.
    pub key: Option<(String, KeyAs)>,
    /// A `TIMESTAMP`: when the segment was opened that the row was loaded with. That is the time of the process's clock when the first
    /// record of the segment arrived, the same for all rows of a segment, and pinned by its intent: exactly once, a row that is written
    /// again after a crash has the time it had. A clock that is read at the moment of writing could not promise that.
    pub load_time: Option<String>,
}

/// What a key is stored as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyAs {
    /// A `BYTES` column, which holds any key.
    #[default]
    Bytes,
    /// A `STRING` column; a record whose key is no UTF-8 is a letter.
    Text,
}

impl Default for MetadataColumns {
    /// `_kafka_topic`, `_kafka_partition`, `_kafka_offset`, and no others.
    fn default() -> Self {
        Self {
            topic: "_kafka_topic".to_owned(),
            partition: "_kafka_partition".to_owned(),
            offset: "_kafka_offset".to_owned(),
            timestamp: None,
            key: None,
            load_time: None,
        }
    }
}

impl MetadataColumns {
    /// Names the columns every row has.
    #[must_use]
    pub fn named(
        mut self,
        topic: impl Into<String>,
        partition: impl Into<String>,
        offset: impl Into<String>,
    ) -> Self {
        (self.topic, self.partition, self.offset) = (topic.into(), partition.into(), offset.into());
        self
    }

    /// Adds [`timestamp`](Self::timestamp).
    #[must_use]
    pub fn with_timestamp(mut self, name: impl Into<String>) -> Self {
        self.timestamp = Some(name.into());
        self
    }

    /// Adds [`key`](Self::key).
    #[must_use]
    pub fn with_key(mut self, name: impl Into<String>, key_as: KeyAs) -> Self {
        self.key = Some((name.into(), key_as));
        self
    }

    /// Adds [`load_time`](Self::load_time).
    #[must_use]
    pub fn with_load_time(mut self, name: impl Into<String>) -> Self {
        self.load_time = Some(name.into());
        self
    }

    /// As columns of a table.
    pub(crate) fn fields(&self) -> Vec<Field> {
        self.columns().map(|(name, column)| Field::nullable(name, column.kind())).collect()
    }

    /// In the order they have in a row.
    fn columns(&self) -> impl Iterator<Item = (&str, Column)> {
        let key = self.key.as_ref().map(|(name, key_as)| (name.as_str(), Column::Key(*key_as)));
        let always = [
            (self.topic.as_str(), Column::Topic),
            (self.partition.as_str(), Column::Partition),
            (self.offset.as_str(), Column::Offset),
        ];
        let timestamp = self.timestamp.as_deref().map(|name| (name, Column::Timestamp));
        let load_time = self.load_time.as_deref().map(|name| (name, Column::LoadTime));
        always.into_iter().chain(timestamp).chain(key).chain(load_time)
    }
}

#[derive(Clone, Copy, Debug)]
enum Column {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key(KeyAs),
    LoadTime,
}

impl Column {
    fn kind(self) -> FieldType {
        match self {
            Self::Topic | Self::Key(KeyAs::Text) => FieldType::String,
            Self::Partition | Self::Offset => FieldType::Int64,
            Self::Timestamp | Self::LoadTime => FieldType::Timestamp,
            Self::Key(KeyAs::Bytes) => FieldType::Bytes,
        }
    }
}

/// Which record a row is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: Timestamp,
    pub(crate) key: Option<&'a [u8]>,
    /// When the segment was opened, in milliseconds since the Unix epoch.
    pub(crate) opened_at_ms: i64,
}

impl<'a> Identity<'a> {
    /// Of a record in a segment that was opened at `opened_at_ms`.
    pub(crate) fn of(record: &'a Record<'_>, opened_at_ms: i64) -> Self {
        let lane = record.lane();
        Self {
            topic: lane.topic(),
            partition: lane.partition(),
            offset: record.offset().get(),
            timestamp: record.timestamp(),
            key: record.key(),
            opened_at_ms,
        }
    }
}

/// The columns with their numbers in the rows.
#[derive(Clone, Debug)]
pub(super) struct MetadataPlan(Vec<(Column, Tag)>);

impl MetadataPlan {
    /// Behind `fields` other columns.
    pub(super) fn new(columns: &MetadataColumns, fields: usize) -> Self {
        let first = u32::try_from(fields).unwrap_or(u32::MAX / 2) + 1;
        Self(
            (first..)
                .zip(columns.columns())
                .map(|(number, (_, column))| (column, Tag::new(number, WireType::of(&column.kind()))))
                .collect(),
        )
    }

    /// Appends them all. On an error `out` may hold some.
    pub(super) fn put(&self, identity: &Identity<'_>, out: &mut Vec<u8>) -> Result<(), Poison> {
        for (column, tag) in &self.0 {
            match column {
                Column::Topic => put_text(*tag, identity.topic.as_bytes(), out),
                Column::Partition => put_number(*tag, i64::from(identity.partition), out),
                Column::Offset => put_number(*tag, identity.offset, out),
                Column::LoadTime => put_number(*tag, moment(identity.opened_at_ms)?, out),
                Column::Timestamp => {
                    if let Some(millis) = identity.timestamp.millis() {
                        put_number(*tag, moment(millis)?, out);
                    }
                }
                Column::Key(key_as) => {
                    let Some(key) = identity.key else { continue };
                    if *key_as == KeyAs::Text && std::str::from_utf8(key).is_err() {
                        let detail = "the key is no UTF-8, and its column is a STRING";
                        return Err(Poison::new(PoisonReason::InvalidField, detail));
                    }
                    put_text(*tag, key, out);
                }
            }
        }
        Ok(())
    }
}

fn put_text(tag: Tag, text: &[u8], out: &mut Vec<u8>) {
    tag.put(out);
    put_bytes(out, text);
}

fn put_number(tag: Tag, number: i64, out: &mut Vec<u8>) {
    tag.put(out);
    put_int(out, number);
}

fn moment(millis: i64) -> Result<i64, Poison> {
    calendar::in_micros(millis, TimeUnit::Millis).and_then(calendar::micros).ok_or_else(|| {
        let detail = "the record's timestamp is outside of BigQuery's calendar";
        Poison::new(PoisonReason::InvalidTimestamp, detail)
    })
}
