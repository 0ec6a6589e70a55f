//! Days, hours and moments as text, by arithmetic of our own: the judge does not ask the calendar that it judges.

use xtask::readers::Unit;

/// A day and a time of that day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    minute: i64,
    second: i64,
    /// Units of the second.
    rest: i64,
    unit: Unit,
}

impl Moment {
    /// `count` units after 1970-01-01T00:00.
    pub(crate) fn at(count: i64, unit: Unit) -> Self {
        let (seconds, rest) = (count.div_euclid(unit.per_second()), count.rem_euclid(unit.per_second()));
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        Self { year, month, day, hour, minute, second, rest, unit }
    }

    /// `2021-06-28T07:30:00.250`, with the digits of its unit.
    pub(crate) fn text(&self) -> String {
        let Self { year, month, day, .. } = self;
        format!("{year:04}-{month:02}-{day:02}T{}", self.time_text())
    }

    /// `07:30:00.250`, with the digits of its unit.
    pub(super) fn time_text(&self) -> String {
        let Self { hour, minute, second, rest, unit, .. } = self;
        let digits = match unit {
            Unit::Seconds => return format!("{hour:02}:{minute:02}:{second:02}"),
            Unit::Millis => 3,
            Unit::Micros => 6,
            Unit::Nanos => 9,
        };
        format!("{hour:02}:{minute:02}:{second:02}.{rest:0digits$}")
    }
}

/// `2021-06-28`.
pub(super) fn date_text(days: i64) -> String {
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of the day so many days after 1970-01-01, in the Gregorian calendar without a beginning: years are counted
/// from March, in cycles of 400 years that have 146 097 days each.
fn civil(days: i64) -> (i64, i64, i64) {
    let since_march_0000 = days + 719_468;
    let (cycle, of_cycle) = (since_march_0000.div_euclid(146_097), since_march_0000.rem_euclid(146_097));
    let year_of_cycle = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year_of_cycle + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let known = [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (19_782, "2024-02-29"),
            (19_783, "2024-03-01"),
            (-719_162, "0001-01-01"),
            (2_932_896, "9999-12-31"),
            (-25_509, "1900-02-28"),
            (-25_508, "1900-03-01"),
        ];
        for (days, text) in known {
            assert_eq!(date_text(days), text);
        }
    }

    #[test]
    fn moments_have_the_digits_of_their_unit() {
        assert_eq!(Moment::at(-1, Unit::Micros).text(), "1969-12-31T23:59:59.999999");
        assert_eq!(Moment::at(1_767_227_400_000, Unit::Millis).text(), "2026-01-01T00:30:00.000");
        assert_eq!(Moment::at(253_402_300_799, Unit::Seconds).text(), "9999-12-31T23:59:59");
        assert_eq!(Moment::at(86_399_999_999_999, Unit::Nanos).time_text(), "23:59:59.999999999");
    }
}
