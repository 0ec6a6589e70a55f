use std::collections::BTreeSet;

use jiff::civil::{Date, date};
use proptest::prelude::*;

use super::super::tests::{minutes_after, noon};
use super::*;
use crate::clock::from_unix_millis;

const HOUR_MS: i64 = 3_600_000;

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
}

/// The first instant of a local day, found without the code under test: by jiff's zoned calendar.
fn midnight_ms(name: &str, day: Date) -> i64 {
    day.to_zoned(zone(name)).unwrap().start_of_day().unwrap().timestamp().as_millisecond()
}

/// All boundaries in `(from_ms, until_ms]`, each asked from the one before.
fn boundaries(schedule: &Schedule, from_ms: i64, until_ms: i64) -> Vec<i64> {
    let mut found = Vec::new();
    let mut at = from_ms;
    while at < until_ms {
        let step = schedule.step(at).unwrap();
        assert!(step.contains(&at), "{at} lies in its step {step:?}");
        at = step.end;
        found.push(at);
    }
    found
}

fn boundaries_of_day(schedule: &Schedule, name: &str, day: Date) -> Vec<i64> {
    let (start, end) = (midnight_ms(name, day), midnight_ms(name, day.tomorrow().unwrap()));
    boundaries(schedule, start, end).into_iter().map(|at| at - start).collect()
}

#[test]
fn a_day_of_24_hours_has_24_hourly_boundaries() {
    for name in ["Asia/Seoul", "UTC", "America/New_York"] {
        let found = boundaries_of_day(&Schedule::hourly(name), name, date(2024, 6, 1));
        assert_eq!(found, (1..=24).map(|hour| hour * HOUR_MS).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn days_of_23_and_25_hours_end_at_their_own_midnight() {
    for (name, day, hours) in [
        ("America/New_York", date(2024, 3, 10), 23),
        ("America/New_York", date(2024, 11, 3), 25),
        ("Europe/Berlin", date(2024, 3, 31), 23),
        ("Europe/Berlin", date(2024, 10, 27), 25),
        ("Asia/Seoul", date(2024, 3, 10), 24),
    ] {
        let hourly = boundaries_of_day(&Schedule::hourly(name), name, day);
        assert_eq!(hourly, (1..=hours).map(|hour| hour * HOUR_MS).collect::<Vec<_>>(), "{name} {day}");
        // A grid that does not divide the day: the last step is the rest.
        let by_seven = boundaries_of_day(&Schedule::minutes(7 * 60, name), name, day);
        assert_eq!(by_seven, [7, 14, 21, hours].map(|hour| hour * HOUR_MS), "{name} {day}");
        assert_eq!(boundaries_of_day(&Schedule::daily(name), name, day), [hours * HOUR_MS]);
        let weekly = Schedule::every(Duration::from_hours(7 * 24), name);
        assert_eq!(boundaries_of_day(&weekly, name, day), [hours * HOUR_MS], "midnight is always a boundary");
    }
}

#[test]
fn half_hour_zones_are_anchored_at_their_own_midnight() {
    let schedule = Schedule::hourly("Asia/Kolkata");
    let midnight = midnight_ms("Asia/Kolkata", date(2024, 6, 1));
    assert_eq!(midnight % HOUR_MS, HOUR_MS / 2);
    assert_eq!(schedule.step(midnight + 5), Some(midnight..midnight + HOUR_MS));
    assert_eq!(Schedule::hourly("+05:30").step(midnight + 5), Some(midnight..midnight + HOUR_MS));
}

#[test]
fn a_segment_ends_at_the_boundary_and_not_before() {
    let schedule = Schedule::minutes(15, "Asia/Seoul");
    let open = SegmentStats::opened(minutes_after(noon(), 7));
    assert_eq!(schedule.tick(&open, minutes_after(noon(), 15) - Duration::from_millis(1)), Cut::No);
    assert_eq!(schedule.tick(&open, minutes_after(noon(), 15)), Cut::Yes(CutReason::Schedule));
    let open = SegmentStats::opened(minutes_after(noon(), 15));
    assert_eq!(schedule.tick(&open, minutes_after(noon(), 15)), Cut::No, "a boundary opens the next step");
    assert_eq!(schedule.tick(&open, minutes_after(noon(), 30)), Cut::Yes(CutReason::Schedule));
}

#[test]
fn a_clock_that_jumps_does_not_keep_a_segment_open() {
    let schedule = Schedule::minutes(15, "Asia/Seoul");
    let open = SegmentStats::opened(minutes_after(noon(), 1));
    assert_eq!(schedule.tick(&open, minutes_after(noon(), 61)), Cut::Yes(CutReason::Schedule));
    let hour_back = minutes_after(noon(), 1) - Duration::from_hours(1);
    assert_eq!(schedule.tick(&open, hour_back), Cut::Yes(CutReason::Schedule));
    let over_the_boundary = noon() - Duration::from_secs(2);
    assert_eq!(schedule.tick(&open, over_the_boundary), Cut::No, "small corrections make no tiny segments");
}

#[test]
fn two_midnights_in_one_night_are_two_boundaries() {
    // Newfoundland's clocks went back an hour at 00:01 until 2011.
    let name = "America/St_Johns";
    let first = midnight_ms(name, date(2010, 11, 7));
    let between = first + HOUR_MS / 2;
    assert_eq!(
        zone(name).to_datetime(Timestamp::from_millisecond(between).unwrap()).date(),
        date(2010, 11, 6)
    );
    assert_eq!(Schedule::daily(name).step(first - 1).unwrap().end, first);
    assert_eq!(Schedule::daily(name).step(between).unwrap().end, first + HOUR_MS);
}

#[test]
fn unusable_schedules_say_so_and_never_cut() {
    let zero = Schedule::minutes(0, "UTC");
    let unknown = Schedule::hourly("Mars/Olympus");
    assert_eq!(Schedule::hourly("GMT+9").problems().len(), 1, "POSIX means nine hours behind");
    let both = Schedule::every(Duration::from_nanos(1), "");
    assert_eq!((zero.problems().len(), unknown.problems().len(), both.problems().len()), (1, 1, 2));
    let open = SegmentStats::opened(noon());
    for schedule in [zero, unknown, both] {
        assert_eq!(schedule.tick(&open, minutes_after(noon(), 1_000_000)), Cut::No);
    }
    let absurd = SegmentStats::opened(from_unix_millis(i64::MAX));
    assert_eq!(Schedule::hourly("UTC").tick(&absurd, noon()), Cut::No);
}

proptest! {
    #[test]
    fn boundaries_ascend_and_hit_every_local_midnight(
        name in prop::sample::select(vec![
            "America/New_York", "Europe/Berlin", "Asia/Seoul", "America/Sao_Paulo", "Australia/Lord_Howe",
            "America/St_Johns", "America/Havana", "Pacific/Apia", "Africa/Cairo", "Asia/Kathmandu",
        ]),
        start_day in 0..20_000_i16,
        start_in_day_ms in 0..24 * HOUR_MS,
        period_minutes in 1..1500_u64,
    ) {
        let schedule = Schedule::minutes(period_minutes, name);
        let first_day = date(1971, 1, 1).checked_add(jiff::Span::new().days(i64::from(start_day))).unwrap();
        let from = midnight_ms(name, first_day) + start_in_day_ms;
        let until = from + 5 * 24 * HOUR_MS;
        let found = boundaries(&schedule, from, until);
        prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        // A period of a day or more means midnight alone, which is 25 hours away on some days.
        let longest = if period_minutes < 24 * 60 { i64::try_from(period_minutes).unwrap() * 60_000 } else { 25 * HOUR_MS };
        prop_assert!(found.windows(2).all(|pair| pair[1] - pair[0] <= longest));
        let found: BTreeSet<i64> = found.into_iter().collect();
        for day in first_day.series(jiff::Span::new().days(1)).take(8) {
            let midnight = midnight_ms(name, day);
            if from < midnight && midnight <= until {
                prop_assert!(found.contains(&midnight), "{} {}", name, day);
            }
        }
    }
}
