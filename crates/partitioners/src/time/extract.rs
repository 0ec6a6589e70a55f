//! Where a layout by time takes a record's time from.

use aqueduct_core::{
    FieldPath, FieldValue, Fields, Fingerprint, Poison, PoisonReason, Record, Replay, RoutePath,
};

use super::zone::Zone;
use crate::error::LayoutError;

/// Finds a record's time. [`RecordTimestamp`], [`FieldTime`] and [`SegmentOpened`] are there; implement it for others.
///
/// Like a partitioner it must be pure.
///
/// ```
/// use aqueduct_core::{Fingerprint, Poison, PoisonReason, Record, RoutePath};
/// use aqueduct_partitioners::{ByTime, Extract};
///
/// /// Takes the time from a header of eight bytes.
/// struct SentAt;
///
/// impl<T: ?Sized> Extract<T> for SentAt {
///     fn millis(&self, record: &Record<'_>, _value: &T, _path: &RoutePath) -> Result<i64, Poison> {
///         let header = record.headers().find(|(name, _)| *name == "sent-at").and_then(|(_, value)| value);
///         match header.map(<[u8; 8]>::try_from) {
///             Some(Ok(bytes)) => Ok(i64::from_be_bytes(bytes)),
///             _ => Err(Poison::new(PoisonReason::InvalidTimestamp, "no header sent-at of eight bytes")),
///         }
///     }
///
///     fn fingerprint(&self, parts: &mut Fingerprint) {
///         parts.put("partitioner", "sent-at/1");
///     }
/// }
///
/// let layout = ByTime::daily("UTC")?.extract(SentAt);
/// # Ok::<(), aqueduct_partitioners::LayoutError>(())
/// ```
pub trait Extract<T: ?Sized>: Send + Sync + 'static {
    /// The time in milliseconds since the Unix epoch. `path` is the route as far as it is known; its
    /// [`opened_at_ms`](RoutePath::opened_at_ms) is the only wall clock allowed.
    ///
    /// # Errors
    /// A poison if the record has no usable time.
    fn millis(&self, record: &Record<'_>, value: &T, path: &RoutePath) -> Result<i64, Poison>;

    /// Whether a second reading of the same record gives the same time.
    fn replay(&self) -> Replay {
        Replay::Deterministic
    }

    /// Adds what decides the time to the layout's identity.
    fn fingerprint(&self, parts: &mut Fingerprint);
}

/// The timestamp that the record carries, set by its producer or its broker.
///
/// A record without one is a poison, and so is one with a negative timestamp: Kafka writes −1 for "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordTimestamp;

impl<T: ?Sized> Extract<T> for RecordTimestamp {
    fn millis(&self, record: &Record<'_>, _value: &T, _path: &RoutePath) -> Result<i64, Poison> {
        match record.timestamp().millis() {
            Some(ms @ 0..) => Ok(ms),
            Some(ms) => {
                Err(invalid(format!("the record's timestamp is {ms}, expected milliseconds since 1970")))
            }
            None => Err(invalid("the record has no timestamp; take the time from a field of the value")),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "record-timestamp/1");
    }
}

/// The time at which the segment was opened, by the wall clock.
///
/// All records of a segment get the same time. A replay after a crash sees it again, because it is written down before
/// anything is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentOpened;

impl<T: ?Sized> Extract<T> for SegmentOpened {
    fn millis(&self, _record: &Record<'_>, _value: &T, path: &RoutePath) -> Result<i64, Poison> {
        Ok(path.opened_at_ms())
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "segment-opened/1");
    }
}

/// How a field spells a time.
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
    /// [`FieldTime::without_offset_in`] says what it means.
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

    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Millis => "millis",
            Self::Micros => "micros",
            Self::Nanos => "nanos",
            Self::Iso8601 => "iso-8601",
        }
    }
}

/// A field of the value, in a stated unit.
///
/// Numbers may also be spelled as text. Nothing is guessed: a number of seconds read as milliseconds would quietly
/// land in 1970.
#[derive(Clone, Debug)]
pub struct FieldTime {
    path: FieldPath,
    format: TimeFormat,
    local: Option<Zone>,
}

impl FieldTime {
    /// The field at `path`, spelled in `format`.
    pub fn new(path: FieldPath, format: TimeFormat) -> Self {
        Self { path, format, local: None }
    }

    /// Reads [`TimeFormat::Iso8601`] text without an offset as local time of `zone`. Of two equal local times the
    /// earlier counts; one that the clocks skipped moves ahead.
    ///
    /// # Errors
    /// If the zone is unknown.
    pub fn without_offset_in(mut self, zone: &str) -> Result<Self, LayoutError> {
        self.local = Some(Zone::find(zone)?);
        Ok(self)
    }

    fn of_whole(&self, count: i64, per_second: i64) -> Result<i64, Poison> {
        // Units are a second's thousandth or finer, or a second.
        let ms = match per_second {
            1 => count.checked_mul(1_000),
            _ => Some(count.div_euclid(per_second / 1_000)),
        };
        ms.ok_or_else(|| self.refused("is outside what a calendar can show"))
    }

    #[expect(clippy::cast_precision_loss, reason = "units in a second are exact")]
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
    fn of_float(&self, count: f64, per_second: i64) -> Result<i64, Poison> {
        let ms = (count * (1_000.0 / per_second as f64)).floor();
        if ms.abs() < FLOAT_MS_MAX {
            Ok(ms as i64)
        } else {
            Err(self.refused("is outside what a calendar can show"))
        }
    }

    fn of_text(&self, text: &str) -> Result<i64, Poison> {
        if let Some(per_second) = self.format.per_second() {
            let Ok(count) = text.parse::<i64>() else {
                return Err(self.refused("is text, expected a number"));
            };
            return self.of_whole(count, per_second);
        }
        if let Ok(instant) = text.parse::<jiff::Timestamp>() {
            return Ok(instant.as_millisecond());
        }
        match (text.parse::<jiff::civil::DateTime>(), &self.local) {
            (Ok(local), Some(zone)) => {
                zone.instant_ms(local).ok_or_else(|| self.refused("is outside what a calendar can show"))
            }
            (Ok(_), None) => {
                Err(self.refused("has no offset; write Z or +09:00, or set `without_offset_in`"))
            }
            (Err(_), _) => Err(self.refused("is no ISO-8601 time")),
        }
    }

    #[cold]
    fn refused(&self, what: &str) -> Poison {
        invalid(format!("field {} {what} (format: {})", self.path, self.format.name()))
    }
}

impl<T: Fields + ?Sized> Extract<T> for FieldTime {
    fn millis(&self, _record: &Record<'_>, value: &T, _path: &RoutePath) -> Result<i64, Poison> {
        let per_second = self.format.per_second();
        match (value.field(&self.path), per_second) {
            (Some(FieldValue::I64(count)), Some(per_second)) => self.of_whole(count, per_second),
            (Some(FieldValue::U64(count)), Some(per_second)) => match i64::try_from(count) {
                Ok(count) => self.of_whole(count, per_second),
                Err(_) => Err(self.refused("is outside what a calendar can show")),
            },
            (Some(FieldValue::F64(count)), Some(per_second)) => self.of_float(count, per_second),
            (Some(FieldValue::Str(text)), _) => self.of_text(&text),
            (Some(FieldValue::I64(_) | FieldValue::U64(_) | FieldValue::F64(_)), None) => {
                Err(self.refused("is a number, expected text"))
            }
            (None, _) => {
                Err(Poison::new(PoisonReason::MissingField, format!("field {} is absent", self.path)))
            }
            (Some(FieldValue::Null), _) => {
                Err(Poison::new(PoisonReason::MissingField, format!("field {} is null", self.path)))
            }
            (Some(_), _) => Err(Poison::new(
                PoisonReason::InvalidField,
                format!("field {} is no number or text, so it cannot be a time", self.path),
            )),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        let local = self.local.as_ref().map_or("", Zone::name);
        let (path, format) = (self.path.segments(), self.format.name());
        parts.put("partitioner", format_args!("field-time/1 {path:?} {format} local={local:?}"));
    }
}

#[cold]
fn invalid(detail: impl Into<String>) -> Poison {
    Poison::new(PoisonReason::InvalidTimestamp, detail)
}

/// Far beyond the year 9999 and still exact in a float.
const FLOAT_MS_MAX: f64 = 1e15;
