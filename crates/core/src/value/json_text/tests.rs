use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::value::Decimal;

fn text(value: FieldValue<'_>) -> String {
    let mut out = Vec::new();
    JsonText::new(&mut out).scalar(value).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn kinds_that_json_does_not_have_are_texts_that_readers_know() {
    let timestamp = |count, unit, utc| text(FieldValue::Timestamp { count, unit, utc });
    assert_eq!(timestamp(1_624_865_400_250, TimeUnit::Millis, true), r#""2021-06-28T07:30:00.250Z""#);
    assert_eq!(timestamp(-1, TimeUnit::Nanos, false), r#""1969-12-31T23:59:59.999999999""#);
    assert_eq!(timestamp(0, TimeUnit::Micros, true), r#""1970-01-01T00:00:00.000000Z""#);
    assert_eq!(timestamp(253_402_300_799_999, TimeUnit::Millis, true), r#""9999-12-31T23:59:59.999Z""#);
    assert_eq!(text(FieldValue::Date(-1)), r#""1969-12-31""#);
    assert_eq!(text(FieldValue::Time { count: 27_000_250, unit: TimeUnit::Millis }), r#""07:30:00.250""#);
    assert_eq!(text(FieldValue::Duration { months: 1, days: 2, millis: 3_004 }), r#""P1M2DT3.004S""#);
    assert_eq!(text(FieldValue::Bytes(Cow::Borrowed(b"\xff\0"))), r#""/wA=""#);
    assert_eq!(text(FieldValue::Decimal(Decimal::from_i128(1250, 2))), "12.50");
    assert_eq!(text(FieldValue::F32(0.1)), "0.1");
    assert_eq!(text(FieldValue::F64(1e300)), "1e300");
    assert_eq!(text(FieldValue::F64(f64::NEG_INFINITY)), r#""-Infinity""#);
    assert_eq!(text(FieldValue::F64(f64::NAN)), r#""NaN""#);
    let uuid = text(FieldValue::Uuid(*b"\x6b\xa7\xb8\x10\x9d\xad\x11\xd1\x80\xb4\x00\xc0\x4f\xd4\x30\xc8"));
    assert_eq!(uuid, r#""6ba7b810-9dad-11d1-80b4-00c04fd430c8""#);
}

proptest! {
    #[test]
    fn times_are_spelled_as_jiff_spells_them(count: i64, days in -4_371_587..2_932_896_i32, unit in 0..3_usize) {
        let unit = [TimeUnit::Millis, TimeUnit::Micros, TimeUnit::Nanos][unit];
        prop_assert_eq!(text(FieldValue::Date(days)), format!("\"{}\"", date(days).unwrap()));
        // Every moment that a calendar shows, not only those that a random number hits.
        let count = count % 250_000_000_i64.saturating_mul(unit.per_second());
        let at = date_time(count, unit).unwrap();
        let (seconds, rest) = (count.div_euclid(unit.per_second()), count.rem_euclid(unit.per_second()));
        let nanos = i32::try_from(rest * (1_000_000_000 / unit.per_second())).unwrap();
        prop_assert_eq!(far_date_time(seconds, nanos).unwrap(), at);
        let expected = format!("\"{at:.digits$}Z\"", digits = unit.digits());
        prop_assert_eq!(text(FieldValue::Timestamp { count, unit, utc: true }), expected);
        let of_day = count.rem_euclid(86_400 * unit.per_second());
        let expected = format!("\"{:.digits$}\"", time(of_day, unit).unwrap(), digits = unit.digits());
        prop_assert_eq!(text(FieldValue::Time { count: of_day, unit }), expected);
    }

    #[test]
    fn strings_are_escaped_wherever_it_is_needed(string in "[a-z\"\\\\\n\u{1}é]{0,100}") {
        let written = text(FieldValue::Str(string.as_str().into()));
        prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), string);
    }
}

#[test]
fn a_byte_that_is_escaped_is_seen_wherever_it_stands() {
    for length in 0..70 {
        let mut bytes = vec![0xff; length];
        assert!(is_plain(&bytes));
        for at in 0..length {
            for byte in 0..=u8::MAX {
                bytes[at] = byte;
                assert_eq!(is_plain(&bytes), !is_escaped(byte), "{byte} at {at} of {length}");
            }
        }
    }
}

#[test]
fn times_outside_of_every_calendar_are_poisons() {
    let mut out = Vec::new();
    let mut refused = |value| JsonText::new(&mut out).scalar(value).unwrap_err().reason();
    let timestamp = FieldValue::Timestamp { count: i64::MAX, unit: TimeUnit::Millis, utc: true };
    assert_eq!(refused(timestamp), PoisonReason::InvalidField);
    assert_eq!(refused(FieldValue::Date(i32::MAX)), PoisonReason::InvalidField);
    let a_day = FieldValue::Time { count: 86_400_000, unit: TimeUnit::Millis };
    assert_eq!(refused(a_day), PoisonReason::InvalidField);
}

#[test]
fn decimals_have_as_many_digits_as_the_limit() {
    let written = |bytes: usize, scale| {
        let mut out = Vec::new();
        let number = FieldValue::Decimal(Decimal::new(vec![0x7f; bytes], scale));
        JsonText::new(&mut out).scalar(number).map(|()| out.len())
    };
    assert_eq!(written(1_024, 0).unwrap(), 2_466);
    assert_eq!(written(1, 4_096).unwrap(), 4_098);
    assert_eq!(written(1_024, 4_096).unwrap(), 4_098);
    // Gigabytes of zeros, and minutes of divisions.
    for (bytes, scale) in [(1_025, 0), (1, 4_097), (1, 4_000_000_000), (1 << 20, 0)] {
        let poison = written(bytes, scale).unwrap_err();
        assert_eq!(poison.reason(), PoisonReason::TooLarge);
        assert!(poison.detail().contains("4096 digits behind its point"), "{poison}");
    }
}

#[test]
fn many_decimals_have_as_many_zeros_as_the_limit() {
    let mut out = Vec::new();
    let mut json = JsonText::new(&mut out);
    let mut small = |scale| json.scalar(FieldValue::Decimal(Decimal::new(vec![1], scale)));
    for _ in 0..4_096 {
        small(4_096).unwrap();
    }
    let poison = small(1).unwrap_err();
    assert_eq!(poison.reason(), PoisonReason::TooLarge);
    assert!(poison.detail().contains("16777216"), "{poison}");
}

#[test]
fn values_nest_up_to_the_limit() {
    let mut out = Vec::new();
    let mut json = JsonText::new(&mut out);
    for _ in 0..128 {
        json.begin(Composite::List).unwrap();
    }
    assert!(json.begin(Composite::List).is_err());
    for _ in 0..128 {
        json.end().unwrap();
    }
    assert_eq!(out.len(), 256);
}

proptest! {
    #[test]
    fn any_tree_reads_back(tree in tree()) {
        let mut out = Vec::new();
        give(&tree, &mut JsonText::new(&mut out)).unwrap();
        prop_assert!(!out.contains(&b'\n'));
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), tree);
    }
}

fn tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        // What serde_json reads exactly without its feature for it.
        any::<i32>().prop_map(|it| (f64::from(it) / 8.0).into()),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::Array),
            proptest::collection::hash_map(any::<String>(), inner, 0..5)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn give(tree: &serde_json::Value, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
    use serde_json::Value;
    match tree {
        Value::Null => visitor.scalar(FieldValue::Null),
        Value::Bool(it) => visitor.scalar(FieldValue::Bool(*it)),
        Value::String(it) => visitor.scalar(FieldValue::Str(it.into())),
        Value::Number(it) => visitor.scalar(match (it.as_i64(), it.as_u64()) {
            (Some(whole), _) => FieldValue::I64(whole),
            (_, Some(whole)) => FieldValue::U64(whole),
            _ => FieldValue::F64(it.as_f64().unwrap()),
        }),
        Value::Array(elements) => {
            visitor.begin(Composite::List)?;
            elements.iter().try_for_each(|element| give(element, visitor))?;
            visitor.end()
        }
        Value::Object(members) => {
            visitor.begin(Composite::Struct)?;
            for (name, member) in members {
                visitor.key(name)?;
                give(member, visitor)?;
            }
            visitor.end()
        }
    }
}
