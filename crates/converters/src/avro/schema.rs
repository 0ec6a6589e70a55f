//! What an Avro schema says, as a table of types that refer to each other by index.
//!
//! Schemas come from whoever may register one, so this is read as warily as records are. The parser of `apache-avro` was
//! rejected for it: it descends without a bound through schemas that refer to each other, it refuses schemas that registries
//! hold (theirs do not check defaults), and its canonical form keeps attributes that the specification strips, so that
//! fingerprints differ from those in records. It is what the tests compare this with.

use std::collections::HashMap;

use aqueduct_core::TimeUnit;

use super::parse::Parser;

/// A text that is no Avro schema, or one over a limit; why, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AvroSchemaError(pub(super) String);

impl AvroSchemaError {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Where a type stands in [`AvroSchema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TypeId(pub(super) u32);

/// A schema and everything it refers to.
#[derive(Clone, Debug)]
pub(super) struct AvroSchema {
    types: Vec<Type>,
    root: TypeId,
    text: String,
}

impl AvroSchema {
    /// Reads a schema; `references` are those it refers to, each behind those that it refers to itself.
    pub(super) fn parse<'t>(
        text: &'t str,
        references: impl IntoIterator<Item = &'t str>,
    ) -> Result<Self, AvroSchemaError> {
        let mut parser = Parser::default();
        for reference in references {
            parser.reference(reference)?;
        }
        parser.schema(text)
    }

    pub(super) fn of_parts(types: Vec<Type>, root: TypeId, text: String) -> Self {
        Self { types, root, text }
    }

    pub(super) fn root(&self) -> TypeId {
        self.root
    }

    pub(super) fn get(&self, id: TypeId) -> &Type {
        // Every id was made when its type was put into the table.
        self.types.get(id.0 as usize).unwrap_or(&Type::Null)
    }

    /// The schema's text, with the definitions it refers to put in.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// A type. What annotates none that it may annotate is left out, as the specification has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    Null,
    Boolean,
    Int(Option<Logical>),
    Long(Option<Logical>),
    Float,
    Double,
    Bytes(Option<Logical>),
    String(Option<Logical>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Record),
    Enum(Enumeration),
    Fixed(Fixed),
}

/// What a type means beyond how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logical {
    Decimal { precision: u32, scale: u32 },
    Uuid,
    Date,
    Time(TimeUnit),
    Timestamp { unit: TimeUnit, utc: bool },
    Duration,
}

/// The name of a record, an enumeration or a fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// With its namespace in front, if it has one.
    pub(super) full: String,
    /// Full names it had before.
    pub(super) aliases: Vec<String>,
    pub(super) doc: Option<String>,
}

impl Name {
    pub(super) fn short(&self) -> &str {
        self.full.rsplit('.').next().unwrap_or(&self.full)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) name: Name,
    pub(super) fields: Vec<RecordField>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RecordField {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) doc: Option<String>,
    pub(super) default: Option<serde_json::Value>,
    pub(super) of: TypeId,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Enumeration {
    pub(super) name: Name,
    pub(super) symbols: Vec<String>,
    pub(super) default: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fixed {
    pub(super) name: Name,
    pub(super) size: u32,
    pub(super) logical: Option<Logical>,
}

impl Type {
    /// The name, if it is of a kind that has one.
    pub(super) fn name(&self) -> Option<&Name> {
        match self {
            Self::Record(record) => Some(&record.name),
            Self::Enum(enumeration) => Some(&enumeration.name),
            Self::Fixed(fixed) => Some(&fixed.name),
            _ => None,
        }
    }

    /// What it is called in a union: its name, or its kind's.
    pub(super) fn label(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int(_) => "int",
            Self::Long(_) => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes(_) => "bytes",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Record(record) => &record.name.full,
            Self::Enum(enumeration) => &enumeration.name.full,
            Self::Fixed(fixed) => &fixed.name.full,
        }
    }

    pub(super) fn logical(&self) -> Option<Logical> {
        match self {
            Self::Int(logical) | Self::Long(logical) | Self::Bytes(logical) | Self::String(logical) => {
                *logical
            }
            Self::Fixed(fixed) => fixed.logical,
            _ => None,
        }
    }
}

/// Types by their full names.
pub(super) type Names = HashMap<String, TypeId>;

/// Bytes of a schema with all it refers to.
pub(super) const TEXT_MAX: usize = 4 << 20;
/// Levels of types within each other, without coming back to one.
pub(super) const LEVELS_MAX: usize = 128;
/// Types and fields, counted wherever they come up when a schema is written out in full.
pub(super) const FIELDS_MAX: usize = 50_000;
/// Bytes of names, symbols, aliases, words and defaults, counted as those; symbols and aliases with what each takes beside its bytes.
pub(super) const NAMES_MAX: usize = 16 << 20;
/// Digits of a decimal.
pub(super) const PRECISION_MAX: u32 = 1_000;
