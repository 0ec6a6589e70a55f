//! A reader's schema: values come out in it, whatever they were written with.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use aqueduct_converters::{Avro, AvroConfigError, AvroValue};
use aqueduct_core::{FieldPath, FieldValue, Fields, JsonRow, PoisonReason, StructuredValue};
use serde_json::{Value as Json, json};

use super::convert;
use super::tree::{Named, collect, expected, visited};

fn reading(writer: &Json, reader: &Json) -> Result<Avro, AvroConfigError> {
    Avro::fixed(writer.to_string()).reader_schema(reader.to_string()).build()
}

fn row(value: &AvroValue) -> String {
    let mut row = Vec::new();
    value.write_json(&mut row).unwrap();
    String::from_utf8(row).unwrap()
}

/// The row, which another library agrees with.
fn agreed(writer: &Json, reader: &Json, datum: &[u8]) -> String {
    let value = convert(&reading(writer, reader).unwrap(), datum).unwrap();
    let writer = Schema::parse(writer).unwrap();
    let reader = Schema::parse(reader).unwrap();
    let theirs = GenericDatumReader::builder(&writer).reader_schema(&reader).build().unwrap();
    let theirs = theirs.read_value(&mut &*datum).unwrap();
    let mut named = Named::new();
    collect(&reader, &mut named);
    assert_eq!(visited(&value), expected(&reader, &named, &theirs));
    row(&value)
}

fn record(fields: &Json) -> Json {
    json!({"type": "record", "name": "R", "fields": fields})
}

#[test]
fn numbers_are_promoted() {
    for (writer, reader, datum, shown) in [
        ("int", "long", &[0x7f][..], "-64"),
        ("int", "float", &[0x7f], "-64.0"),
        ("int", "double", &[0x7f], "-64.0"),
        ("long", "float", &[0x80, 1], "64.0"),
        ("long", "double", &[0x80, 1], "64.0"),
        ("float", "double", &[0, 0, 0xc0, 0x3f], "1.5"),
        ("string", "bytes", b"\x04ab", "\"YWI=\""),
        ("bytes", "string", b"\x04ab", "\"ab\""),
    ] {
        assert_eq!(agreed(&json!(writer), &json!(reader), datum), shown, "{writer} as {reader}");
    }
    for (writer, reader) in [("long", "int"), ("double", "float"), ("string", "int"), ("null", "string")] {
        let refused = reading(&json!(writer), &json!(reader)).unwrap_err();
        assert_eq!(refused.problems(), [format!("schema: {writer} cannot be read as {reader}")]);
    }
    // Bytes that turn out not to be text.
    let text = reading(&json!("bytes"), &json!("string")).unwrap();
    assert_eq!(convert(&text, b"\x02\xff").unwrap_err().reason(), PoisonReason::Malformed);
}

#[test]
fn fields_are_reordered_renamed_left_out_and_given_defaults() {
    let writer = record(&json!([
        {"name": "a", "type": "int"},
        {"name": "gone", "type": {"type": "array", "items": "string"}},
        {"name": "b", "type": "string"},
        {"name": "c", "type": "boolean"}]));
    let reader = record(&json!([
        {"name": "c", "type": "boolean"},
        {"name": "label", "aliases": ["b"], "type": ["null", "string"]},
        {"name": "more", "type": {"type": "array", "items": "int"}, "default": [1, -2]},
        {"name": "a", "type": "long"},
        {"name": "note", "type": ["null", "string"], "default": null}]));
    let datum = b"\x02\x04\x02x\x02y\0\x02b\x01";
    let converter = reading(&writer, &reader).unwrap();
    let value = convert(&converter, datum).unwrap();
    let shown = r#"{"c":true,"label":"b","more":[1,-2],"a":1,"note":null}"#;
    assert_eq!(row(&value), shown);
    for (path, expected) in [
        ("label", Some(FieldValue::Str("b".into()))),
        ("a", Some(FieldValue::I64(1))),
        ("c", Some(FieldValue::Bool(true))),
        ("more", Some(FieldValue::Composite)),
        ("note", Some(FieldValue::Null)),
        ("gone", None),
        ("b", None),
    ] {
        assert_eq!(value.field(&FieldPath::parse(path).unwrap()), expected, "{path}");
    }
    // What is left out is checked all the same.
    assert!(convert(&converter, b"\x02\x04\x02x\x02\xff\0\x02b\x01").is_err());
    assert!(convert(&converter, b"\x02\x04\x02x\x02y\0\x02b\x01\0").is_err());
    // In lists, one behind the other.
    let (writer, reader) =
        (json!({"type": "array", "items": writer}), json!({"type": "array", "items": reader}));
    let value =
        convert(&reading(&writer, &reader).unwrap(), &[b"\x04", &datum[..], datum, b"\0"].concat()).unwrap();
    assert_eq!(row(&value), format!("[{shown},{shown}]"));
}

#[test]
fn a_field_without_a_source_is_an_error_that_names_it() {
    let writer = record(&json!([{"name": "a", "type": "int"}]));
    let reader = record(&json!([{"name": "b", "type": "int"}]));
    let refused = reading(&writer, &reader).unwrap_err().to_string();
    assert!(refused.contains(r#"field "b" of R was not written and has no default"#), "{refused}");
    let reader = record(&json!([{"name": "b", "type": "int", "default": "x"}]));
    let refused = reading(&writer, &reader).unwrap_err().to_string();
    assert!(refused.contains(r#"the default of field "b" does not fit its type"#), "{refused}");
    let reader =
        record(&json!([{"name": "a", "type": "int"}, {"name": "b", "aliases": ["a"], "type": "int"}]));
    assert!(reading(&writer, &reader).unwrap_err().to_string().contains("two fields"));
    let reader = json!({"type": "record", "name": "Q", "fields": []});
    assert!(reading(&writer, &reader).unwrap_err().to_string().contains("record R is not Q"));
    let reader =
        json!({"type": "record", "name": "Q", "aliases": ["R"], "fields": [{"name": "a", "type": "int"}]});
    assert!(reading(&writer, &reader).is_ok());
}

#[test]
fn unions_are_resolved_branch_by_branch() {
    let (writer, reader) = (json!(["null", "int", "string"]), json!(["string", "null", "double", "long"]));
    let converter = reading(&writer, &reader).unwrap();
    let shown = |datum: &[u8]| format!("{:?}", visited(&convert(&converter, datum).unwrap()));
    assert_eq!(shown(&[0]), r#"Scalar("Null")"#);
    // An int is no branch; the first that takes it is a double.
    assert_eq!(shown(&[2, 4]), r#"Branch(1, Scalar("F64(2.0)"))"#);
    assert_eq!(shown(b"\x04\x02x"), r#"Branch(0, Scalar("Str(\"x\")"))"#);
    // The same kind comes before a promotion.
    let converter = reading(&json!("long"), &reader).unwrap();
    assert_eq!(
        format!("{:?}", visited(&convert(&converter, &[4]).unwrap())),
        r#"Branch(2, Scalar("I64(2)"))"#
    );
    // A reader without a union takes the branches that fit.
    let converter = reading(&json!(["null", "string", "int"]), &json!("long")).unwrap();
    assert_eq!(row(&convert(&converter, &[4, 4]).unwrap()), "2");
    for other in [&[0][..], b"\x02\x02x"] {
        let poison = convert(&converter, other).unwrap_err();
        assert_eq!(poison.reason(), PoisonReason::InvalidField, "{poison}");
    }
    assert!(reading(&json!(["null", "string"]), &json!("long")).is_err());
    assert!(reading(&json!("string"), &json!(["null", "long"])).is_err());
    let optional = agreed(&json!("int"), &json!(["null", "long"]), &[4]);
    assert_eq!(optional, "2");
}

#[test]
fn of_branches_with_one_name_the_one_with_the_same_namespace_is_taken() {
    let order = |namespace: &str, fields: &Json| json!({"type": "record", "name": "Order", "namespace": namespace, "fields": fields});
    let id = json!({"name": "id", "type": "int"});
    let note = json!({"name": "note", "type": "string"});
    let writer = order("v2", &json!([id, note]));
    let shown = |reader: &Json, datum: &[u8]| {
        format!("{:?}", visited(&convert(&reading(&writer, reader).unwrap(), datum).unwrap()))
    };
    let both = json!([order("v1", &json!([id])), order("v2", &json!([id, note]))]);
    assert!(shown(&both, b"\x02\x02x").starts_with("Branch(1, "), "{}", shown(&both, b"\x02\x02x"));
    // An alias says more than a name without its namespace.
    let mut renamed = order("v3", &json!([id]));
    renamed["aliases"] = json!(["v2.Order"]);
    let both = json!([order("v1", &json!([id])), renamed]);
    assert!(shown(&both, b"\x02\x02x").starts_with("Branch(1, "), "{}", shown(&both, b"\x02\x02x"));
}

#[test]
fn a_branch_with_the_full_name_is_the_only_one() {
    let order = |namespace: &str, of: &str| {
        json!({"type": "record", "name": "Order", "namespace": namespace,
        "fields": [{"name": "id", "type": of}]})
    };
    let writer = order("v2", "string");
    // Another's Order would take the string, and is another type.
    let refused = |reader: &Json| reading(&writer, reader).unwrap_err().to_string();
    for reader in [
        json!([order("v1", "string"), order("v2", "int")]),
        json!([order("v2", "int"), order("v1", "bytes")]),
    ] {
        let said = refused(&reader);
        assert!(said.contains("no branch of the reader's union takes v2.Order: field \"id\""), "{said}");
    }
    let mut renamed = order("v3", "int");
    renamed["aliases"] = json!(["v2.Order"]);
    assert!(refused(&json!([order("v1", "string"), renamed])).contains("field \"id\""));
    // Without it a name is enough, as before.
    assert!(reading(&writer, &json!([order("v1", "int"), order("v3", "string")])).is_ok());
    // The same for enums and fixed.
    let fixed = |namespace: &str, size: u32| json!({"type": "fixed", "name": "F", "namespace": namespace, "size": size});
    assert!(reading(&fixed("a", 2), &json!([fixed("b", 2), fixed("a", 3)])).is_err());
    assert!(reading(&fixed("a", 2), &json!([fixed("b", 3), fixed("c", 2)])).is_ok());
}

#[test]
fn a_branch_that_was_refused_once_is_refused_again() {
    let node = |namespace: &str, of: &str| json!({"type": "record", "name": "R", "namespace": namespace, "fields": [{"name": "x", "type": of}]});
    let writer = record(&json!([{"name": "a", "type": node("w", "int")}, {"name": "b", "type": "w.R"}]));
    let reader = record(&json!([
        {"name": "a", "type": [node("s", "string"), node("l", "long")]},
        {"name": "b", "type": ["s.R", "l.R"]}]));
    let value = convert(&reading(&writer, &reader).unwrap(), &[2, 4]).unwrap();
    assert_eq!(row(&value), r#"{"a":{"x":1},"b":{"x":2}}"#);
}

#[test]
fn symbols_the_reader_does_not_know_are_its_default_or_a_poison() {
    let of = |symbols: &Json, default: &Json| {
        let mut of = json!({"type": "enum", "name": "E", "symbols": symbols});
        if !default.is_null() {
            of["default"] = default.clone();
        }
        of
    };
    let writer = of(&json!(["A", "B", "C"]), &Json::Null);
    let strict = reading(&writer, &of(&json!(["C", "A"]), &Json::Null)).unwrap();
    assert_eq!(row(&convert(&strict, &[4]).unwrap()), "\"C\"");
    let poison = convert(&strict, &[2]).unwrap_err();
    assert_eq!(poison.reason(), PoisonReason::InvalidField);
    assert_eq!(convert(&strict, &[6]).unwrap_err().reason(), PoisonReason::Malformed);
    let lenient = reading(&writer, &of(&json!(["C", "A"]), &json!("A"))).unwrap();
    assert_eq!(row(&convert(&lenient, &[2]).unwrap()), "\"A\"");
}

#[test]
fn what_would_quietly_become_another_value_is_refused() {
    let annotated =
        |of: &str, logical: &str| json!({"type": of, "logicalType": logical, "precision": 9, "scale": 2});
    let mut cents = annotated("bytes", "decimal");
    assert!(reading(&cents, &annotated("bytes", "decimal")).is_ok());
    cents["scale"] = json!(3);
    for (writer, reader) in [
        (annotated("long", "timestamp-millis"), annotated("long", "timestamp-micros")),
        (annotated("long", "timestamp-millis"), annotated("long", "local-timestamp-millis")),
        (annotated("int", "date"), annotated("int", "time-millis")),
        (cents, annotated("bytes", "decimal")),
    ] {
        let refused = reading(&writer, &reader).unwrap_err().to_string();
        assert!(refused.contains("the logical type"), "{refused}");
    }
    // An annotation on one side only is the reader's to give or to drop.
    let shown =
        |writer: &Json, reader: &Json| row(&convert(&reading(writer, reader).unwrap(), &[2]).unwrap());
    assert_eq!(shown(&json!("long"), &annotated("long", "timestamp-millis")), "\"1970-01-01T00:00:00.001Z\"");
    assert_eq!(shown(&annotated("long", "timestamp-millis"), &json!("long")), "1");
}

#[test]
fn schemas_that_come_back_to_themselves_are_resolved() {
    let node = |fields: &Json| json!({"type": "record", "name": "Node", "fields": fields});
    let writer = node(&json!([{"name": "next", "type": ["null", "Node"]}, {"name": "n", "type": "int"}]));
    let reader = node(&json!([
        {"name": "n", "type": "long"},
        {"name": "kind", "type": "string", "default": "?"},
        {"name": "next", "type": ["null", "Node"], "default": null}]));
    let datum = [2, 0, 4, 2];
    let shown = r#"{"n":1,"kind":"?","next":{"n":2,"kind":"?","next":null}}"#;
    assert_eq!(agreed(&writer, &reader, &datum), shown);
    let value = convert(&reading(&writer, &reader).unwrap(), &datum).unwrap();
    assert_eq!(value.field(&FieldPath::parse("next.n").unwrap()), Some(FieldValue::I64(2)));
    assert_eq!(value.schema().unwrap().to_string(), "Node struct{n:int64,kind:string,next:json?}");
    // A default that never ends.
    let endless = node(&json!([{"name": "next", "type": "Node", "default": {}}]));
    assert!(reading(&node(&json!([])), &endless).is_err());
}

#[test]
fn values_of_all_writers_are_of_one_schema() {
    let reader = record(&json!([{"name": "a", "type": "long"}]));
    let converter = Avro::single_object([
        record(&json!([{"name": "a", "type": "int"}])).to_string(),
        record(&json!([{"name": "a", "type": "long"}, {"name": "b", "type": "int"}])).to_string(),
    ]);
    let converter = converter.reader_schema(reader.to_string()).build().unwrap();
    let framed = |schema: &Json, datum: &[u8]| {
        let fingerprint = Schema::parse(schema).unwrap().fingerprint::<apache_avro::rabin::Rabin>().bytes;
        [&[0xc3, 1][..], &fingerprint, datum].concat()
    };
    let one = framed(&record(&json!([{"name": "a", "type": "int"}])), &[2]);
    let other =
        framed(&record(&json!([{"name": "a", "type": "long"}, {"name": "b", "type": "int"}])), &[2, 4]);
    let (one, other) = (convert(&converter, &one).unwrap(), convert(&converter, &other).unwrap());
    assert_eq!(row(&one), row(&other));
    assert!(std::sync::Arc::ptr_eq(one.schema().unwrap(), other.schema().unwrap()));
}
