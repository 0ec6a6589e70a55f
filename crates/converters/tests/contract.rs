//! The converters keep the contract of `Converter`, also for records nobody should send.

use aqueduct_converters::{Json, RawBytes, Serde, Tombstones, Utf8};
use aqueduct_core::testkit::{
    ScriptedRecord, check_converter, check_fingerprints_differ, fingerprint_of, record,
};
use aqueduct_core::{Converter, ConverterExt, OwnedRecord};

fn friendly_records() -> Vec<OwnedRecord> {
    let texts =
        [r#"{"a": {"b": 1}, "c": "x"}"#, "{\n  \"a\": [1, 2.50]\n}\n", "42", "\"한글\"", "plain text"];
    texts.map(|text| record(ScriptedRecord::new(text).key(text))).into()
}

#[tokio::test]
async fn every_converter_is_pure() {
    let records = friendly_records();
    for tombstones in [Tombstones::Poison, Tombstones::Skip, Tombstones::Null] {
        check_converter(&RawBytes::new().tombstones(tombstones), &records).await;
        check_converter(&Utf8::new().tombstones(tombstones), &records).await;
        check_converter(&Json::new().tombstones(tombstones), &records).await;
        check_converter(&Serde::<serde_json::Value>::new().tombstones(tombstones), &records).await;
        check_converter(&Serde::<u64>::new().tombstones(tombstones), &records).await;
    }
    check_converter(&Json::new().keyed(Utf8::new()), &records).await;
}

#[test]
fn converters_that_differ_have_fingerprints_that_differ() {
    fn of(converter: &impl Converter) -> aqueduct_core::Fingerprint {
        fingerprint_of(|parts| converter.fingerprint(parts))
    }
    check_fingerprints_differ([
        ("bytes", of(&RawBytes::new())),
        ("bytes without tombstones", of(&RawBytes::new().tombstones(Tombstones::Skip))),
        ("text", of(&Utf8::new())),
        ("text without tombstones", of(&Utf8::new().tombstones(Tombstones::Skip))),
        ("json", of(&Json::new())),
        ("json without tombstones", of(&Json::new().tombstones(Tombstones::Skip))),
        ("typed", of(&Serde::<u64>::new())),
        ("typed of a later version", of(&Serde::<u64>::new().version("2"))),
        ("json by key", of(&Json::new().keyed(Json::new()))),
    ]);
}
