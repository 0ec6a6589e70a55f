//! How times are spelled outside of Kafka's own timestamps, and what they mean.

use aqueduct_core::{TimeText, TimeUnit};

use super::zone::Zone;
use crate::error::LayoutError;

/// How a field or a header spells a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeFormat {
    /// A number of seconds since the Unix epoch; fractions are taken.
    Seconds,
    /// A number of milliseconds since the Unix epoch.
    Millis,
    /// A number of microseconds since the Unix epoch.
    Micros,
    /// A number of nanoseconds since the Unix epoch.
    Nanos,
    /// Text such as `2024-06-01T09:00:00+09:00`. Without an offset it is a poison, unless
    /// [`FieldTime::without_offset_in`](super::FieldTime::without_offset_in) says what it means.
    Iso8601,
}

impl TimeFormat {
    /// Units in a second; `None` for text.
    fn per_second(self) -> Option<i64> {
        match self {
            Self::Seconds => Some(1),
            Self::Millis => Some(1_000),
            Self::Micros => Some(1_000_000),
            Self::Nanos => Some(1_000_000_000),
            Self::Iso8601 => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Millis => "millis",
            Self::Micros => "micros",
            Self::Nanos => "nanos",
            Self::Iso8601 => "iso-8601",
        }
    }
}

/// Reads times of one format. What is left of a millisecond is dropped: times are cut down, never rounded up. Errors
/// say what the time is in place of one, without showing it.
#[derive(Clone, Debug)]
pub(super) struct Spelling {
    format: TimeFormat,
    /// What text without an offset means.
    local: Option<Zone>,
}

type Millis = Result<i64, &'static str>;

impl Spelling {
    pub(super) fn new(format: TimeFormat) -> Self {
        Self { format, local: None }
    }

    pub(super) fn without_offset_in(mut self, zone: &str) -> Result<Self, LayoutError> {
        self.local = Some(Zone::find(zone)?);
        Ok(self)
    }

    pub(super) fn format(&self) -> TimeFormat {
        self.format
    }

    /// The zone of text without an offset, or nothing.
    pub(super) fn local_name(&self) -> &str {
        self.local.as_ref().map_or("", Zone::name)
    }

    pub(super) fn whole(&self, count: i64) -> Millis {
        match self.format.per_second().ok_or(NO_TEXT)? {
            1 => count.checked_mul(1_000).ok_or(OUT_OF_CALENDAR),
            // Other units are a second's thousandth or finer.
            per_second => Ok(count.div_euclid(per_second / 1_000)),
        }
    }

    pub(super) fn unsigned(&self, count: u64) -> Millis {
        self.whole(i64::try_from(count).map_err(|_| OUT_OF_CALENDAR)?)
    }

    #[expect(clippy::cast_precision_loss, reason = "units in a second are exact")]
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
    pub(super) fn float(&self, count: f64) -> Millis {
        let per_second = self.format.per_second().ok_or(NO_TEXT)? as f64;
        // A float of today's seconds or nanoseconds is exact to some tenths of a microsecond. Cut down as it is, it would
        // lie below its millisecond as often as above.
        let micros = if per_second > 1e6 { count / (per_second / 1e6) } else { count * (1e6 / per_second) };
        let ms = (micros.round() / 1e3).floor();
        if ms.abs() < FLOAT_MS_MAX { Ok(ms as i64) } else { Err(OUT_OF_CALENDAR) }
    }

    pub(super) fn text(&self, text: &str) -> Millis {
        match self.format.per_second() {
            Some(per_second) => decimal(text, per_second),
            None => self.iso_8601(text),
        }
    }

    /// A timestamp, in milliseconds.
    pub(super) fn instant(count: i64, unit: TimeUnit) -> i64 {
        count.div_euclid(unit.per_second() / 1_000)
    }

    /// What a calendar and a clock show in the zone.
    pub(super) fn local(&self, count: i64, unit: TimeUnit) -> Millis {
        let zone = self.local.as_ref().ok_or("is a local time; say with `without_offset_in` where")?;
        zone.instant(Self::instant(count, unit)).ok_or(OUT_OF_CALENDAR)
    }

    /// The midnight that a day begins with in the zone.
    pub(super) fn date(&self, days: i32) -> Millis {
        if self.local.is_none() {
            return Err("is a date; say with `without_offset_in` where");
        }
        self.local(i64::from(days) * 86_400_000, TimeUnit::Millis)
    }

    fn iso_8601(&self, text: &str) -> Millis {
        let time = TimeText::parse(text).ok_or("is no ISO-8601 time")?;
        let ms = i64::try_from(time.nanos.div_euclid(1_000_000)).map_err(|_| OUT_OF_CALENDAR)?;
        match &self.local {
            _ if time.utc => Ok(ms),
            Some(zone) => zone.instant(ms).ok_or(OUT_OF_CALENDAR),
            None => Err("has no offset; write Z or +09:00, or set `without_offset_in`"),
        }
    }
}

/// Reads `-12.5` and the like exactly; exponents are no decimals.
fn decimal(text: &str, per_second: i64) -> Millis {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').map_or((unsigned, "0"), |halves| halves);
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err("is text, expected a number");
    }
    let whole: u64 = whole.parse().map_err(|_| OUT_OF_CALENDAR)?;
    let (seen, unseen) = fraction.split_at(if per_second == 1 { fraction.len().min(3) } else { 0 });
    let thousandths =
        seen.bytes().chain(*b"000").take(3).fold(0, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    // In thousandths of the unit; what is behind them only matters below zero, where cutting down leads away from it.
    let magnitude = i128::from(whole) * 1_000 + thousandths;
    let more = i128::from(unseen.bytes().any(|digit| digit != b'0'));
    let count = if text.starts_with('-') { -magnitude - more } else { magnitude };
    i64::try_from(count.div_euclid(i128::from(per_second))).map_err(|_| OUT_OF_CALENDAR)
}

const OUT_OF_CALENDAR: &str = "is outside what a calendar can show";
const NO_TEXT: &str = "is a number, expected text";

/// Far beyond the year 9999 and still exact in a float.
const FLOAT_MS_MAX: f64 = 1e15;

#[cfg(test)]
mod tests;
