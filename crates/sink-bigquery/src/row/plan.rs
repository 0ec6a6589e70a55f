//! What the columns mean for the encoder, compiled once.

use std::collections::HashMap;

use aqueduct_core::TimeUnit;

use super::metadata::{MetadataColumns, MetadataPlan};
use super::wire::{Tag, WireType};
use crate::schema::{Field, FieldType, Mode, TableSchema, range_fields};

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
    columns: Vec<Field>,
}

#[derive(Clone, Debug)]
pub(super) struct MessagePlan {
    pub(super) fields: Vec<FieldPlan>,
    /// By names in lower case.
    by_name: HashMap<Box<str>, usize>,
    /// Fields that are known and of which nothing is stored, as there is nothing in them.
    empty: Vec<Box<str>>,
    /// The places of `key` and `value`, if these are all it has: what a map is written to.
    pub(super) entry: Option<(usize, usize)>,
    /// The place of `element`, if that is all it has and is REPEATED: what a list in a list is written to.
    pub(super) element: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct FieldPlan {
    /// As values have it.
    pub(super) name: Box<str>,
    pub(super) tag: Tag,
    /// Without its parts.
    pub(super) kind: FieldType,
    pub(super) mode: Mode,
    /// The message of a record or a range.
    pub(super) message: usize,
    pub(super) max_length: Option<u64>,
    /// Digits before and behind the point.
    pub(super) digits: (u64, u64),
}

impl RowPlan {
    /// Compiles columns that have no [problems](TableSchema::problems).
    pub(crate) fn new(schema: &TableSchema, options: PlanOptions) -> Self {
        let behind = schema.fields.len();
        Self::of(schema.fields.clone(), behind, options)
    }

    /// Compiles columns, with ours beside them: their numbers come behind so many.
    pub(crate) fn of(mut columns: Vec<Field>, behind: usize, options: PlanOptions) -> Self {
        let mut messages = Vec::new();
        add_message(&columns, &mut messages);
        let metadata = MetadataPlan::new(&options.metadata, behind);
        let first = u32::try_from(behind).unwrap_or(u32::MAX / 2) + 1;
        let ours = (first..).zip(options.metadata.fields());
        columns.extend(ours.map(|(number, field)| Field { number, ..field }));
        Self { options, messages, metadata, columns }
    }

    /// The columns of rows, ours included; empty records among them are none.
    pub(crate) fn columns(&self) -> &[Field] {
        &self.columns
    }

    /// The protobuf type of the rows.
    #[cfg(test)]
    pub(crate) fn descriptor(&self) -> prost_types::DescriptorProto {
        crate::schema::descriptor("Row", &self.columns)
    }
}

/// Adds a message and those inside of it; answers its place.
fn add_message(fields: &[Field], messages: &mut Vec<MessagePlan>) -> usize {
    let place = messages.len();
    messages.push(MessagePlan {
        fields: Vec::new(),
        by_name: HashMap::new(),
        empty: Vec::new(),
        entry: None,
        element: None,
    });
    let mut plans = Vec::with_capacity(fields.len());
    let mut by_name = HashMap::with_capacity(fields.len());
    let mut empty = Vec::new();
    for (number, field) in (1..).zip(fields) {
        let name = field.source.as_deref().unwrap_or(&field.name);
        if field.is_empty() {
            empty.push(name.into());
            continue;
        }
        let message = match &field.kind {
            FieldType::Record(fields) => add_message(fields, messages),
            FieldType::Range(of) => add_message(&range_fields(of.element()), messages),
            _ => 0,
        };
        let digits = field.kind.digits().unwrap_or_default();
        by_name.insert(field.name.to_ascii_lowercase().into(), plans.len());
        if field.source.is_some() {
            by_name.insert(name.to_ascii_lowercase().into(), plans.len());
        }
        plans.push(FieldPlan {
            name: name.into(),
            tag: Tag::new(if field.number > 0 { field.number } else { number }, WireType::of(&field.kind)),
            kind: field.kind.bare(),
            mode: field.mode,
            message,
            max_length: field.max_length,
            digits: field
                .precision
                .map_or(digits, |(precision, scale)| (precision - scale.min(precision), scale)),
        });
    }
    if let Some(message) = messages.get_mut(place) {
        message.entry = match (by_name.get("key"), by_name.get("value")) {
            (Some(key), Some(value)) if plans.len() == 2 => Some((*key, *value)),
            _ => None,
        };
        let only = if plans.len() == 1 { by_name.get("element") } else { None };
        message.element =
            only.copied().filter(|place| plans.get(*place).is_some_and(|field| field.mode == Mode::Repeated));
        (message.fields, message.by_name, message.empty) = (plans, by_name, empty);
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

    /// Whether the field is known, and nothing of it stored.
    pub(super) fn is_empty(&self, name: &str) -> bool {
        self.empty.iter().any(|empty| **empty == *name)
    }
}
