//! The producers' side: how values become bytes, by encoders that are not ours, what of a value the bytes still say, and the
//! converter that is to read them. One entry of [`ENCODINGS`] for each.

pub(crate) mod avro;
mod cbor;
mod connect;
pub(super) mod json;
mod json_schema;
mod messagepack;
mod protobuf;
mod typed;

use anyhow::Result;
use aqueduct::convert::registry::{FixedSchemas, SchemaKind};
use aqueduct::convert::{Avro, Cbor, ConnectJson, JsonSchema, MessagePack, Protobuf};
use aqueduct::partition::TimeFormat;
use aqueduct::{Json, RawBytes, Serde, Utf8};
use futures::future::BoxFuture;
use xtask::readers::Cell;

use super::run::{Ended, Run};
use super::storage::{Takes, as_json};

/// An encoding and its converter.
pub(super) struct Encoding {
    pub(super) name: &'static str,
    /// What its converter gives.
    pub(super) gives: Takes,
    /// The bytes of a value.
    pub(super) encode: fn(&Cell) -> Result<Vec<u8>>,
    /// What they still say of the value, by its kinds.
    pub(super) carries: fn(&Cell) -> Cell,
    /// Whether its values come with a schema.
    pub(super) has_schema: bool,
    /// The value as a row of JSON.
    pub(super) rows: fn(&Cell) -> Cell,
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
        has_schema: false,
        encode: json::encode,
        carries: json::carries,
        rows: |value| as_json(&json::carries(value)),
        poisons: &[
            spoilt("cut short", br#"{"seq":1"#, "malformed"),
            spoilt("no utf-8", b"{\"seq\":\"\xff\"}", "malformed"),
            spoilt("empty", b"", "malformed"),
        ],
        time: TimeFormat::Iso8601,
        run: |run| Box::pin(run.structured(Json::new().tombstones(run.tombstones()))),
    },
    Encoding {
        name: "connect-json",
        gives: Takes::Structured,
        has_schema: true,
        encode: connect::encode,
        carries: connect::carries,
        rows: |value| as_json(&connect::carries(value)),
        poisons: &[
            spoilt("no envelope", br#"{"seq":1}"#, "malformed"),
            spoilt("no such number", br#"{"schema":{"type":"int64"},"payload":"one"}"#, "invalid-field"),
        ],
        time: TimeFormat::Millis,
        run: |run| Box::pin(run.structured(ConnectJson::new().tombstones(run.tombstones()))),
    },
    Encoding {
        name: "json-schema",
        gives: Takes::Structured,
        has_schema: true,
        encode: json_schema::encode,
        carries: json_schema::carries,
        // Stored as it came.
        rows: as_json,
        poisons: &[
            spoilt("no prefix", b"{}", "malformed"),
            spoilt("no json", b"\x00\x00\x00\x00\x13{", "malformed"),
            spoilt("members are missing", b"\x00\x00\x00\x00\x13{\"seq\":1}", "missing-field"),
        ],
        time: TimeFormat::Iso8601,
        run: |run| {
            let source =
                FixedSchemas::new().with(json_schema::SCHEMA_ID, SchemaKind::Json, json_schema::SCHEMA);
            Box::pin(run.structured(JsonSchema::with_registry(source).tombstones(run.tombstones())))
        },
    },
    Encoding {
        name: "protobuf-registry",
        gives: Takes::Structured,
        has_schema: true,
        encode: protobuf::registered,
        carries: protobuf::carries,
        rows: protobuf::rows,
        poisons: &[
            spoilt("no prefix", b"\x08\x01", "malformed"),
            spoilt("no such message", b"\x00\x00\x00\x00\x17\x02\x63", "malformed"),
            spoilt("unknown schema", b"\x00\x00\x00\x00\x63\x00", "malformed"),
        ],
        time: TimeFormat::Millis,
        run: |run| {
            let source = FixedSchemas::new().with(protobuf::SCHEMA_ID, SchemaKind::Protobuf, protobuf::PROTO);
            Box::pin(run.structured(Protobuf::with_registry(source).tombstones(run.tombstones())))
        },
    },
    Encoding {
        name: "protobuf-descriptor",
        gives: Takes::Structured,
        has_schema: true,
        encode: protobuf::plain,
        carries: protobuf::carries,
        rows: protobuf::rows,
        poisons: &[
            spoilt("cut short", b"\x08", "malformed"),
            spoilt("text in place of a number", b"\x0a\x01a", "malformed"),
            spoilt("no utf-8", b"\x42\x02\xff\xfe", "malformed"),
        ],
        time: TimeFormat::Millis,
        run: |run| {
            Box::pin(async move {
                let converter = Protobuf::descriptor_set(protobuf::descriptor_set()?, protobuf::MESSAGE)?;
                run.structured(converter.tombstones(run.tombstones())).await
            })
        },
    },
    Encoding {
        name: "serde",
        gives: Takes::Structured,
        has_schema: false,
        encode: typed::encode,
        carries: typed::carries,
        rows: |value| as_json(&typed::carries(value)),
        poisons: &[
            spoilt("a member is missing", br#"{"seq":1}"#, "malformed"),
            spoilt("cut short", br#"{"seq":1"#, "malformed"),
        ],
        time: TimeFormat::Iso8601,
        run: |run| Box::pin(run.structured(Serde::<typed::Event>::new().tombstones(run.tombstones()))),
    },
    Encoding {
        name: "avro-registry",
        gives: Takes::Structured,
        has_schema: true,
        encode: avro::registered,
        carries: avro::carries,
        rows: |value| as_json(&avro::carries(value)),
        poisons: &[
            spoilt("no prefix", b"\x01\x02\x03", "malformed"),
            spoilt("cut short", b"\x00\x00\x00\x00\x11\x02", "malformed"),
            spoilt("unknown schema", b"\x00\x00\x00\x00\x63\x02", "malformed"),
        ],
        time: TimeFormat::Millis,
        run: |run| {
            Box::pin(async move {
                let source = FixedSchemas::new().with(avro::SCHEMA_ID, SchemaKind::Avro, avro::SCHEMA);
                run.structured(Avro::with_registry(source).tombstones(run.tombstones()).build()?).await
            })
        },
    },
    Encoding {
        name: "avro-single-object",
        gives: Takes::Structured,
        has_schema: true,
        encode: avro::single_object,
        carries: avro::carries,
        rows: |value| as_json(&avro::carries(value)),
        poisons: &[
            spoilt("no marker", b"\x01\x02\x03", "malformed"),
            spoilt("unknown fingerprint", b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08\x02", "malformed"),
        ],
        time: TimeFormat::Millis,
        run: |run| {
            Box::pin(async move {
                run.structured(Avro::single_object([avro::SCHEMA]).tombstones(run.tombstones()).build()?)
                    .await
            })
        },
    },
    Encoding {
        name: "avro-fixed",
        gives: Takes::Structured,
        has_schema: true,
        encode: avro::datum,
        carries: avro::carries,
        rows: |value| as_json(&avro::carries(value)),
        poisons: &[spoilt("empty", b"", "malformed"), spoilt("cut short", b"\x02\x02", "malformed")],
        time: TimeFormat::Millis,
        run: |run| {
            Box::pin(async move {
                run.structured(Avro::fixed(avro::SCHEMA).tombstones(run.tombstones()).build()?).await
            })
        },
    },
    Encoding {
        name: "cbor",
        gives: Takes::Structured,
        has_schema: false,
        encode: cbor::encode,
        carries: cbor::carries,
        rows: |value| as_json(&cbor::carries(value)),
        poisons: &[
            spoilt("cut short", b"\xa2\x61a\x01", "malformed"),
            spoilt("a member twice", b"\xa2\x61a\x01\x61a\x02", "malformed"),
            spoilt("more behind it", b"\x01\x01", "malformed"),
        ],
        time: TimeFormat::Iso8601,
        run: |run| Box::pin(run.structured(Cbor::new().tombstones(run.tombstones()))),
    },
    Encoding {
        name: "messagepack",
        gives: Takes::Structured,
        has_schema: false,
        encode: messagepack::encode,
        carries: messagepack::carries,
        rows: |value| as_json(&messagepack::carries(value)),
        poisons: &[
            spoilt("cut short", b"\x82\xa1a\x01", "malformed"),
            spoilt("never used", b"\xc1", "malformed"),
        ],
        time: TimeFormat::Iso8601,
        run: |run| Box::pin(run.structured(MessagePack::new().tombstones(run.tombstones()))),
    },
    Encoding {
        name: "text",
        gives: Takes::Bytes,
        has_schema: false,
        encode: json::encode,
        carries: as_bytes,
        rows: as_bytes,
        poisons: &[spoilt("no utf-8", b"\xff\xfe", "malformed")],
        time: TimeFormat::Iso8601,
        run: |run| Box::pin(run.bytes(Utf8::new().tombstones(run.tombstones()))),
    },
    Encoding {
        name: "bytes",
        gives: Takes::Bytes,
        has_schema: false,
        encode: json::encode,
        carries: as_bytes,
        rows: as_bytes,
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
