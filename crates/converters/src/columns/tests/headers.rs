//! Headers, each with a converter of its own.

use aqueduct_core::{SkipReason, StructuredValue};
use proptest::prelude::*;

use super::*;
use crate::{AnyValue, Cbor};

fn row_of(converter: &impl Converter<Output: JsonRow>, headers: &[Header<'_>]) -> String {
    converted(converter, None, Some(b"{}"), headers).map_or_else(|said| said, |value| json(&value))
}

#[test]
fn each_header_has_its_own_converter_and_the_last_of_a_name_counts() {
    let converter = Columns::around(Json::new())
        .header("trace", "trace_id", Utf8::new())
        .header("retries", "retries", Primitive::integer())
        .header("body", "doc", Json::new())
        .build()
        .unwrap();
    let headers: [Header<'_>; 5] = [
        ("trace", Some(b"first")),
        ("body", Some(br#"{"a":{"b":[1]}}"#)),
        ("other", Some(b"\xff")),
        ("retries", Some(b"\0\0\0\x07")),
        ("trace", Some(b"last")),
    ];
    let expected = r#"{"trace_id":"last","retries":7,"doc":{"a":{"b":[1]}}}"#;
    assert_eq!(row_of(&converter, &headers), expected);
    // Absent, without a value, and an empty one, which is a value.
    assert_eq!(row_of(&converter, &[]), r#"{"trace_id":null,"retries":null,"doc":null}"#);
    let headers: [Header<'_>; 3] = [("trace", Some(b"x")), ("trace", None), ("retries", None)];
    assert_eq!(row_of(&converter, &headers), r#"{"trace_id":null,"retries":null,"doc":null}"#);
    assert!(row_of(&converter, &[("trace", Some(b""))]).starts_with(r#"{"trace_id":"","#));

    let value = converted(&converter, None, Some(b"{}"), &[("body", Some(br#"{"a":{"b":5}}"#))]).unwrap();
    let field = |path: &str| value.field(&FieldPath::parse(path).unwrap());
    assert_eq!(field("doc.a.b"), Some(FieldValue::I64(5)));
    assert_eq!((field("doc"), field("trace_id")), (Some(FieldValue::Composite), Some(FieldValue::Null)));
    assert_eq!((field("trace_id.x"), field("body")), (None, None));
    assert!(value.header("doc").is_some() && value.header("trace_id").is_none());
}

#[test]
fn a_bad_header_says_its_name_and_that_it_is_one() {
    let long = "n".repeat(500);
    let converter = Columns::around(Json::new())
        .headers_with("all", Utf8::new())
        .header("n", "one", Primitive::long())
        .build()
        .unwrap();
    let poison = |headers: &[Header<'_>]| outcome(&converter, None, Some(b"{}"), headers).unwrap_err();
    let said = poison(&[("a", Some(b"ok")), ("b", Some(b"\xff"))]);
    assert_eq!((said.part(), said.reason()), (PoisonPart::Header, PoisonReason::Malformed));
    assert!(said.detail().starts_with("the header \"b\": not valid utf-8 at byte 0"), "{said}");
    let said = poison(&[("n", Some(b"hunter2"))]);
    assert_eq!(said.part(), PoisonPart::Header);
    assert!(said.detail().starts_with("the header \"n\": ") && !said.detail().contains("hunter2"), "{said}");
    // A name leaves room for the reason.
    let said = poison(&[(&long, Some(b"\xff"))]);
    assert!(said.detail().contains("not valid utf-8") && said.detail().len() < 300, "{said}");
    assert_eq!(outcome(&converter, None, Some(b"{"), &[]).unwrap_err().part(), PoisonPart::Value);
}

#[test]
fn a_header_that_is_skipped_skips_the_record() {
    use aqueduct_core::ConverterExt as _;
    let short = Utf8::new().map("any", AnyValue::from).filter("short", |text| format!("{text:?}").len() < 10);
    let columns = Columns::around(Json::new());
    for converter in [columns.clone().headers_with("h", short), columns.header("h", "h", Filtered)] {
        let converter = converter.build().unwrap();
        let skipped = outcome(&converter, None, Some(b"{}"), &[("h", Some(b"x"))]).unwrap();
        assert_eq!(skipped, Converted::Skip(SkipReason::Filtered));
        assert!(matches!(outcome(&converter, None, Some(b"{}"), &[]), Ok(Converted::Emit(_))));
    }
}

struct Filtered;

impl Converter for Filtered {
    type Output = AnyValue;

    fn convert(&self, _: &Record<'_>) -> Result<Converted<AnyValue>, Poison> {
        Ok(Converted::Skip(SkipReason::Filtered))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "filtered/1");
    }
}

fn schema_of<V: StructuredValue>(value: &WithColumns<V>) -> String {
    value.schema().unwrap().to_string()
}

#[test]
fn columns_are_of_the_kind_that_converters_know_beforehand() {
    let avro = || crate::Avro::fixed(r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#);
    let proto = || crate::Protobuf::proto(r#"syntax = "proto3"; message M { int32 a = 1; }"#, "M").unwrap();
    let converter = Columns::around(Primitive::integer())
        .key("key", avro().build().unwrap())
        .headers_with("all", avro().build().unwrap())
        .header("a", "avro", avro().build().unwrap())
        .header("p", "proto", proto())
        .header("t", "text", Utf8::new())
        .header("b", "bytes", RawBytes::new())
        .header("n", "number", Primitive::short())
        .header("c", "cbor", Cbor::new())
        .build()
        .unwrap();
    let record = |headers: &[Header<'_>]| converted(&converter, None, Some(&[0; 4]), headers).unwrap();
    let schema = "struct{value:int32,key:struct{a:int32}?,all:list<struct{key:string,value:struct{a:int32}?}>,\
        avro:struct{a:int32}?,proto:struct{a:int32}?,text:string?,bytes:bytes?,number:int16?,cbor:json?}";
    let without = record(&[]);
    assert_eq!(schema_of(&without), schema);
    let with = record(&[("a", Some(b"\x02"))]);
    assert_eq!(with.schema().map(|it| it.digest()), without.schema().map(|it| it.digest()));
    assert!(json(&with).contains(r#""all":[{"key":"a","value":{"a":1}}],"avro":{"a":1}"#), "{}", json(&with));
}

#[test]
fn schemas_of_headers_are_part_of_the_row_s_and_made_once() {
    let converter = Columns::around(Primitive::integer())
        .header("c", "c", crate::ConnectJson::new())
        .header("d", "d", crate::ConnectJson::new())
        .build()
        .unwrap();
    let envelope = |kind: &str| format!(r#"{{"schema":{{"type":"{kind}"}},"payload":1}}"#);
    let (int8, int16) = (envelope("int8"), envelope("int16"));
    let schema = |headers: &[Header<'_>]| {
        let value = converted(&converter, None, Some(&[0; 4]), headers).unwrap();
        Arc::clone(value.schema().unwrap())
    };
    let c = |text: &'static str| -> Header<'static> { ("c", Some(text.as_bytes())) };
    let (int8, int16): (&'static str, &'static str) = (int8.leak(), int16.leak());
    for (headers, shown) in [
        (vec![], "c:json?,d:json?"),
        (vec![c(int8)], "c:int8?,d:json?"),
        (vec![c(int16)], "c:int16?,d:json?"),
        (vec![("d", Some(int8.as_bytes()))], "c:json?,d:int8?"),
        (vec![c(int16), ("d", Some(int8.as_bytes()))], "c:int16?,d:int8?"),
    ] {
        let one = schema(&headers);
        assert_eq!(one.to_string(), format!("struct{{value:int32,{shown}}}"));
        assert!(Arc::ptr_eq(&one, &schema(&headers)));
    }
}

#[test]
fn names_of_header_columns_are_columns_names() {
    let columns = || Columns::around(Json::new()).header("h", "x", Utf8::new());
    let said = columns().topic("x").build().unwrap_err().to_string();
    assert!(said.contains("two columns are called \"x\""), "{said}");
    let said = columns().header("i", "x", Utf8::new()).build().unwrap_err().to_string();
    assert!(said.contains("two columns are called \"x\""), "{said}");
    let converter = columns().build().unwrap();
    let value = converted(&converter, None, Some(br#"{"x":1}"#), &[]).unwrap();
    assert!(json(&value).contains("the value has a member \"x\""));
    let nested = columns().nested("h").build().unwrap();
    let value = converted(&nested, None, Some(br#"{"x":1}"#), &[]).unwrap();
    assert_eq!(json(&value), r#"{"h":{"x":1},"x":null}"#);
}

#[test]
fn converters_of_headers_are_part_of_the_identity() {
    let columns = || Columns::around(Json::new());
    let all = [
        columns().build(),
        columns().headers("h", HeaderValues::Text).build(),
        columns().headers_with("h", Utf8::new()).build(),
        columns().headers_with("h", Json::new()).build(),
        columns().header("h", "h", Utf8::new()).build(),
        columns().header("h", "i", Utf8::new()).build(),
        columns().header("i", "h", Utf8::new()).build(),
        columns().header("h", "h", Json::new()).build(),
        columns().header("h", "h", Utf8::new()).header("i", "i", Utf8::new()).build(),
        columns().header("i", "i", Utf8::new()).header("h", "h", Utf8::new()).build(),
    ];
    let all: Vec<_> = all.map(|it| crate::tests::fingerprint(&it.unwrap()).digest()).into();
    assert!(all.iter().enumerate().all(|(index, digest)| !all[..index].contains(digest)));
}

#[test]
fn no_header_makes_a_row_too_deep() {
    let lists = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let converter = Columns::around(Json::new())
        .headers_with("all", Json::new())
        .header("h", "h", Json::new())
        .build()
        .unwrap();
    let deepest = |headers: &[Header<'_>]| {
        let mut depth = Depth::default();
        let value = converted(&converter, None, Some(b"{}"), headers).unwrap();
        value.visit(&mut depth).map(|()| depth.most)
    };
    assert_eq!(deepest(&[("h", Some(lists(125).as_bytes()))]), Ok(128));
    let poison = deepest(&[("h", Some(lists(126).as_bytes()))]).unwrap_err();
    assert_eq!(poison.reason(), PoisonReason::TooLarge);
}

proptest! {
    /// Any headers: the list has all of them in order, and a column the last of its name.
    #[test]
    fn any_headers_are_a_row_or_a_poison_of_a_header(
        headers in prop::collection::vec(
            (prop_oneof![Just("a".to_owned()), Just("b".to_owned()), any::<String>()], any::<Option<Vec<u8>>>()), 0..8
        ),
        text: bool,
    ) {
        let (list, a) = (Columns::around(Json::new()), Utf8::new());
        let list = if text { list.headers_with("all", Utf8::new()) } else { list.headers_with("all", RawBytes::new()) };
        let converter = list.header("a", "one", a).build().unwrap();
        let given: Vec<Header<'_>> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let last = headers.iter().rfind(|(name, _)| name == "a").and_then(|(_, value)| value.as_deref());
        let is_text = |value: &[u8]| std::str::from_utf8(value).is_ok();
        let all_text = headers.iter().all(|(_, value)| value.as_deref().is_none_or(is_text));
        match outcome(&converter, None, Some(b"{}"), &given) {
            Ok(Converted::Emit(value)) => {
                prop_assert!((!text || all_text) && last.is_none_or(is_text));
                let row: serde_json::Value = serde_json::from_str(&json(&value)).unwrap();
                prop_assert_eq!(row["one"].as_str().map(str::as_bytes), last);
                let listed = row["all"].as_array().unwrap();
                prop_assert_eq!(listed.len(), headers.len());
                for (listed, (name, value)) in listed.iter().zip(&headers) {
                    prop_assert_eq!(listed["key"].as_str(), Some(name.as_str()));
                    prop_assert_eq!(listed["value"].is_null(), value.is_none());
                    if text {
                        prop_assert_eq!(listed["value"].as_str().map(str::as_bytes), value.as_deref());
                    }
                }
            }
            Ok(Converted::Skip(_)) => prop_assert!(false, "nothing is skipped"),
            Err(poison) => {
                prop_assert!((text && !all_text) || !last.is_none_or(is_text));
                prop_assert_eq!(poison.part(), PoisonPart::Header);
            }
        }
    }
}
