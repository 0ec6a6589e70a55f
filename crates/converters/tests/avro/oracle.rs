//! `apache-avro` writes and reads; we read the same.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use aqueduct_converters::Avro;
use aqueduct_core::{FieldPath, FieldValue, Fields, JsonRow, StructuredValue};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::generate::{Entropy, Schemas, value};
use super::tree::{Named, Tree, collect, expected, scalar, visited};
use super::{convert, fixed};

struct Case {
    text: String,
    schema: Schema,
    datum: Vec<u8>,
}

/// A schema and a value of it, as another library writes it.
fn case(shape: &[u8], content: &[u8]) -> Case {
    // Three of four are records.
    let shape = match shape {
        [first, rest @ ..] if first % 4 > 0 => [&[31, 4], rest].concat(),
        _ => shape.to_vec(),
    };
    let text = Schemas::default().schema(&mut Entropy(&shape), 4).to_string();
    let schema = Schema::parse_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut named = Named::new();
    collect(&schema, &mut named);
    let value = value(&schema, &named, &mut Entropy(content), 8);
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let mut datum = Vec::new();
    if let Err(error) = writer.write_value_ref(&mut datum, &value) {
        panic!("{error}: {value:?} of {text}");
    }
    Case { text, schema, datum }
}

/// What the other library reads, and the bytes it leaves.
fn theirs(schema: &Schema, mut datum: &[u8]) -> Result<(Tree, usize), String> {
    apache_avro::util::max_allocation_bytes(256 << 20);
    let reader = GenericDatumReader::builder(schema).build().unwrap();
    let value = reader.read_value(&mut datum).map_err(|error| error.to_string())?;
    let mut named = Named::new();
    collect(schema, &mut named);
    Ok((expected(schema, &named, &value), datum.len()))
}

/// Every place a path leads to, with what is there.
fn places(tree: &Tree, path: &str, found: &mut Vec<(String, Tree)>) {
    let members: Vec<(&String, &Tree)> = match tree {
        Tree::Branch(_, inner) => return places(inner, path, found),
        Tree::Struct(members) => members.iter().map(|(name, member)| (name, member)).collect(),
        Tree::Map(entries) => entries.iter().collect(),
        Tree::List(_) | Tree::Scalar(_) => Vec::new(),
    };
    for (name, member) in members {
        if name.is_empty() {
            continue;
        }
        let name = name.replace('\\', "\\\\").replace('.', "\\.");
        let path = if path.is_empty() { name } else { format!("{path}.{name}") };
        let mut inner = member;
        while let Tree::Branch(_, of) = inner {
            inner = of;
        }
        let shown = match inner {
            Tree::Scalar(_) => inner.clone(),
            _ => scalar(&FieldValue::Composite),
        };
        found.push((path.clone(), shown));
        places(member, &path, found);
    }
}

/// What we refuse and they do not: they take an end of the bytes for null where text, a truth value or a branch should be; numbers
/// of more than 64 bits for what is left of them; and have no limits on nesting, on decimals and on what a record unfolds to.
const STRICTER: [&str; 5] = [
    "the bytes end inside of a value",
    "a number of more than 64 bits",
    "nested deeper than",
    "a decimal of more than",
    "it unfolds to more than",
];

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(2_000), ..default }
}

/// Another version of a schema: in every record the fields come the other way round, the second is gone and one is new.
fn evolved(schema: &mut Json) {
    match schema {
        Json::Array(inner) => inner.iter_mut().for_each(evolved),
        Json::Object(object) => {
            if let Some(Json::Array(fields)) = object.get_mut("fields") {
                fields.retain(|field| field["name"] != "f1");
                fields.reverse();
                fields.push(json!({"name": "new", "type": ["null", "string"], "default": "?"}));
            }
            object.values_mut().for_each(evolved);
        }
        _ => {}
    }
}

/// What becomes of a value then.
fn evolved_tree(tree: Tree) -> Tree {
    match tree {
        Tree::Struct(members) => {
            let kept = members.into_iter().filter(|(name, _)| name != "f1").rev();
            let mut members: Vec<_> = kept.map(|(name, member)| (name, evolved_tree(member))).collect();
            members.push(("new".to_owned(), scalar(&FieldValue::Str("?".into()))));
            Tree::Struct(members)
        }
        Tree::Branch(index, inner) => Tree::Branch(index, Box::new(evolved_tree(*inner))),
        Tree::List(items) => Tree::List(items.into_iter().map(evolved_tree).collect()),
        Tree::Map(entries) => {
            Tree::Map(entries.into_iter().map(|(key, it)| (key, evolved_tree(it))).collect())
        }
        scalar @ Tree::Scalar(_) => scalar,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn values_are_read_as_they_were_written(
        shape in proptest::collection::vec(any::<u8>(), 0..60),
        content in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let case = case(&shape, &content);
        let ours = convert(&fixed(&case.text), &case.datum).unwrap_or_else(|poison| panic!("{poison}: {}", case.text));
        let (theirs, left) = theirs(&case.schema, &case.datum).unwrap();
        prop_assert_eq!(left, 0);
        let tree = visited(&ours);
        prop_assert_eq!(&tree, &theirs, "{}", case.text);
        // A path finds what a visitor is given.
        let mut found = Vec::new();
        places(&tree, "", &mut found);
        for (path, expected) in found {
            let field = ours.field(&FieldPath::parse(&path).unwrap());
            prop_assert_eq!(field.as_ref().map(scalar), Some(expected), "{} in {}", path, case.text);
        }
        prop_assert_eq!(ours.field(&FieldPath::parse("not-there.f0").unwrap()), None);
        // And so does JSON, unless there is a time no calendar shows.
        let (mut row, mut other) = (Vec::new(), Vec::new());
        let written = ours.write_json(&mut row);
        prop_assert_eq!(&written, &aqueduct_core::write_json(&ours, &mut other));
        if written.is_ok() {
            prop_assert_eq!(&row, &other);
            prop_assert!(!row.contains(&b'\n'));
            serde_json::from_slice::<serde_json::Value>(&row).unwrap();
        }
        prop_assert!(ours.schema().unwrap().avro().is_some());
    }

    #[test]
    fn damaged_bytes_are_judged_as_others_judge_them(
        shape in proptest::collection::vec(any::<u8>(), 0..60),
        content in proptest::collection::vec(any::<u8>(), 0..200),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..4),
    ) {
        let mut case = case(&shape, &content);
        for (at, kind, byte) in damage {
            let at = at.index(case.datum.len() + 1);
            match kind {
                0 => case.datum.truncate(at),
                1 => case.datum.insert(at, byte),
                2 if at < case.datum.len() => {
                    case.datum.remove(at);
                }
                _ => {
                    if let Some(slot) = case.datum.get_mut(at) {
                        *slot = byte;
                    }
                }
            }
        }
        let ours = convert(&fixed(&case.text), &case.datum);
        match (ours, theirs(&case.schema, &case.datum)) {
            (Ok(ours), theirs) => {
                let (theirs, left) = theirs.map_err(|error| TestCaseError::fail(format!("they: {error}")))?;
                prop_assert_eq!((visited(&ours), left), (theirs, 0), "{}", case.text);
            }
            (Err(poison), Ok((_, 0))) => {
                let stricter = STRICTER.iter().any(|problem| poison.detail().contains(problem));
                prop_assert!(stricter, "{} of {:?} by {}", poison, case.datum, case.text);
            }
            (Err(_), _) => {}
        }
    }

    #[test]
    fn a_reader_with_another_version_sees_that_version(
        shape in proptest::collection::vec(any::<u8>(), 0..60),
        content in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let case = case(&shape, &content);
        let written = visited(&convert(&fixed(&case.text), &case.datum).unwrap());
        let read = |reader: &str| {
            let converter = Avro::fixed(&case.text).reader_schema(reader).build();
            converter.map(|converter| convert(&converter, &case.datum).unwrap())
        };
        prop_assert_eq!(visited(&read(&case.text).unwrap()), written.clone(), "{}", case.text);
        let mut reader: Json = serde_json::from_str(&case.text).unwrap();
        evolved(&mut reader);
        match read(&reader.to_string()) {
            Ok(value) => {
                let expected = evolved_tree(written);
                let mut found = Vec::new();
                places(&expected, "", &mut found);
                prop_assert_eq!(visited(&value), expected, "{} as {}", case.text, reader);
                for (path, expected) in found {
                    let field = value.field(&FieldPath::parse(&path).unwrap());
                    prop_assert_eq!(field.as_ref().map(scalar), Some(expected), "{} in {}", path, case.text);
                }
            }
            // A definition has come to stand behind what refers to it, or has gone.
            Err(refused) => prop_assert!(refused.to_string().contains("not defined"), "{} {}", refused, reader),
        }
    }
}
