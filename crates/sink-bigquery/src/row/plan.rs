//! What the columns mean for the encoder, compiled once.

use std::collections::HashMap;

use aqueduct_core::TimeUnit;
use prost_types::DescriptorProto;

use super::metadata::{MetadataColumns, MetadataPlan};
use super::wire::{Tag, WireType};
use crate::schema::{Field, FieldType, Mode, TableSchema, descriptor, range_fields};

/// What becomes of fields that a value has and the table does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownFields {
    /// They are left out.
    #[default]
    Ignore,
    /// The record is a letter.
    Refuse,
}

/// What decides how values become rows beside the columns.
#[derive(Clone, Debug)]
pub(crate) struct PlanOptions {
    pub(crate) unknown: UnknownFields,
    /// What whole numbers in `TIMESTAMP` columns count.
    pub(crate) timestamps: TimeUnit,
    pub(crate) metadata: MetadataColumns,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct RowPlan {
    pub(super) options: PlanOptions,
    /// The row itself is the first.
    pub(super) messages: Vec<MessagePlan>,
    pub(super) metadata: MetadataPlan,
    descriptor: DescriptorProto,
}

#[derive(Clone, Debug)]
pub(super) struct MessagePlan {
    pub(super) fields: Vec<FieldPlan>,
    /// By names in lower case.
    by_name: HashMap<Box<str>, usize>,
    /// The places of `key` and `value`, if these are all it has: what a map is written to.
    pub(super) entry: Option<(usize, usize)>,
}

#[derive(Clone, Debug)]
pub(super) struct FieldPlan {
    pub(super) name: Box<str>,
    pub(super) tag: Tag,
    pub(super) kind: Kind,
    pub(super) mode: Mode,
    /// The message of a record or a range.
    pub(super) message: usize,
    pub(super) max_length: Option<u64>,
    /// Digits before and behind the point.
    pub(super) digits: (u64, u64),
}

/// [`FieldType`] without what it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Bytes,
    Int64,
    Float64,
    Bool,
    Timestamp,
    Date,
    Time,
    DateTime,
    Numeric,
    BigNumeric,
    Json,
    Geography,
    Interval,
    Message,
}

impl Kind {
    fn of(kind: &FieldType) -> Self {
        match kind {
            FieldType::String => Self::String,
            FieldType::Bytes => Self::Bytes,
            FieldType::Int64 => Self::Int64,
            FieldType::Float64 => Self::Float64,
            FieldType::Bool => Self::Bool,
            FieldType::Timestamp => Self::Timestamp,
            FieldType::Date => Self::Date,
            FieldType::Time => Self::Time,
            FieldType::DateTime => Self::DateTime,
            FieldType::Numeric => Self::Numeric,
            FieldType::BigNumeric => Self::BigNumeric,
            FieldType::Json => Self::Json,
            FieldType::Geography => Self::Geography,
            FieldType::Interval => Self::Interval,
            FieldType::Range(_) | FieldType::Record(_) => Self::Message,
        }
    }

    fn wire(self) -> WireType {
        match self {
            Self::Int64 | Self::Bool | Self::Timestamp | Self::Date => WireType::Varint,
            Self::Float64 => WireType::Fixed64,
            _ => WireType::Delimited,
        }
    }

    /// In messages to people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::String => "STRING",
            Self::Bytes => "BYTES",
            Self::Int64 => "INTEGER",
            Self::Float64 => "FLOAT",
            Self::Bool => "BOOLEAN",
            Self::Timestamp => "TIMESTAMP",
            Self::Date => "DATE",
            Self::Time => "TIME",
            Self::DateTime => "DATETIME",
            Self::Numeric => "NUMERIC",
            Self::BigNumeric => "BIGNUMERIC",
            Self::Json => "JSON",
            Self::Geography => "GEOGRAPHY",
            Self::Interval => "INTERVAL",
            Self::Message => "RECORD",
        }
    }
}

impl RowPlan {
    /// Compiles columns that have no [problems](TableSchema::problems).
    pub(crate) fn new(schema: &TableSchema, options: PlanOptions) -> Self {
        let mut messages = Vec::new();
        add_message(&schema.fields, &mut messages);
        let mut fields = schema.fields.clone();
        let metadata = MetadataPlan::new(&options.metadata, fields.len());
        fields.extend(options.metadata.fields());
        let descriptor = descriptor("Row", &fields);
        Self { options, messages, metadata, descriptor }
    }

    /// The protobuf type of the rows.
    pub(crate) fn descriptor(&self) -> &DescriptorProto {
        &self.descriptor
    }
}

/// Adds a message and those inside of it; answers its place.
fn add_message(fields: &[Field], messages: &mut Vec<MessagePlan>) -> usize {
    let place = messages.len();
    messages.push(MessagePlan { fields: Vec::new(), by_name: HashMap::new(), entry: None });
    let mut plans = Vec::with_capacity(fields.len());
    for (number, field) in (1..).zip(fields) {
        let kind = Kind::of(&field.kind);
        let message = match &field.kind {
            FieldType::Record(fields) => add_message(fields, messages),
            FieldType::Range(of) => add_message(&range_fields(of.element()), messages),
            _ => 0,
        };
        let digits = crate::schema::numeric_limits(&field.kind).unwrap_or_default();
        plans.push(FieldPlan {
            name: field.name.as_str().into(),
            tag: Tag::new(number, kind.wire()),
            kind,
            mode: field.mode,
            message,
            max_length: field.max_length,
            digits: field
                .precision
                .map_or(digits, |(precision, scale)| (precision - scale.min(precision), scale)),
        });
    }
    if let Some(message) = messages.get_mut(place) {
        let names = plans.iter().enumerate();
        message.by_name =
            names.map(|(place, field)| (field.name.to_ascii_lowercase().into(), place)).collect();
        message.entry = match (message.by_name.get("key"), message.by_name.get("value")) {
            (Some(key), Some(value)) if plans.len() == 2 => Some((*key, *value)),
            _ => None,
        };
        message.fields = plans;
    }
    place
}

impl MessagePlan {
    /// The field of this name in any case; `guess` is where to look first.
    pub(super) fn find(&self, name: &str, guess: usize) -> Option<usize> {
        if self.fields.get(guess).is_some_and(|field| *field.name == *name) {
            return Some(guess);
        }
        if let Some(found) = self.by_name.get(name) {
            return Some(*found);
        }
        // Only a name with capitals is spelled anew.
        if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        self.by_name.get(name.to_ascii_lowercase().as_str()).copied()
    }
}
