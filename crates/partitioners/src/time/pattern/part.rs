//! The numbers a pattern can show.

use jiff::civil::DateTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Year,
    /// The last two digits.
    ShortYear,
    /// The digits before those.
    Century,
    WeekYear,
    /// The last two digits.
    ShortWeekYear,
    Quarter,
    Month,
    /// Of the ISO week's year.
    Week,
    /// Weeks from the year's first Sunday on; 0 before it.
    WeekFromSunday,
    /// Weeks from the year's first Monday on; 0 before it.
    WeekFromMonday,
    DayOfMonth,
    DayOfYear,
    /// Monday is 1, Sunday is 7.
    DayOfWeek,
    /// Sunday is 0.
    DayFromSunday,
    /// 0–23.
    Hour,
    /// 1–24.
    ClockHour,
    /// 0–11.
    HalfDayHour,
    /// 1–12.
    HalfDayClockHour,
    Minute,
    Second,
    /// The first digits of the second's fraction, truncated.
    Fraction(u8),
}

impl Part {
    /// The most digits its numbers have, in the years 1 to 9999.
    pub(super) fn digits_max(self) -> usize {
        match self {
            Self::Year | Self::WeekYear => 4,
            Self::DayOfYear => 3,
            Self::DayOfWeek | Self::DayFromSunday | Self::Quarter => 1,
            Self::Fraction(digits) => digits.into(),
            _ => 2,
        }
    }

    #[inline]
    pub(super) fn of(self, clock: DateTime) -> u32 {
        let hour = clock.hour();
        let number = match self {
            Self::Year => return clock.year().unsigned_abs().into(),
            Self::ShortYear => return u32::from(clock.year().unsigned_abs()) % 100,
            Self::WeekYear => return clock.date().iso_week_date().year().unsigned_abs().into(),
            Self::ShortWeekYear => {
                return u32::from(clock.date().iso_week_date().year().unsigned_abs()) % 100;
            }
            Self::DayOfYear => return clock.day_of_year().unsigned_abs().into(),
            Self::Fraction(digits) => {
                let unseen = 9_u32.saturating_sub(digits.into());
                return clock.subsec_nanosecond().unsigned_abs() / 10_u32.pow(unseen);
            }
            Self::Century => return u32::from(clock.year().unsigned_abs()) / 100,
            Self::WeekFromSunday => return week(clock, clock.weekday().to_sunday_zero_offset()),
            Self::WeekFromMonday => return week(clock, clock.weekday().to_monday_zero_offset()),
            Self::Quarter => (clock.month() + 2) / 3,
            Self::Month => clock.month(),
            Self::Week => clock.date().iso_week_date().week(),
            Self::DayOfMonth => clock.day(),
            Self::DayOfWeek => clock.weekday().to_monday_one_offset(),
            Self::DayFromSunday => clock.weekday().to_sunday_zero_offset(),
            Self::Hour => hour,
            Self::ClockHour => (hour + 23) % 24 + 1,
            Self::HalfDayHour => hour % 12,
            Self::HalfDayClockHour => (hour + 11) % 12 + 1,
            Self::Minute => clock.minute(),
            Self::Second => clock.second(),
        };
        number.unsigned_abs().into()
    }
}

/// The week of the year, where weeks begin `since_first` days before the clock's day.
fn week(clock: DateTime, since_first: i8) -> u32 {
    u32::from((clock.day_of_year() + 6 - i16::from(since_first)).unsigned_abs()) / 7
}
