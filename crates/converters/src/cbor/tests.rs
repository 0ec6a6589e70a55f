use aqueduct_core::{Converted, Decimal, Poison, PoisonReason, SkipReason, TimeUnit};
use ciborium::Value;
use proptest::prelude::*;
use proptest::sample::Index;

use aqueduct_core::{FieldPath, FieldValue, Fields, JsonRow, ValueVisitor};

use super::*;
use crate::tests::{convert, fingerprint};
use crate::tokens;

fn parsed(bytes: &[u8]) -> Result<CborValue, Poison> {
    CborValue::parse(Bytes::copy_from_slice(bytes))
}

fn json(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    parsed(bytes).unwrap().write_json(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    // RFC 8949, appendix A.
    for (encoded, text) in [
        ("00", "0"),
        ("1818", "24"),
        ("1bffffffffffffffff", "18446744073709551615"),
        ("c249010000000000000000", "18446744073709551616"),
        ("3bffffffffffffffff", "-18446744073709551616"),
        ("c349010000000000000000", "-18446744073709551617"),
        ("3903e7", "-1000"),
        ("f90000", "0.0"),
        ("f98000", "-0.0"),
        ("f93c00", "1.0"),
        ("fb3ff199999999999a", "1.1"),
        ("f97bff", "65504.0"),
        ("fa47c35000", "100000.0"),
        ("f90001", "5.960464477539063e-8"),
        ("f90400", "6.103515625e-5"),
        ("f9c400", "-4.0"),
        ("f97c00", "\"Infinity\""),
        ("f97e00", "\"NaN\""),
        ("f9fc00", "\"-Infinity\""),
        ("f4", "false"),
        ("f6", "null"),
        ("f7", "null"),
        ("c074323031332d30332d32315432303a30343a30305a", "\"2013-03-21T20:04:00.000000Z\""),
        ("c11a514b67b0", "\"2013-03-21T20:04:00.000000Z\""),
        ("c1fb41d452d9ec200000", "\"2013-03-21T20:04:00.500000Z\""),
        ("d74401020304", "\"AQIDBA==\""),
        ("c48221196ab3", "273.15"),
        ("8301820203820405", "[1,[2,3],[4,5]]"),
        ("a201020304", r#"{"1":2,"3":4}"#),
        ("5f42010243030405ff", "\"AQIDBAU=\""),
        ("7f657374726561646d696e67ff", "\"streaming\""),
        ("9f018202039f0405ffff", "[1,[2,3],[4,5]]"),
        ("bf61610161629f0203ffff", r#"{"a":1,"b":[2,3]}"#),
        ("826161bf61626163ff", r#"["a",{"b":"c"}]"#),
    ] {
        assert_eq!(json(&hex(encoded)), text, "{encoded}");
    }
}

#[test]
fn tags_say_what_a_value_is() {
    let root = |encoded: &str| {
        let value = parsed(&hex(encoded)).unwrap();
        let token = tokens::Tokens::token(&mut <Reader<'_> as tokens::Tokens<'_>>::new(&value.bytes));
        match token.unwrap() {
            tokens::Token::Scalar(scalar) => format!("{scalar:?}"),
            other => panic!("{other:?}"),
        }
    };
    let time = |count| format!("{:?}", FieldValue::Timestamp { count, unit: TimeUnit::Micros, utc: true });
    // -1.5 seconds, and a moment before 1970 with nanoseconds.
    assert_eq!(root("c1f9be00"), time(-1_500_000));
    let mut early = vec![0xc0, 0x78, 30];
    early.extend_from_slice(b"1969-12-31T23:59:59.123456789Z");
    let shown: Vec<String> = early.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(root(&shown.concat()), time(-876_544));
    assert_eq!(
        root("d82550000102030405060708090a0b0c0d0e0f"),
        format!("{:?}", FieldValue::Uuid(*b"\0\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f"))
    );
    assert_eq!(root("c4820203"), format!("{:?}", FieldValue::Decimal(Decimal::from_i128(300, 0))));
    assert_eq!(json(&hex("c48221c24103")), "0.03");
}

#[test]
fn the_calendar_has_its_last_day_and_its_first() {
    let seconds = |seconds: i64| match u64::try_from(seconds) {
        Ok(up) => [&[0xc1, 0x1b][..], &up.to_be_bytes()].concat(),
        Err(_) => [&[0xc1, 0x3b][..], &(!seconds).to_be_bytes()].concat(),
    };
    let float = |seconds: f64| [&[0xc1, 0xfb][..], &seconds.to_be_bytes()].concat();
    let text = |text: &str| [&[0xc0, 0x78, u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    for (encoded, shown) in [
        (seconds(253_402_300_799), "9999-12-31T23:59:59.000000Z"),
        (seconds(-377_705_116_800), "-009999-01-01T00:00:00.000000Z"),
        (float(253_402_300_799.5), "9999-12-31T23:59:59.500000Z"),
        (text("9999-12-31T23:59:59.999999Z"), "9999-12-31T23:59:59.999999Z"),
        (text("9999-12-31T22:59:59.999999999-01:00"), "9999-12-31T23:59:59.999999Z"),
        (text("0001-01-01T00:00:00Z"), "0001-01-01T00:00:00.000000Z"),
        (text("-009999-01-01T00:00:00Z"), "-009999-01-01T00:00:00.000000Z"),
    ] {
        parsed(&encoded).unwrap();
        assert_eq!(json(&encoded), format!("\"{shown}\""));
    }
    for beyond in [
        seconds(253_402_300_800),
        seconds(-377_705_116_801),
        seconds(i64::MAX),
        seconds(i64::MIN),
        float(253_402_300_800.0),
        float(-377_705_116_801.0),
        float(f64::MAX),
        float(f64::NAN),
        text("9999-12-31T23:59:59-00:01"),
        text("-009999-01-01T00:00:00+00:01"),
        text("+010000-01-01T00:00:00Z"),
        text("9999-12-31T23:59:59"),
    ] {
        assert_eq!(parsed(&beyond).unwrap_err().reason(), PoisonReason::Malformed, "{beyond:02x?}");
    }
}

#[test]
fn limits_hold_at_the_limit_and_one_past_it() {
    let nested = |levels: usize, inner: &[u8]| [vec![0x81; levels], inner.to_vec()].concat();
    parsed(&nested(128, &[0])).unwrap();
    assert_eq!(parsed(&nested(128, &[0x80])).unwrap_err().reason(), PoisonReason::TooLarge);
    let big = |bytes: u8| [&[0xc2, 0x58, bytes][..], &vec![0xff; usize::from(bytes)]].concat();
    parsed(&big(64)).unwrap();
    assert_eq!(parsed(&big(65)).unwrap_err().reason(), PoisonReason::TooLarge);
    parsed(&hex("c482384b01")).unwrap();
    assert_eq!(parsed(&hex("c482384c01")).unwrap_err().reason(), PoisonReason::TooLarge);
    assert_eq!(parsed(&hex("c482182701")).unwrap_err().reason(), PoisonReason::TooLarge);
    parsed(&hex("c482182601")).unwrap();
}

#[test]
fn keys_come_once() {
    for twice in
        ["a2616100616101", "a20100613102", "bf0100182a000101ff", "a2c2410100010 1".replace(' ', "").as_str()]
    {
        let poison = parsed(&hex(twice)).unwrap_err();
        assert!(poison.detail().contains("key twice"), "{twice}: {poison}");
    }
    // The same key in two maps, one within the other, is none that comes twice.
    assert_eq!(json(&hex("a26161a1616101616203")), r#"{"a":{"a":1},"b":3}"#);
}

#[test]
fn fields_are_found_by_path() {
    let value = parsed(&hex("bf6161a2016162616382f5f4613a7f61786179ffff")).unwrap();
    let field = |path: &str| value.field(&FieldPath::parse(path).unwrap());
    assert_eq!(field("a.1"), Some(FieldValue::Str("b".into())));
    assert_eq!(field("a.c"), Some(FieldValue::Composite));
    assert_eq!(field("a"), Some(FieldValue::Composite));
    assert_eq!(field(":"), Some(FieldValue::Str("xy".into())));
    assert_eq!(field("b").or(field("a.1.x")).or(field("a.c.x")).or(field("a.d")), None);
}

#[test]
fn tombstones_follow_the_option() {
    let cbor = |tombstones| Cbor::new().tombstones(tombstones);
    assert_eq!(convert(&cbor(Tombstones::Poison), None).unwrap_err().reason(), PoisonReason::NullValue);
    assert_eq!(convert(&cbor(Tombstones::Skip), None).unwrap(), Converted::Skip(SkipReason::Tombstone));
    let null = convert(&cbor(Tombstones::Null), None).unwrap();
    assert_eq!(null, Converted::Emit(parsed(&[0xf6]).unwrap()));
    assert_ne!(fingerprint(&cbor(Tombstones::Null)), fingerprint(&cbor(Tombstones::Skip)));
}

/// What `ciborium` reads, as JSON by an independent way.
fn oracle(value: &Value) -> serde_json::Value {
    match value {
        Value::Integer(number) => {
            let number = i128::from(*number);
            i64::try_from(number).map(Into::into).or_else(|_| u64::try_from(number).map(Into::into)).unwrap()
        }
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Bytes(bytes) => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(bytes).into()
        }
        Value::Bool(it) => (*it).into(),
        Value::Null => serde_json::Value::Null,
        Value::Array(items) => items.iter().map(oracle).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| {
                let key = key.as_text().map_or_else(|| oracle(key).to_string(), str::to_owned);
                (key, oracle(value))
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => panic!("not made here"),
    }
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|it| Value::Integer(it.into())),
        any::<u64>().prop_map(|it| Value::Integer(it.into())),
        any::<i32>().prop_map(|it| Value::Float(f64::from(it) / 8.0)),
        any::<String>().prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(4, 60, 30, |inner| {
        let key = prop_oneof![
            any::<String>().prop_map(|it| Value::Text(format!("k{it}"))),
            any::<i64>().prop_map(|it| Value::Integer(it.into())),
        ];
        let unique = |entries: Vec<(Value, Value)>| {
            let mut seen = std::collections::HashSet::new();
            Value::Map(entries.into_iter().filter(|(key, _)| seen.insert(format!("{key:?}"))).collect())
        };
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..30).prop_map(Value::Array),
            prop::collection::vec((key, inner), 0..30).prop_map(unique),
        ]
    })
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn what_another_encoder_writes_is_read(value in tree()) {
        let bytes = encoded(&value);
        let expected = oracle(&value);
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&json(&bytes)).unwrap(), expected.clone());
        if let serde_json::Value::Object(members) = &expected {
            let read = parsed(&bytes).unwrap();
            for (name, member) in members.iter().filter(|(name, _)| !name.is_empty()) {
                let path = FieldPath::parse(&name.chars().flat_map(|it| ['\\', it]).collect::<String>()).unwrap();
                let found = read.field(&path).unwrap();
                let mut text = Vec::new();
                match found {
                    FieldValue::Composite => prop_assert!(member.is_object() || member.is_array()),
                    scalar => {
                        ValueVisitor::scalar(&mut aqueduct_core::JsonText::new(&mut text), scalar).unwrap();
                        prop_assert_eq!(&serde_json::from_slice::<serde_json::Value>(&text).unwrap(), member);
                    }
                }
            }
        }
    }

    #[test]
    fn damage_is_poison_or_another_value(value in tree(), at: Index, byte: u8, cut: Index) {
        let mut bytes = encoded(&value);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = parsed(&bytes) {
            read.write_json(&mut Vec::new()).unwrap();
        }
        parsed(&bytes[..cut.index(bytes.len())]).err();
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes: Vec<u8>) {
        let known = ciborium::from_reader::<Value, _>(&bytes[..]).is_ok();
        if let Ok(read) = parsed(&bytes) {
            read.write_json(&mut Vec::new()).unwrap();
            // We read nothing that another decoder would not.
            prop_assert!(known || bytes.contains(&0xf7) || bytes.iter().any(|byte| byte >> 5 == 6));
        }
    }
}
