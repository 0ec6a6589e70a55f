//! Names of places, in which somebody may have written a password as well.

use std::fmt;
use std::ops::Deref;

/// A URL or a bucket's name as it was given. `Debug` shows none that could hold a password: `http://user:password@host` is
/// refused, but it may be shown before it is looked at.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Place(String);

impl Place {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, or as much of it as holds no password.
    pub(crate) fn shown(&self) -> String {
        if !self.0.contains(['@', '?', '#']) {
            return self.0.clone();
        }
        self.0.split_once("://").map_or_else(|| "…".to_owned(), |(scheme, _)| format!("{scheme}://…"))
    }
}

impl Deref for Place {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_shown_that_could_be_a_password() {
        for (text, shown) in [
            ("http://localhost:9000/x", "http://localhost:9000/x"),
            ("archive", "archive"),
            ("http://user:pass@host", "http://…"),
            ("http://user:p@ss?w@host/x", "http://…"),
            ("s3a://AKIA:secret@archive", "s3a://…"),
            ("user:pass@host", "…"),
            ("https://host/?token=x@y", "https://…"),
        ] {
            assert_eq!(format!("{:?}", Place::new(text)), format!("{shown:?}"));
        }
    }
}
