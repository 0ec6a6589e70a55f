use std::borrow::Cow;

use aqueduct_core::TimeUnit;
use proptest::prelude::*;

use super::*;
use crate::tests::{Sample, Tree, fingerprint};

fn route(by: &ByField, fields: &[(&str, FieldValue<'static>)]) -> Result<String, Poison> {
    Sample::default().route(by, &Tree::new(fields))
}

fn text(value: &'static str) -> FieldValue<'static> {
    FieldValue::Str(Cow::Borrowed(value))
}

#[test]
fn scalars_become_levels() {
    let by = ByField::new("service")
        .unwrap()
        .and("request.status")
        .unwrap()
        .and("ok")
        .unwrap()
        .and("big")
        .unwrap();
    let found = route(
        &by,
        &[
            ("service", text("checkout")),
            ("request.status", FieldValue::I64(-200)),
            ("ok", FieldValue::Bool(true)),
            ("big", FieldValue::U64(u64::MAX)),
        ],
    );
    assert_eq!(found.unwrap(), "service=checkout/status=-200/ok=true/big=18446744073709551615");
}

#[test]
fn kinds_that_only_schemas_have_become_levels_in_one_spelling_each() {
    let by = ByField::new("f").unwrap();
    let decimal = |unscaled, scale| FieldValue::Decimal(Decimal::from_i128(unscaled, scale));
    for (value, expected) in [
        (
            FieldValue::Uuid(*b"\x6b\xa7\xb8\x10\x9d\xad\x11\xd1\x80\xb4\x00\xc0\x4f\xd4\x30\xc8"),
            "f=6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        ),
        (FieldValue::Date(18_806), "f=2021-06-28"),
        (FieldValue::Date(-1), "f=1969-12-31"),
        (decimal(1250, 2), "f=12.5"),
        (decimal(-1200, 2), "f=-12"),
        (decimal(100, 0), "f=100"),
        (decimal(0, 3), "f=0"),
        (decimal(0, 1_000), "f=0"),
        (decimal(i128::MIN, 0), "f=-170141183460469231731687303715884105728"),
    ] {
        assert_eq!(route(&by, &[("f", value.clone())]).unwrap(), expected, "{value:?}");
    }
}

#[test]
fn kinds_without_a_spelling_are_poisons_also_where_missing_fields_have_a_place() {
    let by = ByField::new("f").unwrap().with_default("none");
    let timestamp = FieldValue::Timestamp { count: 0, unit: TimeUnit::Millis, utc: true };
    for (value, what) in [
        (timestamp, "is a time"),
        (FieldValue::Time { count: 0, unit: TimeUnit::Micros }, "is a time"),
        (FieldValue::Duration { months: 1, days: 0, millis: 0 }, "is a time"),
        (FieldValue::Bytes(Cow::Borrowed(b"x")), "is bytes"),
        (FieldValue::F32(0.5), "`with_floats`"),
        (FieldValue::Date(i32::MAX), "no calendar"),
        (FieldValue::Decimal(Decimal::from_i128(1, 40)), "too many digits"),
        (FieldValue::Decimal(Decimal::from_i128(1, u32::MAX)), "too many digits"),
        (FieldValue::Decimal(Decimal::new(vec![1; 1 << 20], 0)), "too many digits"),
    ] {
        let poison = route(&by, &[("f", value)]).unwrap_err();
        assert_eq!(poison.reason(), PoisonReason::InvalidField);
        assert!(poison.detail().contains(what) && poison.detail().contains("field f"), "{poison}");
    }
    let floats = ByField::new("f").unwrap().with_floats();
    assert_eq!(route(&floats, &[("f", FieldValue::F32(0.1))]).unwrap(), "f=0.1");
    assert_eq!(route(&floats, &[("f", FieldValue::F32(-0.0))]).unwrap(), "f=0");
    assert!(route(&floats, &[("f", FieldValue::F32(f32::NAN))]).is_err());
}

#[test]
fn levels_may_be_named() {
    let by = ByField::named("rid", "request.id").unwrap().and_named("uid", "user.id").unwrap();
    let found = route(&by, &[("request.id", FieldValue::I64(1)), ("user.id", FieldValue::I64(2))]);
    assert_eq!(found.unwrap(), "rid=1/uid=2");
    let error = ByField::new("request.id").unwrap().and("user.id").unwrap_err();
    assert_eq!(error, LayoutError::DuplicateLevel { name: "id".to_owned() });
    assert!(matches!(ByField::new("a..b"), Err(LayoutError::Path(_))));
}

#[test]
fn values_cannot_leave_their_level() {
    let by = ByField::new("host").unwrap();
    for (value, expected) in [
        ("../../etc", "host=..%2F..%2Fetc"),
        ("%2e%2e", "host=%252e%252e"),
        ("FR/admin=true", "host=FR%2Fadmin%3Dtrue"),
        ("a\nb\\c", "host=a%0Ab%5Cc"),
        ("", "host="),
        ("서울", "host=서울"),
    ] {
        assert_eq!(route(&by, &[("host", text(value))]).unwrap(), expected);
    }
}

#[test]
fn what_cannot_be_a_level_is_a_poison_that_names_the_field() {
    let by = ByField::new("request.host").unwrap();
    let reason = |value: Option<FieldValue<'static>>| {
        let fields: Vec<_> = value.into_iter().map(|value| ("request.host", value)).collect();
        let poison = route(&by, &fields).unwrap_err();
        assert!(poison.detail().contains("field request.host"), "{poison}");
        poison.reason()
    };
    assert_eq!(reason(None), PoisonReason::MissingField);
    assert_eq!(reason(Some(FieldValue::Null)), PoisonReason::MissingField);
    assert_eq!(reason(Some(FieldValue::Composite)), PoisonReason::InvalidField);
    assert_eq!(reason(Some(FieldValue::F64(1.5))), PoisonReason::InvalidField);
    assert_eq!(reason(Some(FieldValue::Str("x".repeat(1 << 20).into()))), PoisonReason::InvalidRoute);
}

#[test]
fn a_value_at_the_limit_is_a_level_and_one_past_it_is_not() {
    let by = ByField::new("f").unwrap();
    let room = RoutePath::LEVEL_MAX - "f=".len();
    assert!(route(&by, &[("f", FieldValue::Str("x".repeat(room).into()))]).is_ok());
    assert!(route(&by, &[("f", FieldValue::Str("x".repeat(room + 1).into()))]).is_err());
}

#[test]
fn a_default_takes_what_has_no_value_of_its_own() {
    let by = ByField::new("f").unwrap().with_default("null");
    assert_eq!(route(&by, &[]).unwrap(), "f=null");
    assert_eq!(route(&by, &[("f", FieldValue::Null)]).unwrap(), "f=null");
    assert_eq!(route(&by, &[("f", FieldValue::Composite)]).unwrap(), "f=null");
    assert!(route(&by, &[("f", FieldValue::F64(0.5))]).is_err(), "a value, only not one to sort by");
}

#[test]
fn each_field_may_have_a_place_of_its_own_that_no_value_shares() {
    let by = ByField::new("service").unwrap().missing_as("none").unwrap().and("status").unwrap();
    let by = by.missing_as("0").unwrap().and("zone").unwrap().with_default("null");
    assert_eq!(route(&by, &[]).unwrap(), "service=none/status=0/zone=null");
    let nothing = [("service", FieldValue::Null), ("status", FieldValue::Composite)];
    assert_eq!(route(&by, &nothing).unwrap(), "service=none/status=0/zone=null");
    let spelled_the_same =
        [("service", text("none")), ("status", FieldValue::I64(0)), ("zone", text("null"))];
    assert_eq!(route(&by, &spelled_the_same).unwrap(), "service=%6Eone/status=%30/zone=null");
    let others = [("service", text("None")), ("status", FieldValue::I64(10)), ("zone", text("%6Eone"))];
    assert_eq!(route(&by, &others).unwrap(), "service=None/status=10/zone=%256Eone");
    let only_one = ByField::new("a").unwrap().missing_as("none").unwrap().and("b").unwrap();
    let poison = route(&only_one, &[]).unwrap_err();
    assert_eq!(poison.reason(), PoisonReason::MissingField);
    assert!(poison.detail().contains("field b is absent; `missing_as`"), "{poison}");
}

#[test]
fn a_place_that_values_could_reach_is_an_error() {
    let with = |default: &str| ByField::new("a").unwrap().missing_as(default).map(|_| ());
    for default in ["", "a/b", "a=b", "100%", "\\N", "a\nb", &"x".repeat(RoutePath::LEVEL_MAX - 1)] {
        let expected = LayoutError::UnusableDefault {
            name: "a".to_owned(),
            default: default.to_owned(),
            limit: RoutePath::LEVEL_MAX - 2,
        };
        assert_eq!(with(default), Err(expected));
    }
    for default in
        ["unknown", "__HIVE_DEFAULT_PARTITION__", "알 수 없음", "..", &"x".repeat(RoutePath::LEVEL_MAX - 2)]
    {
        assert_eq!(with(default), Ok(()), "{default:?}");
    }
}

#[test]
fn floats_are_taken_on_demand() {
    let by = ByField::new("f").unwrap().with_floats();
    for (float, expected) in [(1.5, "f=1.5"), (1.0, "f=1"), (-0.0, "f=0"), (1e-7, "f=0.0000001")] {
        assert_eq!(route(&by, &[("f", FieldValue::F64(float))]).unwrap(), expected);
    }
    for float in [f64::NAN, f64::INFINITY, 1e300] {
        let poison = route(&by, &[("f", FieldValue::F64(float))]).unwrap_err();
        assert_eq!(poison.reason(), PoisonReason::InvalidField);
    }
}

#[test]
fn every_option_is_part_of_the_identity() {
    let by = || ByField::new("a").unwrap();
    let all = [
        by(),
        by().with_default("null"),
        by().missing_as("null").unwrap(),
        by().missing_as("none").unwrap(),
        by().missing_as("null").unwrap().and("b").unwrap(),
        by().and("b").unwrap().missing_as("null").unwrap(),
        by().with_floats(),
        by().and("b").unwrap(),
        ByField::named("b", "a").unwrap(),
        ByField::new("x.a").unwrap(),
    ];
    let digests: Vec<u64> = all.iter().map(|by| fingerprint::<Tree>(by).digest()).collect();
    assert!(digests.iter().enumerate().all(|(index, digest)| !digests[..index].contains(digest)));
}

proptest! {
    #[test]
    fn no_value_meets_the_records_without_one(value: String, missing in "[a-z가-힣.]{1,4}") {
        let by = ByField::new("f").unwrap().missing_as(&*missing).unwrap();
        let without = route(&by, &[]).unwrap();
        for value in [value.clone(), missing.clone(), format!("%{missing}"), format!("{missing}{value}")] {
            prop_assert_ne!(route(&by, &[("f", FieldValue::Str(value.into()))]).unwrap_or_default(), &*without);
        }
    }

    #[test]
    fn no_value_adds_a_level(one: String, other: String, name in "[^.\\\\]{1,8}") {
        prop_assume!(name != "second");
        let by = ByField::new(&name).unwrap().and_named("second", "second").unwrap();
        let fields = [(name.as_str(), FieldValue::Str(one.into())), ("second", FieldValue::Str(other.into()))];
        if let Ok(route) = route(&by, &fields) {
            let levels: Vec<&str> = route.split('/').collect();
            prop_assert_eq!(levels.len(), 2, "{}", route);
            prop_assert!(levels.iter().all(|level| level.matches('=').count() == 1));
            prop_assert!(!route.chars().any(char::is_control) || route.chars().any(|c| c as u32 >= 0x80));
        }
    }
}
