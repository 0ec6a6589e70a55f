//! Moments as text, up to the last day of the calendar.

use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::{Pieces, PiecesOffset};

use super::TimeUnit;

/// What a text such as `2021-06-28T09:30:00+02:00` (RFC 3339, ISO 8601) says, for whoever takes times as text.
///
/// ```
/// use aqueduct_core::TimeText;
///
/// let at = TimeText::parse("1970-01-01T02:00:00.5+02:00").unwrap();
/// assert_eq!((at.nanos, at.utc), (500_000_000, true));
/// assert!(!TimeText::parse("1970-01-01T02:00:00").unwrap().utc);
/// assert!(TimeText::parse("9999-12-31T23:59:59.999999Z").is_some());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeText {
    /// Nanoseconds since 1970-01-01T00:00.
    pub nanos: i128,
    /// Whether the text names an offset, so that it is a moment of the world (UTC); else it is what a calendar and a clock
    /// somewhere show. A text without a time is the midnight its day begins with.
    pub utc: bool,
}

impl TimeText {
    /// Reads `text`; `None` if it is no such text, or a moment outside of the years -9999 to 9999 in UTC.
    pub fn parse(text: &str) -> Option<Self> {
        // In pieces: the library's own type of a moment ends a day before the calendar does.
        let pieces = Pieces::parse(text).ok()?;
        let offset = pieces.offset().map(|offset| match offset {
            PiecesOffset::Numeric(numeric) => numeric.offset().seconds(),
            _ => 0,
        });
        let civil = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
        let since = civil.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
        let nanos = since.as_nanos() - i128::from(offset.unwrap_or(0)) * 1_000_000_000;
        let at = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
        is_shown(at).then_some(Self { nanos, utc: offset.is_some() })
    }
}

impl TimeUnit {
    /// Whether a calendar of the years -9999 to 9999 shows the moment `count` units after 1970-01-01T00:00.
    pub const fn is_shown(self, count: i64) -> bool {
        is_shown(count.div_euclid(self.per_second()))
    }
}

const fn is_shown(seconds: i64) -> bool {
    // From -9999-01-01T00:00:00 to 9999-12-31T23:59:59.
    -377_705_116_800 <= seconds && seconds <= 253_402_300_799
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_calendar_has_its_last_day_and_its_first() {
        for (text, nanos) in [
            ("9999-12-31T23:59:59.999999999Z", 253_402_300_799_999_999_999),
            ("9999-12-31T23:59:59-00:00", 253_402_300_799_000_000_000),
            ("-009999-01-01T00:00:00Z", -377_705_116_800_000_000_000),
        ] {
            assert_eq!(TimeText::parse(text), Some(TimeText { nanos, utc: true }), "{text}");
        }
        for beyond in
            ["9999-12-31T23:59:59.999-00:01", "-009999-01-01T00:00:00+00:01", "+010000-01-01T00:00:00Z"]
        {
            assert_eq!(TimeText::parse(beyond), None, "{beyond}");
        }
        for unit in [TimeUnit::Millis, TimeUnit::Micros] {
            let (first, end) = (-377_705_116_800 * unit.per_second(), 253_402_300_800 * unit.per_second());
            assert!(unit.is_shown(first) && unit.is_shown(end - 1), "{unit:?}");
            assert!(!unit.is_shown(first - 1) && !unit.is_shown(end), "{unit:?}");
        }
        assert!(TimeUnit::Nanos.is_shown(i64::MIN) && TimeUnit::Nanos.is_shown(i64::MAX));
    }

    #[test]
    fn a_text_says_whether_it_says_where() {
        let parsed = |text: &str| TimeText::parse(text).map(|at| (at.nanos, at.utc));
        assert_eq!(parsed("1970-01-01T09:00:00+09:00[Asia/Seoul]"), Some((0, true)));
        assert_eq!(parsed("19700101T000001Z"), Some((1_000_000_000, true)));
        assert_eq!(parsed("1969-12-31T23:59:59.999999999"), Some((-1, false)));
        assert_eq!(parsed("1970-01-02"), Some((86_400_000_000_000, false)));
        for text in ["", "09:00", "1970-01-01Z", "1970-02-30T00:00:00Z", "1970-01-01T24:00:00Z", "0"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_the_library_reads_is_read_alike(text in "[12][09]7[0-9]-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|[+-][0-2][0-9]:?[0-9]{2})?") {
            let moment = TimeText::parse(&text).filter(|at| at.utc).map(|at| at.nanos);
            prop_assert_eq!(moment, text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_nanosecond));
        }
    }
}
