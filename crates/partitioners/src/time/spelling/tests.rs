use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

const UNITS: [(TimeFormat, i64); 4] = [
    (TimeFormat::Seconds, 1),
    (TimeFormat::Millis, 1_000),
    (TimeFormat::Micros, 1_000_000),
    (TimeFormat::Nanos, 1_000_000_000),
];

fn text(format: TimeFormat, text: &str) -> Millis {
    Spelling::new(format).text(text)
}

#[test]
fn decimals_are_exact_and_cut_down() {
    for (format, spelled, expected) in [
        (TimeFormat::Seconds, "0", 0),
        (TimeFormat::Seconds, "-0", 0),
        (TimeFormat::Seconds, "+7", 7_000),
        (TimeFormat::Seconds, "1717200307.089999999", 1_717_200_307_089),
        (TimeFormat::Seconds, "1717200307.5", 1_717_200_307_500),
        (TimeFormat::Seconds, "-1.5", -1_500),
        (TimeFormat::Seconds, "-0.0001", -1),
        (TimeFormat::Seconds, "-0.0010", -1),
        (TimeFormat::Millis, "12.999", 12),
        (TimeFormat::Millis, "-12.001", -13),
        (TimeFormat::Micros, "-1", -1),
        (TimeFormat::Micros, "-1000", -1),
        (TimeFormat::Micros, "-1000.1", -2),
        (TimeFormat::Nanos, "999999", 0),
        (TimeFormat::Nanos, "9223372036854775807", 9_223_372_036_854),
        (TimeFormat::Nanos, "18446744073709551615", 18_446_744_073_709),
        (TimeFormat::Millis, "-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(text(format, spelled), Ok(expected), "{format:?} {spelled}");
    }
}

#[test]
fn what_is_no_decimal_is_refused_and_what_is_too_large_too() {
    for spelled in
        ["", " 1", "1 ", "-", "+", ".", "1.", ".5", "--1", "+-1", "1e9", "0x10", "1,5", "١", "1.2.3"]
    {
        assert_eq!(text(TimeFormat::Seconds, spelled), Err("is text, expected a number"), "{spelled:?}");
    }
    for (format, spelled) in [
        (TimeFormat::Seconds, "9223372036854775807"),
        (TimeFormat::Millis, "-9223372036854775808.5"),
        (TimeFormat::Millis, "9223372036854775808"),
        (TimeFormat::Nanos, "18446744073709551616"),
    ] {
        assert_eq!(text(format, spelled), Err(OUT_OF_CALENDAR), "{format:?} {spelled}");
    }
}

#[test]
fn text_before_the_epoch_is_cut_down_like_numbers() {
    for (spelled, expected) in [
        ("1969-12-31T23:59:59.9995Z", -1),
        ("1969-12-31T23:59:59.999Z", -1),
        ("1970-01-01T00:00:00.0005Z", 0),
        ("1969-12-31T23:59:59Z", -1_000),
    ] {
        assert_eq!(text(TimeFormat::Iso8601, spelled), Ok(expected), "{spelled}");
    }
    let local = Spelling::new(TimeFormat::Iso8601).without_offset_in("+09:00").unwrap();
    assert_eq!(local.text("1970-01-01T08:59:59.9995"), Ok(-1));
}

#[test]
fn the_calendar_has_its_last_day_and_its_first() {
    for (spelled, expected) in [
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999),
        ("9999-12-31T22:59:59.999-01:00", 253_402_300_799_999),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("-009999-01-01T00:00:00Z", -377_705_116_800_000),
    ] {
        assert_eq!(text(TimeFormat::Iso8601, spelled), Ok(expected), "{spelled}");
    }
    for zone in ["UTC", "America/New_York", "Pacific/Auckland", "-11:00"] {
        let local = Spelling::new(TimeFormat::Iso8601).without_offset_in(zone).unwrap();
        // The same in every zone: it says where.
        assert_eq!(local.text("9999-12-31T23:59:59.999+00:00"), Ok(253_402_300_799_999), "{zone}");
        assert!(local.text("9999-12-31T23:59:59.999-00:01").is_err(), "{zone}");
    }
    let local = Spelling::new(TimeFormat::Iso8601).without_offset_in("UTC").unwrap();
    assert_eq!(local.text("9999-12-31T23:59:59.9999"), Ok(253_402_300_799_999));
    assert_eq!(local.date(2_932_896), Ok(253_402_214_400_000));
    assert_eq!(local.date(2_932_897), Err(OUT_OF_CALENDAR));
}

#[test]
fn text_of_many_digits_or_years_is_refused() {
    for spelled in ["10000-01-01T00:00:00Z", "2024-06-01T24:30:00Z", "2024-06-01", "09:00", "Sat, 1 Jun 2024"]
    {
        assert!(text(TimeFormat::Iso8601, spelled).is_err(), "{spelled}");
    }
    let long = "1".repeat(1 << 16);
    assert_eq!(text(TimeFormat::Seconds, &long), Err(OUT_OF_CALENDAR));
    assert_eq!(text(TimeFormat::Seconds, &format!("1.{long}")), Ok(1_111));
}

proptest! {
    #[test]
    fn whole_numbers_of_each_unit_round_trip(ms in -62_135_596_800_000_i64..253_402_300_800_000) {
        for (format, per_second) in UNITS {
            // Whole units below the millisecond, and what is left of one above it.
            let Some(count) = ms.checked_mul(per_second).map(|count| count.div_euclid(1_000)) else { continue };
            let expected = if per_second == 1 { ms - ms.rem_euclid(1_000) } else { ms };
            let spelling = Spelling::new(format);
            prop_assert_eq!(spelling.whole(count), Ok(expected));
            prop_assert_eq!(spelling.text(&count.to_string()), Ok(expected));
            if let Ok(unsigned) = u64::try_from(count) {
                prop_assert_eq!(spelling.unsigned(unsigned), Ok(expected));
            }
        }
        let instant = Timestamp::from_millisecond(ms).unwrap();
        prop_assert_eq!(text(TimeFormat::Iso8601, &instant.to_string()), Ok(ms));
        // As Python, Ruby and nginx write it.
        let (sign, size) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
        let seconds = format!("{sign}{}.{:03}", size / 1_000, size % 1_000);
        prop_assert_eq!(text(TimeFormat::Seconds, &seconds), Ok(ms));
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "that is what is tested")]
    fn floats_of_each_unit_round_trip(ms in 0_i64..4_102_444_800_000) {
        for (format, per_second) in UNITS {
            let count = if per_second == 1 { ms as f64 / 1e3 } else { ms as f64 * (per_second as f64 / 1e3) };
            prop_assert_eq!(Spelling::new(format).float(count), Ok(ms), "{:?} {}", format, count);
        }
    }

    #[test]
    fn no_number_panics(count: i64, unsigned: u64, float: f64) {
        for (format, per_second) in UNITS {
            let spelling = Spelling::new(format);
            let whole = spelling.whole(count);
            prop_assert_eq!(spelling.text(&count.to_string()), whole);
            let fits = i128::from(count) * 1_000 / i128::from(per_second);
            prop_assert_eq!(whole.is_ok(), i64::try_from(fits).is_ok());
            prop_assert_eq!(spelling.unsigned(unsigned).is_err(), unsigned > i64::MAX as u64 || spelling.whole(unsigned.cast_signed()).is_err());
            let read = spelling.float(float);
            prop_assert!(read.is_err() || read.is_ok_and(|ms| ms.unsigned_abs() < 1_000_000_000_000_000));
        }
    }
}
