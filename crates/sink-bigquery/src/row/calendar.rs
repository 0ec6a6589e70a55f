//! Days, times and moments: from what producers write to what BigQuery reads.

use aqueduct_core::TimeUnit;
use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::{Pieces, PiecesOffset};

/// 0001-01-01 and 9999-12-31, in days since 1970-01-01.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A day within BigQuery's calendar.
pub(crate) fn days(days: i64) -> Option<i64> {
    DAYS.contains(&days).then_some(days)
}

/// A moment within BigQuery's calendar, in microseconds.
pub(crate) fn micros(micros: i64) -> Option<i64> {
    DAYS.contains(&micros.div_euclid(MICROS_PER_DAY)).then_some(micros)
}

/// `count` units in microseconds; what is finer is cut off, towards the past.
pub(crate) fn in_micros(count: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Millis => count.checked_mul(1_000),
        TimeUnit::Micros => Some(count),
        TimeUnit::Nanos => Some(count.div_euclid(1_000)),
    }
}

/// `2021-06-28`.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    // The parser takes a whole date and time as well, and would drop the time.
    if text.len() != 10 {
        return None;
    }
    days(days_of(text.parse().ok()?))
}

fn days_of(date: Date) -> i64 {
    let since = date.duration_since(Date::constant(1970, 1, 1));
    since.as_secs().div_euclid(86_400)
}

/// RFC 3339, or the same with a space for `T`, ` UTC` for `Z`, or no zone at all, which is UTC. Digits beyond the microsecond are
/// cut off.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let (civil, offset) = parse_civil(text.strip_suffix(" UTC").unwrap_or(text))?;
    micros(civil_micros(civil)? - i64::from(offset.unwrap_or_default()) * 1_000_000)
}

fn floor_micros(duration: SignedDuration) -> Option<i64> {
    i64::try_from(duration.as_nanos().div_euclid(1_000)).ok()
}

fn civil_micros(civil: DateTime) -> Option<i64> {
    floor_micros(civil.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)))
}

/// A date and a time, and the seconds its zone is ahead of UTC if it names one by its offset. Not through the library's own type
/// of a moment, which ends a day before BigQuery's calendar does.
fn parse_civil(text: &str) -> Option<(DateTime, Option<i32>)> {
    let pieces = Pieces::parse(text).ok()?;
    if pieces.time_zone_annotation().is_some() {
        return None;
    }
    let offset = pieces.offset().map(|offset| match offset {
        PiecesOffset::Numeric(numeric) => numeric.offset().seconds(),
        _ => 0,
    });
    Some((pieces.date().to_datetime(pieces.time()?), offset))
}

/// A date and a time without a zone, in microseconds since 1970-01-01T00:00.
pub(crate) fn parse_datetime(text: &str) -> Option<i64> {
    match parse_civil(text)? {
        (civil, None) => micros(civil_micros(civil)?),
        // It means another moment wherever it is read.
        (_, Some(_)) => None,
    }
}

/// A time of day, in microseconds.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    if text.len() < 5 || text.bytes().any(|byte| !(byte.is_ascii_digit() || matches!(byte, b':' | b'.'))) {
        return None;
    }
    let time: Time = text.parse().ok()?;
    floor_micros(time.duration_since(Time::midnight()))
}

/// `07:30:00.250000`, a `TIME` literal; `None` if a day has no such time.
pub(crate) fn put_time(out: &mut Vec<u8>, micros: i64) -> Option<()> {
    if !(0..MICROS_PER_DAY).contains(&micros) {
        return None;
    }
    let seconds = micros / 1_000_000;
    put_number(out, seconds / 3600, 2);
    out.push(b':');
    put_number(out, seconds / 60 % 60, 2);
    out.push(b':');
    put_number(out, seconds % 60, 2);
    let fraction = micros % 1_000_000;
    if fraction > 0 {
        out.push(b'.');
        put_number(out, fraction, 6);
    }
    Some(())
}

/// `2021-06-28 07:30:00.250000`, a `DATETIME` literal, of microseconds since 1970-01-01T00:00.
pub(crate) fn put_datetime(out: &mut Vec<u8>, at: i64) -> Option<()> {
    let at = micros(at)?;
    let days = i32::try_from(at.div_euclid(MICROS_PER_DAY)).ok()?;
    let date = Date::constant(1970, 1, 1).checked_add(jiff::Span::new().days(days)).ok()?;
    put_number(out, date.year().into(), 4);
    out.push(b'-');
    put_number(out, date.month().into(), 2);
    out.push(b'-');
    put_number(out, date.day().into(), 2);
    out.push(b' ');
    put_time(out, at.rem_euclid(MICROS_PER_DAY))
}

fn put_number(out: &mut Vec<u8>, number: i64, digits: u32) {
    for place in (0..digits).rev() {
        let digit = number / 10_i64.pow(place) % 10;
        out.push(b'0' + u8::try_from(digit).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_a_moment_is_the_same_moment() {
        let expected = Some(1_624_865_400_250_000);
        for text in [
            "2021-06-28T07:30:00.25Z",
            "2021-06-28T09:30:00.25+02:00",
            "2021-06-28 07:30:00.250 UTC",
            "2021-06-28 07:30:00.25",
            "2021-06-28T07:30:00.250000999Z",
        ] {
            assert_eq!(parse_timestamp(text), expected, "{text}");
        }
        for bad in
            ["", "2021-06-28", "2021-13-01T00:00:00Z", "28.06.2021 07:30:00", "0000-12-31T23:59:59Z", "now"]
        {
            assert_eq!(parse_timestamp(bad), None, "{bad:?}");
        }
        assert_eq!(parse_timestamp("1969-12-31T23:59:59.9999995Z"), Some(-1), "cut off, not rounded");
    }

    #[test]
    fn the_calendar_has_a_first_and_a_last_day() {
        assert_eq!(parse_date("0001-01-01"), Some(-719_162));
        assert_eq!(parse_date("9999-12-31"), Some(2_932_896));
        assert_eq!(parse_date("0000-12-31"), None);
        assert_eq!((days(-719_163), days(2_932_897)), (None, None));
        assert_eq!(micros(-719_162 * MICROS_PER_DAY), Some(-719_162 * MICROS_PER_DAY));
        assert_eq!(micros(-719_162 * MICROS_PER_DAY - 1), None);
        assert_eq!(micros(2_932_897 * MICROS_PER_DAY), None);
        assert_eq!(parse_timestamp("9999-12-31T23:59:59.999999Z"), Some(2_932_897 * MICROS_PER_DAY - 1));
    }

    #[test]
    fn literals_are_bigquerys() {
        let mut out = Vec::new();
        put_datetime(&mut out, -1).unwrap();
        assert_eq!(out, b"1969-12-31 23:59:59.999999");
        out.clear();
        put_datetime(&mut out, parse_datetime("2021-06-28T07:30:00").unwrap()).unwrap();
        assert_eq!(out, b"2021-06-28 07:30:00");
        out.clear();
        put_time(&mut out, parse_time("07:30:00.5").unwrap()).unwrap();
        assert_eq!(out, b"07:30:00.500000");
        assert_eq!(put_time(&mut out, MICROS_PER_DAY), None);
        assert_eq!(parse_datetime("2021-06-28T07:30:00Z"), None, "a zone has no place in a DATETIME");
        assert_eq!(parse_datetime("2021-06-28T07:30:00-05:00"), None);
        assert_eq!((parse_time("24:00:00"), parse_time("7"), parse_time("07:30:00Z")), (None, None, None));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(at in -719_162 * MICROS_PER_DAY..2_932_897 * MICROS_PER_DAY) {
            let mut out = Vec::new();
            put_datetime(&mut out, at).unwrap();
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(parse_datetime(&text), Some(at));
            prop_assert_eq!(parse_timestamp(&text), Some(at));
            prop_assert_eq!(parse_date(&text[..10]), Some(at.div_euclid(MICROS_PER_DAY)));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let read = [parse_date(&text), parse_time(&text), parse_datetime(&text), parse_timestamp(&text)];
            prop_assert_eq!(read.len(), 4);
        }
    }
}
