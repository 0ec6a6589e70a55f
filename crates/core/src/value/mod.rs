//! One way for partitioners and formats to look into any converted value.
//!
//! Partitioners read a few fields by [path](FieldPath), lazily ([`Fields`]). Formats go through the whole value once, as a
//! stream of events ([`StructuredValue::visit`]): no tree is built between the bytes of a record and the bytes of its row,
//! and a format does not know whether it sees JSON, Avro or a struct of the user's own.

mod decimal;
mod json_text;
mod path;
mod time_text;
mod visit;

use std::borrow::Cow;

pub use self::decimal::Decimal;
pub use self::json_text::{JsonText, write_json};
pub use self::path::{FieldPath, FieldPathError};
pub use self::time_text::TimeText;
pub use self::visit::{Composite, MemberName, NESTING_MAX, StructuredValue, ValueVisitor};

/// One scalar of a value: what stands at a [`FieldPath`], or what a [`ValueVisitor`] is given.
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
    /// A number of 32 bits: as text it has fewer digits than the same number as `f64`.
    F32(f32),
    /// Any other number.
    F64(f64),
    /// A number as its JSON text, when it is no whole number of 64 bits: a reader of decimals must not go through `f64`.
    /// Visitors are given it; [`Fields::field`] answers `F64` in its place.
    Number(&'a str),
    /// A number with a fixed number of digits after the point.
    Decimal(Decimal<'a>),
    /// Text.
    Str(Cow<'a, str>),
    /// Bytes that are not text.
    Bytes(Cow<'a, [u8]>),
    /// A UUID, most significant byte first.
    Uuid([u8; 16]),
    /// A day: days since 1970-01-01.
    Date(i32),
    /// A time of day: units since midnight.
    Time {
        /// How many.
        count: i64,
        /// Of what.
        unit: TimeUnit,
    },
    /// A moment: units since 1970-01-01T00:00.
    Timestamp {
        /// How many.
        count: i64,
        /// Of what.
        unit: TimeUnit,
        /// Whether it is a moment of the world (UTC), or what a calendar and a clock somewhere show.
        utc: bool,
    },
    /// A span of time in Avro's three parts, which do not convert into each other.
    Duration {
        /// Months.
        months: u32,
        /// Days.
        days: u32,
        /// Milliseconds.
        millis: u32,
    },
    /// An object, an array or another value that is not one scalar. Visitors are never given it.
    Composite,
}

/// What times are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimeUnit {
    /// Thousandths of a second.
    Millis,
    /// Millionths of a second.
    Micros,
    /// Billionths of a second.
    Nanos,
}

impl TimeUnit {
    /// How many make a second.
    pub const fn per_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }

    /// Digits after the point of a second: 3, 6 or 9.
    pub const fn digits(self) -> usize {
        match self {
            Self::Millis => 3,
            Self::Micros => 6,
            Self::Nanos => 9,
        }
    }
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
