//! The layout of fields of the value.

use aqueduct_core::{
    FieldPath, FieldValue, Fields, Fingerprint, Partitioner, Poison, PoisonReason, Record, RoutePath,
};

use crate::error::LayoutError;
use crate::short_text::ShortText;

/// One level `name=value` for each of one or more fields of the value.
///
/// Text, truth values and whole numbers can be levels. Values are escaped: whatever a record holds, it stays one level
/// below the topic. These are poisons, by default:
/// - a field that is absent or null ([`MissingField`](PoisonReason::MissingField)),
/// - one that holds an object or array ([`InvalidField`](PoisonReason::InvalidField)),
/// - a number with a fraction or beyond 64 bits, unless [`with_floats`](Self::with_floats) (`InvalidField`),
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

    /// Stands in for fields that are absent, null, an object or an array, in place of a poison: `null` as in
    /// Confluent's layout, or `__HIVE_DEFAULT_PARTITION__`. A value that spells the same goes to the same route.
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
        self.levels.push(Level { name, path });
        Ok(self)
    }

    fn push(
        &self,
        level: &Level,
        value: Option<&FieldValue<'_>>,
        path: &mut RoutePath,
    ) -> Result<(), Poison> {
        let unusable = |reason, what: &str| match &self.default {
            Some(default) => Ok(default.as_str()),
            None => Err(poison(reason, level, what)),
        };
        let number: ShortText<NUMBER_MAX>;
        let text = match value {
            Some(FieldValue::Str(text)) => text,
            Some(FieldValue::Bool(true)) => "true",
            Some(FieldValue::Bool(false)) => "false",
            Some(FieldValue::I64(whole)) => {
                number = spell(whole, level)?;
                number.as_str()
            }
            Some(FieldValue::U64(whole)) => {
                number = spell(whole, level)?;
                number.as_str()
            }
            Some(FieldValue::F64(float)) if self.floats && float.is_finite() => {
                // One zero: minus zero equals it.
                number = spell(float + 0.0, level)?;
                number.as_str()
            }
            Some(FieldValue::F64(_)) => {
                let what = "is not a whole number of 64 bits; `with_floats` takes such numbers";
                return Err(poison(PoisonReason::InvalidField, level, what));
            }
            None => {
                unusable(PoisonReason::MissingField, "is absent; `with_default` gives such records a place")?
            }
            Some(FieldValue::Null) => {
                unusable(PoisonReason::MissingField, "is null; `with_default` gives such records a place")?
            }
            Some(FieldValue::Composite) => {
                unusable(PoisonReason::InvalidField, "is an object or array; name a field inside it")?
            }
            Some(_) => unusable(PoisonReason::InvalidField, "cannot be a level of a route")?,
        };
        path.push_field(&level.name, text).map_err(|refused| {
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
        }
    }
}

fn spell(number: impl std::fmt::Display, level: &Level) -> Result<ShortText<NUMBER_MAX>, Poison> {
    ShortText::of(number)
        .ok_or_else(|| poison(PoisonReason::InvalidField, level, "is a number of too many digits"))
}

#[cold]
fn poison(reason: PoisonReason, level: &Level, what: &str) -> Poison {
    Poison::new(reason, format!("field {} {what}", level.path))
}

/// Longer numbers are no names.
const NUMBER_MAX: usize = 40;

#[cfg(test)]
mod tests;
