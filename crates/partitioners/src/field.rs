//! The layout of fields of the value.

use std::fmt;

use aqueduct_core::{
    Decimal, FieldPath, FieldValue, Fields, Fingerprint, Partitioner, Poison, PoisonReason, Record, RoutePath,
};
use jiff::SignedDuration;
use jiff::civil::Date;

use crate::error::LayoutError;
use crate::short_text::ShortText;

/// One level `name=value` for each of one or more fields of the value.
///
/// Text, truth values, whole numbers, decimals, UUIDs and dates can be levels: `2021-06-28`,
/// `6ba7b810-9dad-11d1-80b4-00c04fd430c8`, and decimals without zeros at their end, so that equal ones have one spelling. Values
/// are escaped: whatever a record holds, it stays one level below the topic. These are poisons, by default:
/// - a field that is absent or null ([`MissingField`](PoisonReason::MissingField)), unless
///   [`missing_as`](Self::missing_as) or [`with_default`](Self::with_default) gives it a place,
/// - one that holds an object or array ([`InvalidField`](PoisonReason::InvalidField)), with the same exceptions,
/// - a float, or a number beyond 64 bits, unless [`with_floats`](Self::with_floats) (`InvalidField`),
/// - a time, a timestamp, a duration or bytes (`InvalidField`): lay times out with [`ByTime`](crate::ByTime),
/// - a value over [`RoutePath::LEVEL_MAX`] bytes ([`InvalidRoute`](PoisonReason::InvalidRoute)).
///
/// A level is called after the innermost name of its path, because that is the name readers know the column by.
///
/// ```
/// use aqueduct_partitioners::ByField;
///
/// // service=checkout/host=a.example
/// let layout = ByField::new("service")?.and("request.host")?.with_default("__HIVE_DEFAULT_PARTITION__");
/// // Two fields of one name:
/// assert!(ByField::new("request.id")?.and("user.id").is_err());
/// let layout = ByField::new("request.id")?.and_named("user_id", "user.id")?;
/// # Ok::<(), aqueduct_partitioners::LayoutError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByField {
    levels: Vec<Level>,
    default: Option<String>,
    floats: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Level {
    name: String,
    path: FieldPath,
    /// The route of records without the field, which no value shares.
    missing: Option<String>,
}

impl ByField {
    /// The field at the dotted `path`.
    ///
    /// # Errors
    /// If the path has an empty segment.
    pub fn new(path: &str) -> Result<Self, LayoutError> {
        Self { levels: Vec::new(), default: None, floats: false }.and(path)
    }

    /// The field at `path`, as the level `name`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn named(name: impl Into<String>, path: &str) -> Result<Self, LayoutError> {
        Self { levels: Vec::new(), default: None, floats: false }.and_named(name, path)
    }

    /// Adds a level below: the field at `path`.
    ///
    /// # Errors
    /// If the path has an empty segment or a level of that name is there.
    pub fn and(self, path: &str) -> Result<Self, LayoutError> {
        let path = FieldPath::parse(path)?;
        let name = path.name().to_owned();
        self.level(name, path)
    }

    /// Adds a level below: the field at `path`, as the level `name`.
    ///
    /// # Errors
    /// As [`and`](Self::and).
    pub fn and_named(self, name: impl Into<String>, path: &str) -> Result<Self, LayoutError> {
        self.level(name.into(), FieldPath::parse(path)?)
    }

    /// Gives records without the field added last a route of their own, `name=default`, in place of a poison: those
    /// where it is absent, null, an object or an array.
    ///
    /// No value shares that route: one that spells the same gets its first character percent-encoded. With
    /// `missing_as("unknown")`, the level is `host=unknown` where there is no host, and `host=%75nknown` where the host
    /// is called so.
    ///
    /// ```
    /// use aqueduct_partitioners::ByField;
    ///
    /// let layout = ByField::new("service")?.missing_as("none")?.and("request.host")?.missing_as("unknown")?;
    /// assert!(ByField::new("service")?.missing_as("a/b").is_err());
    /// # Ok::<(), aqueduct_partitioners::LayoutError>(())
    /// ```
    ///
    /// # Errors
    /// If `default` is empty, too long for a level or has characters that routes escape.
    pub fn missing_as(mut self, default: impl Into<String>) -> Result<Self, LayoutError> {
        let default = default.into();
        if let Some(level) = self.levels.last_mut() {
            let mut shown = RoutePath::default();
            let fits = shown.push_field(&level.name, &default).is_ok();
            let plain = shown.as_str().strip_suffix(&default).is_some_and(|rest| rest.ends_with('='));
            if !fits || !plain || default.is_empty() {
                let limit = RoutePath::LEVEL_MAX.saturating_sub(level.name.len() + 1);
                return Err(LayoutError::UnusableDefault { name: level.name.clone(), default, limit });
            }
            level.missing = Some(default);
        }
        Ok(self)
    }

    /// Stands in for fields that are absent, null, an object or an array, in place of a poison: `null` as in
    /// Confluent's layout, or `__HIVE_DEFAULT_PARTITION__`. Holds for all fields without a [`missing_as`] of their own.
    /// A value that spells the same goes to the same route.
    ///
    /// [`missing_as`]: Self::missing_as
    #[must_use]
    pub fn with_default(mut self, default: impl Into<String>) -> Self {
        self.default = Some(default.into());
        self
    }

    /// Takes numbers with a fraction too, as they are written shortest. Equal numbers have one spelling, so `1.0`
    /// becomes `1`; consider whether nearly equal ones should really have routes of their own.
    #[must_use]
    pub fn with_floats(mut self) -> Self {
        self.floats = true;
        self
    }

    fn level(mut self, name: String, path: FieldPath) -> Result<Self, LayoutError> {
        if self.levels.iter().any(|level| level.name == name) {
            return Err(LayoutError::DuplicateLevel { name });
        }
        self.levels.push(Level { name, path, missing: None });
        Ok(self)
    }

    fn push(
        &self,
        level: &Level,
        value: Option<&FieldValue<'_>>,
        path: &mut RoutePath,
    ) -> Result<(), Poison> {
        let number: ShortText<NUMBER_MAX>;
        let decimal: String;
        let spelled = match value {
            Some(FieldValue::Str(text)) => Ok(&**text),
            Some(FieldValue::Bool(true)) => Ok("true"),
            Some(FieldValue::Bool(false)) => Ok("false"),
            Some(FieldValue::I64(whole)) => {
                number = spell(whole, level)?;
                Ok(number.as_str())
            }
            Some(FieldValue::U64(whole)) => {
                number = spell(whole, level)?;
                Ok(number.as_str())
            }
            Some(FieldValue::F64(float)) if self.floats && float.is_finite() => {
                // One zero: minus zero equals it.
                number = spell(float + 0.0, level)?;
                Ok(number.as_str())
            }
            Some(FieldValue::F32(float)) if self.floats && float.is_finite() => {
                number = spell(float + 0.0, level)?;
                Ok(number.as_str())
            }
            Some(FieldValue::F32(_) | FieldValue::F64(_)) => {
                let what = "is not a whole number of 64 bits; `with_floats` takes such numbers";
                return Err(poison(PoisonReason::InvalidField, level, what));
            }
            Some(FieldValue::Decimal(exact)) => {
                decimal = spell_decimal(exact, level)?;
                Ok(decimal.as_str())
            }
            Some(FieldValue::Uuid(bytes)) => {
                number = spell(Hyphenated(bytes), level)?;
                Ok(number.as_str())
            }
            Some(FieldValue::Date(days)) => {
                number = spell(date(*days, level)?, level)?;
                Ok(number.as_str())
            }
            Some(FieldValue::Time { .. } | FieldValue::Timestamp { .. } | FieldValue::Duration { .. }) => {
                let what = "is a time, which is no level as it is; lay it out with `ByTime`";
                return Err(poison(PoisonReason::InvalidField, level, what));
            }
            Some(FieldValue::Bytes(_)) => {
                let what = "is bytes, which have no spelling as a level";
                return Err(poison(PoisonReason::InvalidField, level, what));
            }
            None => Err((PoisonReason::MissingField, "is absent; `missing_as` gives such records a place")),
            Some(FieldValue::Null) => {
                Err((PoisonReason::MissingField, "is null; `missing_as` gives such records a place"))
            }
            Some(FieldValue::Composite) => {
                Err((PoisonReason::InvalidField, "is an object or array; name a field inside it"))
            }
            Some(_) => Err((PoisonReason::InvalidField, "cannot be a level of a route")),
        };
        let missing = level.missing.as_deref();
        let pushed = match spelled {
            Ok(text) if Some(text) == missing => path.push_field_apart(&level.name, text),
            Ok(text) => path.push_field(&level.name, text),
            Err((reason, what)) => match missing.or(self.default.as_deref()) {
                Some(default) => path.push_field(&level.name, default),
                None => return Err(poison(reason, level, what)),
            },
        };
        pushed.map_err(|refused| {
            Poison::new(refused.reason(), format!("field {}: {}", level.path, refused.detail()))
        })
    }
}

impl<T: Fields + ?Sized> Partitioner<T> for ByField {
    fn route(&self, _record: &Record<'_>, value: &T, path: &mut RoutePath) -> Result<(), Poison> {
        self.levels.iter().try_for_each(|level| self.push(level, value.field(&level.path).as_ref(), path))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", format_args!("field/1 default={:?} floats={}", self.default, self.floats));
        for level in &self.levels {
            parts.put("partitioner", format_args!("field {:?}={:?}", level.name, level.path.segments()));
            if let Some(missing) = &level.missing {
                parts.put("partitioner", format_args!("missing={missing:?}"));
            }
        }
    }
}

fn spell(number: impl fmt::Display, level: &Level) -> Result<ShortText<NUMBER_MAX>, Poison> {
    ShortText::of(number)
        .ok_or_else(|| poison(PoisonReason::InvalidField, level, "is a number of too many digits"))
}

/// Without zeros behind the last digit that counts.
fn spell_decimal(exact: &Decimal<'_>, level: &Level) -> Result<String, Poison> {
    // Before digits are made of it, which takes long of long ones.
    if exact.unscaled().len() <= NUMBER_MAX && exact.scale() <= NUMBER_SCALE_MAX {
        let mut text = exact.to_string();
        if text.contains('.') {
            text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        }
        if text.len() <= NUMBER_MAX {
            return Ok(text);
        }
    }
    Err(poison(PoisonReason::InvalidField, level, "is a number of too many digits"))
}

fn date(days: i32, level: &Level) -> Result<Date, Poison> {
    let span = SignedDuration::from_hours(i64::from(days) * 24);
    let date = Date::constant(1970, 1, 1).checked_add(span);
    date.map_err(|_| poison(PoisonReason::InvalidField, level, "is a day that no calendar shows"))
}

struct Hyphenated<'a>(&'a [u8; 16]);

impl fmt::Display for Hyphenated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cold]
fn poison(reason: PoisonReason, level: &Level, what: &str) -> Poison {
    Poison::new(reason, format!("field {} {what}", level.path))
}

/// Longer numbers are no names.
const NUMBER_MAX: usize = 40;
/// Digits behind the point before zeros are cut off.
const NUMBER_SCALE_MAX: u32 = 1_000;

#[cfg(test)]
mod tests;
