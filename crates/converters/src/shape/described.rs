//! A document with the schema that describes it.

use std::fmt;
use std::sync::Arc;

use aqueduct_core::{FieldPath, FieldValue, Poison, Schema, ValueVisitor};
use bytes::Bytes;

use super::{Shape, field, visit};
use crate::json;

/// What a schema's text says.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) shape: Shape,
    pub(crate) schema: Arc<Schema>,
}

/// JSON text that was found to fit its schema; of any shape where it has none.
#[derive(Clone)]
pub(crate) struct Described {
    text: Bytes,
    parsed: Option<Arc<Parsed>>,
}

impl Described {
    pub(crate) fn new(text: Bytes, parsed: Option<Arc<Parsed>>) -> Self {
        Self { text, parsed }
    }

    /// What stands for a tombstone.
    pub(crate) fn null() -> Self {
        Self { text: Bytes::from_static(b"null"), parsed: None }
    }

    pub(crate) fn text(&self) -> &Bytes {
        &self.text
    }

    pub(crate) fn schema(&self) -> Option<&Arc<Schema>> {
        self.parsed.as_ref().map(|parsed| &parsed.schema)
    }

    pub(crate) fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        match &self.parsed {
            Some(parsed) => field(&parsed.shape, &self.text, path.segments()),
            None => json::lookup::scan(&self.text, path.segments()),
        }
    }

    pub(crate) fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        match &self.parsed {
            Some(parsed) => visit(&parsed.shape, &self.text, visitor),
            None => json::visit::visit(&self.text, visitor),
        }
    }
}

impl fmt::Debug for Described {
    /// Never prints a payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema().map(ToString::to_string);
        f.debug_struct("Described")
            .field("len", &self.text.len())
            .field("schema", &schema)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Described {
    /// Whether text and schema are the same.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.schema() == other.schema()
    }
}
