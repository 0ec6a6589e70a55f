use jiff::Timestamp;
use jiff::tz::Offset;
use proptest::prelude::*;

use super::*;

fn joda(pattern: &str, reading: &str) -> String {
    render(&Pattern::joda(pattern).unwrap(), reading)
}

fn strftime(pattern: &str, reading: &str) -> String {
    render(&Pattern::strftime(pattern).unwrap(), reading)
}

fn render(pattern: &Pattern, reading: &str) -> String {
    let clock: DateTime = reading.parse().unwrap();
    let local_ms = Offset::UTC.to_timestamp(clock).unwrap().as_millisecond();
    let mut path = RoutePath::default();
    pattern.render(local_ms, &mut path).unwrap();
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
        ("M MM MMM MMMM MMMMM", "2024-06-01T00:00:00", "6 06 Jun June June"),
        ("E EE EEE EEEE EEEEE", "2024-06-01T00:00:00", "Sat Sat Sat Saturday Saturday"),
        ("YYYY/MMM/dd'th'", "2024-12-31T00:00:00", "2024/Dec/31th"),
        ("'100%'=YYYY", "2024-06-01T00:00:00", "100%25=2024"),
    ] {
        assert_eq!(joda(pattern, reading), expected, "{pattern}");
    }
}

#[test]
fn unsupported_letters_are_named_with_their_place() {
    for (pattern, letters, position, remedy) in [
        ("year=YYYY", "a", 3, "language"),
        ("hh a", "a", 4, "write HH"),
        ("HH Z", "Z", 4, "one zone"),
        ("HH:mm z", "z", 7, "one zone"),
        ("G YYYY", "G", 1, "quotes"),
        ("CC", "CC", 1, "quotes"),
        ("uuuu", "uuuu", 1, "quotes"),
        ("'é'bYYYY", "b", 4, "quotes"),
        ("YYYYYYYYYYYYYYYYYYYYY", "YYYYYYYYYYYYYYYYYYYYY", 1, "fewer"),
    ] {
        let error = Pattern::joda(pattern).unwrap_err();
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
fn strftime_renders_as_everybody_renders_it() {
    for (pattern, reading, expected) in [
        ("year=%Y/month=%m/day=%d/hour=%H", "2024-06-01T09:05:07", "year=2024/month=06/day=01/hour=09"),
        ("%Y%m%d%H%M%S%3f", "2024-06-01T09:05:07.089", "20240601090507089"),
        ("%-m %-d %-H %-M %-S %-I %-j", "2024-06-01T09:05:07", "6 1 9 5 7 9 153"),
        ("%0e %0k %0l %0m %-e %-k %-l", "2024-06-01T09:05:07", "01 09 09 06 1 9 9"),
        ("%y %C %Y", "1999-06-01T00:00:00", "99 19 1999"),
        ("%Y", "0007-06-01T00:00:00", "0007"),
        ("%G-W%V-%u %Y", "2024-12-30T00:00:00", "2025-W01-1 2024"),
        ("%g %V", "2021-01-01T00:00:00", "20 53"),
        ("%U %W %w %u", "2024-01-01T00:00:00", "00 01 1 1"),
        ("%U %W %w %u", "2023-01-01T00:00:00", "01 00 0 7"),
        ("%U %W %w %u", "2024-12-31T00:00:00", "52 53 2 2"),
        ("%q", "2024-03-31T00:00:00", "1"),
        ("%q", "2024-10-01T00:00:00", "4"),
        ("%I:%M", "2024-06-01T00:05:07", "12:05"),
        ("%I:%M", "2024-06-01T13:05:07", "01:05"),
        ("%F/%T/%R", "2024-06-01T09:05:07", "2024-06-01/09:05:07/09:05"),
        ("%S%.3f %1f %6f %9f", "2024-06-01T09:05:07.089", "07.089 0 089000 089000000"),
        ("%b %h %B %a %A", "2024-06-01T00:00:00", "Jun Jun June Sat Saturday"),
        ("%B|%A", "2024-05-05T00:00:00", "May|Sunday"),
        // Everything else stands for itself, quotes too.
        ("'year'=%Y", "2024-06-01T00:00:00", "'year'=2024"),
        ("100%%=%Y", "2024-06-01T00:00:00", "100%25=2024"),
        ("날짜=%Y년", "2024-06-01T00:00:00", "날짜=2024년"),
        ("/a//%Y/", "2024-06-01T00:00:00", "a/2024"),
        ("../%Y", "2024-06-01T00:00:00", "%2E%2E/2024"),
    ] {
        assert_eq!(strftime(pattern, reading), expected, "{pattern}");
    }
}

#[test]
fn unsupported_specifiers_are_named_with_their_place() {
    for (pattern, specifier, position, remedy) in [
        ("%Y/%Q", "%Q", 4, "no specifier"),
        ("%Y/%", "%", 4, "written %%"),
        ("100%/%Y", "%", 4, "written %%"),
        ("%Y 100% ", "% ", 7, "no specifier"),
        ("%Y%e", "%e", 3, "%-d"),
        ("%_d", "%_d", 1, "spaces"),
        ("é%^B", "%^B", 2, "case"),
        ("%-F", "%-F", 1, "flag"),
        ("%Y-%D", "%D", 4, "slashes"),
        ("%H.%f", "%f", 4, "%6f"),
        ("%0f", "%0f", 1, "%6f"),
        ("%.f", "%.f", 1, "like %3f"),
        ("%3Y", "%3Y", 1, "like %3f"),
        ("%3L", "%3L", 1, "like %3f"),
        ("%L", "%L", 1, "%3f"),
        ("%N", "%N", 1, "%9f"),
        ("%s", "%s", 1, "local time"),
        ("%c", "%c", 1, "language"),
        ("%x", "%x", 1, "language"),
        ("%Ey", "%E", 1, "dialect"),
        ("%I %p", "%p", 4, "write %H"),
        ("%H %Z", "%Z", 4, "one zone"),
        ("%H%:z", "%:", 3, "one zone"),
        ("%n", "%n", 1, "line breaks"),
        ("%날", "%날", 1, "no specifier"),
    ] {
        let error = Pattern::strftime(pattern).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(&error, LayoutError::UnsupportedLetter { letters, position: p, .. }
                if letters == specifier && *p == position),
            "{pattern}: {error:?}"
        );
        assert!(text.contains(remedy) && text.contains(&format!("character {position} ")), "{text}");
    }
    for pattern in ["", "2024", "%%", "'year'=YYYY"] {
        assert_eq!(Pattern::strftime(pattern), Err(LayoutError::NoLetters { pattern: pattern.to_owned() }));
    }
    let past_limit = "%H".repeat(RENDERED_MAX / 2 + 1);
    assert!(matches!(Pattern::strftime(&past_limit), Err(LayoutError::PatternTooLong { length: 258, .. })));
}

#[test]
fn useless_patterns_are_errors() {
    for pattern in ["", "/", "'year'", "2024", "''"] {
        assert_eq!(Pattern::joda(pattern), Err(LayoutError::NoLetters { pattern: pattern.to_owned() }));
    }
    for (pattern, position) in [("'year=YYYY", 1), ("YYYY'", 5), ("'a''YYYY", 1), ("'''", 3)] {
        assert_eq!(
            Pattern::joda(pattern),
            Err(LayoutError::UnclosedQuote { pattern: pattern.to_owned(), position }),
            "{pattern}"
        );
    }
    let at_limit = format!("'{}'YYYY", "x".repeat(RENDERED_MAX - 4));
    assert!(Pattern::joda(&at_limit).is_ok());
    let past_limit = format!("'{}'YYYY", "x".repeat(RENDERED_MAX - 3));
    assert!(matches!(
        Pattern::joda(&past_limit),
        Err(LayoutError::PatternTooLong { length: 257, limit: 256, .. })
    ));
}

proptest! {
    #[test]
    fn any_pattern_renders_or_is_an_error(
        joda in "[yYxMwdDeEHkKhmsS'/=. éG%-]{0,40}",
        strftime in "([/=. é]|%[-0_.]?[a-zA-Z0-9%]){0,12}",
        local_ms in 0..4_000_000_000_000_i64,
    ) {
        for parsed in [Pattern::joda(&joda), Pattern::strftime(&strftime)].into_iter().flatten() {
            let mut path = RoutePath::default();
            if parsed.render(local_ms, &mut path).is_ok() {
                prop_assert!(!path.as_str().split('/').any(|level| level.is_empty() || level == ".."), "{}", path.as_str());
            }
        }
    }

    #[test]
    fn rendering_agrees_with_another_formatter(local_ms in -2_000_000_000_000_i64..4_000_000_000_000) {
        let clock = Offset::UTC.to_datetime(Timestamp::from_millisecond(local_ms).unwrap());
        let rendered = |pattern: Result<Pattern, LayoutError>| {
            let mut path = RoutePath::default();
            pattern.unwrap().render(local_ms, &mut path).unwrap();
            path.as_str().to_owned()
        };
        let expected = clock.strftime("%Y-%m-%d %H:%M:%S.%3f %j %G %V %u %I %b %B %a %A").to_string();
        prop_assert_eq!(rendered(Pattern::joda("YYYY-MM-dd HH:mm:ss.SSS DDD xxxx ww e hh MMM MMMM EEE EEEE")), expected);
        let all = "%Y %y %C %G %g %q %m %V %U %W %d %j %u %w %H %I %M %S %3f %.6f %F %T %R %b %B %a %A %-m %-d %-H %-j";
        prop_assert_eq!(rendered(Pattern::strftime(all)), clock.strftime(all).to_string());
    }
}
