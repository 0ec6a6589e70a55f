//! Cells gathered into arrays, column by column.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array,
    Int64Array, ListArray, MapArray, RecordBatch, StructArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType as ArrowType};

use super::schema::{FileSchema, Leaf, duration_fields, entry_fields};
use crate::columns::{Cells, Kind, Plan, Wide};

/// The rows of one batch.
pub(super) struct Batch {
    columns: Vec<Column>,
    rows: usize,
    /// About how many bytes they take.
    weight: usize,
}

struct Column {
    nullable: bool,
    validity: NullBufferBuilder,
    data: Data,
    children: Vec<u32>,
}

enum Data {
    Bool(BooleanBufferBuilder),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes(Text),
    Fixed { size: usize, bytes: Vec<u8> },
    Duration([Vec<i32>; 3]),
    List(Vec<i32>),
    Map { ends: Vec<i32>, keys: Text },
    Struct,
    Union,
}

/// Texts, one after the other.
struct Text {
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

impl Text {
    fn new() -> Self {
        Self { ends: vec![0], bytes: Vec::new() }
    }

    fn with_room(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { ends, bytes: Vec::with_capacity(bytes) }
    }

    #[inline]
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        // Rows are limited so that a batch stays below; the array refuses offsets that do not ascend.
        self.ends.push(i32::try_from(self.bytes.len()).unwrap_or(-1));
    }

    fn array(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let bytes = std::mem::take(&mut self.bytes);
        Ok(Arc::new(BinaryArray::try_new(offsets(ends)?, Buffer::from_vec(bytes), nulls)?))
    }
}

fn offsets(ends: Vec<i32>) -> Result<OffsetBuffer<i32>, ArrowError> {
    if ends.is_sorted() {
        Ok(OffsetBuffer::new(ScalarBuffer::from(ends)))
    } else {
        Err(ArrowError::ComputeError("a batch has more than 2 GiB in one column".to_owned()))
    }
}

impl Batch {
    /// For the cells of `plan`, with room for so many rows of so many bytes each, in at most `room` bytes.
    pub(super) fn new(plan: &Plan, rows: usize, row_bytes: usize, room: usize) -> Self {
        let columns = plan.nodes().len().max(1);
        // As if every column had the same share; which one has more is not known.
        let text_bytes = row_bytes / columns;
        let rows = rows.min(room / (columns * (size_of::<i64>() + text_bytes)));
        let column = |node: &crate::columns::Node| {
            let data = match node.kind {
                Kind::Struct => Data::Struct,
                Kind::Union => Data::Union,
                Kind::List => Data::List(vec![0]),
                Kind::Map => Data::Map { ends: vec![0], keys: Text::new() },
                Kind::Duration => Data::Duration(Default::default()),
                _ => match Leaf::of_node(node).arrow() {
                    ArrowType::Boolean => Data::Bool(BooleanBufferBuilder::new(0)),
                    ArrowType::Int32 => Data::I32(Vec::with_capacity(rows)),
                    ArrowType::Int64 => Data::I64(Vec::with_capacity(rows)),
                    ArrowType::Float32 => Data::F32(Vec::with_capacity(rows)),
                    ArrowType::Float64 => Data::F64(Vec::with_capacity(rows)),
                    ArrowType::FixedSizeBinary(size) => {
                        Data::Fixed { size: usize::try_from(size).unwrap_or_default(), bytes: Vec::new() }
                    }
                    _ => Data::Bytes(Text::with_room(rows, rows * text_bytes)),
                },
            };
            Column {
                nullable: node.nullable,
                validity: NullBufferBuilder::new(0),
                data,
                children: node.children.clone(),
            }
        };
        Self { columns: plan.nodes().iter().map(column).collect(), rows: 0, weight: 0 }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn end_row(&mut self) {
        self.rows += 1;
    }

    /// The rows, and none left.
    pub(super) fn take(&mut self, schema: &FileSchema) -> Result<RecordBatch, ArrowError> {
        let top = self.columns.first().map(|root| root.children.clone()).unwrap_or_default();
        let arrays = top.iter().map(|&child| self.array(child as usize, schema));
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        if let Some(root) = self.columns.first_mut() {
            root.validity = NullBufferBuilder::new(0);
        }
        (self.rows, self.weight) = (0, 0);
        RecordBatch::try_new(Arc::clone(&schema.arrow), arrays)
    }

    fn array(&mut self, id: usize, schema: &FileSchema) -> Result<ArrayRef, ArrowError> {
        let children = self.columns.get(id).map(|column| column.children.clone()).unwrap_or_default();
        let below = children.iter().map(|&child| self.array(child as usize, schema));
        let below = below.collect::<Result<Vec<_>, _>>()?;
        let field = schema.fields.get(id);
        let (Some(column), Some(field)) = (self.columns.get_mut(id), field) else {
            return Err(ArrowError::SchemaError("a column without a field".to_owned()));
        };
        let length = column.validity.len();
        let nulls = std::mem::replace(&mut column.validity, NullBufferBuilder::new(0)).finish();
        let fields = match field.data_type() {
            ArrowType::Struct(fields) => fields.clone(),
            _ => duration_fields(),
        };
        Ok(match &mut column.data {
            Data::Bool(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Data::I32(values) => Arc::new(Int32Array::try_new(std::mem::take(values).into(), nulls)?),
            Data::I64(values) => Arc::new(Int64Array::try_new(std::mem::take(values).into(), nulls)?),
            Data::F32(values) => Arc::new(Float32Array::try_new(std::mem::take(values).into(), nulls)?),
            Data::F64(values) => Arc::new(Float64Array::try_new(std::mem::take(values).into(), nulls)?),
            Data::Bytes(text) => text.array(nulls)?,
            Data::Fixed { size, bytes } => {
                let bytes = Buffer::from_vec(std::mem::take(bytes));
                let size = i32::try_from(*size).unwrap_or_default();
                Arc::new(FixedSizeBinaryArray::try_new(size, bytes, nulls)?)
            }
            Data::Duration(parts) => {
                let part = |values: &mut Vec<i32>| -> Result<ArrayRef, ArrowError> {
                    Ok(Arc::new(Int32Array::try_new(std::mem::take(values).into(), None)?))
                };
                let parts = parts.iter_mut().map(part).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new(duration_fields(), parts, nulls)?)
            }
            Data::Struct | Data::Union => {
                Arc::new(StructArray::try_new_with_length(fields, below, nulls, length)?)
            }
            Data::List(ends) => {
                let ArrowType::List(element) = field.data_type() else { return Err(mismatch()) };
                let values = below.into_iter().next().ok_or_else(mismatch)?;
                let ends = offsets(std::mem::replace(ends, vec![0]))?;
                Arc::new(ListArray::try_new(Arc::clone(element), ends, values, nulls)?)
            }
            Data::Map { ends, keys } => {
                let ArrowType::Map(entry, _) = field.data_type() else { return Err(mismatch()) };
                let (ends, keys) = (offsets(std::mem::replace(ends, vec![0]))?, keys.array(None)?);
                let (value, values) = children.first().zip(below.into_iter().next()).ok_or_else(mismatch)?;
                let value = schema.fields.get(*value as usize).ok_or_else(mismatch)?;
                let fields = entry_fields(Arc::clone(value));
                let entries = StructArray::try_new(fields, vec![keys, values], None)?;
                Arc::new(MapArray::try_new(Arc::clone(entry), ends, entries, nulls, false)?)
            }
        })
    }

    #[inline]
    fn column(&mut self, id: usize, bytes: usize) -> Option<&mut Column> {
        self.weight += bytes;
        let column = self.columns.get_mut(id)?;
        column.validity.append_non_null();
        Some(column)
    }

    /// Something in the place of a value that is not there: null if that may be, else what is hidden by a null above.
    fn pad(&mut self, id: usize) {
        let Some(column) = self.columns.get_mut(id) else { return };
        self.weight += 8;
        if column.nullable {
            column.validity.append_null();
        } else {
            column.validity.append_non_null();
        }
        match &mut column.data {
            Data::Bool(bits) => bits.append(false),
            Data::I32(values) => values.push(0),
            Data::I64(values) => values.push(0),
            Data::F32(values) => values.push(0.0),
            Data::F64(values) => values.push(0.0),
            Data::Bytes(text) => text.push(b""),
            Data::Fixed { size, bytes } => {
                self.weight += *size;
                bytes.resize(bytes.len() + *size, 0);
            }
            Data::Duration(parts) => parts.iter_mut().for_each(|part| part.push(0)),
            Data::List(ends) | Data::Map { ends, .. } => ends.push(ends.last().copied().unwrap_or_default()),
            Data::Struct | Data::Union => {
                let children = std::mem::take(&mut column.children);
                for &child in &children {
                    self.pad(child as usize);
                }
                if let Some(column) = self.columns.get_mut(id) {
                    column.children = children;
                }
            }
        }
    }
}

fn mismatch() -> ArrowError {
    ArrowError::SchemaError("a column is not what its field says".to_owned())
}

fn narrow(value: i64) -> i32 {
    // Values are in the range of their kind; of `uint32` the bits are kept.
    i32::try_from(value).unwrap_or_else(|_| u32::try_from(value).unwrap_or_default().cast_signed())
}

impl Cells for Batch {
    fn null(&mut self, node: usize) {
        self.pad(node);
    }

    fn boolean(&mut self, node: usize, value: bool) {
        if let Some(Column { data: Data::Bool(bits), .. }) = self.column(node, 1) {
            bits.append(value);
        }
    }

    #[inline]
    fn integer(&mut self, node: usize, value: i64) {
        match self.column(node, 8).map(|column| &mut column.data) {
            Some(Data::I64(values)) => values.push(value),
            Some(Data::I32(values)) => values.push(narrow(value)),
            _ => {}
        }
    }

    fn unsigned(&mut self, node: usize, value: u64) {
        if let Some(Column { data: Data::I64(values), .. }) = self.column(node, 8) {
            values.push(value.cast_signed());
        }
    }

    fn float(&mut self, node: usize, value: f32) {
        if let Some(Column { data: Data::F32(values), .. }) = self.column(node, 4) {
            values.push(value);
        }
    }

    #[inline]
    fn double(&mut self, node: usize, value: f64) {
        if let Some(Column { data: Data::F64(values), .. }) = self.column(node, 8) {
            values.push(value);
        }
    }

    fn decimal(&mut self, node: usize, value: Wide) {
        let small = || value.to_i128().unwrap_or_default();
        match self.column(node, 32).map(|column| &mut column.data) {
            Some(Data::I32(values)) => values.push(i32::try_from(small()).unwrap_or_default()),
            Some(Data::I64(values)) => values.push(i64::try_from(small()).unwrap_or_default()),
            Some(Data::Fixed { size, bytes }) => {
                let wide = value.to_be_bytes();
                let start = wide.len().saturating_sub(*size);
                bytes.extend_from_slice(wide.get(start..).unwrap_or_default());
            }
            _ => {}
        }
    }

    #[inline]
    fn text(&mut self, node: usize, value: &[u8]) {
        if let Some(Column { data: Data::Bytes(text), .. }) = self.column(node, value.len() + 8) {
            text.push(value);
        }
    }

    fn symbol(&mut self, node: usize, _index: u32, symbol: &[u8]) {
        self.text(node, symbol);
    }

    fn bytes(&mut self, node: usize, value: &[u8]) {
        match self.column(node, value.len() + 8).map(|column| &mut column.data) {
            Some(Data::Bytes(text)) => text.push(value),
            Some(Data::Fixed { bytes, .. }) => bytes.extend_from_slice(value),
            _ => {}
        }
    }

    fn duration(&mut self, node: usize, months: u32, days: u32, millis: u32) {
        if let Some(Column { data: Data::Duration(parts), .. }) = self.column(node, 12) {
            for (part, value) in parts.iter_mut().zip([months, days, millis]) {
                part.push(value.cast_signed());
            }
        }
    }

    fn begin_struct(&mut self, node: usize) {
        self.column(node, 0);
    }

    fn begin_list(&mut self, node: usize, count: usize) {
        if let Some(Column { data: Data::List(ends), .. }) = self.column(node, 4) {
            push_end(ends, count);
        }
    }

    fn begin_map(&mut self, node: usize, count: usize) {
        if let Some(Column { data: Data::Map { ends, .. }, .. }) = self.column(node, 4) {
            push_end(ends, count);
        }
    }

    fn key(&mut self, node: usize, key: &[u8]) {
        self.weight += key.len() + 4;
        if let Some(Column { data: Data::Map { keys, .. }, .. }) = self.columns.get_mut(node) {
            keys.push(key);
        }
    }

    fn branch(&mut self, node: usize, place: usize) {
        let Some(column) = self.column(node, 0) else { return };
        let children = std::mem::take(&mut column.children);
        for (other, &child) in children.iter().enumerate() {
            if other != place {
                self.pad(child as usize);
            }
        }
        if let Some(column) = self.columns.get_mut(node) {
            column.children = children;
        }
    }
}

fn push_end(ends: &mut Vec<i32>, count: usize) {
    let last = ends.last().copied().unwrap_or_default();
    ends.push(i32::try_from(count).ok().and_then(|count| last.checked_add(count)).unwrap_or(-1));
}
