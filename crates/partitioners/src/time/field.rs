//! The time in a field of the value.

use aqueduct_core::{FieldPath, FieldValue, Fields, Fingerprint, Poison, PoisonReason, Record, RoutePath};

use super::extract::{Extract, invalid};
use super::spelling::{Spelling, TimeFormat};
use crate::error::LayoutError;

/// A field of the value, in a stated unit.
///
/// Numbers may also be spelled as text, with decimals but without exponents. Nothing is guessed: a number of seconds
/// read as milliseconds would quietly land in 1970. A number with a fraction that arrives as a float is taken to the
/// microsecond, and what is left of a millisecond is dropped.
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

    /// Reads [`TimeFormat::Iso8601`] text without an offset as local time of `zone`. Of two equal local times the
    /// earlier counts; one that the clocks skipped moves ahead.
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
