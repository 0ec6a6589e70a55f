//! What a source delivers: records, and the positions that name them.
//!
//! "Last read" and "next to read" are different things that share a number; the newtypes here keep them apart.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{RecordEntry, Span};

/// One partition of one topic: the name of a [lane](crate::Pipeline#lanes).
///
/// Cloning bumps a reference count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    topic: Arc<str>,
    partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition's number, from 0.
    pub fn partition(&self) -> i32 {
        self.partition
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// The position of a record in its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(i64);

impl Offset {
    /// The first position a partition can have.
    pub const ZERO: Self = Self(0);

    /// Wraps a raw Kafka offset.
    pub const fn new(raw: i64) -> Self {
        Self(raw)
    }

    /// The raw Kafka offset.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The position right after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A half-open range of offsets `[start, end)`, never empty.
///
/// Offsets inside may have gaps (compaction, aborted transactions, control records): `end - start` is an upper
/// bound of the number of records, not a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OffsetRange {
    start: Offset,
    end: Offset,
}

impl OffsetRange {
    /// `[start, end)`, or `None` if that holds no offset.
    pub fn new(start: Offset, end: Offset) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// The first offset of the range.
    pub fn start(self) -> Offset {
        self.start
    }

    /// The first offset after the range.
    pub fn end(self) -> Offset {
        self.end
    }

    /// Whether `offset` lies in the range.
    pub fn contains(self, offset: Offset) -> bool {
        self.start <= offset && offset < self.end
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// The time a record carries, in milliseconds since the Unix epoch, and who set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamp {
    /// The record carries no timestamp.
    #[default]
    None,
    /// Set by the producer (`CreateTime`). Hostile input: any value is possible.
    Create(i64),
    /// Set by the broker when it appended the record (`LogAppendTime`).
    LogAppend(i64),
}

impl Timestamp {
    /// Milliseconds since the Unix epoch, if there is a timestamp.
    pub fn millis(self) -> Option<i64> {
        match self {
            Self::None => None,
            Self::Create(ms) | Self::LogAppend(ms) => Some(ms),
        }
    }
}

/// One record as the source gave it: a view into its batch's arena.
///
/// Borrowing it costs nothing; [`value_bytes`](Self::value_bytes) and [`key_bytes`](Self::key_bytes) give owned
/// slices of the arena by bumping a reference count, without copying.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub(crate) lane: &'a TopicPartition,
    pub(crate) arena: &'a Bytes,
    pub(crate) entry: RecordEntry,
}

impl<'a> Record<'a> {
    /// The partition the record was read from.
    pub fn lane(&self) -> &'a TopicPartition {
        self.lane
    }

    /// The record's position in its partition.
    pub fn offset(&self) -> Offset {
        self.entry.offset
    }

    /// The record's timestamp.
    pub fn timestamp(&self) -> Timestamp {
        self.entry.timestamp
    }

    /// The key's bytes; `None` is a record without a key.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.entry.key.and_then(|span| self.arena.get(span.range()))
    }

    /// The value's bytes; `None` is a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.entry.value.and_then(|span| self.arena.get(span.range()))
    }

    /// The key as an owned slice of the batch's arena; nothing is copied.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key().map(|key| self.arena.slice_ref(key))
    }

    /// The value as an owned slice of the batch's arena; nothing is copied.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value().map(|value| self.arena.slice_ref(value))
    }

    /// The record's headers, in the order the producer gave them.
    pub fn headers(&self) -> Headers<'a> {
        let encoded = self.entry.headers.and_then(|span| self.arena.get(span.range()));
        Headers { rest: encoded.unwrap_or_default() }
    }

    /// The same record with its key in the value's place, so that any converter can read keys.
    #[must_use]
    pub fn key_as_value(mut self) -> Self {
        self.entry.value = self.entry.key;
        self
    }

    /// The record's headers, owned: a slice of the batch's arena; nothing is copied.
    pub fn shared_headers(&self) -> SharedHeaders {
        let encoded = self.entry.headers.map(Span::range);
        SharedHeaders { encoded: encoded.map(|range| self.arena.slice(range)).unwrap_or_default() }
    }

    /// The same record with its last header of that name in the value's place, so that any converter can read headers; `None` if
    /// it has none of that name. Of several the last counts, as for Kafka's own clients (`Headers.lastHeader`).
    ///
    /// ```
    /// use aqueduct_core::{BatchBuilder, Offset, Permit, Timestamp, TopicPartition};
    ///
    /// let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 64);
    /// let headers = [("trace", Some(&b"1"[..])), ("trace", Some(b"2")), ("user", None)];
    /// batch.push(Offset::ZERO, Timestamp::None, None, Some(b"{}"), headers);
    /// let batch = batch.build(Permit::unlimited());
    /// let record = batch.get(0).unwrap();
    ///
    /// assert_eq!(record.header_as_value("trace").unwrap().value(), Some(&b"2"[..]));
    /// assert_eq!(record.header_as_value("user").unwrap().value(), None);
    /// assert!(record.header_as_value("other").is_none());
    /// ```
    pub fn header_as_value(&self, name: &str) -> Option<Self> {
        self.headers_as_values().filter(|(header, _)| *header == name).last().map(|(_, record)| record)
    }

    /// For each header its name, and the same record with the header's value in the value's place; a header without a value is a
    /// tombstone.
    ///
    /// Such a record has no headers: those of the record say nothing about its headers, and one that names the schema of the value
    /// (`__value_schema_id`) would be taken for the header's.
    pub fn headers_as_values(&self) -> impl Iterator<Item = (&'a str, Self)> + use<'a> {
        let (record, end) = (*self, self.entry.headers.map_or(0, |span| span.range().end));
        let mut headers = self.headers();
        std::iter::from_fn(move || {
            let (name, value) = headers.next()?;
            let mut view = record;
            // A header's value is the last of its bytes.
            view.entry.value = value.and_then(|value| Span::before(end - headers.rest.len(), value.len()));
            view.entry.headers = None;
            Some((name, view))
        })
    }

    /// Bytes of key, value and headers together, as held in the arena.
    pub fn size(&self) -> usize {
        [self.entry.key, self.entry.value, self.entry.headers].iter().flatten().map(|span| span.len()).sum()
    }

    /// Copies the record out of its batch, for what must outlive it (dead letters).
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord {
            lane: self.lane.clone(),
            offset: self.offset(),
            timestamp: self.timestamp(),
            key: self.key().map(Bytes::copy_from_slice),
            value: self.value().map(Bytes::copy_from_slice),
            headers: self
                .headers()
                .map(|(name, value)| (name.to_owned(), value.map(Bytes::copy_from_slice)))
                .collect(),
        }
    }
}

impl fmt::Debug for Record<'_> {
    /// Never prints a payload: records end up in logs that many people read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("lane", self.lane)
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .field("key_len", &self.key().map(<[u8]>::len))
            .field("value_len", &self.value().map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}

/// Iterates over a record's headers as `(name, value)`; a value may be absent, names may repeat.
#[derive(Clone)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone().map(|(name, _)| name)).finish()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = take_prefixed(self.rest)?;
        let (value, rest) = match rest.split_first()? {
            (0, rest) => (None, rest),
            (_, rest) => {
                let (value, rest) = take_prefixed(rest)?;
                (Some(value), rest)
            }
        };
        self.rest = rest;
        // Names are written from `&str` by `BatchBuilder`, so they are UTF-8.
        Some((std::str::from_utf8(name).unwrap_or_default(), value))
    }
}

/// A record's headers that keep the batch's arena alive, as [`Record::value_bytes`] does. Cloning bumps a reference count.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SharedHeaders {
    encoded: Bytes,
}

impl SharedHeaders {
    /// The headers, in the order the producer gave them.
    pub fn iter(&self) -> Headers<'_> {
        Headers { rest: &self.encoded }
    }
}

impl<'a> IntoIterator for &'a SharedHeaders {
    type Item = (&'a str, Option<&'a [u8]>);
    type IntoIter = Headers<'a>;

    fn into_iter(self) -> Headers<'a> {
        self.iter()
    }
}

impl fmt::Debug for SharedHeaders {
    /// Never prints a payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().fmt(f)
    }
}

/// Appends one header in the arena's encoding: name length, name, presence byte, value length, value.
pub(crate) fn encode_header(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&length(name.as_bytes()));
    out.extend_from_slice(name.as_bytes());
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            out.extend_from_slice(&length(value));
            out.extend_from_slice(value);
        }
    }
}

fn take_prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// A record that no longer needs its batch.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The partition the record was read from.
    pub lane: TopicPartition,
    /// The record's position in its partition.
    pub offset: Offset,
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// The key; `None` is a record without a key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers in producer order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl fmt::Debug for OwnedRecord {
    /// Never prints a payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedRecord")
            .field("lane", &self.lane)
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("key_len", &self.key.as_ref().map(Bytes::len))
            .field("value_len", &self.value.as_ref().map(Bytes::len))
            .field("headers", &self.headers.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::BatchBuilder;
    use crate::budget::Permit;

    #[test]
    fn a_range_is_never_empty() {
        assert!(OffsetRange::new(Offset::new(3), Offset::new(3)).is_none());
        let range = OffsetRange::new(Offset::new(3), Offset::new(5)).unwrap();
        assert!(range.contains(Offset::new(4)));
        assert!(!range.contains(Offset::new(5)));
    }

    #[test]
    fn headers_survive_the_arena() {
        let mut encoded = Vec::new();
        encode_header(&mut encoded, "trace", Some(b"abc"));
        encode_header(&mut encoded, "empty", Some(b""));
        encode_header(&mut encoded, "absent", None);
        let read: Vec<_> = Headers { rest: &encoded }.collect();
        assert_eq!(read, [("trace", Some(&b"abc"[..])), ("empty", Some(&b""[..])), ("absent", None)]);
    }

    #[test]
    fn truncated_headers_end_the_iteration() {
        let mut encoded = Vec::new();
        encode_header(&mut encoded, "trace", Some(b"abc"));
        encoded.truncate(encoded.len() - 1);
        assert_eq!(Headers { rest: &encoded }.count(), 0);
    }

    type Named = (String, Option<Vec<u8>>);

    fn named() -> impl Strategy<Value = Vec<Named>> {
        let name = prop_oneof![Just("a".to_owned()), Just("b".to_owned()), any::<String>()];
        prop::collection::vec((name, any::<Option<Vec<u8>>>()), 0..8)
    }

    proptest! {
        /// Records beside each other: an offset that is wrong would show a neighbour's bytes.
        #[test]
        fn headers_stand_in_the_value_s_place(records in prop::collection::vec(named(), 1..4)) {
            let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), 0);
            for (offset, headers) in (0..).zip(&records) {
                let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
                builder.push(Offset::new(offset), Timestamp::None, Some(b"key"), Some(b"value"), headers);
            }
            let batch = builder.build(Permit::unlimited());
            let mut all = Vec::new();
            for (record, headers) in batch.iter().zip(&records) {
                let views: Vec<_> = record.headers_as_values().collect();
                prop_assert_eq!(views.len(), headers.len());
                for ((name, view), (header, value)) in views.iter().zip(headers) {
                    prop_assert_eq!((name, view.value()), (&header.as_str(), value.as_deref()));
                    let bytes = view.value_bytes();
                    prop_assert_eq!(bytes.as_deref(), value.as_deref());
                    prop_assert_eq!((view.key(), view.offset()), (Some(&b"key"[..]), record.offset()));
                    prop_assert_eq!(view.headers().count(), 0);
                    all.push((record.offset(), header.as_str(), value.as_deref()));
                }
                let last = headers.iter().rfind(|(name, _)| name == "a").map(|(_, value)| value.as_deref());
                prop_assert_eq!(record.header_as_value("a").map(|view| view.value()), last);
                prop_assert!(record.shared_headers().iter().eq(record.headers()));
            }
            // What a converter is prepared with is what it is given.
            let views = batch.headers_as_values();
            let seen: Vec<_> = views.iter().map(|view| (view.offset(), view.value())).collect();
            prop_assert_eq!(seen, all.iter().map(|(offset, _, value)| (*offset, *value)).collect::<Vec<_>>());
            let views = batch.header_as_value("a");
            let seen: Vec<_> = views.iter().map(|view| (view.offset(), view.value())).collect();
            let given = batch.iter().filter_map(|record| record.header_as_value("a"));
            prop_assert_eq!(seen, given.map(|view| (view.offset(), view.value())).collect::<Vec<_>>());
        }
    }
}
