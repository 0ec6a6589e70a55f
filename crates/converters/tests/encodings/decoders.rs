//! Values of the other encodings as nobody should send them: a corpus for each, and bombs in bounded time and memory.

use std::time::{Duration, Instant};

use aqueduct_converters::{Cbor, ConnectJson, MessagePack, Primitive, Tombstones};
use aqueduct_core::testkit::{ScriptedRecord, check_converter, check_corpus, record};
use aqueduct_core::{
    BatchBuilder, Converted, Converter, ConverterExt as _, JsonRow, Offset, Permit, Timestamp, TopicPartition,
};

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
}

const ENVELOPE: &[u8] = br#"{"schema":{"type":"int8"},"payload":1}"#;

/// A head, a unit that repeats up to megabytes, and an end.
fn bomb(head: &[u8], unit: &[u8], end: &[u8]) -> Vec<u8> {
    [head, &unit.repeat((4 << 20) / unit.len()), end].concat()
}

#[test]
fn bombs_end_in_a_verdict() {
    let numbered = |entry: fn(u32) -> Vec<u8>| -> Vec<u8> { (0..400_000).flat_map(entry).collect() };
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
        bomb(b"\xdd\x00\x40\x00\x00", b"\x90", b""),
        bomb(b"\xdf\x00\x20\x00\x00", b"\x01\x00", b""),
        [vec![0xdf, 0, 6, 0x1a, 0x80], numbered(|it| [&[0xce][..], &it.to_be_bytes(), &[0]].concat())]
            .concat(),
    ];
    let started = Instant::now();
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
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
}
