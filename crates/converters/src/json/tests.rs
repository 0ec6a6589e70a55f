use std::borrow::Cow;
use std::fmt::Write as _;

use aqueduct_core::SkipReason;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::tests::convert;

fn parse(text: impl AsRef<[u8]>) -> Result<JsonValue, JsonError> {
    JsonValue::parse(Bytes::copy_from_slice(text.as_ref()))
}

fn path(segments: &[String]) -> Option<FieldPath> {
    let escaped: Vec<String> =
        segments.iter().map(|name| name.replace('\\', r"\\").replace('.', r"\.")).collect();
    FieldPath::parse(&escaped.join(".")).ok()
}

/// What `Fields` promises for the value at `path` of a tree.
fn expected<'a>(tree: &'a Value, path: &[String]) -> Option<FieldValue<'a>> {
    let value = path.iter().try_fold(tree, |value, name| value.as_object()?.get(name))?;
    Some(match value {
        Value::Null => FieldValue::Null,
        Value::Bool(truth) => FieldValue::Bool(*truth),
        Value::String(text) => FieldValue::Str(Cow::Borrowed(text)),
        Value::Array(_) | Value::Object(_) => FieldValue::Composite,
        Value::Number(number) => {
            let whole = number.as_i64().map(FieldValue::I64).or_else(|| number.as_u64().map(FieldValue::U64));
            whole.unwrap_or_else(|| FieldValue::F64(number.as_f64().unwrap()))
        }
    })
}

fn nested(levels: usize, open: &str, close: &str) -> String {
    format!("{}0{}", open.repeat(levels), close.repeat(levels))
}

#[test]
fn documents_pass_byte_for_byte() {
    for text in
        ["{}", "[]", "0", "-0.5e+3", "\"\"", "null", r#"{ "b" : 1,"a":[ 1.0 , 1e2 ]}"#, r#""\u00e9é\/""#]
    {
        assert_eq!(parse(text).unwrap().as_bytes(), text.as_bytes());
    }
}

#[test]
fn events_keep_order_names_and_the_spelling_of_numbers() {
    let text = r#" {"b":[1.10,{},[],-0],"a\"":{"b":18446744073709551616,"":null},"b":"\u00e9"} "#;
    let expected = r#"{"b":[1.10,{},[],-0],"a\"":{"b":18446744073709551616,"":null},"b":"é"}"#;
    assert_eq!(events(&parse(text).unwrap()), expected);
}

#[test]
fn a_document_on_one_line_is_not_copied() {
    let bytes = Bytes::from_static(b" \t{\"a\": 1}\r\n");
    let value = JsonValue::parse(bytes.clone()).unwrap();
    assert_eq!(value.as_bytes(), b"{\"a\": 1}");
    assert_eq!(value.as_bytes().as_ptr(), bytes[2..].as_ptr());
    assert_eq!(value.json_bytes().unwrap().as_ptr(), value.row_bytes().as_ptr());
    let mut row = Vec::new();
    value.write_json(&mut row).unwrap();
    assert_eq!(row, value.as_bytes());
    assert_eq!(format!("{value:?}"), "JsonValue { len: 8, .. }", "payloads are never printed");
}

#[test]
fn a_document_on_several_lines_is_compacted() {
    let value = parse("{\n  \"a b\": [1,\r\n 2.50],\t\"c\": \"x \\n \\\" y\"\n}\n").unwrap();
    assert_eq!(value.as_bytes(), br#"{"a b":[1,2.50],"c":"x \n \" y"}"#);
    assert_eq!(value.field(&FieldPath::parse("c").unwrap()), Some(FieldValue::Str("x \n \" y".into())));
}

#[test]
fn hostile_documents_are_poisons_that_show_nothing() {
    for (text, position, problem) in [
        (&b""[..], 0, "empty"),
        (b"  ", 2, "ends where a value"),
        (b"\xEF\xBB\xBF{}", 0, "byte order mark"),
        (b"{} {}", 3, "after the end"),
        (b"1,2", 1, "after the end"),
        (b"{\"a\":1", 6, "ends inside"),
        (b"{\"a\":", 5, "ends where a value"),
        (b"{\"a\"", 4, "colon"),
        (b"{\"a\":1,}", 7, "member's name"),
        (b"[1,]", 3, "expected a value"),
        (b"[1}", 2, "end of the array"),
        (b"{\"a\":1]", 6, "end of the object"),
        (b"{a:1}", 1, "member's name"),
        (b"'x'", 0, "expected a value"),
        (b"\"x", 2, "ends inside a string"),
        (b"\"a\0\"", 2, "control character"),
        (b"\"a\nb\"", 2, "control character"),
        (b"\0", 0, "expected a value"),
        (br#""\x""#, 1, "unknown escape"),
        (br#""ab\u12g4""#, 3, "four hex digits"),
        (br#""\ud800""#, 1, "surrogate"),
        (br#""\ud800\n""#, 1, "surrogate"),
        (br#""\ud800\ud800""#, 1, "surrogate"),
        (br#""\udc00""#, 1, "surrogate"),
        (b"\"a\xff\"", 2, "utf-8"),
        (b"\"long enough for a word \xc3\"", 24, "utf-8"),
        (b"\"\xed\xa0\x80\"", 1, "utf-8"),
        (b"1e400", 0, "out of range"),
        (b"[-1e999]", 1, "out of range"),
        (b"01", 0, "leading zero"),
        (b"-", 1, "digit"),
        (b"1.", 2, "digit"),
        (b"1e", 2, "digit"),
        (b"+1", 0, "expected a value"),
        (b"NaN", 0, "expected a value"),
        (b"nul", 0, "expected a value"),
        (b"{\"secret\":tru}", 10, "expected a value"),
    ] {
        let poison = convert(&Json::new(), Some(text)).unwrap_err();
        assert_eq!(poison.reason(), PoisonReason::Malformed);
        let detail = poison.detail();
        assert!(
            detail.contains(problem) && detail.contains(&format!("at byte {position}:")),
            "{text:?}: {detail}"
        );
        assert!(!detail.contains("secret"));
        assert!(serde_json::from_slice::<Value>(text).is_err(), "{text:?}");
    }
}

#[test]
fn nesting_has_a_limit() {
    let limit = NESTING_MAX as usize;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        assert!(parse(nested(limit, open, close)).is_ok());
        assert!(serde_json::from_str::<Value>(&nested(limit, open, close)).is_ok());
        for levels in [limit + 1, 10_000, 1_000_000] {
            let error = parse(nested(levels, open, close)).unwrap_err();
            assert_eq!(error.position(), limit * open.len());
            assert!(serde_json::from_str::<Value>(&nested(levels, open, close)).is_err());
        }
    }
}

#[test]
fn huge_numbers_agree_with_the_parser_that_will_read_them() {
    let digits = |count| "9".repeat(count);
    for text in [digits(100), digits(101), digits(308), digits(309), digits(5000)] {
        assert_eq!(
            parse(&text).is_ok(),
            serde_json::from_str::<Value>(&text).is_ok(),
            "{} digits",
            text.len()
        );
    }
    for text in ["1e308", "1.8e308", "1e309", "0e99999999999", "1e-99999999999", "1e99999999999", "123e306"] {
        assert_eq!(parse(text).is_ok(), serde_json::from_str::<Value>(text).is_ok(), "{text}");
    }
}

#[test]
fn fields_are_read_by_path() {
    let value = parse(concat!(
        r#"{"a.b":{"c":1},"list":[{"x":1}],"min":-9223372036854775808,"max":18446744073709551615,"#,
        r#""more":18446744073709551616,"zero":-0,"t":true,"n":null,"o":{},"esc\"aped":"\u00e9\n","dup":1,"dup":{"in":2}}"#
    ))
    .unwrap();
    let field = |path: &str| value.field(&FieldPath::parse(path).unwrap());
    assert_eq!(field(r"a\.b.c"), Some(FieldValue::I64(1)));
    assert_eq!(field("a.b"), None);
    assert_eq!(field("list"), Some(FieldValue::Composite));
    assert_eq!(field("list.x"), None, "paths do not lead into arrays");
    assert_eq!(field("min"), Some(FieldValue::I64(i64::MIN)));
    assert_eq!(field("max"), Some(FieldValue::U64(u64::MAX)));
    assert_eq!(field("more"), Some(FieldValue::F64(18_446_744_073_709_551_616.0)));
    assert_eq!(field("zero"), Some(FieldValue::F64(-0.0)));
    assert_eq!((field("t"), field("n")), (Some(FieldValue::Bool(true)), Some(FieldValue::Null)));
    assert_eq!((field("o"), field("o.x"), field("t.x")), (Some(FieldValue::Composite), None, None));
    assert_eq!(field("esc\"aped"), Some(FieldValue::Str("é\n".into())));
    assert_eq!(field("dup.in"), Some(FieldValue::I64(2)), "the last of several counts");
    assert_eq!(parse("[1]").unwrap().field(&FieldPath::parse("a").unwrap()), None);
}

#[test]
fn a_name_with_a_quote_does_not_match_across_members() {
    let value = parse(r#"{"a":"b","c":1}"#).unwrap();
    for name in [r#"a":"b"#, r#"a":"b","c"#, r#"a""#] {
        assert_eq!(value.field(&FieldPath::parse(&name.replace('.', r"\.")).unwrap()), None, "{name}");
    }
}

#[test]
fn documents_with_more_tokens_than_are_noted_are_scanned() {
    let wrap = |members: usize| {
        let mut text = String::from("{");
        for index in 0..members {
            write!(text, r#""m{index}": {{"v": {index}, "w": "}}"}}, "#).unwrap();
        }
        text + r#""last": 1}"#
    };
    // Seven for each member, and four.
    for (members, known) in [(100, true), (584, true), (585, false), (2_000, false)] {
        let text = wrap(members);
        let (value, tree) = (parse(&text).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
        assert_eq!(value.tokens.are_known(), known, "{members}");
        for name in ["m0.v", "m31.w", "m99.w", "m584.v", "m1999", "last"] {
            let path = FieldPath::parse(name).unwrap();
            assert_eq!(value.field(&path), expected(&tree, path.segments()), "{name}");
        }
        assert_eq!(serde_json::from_str::<Value>(&events(&value)).unwrap(), tree);
        assert_eq!(events(&value.clone()), events(&value));
    }
    assert_eq!(JsonValue::null().field(&FieldPath::parse("a").unwrap()), None);
    assert_eq!(events(&JsonValue::null()), "null");
}

/// What a visit gives, as JSON.
fn events(value: &JsonValue) -> String {
    let mut out = Vec::new();
    aqueduct_core::write_json(value, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn tombstones_are_not_empty_values() {
    assert_eq!(convert(&Json::new(), None).unwrap_err().reason(), PoisonReason::NullValue);
    let skipping = Json::new().tombstones(Tombstones::Skip);
    assert_eq!(convert(&skipping, None).unwrap(), Converted::Skip(SkipReason::Tombstone));
    assert_eq!(convert(&skipping, Some(b"")).unwrap_err().reason(), PoisonReason::Malformed);
}

/// A few names, so that members repeat and paths hit; with everything that names can hold.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "ab", "a\"", "\\", "é", "\n", "", "a.b"]).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

/// A document as text, with duplicate names, escapes where none are needed and whitespace between tokens.
fn document() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(|number| format!("{number:e}")),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
    ];
    let leaf = prop_oneof![
        number,
        any::<String>().prop_map(|text| spell(&text, false)),
        any::<String>().prop_map(|text| spell(&text, true)),
        prop::sample::select(vec!["null", "true", "false", "{}", "[ ]", "-0"]).prop_map(str::to_owned),
    ];
    let space = || prop::sample::select(vec!["", "", "", " ", "\n", "\t\r\n  "]);
    leaf.prop_recursive(5, 48, 8, move |inner| {
        let member = (name(), any::<bool>(), inner.clone(), space(), space()).prop_map(
            |(name, escaped, value, before, after)| {
                format!("{before}{}{after}:{before}{value}{after}", spell(&name, escaped))
            },
        );
        prop_oneof![
            3 => prop::collection::vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(","))),
            1 => (prop::collection::vec(inner, 0..5), space())
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(&format!("{space},")))),
        ]
    })
}

fn spell(text: &str, escape_all: bool) -> String {
    if !escape_all {
        return serde_json::to_string(text).unwrap();
    }
    let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{}\"", units.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_judged_as_serde_json_judges_them(bytes: Vec<u8>) {
        prop_assert_eq!(parse(&bytes).is_ok(), serde_json::from_slice::<Value>(&bytes).is_ok());
    }

    #[test]
    fn json_like_bytes_are_judged_as_serde_json_judges_them(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ":", ",", "\"", "\"a\"", "\"a\":", "\\", "\\u", "\\ud83d", "\\ude00", "0", "-", "1", ".",
            "e", "E+", "99", "true", "null", "false", " ", "\n", "\0", "é", "abcdefgh",
        ]), 0..24)
    ) {
        let text = tokens.concat();
        prop_assert_eq!(parse(&text).is_ok(), serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn damaged_documents_are_judged_as_serde_json_judges_them(
        text in document(), at: prop::sample::Index, byte: u8, cut: bool,
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at); } else { bytes[at] = byte; }
        prop_assert_eq!(parse(&bytes).is_ok(), serde_json::from_slice::<Value>(&bytes).is_ok());
    }

    #[test]
    fn every_document_keeps_its_meaning_as_events(text in document()) {
        let Ok(mut value) = parse(&text) else { return Ok(()) };
        let told = events(&value);
        prop_assert_eq!(serde_json::from_str::<Value>(&told).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
        value.tokens = Tokens::default();
        prop_assert_eq!(events(&value), told, "scanned");
    }

    #[test]
    fn every_document_keeps_its_meaning_on_one_line(text in document()) {
        // Random exponents may be out of range for both.
        let tree: Result<Value, _> = serde_json::from_str(&text);
        let value = parse(&text);
        prop_assert_eq!(value.is_ok(), tree.is_ok(), "{}", text);
        if let (Ok(value), Ok(tree)) = (value, tree) {
            prop_assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\n' | b'\r')));
            prop_assert_eq!(serde_json::from_slice::<Value>(value.as_bytes()).unwrap(), tree);
        }
    }

    #[test]
    fn fields_agree_with_a_tree(text in document(), paths in prop::collection::vec(prop::collection::vec(name(), 1..5), 8)) {
        let (Ok(value), Ok(tree)) = (parse(&text), serde_json::from_str::<Value>(&text)) else { return Ok(()) };
        for segments in paths {
            let Some(path) = path(&segments) else { continue };
            let wanted = expected(&tree, &segments);
            prop_assert_eq!(value.field(&path), wanted.clone(), "{} in {}", path, text);
            let scanned = lookup::scan(value.as_bytes(), path.segments());
            prop_assert_eq!(scanned, wanted, "scanning for {} in {}", path, text);
        }
    }
}
