//! The time in a field of the value.

use aqueduct_core::{FieldPath, FieldValue, Fields, Fingerprint, Poison, PoisonReason, Record, RoutePath};

use super::extract::{Extract, invalid};
use super::spelling::{Spelling, TimeFormat};
use crate::error::LayoutError;

/// A field of the value, in a stated unit.
///
/// Numbers may also be spelled as text, with decimals but without exponents. Nothing is guessed: a number of seconds
/// read as milliseconds would quietly land in 1970. A number with a fraction that arrives as a float is taken to the
/// microsecond, and what is left of a millisecond is dropped. Decimals are taken as they are.
///
/// Timestamps of values with a schema (Avro's `timestamp-millis` and its like) know their unit: they are taken by it, whatever the
/// format says. Local timestamps and dates are times somewhere, and a date read as a time of another zone is the day before or
/// after: they are poisons, unless [`without_offset_in`](Self::without_offset_in) says where. A date is its midnight there.
///
/// # Errors
/// A poison: a field that is absent or null ([`MissingField`](PoisonReason::MissingField)), one that is neither number
/// nor text ([`InvalidField`](PoisonReason::InvalidField)), and what is no time in the stated format
/// ([`InvalidTimestamp`](PoisonReason::InvalidTimestamp)).
#[derive(Clone, Debug)]
pub struct FieldTime {
    path: FieldPath,
    spelling: Spelling,
}

impl FieldTime {
    /// The field at `path`, spelled in `format`.
    pub fn new(path: FieldPath, format: TimeFormat) -> Self {
        Self { path, spelling: Spelling::new(format) }
    }

    /// Reads [`TimeFormat::Iso8601`] text without an offset, local timestamps and dates as local time of `zone`: best the one
    /// that the layout shows times in. Of two equal local times the earlier counts; one that the clocks skipped moves ahead.
    ///
    /// # Errors
    /// If the zone is unknown.
    pub fn without_offset_in(mut self, zone: &str) -> Result<Self, LayoutError> {
        self.spelling = self.spelling.without_offset_in(zone)?;
        Ok(self)
    }

    #[cold]
    fn poison(&self, reason: PoisonReason, what: &str) -> Poison {
        Poison::new(reason, format!("field {} {what}", self.path))
    }
}

impl<T: Fields + ?Sized> Extract<T> for FieldTime {
    fn millis(&self, _record: &Record<'_>, value: &T, _path: &RoutePath) -> Result<i64, Poison> {
        let ms = match value.field(&self.path) {
            Some(FieldValue::I64(count)) => self.spelling.whole(count),
            Some(FieldValue::U64(count)) => self.spelling.unsigned(count),
            Some(FieldValue::F64(count)) => self.spelling.float(count),
            Some(FieldValue::Str(text)) => self.spelling.text(&text),
            // No time has more digits; making them takes long of long ones.
            Some(FieldValue::Decimal(exact)) if exact.unscaled().len() <= 32 && exact.scale() <= 64 => {
                self.spelling.text(&exact.to_string())
            }
            Some(FieldValue::Timestamp { count, unit, utc: true }) => Ok(Spelling::instant(count, unit)),
            Some(FieldValue::Timestamp { count, unit, utc: false }) => self.spelling.local(count, unit),
            Some(FieldValue::Date(days)) => self.spelling.date(days),
            Some(FieldValue::F32(_)) => {
                let what = "is a float of 32 bits, which no time fits into";
                return Err(self.poison(PoisonReason::InvalidField, what));
            }
            None => return Err(self.poison(PoisonReason::MissingField, "is absent")),
            Some(FieldValue::Null) => return Err(self.poison(PoisonReason::MissingField, "is null")),
            Some(_) => {
                let what = "is no number or text, so it cannot be a time";
                return Err(self.poison(PoisonReason::InvalidField, what));
            }
        };
        ms.map_err(|what| {
            invalid(format!("field {} {what} (format: {})", self.path, self.spelling.format().name()))
        })
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        let (path, format) = (self.path.segments(), self.spelling.format().name());
        let local = self.spelling.local_name();
        parts.put("partitioner", format_args!("field-time/1 {path:?} {format} local={local:?}"));
    }
}
