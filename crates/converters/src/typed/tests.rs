use aqueduct_core::SkipReason;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;
use crate::tests::{convert, fingerprint};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Order {
    id: u64,
    note: String,
}

#[test]
fn a_value_is_read_and_written_again() {
    let read = convert(&Serde::<Order>::new(), Some(br#" {"id": 7, "more": [1], "note": "a\nb"} "#)).unwrap();
    let Converted::Emit(order) = read else { panic!("{read:?}") };
    assert_eq!(*order, Order { id: 7, note: "a\nb".to_owned() });
    let mut out = b"before".to_vec();
    order.write_json(&mut out).unwrap();
    assert_eq!(out, br#"before{"id":7,"note":"a\nb"}"#);
}

#[test]
fn poisons_say_what_and_where_but_not_the_value() {
    let detail = |value: &[u8]| convert(&Serde::<Order>::new(), Some(value)).unwrap_err().detail().to_owned();
    assert!(detail(br#"{"id": 7}"#).contains("field \"note\" is missing, noticed at byte 9"));
    let wrong = detail(b"{\n\"id\": \"hunter2\", \"note\": \"\"}");
    assert!(wrong.contains("noticed at byte 17") && !wrong.contains("hunter2"), "{wrong}");
    assert!(detail(br#"{"id": 7, "note""#).contains("byte 16: the text ends too early"));
    assert!(detail(b"").contains("byte 0: the value is empty"));
    assert!(detail(br#"{"id":1,"note":""} x"#).contains("not valid json at byte 20"));
}

#[test]
fn tombstones_and_versions_are_part_of_the_identity() {
    let plain = Serde::<Order>::new();
    assert_eq!(convert(&plain, None).unwrap_err().reason(), PoisonReason::NullValue);
    let skipping = plain.tombstones(Tombstones::Skip);
    assert!(matches!(convert(&skipping, None), Ok(Converted::Skip(SkipReason::Tombstone))));
    assert_ne!(fingerprint(&plain), fingerprint(&skipping));
    assert_ne!(fingerprint(&plain), fingerprint(&plain.version("order/2")));
}

#[test]
fn raw_values_stay_on_one_line() {
    let raw = RawValue::from_string("{\"a\": [1,\r\n \"x y\"]}".to_owned()).unwrap();
    let mut out = Vec::new();
    Typed(raw).write_json(&mut out).unwrap();
    assert_eq!(out, br#"{"a":[1,"x y"]}"#);
}

#[test]
fn what_cannot_be_json_is_a_poison() {
    let map = std::collections::BTreeMap::from([(vec![1_u8], "secret")]);
    let poison = Typed(map).write_json(&mut Vec::new()).unwrap_err();
    assert_eq!(poison.reason(), PoisonReason::InvalidField);
    assert!(!poison.detail().contains("secret"));
}

#[derive(Serialize)]
struct Unit;

#[derive(Serialize)]
struct Pair(u8, char);

#[derive(Serialize)]
struct Wrapper(i32);

#[derive(Clone, Serialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Plain,
    One(u8),
    Two(u8, bool),
    Named { a: Option<u8>, b: () },
}

#[derive(Serialize)]
struct Rest {
    x: i8,
    y: f32,
}

#[derive(Serialize)]
struct Everything {
    kinds: Vec<Kind>,
    unit: Unit,
    pair: Pair,
    wrapper: Wrapper,
    big: i128,
    bigger: u128,
    low: i64,
    high: u64,
    by_number: std::collections::BTreeMap<i16, &'static str>,
    by_kind: std::collections::BTreeMap<Kind, Option<bool>>,
    by_truth: std::collections::BTreeMap<bool, f64>,
    raw: Box<RawValue>,
    any: serde_json::Value,
    #[serde(flatten)]
    rest: Rest,
    shown: std::net::Ipv4Addr,
}

fn everything() -> Typed<Everything> {
    Typed(Everything {
        kinds: vec![Kind::Plain, Kind::One(1), Kind::Two(2, true), Kind::Named { a: None, b: () }],
        unit: Unit,
        pair: Pair(7, 'é'),
        wrapper: Wrapper(-1),
        big: i128::MIN,
        bigger: u128::MAX,
        low: i64::MIN,
        high: u64::MAX,
        by_number: [(-3, "x"), (4, "y")].into(),
        by_kind: [(Kind::Plain, Some(false))].into(),
        by_truth: [(true, 0.1)].into(),
        raw: RawValue::from_string("{\"deep\": [1.50,\n{}]}".to_owned()).unwrap(),
        any: serde_json::json!({"a": [null, 1.5, "text"], "b": {}}),
        rest: Rest { x: -8, y: 0.1 },
        shown: std::net::Ipv4Addr::LOCALHOST,
    })
}

#[test]
fn events_say_what_serde_json_writes() {
    let (mut by_events, mut by_text) = (Vec::new(), Vec::new());
    aqueduct_core::write_json(&everything(), &mut by_events).unwrap();
    everything().write_json(&mut by_text).unwrap();
    let compact = |text: &[u8]| {
        let mut out = Vec::new();
        compact_into(&mut out, text);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(compact(&by_events), compact(&by_text));
}

/// Kinds of what begins, and scalars in their debug form.
#[derive(Default)]
struct Trace(Vec<String>);

impl ValueVisitor for Trace {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        self.0.push(format!("{value:?}"));
        Ok(())
    }

    fn begin(&mut self, composite: aqueduct_core::Composite) -> Result<(), Poison> {
        self.0.push(format!("{composite:?}"));
        Ok(())
    }

    fn key(&mut self, name: &str) -> Result<(), Poison> {
        self.0.push(name.to_owned());
        Ok(())
    }

    fn end(&mut self) -> Result<(), Poison> {
        self.0.push("end".to_owned());
        Ok(())
    }
}

struct Octets;

impl Serialize for Octets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(b"\xff")
    }
}

#[test]
fn kinds_are_kept_apart() {
    let trace = |value: &dyn StructuredValue| {
        let mut trace = Trace::default();
        value.visit(&mut trace).unwrap();
        trace.0.join(" ")
    };
    let map = std::collections::BTreeMap::from([("k", 1_u8)]);
    assert_eq!(trace(&Typed(&map)), "Struct k I64(1) end");
    assert_eq!(trace(&Typed(vec![map])), "List Map k I64(1) end end");
    assert!(trace(&everything()).starts_with("Struct kinds List Str(\"Plain\") Struct One I64(1) end"));
    assert_eq!(trace(&Typed(Octets)), "Bytes([255])");
    assert_eq!(
        trace(&Typed((1.5_f32, 2_i128))),
        format!("List F32(1.5) {:?} end", FieldValue::Decimal(aqueduct_core::Decimal::from_i128(2, 0)))
    );
}

struct Nested(usize);

impl Serialize for Nested {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0 => serializer.serialize_unit(),
            levels => [Nested(levels - 1)].serialize(serializer),
        }
    }
}

struct Failing;

impl Serialize for Failing {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("hunter2"))
    }
}

#[test]
fn what_no_row_can_be_made_of_is_poison() {
    let visit = |value: &dyn StructuredValue| value.visit(&mut Trace::default());
    visit(&Typed(Nested(128))).unwrap();
    assert_eq!(visit(&Typed(Nested(129))).unwrap_err().reason(), PoisonReason::TooLarge);
    let raw = |levels: usize| RawValue::from_string("[".repeat(levels) + &"]".repeat(levels)).unwrap();
    visit(&Typed((raw(127),))).unwrap();
    assert_eq!(visit(&Typed(((raw(127),),))).unwrap_err().reason(), PoisonReason::TooLarge);
    let keys = std::collections::BTreeMap::from([(vec![1], 1)]);
    assert!(visit(&Typed(keys)).unwrap_err().detail().contains("text or numbers"));
    assert!(!visit(&Typed(Failing)).unwrap_err().to_string().contains("hunter2"));
}

#[test]
fn a_null_needs_a_type_that_has_one() {
    let null = Serde::<Option<Order>>::new().tombstones(Tombstones::Null);
    let Ok(Converted::Emit(value)) = convert(&null, None) else { panic!("null") };
    assert_eq!(*value, None);
    let strict = convert(&Serde::<Order>::new().tombstones(Tombstones::Null), None).unwrap_err();
    assert!(strict.detail().contains("does not fit"), "{strict}");
}
