//! Where in a record the schema's id stands.

use std::fmt;

use aqueduct_core::{Batch, Record};

use super::schema::SchemaId;
use super::wire::{Framed, KEY_HEADER, VALUE_HEADER, WireError};

/// Where a converter finds the schema's id: in front of the value, or, unless that is turned off, in a header. With a header the
/// whole value is payload, as newer serializers write it.
///
/// A converter for keys has to say so. It is given a record with its key in the value's place
/// ([`Record::key_as_value`]), but `prepare` is given the batch as it came, and the headers of keys have another name. One for
/// headers says nothing: both are given headers in the value's place ([`Record::header_as_value`], [`Batch::header_as_value`]), and
/// the id is in front of each.
///
/// ```
/// use aqueduct_converters::registry::Framing;
/// use aqueduct_core::{BatchBuilder, Offset, Permit, Timestamp, TopicPartition};
///
/// let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 0);
/// batch.push(Offset::new(0), Timestamp::None, Some(b"\0\0\0\0\x05k"), Some(b"\0\0\0\0\x07v"), []);
/// batch.push(Offset::new(1), Timestamp::None, None, Some(b"{}"), []);
/// let batch = batch.build(Permit::unlimited());
///
/// assert_eq!(Framing::values().ids(&batch).collect::<Vec<_>>(), [7.into()]);
/// assert_eq!(Framing::keys().ids(&batch).collect::<Vec<_>>(), [5.into()]);
/// let record = batch.get(0).expect("two records");
/// assert_eq!(Framing::values().split(&record)?.map(|framed| framed.payload()), Some(&b"v"[..]));
/// # Ok::<(), aqueduct_converters::registry::wire::WireError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    keys: bool,
    headers: bool,
}

impl Framing {
    /// Of values.
    pub fn values() -> Self {
        Self { keys: false, headers: true }
    }

    /// Of keys.
    pub fn keys() -> Self {
        Self { keys: true, headers: true }
    }

    /// Whether headers are looked at; they are by default. Without, `__value_schema_id` is a header like any other.
    #[must_use]
    pub fn headers(mut self, headers: bool) -> Self {
        self.headers = headers;
        self
    }

    /// Of a record as `convert` is given it: the schema's id and the payload; `None` for a tombstone.
    pub fn split<'a>(self, record: &Record<'a>) -> Result<Option<Framed<'a>>, WireError> {
        self.split_part(record, record.value())
    }

    /// The ids in a batch as `prepare` is given it, one for each record that has one; records that have none are passed over,
    /// `convert` will refuse them.
    pub fn ids(self, batch: &Batch) -> impl Iterator<Item = SchemaId> {
        batch.iter().filter_map(move |record| {
            let part = if self.keys { record.key() } else { record.value() };
            self.split_part(&record, part).ok().flatten().map(|framed| framed.id())
        })
    }

    fn split_part<'a>(
        self,
        record: &Record<'a>,
        part: Option<&'a [u8]>,
    ) -> Result<Option<Framed<'a>>, WireError> {
        let Some(bytes) = part else { return Ok(None) };
        if self.headers {
            let name = if self.keys { KEY_HEADER } else { VALUE_HEADER };
            // Of several the last counts, as for Kafka's own clients.
            let header = record.headers().filter(|(header, _)| *header == name).last();
            if let Some((_, Some(header))) = header {
                return Framed::from_header(name, header, bytes).map(Some);
            }
        }
        Framed::from_prefix(bytes).map(Some)
    }
}

impl Default for Framing {
    /// Of values.
    fn default() -> Self {
        Self::values()
    }
}

impl fmt::Display for Framing {
    /// For a converter's identity.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.keys { "keys" } else { "values" })?;
        f.write_str(if self.headers { "+headers" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_core::{BatchBuilder, Offset, Permit, Timestamp, TopicPartition};

    use super::*;

    type Header<'a> = (&'a str, Option<&'a [u8]>);

    fn batch(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> Batch {
        let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), 64);
        builder.push(Offset::ZERO, Timestamp::None, key, value, headers.iter().copied());
        builder.build(Permit::unlimited())
    }

    const GUID: &[u8] = b"\x010123456789abcdef";

    #[test]
    fn a_header_comes_before_the_prefix_and_the_last_one_counts() {
        let headers = [
            (VALUE_HEADER, Some(&b"\0\0\0\0\x01"[..])),
            ("__VALUE_SCHEMA_ID", Some(b"x")),
            (VALUE_HEADER, Some(GUID)),
        ];
        let batch = batch(Some(b"\0\0\0\0\x05"), Some(b"\0\0\0\0\x07"), &headers);
        let record = batch.get(0).unwrap();
        let framed = Framing::values().split(&record).unwrap().unwrap();
        assert_eq!((framed.id().to_string().len(), framed.payload().len()), (36, 5));
        assert_eq!(Framing::values().headers(false).split(&record).unwrap().unwrap().id(), 7.into());
        // The value's header says nothing about the key.
        let framed = Framing::keys().split(&record.key_as_value()).unwrap().unwrap();
        assert_eq!(framed.id(), 5.into());
        assert_eq!(Framing::keys().ids(&batch).collect::<Vec<_>>(), [5.into()]);
    }

    #[test]
    fn a_header_without_an_id_is_refused_and_one_without_a_value_is_none() {
        let damaged = batch(None, Some(b"\0\0\0\0\x07"), &[(VALUE_HEADER, Some(b"7"))]);
        let refused = Framing::values().split(&damaged.get(0).unwrap());
        assert_eq!(refused, Err(WireError::Header { header: VALUE_HEADER }));
        assert_eq!(Framing::values().ids(&damaged).count(), 0);
        let absent = batch(None, Some(b"\0\0\0\0\x07"), &[(VALUE_HEADER, None)]);
        assert_eq!(Framing::values().split(&absent.get(0).unwrap()).unwrap().unwrap().id(), 7.into());
    }

    #[test]
    fn tombstones_have_no_schema_whatever_their_headers() {
        let tombstone = batch(Some(b"k"), None, &[(VALUE_HEADER, Some(GUID))]);
        assert_eq!(Framing::values().split(&tombstone.get(0).unwrap()), Ok(None));
        assert_eq!(Framing::values().ids(&tombstone).count(), 0);
    }

    #[test]
    fn every_choice_has_an_identity_of_its_own() {
        let all = [
            Framing::values(),
            Framing::keys(),
            Framing::values().headers(false),
            Framing::keys().headers(false),
        ];
        let names = all.map(|framing| framing.to_string());
        assert_eq!(names, ["values+headers", "keys+headers", "values", "keys"]);
    }
}
