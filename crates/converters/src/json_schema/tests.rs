use aqueduct_core::{
    BatchBuilder, Compatibility, Offset, Permit, SkipReason, TimeUnit, Timestamp, TopicPartition, write_json,
};
use proptest::prelude::*;

use super::*;
use crate::registry::{FixedSchemas, SchemaKind, SubjectVersion};
use crate::tests::fingerprint;

mod references;

fn parse(text: &str) -> Result<Parsed, String> {
    schema::registered(&RegisteredSchema::new(1, SchemaKind::Json, text), None)
}

fn schema(text: &str) -> String {
    parse(text).map_or_else(|error| error, |parsed| parsed.schema.to_string())
}

/// What columns hold, and the field at each path.
fn columns(schema: &str, value: &str) -> Result<String, String> {
    let parsed = parse(schema)?;
    let text = JsonValue::parse(value.to_owned().into()).map_err(|error| error.to_string())?.into_bytes();
    shape::check(&parsed.shape, &text).map_err(|poison| poison.to_string())?;
    let mut out = Vec::new();
    let value = JsonSchemaValue(Described::new(text, Some(Arc::new(parsed))));
    write_json(&value, &mut out).map_err(|poison| poison.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn what_makes_columns_is_read() {
    for (text, columns) in [
        (r#"{"type":"integer"}"#, "int64"),
        (r#"{"type":["integer","null"]}"#, "int64?"),
        (r#"{"type":["number","integer"]}"#, "float64"),
        (r#"{"type":["string","integer"]}"#, "json?"),
        (r#"{"type":"string","format":"date"}"#, "date"),
        (r#"{"type":"string","format":"time"}"#, "time(us)"),
        (r#"{"type":"string","format":"date-time"}"#, "timestamp(us)"),
        (r#"{"type":"string","format":"uuid"}"#, "uuid"),
        (r#"{"type":"string","format":"email"}"#, "string"),
        (r#"{"type":"string","contentEncoding":"base64"}"#, "bytes"),
        (r#"{"enum":["a","b"]}"#, "enum"),
        (r#"{"const":"a"}"#, "enum"),
        (r#"{"enum":[1,2]}"#, "json?"),
        (r#"{"type":"array","items":{"type":"boolean"}}"#, "list<bool>"),
        (r#"{"type":"array","items":[{"type":"boolean"}]}"#, "json?"),
        (r#"{"type":"object","additionalProperties":{"type":"number"}}"#, "map<float64>"),
        (r#"{"type":"object"}"#, "json?"),
        ("true", "json?"),
        ("{}", "json?"),
        (r#"{"oneOf":[{"type":"null"},{"type":"string"}]}"#, "string?"),
        (r#"{"anyOf":[{"type":"integer"},{"type":"string"}]}"#, "json?"),
        (r#"{"allOf":[{"type":"integer"}]}"#, "int64"),
        (
            r#"{"type":"object","title":"Order","properties":{"b":{"type":"integer"},"a":{"type":"string"}},"required":["a"]}"#,
            "Order struct{b:int64?,a:string}",
        ),
        (r##"{"$ref":"#/$defs/x","$defs":{"x":{"type":"integer"}}}"##, "int64"),
        (r##"{"$ref":"#/definitions/a~1b","definitions":{"a/b":{"type":"integer"}}}"##, "int64"),
        (r#"{"$ref":"other.json"}"#, "json?"),
        (
            r##"{"type":"object","properties":{"next":{"$ref":"#"},"x":{"type":"integer"}}}"##,
            "struct{next:json?,x:int64?}",
        ),
        (r##"{"$ref":"#"}"##, "json?"),
        ("[", "it is no json: EOF while parsing a list at line 1 column 1"),
    ] {
        let found = schema(text);
        assert!(found == columns || (columns == "enum" && found.starts_with("enum")), "{text}: {found}");
    }
}

#[test]
fn what_confluent_writes_for_connect_is_read() {
    let text = r#"{"type":"object","title":"shop.Order","properties":{
        "tags":{"connect.index":3,"type":"array","connect.type":"map","items":{"type":"object","properties":
            {"key":{"type":"integer","connect.type":"int32"},"value":{"type":"string"}}}},
        "price":{"connect.index":1,"title":"org.apache.kafka.connect.data.Decimal","connect.version":1,"type":"number",
            "connect.parameters":{"scale":"2"},"connect.type":"bytes"},
        "small":{"connect.index":0,"oneOf":[{"type":"null"},{"type":"integer","connect.type":"int16"}]},
        "day":{"connect.index":2,"title":"org.apache.kafka.connect.data.Date","connect.version":1,"type":"integer","connect.type":"int32"},
        "blob":{"connect.index":4,"type":"string","connect.type":"bytes"},
        "f":{"connect.index":5,"type":"number","connect.type":"float32"}},"required":["price","day"]}"#;
    assert_eq!(
        schema(text),
        "shop.Order struct{small:int16?,price:decimal(38,2),day:date,tags:map<string>?,blob:bytes?,f:float32?}"
    );
    let value = r#"{"small":null,"price":12.5,"day":1,"tags":[{"key":7,"value":"x"}],"blob":"AA==","f":0.1}"#;
    assert_eq!(
        columns(text, value).unwrap(),
        r#"{"small":null,"price":12.50,"day":"1970-01-02","tags":{"7":"x"},"blob":"AA==","f":0.1}"#
    );
}

const ORDER: &str = r#"{"type":"object","properties":{"id":{"type":"string","format":"uuid"},
    "at":{"type":"string","format":"date-time"},"time":{"type":"string","format":"time"},"day":{"type":"string","format":"date"},
    "kind":{"enum":["a","b"]},"any":{},"lines":{"type":"array","items":{"type":"object","properties":{"n":{"type":"integer"}},
    "required":["n"],"additionalProperties":false}}},"required":["id"]}"#;
const ID: &str = r#""id":"6ba7b810-9dad-11d1-80b4-00c04fd430c8""#;

#[test]
fn texts_become_what_their_format_says() {
    let value = format!(
        r#"{{{ID},"at":"2021-06-28T09:30:00.123456789+02:00","time":"23:30:00-02:00","day":"1969-12-31","kind":"b","any":[1,{{"x":null}}],"lines":[{{"n":1.0}}],"more":1}}"#
    );
    let expected = format!(
        r#"{{{ID},"at":"2021-06-28T07:30:00.123456Z","time":"01:30:00.000000","day":"1969-12-31","kind":"b","any":[1,{{"x":null}}],"lines":[{{"n":1}}]}}"#
    );
    assert_eq!(columns(ORDER, &value).unwrap(), expected);
    let parsed = Some(Arc::new(parse(ORDER).unwrap()));
    let value = JsonSchemaValue(Described::new(value.into(), parsed));
    let field = |path: &str| value.field(&FieldPath::parse(path).unwrap());
    let count = 1_624_865_400_123_456;
    assert_eq!(field("at"), Some(FieldValue::Timestamp { count, unit: TimeUnit::Micros, utc: true }));
    assert_eq!(field("time"), Some(FieldValue::Time { count: 5_400_000_000, unit: TimeUnit::Micros }));
    assert_eq!(field("day"), Some(FieldValue::Date(-1)));
    assert_eq!((field("lines"), field("more")), (Some(FieldValue::Composite), None));
}

#[test]
fn the_calendar_has_its_last_day_and_its_first() {
    let at = |text: &str| columns(r#"{"type":"string","format":"date-time"}"#, &format!("\"{text}\""));
    for (text, shown) in [
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31T22:59:59.999999999-01:00", "9999-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ("-009999-01-01T00:00:00Z", "-009999-01-01T00:00:00.000000Z"),
    ] {
        assert_eq!(at(text).unwrap(), format!("\"{shown}\""));
    }
    for beyond in ["9999-12-31T23:59:59-00:01", "-009999-01-01T00:00:00+00:01", "9999-12-31T23:59:59"] {
        assert!(at(beyond).unwrap_err().contains("expected a time of RFC 3339"), "{beyond}");
    }
}

#[test]
fn what_does_not_fit_is_poison_that_names_the_place() {
    for (members, said) in [
        (r#""id":"x""#, "id: expected a uuid, found a text"),
        (r#""kind":"a""#, "missing-field: id is missing"),
        (&format!(r#"{ID},"at":"2021-06-28""#), "at: expected a time of RFC 3339"),
        (&format!(r#"{ID},"time":"7 o'clock""#), "time: expected a time such as"),
        (&format!(r#"{ID},"day":"2021-02-30""#), "day: expected a date such as"),
        (&format!(r#"{ID},"kind":"c""#), "kind: expected one of the names of its enum"),
        (&format!(r#"{ID},"kind":1"#), "kind: expected one of the names of its enum, found a number"),
        (&format!(r#"{ID},"lines":[{{"n":1}},{{"n":"hunter2"}}]"#), "lines[1].n: expected a whole number"),
        (
            &format!(r#"{ID},"lines":[{{"n":1,"hunter2":2}}]"#),
            "lines[0] has a member that its schema does not allow",
        ),
        (&format!(r#"{ID},"lines":[{{"n":1.5}}]"#), "lines[0].n: expected a whole number"),
        (&format!(r#"{ID},"lines":{{}}"#), "lines: expected a list, found an object"),
    ] {
        let poison = columns(ORDER, &format!("{{{members}}}")).unwrap_err();
        assert!(poison.contains(said) && !poison.contains("hunter2"), "{members}: {poison}");
    }
}

#[test]
fn schemas_have_limits() {
    // Each of 20 definitions twice refers to the next: a million fields in two kilobytes.
    let definition = |index: usize| {
        let next = format!(r##"{{"$ref":"#/$defs/d{}"}}"##, index + 1);
        format!(r#""d{index}":{{"type":"object","properties":{{"a":{next},"b":{next}}}}}"#)
    };
    let definitions: Vec<String> = (0..20).map(definition).collect();
    let bomb = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{}}}}}"##, definitions.join(","));
    assert!(schema(&bomb).contains("more than 10000 fields"), "{}", schema(&bomb));
    let nested = |levels: usize| {
        format!(
            "{}{}{}",
            r#"{"type":"array","items":"#.repeat(levels),
            r#"{"type":"integer"}"#,
            "}".repeat(levels)
        )
    };
    assert!(schema(&nested(63)).contains("list<int64>"));
    assert!(schema(&nested(64)).contains("list<json?>"));
    assert!(schema(&" ".repeat(2 << 20)).contains("the limit is 1048576"));
}

async fn converted(
    converter: &JsonSchema,
    value: Option<&[u8]>,
) -> Result<Converted<JsonSchemaValue>, String> {
    let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 64);
    batch.push(Offset::ZERO, Timestamp::None, None, value, []);
    let batch = batch.build(Permit::unlimited());
    converter.prepare(&batch).await.unwrap();
    converter.convert(&batch.get(0).unwrap()).map_err(|poison| poison.to_string())
}

#[tokio::test]
async fn schemas_come_from_the_registry() {
    let schemas = FixedSchemas::new()
        .with(1, SchemaKind::Json, r#"{"type":"integer"}"#)
        .with(2, SchemaKind::Avro, "\"int\"")
        .with(3, SchemaKind::Json, "[");
    let converter = JsonSchema::with_registry(schemas);
    let Ok(Converted::Emit(value)) = converted(&converter, Some(b"\0\0\0\0\x01 42")).await else {
        panic!("42")
    };
    assert_eq!((value.as_bytes(), value.schema().unwrap().to_string()), (&b"42"[..], "int64".to_owned()));
    let Ok(Converted::Emit(other)) = converted(&converter, Some(b"\0\0\0\0\x01 43")).await else {
        panic!("43")
    };
    assert!(Arc::ptr_eq(value.schema().unwrap(), other.schema().unwrap()));
    for (bytes, said) in [
        (&b"\0\0\0\0\x01\"x\""[..], "expected a whole number"),
        (b"\0\0\0\0\x01", "not valid json at byte 0"),
        (b"\0\0\0\0\x02 1", "schema 2 cannot be used: it is AVRO, not JSON Schema"),
        (b"\0\0\0\0\x03 1", "schema 3 cannot be used: it is no json"),
        (b"\0\0\0\0\x04 1", "schema 4 is not in the registry"),
        (b"42", "not with a schema's id"),
    ] {
        let said_instead = converted(&converter, Some(bytes)).await.unwrap_err();
        assert!(said_instead.contains(said), "{said_instead}");
    }
    let skipping = converter.clone().tombstones(Tombstones::Skip);
    assert_eq!(converted(&skipping, None).await.unwrap(), Converted::Skip(SkipReason::Tombstone));
    let null = converter.clone().tombstones(Tombstones::Null);
    assert!(
        matches!(converted(&null, None).await, Ok(Converted::Emit(value)) if value.as_bytes() == b"null")
    );
    assert!(converted(&converter, None).await.is_err());
}

fn versions(of: &[(&str, u32)]) -> Vec<SubjectVersion> {
    of.iter()
        .map(|(subject, version)| SubjectVersion { subject: (*subject).into(), version: *version })
        .collect()
}

#[tokio::test]
async fn values_tell_the_version_of_their_schema() {
    let registered = |id: u32, members: &str, at: &[(&str, u32)]| {
        let text = format!(r#"{{"type":"object","properties":{{{members}}}}}"#);
        let mut schema = RegisteredSchema::new(id, SchemaKind::Json, text);
        schema.versions = versions(at);
        schema
    };
    let id = r#""id":{"type":"integer"}"#;
    let schemas = FixedSchemas::new()
        .with_schema(registered(
            1,
            &format!(r#"{id},"note":{{"type":"string"}}"#),
            &[("orders", 2), ("others", 7)],
        ))
        .with_schema(registered(2, id, &[("orders", 1)]));
    let converter = JsonSchema::with_registry(schemas);
    let schema = async |converter: &JsonSchema, id: u8| match converted(
        converter,
        Some(&[0, 0, 0, 0, id, b'{', b'}']),
    )
    .await
    {
        Ok(Converted::Emit(value)) => Arc::clone(value.schema().unwrap()),
        other => panic!("{other:?}"),
    };
    let by_subject = converter.clone().subject("orders");
    let (newer, older) = (schema(&by_subject, 1).await, schema(&by_subject, 2).await);
    assert_eq!((newer.version(), older.version()), (Some(2), Some(1)));
    // The older one came later, and is the older one all the same.
    assert!(
        !Compatibility::Backward.prefers(&older, &newer) && Compatibility::Forward.prefers(&older, &newer)
    );
    // Without a subject, a schema that has one version.
    assert_eq!(
        (schema(&converter, 1).await.version(), schema(&converter, 2).await.version()),
        (None, Some(1))
    );
    assert_ne!(fingerprint(&converter), fingerprint(&by_subject));
}

proptest! {
    #[test]
    fn any_schema_is_read_or_refused(text in "[\\[\\]{}\":,a-f0-9.ntruetyp\\\\#/$ -]{0,60}") {
        let text = format!("{{\"type\":\"object\",\"properties\":{{\"a\":{text}}}}}");
        parse(&text).ok();
    }

    #[test]
    fn any_value_fits_or_is_poison(members in "[\\[\\]{}\":,a-f0-9.ntruetyp\\\\ -]{0,60}") {
        columns(ORDER, &format!("{{{ID},{members}}}")).ok();
    }

    /// A schema that a value implies: the value fits it, and its columns say what it says.
    #[test]
    fn values_of_an_implied_schema_come_back(
        numbers in prop::collection::vec(any::<i64>(), 0..20),
        text: String,
        truth: Option<bool>,
        // A few: most of the time goes into making texts up.
        map in prop::collection::btree_map(any::<String>(), any::<String>(), 0..6),
    ) {
        let schema = r#"{"type":"object","properties":{"numbers":{"type":"array","items":{"type":"integer"}},
            "text":{"type":"string"},"truth":{"type":["boolean","null"]},
            "map":{"type":"object","additionalProperties":{"type":"string"}}}}"#;
        let value = serde_json::json!({"numbers": numbers, "text": text, "truth": truth, "map": map});
        let read: serde_json::Value = serde_json::from_str(&columns(schema, &value.to_string()).unwrap()).unwrap();
        prop_assert_eq!(read, value);
    }
}
