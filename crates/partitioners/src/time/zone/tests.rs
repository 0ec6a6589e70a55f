use proptest::prelude::*;

use super::*;

const HOUR_MS: i64 = 3_600_000;

/// Milliseconds since the epoch of a time written with its offset.
fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

/// The clock's reading after cutting down, as text.
fn floor(zone: &str, instant: &str, period_ms: i64) -> String {
    let local_ms = Zone::find(zone).unwrap().local_floor(at(instant), period_ms).unwrap();
    Offset::UTC.to_datetime(Timestamp::from_millisecond(local_ms).unwrap()).to_string()
}

#[test]
fn local_time_is_cut_down_not_the_instant() {
    assert_eq!(floor("Asia/Seoul", "2024-06-01T00:59:59.999+09:00", 24 * HOUR_MS), "2024-06-01T00:00:00");
    assert_eq!(floor("Asia/Kolkata", "2024-06-01T10:29:59+05:30", HOUR_MS), "2024-06-01T10:00:00");
    assert_eq!(floor("-03:30", "2024-06-01T00:10:00-03:30", HOUR_MS), "2024-06-01T00:00:00");
    assert_eq!(floor("UTC", "1969-12-31T23:59:59Z", HOUR_MS), "1969-12-31T23:00:00");
}

#[test]
fn hours_that_repeat_merge() {
    for (zone, first, second) in [
        ("America/New_York", "2024-11-03T01:30:00-04:00", "2024-11-03T01:30:00-05:00"),
        ("Europe/Berlin", "2024-10-27T02:30:00+02:00", "2024-10-27T02:30:00+01:00"),
    ] {
        assert_ne!(at(first), at(second));
        assert_eq!(floor(zone, first, HOUR_MS), floor(zone, second, HOUR_MS));
        assert_eq!(floor(zone, first, 24 * HOUR_MS), floor(zone, second, 24 * HOUR_MS));
    }
}

#[test]
fn times_that_clocks_skipped_move_ahead() {
    // Clocks went from 02:00 to 03:00; multiples of two hours include the hour that was skipped.
    assert_eq!(floor("America/New_York", "2024-03-10T03:10:00-04:00", 2 * HOUR_MS), "2024-03-10T03:00:00");
    assert_eq!(floor("Europe/Berlin", "2024-03-31T03:10:00+02:00", 2 * HOUR_MS), "2024-03-31T03:00:00");
    assert_eq!(floor("Europe/Berlin", "2024-03-31T04:10:00+02:00", 2 * HOUR_MS), "2024-03-31T04:00:00");
    // Midnight itself was skipped; the day is the same.
    assert_eq!(floor("America/Sao_Paulo", "2017-10-15T05:00:00-02:00", 24 * HOUR_MS), "2017-10-15T01:00:00");
    // Days of 23 and 25 hours are one day each.
    assert_eq!(floor("America/New_York", "2024-03-10T23:00:00-04:00", 24 * HOUR_MS), "2024-03-10T00:00:00");
    assert_eq!(floor("America/New_York", "2024-11-03T23:00:00-05:00", 24 * HOUR_MS), "2024-11-03T00:00:00");
}

#[test]
fn times_outside_the_calendar_have_no_reading() {
    for name in ["UTC", "Asia/Seoul", "America/New_York"] {
        let zone = Zone::find(name).unwrap();
        for at_ms in
            [i64::MIN, i64::MIN + 1, -62_200_000_000_000, 253_500_000_000_000, i64::MAX - 1, i64::MAX]
        {
            for period_ms in [1, HOUR_MS, i64::MAX] {
                assert_eq!(zone.local_floor(at_ms, period_ms), None, "{name} {at_ms} {period_ms}");
            }
        }
        for at_ms in
            [0, TABLE_START_MS - 1, TABLE_END_MS - 1, TABLE_END_MS, -62_000_000_000_000, 253_000_000_000_000]
        {
            assert!(zone.local_floor(at_ms, HOUR_MS).is_some(), "{name} {at_ms}");
        }
    }
}

#[test]
fn zones_have_one_name() {
    assert_eq!(Zone::find("asia/seoul").unwrap().name(), "Asia/Seoul");
    assert!(Zone::find("+09:00").unwrap().is_fixed() && Zone::find("UTC").unwrap().is_fixed());
    assert!(!Zone::find("Asia/Seoul").unwrap().is_fixed());
    for unknown in ["", "Asia/Soul", "09:00", "+26:00", "KST9", "GMT+9"] {
        assert_eq!(Zone::find(unknown).unwrap_err(), LayoutError::UnknownZone { zone: unknown.to_owned() });
    }
}

proptest! {
    #[test]
    fn the_table_says_what_the_rules_say(
        name in prop::sample::select(vec![
            "America/New_York", "Europe/Berlin", "Asia/Seoul", "America/Sao_Paulo", "Australia/Lord_Howe",
            "America/St_Johns", "Pacific/Apia", "Africa/Casablanca", "Asia/Kathmandu", "Africa/Monrovia", "-11:45",
        ]),
        near in prop::sample::select((0..460).collect::<Vec<_>>()),
        distance_ms in -48 * HOUR_MS..48 * HOUR_MS,
        anywhere in TABLE_START_MS..TABLE_END_MS,
        by_step: bool,
        period_ms in prop_oneof![Just(1), Just(HOUR_MS), Just(24 * HOUR_MS), Just(7 * 24 * HOUR_MS), 1..1_000 * HOUR_MS],
    ) {
        let zone = Zone::find(name).unwrap();
        let step = zone.steps[near % zone.steps.len()];
        let at_ms = if by_step { step.start_ms + distance_ms } else { anywhere };
        prop_assert_eq!(zone.local_floor(at_ms, period_ms), zone.local_floor_by_rules(at_ms, period_ms));
    }

    #[test]
    fn any_number_is_a_reading_or_none(at_ms: i64, period_ms in 1..=i64::MAX) {
        for name in ["UTC", "America/New_York"] {
            if let Some(local_ms) = Zone::find(name).unwrap().local_floor(at_ms, period_ms) {
                prop_assert!(YEARS_MS.contains(&local_ms));
            }
        }
    }
}
