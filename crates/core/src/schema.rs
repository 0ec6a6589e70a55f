//! What producers declare about their values, in one form for all of them.
//!
//! Avro, Protobuf, JSON Schema and Connect's envelope are read into it, Parquet, Avro files and tables are made of it. It
//! knows the kinds that at least one of those has and keeps apart what any of them keeps apart.

mod compatibility;

use std::fmt::{self, Write as _};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::value::{FieldValue, TimeUnit};

pub use self::compatibility::{Compatibility, Incompatible};

/// The schema of a value.
///
/// Comparing two is comparing their [digests](Self::digest) first, and values of one schema share one `Arc`.
///
/// ```
/// use aqueduct_core::{DataType, Field, Schema};
///
/// let order = DataType::Struct(vec![
///     Field::new("id", DataType::Int64),
///     Field::new("note", DataType::String).nullable(),
/// ]);
/// let schema = Schema::new(order).with_name("shop.Order").with_version(3);
/// assert_eq!(schema.to_string(), "shop.Order/3 struct{id:int64,note:string?}");
/// ```
#[derive(Clone, Debug)]
pub struct Schema {
    name: Option<String>,
    version: Option<u32>,
    root: Field,
    avro: Option<Arc<str>>,
    digest: u64,
}

impl Schema {
    /// The schema of values of this kind, never null.
    pub fn new(root: DataType) -> Self {
        Self::of_root(Field::new("", root))
    }

    /// The schema of values that may be null if `root` may; the name of `root` means nothing.
    pub fn of_root(root: Field) -> Self {
        let mut schema = Self { name: None, version: None, root, avro: None, digest: 0 };
        schema.settle();
        schema
    }

    /// Sets the full name, such as `shop.Order`.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self.settle();
        self
    }

    /// Sets the version that the registry counts under the schema's subject.
    #[must_use]
    pub fn with_version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self.settle();
        self
    }

    /// Sets the text of the Avro schema this was read from, so that Avro files can declare it word for word.
    #[must_use]
    pub fn with_avro(mut self, text: impl Into<Arc<str>>) -> Self {
        self.avro = Some(text.into());
        self.settle();
        self
    }

    /// The full name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The version under its subject, if the source knows it.
    pub fn version(&self) -> Option<u32> {
        self.version
    }

    /// The Avro schema this was read from.
    pub fn avro(&self) -> Option<&Arc<str>> {
        self.avro.as_ref()
    }

    /// The value itself, as a field without a name.
    pub fn root(&self) -> &Field {
        &self.root
    }

    /// The fields of a schema whose root is a struct; none of any other.
    pub fn fields(&self) -> &[Field] {
        match self.root.data_type() {
            DataType::Struct(fields) => fields,
            _ => &[],
        }
    }

    /// One number for everything in it, stable over versions and platforms.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    fn settle(&mut self) {
        let mut text = self.to_string();
        write_extras(&self.root, &mut text);
        if let Some(avro) = &self.avro {
            text.push_str(avro);
        }
        self.digest = xxh3_64(text.as_bytes());
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
            && self.name == other.name
            && self.version == other.version
            && self.root == other.root
            && self.avro == other.avro
    }
}

impl fmt::Display for Schema {
    /// On one line, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            f.write_str(name)?;
        }
        if let Some(version) = self.version {
            write!(f, "/{version}")?;
        }
        if self.name.is_some() || self.version.is_some() {
            f.write_str(" ")?;
        }
        self.root.data_type.fmt(f)?;
        f.write_str(if self.root.nullable { "?" } else { "" })
    }
}

/// A member of a struct, an element of a list, or a branch of a union.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    name: String,
    data_type: DataType,
    nullable: bool,
    default: Option<Literal>,
    aliases: Vec<String>,
    doc: Option<String>,
}

impl Field {
    /// A field that is never null and has no default.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type, nullable: false, default: None, aliases: Vec::new(), doc: None }
    }

    /// It may be null.
    #[must_use]
    pub fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// Sets what stands for the field in values that were written before there was one.
    #[must_use]
    pub fn with_default(mut self, default: Literal) -> Self {
        self.default = Some(default);
        self
    }

    /// Sets the names it had before.
    #[must_use]
    pub fn with_aliases(mut self, aliases: Vec<String>) -> Self {
        self.aliases = aliases;
        self
    }

    /// Sets what it means, in words.
    #[must_use]
    pub fn with_doc(mut self, doc: impl Into<String>) -> Self {
        self.doc = Some(doc.into());
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kind.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Whether it may be null.
    pub fn is_nullable(&self) -> bool {
        self.nullable
    }

    /// What stands for it where it is absent.
    pub fn default(&self) -> Option<&Literal> {
        self.default.as_ref()
    }

    /// The names it had before.
    pub fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// What it means.
    pub fn doc(&self) -> Option<&str> {
        self.doc.as_deref()
    }
}

/// A default.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// A scalar, or null.
    Scalar(FieldValue<'static>),
    /// A list without elements.
    EmptyList,
    /// A map without entries.
    EmptyMap,
}

/// The kind of a value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DataType {
    /// Nothing but null.
    Null,
    /// True or false.
    Bool,
    /// A signed whole number of 8 bits.
    Int8,
    /// A signed whole number of 16 bits.
    Int16,
    /// A signed whole number of 32 bits.
    Int32,
    /// A signed whole number of 64 bits.
    Int64,
    /// A whole number of 32 bits without sign.
    UInt32,
    /// A whole number of 64 bits without sign.
    UInt64,
    /// A binary fraction of 32 bits.
    Float32,
    /// A binary fraction of 64 bits.
    Float64,
    /// A number with `scale` digits after the point, `precision` digits in all.
    Decimal {
        /// All digits.
        precision: u32,
        /// Digits after the point.
        scale: u32,
    },
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// So many bytes.
    Fixed(u32),
    /// A UUID.
    Uuid,
    /// One of these names.
    Enum(Vec<String>),
    /// A day.
    Date,
    /// A time of day.
    Time(TimeUnit),
    /// A moment.
    Timestamp {
        /// What it is counted in.
        unit: TimeUnit,
        /// Whether it is a moment of the world, or what a calendar and a clock somewhere show.
        utc: bool,
    },
    /// Months, days and milliseconds.
    Duration,
    /// A value of any shape: written as JSON text where columns have one kind. Also where a schema comes back to itself.
    Json,
    /// Elements of one kind; their field's name means nothing.
    List(Box<Field>),
    /// Entries with text for a key and values of one kind; their field's name means nothing.
    Map(Box<Field>),
    /// Members with names.
    Struct(Vec<Field>),
    /// A value of one of several kinds, none of them null; a union of null and one kind is a nullable field of that kind.
    Union(Vec<Field>),
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = |unit: TimeUnit| match unit {
            TimeUnit::Millis => "ms",
            TimeUnit::Micros => "us",
            TimeUnit::Nanos => "ns",
        };
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int8 => f.write_str("int8"),
            Self::Int16 => f.write_str("int16"),
            Self::Int32 => f.write_str("int32"),
            Self::Int64 => f.write_str("int64"),
            Self::UInt32 => f.write_str("uint32"),
            Self::UInt64 => f.write_str("uint64"),
            Self::Float32 => f.write_str("float32"),
            Self::Float64 => f.write_str("float64"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Fixed(length) => write!(f, "fixed({length})"),
            Self::Uuid => f.write_str("uuid"),
            Self::Enum(symbols) => write!(f, "enum({})", symbols.join("|")),
            Self::Date => f.write_str("date"),
            Self::Time(of) => write!(f, "time({})", unit(*of)),
            Self::Timestamp { unit: of, utc: true } => write!(f, "timestamp({})", unit(*of)),
            Self::Timestamp { unit: of, utc: false } => write!(f, "local-timestamp({})", unit(*of)),
            Self::Duration => f.write_str("duration"),
            Self::Json => f.write_str("json"),
            Self::List(element) => write!(f, "list<{}>", Unnamed(element)),
            Self::Map(value) => write!(f, "map<{}>", Unnamed(value)),
            Self::Struct(fields) => write_fields(f, "struct", fields),
            Self::Union(branches) => write_fields(f, "union", branches),
        }
    }
}

struct Unnamed<'a>(&'a Field);

impl fmt::Display for Unnamed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.data_type, if self.0.nullable { "?" } else { "" })
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, kind: &str, fields: &[Field]) -> fmt::Result {
    write!(f, "{kind}{{")?;
    for (index, field) in fields.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(f, "{comma}{}:{}", field.name, Unnamed(field))?;
    }
    f.write_str("}")
}

/// What the line for messages leaves out and the digest may not.
fn write_extras(field: &Field, out: &mut String) {
    // Writing to a string cannot fail. The debug form of names and texts keeps neighbours apart.
    write!(out, "\n{:?} {:?} {:?} {:?}", field.name, field.default, field.aliases, field.doc).ok();
    match &field.data_type {
        DataType::List(inner) | DataType::Map(inner) => write_extras(inner, out),
        DataType::Struct(fields) | DataType::Union(fields) => {
            for field in fields {
                write_extras(field, out);
            }
        }
        DataType::Enum(symbols) => {
            write!(out, " {symbols:?}").ok();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(extra: Option<Field>) -> Schema {
        let mut fields = vec![Field::new("id", DataType::Int64)];
        fields.extend(extra);
        Schema::new(DataType::Struct(fields)).with_name("shop.Order")
    }

    #[test]
    fn whatever_a_schema_says_is_in_its_digest() {
        let note = || Field::new("note", DataType::String);
        let all = [
            order(None),
            order(Some(note())),
            order(Some(note().nullable())),
            order(Some(note().with_default(Literal::Scalar(FieldValue::Null)))),
            order(Some(note().with_doc("words"))),
            order(Some(note().with_aliases(vec!["remark".to_owned()]))),
            order(Some(Field::new("note", DataType::Enum(vec!["a|b".to_owned()])))),
            order(Some(Field::new("note", DataType::Enum(vec!["a".to_owned(), "b".to_owned()])))),
            order(None).with_version(2),
            order(None).with_avro("{}"),
            order(None).with_name("shop.Other"),
        ];
        for (index, one) in all.iter().enumerate() {
            assert_eq!(one, &one.clone());
            assert!(
                !all[..index].iter().any(|other| other.digest() == one.digest() || other == one),
                "{one}"
            );
        }
        // Golden: shapes of objects are told apart by it.
        assert_eq!(order(None).digest(), 12_665_381_324_258_367_140);
    }

    #[test]
    fn a_schema_reads_as_one_line() {
        let tags = DataType::Map(Box::new(Field::new(
            "",
            DataType::List(Box::new(Field::new("", DataType::Date).nullable())),
        )));
        let schema = Schema::of_root(Field::new("", tags).nullable()).with_version(1);
        assert_eq!(schema.to_string(), "/1 map<list<date?>>?");
        assert!(schema.fields().is_empty());
    }
}
