//! What values tell of their schema.

use aqueduct_converters::Avro;
use aqueduct_core::{DataType, Field, FieldValue, Literal, Schema, StructuredValue, TimeUnit};
use serde_json::{Value as Json, json};

use super::{convert, fixed};

/// What a value of `schema` says, whose datum is `datum`.
fn declared(schema: &Json, datum: &[u8]) -> Schema {
    Schema::clone(convert(&fixed(&schema.to_string()), datum).unwrap().schema().unwrap())
}

#[test]
fn all_that_a_schema_says_is_told() {
    let text = json!({"type": "record", "name": "Order", "namespace": "shop", "doc": "An order.", "fields": [
        {"name": "id", "type": "long", "doc": "Counts up.", "aliases": ["number"]},
        {"name": "note", "type": ["null", "string"], "default": null},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "marks", "type": {"type": "map", "values": ["null", "int"]}, "default": {}},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["OPEN", "DONE"]}, "default": "OPEN"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "default": "\u{ff}"},
        {"name": "either", "type": ["long", "null", {"type": "record", "name": "other.Item", "fields": []}]},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 2}, "default": "\u{0}\u{80}"},
        {"name": "ratio", "type": "float", "default": 0.5},
        {"name": "wrong", "type": "int", "default": "x"}]});
    let datum = [&[0; 6][..], &[2], &[0; 7]].concat();
    let expected = DataType::Struct(vec![
        Field::new("id", DataType::Int64).with_doc("Counts up.").with_aliases(vec!["number".to_owned()]),
        Field::new("note", DataType::String).nullable().with_default(Literal::Scalar(FieldValue::Null)),
        Field::new("tags", DataType::List(Box::new(Field::new("", DataType::String))))
            .with_default(Literal::EmptyList),
        Field::new("marks", DataType::Map(Box::new(Field::new("", DataType::Int32).nullable())))
            .with_default(Literal::EmptyMap),
        Field::new("state", DataType::Enum(vec!["OPEN".to_owned(), "DONE".to_owned()]))
            .with_default(Literal::Scalar(FieldValue::Str("OPEN".into()))),
        Field::new("price", DataType::Decimal { precision: 9, scale: 2 })
            .with_default(Literal::Scalar(FieldValue::Decimal(aqueduct_core::Decimal::new(vec![0xff], 2)))),
        Field::new(
            "either",
            DataType::Union(vec![
                Field::new("long", DataType::Int64),
                Field::new("other.Item", DataType::Struct(Vec::new())),
            ]),
        )
        .nullable(),
        Field::new("hash", DataType::Fixed(2))
            .with_default(Literal::Scalar(FieldValue::Bytes(vec![0, 0x80].into()))),
        Field::new("ratio", DataType::Float32).with_default(Literal::Scalar(FieldValue::F32(0.5))),
        // A default that does not fit is none.
        Field::new("wrong", DataType::Int32),
    ]);
    let expected = Schema::new(expected).with_name("shop.Order").with_avro(text.to_string());
    let found = declared(&text, &datum);
    assert_eq!(found, expected, "{found}");
}

#[test]
fn annotations_are_kinds_and_what_does_not_fit_is_passed_over() {
    let kind = |schema: Json, datum: &[u8]| declared(&schema, datum).root().data_type().clone();
    let annotated = |of: &str, logical: &str| json!({"type": of, "logicalType": logical});
    assert_eq!(kind(annotated("int", "date"), &[0]), DataType::Date);
    assert_eq!(kind(annotated("int", "time-millis"), &[0]), DataType::Time(TimeUnit::Millis));
    assert_eq!(kind(annotated("long", "time-micros"), &[0]), DataType::Time(TimeUnit::Micros));
    assert_eq!(
        kind(annotated("long", "local-timestamp-nanos"), &[0]),
        DataType::Timestamp { unit: TimeUnit::Nanos, utc: false }
    );
    assert_eq!(kind(annotated("string", "date"), &[0]), DataType::String);
    assert_eq!(kind(annotated("long", "time-millis"), &[0]), DataType::Int64);
    assert_eq!(kind(annotated("bytes", "decimal"), &[0]), DataType::Bytes);
    assert_eq!(kind(annotated("bytes", "uuid"), &[0]), DataType::Bytes);
    let of_fixed = |size: usize, logical: &str| {
        let schema =
            json!({"type": "fixed", "name": "F", "size": size, "logicalType": logical, "precision": 19});
        kind(schema, &vec![0; size])
    };
    assert_eq!(of_fixed(16, "uuid"), DataType::Uuid);
    assert_eq!(of_fixed(15, "uuid"), DataType::Fixed(15));
    assert_eq!(of_fixed(12, "duration"), DataType::Duration);
    assert_eq!(of_fixed(9, "decimal"), DataType::Decimal { precision: 19, scale: 0 });
    // Eight bytes do not have room for 19 digits.
    assert_eq!(of_fixed(8, "decimal"), DataType::Fixed(8));
}

#[test]
fn unions_are_nullable_fields_or_unions() {
    let shown = |schema: Json, datum: &[u8]| declared(&schema, datum).to_string();
    assert_eq!(shown(json!(["null", "int"]), &[0]), "int32?");
    assert_eq!(shown(json!(["int"]), &[0, 0]), "int32");
    assert_eq!(shown(json!(["null"]), &[0]), "null?");
    assert_eq!(shown(json!(["string", "null", "int"]), &[2]), "union{string:string,int:int32}?");
}

#[test]
fn limits_hold_at_the_last_value_and_not_past_it() {
    let wide = |fields: usize| {
        let fields: Vec<_> =
            (0..fields).map(|index| json!({"name": format!("f{index}"), "type": "null"})).collect();
        Avro::fixed(json!({"type": "record", "name": "R", "fields": fields}).to_string()).build()
    };
    // And the record itself.
    assert!(wide(49_999).is_ok());
    assert!(wide(50_000).unwrap_err().to_string().contains("more than 50000 fields"));
    // One text nests as deep as JSON may; several could go on.
    let long = |bytes: usize| {
        let text = r#"{"type":"record","name":"R","fields":[],"doc":"?"}"#;
        Avro::fixed(text.replace('?', &"x".repeat(bytes + 1 - text.len()))).build()
    };
    assert!(long(4 << 20).is_ok());
    assert!(long((4 << 20) + 1).unwrap_err().to_string().contains("more than 4194304 bytes"));
    let decimal = |precision: u32| {
        let schema = json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": 0});
        Avro::fixed(schema.to_string()).build()
    };
    assert!(decimal(1_000).is_ok());
    assert!(decimal(1_001).is_err());
}

/// A few megabytes may say a name of a hundred kilobytes thousands of times.
#[test]
fn what_a_schema_repeats_has_a_limit_in_bytes() {
    let refers = |of: &Json, times: usize| {
        let mut fields = vec![json!({"name": "first", "type": of})];
        fields.extend((1..times).map(|index| json!({"name": format!("f{index}"), "type": "R"})));
        Avro::fixed(json!({"type": "record", "name": "Top", "fields": fields}).to_string()).build()
    };
    let long = "n".repeat(100_000);
    let of = json!({"type": "record", "name": "R", "fields": [{"name": long, "type": "int"}]});
    assert!(refers(&of, 160).is_ok());
    for of in [
        json!({"type": "record", "name": "R", "fields": [{"name": long, "type": "int"}]}),
        json!({"type": "record", "name": "R", "fields": [{"name": "a", "type": "int", "doc": long}]}),
        json!({"type": "record", "name": "R", "fields": [{"name": "a", "type": "int", "aliases": [long]}]}),
        json!({"type": "record", "name": "R", "fields": [{"name": "a", "type": "string", "default": long}]}),
        json!({"type": "enum", "name": "R", "symbols": [long]}),
        // No bytes, but memory.
        json!({"type": "record", "name": "R", "fields": [{"name": "a", "type": "int", "aliases": vec![""; 10_000]}]}),
        json!({"type": "enum", "name": "R", "symbols": (0..10_000).map(|it| it.to_string()).collect::<Vec<_>>()}),
    ] {
        let said = refers(&of, 5_000).unwrap_err().to_string();
        assert!(said.contains("more than 16777216 bytes of names"), "{said}");
    }
}

#[tokio::test]
async fn schemas_that_refer_to_each_other_nest_to_the_limit_and_no_deeper() {
    use aqueduct_converters::registry::{FixedSchemas, Reference, RegisteredSchema, SchemaKind};
    use aqueduct_core::{BatchBuilder, Converter, Offset, Permit, Timestamp, TopicPartition};

    for (records, fits) in [(128, true), (129, false), (5_000, false)] {
        let record = |index: usize, of: &str| {
            format!(r#"{{"type":"record","name":"R{index}","fields":[{{"name":"f","type":"{of}"}}]}}"#)
        };
        let text = |index: usize| match index {
            0 => record(0, "int"),
            _ => record(index, &format!("R{}", index - 1)),
        };
        let mut schema = RegisteredSchema::new(7, SchemaKind::Avro, text(records - 1));
        schema.references = (0..records - 1)
            .map(|index| Reference {
                name: format!("R{index}"),
                subject: format!("R{index}"),
                version: 1,
                text: text(index),
            })
            .collect();
        let converter = Avro::with_registry(FixedSchemas::new().with_schema(schema)).build().unwrap();
        let mut batch = BatchBuilder::new(TopicPartition::new("t", 0), 0);
        batch.push(Offset::ZERO, Timestamp::None, None, Some(b"\0\0\0\0\x07\x02"), []);
        let batch = batch.build(Permit::unlimited());
        converter.prepare(&batch).await.unwrap();
        let outcome = converter.convert(&batch.get(0).unwrap()).map(|_| ());
        let expected = if fits { Ok(()) } else { Err("the schema nests deeper than 128 levels") };
        match (outcome, expected) {
            (Err(poison), Err(why)) => assert!(poison.detail().contains(why), "{records}: {poison}"),
            (outcome, expected) => assert_eq!(outcome.ok(), expected.ok(), "{records}"),
        }
    }
}
