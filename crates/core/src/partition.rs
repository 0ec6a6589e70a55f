//! From a value to its route.

use std::sync::Arc;

use crate::error::{Poison, PoisonReason};
use crate::fingerprint::Fingerprint;
use crate::record::Record;

pub use table::{RouteId, RouteTable};

mod table;

/// Decides under which route a record is stored.
///
/// # Contract
/// - [`route`](Self::route) appends levels to `path`, which arrives empty, through [`RoutePath::push`] and
///   [`RoutePath::push_field`]; both escape, so no value can add a level, climb out or fake a `name=value` level.
/// - It is pure and called once per record, and again where the record turns out to begin another segment. A layout by
///   wall-clock time reads [`RoutePath::opened_at_ms`], the segment's opening time, which the intent pins, and stays
///   exactly-once; a partitioner that reads a clock of its own must say [`Replay::WallClock`].
///
/// # Errors
/// A record without a route is a [`Poison`].
///
/// ```
/// use aqueduct_core::{Fingerprint, Partitioner, Poison, Record, RoutePath};
///
/// /// One route per length class.
/// struct BySize;
///
/// impl<T> Partitioner<T> for BySize {
///     fn route(&self, record: &Record<'_>, _value: &T, path: &mut RoutePath) -> Result<(), Poison> {
///         path.push_field("size", if record.size() < 1024 { "small" } else { "large" })
///     }
///
///     fn fingerprint(&self, parts: &mut Fingerprint) {
///         parts.put("partitioner", "by-size/1");
///     }
/// }
/// ```
///
/// To test yours, call `testkit::check_partitioner`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not route values of type `{T}`",
    label = "not a partitioner of what the converter gives",
    note = "layouts by field need a value that implements `Fields`: convert with `Json` or implement `Fields` for your type",
    note = "stages come in the order `convert`, `partition`, `sink`, `build`; `Unset` is one that was left out"
)]
pub trait Partitioner<T: ?Sized>: Send + Sync + 'static {
    /// Appends the record's levels to `path`.
    fn route(&self, record: &Record<'_>, value: &T, path: &mut RoutePath) -> Result<(), Poison>;

    /// Whether a second reading of the same record gives the same route.
    fn replay(&self) -> Replay {
        Replay::Deterministic
    }

    /// Adds what decides the routes to the layout's identity.
    fn fingerprint(&self, parts: &mut Fingerprint);
}

macro_rules! forward_partitioner {
    ($($pointer:ident)*) => { $(
        // The compiler would propose a pointer for every type that does not fit.
        #[diagnostic::do_not_recommend]
        impl<T: ?Sized, P: Partitioner<T> + ?Sized> Partitioner<T> for $pointer<P> {
            fn route(&self, record: &Record<'_>, value: &T, path: &mut RoutePath) -> Result<(), Poison> {
                (**self).route(record, value, path)
            }

            fn replay(&self) -> Replay {
                (**self).replay()
            }

            fn fingerprint(&self, parts: &mut Fingerprint) {
                (**self).fingerprint(parts);
            }
        }
    )* };
}
forward_partitioner!(Arc Box);

/// Does a second reading of the same offsets give the same answer?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Yes, always.
    Deterministic,
    /// No: it depends on when it is asked.
    WallClock,
}

impl Replay {
    /// Deterministic only if both are.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deterministic, Self::Deterministic) => Self::Deterministic,
            _ => Self::WallClock,
        }
    }
}

/// The levels of a route, escaped by construction and joined by `/`.
///
/// Escaping is percent-encoding of `/`, `\`, `%`, control characters and, within names and values, `=`; a level that
/// is empty, `.` or `..` is encoded as well. So `a/b` and the literal text `a%2Fb` do not meet, and
/// `country=FR/admin=true` as a value stays one level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePath {
    text: String,
    opened_at_ms: i64,
}

impl RoutePath {
    /// The longest level after escaping, in bytes.
    pub const LEVEL_MAX: usize = 255;
    /// The longest route after escaping, in bytes.
    pub const ROUTE_MAX: usize = 640;

    /// An empty path in a segment opened at `opened_at_ms` (milliseconds since the Unix epoch).
    pub fn new(opened_at_ms: i64) -> Self {
        Self { text: String::new(), opened_at_ms }
    }

    /// When the segment was opened, in milliseconds since the Unix epoch: the time of wall-clock layouts. A replay
    /// sees the same.
    pub fn opened_at_ms(&self) -> i64 {
        self.opened_at_ms
    }

    /// Appends one level.
    ///
    /// # Errors
    /// [`PoisonReason::InvalidRoute`] if the level or the route gets too long; the path is then as before.
    pub fn push(&mut self, level: &str) -> Result<(), Poison> {
        check_level(level.len())?;
        self.append(|text| escape_into(text, level, false), level.is_empty() || is_dots(level))
    }

    /// Appends the level `name=value`.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_field(&mut self, name: &str, value: &str) -> Result<(), Poison> {
        check_level(name.len().saturating_add(value.len()).saturating_add(1))?;
        self.append(
            |text| {
                escape_into(text, name, true);
                text.push('=');
                escape_into(text, value, true);
            },
            false,
        )
    }

    /// Appends the level `name=value` in a spelling that [`push_field`](Self::push_field) gives to no value: the value's
    /// first character is percent-encoded, and an empty value is a lone `%`. Readers that decode see the value itself.
    ///
    /// For a value that spells what a layout has reserved, such as its stand-in for records without the field. A first
    /// character that is escaped anyway sets nothing apart, so a layout must not reserve such a text.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_field_apart(&mut self, name: &str, value: &str) -> Result<(), Poison> {
        let (first, rest) = value.split_at(value.chars().next().map_or(0, char::len_utf8));
        self.append(
            |text| {
                escape_into(text, name, true);
                text.push_str(if value.is_empty() { "=%" } else { "=" });
                first.bytes().for_each(|byte| push_encoded(text, byte));
                escape_into(text, rest, true);
            },
            false,
        )
    }

    /// Appends text that a layout has rendered itself, such as `year=2021/month=06`: slashes separate levels and `=`
    /// stays, everything else is escaped.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_levels(&mut self, levels: &str) -> Result<(), Poison> {
        let before = self.text.len();
        if levels.len() <= Self::LEVEL_MAX && are_plain(levels) {
            if before > 0 {
                self.text.push('/');
            }
            self.text.push_str(levels);
            return self.check_route(before);
        }
        for level in levels.split('/').filter(|level| !level.is_empty()) {
            if let Err(poison) = self.push(level) {
                self.text.truncate(before);
                return Err(poison);
            }
        }
        Ok(())
    }

    /// Appends levels that [`as_str`](Self::as_str) of another path gave, without escaping them again.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_escaped(&mut self, other: &Self) -> Result<(), Poison> {
        let before = self.text.len();
        if other.text.is_empty() {
            return Ok(());
        }
        if before > 0 {
            self.text.push('/');
        }
        self.text.push_str(&other.text);
        self.check_route(before)
    }

    /// The escaped levels joined by `/`, without a slash at either end; empty for the topic's own level.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Empties the path, keeping its memory.
    pub fn clear(&mut self) {
        self.text.clear();
    }

    fn append(&mut self, write: impl FnOnce(&mut String), encode_whole: bool) -> Result<(), Poison> {
        let before = self.text.len();
        if before > 0 {
            self.text.push('/');
        }
        let start = self.text.len();
        write(&mut self.text);
        if encode_whole {
            let dots = self.text.split_off(start);
            // An empty level would make a `//`, dots would climb: both get a spelling of their own.
            self.text.push_str(if dots.is_empty() { "%" } else { "" });
            dots.bytes().for_each(|_| self.text.push_str("%2E"));
        }
        if let Err(poison) = check_level(self.text.len() - start) {
            self.text.truncate(before);
            return Err(poison);
        }
        self.check_route(before)
    }

    fn check_route(&mut self, before: usize) -> Result<(), Poison> {
        let length = self.text.len();
        if length > Self::ROUTE_MAX {
            self.text.truncate(before);
            return Err(Poison::new(
                PoisonReason::InvalidRoute,
                format!("the route has {length} bytes, the limit is {}", Self::ROUTE_MAX),
            ));
        }
        Ok(())
    }
}

/// Escaping only lengthens. So a level is looked at before it is written as well: a value of megabytes must not pass through
/// the path's memory, which is kept for the records to come.
fn check_level(length: usize) -> Result<(), Poison> {
    if length <= RoutePath::LEVEL_MAX {
        return Ok(());
    }
    let limit = RoutePath::LEVEL_MAX;
    Err(Poison::new(
        PoisonReason::InvalidRoute,
        format!("a route level has {length} bytes, the limit is {limit}"),
    ))
}

/// Whether `levels` are levels joined by single slashes that escaping would leave alone. May say no to some that are.
fn are_plain(levels: &str) -> bool {
    let bytes = levels.as_bytes();
    // No early exit in either pass: that is what lets them be vectorised.
    let escaped = bytes.iter().fold(false, |found, &byte| found | is_escaped(byte));
    let after_slash = |byte: u8| matches!(byte, b'/' | b'.');
    let odd_level = bytes
        .iter()
        .zip(bytes.get(1..).unwrap_or_default())
        .fold(false, |found, (&one, &next)| found | (one == b'/' && after_slash(next)));
    let odd_end = bytes.first().is_none_or(|&first| after_slash(first)) || bytes.last() == Some(&b'/');
    !escaped && !odd_level && !odd_end
}

/// Whether a byte is escaped wherever it stands.
fn is_escaped(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | 0x7f | b'%' | b'\\')
}

fn is_dots(level: &str) -> bool {
    level == "." || level == ".."
}

fn escape_into(out: &mut String, text: &str, equals: bool) {
    let escaped = |byte: u8| is_escaped(byte) || byte == b'/' || (equals && byte == b'=');
    if !text.bytes().fold(false, |found, byte| found | escaped(byte)) {
        out.push_str(text);
        return;
    }
    for character in text.chars() {
        match u8::try_from(character) {
            Ok(byte) if byte < 0x80 && escaped(byte) => push_encoded(out, byte),
            _ => out.push(character),
        }
    }
}

fn push_encoded(out: &mut String, byte: u8) {
    out.push('%');
    out.push(hex_digit(byte >> 4));
    out.push(hex_digit(byte & 15));
}

/// The digit of a number below 16.
fn hex_digit(nibble: u8) -> char {
    char::from(if nibble < 10 { b'0' + nibble } else { b'A' - 10 + nibble })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_never_add_a_level() {
        let mut path = RoutePath::default();
        path.push_field("country", "FR/admin=true").unwrap();
        path.push("..").unwrap();
        path.push("").unwrap();
        path.push("a/b").unwrap();
        assert_eq!(path.as_str(), "country=FR%2Fadmin%3Dtrue/%2E%2E/%/a%2Fb");
    }

    #[test]
    fn literal_escapes_do_not_collide() {
        let render = |level: &str| {
            let mut path = RoutePath::default();
            path.push(level).unwrap();
            path.as_str().to_owned()
        };
        assert_ne!(render("a/b"), render("a%2Fb"));
        assert_ne!(render(".."), render("%2E%2E"));
        assert_ne!(render(""), render("%"));
        assert_ne!(render(""), render("\0"), "an empty level and a NUL differ");
    }

    #[test]
    fn a_value_can_be_set_apart_from_a_reserved_text() {
        let render = |push: fn(&mut RoutePath, &str, &str) -> Result<(), Poison>, value: &str| {
            let mut path = RoutePath::default();
            push(&mut path, "host", value).unwrap();
            path.as_str().to_owned()
        };
        for (value, expected) in [("unknown", "host=%75nknown"), ("서울", "host=%EC%84%9C울"), ("", "host=%")]
        {
            assert_eq!(render(RoutePath::push_field_apart, value), expected);
            assert_ne!(render(RoutePath::push_field, expected), expected, "no value is spelled so");
        }
        assert_eq!(
            render(RoutePath::push_field_apart, "a/b=c"),
            "host=%61%2Fb%3Dc",
            "and it stays one level"
        );
    }

    #[test]
    fn a_level_at_the_limit_passes_and_one_past_it_leaves_the_path_alone() {
        let mut path = RoutePath::default();
        path.push(&"x".repeat(RoutePath::LEVEL_MAX)).unwrap();
        let before = path.clone();
        assert!(path.push(&"x".repeat(RoutePath::LEVEL_MAX + 1)).is_err());
        path.push(&"y".repeat(RoutePath::LEVEL_MAX)).unwrap();
        assert!(path.push(&"z".repeat(RoutePath::LEVEL_MAX)).is_err(), "the route's limit");
        assert!(path.as_str().starts_with(before.as_str()));
    }

    #[test]
    fn a_value_of_megabytes_leaves_no_memory_behind() {
        let (mut path, huge) = (RoutePath::default(), "/".repeat(1 << 20));
        path.push("a").unwrap();
        for refused in [path.push(&huge), path.push_field("name", &huge), path.push_field(&huge, "value")] {
            assert_eq!(refused.unwrap_err().reason(), PoisonReason::InvalidRoute);
        }
        path.push_levels(&huge).unwrap();
        assert!(path.push_levels(&"a/".repeat(1 << 20)).is_err());
        assert_eq!(path.as_str(), "a");
        assert!(path.text.capacity() < 16 << 10, "{} bytes are kept", path.text.capacity());
    }

    proptest! {
        #[test]
        fn any_value_stays_one_level(name in "[a./%=\\\\\n-]{0,9}|\\PC*", value: String) {
            let mut path = RoutePath::default();
            path.push("prefix").unwrap();
            if path.push_field(&name, &value).is_ok() {
                prop_assert_eq!(path.as_str().matches('/').count(), 1);
                let level = path.as_str().rsplit('/').next().unwrap();
                prop_assert_eq!(level.matches('=').count(), 1);
            }
            let mut path = RoutePath::default();
            let levels = format!("{name}/{value}");
            let (mut quick, mut slow) = (RoutePath::default(), RoutePath::default());
            let quick_result = quick.push_levels(&levels);
            let mut parts = levels.split('/').filter(|level| !level.is_empty());
            prop_assert_eq!(quick_result.is_ok(), parts.try_for_each(|level| slow.push(level)).is_ok());
            if quick_result.is_ok() {
                prop_assert_eq!(quick, slow);
            }
            if path.push(&value).is_ok() {
                prop_assert!(!path.as_str().contains('/') && !path.as_str().is_empty());
                prop_assert!(path.as_str() != "." && path.as_str() != "..");
            }
        }
    }
}
