//! Names from the Unicode consortium's CLDR, where Java since version 9 has them from too.

use std::borrow::Cow;

use icu_calendar::{Date, Gregorian};
use icu_datetime::fieldsets::enums::DateFieldSet;
use icu_datetime::pattern::{
    DateTimePattern, FixedCalendarDateTimeNames, MonthNameLength, WeekdayNameLength,
};
use icu_locale_core::LanguageIdentifier;
use writeable::TryWriteable as _;

use super::Names;
use crate::error::LayoutError;

impl Names {
    /// Those of `locale`, such as `de`, `en-GB` or `ko_KR`.
    pub(in crate::time) fn of_locale(locale: &str) -> Result<Self, LayoutError> {
        LanguageIdentifier::try_from_str(&locale.replace('_', "-"))
            .ok()
            .and_then(|language| Self::of_language(&language))
            // Languages without data fall back to numbers.
            .filter(|names| names.months.first().is_some_and(|january| january != ROOT_JANUARY))
            // A name is a part of a level and cannot be two.
            .filter(|names| names.all().all(|name| !name.is_empty() && !name.contains('/')))
            .ok_or_else(|| LayoutError::UnknownLocale { locale: locale.to_owned() })
    }

    fn of_language(language: &LanguageIdentifier) -> Option<Self> {
        type Loaded = FixedCalendarDateTimeNames<Gregorian, DateFieldSet>;
        let mut short = Loaded::try_new(language.clone().into()).ok()?;
        short.include_month_names(MonthNameLength::Abbreviated).ok()?;
        short.include_weekday_names(WeekdayNameLength::Abbreviated).ok()?;
        let mut full = Loaded::try_new(language.clone().into()).ok()?;
        full.include_month_names(MonthNameLength::Wide).ok()?;
        full.include_weekday_names(WeekdayNameLength::Wide).ok()?;
        let render = |names: &Loaded, pattern: &str, dates: &[Date<Gregorian>]| -> Option<Vec<String>> {
            let pattern = DateTimePattern::try_from_pattern_str(pattern).ok()?;
            let formatter = names.with_pattern_unchecked(&pattern);
            let name = |date| formatter.format(date).try_write_to_string().ok().map(Cow::into_owned);
            dates.iter().map(name).collect()
        };
        let months: Vec<_> =
            (1..=12).filter_map(|month| Date::try_new_gregorian(2024, month, 1).ok()).collect();
        // 2024 began with a Monday.
        let days: Vec<_> = (1..=7).filter_map(|day| Date::try_new_gregorian(2024, 1, day).ok()).collect();
        Some(Self {
            short_months: render(&short, "MMM", &months)?,
            months: render(&full, "MMMM", &months)?,
            short_days: render(&short, "EEE", &days)?,
            days: render(&full, "EEEE", &days)?,
        })
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        [&self.short_months, &self.months, &self.short_days, &self.days].into_iter().flatten()
    }
}

/// What January is called in no language.
const ROOT_JANUARY: &str = "M01";

#[cfg(test)]
mod tests;
