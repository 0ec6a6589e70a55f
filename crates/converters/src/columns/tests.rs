use aqueduct_core::{
    BatchBuilder, Field, FieldValue, Fields, JsonRow, Offset, Permit, Schema, Timestamp, TopicPartition,
    ValueVisitor,
};

use super::*;
use crate::{Json, Primitive, RawBytes, Tombstones, Utf8};

mod headers;

type Header<'a> = (&'a str, Option<&'a [u8]>);

fn converted<C: Converter>(
    converter: &C,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> Result<C::Output, String> {
    match outcome(converter, key, value, headers) {
        Ok(Converted::Emit(value)) => Ok(value),
        Ok(Converted::Skip(reason)) => Err(reason.as_str().to_owned()),
        Err(poison) => Err(poison.to_string()),
    }
}

fn outcome<C: Converter>(
    converter: &C,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> Result<Converted<C::Output>, Poison> {
    let mut batch = BatchBuilder::new(TopicPartition::new("orders", 3), 64);
    batch.push(Offset::new(42), Timestamp::Create(250), key, value, headers.iter().copied());
    converter.convert(&batch.build(Permit::unlimited()).get(0).unwrap())
}

fn json(value: &impl JsonRow) -> String {
    let mut out = Vec::new();
    match value.write_json(&mut out) {
        Ok(()) => String::from_utf8(out).unwrap(),
        Err(poison) => poison.to_string(),
    }
}

fn all<C: Converter>(value: C) -> ColumnsBuilder<C> {
    Columns::around(value)
        .topic("topic")
        .partition("partition")
        .offset("offset")
        .timestamp("at")
        .key("key", Utf8::new())
        .headers("headers", HeaderValues::Text)
}

const COLUMNS: &str = r#""topic":"orders","partition":3,"offset":42,"at":"1970-01-01T00:00:00.250Z""#;

#[test]
fn columns_stand_beside_the_members() {
    let converter = all(Json::new()).build().unwrap();
    let value =
        converted(&converter, Some(b"k"), Some(br#"{"a":{"b":1}}"#), &[("h", Some(b"x")), ("h", None)])
            .unwrap();
    let headers = r#"[{"key":"h","value":"x"},{"key":"h","value":null}]"#;
    assert_eq!(json(&value), format!(r#"{{"a":{{"b":1}},{COLUMNS},"key":"k","headers":{headers}}}"#));
    let field = |path: &str| value.field(&FieldPath::parse(path).unwrap());
    assert_eq!(field("a.b"), Some(FieldValue::I64(1)));
    assert_eq!(field("topic"), Some(FieldValue::Str("orders".into())));
    assert_eq!(field("key"), Some(FieldValue::Str("k".into())));
    assert_eq!(field("offset"), Some(FieldValue::I64(42)));
    assert_eq!(field("headers"), Some(FieldValue::Composite));
    assert_eq!(field("topic.x").or(field("b")), None);
}

#[test]
fn a_value_can_stand_under_one_name() {
    let converter = all(Json::new()).key("id", Json::new()).nested("doc").build().unwrap();
    let value = converted(&converter, Some(br#"{"k":[7]}"#), Some(br#"{"topic":1}"#), &[]).unwrap();
    assert_eq!(json(&value), format!(r#"{{"doc":{{"topic":1}},{COLUMNS},"id":{{"k":[7]}},"headers":[]}}"#));
    let field = |path: &str| value.field(&FieldPath::parse(path).unwrap());
    assert_eq!(field("doc.topic"), Some(FieldValue::I64(1)));
    assert_eq!((field("id.k"), field("doc")), (Some(FieldValue::Composite), Some(FieldValue::Composite)));
}

#[test]
fn what_is_no_struct_stands_under_value() {
    let converter = Columns::around(Json::new()).offset("o").build().unwrap();
    let row = |value: &[u8]| json(&converted(&converter, None, Some(value), &[]).unwrap());
    assert_eq!(row(b"[1,{\"o\":2}]"), r#"{"value":[1,{"o":2}],"o":42}"#);
    assert_eq!(row(b"5"), r#"{"value":5,"o":42}"#);
    assert_eq!(row(b"null"), r#"{"o":42}"#);
    let bytes = Columns::around(RawBytes::new()).key("k", RawBytes::new()).build().unwrap();
    let value = converted(&bytes, Some(b"\xff"), Some(b"\0"), &[]).unwrap();
    assert_eq!(json(&value), r#"{"value":"AA==","k":"/w=="}"#);
    assert_eq!(value.schema().unwrap().to_string(), "struct{value:bytes,k:bytes?}");
}

#[test]
fn a_deletion_keeps_its_key_and_position() {
    let converter = all(Json::new().tombstones(Tombstones::Null)).build().unwrap();
    let value = converted(&converter, Some(b"k"), None, &[]).unwrap();
    assert_eq!(json(&value), format!(r#"{{{COLUMNS},"key":"k","headers":[]}}"#));
    let skipping = all(Json::new().tombstones(Tombstones::Skip)).build().unwrap();
    assert_eq!(converted(&skipping, Some(b"k"), None, &[]).unwrap_err(), "tombstone");
    // A record without a key has none, whatever the key's converter does with tombstones.
    let value = converted(&converter, None, Some(b"{}"), &[]).unwrap();
    assert_eq!(json(&value), format!(r#"{{{COLUMNS},"key":null,"headers":[]}}"#));
}

#[test]
fn members_called_as_a_column_are_poison() {
    let converter = Columns::around(Json::new()).topic("topic").build().unwrap();
    let row = |value: &[u8]| json(&converted(&converter, None, Some(value), &[]).unwrap());
    assert!(row(br#"{"a":1,"topic":2}"#).contains("the value has a member \"topic\""));
    assert!(row(br#"{"a":{"topic":2}}"#).starts_with("{\"a\""));
    let value = Columns::around(Json::new()).topic("value").build().unwrap();
    assert!(json(&converted(&value, None, Some(b"1"), &[]).unwrap()).contains("\"value\""));
    // With a schema it is found before the row is written.
    let typed = Columns::around(Primitive::long()).topic("value").build().unwrap();
    let said = converted(&typed, None, Some(&[0; 8]), &[]).unwrap_err();
    assert!(said.contains("the value has a member \"value\""), "{said}");
}

#[test]
fn names_are_looked_at_once_and_all_problems_are_said() {
    let wrong = Columns::around(Json::new()).topic("x").offset("x").partition("").nested("x").build();
    let said = wrong.unwrap_err().to_string();
    assert_eq!(said, "the columns do not make a row: a name is empty; two columns are called \"x\"");
}

#[test]
fn a_damaged_key_or_header_says_that_it_is_one() {
    let converter = all(Json::new()).build().unwrap();
    let said = converted(&converter, Some(b"\xff"), Some(b"{}"), &[]).unwrap_err();
    assert!(said.starts_with("malformed: the key: not valid utf-8 at byte 0"), "{said}");
    let said = converted(&converter, None, Some(b"{}"), &[("a", None), ("b", Some(b"\xff"))]).unwrap_err();
    assert!(said.starts_with("malformed: the header \"b\": not valid utf-8 at byte 0"), "{said}");
    // Letters are told apart by it.
    let part = |key: &[u8], value: &[u8], header: &[u8]| {
        outcome(&converter, Some(key), Some(value), &[("h", Some(header))]).unwrap_err().part()
    };
    assert_eq!(part(b"\xff", b"{}", b""), PoisonPart::Key);
    assert_eq!(part(b"k", b"{}", b"\xff"), PoisonPart::Header);
    assert_eq!(part(b"k", b"{", b""), PoisonPart::Value);
}

#[test]
fn simple_headers_are_json_where_they_can_be() {
    let converter = Columns::around(Json::new()).headers("h", HeaderValues::Simple).build().unwrap();
    let headers: [Header<'_>; 7] = [
        ("a", Some(b"12")),
        ("b", Some(b"true")),
        ("c", Some(b"[1, {\"x\": 2}]")),
        ("d", Some(b"plain text")),
        ("e", Some(b"")),
        ("f", Some(b"\xff")),
        ("g", Some(b"null")),
    ];
    let row = json(&converted(&converter, None, Some(b"{}"), &headers).unwrap());
    let row: serde_json::Value = serde_json::from_str(&row).unwrap();
    let values: Vec<_> = row["h"].as_array().unwrap().iter().map(|it| it["value"].to_string()).collect();
    assert_eq!(values, ["12", "true", "[1,{\"x\":2}]", "\"plain text\"", "\"\"", "\"/w==\"", "null"]);
    let deep = [("d", Some("[".repeat(127) + &"]".repeat(127)))];
    let deep = deep.each_ref().map(|(name, value)| (*name, value.as_ref().map(String::as_bytes)));
    assert!(json(&converted(&converter, None, Some(b"{}"), &deep).unwrap()).contains("\"value\":\"[[["));
}

#[test]
fn the_schema_is_made_once_and_depends_on_the_record_only() {
    let converter = all(Primitive::integer()).key("key", Primitive::short()).build().unwrap();
    let schema_of = |key: Option<&[u8]>| {
        let value = converted(&converter, key, Some(&[0; 4]), &[]).unwrap();
        Arc::clone(value.schema().unwrap())
    };
    let (one, two) = (schema_of(Some(&[0; 2])), schema_of(Some(&[1; 2])));
    assert!(Arc::ptr_eq(&one, &two));
    assert_eq!(
        one.to_string(),
        "struct{value:int32,topic:string,partition:int32,offset:int64,at:timestamp(ms)?,key:int16?,headers:list<struct{key:string,value:string?}>}"
    );
    assert_eq!(Schema::clone(&schema_of(None)), Schema::clone(&one));
    assert!(Arc::ptr_eq(&schema_of(Some(&[0; 2])), &one));
}

/// Counts how deep it is.
#[derive(Default)]
struct Depth {
    now: usize,
    most: usize,
}

impl ValueVisitor for Depth {
    fn scalar(&mut self, _: FieldValue<'_>) -> Result<(), Poison> {
        Ok(())
    }

    fn begin(&mut self, _: aqueduct_core::Composite) -> Result<(), Poison> {
        self.now += 1;
        self.most = self.most.max(self.now);
        Ok(())
    }

    fn key(&mut self, _: &str) -> Result<(), Poison> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), Poison> {
        self.now -= 1;
        Ok(())
    }
}

#[test]
fn no_column_makes_a_row_too_deep() {
    let lists = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    for converter in [
        Columns::around(Json::new()).key("k", Json::new()).build().unwrap(),
        Columns::around(Json::new()).key("k", Json::new()).nested("n").build().unwrap(),
    ] {
        let mut depth = Depth::default();
        let (value, key) = (lists(127), lists(127));
        let value = converted(&converter, Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
        value.visit(&mut depth).unwrap();
        assert_eq!((depth.now, depth.most), (0, 128));
    }
    #[cfg(feature = "cbor")]
    for nested in [false, true] {
        let converter = Columns::around(crate::Cbor::new());
        let converter = if nested { converter.nested("n") } else { converter }.build().unwrap();
        let deep = [vec![0x81; 128], vec![0]].concat();
        let value = converted(&converter, None, Some(&deep), &[]).unwrap();
        let poison = value.visit(&mut Depth::default()).unwrap_err();
        assert_eq!(poison.reason(), PoisonReason::TooLarge);
    }
}

/// Golden: intents of running pipelines are told apart by it.
#[test]
fn the_identity_of_columns_stays_as_it_was() {
    let identity = |converter: &dyn Fn(&mut Fingerprint)| {
        let mut parts = Fingerprint::new();
        converter(&mut parts);
        parts
    };
    let key = identity(&|parts| Utf8::new().fingerprint(parts)).digest();
    for (headers, spelled) in
        [(HeaderValues::Bytes, "Bytes"), (HeaderValues::Text, "Text"), (HeaderValues::Simple, "Simple")]
    {
        let converter = all(Json::new()).headers("h\"", headers).nested("n").build().unwrap();
        let expected = identity(&|parts| {
            Json::new().fingerprint(parts);
            let text = format!(
                "columns/1 Layout {{ topic: Some(\"topic\"), partition: Some(\"partition\"), offset: Some(\"offset\"), \
                 timestamp: Some(\"at\"), key: Some(\"key\"), key_kind: String, headers: Some((\"h\\\"\", {spelled})), \
                 nested: Some(\"n\") }} key:{key:016x}"
            );
            parts.put("converter", text);
        });
        assert_eq!(identity(&|parts| converter.fingerprint(parts)), expected);
    }
    let bare = Columns::around(Json::new()).build().unwrap();
    let expected = identity(&|parts| {
        Json::new().fingerprint(parts);
        let none = format!("{:016x}", Fingerprint::new().digest());
        parts.put(
            "converter",
            format!(
                "columns/1 Layout {{ topic: None, partition: None, offset: None, timestamp: None, key: None, key_kind: Null, \
                 headers: None, nested: None }} key:{none}"
            ),
        );
    });
    assert_eq!(identity(&|parts| bare.fingerprint(parts)), expected);
}

/// A field's debug form is nothing to hold on to: it shows whatever fields happen to have.
#[test]
fn kinds_with_fields_are_identified_by_their_digest() {
    let text = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
    let avro = || crate::Avro::fixed(text).build().unwrap();
    let converter = Columns::around(Json::new()).key("k", avro()).header("h", "c", avro()).build().unwrap();
    let mut found = Fingerprint::new();
    converter.fingerprint(&mut found);
    let kind = Schema::new(DataType::Struct(vec![Field::new("a", DataType::Int32)])).digest();
    let mut own = Fingerprint::new();
    avro().fingerprint(&mut own);
    let (kind, own) = (format!("{kind:016x}"), format!("{:016x}", own.digest()));
    let mut expected = Fingerprint::new();
    Json::new().fingerprint(&mut expected);
    expected.put(
        "converter",
        format!(
            "columns/1 Layout {{ topic: None, partition: None, offset: None, timestamp: None, key: Some(\"k\"), key_kind: {kind}, \
             headers: None, nested: None }} key:{own} header:\"h\" \"c\" {kind} {own}"
        ),
    );
    assert_eq!(found, expected);
}
