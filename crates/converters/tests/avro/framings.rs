//! Where a record's schema comes from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aqueduct_converters::registry::{
    FixedSchemas, Framing, Reference, RegisteredSchema, SchemaAnswer, SchemaId, SchemaKind, SchemaSource,
    SubjectVersion,
};
use aqueduct_converters::{Avro, AvroBuilder, Tombstones, Utf8};
use aqueduct_core::testkit::{
    ScriptedRecord, check_converter, check_fingerprints_differ, fingerprint_of, record,
};
use aqueduct_core::{
    Batch, BatchBuilder, Class, Converted, Converter, ConverterExt, JsonRow, Offset, Permit, Poison,
    SkipReason, StageError, StructuredValue, Timestamp, TopicPartition,
};

use super::{convert, fixed};

const ORDER: &str = r#"{"type":"record","name":"shop.Order","fields":[{"name":"id","type":"long"}]}"#;

/// A key and a value.
type KeyAndValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

fn batch(records: &[KeyAndValue<'_>]) -> Batch {
    let mut builder = BatchBuilder::new(TopicPartition::new("orders", 0), 0);
    for (offset, (key, value)) in (0..).zip(records) {
        builder.push(Offset::new(offset), Timestamp::None, *key, *value, []);
    }
    builder.build(Permit::unlimited())
}

/// A row for each record, or what became of it.
async fn rows<C: Converter<Output: JsonRow>>(converter: &C, batch: &Batch) -> Vec<String> {
    converter.prepare(batch).await.unwrap();
    let shown = |answer: Result<Converted<C::Output>, Poison>| match answer {
        Ok(Converted::Emit(value)) => {
            let mut row = Vec::new();
            C::Output::write_json(&value, &mut row).unwrap();
            String::from_utf8(row).unwrap()
        }
        Ok(Converted::Skip(reason)) => reason.as_str().to_owned(),
        Err(poison) => poison.to_string(),
    };
    batch.iter().map(|record| shown(converter.convert(&record))).collect()
}

#[tokio::test]
async fn a_registry_s_schemas_are_fetched_before_the_batch() {
    let source = FixedSchemas::new()
        .with(7, SchemaKind::Avro, ORDER)
        .with(8, SchemaKind::Protobuf, "message M {}")
        .with(9, SchemaKind::Avro, "{");
    let converter = Avro::with_registry(source).tombstones(Tombstones::Skip).build().unwrap();
    let batch = batch(&[
        (None, Some(b"\0\0\0\0\x07\x02")),
        (None, None),
        (None, Some(b"\0\0\0\0\x07\x02\x02")),
        (None, Some(b"\0\0\0\0\x06\x02")),
        (None, Some(b"\0\0\0\0\x08\x02")),
        (None, Some(b"\0\0\0\0\x09\x02")),
        (None, Some(b"{}")),
        (None, Some(b"")),
    ]);
    assert_eq!(
        rows(&converter, &batch).await,
        [
            r#"{"id":1}"#,
            SkipReason::Tombstone.as_str(),
            "malformed: not readable avro at byte 1: 1 bytes are left behind the value; was another schema used?",
            "malformed: schema 6 is not in the registry",
            "malformed: schema 8 cannot be used: it is PROTOBUF, not AVRO",
            "malformed: schema 9 cannot be used: the schema is not valid json at line 1 column 1",
            "malformed: starts with byte 0x7b, not with a schema's id (0x00); was it written without a schema registry?",
            "malformed: 0 bytes are too few for a schema's id",
        ]
    );
}

#[tokio::test]
async fn an_outage_makes_the_lane_wait_and_is_no_verdict() {
    struct Flaky(Arc<AtomicBool>);

    #[async_trait::async_trait]
    impl SchemaSource for Flaky {
        async fn schema(&self, id: SchemaId) -> Result<SchemaAnswer, StageError> {
            if self.0.load(Ordering::SeqCst) {
                return Err(StageError::retry("schema registry get", "connection refused"));
            }
            Ok(SchemaAnswer::Known(RegisteredSchema::new(id, SchemaKind::Avro, ORDER)))
        }
    }

    let down = Arc::new(AtomicBool::new(true));
    let converter = Avro::with_registry(Flaky(Arc::clone(&down))).build().unwrap();
    let batch = batch(&[(None, Some(b"\0\0\0\0\x07\x02"))]);
    assert_eq!(converter.prepare(&batch).await.unwrap_err().class(), Class::RETRY);
    down.store(false, Ordering::SeqCst);
    assert_eq!(rows(&converter, &batch).await, [r#"{"id":1}"#]);
}

#[tokio::test]
async fn keys_have_schemas_of_their_own() {
    let source =
        || FixedSchemas::new().with(5, SchemaKind::Avro, "\"string\"").with(7, SchemaKind::Avro, ORDER);
    let keys = Avro::with_registry(source()).framing(Framing::keys()).build().unwrap();
    let converter = Avro::with_registry(source()).build().unwrap().keyed(keys);
    let batch = batch(&[(Some(b"\0\0\0\0\x05\x02k"), Some(b"\0\0\0\0\x07\x02"))]);
    converter.prepare(&batch).await.unwrap();
    let Ok(Converted::Emit(row)) = converter.convert(&batch.get(0).unwrap()) else { panic!("a row") };
    let mut key = Vec::new();
    row.key.write_json(&mut key).unwrap();
    assert_eq!((key, row.value.as_bytes()), (b"\"k\"".to_vec(), &[2][..]));
}

#[tokio::test]
async fn references_and_versions_come_from_the_registry() {
    let reference = |name: &str, text: &str| Reference {
        name: name.to_owned(),
        subject: name.to_owned(),
        version: 1,
        text: text.to_owned(),
    };
    let mut schema = RegisteredSchema::new(
        7,
        SchemaKind::Avro,
        r#"{"type":"record","name":"Order","namespace":"shop","fields":[
            {"name":"item","type":"Item"},{"name":"also","type":["null","shop.Item"]},{"name":"unit","type":"Unit"}]}"#,
    );
    schema.references = vec![
        reference("Unit", r#"{"type":"enum","name":"Unit","symbols":["KG"]}"#),
        reference(
            "shop.Item",
            r#"{"type":"record","name":"shop.Item","fields":[{"name":"n","type":"int"}]}"#,
        ),
    ];
    schema.versions = vec![
        SubjectVersion { subject: "orders-value".to_owned(), version: 3 },
        SubjectVersion { subject: "returns-value".to_owned(), version: 1 },
    ];
    let source = || FixedSchemas::new().with_schema(schema.clone());
    let converter = Avro::with_registry(source()).subject("orders-value").build().unwrap();
    let batch = batch(&[(None, Some(b"\0\0\0\0\x07\x02\x02\x04\0"))]);
    assert_eq!(rows(&converter, &batch).await, [r#"{"item":{"n":1},"also":{"n":2},"unit":"KG"}"#]);
    let Ok(Converted::Emit(value)) = converter.convert(&batch.get(0).unwrap()) else { panic!("a value") };
    let declared = value.schema().unwrap();
    assert_eq!(declared.version(), Some(3));
    // Its Avro text stands alone, and reads the same bytes.
    let text = declared.avro().unwrap();
    let theirs = apache_avro::Schema::parse_str(text).unwrap();
    let mut alone = Vec::new();
    convert(&fixed(text), value.as_bytes()).unwrap().write_json(&mut alone).unwrap();
    assert_eq!(alone, br#"{"item":{"n":1},"also":{"n":2},"unit":"KG"}"#);
    let canonical = theirs.canonical_form();
    assert!(canonical.contains(r#"{"name":"Unit","type":"enum","symbols":["KG"]}"#), "{canonical}");
    assert!(canonical.contains(r#""type":["null","shop.Item"]"#), "{canonical}");
    // Which of two versions it is nobody says.
    let converter = Avro::with_registry(source()).build().unwrap();
    converter.prepare(&batch).await.unwrap();
    let Ok(Converted::Emit(value)) = converter.convert(&batch.get(0).unwrap()) else { panic!("a value") };
    assert_eq!(value.schema().unwrap().version(), None);
}

#[test]
fn single_objects_name_their_schema_by_its_fingerprint() {
    use apache_avro::{Schema, rabin::Rabin};
    let schemas =
        [ORDER, "\"string\"", r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#];
    let converter = Avro::single_object(schemas).build().unwrap();
    let text = Schema::parse_str(schemas[0]).unwrap().fingerprint::<Rabin>().bytes;
    let value = [&[0xc3, 1][..], &text, &[2]].concat();
    let mut row = Vec::new();
    convert(&converter, &value).unwrap().write_json(&mut row).unwrap();
    assert_eq!(row, br#"{"id":1}"#);
    // A decimal is named as the bytes that it is, as the specification says.
    let bytes = Schema::Bytes.fingerprint::<Rabin>().bytes;
    let value = [&[0xc3, 1][..], &bytes, &[2, 7]].concat();
    let mut row = Vec::new();
    convert(&converter, &value).unwrap().write_json(&mut row).unwrap();
    assert_eq!(row, b"0.07");
    for wrong in [&b""[..], b"\xc3", b"\xc3\x01234567", b"\xc3\x0212345678", b"\xc3\x0112345678"] {
        assert!(convert(&converter, wrong).is_err());
    }
    let none = Vec::<String>::new();
    assert!(Avro::single_object(none).build().is_err());
}

#[test]
fn every_problem_of_a_configuration_is_told() {
    let refused = Avro::single_object(["[]", "\"int\"", "{"]).reader_schema("\"x\"").build().unwrap_err();
    assert_eq!(
        refused.problems(),
        [
            "reader's schema: the schema refers to \"x\", which is not defined",
            "schema 1: a union has no branches",
            "schema 3: the schema is not valid json at line 1 column 1",
        ]
    );
}

#[tokio::test]
async fn the_converter_is_pure() {
    let value = |bytes: &[u8]| record(ScriptedRecord::new(bytes.to_vec()).key("k"));
    let registry = Avro::with_registry(FixedSchemas::new().with(7, SchemaKind::Avro, ORDER)).build().unwrap();
    check_converter(&registry, &[value(b"\0\0\0\0\x07\x02"), value(b"\0\0\0\0\x08\x02")]).await;
    for tombstones in [Tombstones::Poison, Tombstones::Skip, Tombstones::Null] {
        let one = Avro::fixed(ORDER).tombstones(tombstones).build().unwrap();
        check_converter(&one, &[value(b"\x02"), value(b"\x02\x02"), value(b"")]).await;
    }
    let keyed = Avro::fixed(ORDER).build().unwrap().keyed(Utf8::new());
    check_converter(&keyed, &[value(b"\x02")]).await;
}

#[test]
fn converters_that_differ_have_fingerprints_that_differ() {
    let of = |builder: AvroBuilder| {
        let converter = builder.build().unwrap();
        fingerprint_of(|parts| converter.fingerprint(parts))
    };
    let registry = || Avro::with_registry(FixedSchemas::new());
    check_fingerprints_differ([
        ("registry", of(registry())),
        ("registry of keys", of(registry().framing(Framing::keys()))),
        ("registry without headers", of(registry().framing(Framing::values().headers(false)))),
        ("registry, one subject", of(registry().subject("s"))),
        ("registry, read as order", of(registry().reader_schema(ORDER))),
        ("registry, read as text", of(registry().reader_schema("\"string\""))),
        ("registry without tombstones", of(registry().tombstones(Tombstones::Skip))),
        ("registry, unfolding less", of(registry().unfold_max(7))),
        ("single objects", of(Avro::single_object([ORDER]))),
        ("orders", of(Avro::fixed(ORDER))),
        ("texts", of(Avro::fixed("\"string\""))),
        ("texts, as bytes", of(Avro::fixed("\"string\"").reader_schema("\"bytes\""))),
    ]);
    // What does not decide a row is left out.
    assert_eq!(of(registry()).digest(), of(registry().schemas_max(7)).digest());
    assert_eq!(
        of(Avro::single_object([ORDER])).digest(),
        of(Avro::single_object([ORDER, "\"int\""])).digest()
    );
}
