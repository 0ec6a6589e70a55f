//! Values of the other encodings as nobody should send them: a corpus for each, and bombs in bounded time and memory.

use std::time::{Duration, Instant};

use aqueduct_converters::registry::{FixedSchemas, SchemaKind, wire};
use aqueduct_converters::{
    Cbor, Columns, ConnectJson, HeaderValues, Json, JsonSchema, MessagePack, Primitive, Protobuf, Tombstones,
    Utf8,
};
use aqueduct_core::testkit::{ScriptedRecord, check_converter, check_corpus, record};
use aqueduct_core::{
    BatchBuilder, Converted, Converter, ConverterExt as _, JsonRow, Offset, Permit, Timestamp, TopicPartition,
};

use super::assert_memory_is_bounded;

const MESSAGE: &str = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto"; import "google/protobuf/struct.proto";
    enum E { ZERO = 0; ONE = 1; }
    message M { int32 a = 1; string s = 2; M m = 3; repeated int32 r = 4; map<string, int32> map = 5;
    oneof o { int32 x = 6; M y = 7; } E e = 8; google.protobuf.Timestamp at = 9; google.protobuf.Struct json = 10; }"#;

const ORDER: &str = r#"{"type":"object","properties":{"id":{"type":"integer"},"at":{"type":"string","format":"date-time"},
    "kind":{"enum":["a","b"]},"tags":{"type":"object","additionalProperties":{"type":"number"}}},"required":["id"]}"#;

/// What the converter makes of the value: a row of JSON, or why not.
fn verdict<C: Converter<Output: JsonRow>>(converter: &C, value: &[u8]) -> String {
    let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), value.len());
    builder.push(Offset::ZERO, Timestamp::None, None, Some(value), []);
    match converter.convert(&builder.build(Permit::unlimited()).get(0).unwrap()) {
        Ok(Converted::Emit(value)) => {
            let mut row = Vec::new();
            match value.write_json(&mut row) {
                Ok(()) if row.len() > 200 => format!("{} bytes of json", row.len()),
                Ok(()) => String::from_utf8(row).unwrap(),
                Err(poison) => format!("no row: {poison}"),
            }
        }
        Ok(Converted::Skip(reason)) => reason.as_str().to_owned(),
        Err(poison) => poison.to_string(),
    }
}

fn corpus(kind: &str) -> String {
    format!("{}/tests/corpus/{kind}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn cbor_of_the_corpus_gets_its_verdict() {
    check_corpus(corpus("cbor"), |_, bytes| verdict(&Cbor::new(), &bytes));
}

#[test]
fn messagepack_of_the_corpus_gets_its_verdict() {
    check_corpus(corpus("messagepack"), |_, bytes| verdict(&MessagePack::new(), &bytes));
}

#[test]
fn envelopes_of_the_corpus_get_their_verdicts() {
    check_corpus(corpus("connect"), |_, bytes| verdict(&ConnectJson::new(), &bytes));
}

#[test]
fn protobuf_of_the_corpus_gets_its_verdict() {
    let converter = Protobuf::proto(MESSAGE, "M").unwrap();
    check_corpus(corpus("protobuf"), |_, bytes| verdict(&converter, &bytes));
}

#[test]
fn json_of_a_json_schema_gets_its_verdict() {
    let converter = JsonSchema::with_registry(FixedSchemas::new().with(7, SchemaKind::Json, ORDER));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut batch = BatchBuilder::new(TopicPartition::new("t", 0), 8);
        batch.push(Offset::ZERO, Timestamp::None, None, Some(b"\0\0\0\0\x07"), []);
        converter.prepare(&batch.build(Permit::unlimited())).await.unwrap();
    });
    check_corpus(corpus("json-schema"), |_, bytes| {
        let mut framed = Vec::new();
        wire::write_prefix(7, &mut framed);
        framed.extend_from_slice(&bytes);
        verdict(&converter, &framed)
    });
}

#[tokio::test]
async fn every_converter_is_pure() {
    let records = [&b"\xa1\x61a\x01"[..], b"\x81\xa1a\x01", b"\x01", b"\xc0", b"\xf6", ENVELOPE];
    let records = records.map(|bytes| record(ScriptedRecord::new(bytes.to_vec()).key("k")));
    for tombstones in [Tombstones::Poison, Tombstones::Skip, Tombstones::Null] {
        check_converter(&Cbor::new().tombstones(tombstones), &records).await;
        check_converter(&MessagePack::new().tombstones(tombstones), &records).await;
        check_converter(&ConnectJson::new().tombstones(tombstones), &records).await;
        check_converter(&Primitive::long().tombstones(tombstones), &records).await;
        check_converter(&Primitive::boolean().tombstones(tombstones), &records).await;
    }
    check_converter(&Cbor::new().keyed(MessagePack::new()), &records).await;
    let columns = Columns::around(Json::new().tombstones(Tombstones::Null))
        .topic("topic")
        .timestamp("at")
        .key("key", Utf8::new())
        .headers("headers", HeaderValues::Simple);
    check_converter(&columns.build().unwrap(), &records).await;
    let framed = [&b"\0\0\0\0\x01\0\x08\x01"[..], b"\0\0\0\0\x07{\"id\":1}", b"\0\0\0\0\x09", b"\x08\x01"];
    let framed = framed.map(|bytes| record(ScriptedRecord::new(bytes.to_vec()).key("k")));
    let schemas =
        || FixedSchemas::new().with(7, SchemaKind::Json, ORDER).with(1, SchemaKind::Protobuf, MESSAGE);
    for tombstones in [Tombstones::Poison, Tombstones::Skip, Tombstones::Null] {
        check_converter(&JsonSchema::with_registry(schemas()).tombstones(tombstones), &framed).await;
        check_converter(&Protobuf::with_registry(schemas()).tombstones(tombstones), &framed).await;
        check_converter(&Protobuf::proto(MESSAGE, "M").unwrap().tombstones(tombstones), &framed).await;
    }
}

const ENVELOPE: &[u8] = br#"{"schema":{"type":"int8"},"payload":1}"#;

/// A head, a unit that repeats up to megabytes, and an end.
fn bomb(head: &[u8], unit: &[u8], end: &[u8]) -> Vec<u8> {
    [head, &unit.repeat((1 << 20) / unit.len()), end].concat()
}

#[test]
fn bombs_end_in_a_verdict() {
    let numbered = |entry: fn(u32) -> Vec<u8>| -> Vec<u8> { (0..100_000).flat_map(entry).collect() };
    let cbor = [
        bomb(b"", b"\x81", b"\x00"),
        bomb(b"", b"\x9f", b""),
        bomb(b"", b"\xc6", b"\x00"),
        bomb(b"", b"\xc4\x82\x00", b""),
        bomb(b"\x7f", b"\x60", b"\xff"),
        bomb(b"\x5f", b"\x41a", b"\xff"),
        bomb(b"\x9f", b"\x80", b"\xff"),
        bomb(b"\xbf", b"\x61a\x00", b"\xff"),
        bomb(b"\x9f", &[&b"\xc2\x58\x40"[..], &[0xff; 64]].concat(), b"\xff"),
        bomb(b"\x9f", b"\xc4\x82\x38\x4b\x01", b"\xff"),
        // Keys that are all different, as numbers and as text.
        [b"\xbf".to_vec(), numbered(|it| [&[0x1a][..], &it.to_be_bytes(), &[0]].concat()), b"\xff".to_vec()]
            .concat(),
        [b"\xbf".to_vec(), numbered(|it| format!("\x68{it:08x}\x00").into_bytes()), b"\xff".to_vec()]
            .concat(),
    ];
    let messagepack = [
        bomb(b"", b"\x91", b"\xc0"),
        bomb(b"", b"\x81\x01", b"\xc0"),
        bomb(b"\xdd\x00\x10\x00\x00", b"\x90", b""),
        bomb(b"\xdf\x00\x08\x00\x00", b"\x01\x00", b""),
        [vec![0xdf, 0, 1, 0x86, 0xa0], numbered(|it| [&[0xce][..], &it.to_be_bytes(), &[0]].concat())]
            .concat(),
    ];
    let protobuf = [
        bomb(b"", b"\xa3\x06", b""),
        bomb(b"", b"\x20\x01", b""),
        bomb(b"", b"\x1a\x00", b""),
        bomb(b"", b"\x2a\x00", b""),
        bomb(b"", b"\x30\x01\x3a\x00", b""),
        bomb(b"\x22\x80\x80\x40", b"\x01", b""),
        (0..80_000_u32)
            .flat_map(|it| [&b"\x2a\x0a\x0a\x08"[..], format!("{it:08x}").as_bytes()].concat())
            .collect(),
    ];
    let started = Instant::now();
    let message = Protobuf::proto(MESSAGE, "M").unwrap();
    let said: Vec<String> = protobuf.iter().map(|bytes| verdict(&message, bytes)).collect();
    assert!(said[0].contains("nested deeper") || said[0].contains("nests deeper"), "{}", said[0]);
    assert!(
        said[1..].iter().all(|it| it.ends_with("bytes of json") || it.starts_with("{\"a\":0")),
        "{said:?}"
    );
    let said: Vec<String> = cbor.iter().map(|bytes| verdict(&Cbor::new(), bytes)).collect();
    let rows = said.iter().filter(|it| it.ends_with("bytes of json")).count();
    assert_eq!(rows, 6, "{said:?}");
    assert!(
        said[..4]
            .iter()
            .all(|it| it.contains("nested deeper") || it.contains("no whole number") || it == "0"),
        "{said:?}"
    );
    assert!(said[7].contains("twice"), "{}", said[7]);
    let said: Vec<String> = messagepack.iter().map(|bytes| verdict(&MessagePack::new(), bytes)).collect();
    assert!(said[0].contains("nested deeper") && said[1].contains("nested deeper"), "{said:?}");
    assert!(said[2].ends_with("bytes of json") && said[4].ends_with("bytes of json"), "{said:?}");
    assert!(said[3].contains("twice"), "{said:?}");
    // What is quadratic in megabytes takes hours.
    assert!(started.elapsed() < Duration::from_mins(5), "{:?}", started.elapsed());
    assert_memory_is_bounded();
}
