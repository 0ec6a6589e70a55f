use aqueduct_core::{Converted, Poison, PoisonReason, SkipReason};
use proptest::prelude::*;
use proptest::sample::Index;
use rmpv::Value;

use aqueduct_core::{FieldPath, FieldValue, Fields, JsonRow};

use super::*;
use crate::tests::{convert, fingerprint};

fn parsed(bytes: &[u8]) -> Result<MessagePackValue, Poison> {
    MessagePackValue::parse(Bytes::copy_from_slice(bytes))
}

fn json(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    parsed(bytes).unwrap().write_json(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn every_first_byte_has_its_meaning() {
    for (bytes, text) in [
        (&b"\x7f"[..], "127"),
        (b"\xe0", "-32"),
        (b"\xcc\xff", "255"),
        (b"\xcd\x01\x00", "256"),
        (b"\xce\xff\xff\xff\xff", "4294967295"),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
        (b"\xd0\x80", "-128"),
        (b"\xd1\x80\x00", "-32768"),
        (b"\xd2\x80\x00\x00\x00", "-2147483648"),
        (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
        (b"\xca\x3f\xc0\x00\x00", "1.5"),
        (b"\xcb\x3f\xf1\x99\x99\x99\x99\x99\x9a", "1.1"),
        (b"\xc0", "null"),
        (b"\xc2", "false"),
        (b"\xc3", "true"),
        (b"\xa1x", "\"x\""),
        (b"\xd9\x01x", "\"x\""),
        (b"\xda\x00\x01x", "\"x\""),
        (b"\xdb\x00\x00\x00\x01x", "\"x\""),
        (b"\xc4\x01\xff", "\"/w==\""),
        (b"\xc5\x00\x01\xff", "\"/w==\""),
        (b"\xc6\x00\x00\x00\x01\xff", "\"/w==\""),
        (b"\x91\xc0", "[null]"),
        (b"\xdc\x00\x01\xc0", "[null]"),
        (b"\xdd\x00\x00\x00\x01\xc0", "[null]"),
        (b"\x81\x01\xc0", r#"{"1":null}"#),
        (b"\xde\x00\x01\xa1a\xc0", r#"{"a":null}"#),
        (b"\xdf\x00\x00\x00\x01\xff\xc0", r#"{"-1":null}"#),
        (b"\xd4\x05\xff", "\"/w==\""),
        (b"\xc7\x01\x05\xff", "\"/w==\""),
        (b"\xd6\xff\x51\x4b\x67\xb0", "\"2013-03-21T20:04:00.000000Z\""),
        // 500 ms in the upper 30 bits.
        (b"\xd7\xff\x77\x35\x94\x00\x51\x4b\x67\xb0", "\"2013-03-21T20:04:00.500000Z\""),
        (b"\xc7\x0c\xff\x1d\xcd\x65\x00\xff\xff\xff\xff\xff\xff\xff\xff", "\"1969-12-31T23:59:59.500000Z\""),
    ] {
        assert_eq!(json(bytes), text, "{bytes:02x?}");
    }
}

#[test]
fn the_calendar_has_its_last_day_and_its_first() {
    let at = |seconds: i64, nanos: u32| {
        let bytes = [&b"\xc7\x0c\xff"[..], &nanos.to_be_bytes(), &seconds.to_be_bytes()].concat();
        parsed(&bytes).map(|_| json(&bytes))
    };
    assert_eq!(at(253_402_300_799, 999_999_999).unwrap(), "\"9999-12-31T23:59:59.999999Z\"");
    assert_eq!(at(-377_705_116_800, 0).unwrap(), "\"-009999-01-01T00:00:00.000000Z\"");
    for beyond in [253_402_300_800, -377_705_116_801, i64::MAX, i64::MIN] {
        assert!(at(beyond, 0).unwrap_err().detail().contains("no time"), "{beyond}");
    }
}

#[test]
fn what_rows_cannot_be_made_of_is_poison() {
    for (bytes, said) in [
        (&b""[..], "the value is empty"),
        (b"\xc1", "never used"),
        (b"\xa1\xff", "byte 1: a text is not utf-8"),
        (b"\x01\x01", "1 bytes follow"),
        (b"\x81\xc0\x01", "byte 1: a map has a key"),
        (b"\x82\x01\x01\xa11\x01", "key twice"),
        (b"\xdd\xff\xff\xff\xff", "more elements than there are bytes"),
        (b"\xdf\x00\x00\x00\x02\x01\x01\x02", "more elements than there are bytes"),
        (b"\xdb\xff\xff\xff\xffx", "past the end"),
        (b"\xc7\x0c\xff\x3b\x9a\xca\x00\x00\x00\x00\x00\x00\x00\x00\x00", "no time"),
        (b"\xc7\x03\xff\x00\x00\x00", "no time"),
    ] {
        let poison = parsed(bytes).unwrap_err();
        assert!(poison.detail().contains(said), "{bytes:02x?}: {poison}");
    }
    parsed(&[vec![0x91; 128], vec![0xc0]].concat()).unwrap();
    assert_eq!(parsed(&[vec![0x91; 129], vec![0xc0]].concat()).unwrap_err().reason(), PoisonReason::TooLarge);
}

#[test]
fn tombstones_follow_the_option() {
    let converter = |tombstones| MessagePack::new().tombstones(tombstones);
    assert_eq!(convert(&converter(Tombstones::Poison), None).unwrap_err().reason(), PoisonReason::NullValue);
    assert_eq!(convert(&converter(Tombstones::Skip), None).unwrap(), Converted::Skip(SkipReason::Tombstone));
    assert_eq!(
        convert(&converter(Tombstones::Null), None).unwrap(),
        Converted::Emit(parsed(&[0xc0]).unwrap())
    );
    assert_ne!(fingerprint(&converter(Tombstones::Null)), fingerprint(&MessagePack::new()));
}

#[derive(Debug, PartialEq, serde::Serialize)]
struct Order {
    id: u64,
    notes: Vec<Option<String>>,
    at: (f32, i8),
}

#[test]
fn structs_of_rmp_serde_are_read() {
    let order = Order { id: 300, notes: vec![None, Some("x".into())], at: (0.5, -3) };
    let bytes = rmp_serde::to_vec_named(&order).unwrap();
    assert_eq!(json(&bytes), r#"{"id":300,"notes":[null,"x"],"at":[0.5,-3]}"#);
    let path = FieldPath::parse("id").unwrap();
    assert_eq!(parsed(&bytes).unwrap().field(&path), Some(FieldValue::I64(300)));
}

fn oracle(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil => serde_json::Value::Null,
        Value::Boolean(it) => (*it).into(),
        Value::Integer(it) => it.as_i64().map_or_else(|| it.as_u64().unwrap().into(), Into::into),
        Value::F32(it) => f64::from(*it).into(),
        Value::F64(it) => (*it).into(),
        Value::String(it) => it.as_str().unwrap().into(),
        Value::Binary(bytes) | Value::Ext(_, bytes) => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(bytes).into()
        }
        Value::Array(items) => items.iter().map(oracle).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| (key.as_str().unwrap().to_owned(), oracle(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i16>().prop_map(|it| Value::F32(f32::from(it) / 8.0)),
        any::<i32>().prop_map(|it| Value::F64(f64::from(it) / 8.0)),
        any::<String>().prop_map(Value::from),
        any::<Vec<u8>>().prop_map(Value::Binary),
        (0..100_i8, any::<Vec<u8>>()).prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
    ];
    leaf.prop_recursive(4, 60, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            prop::collection::hash_map(any::<String>(), inner, 0..20)
                .prop_map(|entries| Value::Map(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())),
        ]
    })
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

proptest! {
    #[test]
    fn what_another_encoder_writes_is_read(value in tree()) {
        let read: serde_json::Value = serde_json::from_str(&json(&encoded(&value))).unwrap();
        prop_assert_eq!(read, oracle(&value));
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
        if let Ok(read) = parsed(&bytes) {
            read.write_json(&mut Vec::new()).unwrap();
            let mut rest = &bytes[..];
            // We read nothing that another decoder would not.
            prop_assert!(rmpv::decode::read_value(&mut rest).is_ok() && rest.is_empty());
        }
    }
}
