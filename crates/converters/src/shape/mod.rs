//! JSON text that a schema describes: Connect's envelope and JSON Schema.
//!
//! Both are read into a [`Shape`], and a document is gone through with its shape in hand: text becomes dates, base64 becomes bytes,
//! and what does not fit is a poison that names the place. Nothing is built of the document.

use std::fmt;

#[cfg(feature = "connect-json")]
use aqueduct_core::Literal;
use hashbrown::HashMap;

#[cfg(feature = "connect-json")]
use crate::owned::into_static;

pub(crate) use self::described::{Described, Parsed};
use self::lookup::field;
pub(crate) use self::walk::check;
#[cfg(feature = "connect-json")]
pub(crate) use self::walk::check_default;
use self::walk::visit;

mod described;
mod lookup;
mod scalar;
mod walk;

/// What a piece of JSON has to be, and what it becomes.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    /// JSON text, known to fit, that stands for null and for what is missing.
    pub(crate) default: Option<Box<str>>,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "json-schema"), expect(dead_code, reason = "kinds that only JSON Schema has"))]
pub(crate) enum Kind {
    Bool,
    /// A whole number from `min` to `max`.
    Whole {
        min: i64,
        max: i64,
    },
    F32,
    F64,
    /// A number, or the base64 of its unscaled bytes.
    Decimal {
        scale: u32,
    },
    Str,
    Enum(Vec<String>),
    /// Base64.
    Bytes,
    Uuid,
    /// Days since 1970.
    Days,
    /// Milliseconds since midnight.
    MillisOfDay,
    /// Milliseconds since 1970.
    Millis,
    /// `2021-06-28`.
    DateText,
    /// `07:30:00.25Z`.
    TimeText,
    /// RFC 3339.
    TimestampText,
    /// Anything.
    Json,
    List(Box<Shape>),
    /// An object.
    Map(Box<Shape>),
    /// A map as a list of keys and values.
    Pairs {
        key: Box<Shape>,
        value: Box<Shape>,
        spelled: Pairs,
    },
    Struct(Members),
}

/// How an entry of a map stands in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// `[key, value]`.
    #[cfg_attr(not(feature = "connect-json"), expect(dead_code, reason = "Connect's own spelling"))]
    Lists,
    /// `{"key": …, "value": …}`.
    #[cfg_attr(
        not(feature = "json-schema"),
        expect(dead_code, reason = "the spelling of Confluent's JSON Schema")
    )]
    Objects,
}

#[derive(Debug)]
pub(crate) struct Members {
    list: Vec<(Box<str>, Shape)>,
    by_name: HashMap<Box<str>, usize>,
    /// Whether other members are refused.
    closed: bool,
}

impl Members {
    /// `None` if a name comes twice.
    pub(crate) fn new(members: Vec<(Box<str>, Shape)>, closed: bool) -> Option<Self> {
        let by_name: HashMap<_, _> =
            (0..).zip(&members).map(|(index, (name, _))| (name.clone(), index)).collect();
        (by_name.len() == members.len()).then_some(Self { list: members, by_name, closed })
    }

    fn get(&self, name: &str) -> Option<&Shape> {
        self.find(name, 0).map(|(_, shape)| shape)
    }

    /// The member, which is probably the one at `guess`.
    fn find(&self, name: &str, guess: usize) -> Option<(usize, &Shape)> {
        let index = match self.list.get(guess) {
            Some((expected, _)) if **expected == *name => guess,
            _ => *self.by_name.get(name)?,
        };
        self.list.get(index).map(|(_, shape)| (index, shape))
    }
}

impl Shape {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, nullable: false, default: None }
    }

    /// The default as schemas have it, if it is a scalar.
    #[cfg(feature = "connect-json")]
    pub(crate) fn literal(&self) -> Option<Literal> {
        let text = self.default.as_deref()?;
        let scalar = scalar::read(&self.kind, text.as_bytes()).ok()?;
        into_static(scalar).map(Literal::Scalar)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "true or false",
            Self::Whole { min, max } => return write!(f, "a whole number from {min} to {max}"),
            Self::F32 | Self::F64 => "a number",
            Self::Decimal { scale } => {
                return write!(f, "a number with {scale} digits behind its point, or the base64 of one");
            }
            Self::Str => "text",
            Self::Enum(_) => "one of the names of its enum",
            Self::Bytes => "bytes in base64",
            Self::Uuid => "a uuid",
            Self::Days => "days since 1970",
            Self::MillisOfDay => "milliseconds of a day",
            Self::Millis => "milliseconds since 1970",
            Self::DateText => "a date such as 2021-06-28",
            Self::TimeText => "a time such as 07:30:00Z",
            Self::TimestampText => "a time of RFC 3339",
            Self::Json => "anything",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Struct(_) => "an object",
            Self::Pairs { .. } => "a list of keys and values",
        })
    }
}
