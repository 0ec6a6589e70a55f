//! A value with columns beside it.

use std::borrow::Cow;
use std::sync::Arc;

use aqueduct_core::{
    Composite, DataType, FieldPath, FieldValue, Fields, JsonRow, NESTING_MAX, Offset, Poison, PoisonReason,
    Record, Schema, StructuredValue, TimeUnit, Timestamp, TopicPartition, ValueVisitor, write_json,
};

use super::headers::HeaderColumns;
use super::schema::{HEADER_KEY, HEADER_VALUE};
use super::{Layout, behind_first, collision};
use crate::any::AnyValue;

/// What [`Columns`](crate::Columns) makes of a record: its value, and what it is besides.
#[derive(Clone, Debug)]
pub struct WithColumns<V> {
    value: V,
    layout: Arc<Layout>,
    schema: Option<Arc<Schema>>,
    lane: TopicPartition,
    offset: Offset,
    timestamp: Timestamp,
    key: Option<AnyValue>,
    headers: HeaderColumns,
}

impl<V> WithColumns<V> {
    pub(super) fn new(
        layout: Arc<Layout>,
        schema: Option<Arc<Schema>>,
        record: &Record<'_>,
        value: V,
        key: Option<AnyValue>,
        headers: HeaderColumns,
    ) -> Self {
        let (lane, offset, timestamp) = (record.lane().clone(), record.offset(), record.timestamp());
        Self { value, layout, schema, lane, offset, timestamp, key, headers }
    }

    /// The value beside the columns.
    pub fn value(&self) -> &V {
        &self.value
    }

    /// The key, if the record has one and it was asked for.
    pub fn key(&self) -> Option<&AnyValue> {
        self.key.as_ref()
    }

    /// The value of a column that [`header`](crate::ColumnsBuilder::header) made; `None` where the record has no such header, and of
    /// other columns.
    pub fn header(&self, column: &str) -> Option<&AnyValue> {
        let index = self.layout.named.iter().position(|(name, _)| name == column)?;
        self.headers.named.get(index)?.as_ref()
    }

    pub(crate) fn map<U>(self, f: impl FnOnce(V) -> U) -> WithColumns<U> {
        let Self { value, layout, schema, lane, offset, timestamp, key, headers } = self;
        WithColumns { value: f(value), layout, schema, lane, offset, timestamp, key, headers }
    }

    fn timestamp(&self) -> FieldValue<'static> {
        let unit = TimeUnit::Millis;
        self.timestamp.millis().map_or(FieldValue::Null, |count| FieldValue::Timestamp {
            count,
            unit,
            utc: true,
        })
    }

    fn topic(&self) -> FieldValue<'_> {
        FieldValue::Str(Cow::Borrowed(self.lane.topic()))
    }

    /// The columns but those of the value.
    fn visit_columns(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        let mut column = |name: &Option<String>, value: FieldValue<'_>| match name {
            Some(name) => {
                visitor.key(name)?;
                visitor.scalar(value)
            }
            None => Ok(()),
        };
        column(&self.layout.topic, self.topic())?;
        column(&self.layout.partition, FieldValue::I64(self.lane.partition().into()))?;
        column(&self.layout.offset, FieldValue::I64(self.offset.get()))?;
        column(&self.layout.timestamp, self.timestamp())?;
        if let Some(name) = &self.layout.key {
            visitor.key(name)?;
            visit_part(self.key.as_ref(), 1, visitor)?;
        }
        if let Some((name, _)) = &self.layout.headers {
            visitor.key(name)?;
            visitor.begin(Composite::List)?;
            for (name, value) in self.headers.all() {
                visitor.begin(Composite::Struct)?;
                visitor.key(HEADER_KEY)?;
                visitor.scalar(FieldValue::Str(Cow::Borrowed(name)))?;
                visitor.key(HEADER_VALUE)?;
                // Within the row, the list and the header.
                visit_part(value, 3, visitor)?;
                visitor.end()?;
            }
            visitor.end()?;
        }
        for ((name, _), value) in self.layout.named.iter().zip(&self.headers.named) {
            visitor.key(name)?;
            visit_part(value.as_ref(), 1, visitor)?;
        }
        Ok(())
    }
}

/// A key or a header, which stands within so many levels.
fn visit_part(value: Option<&AnyValue>, depth: usize, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
    match value {
        Some(value) => value.visit(&mut Inner { visitor, depth }),
        None => visitor.scalar(FieldValue::Null),
    }
}

impl<V: StructuredValue> StructuredValue for WithColumns<V> {
    fn schema(&self) -> Option<&Arc<Schema>> {
        self.schema.as_ref()
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        visitor.begin(Composite::Struct)?;
        if let Some(nested) = &self.layout.nested {
            visitor.key(nested)?;
            self.value.visit(&mut Inner { visitor, depth: 1 })?;
        } else {
            let is_row =
                self.value.schema().is_none_or(|it| matches!(it.root().data_type(), DataType::Struct(_)));
            // The schema has been looked through for members that are called as columns are.
            let names = self.schema.is_none().then_some(&*self.layout);
            let layout = &*self.layout;
            self.value.visit(&mut Members { visitor, layout, names, is_row, depth: 0 })?;
        }
        self.visit_columns(visitor)?;
        visitor.end()
    }
}

/// The members of the value go into the row of the columns; a value without members goes under a name.
struct Members<'v> {
    visitor: &'v mut dyn ValueVisitor,
    layout: &'v Layout,
    /// The columns that no member may be called as.
    names: Option<&'v Layout>,
    is_row: bool,
    depth: usize,
}

impl Members<'_> {
    fn value_key(&mut self) -> Result<(), Poison> {
        let name = self.layout.value_name();
        if self.layout.is_column(name) {
            return Err(collision(name));
        }
        self.visitor.key(name)
    }
}

impl ValueVisitor for Members<'_> {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        if self.depth == 0 {
            if self.is_row && value == FieldValue::Null {
                // A row without members.
                return Ok(());
            }
            self.value_key()?;
        }
        self.visitor.scalar(value)
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Poison> {
        self.depth += 1;
        if self.depth == 1 {
            if self.is_row && composite == Composite::Struct {
                return Ok(());
            }
            self.value_key()?;
            // From here on it is a value like any other, one level further in.
            self.is_row = false;
        }
        let levels = self.depth + usize::from(!self.is_row);
        if levels > NESTING_MAX {
            return Err(too_deep());
        }
        self.visitor.begin(composite)
    }

    fn key(&mut self, name: &str) -> Result<(), Poison> {
        if self.depth == 1 && self.is_row && self.names.is_some_and(|layout| layout.is_column(name)) {
            return Err(collision(name));
        }
        self.visitor.key(name)
    }

    fn end(&mut self) -> Result<(), Poison> {
        self.depth -= 1;
        if self.depth == 0 && self.is_row { Ok(()) } else { self.visitor.end() }
    }

    fn branch(&mut self, index: usize) -> Result<(), Poison> {
        if self.depth == 0 { Ok(()) } else { self.visitor.branch(index) }
    }
}

/// A value within a row. It may nest as deeply as a value of its own, and then is too deep.
struct Inner<'v> {
    visitor: &'v mut dyn ValueVisitor,
    depth: usize,
}

impl ValueVisitor for Inner<'_> {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        self.visitor.scalar(value)
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Poison> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(too_deep());
        }
        self.visitor.begin(composite)
    }

    fn key(&mut self, name: &str) -> Result<(), Poison> {
        self.visitor.key(name)
    }

    fn end(&mut self) -> Result<(), Poison> {
        self.depth -= 1;
        self.visitor.end()
    }

    fn branch(&mut self, index: usize) -> Result<(), Poison> {
        self.visitor.branch(index)
    }
}

#[cold]
fn too_deep() -> Poison {
    Poison::new(PoisonReason::TooLarge, "with its columns the value nests deeper than 128 levels")
}

/// Columns by their name, the members of a key or header behind its name, and the value's fields: beside the columns, or behind the name
/// they are nested under.
impl<V: Fields> Fields for WithColumns<V> {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        let (first, rest) = path.segments().split_first()?;
        let is = |name: &Option<String>| name.as_ref() == Some(first);
        let layout = &self.layout;
        if is(&layout.key) {
            return part_field(self.key.as_ref(), path);
        }
        if let Some(index) = layout.named.iter().position(|(name, _)| name == first) {
            return part_field(self.headers.named.get(index)?.as_ref(), path);
        }
        if is(&layout.nested) {
            return if rest.is_empty() {
                Some(FieldValue::Composite)
            } else {
                self.value.field(&behind_first(path)?)
            };
        }
        if !layout.is_column(first) {
            return if layout.nested.is_none() { self.value.field(path) } else { None };
        }
        if layout.headers.as_ref().is_some_and(|(name, _)| name == first) {
            return rest.is_empty().then_some(FieldValue::Composite);
        }
        let column = if is(&layout.topic) {
            self.topic()
        } else if is(&layout.partition) {
            FieldValue::I64(self.lane.partition().into())
        } else if is(&layout.offset) {
            FieldValue::I64(self.offset.get())
        } else {
            self.timestamp()
        };
        rest.is_empty().then_some(column)
    }
}

/// A field of a key or a header, whose column is the first of the path.
fn part_field<'p>(part: Option<&'p AnyValue>, path: &FieldPath) -> Option<FieldValue<'p>> {
    match (part, path.segments()) {
        (None, [_]) => Some(FieldValue::Null),
        (None, _) => None,
        (Some(part), [_]) => Some(root(part)),
        (Some(part), _) => part.field(&behind_first(path)?),
    }
}

/// A key or a header as a whole.
fn root(part: &AnyValue) -> FieldValue<'_> {
    match part {
        AnyValue::Text(text) => FieldValue::Str(Cow::Borrowed(text)),
        AnyValue::Bytes(bytes) => FieldValue::Bytes(Cow::Borrowed(bytes)),
        AnyValue::Primitive(value) => value.scalar().clone(),
        _ => FieldValue::Composite,
    }
}

impl<V: StructuredValue> JsonRow for WithColumns<V> {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        write_json(self, out)
    }
}

impl<V: PartialEq> PartialEq for WithColumns<V> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
            && self.schema == other.schema
            && (&self.lane, self.offset, self.timestamp) == (&other.lane, other.offset, other.timestamp)
            && self.key == other.key
            && self.headers == other.headers
    }
}
