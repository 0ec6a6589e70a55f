//! How a layout names a field.

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
