use aqueduct_core::{Composite, Decimal, FieldValue, Poison, PoisonReason, StructuredValue, TimeUnit};
use serde_json::{Value, json};

use super::events::{Event, Events, read, reader};
use super::*;
use crate::schema::{Field, FieldType, RangeOf, TableSchema};

/// JSON as the converter gives it.
fn json_value(text: &str) -> aqueduct_converters::JsonValue {
    aqueduct_converters::JsonValue::parse(text.to_owned().into()).unwrap()
}

fn plan_of(fields: Vec<Field>, unknown: UnknownFields) -> RowPlan {
    let schema = TableSchema::new(fields);
    assert_eq!(schema.problems(), []);
    RowPlan::new(
        &schema,
        PlanOptions { unknown, timestamps: TimeUnit::Micros, metadata: MetadataColumns::default() },
    )
}

const IDENTITY: Identity<'_> = Identity {
    topic: "t",
    partition: 3,
    offset: 7,
    timestamp: aqueduct_core::Timestamp::Create(1_000),
    key: Some(b"k"),
    opened_at_ms: 2_000,
};

fn decode(plan: &RowPlan, row: &[u8]) -> Value {
    read(&reader(plan.descriptor()), row)
}

fn encode(plan: &RowPlan, value: &impl StructuredValue) -> Result<Value, Poison> {
    let mut out = b"before".to_vec();
    let result = plan.encode(value, IDENTITY, &mut Workspace::default(), &mut out);
    if let Err(poison) = result {
        assert_eq!(out, b"before", "a refused row leaves nothing behind");
        return Err(poison);
    }
    let mut value = decode(plan, &out[6..]);
    let object = value.as_object_mut().unwrap();
    assert_eq!(object.remove("_kafka_topic"), Some("t".into()));
    assert_eq!(object.remove("_kafka_partition"), Some(3.into()));
    assert_eq!(object.remove("_kafka_offset"), Some(7.into()));
    Ok(value)
}

fn encode_json(fields: Vec<Field>, text: &str) -> Result<Value, Poison> {
    encode(&plan_of(fields, UnknownFields::Ignore), &json_value(text))
}

/// One column `x` of a type, and one value for it.
fn column(kind: FieldType, value: FieldValue<'static>) -> Result<Value, Poison> {
    let plan = plan_of(vec![Field::nullable("x", kind)], UnknownFields::Refuse);
    let events = vec![Event::Begin(Composite::Struct), Event::key("x"), Event::Scalar(value), Event::End];
    encode(&plan, &Events { schema: None, events }).map(|row| row.get("x").cloned().unwrap_or_default())
}

fn text(text: &'static str) -> FieldValue<'static> {
    FieldValue::Str(text.into())
}

#[test]
fn every_type_takes_what_its_table_says() {
    let utc = |count, unit| FieldValue::Timestamp { count, unit, utc: true };
    let cases: Vec<(FieldType, FieldValue<'static>, Value)> = vec![
        (FieldType::String, text("ü"), json!("ü")),
        (FieldType::String, FieldValue::I64(-5), json!("-5")),
        (FieldType::String, FieldValue::Bool(true), json!("true")),
        (FieldType::String, FieldValue::Number("1.50"), json!("1.50")),
        (FieldType::String, FieldValue::Date(0), json!("1970-01-01")),
        (FieldType::String, FieldValue::Uuid([1; 16]), json!("01010101-0101-0101-0101-010101010101")),
        (FieldType::Bytes, FieldValue::Bytes(b"\x00\xff".as_slice().into()), json!("AP8=")),
        (FieldType::Bytes, text("AP8="), json!("AP8=")),
        (FieldType::Int64, FieldValue::I64(i64::MIN), json!(i64::MIN)),
        (FieldType::Int64, FieldValue::Number("1.0"), json!(1)),
        (FieldType::Int64, FieldValue::Number("1e3"), json!(1000)),
        (FieldType::Int64, text("9223372036854775807"), json!(i64::MAX)),
        (FieldType::Int64, FieldValue::F64(2.0), json!(2)),
        (FieldType::Float64, FieldValue::F64(0.1), json!(0.1)),
        (FieldType::Float64, FieldValue::I64(3), json!(3.0)),
        (FieldType::Float64, text("NaN"), json!("NaN")),
        (FieldType::Float64, text("-Infinity"), json!("-Infinity")),
        (FieldType::Bool, FieldValue::Bool(false), json!(false)),
        (FieldType::Bool, text("true"), json!(true)),
        (FieldType::Timestamp, utc(1_624_865_400_250, TimeUnit::Millis), json!(1_624_865_400_250_000_i64)),
        (FieldType::Timestamp, utc(-1, TimeUnit::Nanos), json!(-1)),
        (FieldType::Timestamp, FieldValue::I64(17), json!(17)),
        (FieldType::Timestamp, text("2021-06-28T07:30:00.25Z"), json!(1_624_865_400_250_000_i64)),
        (FieldType::Date, FieldValue::Date(18_806), json!(18_806)),
        (FieldType::Date, text("2021-06-28"), json!(18_806)),
        (FieldType::Time, FieldValue::Time { count: 1, unit: TimeUnit::Millis }, json!("00:00:00.001000")),
        (FieldType::Time, text("07:30"), json!("07:30:00")),
        (FieldType::DateTime, text("2021-06-28T07:30:00.5"), json!("2021-06-28 07:30:00.500000")),
        (FieldType::DateTime, utc(0, TimeUnit::Micros), json!("1970-01-01 00:00:00")),
        (FieldType::Numeric, FieldValue::Decimal(Decimal::from_i128(-12_345, 2)), json!("-123.45")),
        (FieldType::Numeric, FieldValue::Number("0.100000000000"), json!("0.1")),
        (FieldType::Numeric, text("12.5"), json!("12.5")),
        (FieldType::Numeric, FieldValue::U64(u64::MAX), json!("18446744073709551615")),
        (FieldType::BigNumeric, FieldValue::Number("1e-38"), json!(format!("0.{}1", "0".repeat(37)))),
        (FieldType::Json, text("a\"b"), json!("\"a\\\"b\"")),
        (FieldType::Json, FieldValue::I64(1), json!("1")),
        (FieldType::Geography, text("POINT(1 2)"), json!("POINT(1 2)")),
        (
            FieldType::Interval,
            FieldValue::Duration { months: 14, days: 3, millis: 3_723_004 },
            json!("1-2 3 1:2:3.004"),
        ),
        (FieldType::Int64, FieldValue::Null, json!(null)),
    ];
    for (kind, value, expected) in cases {
        let shown = format!("{value:?} as {kind:?}");
        assert_eq!(column(kind, value).as_ref(), Ok(&expected), "{shown}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_never_rounded() {
    let cases: Vec<(FieldType, FieldValue<'static>, PoisonReason)> = vec![
        (FieldType::Int64, FieldValue::U64(1 << 63), PoisonReason::InvalidField),
        (FieldType::Int64, FieldValue::Number("1.5"), PoisonReason::InvalidField),
        (FieldType::Int64, FieldValue::Bool(true), PoisonReason::InvalidField),
        (FieldType::Int64, text("x"), PoisonReason::InvalidField),
        (FieldType::Bool, FieldValue::I64(1), PoisonReason::InvalidField),
        (FieldType::Float64, text("1.0"), PoisonReason::InvalidField),
        (FieldType::Bytes, text("no base64!"), PoisonReason::InvalidField),
        (FieldType::Timestamp, text("yesterday"), PoisonReason::InvalidTimestamp),
        (FieldType::Timestamp, FieldValue::I64(i64::MAX), PoisonReason::InvalidTimestamp),
        (FieldType::Date, FieldValue::Date(2_932_897), PoisonReason::InvalidTimestamp),
        (
            FieldType::Time,
            FieldValue::Time { count: -1, unit: TimeUnit::Micros },
            PoisonReason::InvalidTimestamp,
        ),
        (FieldType::DateTime, text("2021-06-28T07:30:00Z"), PoisonReason::InvalidTimestamp),
        (FieldType::Numeric, FieldValue::Number("0.1234567891"), PoisonReason::InvalidField),
        (FieldType::Numeric, FieldValue::F64(f64::NAN), PoisonReason::InvalidField),
        (FieldType::Numeric, text("1e30"), PoisonReason::InvalidField),
        (FieldType::BigNumeric, text("1e39"), PoisonReason::InvalidField),
        (FieldType::Geography, FieldValue::I64(1), PoisonReason::InvalidField),
        (
            FieldType::Record(vec![Field::nullable("y", FieldType::Bool)]),
            FieldValue::I64(1),
            PoisonReason::InvalidField,
        ),
    ];
    for (kind, value, reason) in cases {
        let shown = format!("{value:?} as {kind:?}");
        let poison = column(kind, value).expect_err(&shown);
        assert_eq!(poison.reason(), reason, "{shown}: {poison}");
        assert!(poison.detail().contains("\"x\""), "{poison}");
    }
    let parametrised = |field: Field, value: &str| {
        encode_json(vec![field], &format!(r#"{{"x": {value}}}"#)).map(|row| row["x"].clone())
    };
    let short = Field { max_length: Some(2), ..Field::nullable("x", FieldType::String) };
    assert_eq!(parametrised(short.clone(), r#""üü""#), Ok(json!("üü")));
    assert!(parametrised(short.clone(), r#""üüü""#).is_err() && parametrised(short, "123").is_err());
    let price = Field { precision: Some((4, 2)), ..Field::nullable("x", FieldType::Numeric) };
    assert_eq!(parametrised(price.clone(), "99.99"), Ok(json!("99.99")));
    assert!(parametrised(price.clone(), "100").is_err() && parametrised(price, "0.001").is_err());
}

/// Four bytes may say that a number has billions of digits: their text would be gigabytes.
#[test]
fn decimals_beyond_their_limits_are_refused_before_they_are_text() {
    let endless = || FieldValue::Decimal(Decimal::from_i128(1, u32::MAX));
    for kind in [FieldType::Numeric, FieldType::BigNumeric, FieldType::Int64, FieldType::Float64] {
        let poison = column(kind, endless()).unwrap_err();
        assert!(poison.detail().contains("is a decimal of more digits than any column has"), "{poison}");
    }
    assert!(column(FieldType::String, endless()).is_err() && column(FieldType::Json, endless()).is_err());
}

fn nested() -> Vec<Field> {
    let line = vec![Field::required("sku", FieldType::String), Field::nullable("count", FieldType::Int64)];
    let pair = vec![Field::nullable("key", FieldType::String), Field::nullable("value", FieldType::Int64)];
    vec![
        Field::required("id", FieldType::Int64),
        Field::nullable("who", FieldType::Record(vec![Field::nullable("Name", FieldType::String)])),
        Field::repeated("lines", FieldType::Record(line)),
        Field::repeated("tags", FieldType::String),
        Field::nullable("raw", FieldType::Json),
        Field::repeated("docs", FieldType::Json),
        Field::nullable("valid", FieldType::Range(RangeOf::Date)),
        Field::repeated("counts", FieldType::Record(pair)),
    ]
}

#[test]
fn nesting_comes_out_as_it_went_in() {
    let row = encode_json(
        nested(),
        r#"{"unknown": {"deep": [1, {"a": []}]}, "ID": 1, "who": {"name": "A", "x": [[]]}, "tags": ["b", "c"],
            "lines": [{"sku": "s", "count": 2}, {"count": null, "sku": "t"}], "raw": {"a": [1, null, {"b": "c"}]},
            "docs": [1, {"d": 2}, [3]], "valid": {"start": "2021-06-28", "end": null}}"#,
    );
    let expected = json!({
        "id": 1, "who": {"Name": "A"}, "tags": ["b", "c"], "lines": [{"sku": "s", "count": 2}, {"sku": "t"}],
        "raw": r#"{"a":[1,null,{"b":"c"}]}"#, "docs": ["1", r#"{"d":2}"#, "[3]"], "valid": {"start": 18_806},
    });
    assert_eq!(row, Ok(expected));
    let long = "x".repeat(300);
    let row = encode_json(
        nested(),
        &format!(r#"{{"id": 1, "who": {{"name": "{long}"}}, "lines": [], "tags": null}}"#),
    );
    assert_eq!(row, Ok(json!({"id": 1, "who": {"Name": long}})));
    assert_eq!(
        encode_json(nested(), r#"{"id": 1, "who": {}}"#),
        Ok(json!({"id": 1, "who": {}})),
        "empty is not null"
    );
}

#[test]
fn maps_become_records_of_key_and_value() {
    let plan = plan_of(nested(), UnknownFields::Refuse);
    let number = |number| Event::Scalar(FieldValue::I64(number));
    let events = [
        vec![Event::Begin(Composite::Struct), Event::key("counts"), Event::Begin(Composite::Map)],
        vec![
            Event::key("a"),
            number(1),
            Event::key("b"),
            Event::Scalar(FieldValue::Null),
            Event::key("c"),
            number(3),
        ],
        vec![Event::End, Event::key("id"), number(9), Event::End],
    ];
    let counts = json!([{"key": "a", "value": 1}, {"key": "b"}, {"key": "c", "value": 3}]);
    assert_eq!(
        encode(&plan, &Events { schema: None, events: events.concat() }),
        Ok(json!({"id": 9, "counts": counts}))
    );
}

#[test]
fn shapes_that_do_not_fit_are_refused_by_name() {
    for (text, reason, named) in [
        ("{}", PoisonReason::MissingField, "\"id\""),
        (r#"{"id": null}"#, PoisonReason::MissingField, "\"id\""),
        (r#"{"id": 1, "Id": 2}"#, PoisonReason::Malformed, "\"id\" is there twice"),
        (r#"{"id": 1, "lines": [{"count": 1}]}"#, PoisonReason::MissingField, "\"lines.sku\""),
        (r#"{"id": 1, "lines": {"sku": "s"}}"#, PoisonReason::InvalidField, "\"lines\""),
        (r#"{"id": 1, "lines": [[]]}"#, PoisonReason::InvalidField, "\"lines\""),
        (r#"{"id": 1, "tags": "a"}"#, PoisonReason::InvalidField, "\"tags\""),
        (r#"{"id": 1, "tags": [null]}"#, PoisonReason::InvalidField, "\"tags\""),
        (r#"{"id": [1]}"#, PoisonReason::InvalidField, "\"id\""),
        (r#"{"id": {"a": 1}}"#, PoisonReason::InvalidField, "\"id\""),
        (r#"{"id": 1, "who": {"name": {"a": "canary"}}}"#, PoisonReason::InvalidField, "\"who.Name\""),
        (r#"[{"id": 1}]"#, PoisonReason::Malformed, "no object"),
        ("7", PoisonReason::Malformed, "no object"),
    ] {
        let poison = encode_json(nested(), text).expect_err(text);
        assert_eq!(poison.reason(), reason, "{text}: {poison}");
        assert!(poison.detail().contains(named), "{text}: {poison}");
        assert!(!poison.detail().contains("canary"), "{poison}");
    }
    let plan = plan_of(nested(), UnknownFields::Refuse);
    let poison = encode(&plan, &json_value(r#"{"id": 1, "who": {"age": 2}}"#)).unwrap_err();
    assert!(poison.detail().contains("\"age\""), "{poison}");
    // Metadata is ours: a field of the same name is one that the table does not have.
    assert!(encode(&plan, &json_value(r#"{"id": 1, "_kafka_offset": 99}"#)).is_err());
}

mod any {
    use proptest::prelude::*;

    use super::*;

    /// Any schema of a few columns, and a JSON document that mostly fits it.
    fn document() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f32>()
                .prop_filter("finite", |number| number.is_finite())
                .prop_map(|number| format!("{number:?}")),
            "[a-z]{0,8}".prop_map(|text| format!("{text:?}")),
            any::<bool>().prop_map(|truth| truth.to_string()),
        ];
        let name = prop::sample::select(vec![
            "id", "who", "name", "lines", "sku", "tags", "raw", "count", "docs", "z",
        ]);
        leaf.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec((name.clone(), inner), 0..5).prop_map(|members| {
                    let members: Vec<_> =
                        members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_document_is_a_row_or_a_letter_and_always_the_same(text in document()) {
            let plan = plan_of(nested(), UnknownFields::Ignore);
            // Decoding what was encoded is part of it.
            let first = encode(&plan, &json_value(&text));
            prop_assert_eq!(first, encode(&plan, &json_value(&text)));
        }

        #[test]
        fn wide_rows_keep_their_places(present in prop::collection::btree_set(0..200_usize, 0..200)) {
            let fields = (0..200).map(|n| Field::nullable(format!("f{n}"), FieldType::Int64)).collect();
            let members: Vec<_> = present.iter().map(|n| format!("\"F{n}\":{n}")).collect();
            let row = encode_json(fields, &format!("{{{}}}", members.join(",")));
            let expected = present.iter().map(|n| (format!("f{n}"), json!(n))).collect::<serde_json::Map<_, _>>();
            prop_assert_eq!(row, Ok(Value::Object(expected)));
        }
    }
}

fn metadata_of(columns: MetadataColumns, identity: Identity<'_>) -> Result<Value, Poison> {
    let options =
        PlanOptions { unknown: UnknownFields::Ignore, timestamps: TimeUnit::Micros, metadata: columns };
    let plan = RowPlan::new(&TableSchema::new([Field::nullable("a", FieldType::String)]), options);
    let mut out = b"before".to_vec();
    let value = json_value(r#"{"a": "b"}"#);
    let encoded = plan.encode(&value, identity, &mut Workspace::default(), &mut out);
    if encoded.is_err() {
        assert_eq!(out, b"before", "nothing of a refused row is left");
    }
    encoded.map(|()| decode(&plan, &out[6..]))
}

#[test]
fn records_are_told_by_the_columns_that_were_asked_for() {
    let all = |key_as| {
        MetadataColumns::default().with_timestamp("at").with_key("key", key_as).with_load_time("loaded")
    };
    let row = metadata_of(all(KeyAs::Bytes), IDENTITY).unwrap();
    assert_eq!(
        (&row["at"], &row["key"], &row["loaded"]),
        (&json!(1_000_000), &json!("aw=="), &json!(2_000_000))
    );
    assert_eq!(metadata_of(all(KeyAs::Text), IDENTITY).unwrap()["key"], json!("k"));
    let bare = Identity { timestamp: aqueduct_core::Timestamp::None, key: None, ..IDENTITY };
    let row = metadata_of(all(KeyAs::Text), bare).unwrap();
    assert_eq!((row.get("at"), row.get("key")), (None, None));
    let binary = Identity { key: Some(b"\xff"), ..IDENTITY };
    assert_eq!(metadata_of(all(KeyAs::Bytes), binary).unwrap()["key"], json!("/w=="));
    assert_eq!(metadata_of(all(KeyAs::Text), binary).unwrap_err().reason(), PoisonReason::InvalidField);
    for millis in [i64::MIN, i64::MAX, 253_402_300_800_000] {
        let late = Identity { timestamp: aqueduct_core::Timestamp::Create(millis), ..IDENTITY };
        assert_eq!(metadata_of(all(KeyAs::Text), late).unwrap_err().reason(), PoisonReason::InvalidTimestamp);
        assert!(metadata_of(MetadataColumns::default(), late).is_ok(), "nobody asked for it");
    }
}
