//! One way for partitioners and formats to look into any converted value.

use std::borrow::Cow;
use std::fmt;

/// A dotted path into a value: `request.host`.
///
/// A backslash makes the next character part of the name (`a\.b` is the one field `a.b`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldPath {
    text: String,
    segments: Vec<String>,
}

/// Why a text is not a [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field path {text:?} has an empty segment; write names separated by single dots, like request.host")]
pub struct FieldPathError {
    text: String,
}

impl FieldPath {
    /// Parses a dotted path.
    ///
    /// # Errors
    /// If the path or one of its segments is empty.
    pub fn parse(text: &str) -> Result<Self, FieldPathError> {
        let mut segments = vec![String::new()];
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match (character, segments.last_mut()) {
                ('.', _) => segments.push(String::new()),
                ('\\', Some(last)) => last.extend(characters.next()),
                (other, Some(last)) => last.push(other),
                (_, None) => {}
            }
        }
        if segments.iter().any(String::is_empty) {
            return Err(FieldPathError { text: text.to_owned() });
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// The names from the outermost in; at least one.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The innermost name, which layouts use as the column's name.
    pub fn name(&self) -> &str {
        self.segments.last().map_or("", String::as_str)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// What stands at a [`FieldPath`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FieldValue<'a> {
    /// The field is there and null.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number that fits `i64`.
    I64(i64),
    /// A whole number above `i64::MAX`.
    U64(u64),
    /// Any other number.
    F64(f64),
    /// Text.
    Str(Cow<'a, str>),
    /// An object, an array or another value that is not one scalar.
    Composite,
}

/// Values whose fields can be read by path.
///
/// Reading must be lazy: no tree is built for one field. It is called per record and layout field.
///
/// ```
/// use aqueduct_core::{FieldPath, FieldValue, Fields};
///
/// struct Order { service: String, status: i64 }
///
/// impl Fields for Order {
///     fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
///         match path.segments() {
///             [name] if name == "service" => Some(FieldValue::Str(self.service.as_str().into())),
///             [name] if name == "status" => Some(FieldValue::I64(self.status)),
///             _ => None,
///         }
///     }
/// }
///
/// let order = Order { service: "checkout".into(), status: 200 };
/// assert_eq!(order.field(&FieldPath::parse("status").unwrap()), Some(FieldValue::I64(200)));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no fields for a layout to read",
    label = "needs the fields of `{Self}`",
    note = "convert with `Json`, or implement `Fields` for your type"
)]
pub trait Fields {
    /// What stands at `path`; `None` if the field is absent.
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>>;
}

/// A converted key beside a converted value; fields are read from the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
}

impl<K, V: Fields> Fields for Keyed<K, V> {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        self.value.field(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_dotted_and_escapable() {
        assert_eq!(FieldPath::parse("request.host").unwrap().segments(), ["request", "host"]);
        assert_eq!(FieldPath::parse(r"a\.b.c").unwrap().segments(), ["a.b", "c"]);
        assert_eq!(FieldPath::parse("request.host").unwrap().name(), "host");
        for empty in ["", ".", "a..b", "a.", ".a"] {
            assert!(FieldPath::parse(empty).is_err(), "{empty:?}");
        }
    }
}
