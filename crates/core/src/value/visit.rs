//! A value as a stream of events.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::json_text::is_plain;
use super::{FieldValue, Keyed};
use crate::error::Poison;
use crate::schema::{DataType, Schema};

/// Values that formats can go through from the first field to the last: rows of Parquet, Avro, CSV or a table.
///
/// # Contract
/// - [`visit`](Self::visit) gives the whole value, and the same events whenever it is asked: a replay compares rows.
/// - Events nest: `begin`, then members or elements, then `end`. In a struct or map each value follows its
///   [`key`](ValueVisitor::key). A value that is no struct at its root is given as it is.
/// - With a [`schema`](Self::schema), names and kinds are the schema's. Members come in the schema's order where that costs
///   nothing; a visitor must take any order. A nullable member may be left out and then is null.
/// - A name that comes twice in one struct is the visitor's to refuse: the value passes on what the record holds.
/// - Depth is bounded: whoever made the value has refused records that nest deeper than [`NESTING_MAX`].
///
/// # Errors
/// A [`Poison`] from the visitor ends the visit and is passed on. The value itself has been found sound when it was
/// converted.
///
/// ```
/// use aqueduct_core::{Composite, FieldValue, Poison, StructuredValue, ValueVisitor, write_json};
///
/// struct Order { service: String, status: i64 }
///
/// impl StructuredValue for Order {
///     fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
///         visitor.begin(Composite::Struct)?;
///         visitor.key("service")?;
///         visitor.scalar(FieldValue::Str(self.service.as_str().into()))?;
///         visitor.key("status")?;
///         visitor.scalar(FieldValue::I64(self.status))?;
///         visitor.end()
///     }
/// }
///
/// let mut text = Vec::new();
/// write_json(&Order { service: "checkout".into(), status: 200 }, &mut text)?;
/// assert_eq!(text, br#"{"service":"checkout","status":200}"#);
/// # Ok::<(), Poison>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no value that columns can be made of",
    label = "not a structured value",
    note = "convert with `Json`, `Avro`, `Protobuf`, `Cbor` or `Serde`, or implement `StructuredValue` for your type"
)]
pub trait StructuredValue {
    /// The schema that the record's producer declared, if it did. Values of one schema give clones of one `Arc`, so that a
    /// format knows a schema again by its address.
    fn schema(&self) -> Option<&Arc<Schema>> {
        None
    }

    /// Whether the bytes behind the value were checked against its [`schema`](Self::schema), so that its events are of that schema
    /// whatever the record holds: names, kinds, widths of numbers. Formats then look at such a value once less. The default is no.
    fn is_of_its_schema(&self) -> bool {
        false
    }

    /// Gives the value to `visitor`.
    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison>;

    /// The same for a visitor of a known type. Formats call this one; a value that is visited for each record of a large topic
    /// may implement it so that the two are compiled into one loop, without a call through a table for each field. The default
    /// [visits](Self::visit).
    fn visit_with<V: ValueVisitor>(&self, visitor: &mut V) -> Result<(), Poison>
    where
        Self: Sized,
    {
        self.visit(visitor)
    }
}

/// Levels of structs, maps and lists that a value may nest, as many as JSON readers take.
pub const NESTING_MAX: usize = 128;

/// Is given a value, event by event. See [`StructuredValue`] for their order.
pub trait ValueVisitor {
    /// A value that has no parts.
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison>;

    /// Text, as its bytes, which are known to be UTF-8: the same as [`scalar`](Self::scalar) with a
    /// [`FieldValue::Str`], which the default gives. Who writes bytes may implement it, so that text which its converter has
    /// checked is not checked again. Bytes that are not UTF-8 are a defect of the value; what becomes of them is not defined, but
    /// no memory is misread.
    fn text(&mut self, utf8: &[u8]) -> Result<(), Poison> {
        self.scalar(FieldValue::Str(String::from_utf8_lossy(utf8)))
    }

    /// Begins a value with parts, up to the matching [`end`](Self::end).
    fn begin(&mut self, composite: Composite) -> Result<(), Poison>;

    /// The name of the member, or the key of the entry, whose value comes next.
    fn key(&mut self, name: &str) -> Result<(), Poison>;

    /// The same as [`key`](Self::key), which the default calls, with a name that its converter knows beforehand. Who writes JSON
    /// may copy its [spelling](MemberName::json).
    fn member(&mut self, name: &MemberName) -> Result<(), Poison> {
        self.key(name)
    }

    /// Ends what began last.
    fn end(&mut self) -> Result<(), Poison>;

    /// Says which branch of a union the next value is of, counted over the branches that are not null in the order of the
    /// [schema](crate::DataType::Union). Only unions of several such branches say it.
    fn branch(&mut self, index: usize) -> Result<(), Poison> {
        let _ = index;
        Ok(())
    }
}

/// A member's name that many values have, with what those who write it would work out for each of them.
///
/// ```
/// use aqueduct_core::MemberName;
///
/// let name = MemberName::new("user \"id\"");
/// assert_eq!(&*name, "user \"id\"");
/// assert_eq!(name.json(), None, "it has to be escaped");
/// assert_eq!(MemberName::new("user").json(), Some(&br#""user":"#[..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberName {
    name: Box<str>,
    json: Option<Box<[u8]>>,
}

impl MemberName {
    /// Works it out.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        let name = name.into();
        let json = is_plain(name.as_bytes()).then(|| [b"\"", name.as_bytes(), b"\":"].concat().into());
        Self { name, json }
    }

    /// The name as a string of JSON, and the colon behind it; `None` if that is more than the name in quotes, and may be much
    /// longer.
    pub fn json(&self) -> Option<&[u8]> {
        self.json.as_deref()
    }
}

impl Deref for MemberName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

/// What kind of parts a value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Composite {
    /// Members with names that belong to the schema. Objects of JSON without a schema are structs.
    Struct,
    /// Entries with keys that are data.
    Map,
    /// Elements in order.
    List,
}

impl<K, V: StructuredValue> StructuredValue for Keyed<K, V> {
    fn schema(&self) -> Option<&Arc<Schema>> {
        self.value.schema()
    }

    fn is_of_its_schema(&self) -> bool {
        self.value.is_of_its_schema()
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        self.value.visit(visitor)
    }

    fn visit_with<W: ValueVisitor>(&self, visitor: &mut W) -> Result<(), Poison> {
        self.value.visit_with(visitor)
    }
}

/// All bytes have one schema.
static BYTES: LazyLock<Arc<Schema>> = LazyLock::new(|| Arc::new(Schema::new(DataType::Bytes)));

/// Bytes are a value of one scalar.
impl StructuredValue for Bytes {
    fn schema(&self) -> Option<&Arc<Schema>> {
        Some(&BYTES)
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        visitor.scalar(FieldValue::Bytes(Cow::Borrowed(self)))
    }
}
