//! All of them.

use aqueduct::convert::registry::SchemaKind;
use aqueduct::convert::{Avro, Cbor, ConnectJson, JsonSchema, MessagePack, Protobuf};
use aqueduct::partition::TimeFormat;
use aqueduct::{Columns, HeaderValues, Json, Primitive, RawBytes, Serde, Utf8};
use xtask::readers::Cell;

use super::beside::{self, Spelling};
use super::{
    Encoding, Frame, Takes, avro, cbor, connect, framed, json, json_schema, messagepack, primitive, protobuf,
    spoilt, typed,
};

const AVRO: Frame = Frame::Registry { kind: SchemaKind::Avro, schema: avro::SCHEMA, place: &[] };

pub(in super::super) const ENCODINGS: &[Encoding] = &[
    Encoding {
        poisons: &[
            spoilt("cut short", br#"{"seq":1"#, "malformed"),
            spoilt("no utf-8", b"{\"seq\":\"\xff\"}", "malformed"),
            spoilt("empty", b"", "malformed"),
        ],
        ..Encoding::schemaless("json", json::encode, json::carries, |run| {
            Box::pin(run.structured(Json::new().tombstones(run.tombstones())))
        })
    },
    Encoding {
        poisons: &[
            spoilt("no envelope", br#"{"seq":1}"#, "malformed"),
            spoilt("no such number", br#"{"schema":{"type":"int64"},"payload":"one"}"#, "invalid-field"),
        ],
        ..Encoding::described("connect-json", connect::encode, connect::carries, |run| {
            Box::pin(run.structured(ConnectJson::new().tombstones(run.tombstones())))
        })
    },
    Encoding {
        frame: Frame::Registry { kind: SchemaKind::Json, schema: json_schema::SCHEMA, place: &[] },
        // Stored as it came.
        row: Some(super::as_json),
        poisons: &[
            spoilt("no prefix", b"{}", "malformed"),
            framed("no json", b"{", "malformed"),
            framed("members are missing", b"{\"seq\":1}", "missing-field"),
        ],
        time: TimeFormat::Iso8601,
        ..Encoding::described("json-schema", json::encode, json_schema::carries, |run| {
            Box::pin(async move {
                run.structured(JsonSchema::with_registry(run.registry()?).tombstones(run.tombstones())).await
            })
        })
    },
    Encoding {
        // It is the first message of its file.
        frame: Frame::Registry { kind: SchemaKind::Protobuf, schema: protobuf::PROTO, place: &[0] },
        row: Some(protobuf::row),
        poisons: &[
            spoilt("no prefix", b"\x08\x01", "malformed"),
            framed("no such message", b"\x02\x63", "malformed"),
            spoilt("unknown schema", b"\x00\x7f\x00\x00\x63\x00", "malformed"),
        ],
        ..Encoding::described("protobuf-registry", protobuf::encode, protobuf::carries, |run| {
            Box::pin(async move {
                run.structured(Protobuf::with_registry(run.registry()?).tombstones(run.tombstones())).await
            })
        })
    },
    Encoding {
        row: Some(protobuf::row),
        poisons: &[
            spoilt("cut short", b"\x08", "malformed"),
            spoilt("text in place of a number", b"\x0a\x01a", "malformed"),
            spoilt("no utf-8", b"\x42\x02\xff\xfe", "malformed"),
        ],
        ..Encoding::described("protobuf-descriptor", protobuf::encode, protobuf::carries, |run| {
            Box::pin(async move {
                let converter = Protobuf::descriptor_set(protobuf::descriptor_set()?, protobuf::MESSAGE)?;
                run.structured(converter.tombstones(run.tombstones())).await
            })
        })
    },
    Encoding {
        poisons: &[
            spoilt("a member is missing", br#"{"seq":1}"#, "malformed"),
            spoilt("cut short", br#"{"seq":1"#, "malformed"),
        ],
        ..Encoding::schemaless("serde", typed::encode, typed::carries, |run| {
            Box::pin(run.structured(Serde::<typed::Event>::new().tombstones(run.tombstones())))
        })
    },
    Encoding {
        frame: AVRO,
        poisons: &[
            spoilt("no prefix", b"\x01\x02\x03", "malformed"),
            framed("cut short", b"\x02", "malformed"),
            spoilt("unknown schema", b"\x00\x7f\x00\x00\x63\x02", "malformed"),
        ],
        ..Encoding::described("avro-registry", avro::datum, Cell::clone, |run| {
            Box::pin(async move {
                run.structured(Avro::with_registry(run.registry()?).tombstones(run.tombstones()).build()?)
                    .await
            })
        })
    },
    Encoding {
        poisons: &[
            spoilt("no marker", b"\x01\x02\x03", "malformed"),
            spoilt("unknown fingerprint", b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08\x02", "malformed"),
        ],
        ..Encoding::described("avro-single-object", avro::single_object, Cell::clone, |run| {
            Box::pin(async move {
                run.structured(Avro::single_object([avro::SCHEMA]).tombstones(run.tombstones()).build()?)
                    .await
            })
        })
    },
    Encoding {
        poisons: &[spoilt("empty", b"", "malformed"), spoilt("cut short", b"\x02\x02", "malformed")],
        ..Encoding::described("avro-fixed", avro::datum, Cell::clone, |run| {
            Box::pin(async move {
                run.structured(Avro::fixed(avro::SCHEMA).tombstones(run.tombstones()).build()?).await
            })
        })
    },
    Encoding {
        poisons: &[
            spoilt("cut short", b"\xa2\x61a\x01", "malformed"),
            spoilt("a member twice", b"\xa2\x61a\x01\x61a\x02", "malformed"),
            spoilt("more behind it", b"\x01\x01", "malformed"),
        ],
        ..Encoding::schemaless("cbor", cbor::encode, cbor::carries, |run| {
            Box::pin(run.structured(Cbor::new().tombstones(run.tombstones())))
        })
    },
    Encoding {
        poisons: &[
            spoilt("cut short", b"\x82\xa1a\x01", "malformed"),
            spoilt("never used", b"\xc1", "malformed"),
        ],
        ..Encoding::schemaless("messagepack", messagepack::encode, messagepack::carries, |run| {
            Box::pin(run.structured(MessagePack::new().tombstones(run.tombstones())))
        })
    },
    Encoding {
        has_fields: false,
        poisons: &[spoilt("seven bytes", &[0; 7], "malformed"), spoilt("empty", b"", "malformed")],
        ..Encoding::described("primitive-long", primitive::long, primitive::carries_long, |run| {
            Box::pin(run.structured(Primitive::long().tombstones(run.tombstones())))
        })
    },
    Encoding {
        has_fields: false,
        poisons: &[spoilt("nine bytes", &[0; 9], "malformed")],
        ..Encoding::described("primitive-double", primitive::double, primitive::carries_double, |run| {
            Box::pin(run.structured(Primitive::double().tombstones(run.tombstones())))
        })
    },
    Encoding {
        has_fields: false,
        poisons: &[spoilt("neither", b"\x02", "malformed")],
        ..Encoding::described("primitive-boolean", primitive::boolean, primitive::carries_boolean, |run| {
            Box::pin(run.structured(Primitive::boolean().tombstones(run.tombstones())))
        })
    },
    Encoding {
        beside: Some(Spelling::Text),
        poisons: &[spoilt("cut short", br#"{"seq":1"#, "malformed")],
        ..Encoding::schemaless("columns-json", json::encode, json::carries, |run| {
            Box::pin(async move {
                let columns = beside::columns(Columns::around(Json::new().tombstones(run.tombstones())));
                let columns =
                    columns.key(beside::KEY, Utf8::new()).headers(beside::HEADERS, HeaderValues::Text);
                run.structured(columns.build()?).await
            })
        })
    },
    Encoding {
        frame: AVRO,
        beside: Some(Spelling::Bytes),
        poisons: &[framed("cut short", b"\x02", "malformed")],
        ..Encoding::described("columns-avro", avro::datum, Cell::clone, |run| {
            Box::pin(async move {
                let avro = Avro::with_registry(run.registry()?).tombstones(run.tombstones()).build()?;
                let columns = beside::columns(Columns::around(avro)).key(beside::KEY, Primitive::long());
                run.structured(columns.headers(beside::HEADERS, HeaderValues::Bytes).build()?).await
            })
        })
    },
    Encoding {
        gives: Takes::Bytes,
        has_fields: false,
        row: Some(as_bytes),
        poisons: &[spoilt("no utf-8", b"\xff\xfe", "malformed")],
        ..Encoding::schemaless("text", json::encode, as_bytes, |run| {
            Box::pin(run.bytes(Utf8::new().tombstones(run.tombstones())))
        })
    },
    Encoding {
        gives: Takes::Bytes,
        has_fields: false,
        row: Some(as_bytes),
        ..Encoding::schemaless("bytes", json::encode, as_bytes, |run| {
            Box::pin(run.bytes(RawBytes::new().tombstones(run.tombstones())))
        })
    },
];

/// What is bytes stays bytes.
fn as_bytes(value: &Cell) -> Cell {
    json::encode(value).map_or(Cell::Null, Cell::Bytes)
}
