//! The producers' side: how values become bytes, by encoders that are not ours, what of a value the bytes still say, and the
//! converter that is to read them. One entry of [`ENCODINGS`] for each.

pub(crate) mod avro;
pub(super) mod beside;
mod cbor;
mod connect;
pub(super) mod json;
mod json_schema;
mod messagepack;
mod primitive;
mod protobuf;
mod table;
mod typed;

use anyhow::Result;
use aqueduct::convert::registry::SchemaKind;
use aqueduct::partition::TimeFormat;
use futures::future::BoxFuture;
use xtask::readers::Cell;

pub(super) use self::table::ENCODINGS;
use super::run::{Ended, Run};
use super::storage::{Takes, as_json};

/// An encoding and its converter.
#[derive(Clone, Copy)]
pub(super) struct Encoding {
    pub(super) name: &'static str,
    /// What its converter gives.
    pub(super) gives: Takes,
    /// Whether its values have members to lay them out by.
    pub(super) has_fields: bool,
    /// The bytes of a value.
    encode: fn(&Cell) -> Result<Vec<u8>>,
    /// What stands in front of them.
    pub(super) frame: Frame,
    /// What they still say of the value, by its kinds.
    pub(super) carries: fn(&Cell) -> Cell,
    /// Whether its values come with a schema.
    pub(super) has_schema: bool,
    /// The value as a row of JSON, where it is another than what the bytes say.
    row: Option<fn(&Cell) -> Cell>,
    /// What the converter puts beside the value.
    pub(super) beside: Option<beside::Spelling>,
    /// Values that are none.
    pub(super) poisons: &'static [Spoilt],
    /// How the converter's values hold the field `at`.
    pub(super) time: TimeFormat,
    /// Runs a pipeline with its converter.
    pub(super) run: Runs,
}

type Runs = for<'a> fn(&'a Run<'a>) -> BoxFuture<'a, Result<Ended>>;

/// What stands in front of the bytes of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frame {
    Nothing,
    /// Confluent's wire format: the id that the registry gives the schema, then the place in it.
    Registry {
        kind: SchemaKind,
        schema: &'static str,
        place: &'static [u8],
    },
}

/// A value that cannot be converted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spoilt {
    pub(super) name: &'static str,
    value: &'static [u8],
    /// The id of the encoding's schema is in front of it.
    is_framed: bool,
    /// As the letter names the reason.
    pub(super) reason: &'static str,
}

const fn spoilt(name: &'static str, value: &'static [u8], reason: &'static str) -> Spoilt {
    Spoilt { name, value, is_framed: false, reason }
}

/// One behind the id of the encoding's schema.
const fn framed(name: &'static str, value: &'static [u8], reason: &'static str) -> Spoilt {
    Spoilt { name, value, is_framed: true, reason }
}

impl Encoding {
    /// Values with members and without a schema, that hold times as text.
    const fn schemaless(
        name: &'static str,
        encode: fn(&Cell) -> Result<Vec<u8>>,
        carries: fn(&Cell) -> Cell,
        run: Runs,
    ) -> Self {
        Self {
            name,
            gives: Takes::Structured,
            has_fields: true,
            encode,
            frame: Frame::Nothing,
            carries,
            has_schema: false,
            row: None,
            beside: None,
            poisons: &[],
            time: TimeFormat::Iso8601,
            run,
        }
    }

    /// Values with members and a schema, that hold times as what they are.
    const fn described(
        name: &'static str,
        encode: fn(&Cell) -> Result<Vec<u8>>,
        carries: fn(&Cell) -> Cell,
        run: Runs,
    ) -> Self {
        let schemaless = Self::schemaless(name, encode, carries, run);
        Self { has_schema: true, time: TimeFormat::Millis, ..schemaless }
    }

    /// The value as a row of JSON.
    pub(super) fn row(&self, value: &Cell) -> Cell {
        self.row.map_or_else(|| as_json(&(self.carries)(value)), |row| row(value))
    }

    /// The bytes of a record; `id` is what the registry calls the schema.
    pub(super) fn bytes(&self, value: &Cell, id: u32) -> Result<Vec<u8>> {
        let mut bytes = match self.frame {
            Frame::Nothing => Vec::new(),
            Frame::Registry { place, .. } => [&prefix(id), place].concat(),
        };
        bytes.extend((self.encode)(value)?);
        Ok(bytes)
    }
}

impl Spoilt {
    /// Its bytes.
    pub(super) fn bytes(&self, id: u32) -> Vec<u8> {
        if self.is_framed { [&prefix(id), self.value].concat() } else { self.value.to_vec() }
    }
}

fn prefix(id: u32) -> [u8; 5] {
    let [a, b, c, d] = id.to_be_bytes();
    [0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::super::truth::Place;
    use super::*;

    fn values() -> impl Iterator<Item = Cell> {
        (0..200).map(|seq| Place { seed: 7, partition: 1, seq }.value())
    }

    /// The encoders' own libraries read back what they have written.
    #[test]
    fn encoders_lose_nothing_that_is_said_to_be_carried() {
        let schema = apache_avro::Schema::parse_str(avro::SCHEMA).unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
        let mut avro_seen = std::collections::BTreeSet::new();
        for value in values() {
            let bytes = avro::datum(&value).unwrap();
            let read = reader.read_value(&mut bytes.as_slice()).unwrap();
            assert!(avro_seen.insert(format!("{read:?}")));
            // Maps come in any order.
            assert_eq!(avro::single_object(&value).unwrap().len(), bytes.len() + 10);

            let bytes = cbor::encode(&value).unwrap();
            let read: ciborium::Value = ciborium::from_reader(bytes.as_slice()).unwrap();
            assert_eq!(read.as_map().unwrap().len(), value_members(&value));

            let bytes = messagepack::encode(&value).unwrap();
            let read: ciborium::Value = rmp_serde::from_slice(&bytes).unwrap();
            assert_eq!(read.as_map().unwrap().len(), value_members(&value));

            let bytes = typed::encode(&value).unwrap();
            let read: typed::Event = serde_json::from_slice(&bytes).unwrap();
            let again: serde_json::Value = serde_json::to_value(read).unwrap();
            assert_eq!(again.as_object().unwrap().len(), value_members(&value));
        }
    }

    fn value_members(value: &Cell) -> usize {
        let Cell::Record(members) = value else { panic!("{value}") };
        members.len()
    }

    #[test]
    fn every_value_has_bytes_that_say_which_it_is() {
        for encoding in ENCODINGS {
            let name = encoding.name;
            let mut seen = std::collections::HashSet::new();
            for seq in 0..200 {
                let value = Place { seed: 7, partition: 1, seq }.value();
                let is_new = seen.insert(encoding.bytes(&value, 1).unwrap());
                assert!(is_new || name == "primitive-boolean", "{name}: two values have one encoding");
                assert_ne!((encoding.carries)(&value), Cell::Null, "{name}");
            }
        }
    }

    #[test]
    fn frames_are_in_front_of_what_is_framed() {
        let value = values().next().unwrap();
        for encoding in ENCODINGS {
            let (bare, one, other) = (
                (encoding.encode)(&value).unwrap(),
                encoding.bytes(&value, 1).unwrap(),
                encoding.bytes(&value, 258).unwrap(),
            );
            let Frame::Registry { place, .. } = encoding.frame else {
                assert!(!encoding.poisons.iter().any(|poison| poison.is_framed), "{}", encoding.name);
                continue;
            };
            assert_eq!(one.len(), bare.len() + 5 + place.len());
            assert_eq!((&one[..5], &other[..5]), (&[0, 0, 0, 0, 1][..], &[0, 0, 0, 1, 2][..]));
        }
        assert_eq!(framed("", b"x", "").bytes(258), b"\x00\x00\x00\x01\x02x");
    }
}
