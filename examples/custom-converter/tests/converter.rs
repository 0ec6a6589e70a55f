//! The converter keeps the contract of converters, and what nobody should send ends as poison.

use aqueduct::testkit::{ScriptedRecord, check_converter, check_fingerprints_differ, fingerprint_of, record};
use aqueduct::{
    BatchBuilder, Converted, Converter as _, Decimal, FieldPath, FieldValue, Fields as _, JsonRow as _,
    Offset, Permit, StructuredValue as _, TimeUnit, Timestamp, TopicPartition,
};
use custom_converter::fixed_width::{Column, FixedWidth, Line};
use std::sync::Arc;

fn readings() -> FixedWidth {
    FixedWidth::new(
        "plant.Reading",
        [
            ("sensor", Column::Text(8)),
            ("number", Column::Number(6)),
            ("at", Column::Timestamp),
            ("celsius", Column::Decimal { width: 7, scale: 3 }),
        ],
    )
}

const GOOD: &str = "boiler  00004220210628073000-012125";

fn converted(converter: &FixedWidth, bytes: &[u8]) -> Result<Line, String> {
    let mut batch = BatchBuilder::new(TopicPartition::new("readings", 0), bytes.len());
    batch.push(Offset::ZERO, Timestamp::None, None, Some(bytes), []);
    let batch = batch.build(Permit::unlimited());
    let record = batch.iter().next().unwrap();
    match converter.convert(&record) {
        Ok(Converted::Emit(value)) => Ok(value),
        Ok(Converted::Skip(_)) => Err("skipped".to_owned()),
        Err(poison) => Err(poison.to_string()),
    }
}

fn row(line: &Line) -> String {
    let mut out = Vec::new();
    line.write_json(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn the_contract_holds() {
    let records = [GOOD, &" ".repeat(GOOD.len()), "too short"];
    let records: Vec<_> =
        records.iter().map(|line| record(ScriptedRecord::new(line.as_bytes().to_vec()))).collect();
    // Hostile records come on top of these.
    check_converter(&readings(), &records).await;
}

#[test]
fn what_changes_rows_changes_the_identity() {
    let of = |columns: Vec<(&str, Column)>| {
        fingerprint_of(|parts| FixedWidth::new("x", columns).fingerprint(parts))
    };
    let decimal = |scale| Column::Decimal { width: 7, scale };
    check_fingerprints_differ([
        ("text", of(vec![("a", Column::Text(8))])),
        ("another name", of(vec![("b", Column::Text(8))])),
        ("another width", of(vec![("a", Column::Text(9))])),
        ("another kind", of(vec![("a", Column::Number(8))])),
        ("two digits", of(vec![("a", decimal(2))])),
        ("three digits", of(vec![("a", decimal(3))])),
    ]);
}

#[test]
fn a_line_is_a_row_with_a_schema() {
    let converter = readings();
    let line = converted(&converter, GOOD.as_bytes()).unwrap();
    assert_eq!(
        row(&line),
        r#"{"sensor":"boiler","number":42,"at":"2021-06-28T07:30:00.000Z","celsius":-12.125}"#
    );
    let schema = line.schema().unwrap();
    assert_eq!(
        schema.to_string(),
        "plant.Reading struct{sensor:string?,number:int64?,at:timestamp(ms)?,celsius:decimal(6,3)?}"
    );
    let other = converted(&converter, GOOD.as_bytes()).unwrap();
    assert!(Arc::ptr_eq(schema, other.schema().unwrap()), "one schema, one address");
}

#[test]
fn fields_are_found_by_path() {
    let line = converted(&readings(), GOOD.as_bytes()).unwrap();
    let field = |path: &str| line.field(&FieldPath::parse(path).unwrap());
    assert_eq!(field("sensor"), Some(FieldValue::Str("boiler".into())));
    assert_eq!(field("celsius"), Some(FieldValue::Decimal(Decimal::from_i128(-12_125, 3))));
    let count = 1_624_865_400_000;
    assert_eq!(field("at"), Some(FieldValue::Timestamp { count, unit: TimeUnit::Millis, utc: true }));
    assert_eq!(field("sensor.x").or(field("none")), None);
}

#[test]
fn blank_columns_are_null() {
    let line = converted(&readings(), &[b' '; GOOD.len()]).unwrap();
    assert_eq!(row(&line), r#"{"sensor":null,"number":null,"at":null,"celsius":null}"#);
}

#[test]
fn what_is_damaged_is_poison_that_names_the_column_only() {
    let with = |at: usize, text: &str| {
        let mut line = GOOD.as_bytes().to_vec();
        line[at..at + text.len()].copy_from_slice(text.as_bytes());
        converted(&readings(), &line).unwrap_err()
    };
    for (said, column) in [
        (with(0, "hunter2\n"), "sensor"),
        (with(0, "h\u{fc}nter"), "sensor"),
        (with(8, "-00042"), "number"),
        (with(8, "4 2   "), "number"),
        (with(14, "20210631073000"), "at"),
        (with(14, "2021-6-2 07300"), "at"),
        (with(28, "0012125"), "celsius"),
        (with(28, "+12.125"), "celsius"),
    ] {
        assert_eq!(said, format!("invalid-field: column {column:?} does not hold what it should"));
    }
    for length in [0, 1, GOOD.len() - 1, GOOD.len() + 1, 1 << 20] {
        let said = converted(&readings(), &vec![b'0'; length]).unwrap_err();
        assert_eq!(said, format!("malformed: a line of {length} bytes, expected 35"));
    }
}
