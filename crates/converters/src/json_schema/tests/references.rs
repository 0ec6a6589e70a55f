//! What a `$ref` leads to, in the schema and in those that it refers to.

use std::time::{Duration, Instant};

use super::*;
use crate::registry::Reference;

fn with(text: impl Into<String>, references: &[(&str, &str)]) -> RegisteredSchema {
    let mut schema = RegisteredSchema::new(1, SchemaKind::Json, text);
    schema.references = references
        .iter()
        .map(|(name, text)| Reference {
            name: (*name).to_owned(),
            subject: "any".to_owned(),
            version: 1,
            text: (*text).to_owned(),
        })
        .collect();
    schema
}

fn read(text: impl Into<String>, references: &[(&str, &str)]) -> String {
    schema::registered(&with(text, references), None)
        .map_or_else(|error| error, |parsed| parsed.schema.to_string())
}

/// An object of one member that refers to something.
fn refers(to: &str) -> String {
    format!(r#"{{"type":"object","properties":{{"a":{{"$ref":"{to}"}}}}}}"#)
}

const ITEM: &str = r##"{"type":"object","properties":{"n":{"type":"integer"},"unit":{"$ref":"#/definitions/unit"}},
    "definitions":{"unit":{"type":"string"},"a b":{"type":"boolean"}}}"##;

#[test]
fn references_lead_into_what_the_registry_lists() {
    let item = "struct{a:struct{n:int64?,unit:string?}?}";
    for (to, name, columns) in [
        ("item.json", "item.json", item),
        ("item.json#", "item.json", item),
        ("./item.json", "item.json", item),
        ("item.json#/definitions/unit", "item.json", "struct{a:string?}"),
        ("item.json#/definitions/a%20b", "item.json", "struct{a:bool?}"),
        ("https://x.example/s/item.json", "https://x.example/s/item.json", item),
        ("urn:shop:item", "urn:shop:item", item),
        ("com.shop.Item", "com.shop.Item", item),
        // What the registry does not have, or has no such place.
        ("other.json", "item.json", "struct{a:json?}"),
        ("item.json#/definitions/none", "item.json", "struct{a:json?}"),
        ("item.json#anchor", "item.json", "struct{a:json?}"),
        ("https://x.example/item.json", "item.json", "struct{a:json?}"),
        ("http://[", "item.json", "struct{a:json?}"),
    ] {
        assert_eq!(read(refers(to), &[(name, ITEM)]), columns, "{to}");
    }
}

#[test]
fn references_and_names_are_relative_to_the_id_around_them() {
    let order = |to: &str| format!(r#"{{"$id":"https://x.example/a/order.json",{}"#, &refers(to)[1..]);
    for (to, name) in [
        ("item.json", "item.json"),
        ("https://x.example/a/item.json", "item.json"),
        ("item.json", "https://x.example/a/item.json"),
        ("../b/item.json", "/b/item.json"),
        ("/b/item.json", "../b/item.json"),
    ] {
        assert_eq!(read(order(to), &[(name, r#"{"type":"integer"}"#)]), "struct{a:int64?}", "{to} {name}");
    }
    // A document's own `$id` comes before what it is called, and what it refers to is relative to it.
    let line = r#"{"$id":"https://y.example/line.json","type":"array","items":{"$ref":"unit.json"}}"#;
    let unit = r#"{"$id":"https://y.example/unit.json","type":"string"}"#;
    let both = [("first", line), ("second", unit)];
    assert_eq!(read(refers("first"), &both), "struct{a:list<string>?}");
    assert_eq!(read(refers("https://y.example/line.json"), &both), "struct{a:list<string>?}");
    // The name alone is enough where nothing has that URI.
    let line = r#"{"$id":"https://y.example/line.json","type":"array","items":{"$ref":"unit.json"}}"#;
    let both = [("line.json", line), ("unit.json", r#"{"type":"string"}"#)];
    assert_eq!(read(refers("line.json"), &both), "struct{a:list<string>?}");
}

#[test]
fn parts_of_documents_have_names_too() {
    for (text, columns) in [
        (r##"{"$ref":"#here","$defs":{"x":{"$anchor":"here","type":"integer"}}}"##, "int64"),
        (r##"{"$ref":"#here","definitions":{"x":{"$id":"#here","type":"integer"}}}"##, "int64"),
        (r#"{"$ref":"part.json","$defs":{"x":{"$id":"part.json","type":"integer"}}}"#, "int64"),
        // Relative to the part, and of one that is reached by a pointer.
        (
            r##"{"$ref":"part.json","$defs":{"x":{"$id":"part.json","$ref":"#/$defs/y","$defs":{"y":{"type":"integer"}}},"y":{"type":"string"}}}"##,
            "int64",
        ),
        (
            r##"{"$ref":"#/$defs/x/$defs/z","$defs":{"x":{"$id":"part.json","$defs":{"y":{"type":"integer"},"z":{"$ref":"#/$defs/y"}}}}}"##,
            "int64",
        ),
        (
            r##"{"properties":{"a":{"$id":"part.json","properties":{"b":{"$ref":"#/$defs/y"}},"$defs":{"y":{"type":"integer"}}}},"$defs":{"y":{"type":"string"}}}"##,
            "struct{a:struct{b:int64?}?}",
        ),
        // What generators write: an id for each part, and pointers into the whole.
        (
            r##"{"properties":{"a":{"$id":"/properties/a","$ref":"#/definitions/x"}},"definitions":{"x":{"type":"integer"}}}"##,
            "struct{a:int64?}",
        ),
        (r##"{"properties":{"a":{"$id":"#/properties/a","type":"integer"}}}"##, "struct{a:int64?}"),
        // Draft 4 has another word for it, which later ones have as a property's name only.
        (
            r#"{"$schema":"http://json-schema.org/draft-04/schema#","$ref":"part.json","definitions":{"x":{"id":"part.json","type":"integer"}}}"#,
            "int64",
        ),
        (r#"{"$ref":"part.json","$defs":{"x":{"id":"part.json","type":"integer"}}}"#, "json?"),
        (
            r#"{"properties":{"$id":{"type":"integer"},"id":{"type":"integer"}},"title":"T"}"#,
            "T struct{$id:int64?,id:int64?}",
        ),
        // Values are no schemas.
        (r#"{"$ref":"part.json","$defs":{"x":{"const":{"$id":"part.json","type":"integer"}}}}"#, "json?"),
        (r#"{"$ref":"part.json","$defs":{"default":{"$id":"part.json","type":"integer"}}}"#, "int64"),
    ] {
        assert_eq!(schema(text), columns, "{text}");
    }
    // The schema's own comes before what others call the same.
    let own = r#"{"$ref":"part.json","$defs":{"x":{"$id":"part.json","type":"integer"}}}"#;
    assert_eq!(read(own, &[("part.json", r#"{"type":"string"}"#)]), "int64");
}

#[test]
fn circles_over_documents_end_in_json() {
    let node = r#"{"type":"object","properties":{"value":{"type":"integer"},"next":{"$ref":"list.json"}}}"#;
    let list = r#"{"type":"array","items":{"$ref":"node.json"}}"#;
    let references = [("node.json", node), ("list.json", list)];
    assert_eq!(read(refers("node.json"), &references), "struct{a:struct{value:int64?,next:list<json?>?}?}");
    assert_eq!(read(r#"{"$ref":"a"}"#, &[("a", r#"{"$ref":"b"}"#), ("b", r#"{"$ref":"a"}"#)]), "json?");
    assert_eq!(read(r#"{"$ref":"a"}"#, &[("a", r#"{"$ref":"a"}"#)]), "json?");
    // Twice is no circle.
    let twice = r#"{"properties":{"a":{"$ref":"item"},"b":{"$ref":"item"}}}"#;
    assert_eq!(read(twice, &[("item", r#"{"type":"integer"}"#)]), "struct{a:int64?,b:int64?}");
}

#[test]
fn documents_and_what_they_repeat_have_limits() {
    let started = Instant::now();
    let at = |bytes: usize| format!(r#"{{"type":"integer"}}{}"#, " ".repeat(bytes - 18));
    assert_eq!(read(refers("x"), &[("x", &at((1 << 20) - refers("x").len() - 1))]), "struct{a:int64?}");
    assert!(read(refers("x"), &[("x", &at((1 << 20) - refers("x").len()))]).contains("the limit is 1048576"));

    // Each of 20 documents twice refers to the next.
    let names: Vec<String> = (0..=20).map(|index| format!("d{index}")).collect();
    let texts: Vec<String> = names[1..]
        .iter()
        .map(|next| format!(r#"{{"properties":{{"a":{{"$ref":"{next}"}},"b":{{"$ref":"{next}"}}}}}}"#))
        .collect();
    let references: Vec<_> =
        names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(read(refers("d0"), &references), "it has more than 10000 fields");

    // A name of 100 KB, 900 times.
    let long = format!(r#"{{"properties":{{"{}":{{"type":"integer"}}}}}}"#, "n".repeat(100_000));
    let many: Vec<String> = (0..900).map(|index| format!(r#""p{index}":{{"$ref":"long"}}"#)).collect();
    let said = read(format!(r#"{{"properties":{{{}}}}}"#, many.join(",")), &[("long", &long)]);
    assert_eq!(said, "with all that references repeat it has more than 4194304 bytes of names");

    let parts = |count: usize| -> String {
        let parts: Vec<String> =
            (0..count).map(|index| format!(r#""p{index}":{{"$id":"part{index}"}}"#)).collect();
        format!(r#"{{"type":"integer","$defs":{{{}}}}}"#, parts.join(","))
    };
    assert_eq!(schema(&parts(999)), "int64");
    assert!(schema(&parts(1_000)).contains("more than 1000 documents"));
    // An id that is too long is none.
    let deep =
        format!(r#"{{"$ref":"{0}","$defs":{{"x":{{"$id":"{0}","type":"integer"}}}}}}"#, "i".repeat(3_000));
    assert_eq!(schema(&deep), "json?");
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());

    let said = read(refers("x"), &[("x", "[")]);
    assert!(said.starts_with("what it refers to as \"x\" is no json: EOF"), "{said}");
}

/// What takes no bytes takes memory, and time to look through.
#[test]
fn what_references_repeat_without_a_byte_has_limits() {
    let list = |entry: &str| vec![entry; 10_000].join(",");
    let members: Vec<String> = (0..10_000).map(|index| format!(r#""m{index}":0"#)).collect();
    let types = list("\"integer\"");
    for repeated in [
        format!(r#"{{"enum":[{}]}}"#, list(r#""""#)),
        format!(r#"{{"enum":[{}]}}"#, list("0")),
        format!("{{{}}}", members.join(",")),
        format!(r#"{{"type":[{types}]}}"#),
        format!(r#"{{"properties":{{"a":{{}}}},"required":[{}]}}"#, list(r#""""#)),
        format!(r#"{{"oneOf":[{}]}}"#, list(r#"{"type":"null"}"#)),
    ] {
        let refers = |times: usize| {
            let refers: Vec<String> =
                (0..times).map(|index| format!(r#""p{index}":{{"$ref":"x"}}"#)).collect();
            read(format!(r#"{{"properties":{{{}}}}}"#, refers.join(",")), &[("x", &repeated)])
        };
        assert!(refers(10).starts_with("struct{p0:"), "{repeated:.80}");
        let said = refers(450);
        assert!(said.contains("more than 4194304 bytes of names"), "{repeated:.80}: {said:.200}");
    }
}

#[tokio::test]
async fn values_are_read_with_what_their_schema_refers_to() {
    let order = with(
        r#"{"type":"object","properties":{"day":{"$ref":"day.json"},"items":{"type":"array","items":{"$ref":"item.json"}}}}"#,
        &[("day.json", r#"{"type":"string","format":"date"}"#), ("item.json", ITEM)],
    );
    let converter = JsonSchema::with_registry(FixedSchemas::new().with_schema(order));
    let framed = |payload: &str| [b"\0\0\0\0\x01", payload.as_bytes()].concat();
    let value =
        converted(&converter, Some(&framed(r#"{"day":"2021-06-28","items":[{"n":1,"unit":"kg"}]}"#))).await;
    let Ok(Converted::Emit(value)) = value else { panic!("an order") };
    assert_eq!(
        value.schema().unwrap().to_string(),
        "struct{day:date?,items:list<struct{n:int64?,unit:string?}>?}"
    );
    assert_eq!(value.field(&FieldPath::parse("day").unwrap()), Some(FieldValue::Date(18_806)));
    let said = converted(&converter, Some(&framed(r#"{"items":[{"n":"x"}]}"#))).await.unwrap_err();
    assert!(said.contains("items[0].n: expected a whole number"), "{said}");
}

proptest! {
    /// Whatever stands in a reference, an id or a name: columns, or words.
    #[test]
    fn any_reference_is_followed_or_not(
        id in "[a-c:/#.%~ ]{0,12}", name in "[a-c:/#.%~ ]{0,12}", to in "[a-c:/#.%~0-1$ ]{0,16}", inner in "[a-c:/#.%~ ]{0,12}"
    ) {
        let text = serde_json::json!({"$id": id, "properties": {"a": {"$ref": to}, "b": {"$ref": name}, "c": {"$ref": inner}},
            "$defs": {"a": {"$id": inner, "$ref": "#/$defs/b", "$defs": {"b": {"type": "integer"}}}}});
        let columns = read(text.to_string(), &[(&name, r#"{"type":"integer"}"#)]);
        prop_assert!(columns.starts_with("struct{a:"), "{}", columns);
    }
}
