//! The producers' side: how values become bytes, by encoders that are not ours, what of a value the bytes still say, and the
//! converter that is to read them. One entry of [`ENCODINGS`] for each.

mod avro;
mod cbor;
mod json;
mod messagepack;
mod typed;

use anyhow::Result;
use aqueduct::partition::TimeFormat;
use aqueduct::{Json, RawBytes, Utf8};
use futures::future::BoxFuture;
use xtask::readers::Cell;

use super::run::{Ended, Run};
use super::storage::Takes;

/// An encoding and its converter.
pub(super) struct Encoding {
    pub(super) name: &'static str,
    /// What its converter gives.
    pub(super) gives: Takes,
    /// The bytes of a value.
    pub(super) encode: fn(&Cell) -> Result<Vec<u8>>,
    /// What they still say of the value.
    pub(super) carries: fn(&Cell) -> Cell,
    /// Values that are none.
    pub(super) poisons: &'static [Spoilt],
    /// How the converter's values hold the field `at`.
    pub(super) time: TimeFormat,
    /// Runs a pipeline with its converter.
    pub(super) run: for<'a> fn(&'a Run<'a>) -> BoxFuture<'a, Result<Ended>>,
}

/// A value that cannot be converted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spoilt {
    pub(super) name: &'static str,
    pub(super) value: &'static [u8],
    /// As the letter names the reason.
    pub(super) reason: &'static str,
}

const fn spoilt(name: &'static str, value: &'static [u8], reason: &'static str) -> Spoilt {
    Spoilt { name, value, reason }
}

pub(super) const ENCODINGS: &[Encoding] = &[
    Encoding {
        name: "json",
        gives: Takes::Structured,
        encode: json::encode,
        carries: json::carries,
        poisons: &[
            spoilt("cut short", br#"{"seq":1"#, "malformed"),
            spoilt("no utf-8", b"{\"seq\":\"\xff\"}", "malformed"),
            spoilt("empty", b"", "malformed"),
        ],
        time: TimeFormat::Iso8601,
        run: |run| Box::pin(run.structured(Json::new().tombstones(run.tombstones()))),
    },
    Encoding {
        name: "text",
        gives: Takes::Bytes,
        encode: json::encode,
        carries: as_bytes,
        poisons: &[spoilt("no utf-8", b"\xff\xfe", "malformed")],
        time: TimeFormat::Iso8601,
        run: |run| Box::pin(run.bytes(Utf8::new().tombstones(run.tombstones()))),
    },
    Encoding {
        name: "bytes",
        gives: Takes::Bytes,
        encode: json::encode,
        carries: as_bytes,
        poisons: &[],
        time: TimeFormat::Iso8601,
        run: |run| Box::pin(run.bytes(RawBytes::new().tombstones(run.tombstones()))),
    },
];

/// What is bytes stays bytes.
fn as_bytes(value: &Cell) -> Cell {
    json::encode(value).map_or(Cell::Null, Cell::Bytes)
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
            assert_eq!(avro::registered(&value).unwrap().len(), bytes.len() + 5);
            assert_eq!(avro::single_object(&value).unwrap().len(), bytes.len() + 10);

            let bytes = cbor::encode(&value).unwrap();
            let read: ciborium::Value = ciborium::from_reader(bytes.as_slice()).unwrap();
            assert_eq!(read.as_map().unwrap().len(), value_members(&value));

            let bytes = messagepack::encode(&value).unwrap();
            let read: std::collections::BTreeMap<String, serde::de::IgnoredAny> =
                rmp_serde::from_slice(&bytes).unwrap();
            assert_eq!(read.len(), value_members(&value));

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
        for Encoding { name, encode, carries, .. } in ENCODINGS {
            let mut seen = std::collections::HashSet::new();
            for seq in 0..200 {
                let value = Place { seed: 7, partition: 1, seq }.value();
                assert!(seen.insert(encode(&value).unwrap()), "{name}: two values have one encoding");
                assert_ne!(carries(&value), Cell::Null, "{name}");
            }
        }
    }
}
