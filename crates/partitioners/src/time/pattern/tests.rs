use proptest::prelude::*;

use super::*;

fn render(pattern: &str, reading: &str) -> String {
    let clock: DateTime = reading.parse().unwrap();
    let local_ms = Offset::UTC.to_timestamp(clock).unwrap().as_millisecond();
    let mut path = RoutePath::default();
    Pattern::parse(pattern).unwrap().render(local_ms, &mut path).unwrap();
    path.as_str().to_owned()
}

#[test]
fn patterns_render_as_joda_renders_them() {
    for (pattern, reading, expected) in [
        (
            "'year'=YYYY/'month'=MM/'day'=dd/'hour'=HH",
            "2024-06-01T09:05:07",
            "year=2024/month=06/day=01/hour=09",
        ),
        ("'year='yyyy/'month='MM/'day='dd", "2024-06-01T09:05:07", "year=2024/month=06/day=01"),
        ("YYYY/MM/dd/HH/mm/ss", "2024-06-01T09:05:07", "2024/06/01/09/05/07"),
        ("yyyy-MM-dd", "2024-06-01T09:05:07", "2024-06-01"),
        ("y-M-d H:m:s", "2024-06-01T09:05:07", "2024-6-1 9:5:7"),
        ("YYYYMMddHHmmssSSS", "2024-06-01T09:05:07.089", "20240601090507089"),
        ("S SS SSSS", "2024-06-01T09:05:07.089", "0 08 0890"),
        ("SSSSSSSSSSS", "2024-06-01T09:05:07.089", "08900000000"),
        ("yy YY yyy yyyyyy", "2024-06-01T00:00:00", "24 24 2024 002024"),
        ("yyyy", "0007-06-01T00:00:00", "0007"),
        ("D DDD", "2024-02-01T00:00:00", "32 032"),
        ("DDD", "2024-12-31T00:00:00", "366"),
        ("e ee", "2024-06-01T00:00:00", "6 06"),
        ("e", "2024-06-02T00:00:00", "7"),
        // The ISO week decides the week's year: 2024-12-30 is a Monday of 2025's first week.
        ("xxxx-'W'ww-e YYYY", "2024-12-30T00:00:00", "2025-W01-1 2024"),
        ("xx w", "2021-01-01T00:00:00", "20 53"),
        ("HH kk KK hh", "2024-06-01T00:00:00", "00 24 00 12"),
        ("HH kk KK hh", "2024-06-01T12:00:00", "12 12 00 12"),
        ("HH kk KK hh", "2024-06-01T13:00:00", "13 13 01 01"),
        ("HH kk KK hh", "2024-06-01T23:00:00", "23 23 11 11"),
        ("'o''clock' HH", "2024-06-01T09:00:00", "o'clock 09"),
        ("HH''mm", "2024-06-01T09:05:00", "09'05"),
        ("'''q''' HH", "2024-06-01T09:05:00", "'q' 09"),
        ("'dt'=YYYY'-'MM'-'dd", "2024-06-01T00:00:00", "dt=2024-06-01"),
        ("'날짜'=YYYY년", "2024-06-01T00:00:00", "날짜=2024년"),
        // Slashes in quotes separate levels too; empty levels disappear, as does one at the end.
        ("'a/b'/YYYY//MM/", "2024-06-01T00:00:00", "a/b/2024/06"),
        ("'..'/YYYY", "2024-06-01T00:00:00", "%2E%2E/2024"),
        ("'100%'=YYYY", "2024-06-01T00:00:00", "100%25=2024"),
    ] {
        assert_eq!(render(pattern, reading), expected, "{pattern}");
    }
}

#[test]
fn unsupported_letters_are_named_with_their_place() {
    for (pattern, letters, position, remedy) in [
        ("year=YYYY", "a", 3, "language"),
        ("YYYY/'month'=MMM", "MMM", 14, "write MM"),
        ("YYYY EEE", "EEE", 6, "write e"),
        ("hh a", "a", 4, "write HH"),
        ("HH Z", "Z", 4, "one zone"),
        ("HH:mm z", "z", 7, "one zone"),
        ("G YYYY", "G", 1, "quotes"),
        ("CC", "CC", 1, "quotes"),
        ("uuuu", "uuuu", 1, "quotes"),
        ("'é'bYYYY", "b", 4, "quotes"),
        ("YYYYYYYYYYYYYYYYYYYYY", "YYYYYYYYYYYYYYYYYYYYY", 1, "fewer"),
    ] {
        let error = Pattern::parse(pattern).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(&error, LayoutError::UnsupportedLetter { letters: l, position: p, .. }
                if l == letters && *p == position),
            "{error:?}"
        );
        assert!(text.contains(remedy) && text.contains(&format!("character {position} ")), "{text}");
    }
}

#[test]
fn useless_patterns_are_errors() {
    for pattern in ["", "/", "'year'", "2024", "''"] {
        assert_eq!(Pattern::parse(pattern), Err(LayoutError::NoLetters { pattern: pattern.to_owned() }));
    }
    for (pattern, position) in [("'year=YYYY", 1), ("YYYY'", 5), ("'a''YYYY", 1), ("'''", 3)] {
        assert_eq!(
            Pattern::parse(pattern),
            Err(LayoutError::UnclosedQuote { pattern: pattern.to_owned(), position }),
            "{pattern}"
        );
    }
    let at_limit = format!("'{}'YYYY", "x".repeat(RENDERED_MAX - 4));
    assert!(Pattern::parse(&at_limit).is_ok());
    let past_limit = format!("'{}'YYYY", "x".repeat(RENDERED_MAX - 3));
    assert!(matches!(
        Pattern::parse(&past_limit),
        Err(LayoutError::PatternTooLong { length: 257, limit: 256, .. })
    ));
}

proptest! {
    #[test]
    fn any_pattern_renders_or_is_an_error(pattern in "[yYxMwdDeHkKhmsS'/=. éG%-]{0,40}", local_ms in 0..4_000_000_000_000_i64) {
        if let Ok(parsed) = Pattern::parse(&pattern) {
            let mut path = RoutePath::default();
            if parsed.render(local_ms, &mut path).is_ok() {
                prop_assert!(!path.as_str().split('/').any(|level| level.is_empty() || level == ".."), "{}", path.as_str());
            }
        }
    }

    #[test]
    fn rendering_agrees_with_another_formatter(local_ms in -2_000_000_000_000_i64..4_000_000_000_000) {
        let mut path = RoutePath::default();
        Pattern::parse("YYYY-MM-dd HH:mm:ss.SSS DDD xxxx ww e hh").unwrap().render(local_ms, &mut path).unwrap();
        let clock = Offset::UTC.to_datetime(Timestamp::from_millisecond(local_ms).unwrap());
        prop_assert_eq!(path.as_str(), clock.strftime("%Y-%m-%d %H:%M:%S.%3f %j %G %V %u %I").to_string());
    }
}
