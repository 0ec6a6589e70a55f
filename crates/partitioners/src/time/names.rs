//! Names of months and days.

use jiff::civil::DateTime;

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    ShortMonth,
    Month,
    ShortDay,
    Day,
}

/// The names of one language, from January and from Monday on.
pub(super) struct Names {
    short_months: Vec<String>,
    months: Vec<String>,
    short_days: Vec<String>,
    days: Vec<String>,
}

impl Name {
    /// The place of its name among those of its kind.
    pub(super) fn index(self, clock: DateTime) -> usize {
        let index = match self {
            Self::ShortMonth | Self::Month => clock.month() - 1,
            Self::ShortDay | Self::Day => clock.weekday().to_monday_zero_offset(),
        };
        index.unsigned_abs().into()
    }
}

impl Names {
    /// Those of the C locale; they need no data.
    pub(super) fn english() -> Self {
        let short = |names: &[&str]| names.iter().map(|name| name.chars().take(3).collect()).collect();
        let full = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            short_months: short(&MONTHS),
            months: full(&MONTHS),
            short_days: short(&DAYS),
            days: full(&DAYS),
        }
    }

    pub(super) fn table(&self, name: Name) -> Vec<String> {
        let table = match name {
            Name::ShortMonth => &self.short_months,
            Name::Month => &self.months,
            Name::ShortDay => &self.short_days,
            Name::Day => &self.days,
        };
        table.clone()
    }
}

#[cfg(feature = "locales")]
mod locale;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
