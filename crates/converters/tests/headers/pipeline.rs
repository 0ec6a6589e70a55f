//! Each header with its converter, from the broker to the row or the letter.

use std::fmt::Debug;
use std::sync::Arc;

use aqueduct_converters::registry::{FixedSchemas, SchemaKind, wire};
use aqueduct_converters::{Avro, Columns, HeaderValues, Json, JsonSchema, Utf8, WithColumns};
use aqueduct_core::testkit::{
    MemoryDeadLetters, MemorySink, MemoryStore, ScriptedBroker, ScriptedRecord, check_converter, record,
};
use aqueduct_core::{
    BatchBuilder, Converted, Converter, Fingerprint, JsonRow, Offset, OnPoison, Partitioner, Permit,
    Pipeline, Poison, PoisonStage, Record, RoutePath, StructuredValue, Timestamp, TopicPartition,
};

/// Everything in one place.
struct Nowhere;

impl<T> Partitioner<T> for Nowhere {
    fn route(&self, _: &Record<'_>, _: &T, _: &mut RoutePath) -> Result<(), Poison> {
        Ok(())
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "nowhere/1");
    }
}

fn framed(id: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::write_prefix(id, &mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// The value has schemas of one registry, a header those of another: under one id there are two.
fn registered() -> impl Converter<Output = WithColumns<impl StructuredValue + JsonRow + PartialEq + Debug>> {
    let values = FixedSchemas::new().with(
        1,
        SchemaKind::Json,
        r#"{"type":"object","properties":{"id":{"type":"integer"}}}"#,
    );
    let headers =
        || FixedSchemas::new().with(1, SchemaKind::Avro, r#""string""#).with(2, SchemaKind::Avro, r#""int""#);
    Columns::around(JsonSchema::with_registry(values))
        .headers_with("all", Avro::with_registry(headers()).build().unwrap())
        .header("who", "who", Avro::with_registry(headers()).build().unwrap())
        .build()
        .unwrap()
}

fn records() -> Vec<ScriptedRecord> {
    let order = |payload: &str| ScriptedRecord::new(framed(1, payload.as_bytes()));
    vec![
        order(r#"{"id":1}"#).header("who", framed(1, b"\x04ab")).header("n", framed(2, b"\x0e")),
        order(r#"{"id":2}"#).header("who", framed(2, b"\x04")).header("who", framed(1, b"\x02z")),
        order(r#"{"id":3}"#).header("who", framed(9, b"\x04")),
        order(r#"{"id":4}"#).header("who", "text"),
        order(r#"{"id":5}"#),
        // The value's schema is named by a header, which is no header's.
        ScriptedRecord::new(r#"{"id":6}"#)
            .header("__value_schema_id", framed(1, b""))
            .header("who", framed(1, b"\x02y")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_bad_makes_a_letter_that_says_which() {
    let (broker, store, letters) = (ScriptedBroker::new(), MemoryStore::new(), MemoryDeadLetters::new());
    let lane = TopicPartition::new("orders", 0);
    for record in records().into_iter().take(5) {
        broker.append(&lane, record);
    }
    let scratch = tempfile::tempdir().unwrap();
    let built = Pipeline::from(broker.source().until_end().batch_records(2))
        .convert(registered())
        .partition(Nowhere)
        .sink(MemorySink::json(&store))
        .spool_dir(scratch.path())
        .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
        .build();
    built.unwrap().run(std::future::pending()).await.unwrap();
    let rows: Vec<String> = store
        .rows(&lane)
        .into_iter()
        .map(|(_, row)| String::from_utf8(row.value.to_vec()).unwrap().trim_end().to_owned())
        .collect();
    assert_eq!(
        rows,
        [
            r#"{"id":1,"all":[{"key":"who","value":"ab"},{"key":"n","value":7}],"who":"ab"}"#,
            r#"{"id":2,"all":[{"key":"who","value":2},{"key":"who","value":"z"}],"who":"z"}"#,
            r#"{"id":5,"all":[],"who":null}"#,
        ]
    );
    let mut told: Vec<_> = letters
        .letters()
        .iter()
        .map(|letter| (letter.record.offset.get(), letter.stage, letter.poison.detail().to_owned()))
        .collect();
    told.sort_by_key(|(offset, ..)| *offset);
    assert_eq!(told.len(), 2, "{told:?}");
    for ((offset, stage, detail), (at, says)) in told.iter().zip([
        (2, "the header \"who\": schema 9 is not in the registry"),
        (3, "the header \"who\": starts with byte 0x74"),
    ]) {
        assert_eq!((*offset, *stage), (at, PoisonStage::ConvertHeader));
        assert!(detail.starts_with(says), "{detail}");
    }
}

#[tokio::test]
async fn converters_of_headers_are_pure() {
    let records: Vec<_> = records().into_iter().map(record).collect();
    check_converter(&registered(), &records).await;
    let texts = Columns::around(Json::new()).headers("h", HeaderValues::Text).header("who", "w", Utf8::new());
    check_converter(&texts.build().unwrap(), &records).await;
}

/// The headers are named in the value's stead, and the value is read as before.
#[tokio::test]
async fn a_header_that_names_the_value_s_schema_is_not_taken_for_another_s() {
    let values = FixedSchemas::new().with(1, SchemaKind::Json, r#"{"type":"integer"}"#);
    let headers = FixedSchemas::new().with(2, SchemaKind::Json, r#"{"type":"string"}"#);
    let converter = Columns::around(JsonSchema::with_registry(values))
        .header("h", "h", JsonSchema::with_registry(headers))
        .build()
        .unwrap();
    let lane = TopicPartition::new("t", 0);
    let mut batch = BatchBuilder::new(lane, 64);
    let (id, header) = (framed(1, b""), framed(2, b"\"x\""));
    let named = [("__value_schema_id", Some(&id[..])), ("h", Some(&header))];
    batch.push(Offset::ZERO, Timestamp::None, None, Some(b"5"), named);
    let batch = batch.build(Permit::unlimited());
    converter.prepare(&batch).await.unwrap();
    let Converted::Emit(value) = converter.convert(&batch.get(0).unwrap()).unwrap() else { panic!("a row") };
    assert_eq!(value.schema().unwrap().to_string(), "struct{value:int64,h:string?}");
}
