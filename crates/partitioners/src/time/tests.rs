use aqueduct_core::{Decimal, FieldValue, TimeUnit, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::tests::{Sample, Tree, fingerprint};

/// 2024-06-01 09:05:07.089 in Seoul.
const AT_MS: i64 = 1_717_200_307_089;

fn by_timestamp(by: &ByTime, timestamp: Timestamp) -> Result<String, Poison> {
    Sample { timestamp, ..Sample::default() }.route(by, &())
}

fn by_value(by: &ByTime<FieldTime>, value: FieldValue<'static>) -> Result<String, Poison> {
    Sample::default().route(by, &Tree::new(&[("event.time", value)]))
}

#[test]
fn the_usual_layouts_are_one_call_away() {
    let route = |by: &ByTime| by_timestamp(by, Timestamp::Create(AT_MS)).unwrap();
    assert_eq!(route(&ByTime::hourly("Asia/Seoul").unwrap()), "year=2024/month=06/day=01/hour=09");
    assert_eq!(route(&ByTime::hourly("+09:00").unwrap()), "year=2024/month=06/day=01/hour=09");
    assert_eq!(route(&ByTime::hourly("UTC").unwrap()), "year=2024/month=06/day=01/hour=00");
    assert_eq!(route(&ByTime::daily("America/New_York").unwrap()), "year=2024/month=05/day=31");
    let quarters = ByTime::joda("HH:mm:ss", "Asia/Seoul").unwrap().every(Duration::from_mins(15)).unwrap();
    assert_eq!(route(&quarters), "09:00:00");
    let exact = ByTime::joda("HH:mm:ss.SSS", "Asia/Seoul").unwrap();
    assert_eq!(route(&exact), "09:05:07.089");
}

#[test]
fn absurd_timestamps_are_poisons() {
    for by in [ByTime::hourly("Asia/Seoul").unwrap(), ByTime::joda("YYYY", "UTC").unwrap()] {
        for timestamp in [
            Timestamp::None,
            Timestamp::Create(-1),
            Timestamp::LogAppend(-1),
            Timestamp::Create(i64::MIN),
            Timestamp::Create(i64::MAX),
            Timestamp::Create(253_402_300_800_000),
            // Nanoseconds where milliseconds belong.
            Timestamp::Create(AT_MS * 1_000_000),
        ] {
            let poison = by_timestamp(&by, timestamp).unwrap_err();
            assert_eq!(poison.reason(), PoisonReason::InvalidTimestamp, "{timestamp:?}");
        }
    }
    let epoch = by_timestamp(&ByTime::hourly("UTC").unwrap(), Timestamp::Create(0));
    assert_eq!(epoch.unwrap(), "year=1970/month=01/day=01/hour=00", "odd, but a time");
}

#[test]
fn the_calendar_has_its_last_day_and_its_first() {
    let shown = |zone: &str, at_ms: i64| {
        let day = ByTime::joda("YYYY-MM-dd HH:mm:ss.SSS", zone).unwrap();
        by_value(&day.field("event.time", TimeFormat::Millis).unwrap(), FieldValue::I64(at_ms))
    };
    let (first, last) = (-62_135_596_800_000, 253_402_300_799_999);
    assert_eq!(shown("UTC", last).unwrap(), "9999-12-31 23:59:59.999");
    assert_eq!(shown("America/New_York", last).unwrap(), "9999-12-31 18:59:59.999");
    assert_eq!(shown("Pacific/Auckland", last - 13 * 3_600_000).unwrap(), "9999-12-31 23:59:59.999");
    assert_eq!(shown("-11:00", last + 11 * 3_600_000).unwrap(), "9999-12-31 23:59:59.999");
    assert_eq!(shown("UTC", first).unwrap(), "0001-01-01 00:00:00.000");
    for (zone, beyond) in [
        ("UTC", last + 1),
        ("UTC", first - 1),
        ("Asia/Seoul", last),
        ("Pacific/Auckland", last - 13 * 3_600_000 + 1),
        ("-11:00", last + 11 * 3_600_000 + 1),
        ("America/New_York", first),
    ] {
        assert_eq!(
            shown(zone, beyond).unwrap_err().reason(),
            PoisonReason::InvalidTimestamp,
            "{zone} {beyond}"
        );
    }
}

#[test]
fn fields_are_read_in_their_unit() {
    let by = |format| {
        ByTime::joda("YYYY-MM-dd HH:mm:ss.SSS", "Asia/Seoul").unwrap().field("event.time", format).unwrap()
    };
    let whole = |count: i64| FieldValue::I64(count);
    let text = |text: &'static str| FieldValue::Str(text.into());
    for (format, value, expected) in [
        (TimeFormat::Seconds, whole(AT_MS / 1000), "2024-06-01 09:05:07.000"),
        (TimeFormat::Seconds, FieldValue::F64(1_717_200_307.5), "2024-06-01 09:05:07.500"),
        (TimeFormat::Millis, whole(AT_MS), "2024-06-01 09:05:07.089"),
        (TimeFormat::Millis, text("1717200307089"), "2024-06-01 09:05:07.089"),
        (TimeFormat::Micros, whole(AT_MS * 1000 + 999), "2024-06-01 09:05:07.089"),
        (TimeFormat::Nanos, FieldValue::U64(1_717_200_307_089_999_999), "2024-06-01 09:05:07.089"),
        (TimeFormat::Micros, whole(-1), "1970-01-01 08:59:59.999"),
        (TimeFormat::Iso8601, text("2024-06-01T00:05:07.089Z"), "2024-06-01 09:05:07.089"),
        (TimeFormat::Iso8601, text("2024-06-01T09:05:07.089999+09:00"), "2024-06-01 09:05:07.089"),
        (TimeFormat::Iso8601, text("2024-05-31 20:05:07-04:00"), "2024-06-01 09:05:07.000"),
        (TimeFormat::Iso8601, text("20240601T090507+0900"), "2024-06-01 09:05:07.000"),
    ] {
        assert_eq!(by_value(&by(format), value.clone()).unwrap(), expected, "{format:?} {value:?}");
    }
}

#[test]
fn unusable_fields_are_poisons_that_name_the_field_but_not_the_value() {
    let by = |format| ByTime::daily("Asia/Seoul").unwrap().field("event.time", format).unwrap();
    let text = |text: &'static str| FieldValue::Str(text.into());
    for (format, value, reason) in [
        (TimeFormat::Millis, FieldValue::Null, PoisonReason::MissingField),
        (TimeFormat::Millis, FieldValue::Bool(true), PoisonReason::InvalidField),
        (TimeFormat::Millis, FieldValue::Composite, PoisonReason::InvalidField),
        (TimeFormat::Millis, text("hunter2"), PoisonReason::InvalidTimestamp),
        (TimeFormat::Millis, text("2024-06-01T00:05:07Z"), PoisonReason::InvalidTimestamp),
        (TimeFormat::Iso8601, FieldValue::I64(AT_MS), PoisonReason::InvalidTimestamp),
        (TimeFormat::Iso8601, text("hunter2"), PoisonReason::InvalidTimestamp),
        (TimeFormat::Iso8601, text("2024-06-01T00:05:07"), PoisonReason::InvalidTimestamp),
        (TimeFormat::Iso8601, text("2024-02-30T00:05:07Z"), PoisonReason::InvalidTimestamp),
        (TimeFormat::Seconds, FieldValue::I64(i64::MAX), PoisonReason::InvalidTimestamp),
        (TimeFormat::Seconds, FieldValue::U64(u64::MAX), PoisonReason::InvalidTimestamp),
        (TimeFormat::Seconds, FieldValue::F64(f64::NAN), PoisonReason::InvalidTimestamp),
        (TimeFormat::Seconds, FieldValue::F64(-1e300), PoisonReason::InvalidTimestamp),
    ] {
        let poison = by_value(&by(format), value.clone()).unwrap_err();
        assert_eq!(poison.reason(), reason, "{format:?} {value:?}");
        assert!(!poison.detail().contains("hunter2"), "{poison}");
    }
    let absent = Sample::default().route(&by(TimeFormat::Millis), &Tree::new(&[])).unwrap_err();
    assert_eq!(absent.reason(), PoisonReason::MissingField);
    assert!(absent.detail().contains("event.time"));
}

#[test]
fn times_of_values_with_a_schema_are_taken_by_their_own_unit() {
    let shown = |by: &ByTime<FieldTime>, value| by_value(by, value);
    let timestamp = |count, unit, utc| FieldValue::Timestamp { count, unit, utc };
    let cases = [
        (timestamp(AT_MS, TimeUnit::Millis, true), "2024-06-01 09:05:07.089"),
        (timestamp(AT_MS * 1_000 + 999, TimeUnit::Micros, true), "2024-06-01 09:05:07.089"),
        (timestamp(AT_MS * 1_000_000 + 999_999, TimeUnit::Nanos, true), "2024-06-01 09:05:07.089"),
        (timestamp(-1, TimeUnit::Nanos, true), "1970-01-01 08:59:59.999"),
    ];
    let locals = [
        (timestamp(AT_MS, TimeUnit::Millis, false), "2024-06-01 00:05:07.089"),
        (timestamp(-1, TimeUnit::Micros, false), "1969-12-31 23:59:59.999"),
        (FieldValue::Date(0), "1970-01-01 00:00:00.000"),
        (FieldValue::Date(-1), "1969-12-31 00:00:00.000"),
    ];
    for format in [TimeFormat::Seconds, TimeFormat::Nanos, TimeFormat::Iso8601] {
        let layout = || ByTime::joda("YYYY-MM-dd HH:mm:ss.SSS", "Asia/Seoul").unwrap();
        let by = layout().field("event.time", format).unwrap();
        let time = FieldTime::new(FieldPath::parse("event.time").unwrap(), format);
        let somewhere = layout().extract(time.without_offset_in("Asia/Seoul").unwrap());
        for (value, expected) in &cases {
            assert_eq!(shown(&by, value.clone()).unwrap(), *expected, "{value:?}");
            assert_eq!(shown(&somewhere, value.clone()).unwrap(), *expected, "{value:?}");
        }
        // Nobody knows where these are, until somebody says so.
        for (value, expected) in &locals {
            let poison = shown(&by, value.clone()).unwrap_err();
            assert_eq!(poison.reason(), PoisonReason::InvalidTimestamp);
            assert!(poison.detail().contains("without_offset_in"), "{poison}");
            assert_eq!(shown(&somewhere, value.clone()).unwrap(), *expected, "{value:?}");
        }
        for absurd in [
            FieldValue::Date(i32::MAX),
            timestamp(i64::MIN, TimeUnit::Millis, false),
            timestamp(i64::MAX, TimeUnit::Millis, true),
        ] {
            assert_eq!(shown(&somewhere, absurd).unwrap_err().reason(), PoisonReason::InvalidTimestamp);
        }
    }
    let seconds =
        ByTime::joda("HH:mm:ss.SSS", "Asia/Seoul").unwrap().field("event.time", TimeFormat::Seconds).unwrap();
    let exact = FieldValue::Decimal(Decimal::from_i128(1_717_200_307_089_999, 6));
    assert_eq!(shown(&seconds, exact).unwrap(), "09:05:07.089");
    for other in [
        FieldValue::F32(1.7e9),
        FieldValue::Time { count: 0, unit: TimeUnit::Millis },
        FieldValue::Bytes(vec![0].into()),
        FieldValue::Decimal(Decimal::new(vec![1; 1 << 20], 0)),
    ] {
        assert_eq!(shown(&seconds, other).unwrap_err().reason(), PoisonReason::InvalidField);
    }
}

#[test]
fn local_times_need_to_be_told_their_zone() {
    let time = FieldTime::new(FieldPath::parse("event.time").unwrap(), TimeFormat::Iso8601);
    let by = ByTime::joda("dd HH", "UTC").unwrap().extract(time.without_offset_in("Asia/Seoul").unwrap());
    let route = |text: &'static str| by_value(&by, FieldValue::Str(text.into())).unwrap();
    assert_eq!(route("2024-06-01T00:05:07"), "31 15");
    assert_eq!(route("2024-06-01T00:05:07Z"), "01 00", "an offset in the text wins");
}

#[test]
fn processing_time_is_the_pinned_opening_time() {
    let by = ByTime::hourly("Asia/Seoul").unwrap().segment_opened();
    let sample = Sample { opened_at_ms: AT_MS, timestamp: Timestamp::Create(0), ..Sample::default() };
    assert_eq!(sample.route(&by, &()).unwrap(), "year=2024/month=06/day=01/hour=09");
    assert_eq!(Partitioner::<()>::replay(&by), Replay::Deterministic);
}

#[test]
fn every_choice_is_part_of_the_identity() {
    let hourly = |zone| ByTime::hourly(zone).unwrap();
    let field = |path, format| hourly("UTC").field(path, format).unwrap();
    let digests = [
        fingerprint::<Tree>(&hourly("UTC")).digest(),
        fingerprint::<Tree>(&hourly("Asia/Seoul")).digest(),
        fingerprint::<Tree>(&hourly("+09:00")).digest(),
        fingerprint::<Tree>(&hourly("UTC").every(Duration::from_mins(30)).unwrap()).digest(),
        fingerprint::<Tree>(&ByTime::daily("UTC").unwrap()).digest(),
        fingerprint::<Tree>(&hourly("UTC").segment_opened()).digest(),
        fingerprint::<Tree>(&field("a", TimeFormat::Millis)).digest(),
        fingerprint::<Tree>(&field("b", TimeFormat::Millis)).digest(),
        fingerprint::<Tree>(&field("a", TimeFormat::Micros)).digest(),
    ];
    assert!(digests.iter().enumerate().all(|(index, digest)| !digests[..index].contains(digest)));
    let named = fingerprint::<()>(&hourly("Asia/Seoul"));
    assert!(named.differing_parts(&Fingerprint::new()).contains(&"time-zone-data".to_owned()));
    let fixed = fingerprint::<()>(&hourly("+09:00"));
    assert_eq!(
        fixed.differing_parts(&Fingerprint::new()),
        ["partitioner"],
        "no release can change an offset"
    );
}

#[test]
fn a_period_of_zero_is_an_error() {
    let every = |period| ByTime::hourly("UTC").unwrap().every(period).map(|_| ());
    assert_eq!(every(Duration::ZERO), Err(LayoutError::ZeroPeriod));
    assert_eq!(every(Duration::from_micros(999)), Err(LayoutError::ZeroPeriod));
    assert_eq!(every(Duration::from_millis(1)), Ok(()));
    assert_eq!(every(Duration::MAX), Ok(()));
}

proptest! {
    #[test]
    fn any_timestamp_has_four_levels_or_none(timestamp: i64) {
        for timestamp in [timestamp, timestamp >> 22] {
            match by_timestamp(&ByTime::hourly("America/New_York").unwrap(), Timestamp::Create(timestamp)) {
                Ok(route) => prop_assert_eq!(route.matches('/').count(), 3),
                Err(poison) => prop_assert_eq!(poison.reason(), PoisonReason::InvalidTimestamp),
            }
        }
    }

    #[test]
    fn any_text_is_a_time_or_a_poison(text: String) {
        for format in [TimeFormat::Iso8601, TimeFormat::Nanos] {
            let by = ByTime::daily("UTC").unwrap().field("event.time", format).unwrap();
            if let Ok(route) = by_value(&by, FieldValue::Str(text.clone().into())) {
                prop_assert_eq!(route.matches('/').count(), 2);
            }
        }
    }
}
