//! A schema as Parquet and Arrow spell it.

use std::collections::HashSet;
use std::sync::Arc;

use aqueduct_core::{DataType, Field, Schema, TimeUnit};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Fields, Schema as ArrowSchema, SchemaRef};
use parquet::basic::{LogicalType, Repetition, TimeUnit as ParquetUnit, Type as Physical};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

use crate::columns::{Kind, Node, Plan};

/// The same schema without what Parquet has no column for: groups without fields become JSON text, branches of unions get
/// names and may be null.
pub(super) fn reshape(schema: &Schema) -> Schema {
    Schema::of_root(reshape_field(schema.root()))
}

fn reshape_field(field: &Field) -> Field {
    let of = |inner: &Field| Box::new(reshape_field(inner));
    let data_type = match field.data_type() {
        DataType::Struct(fields) if fields.is_empty() => DataType::Json,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(reshape_field).collect()),
        DataType::Union(branches) if branches.is_empty() => DataType::Null,
        DataType::Union(branches) => DataType::Union(name_branches(branches)),
        DataType::List(element) => DataType::List(of(element)),
        DataType::Map(value) => DataType::Map(of(value)),
        DataType::Fixed(0) => DataType::Bytes,
        other => other.clone(),
    };
    rebuilt(field, field.name(), data_type)
}

fn rebuilt(field: &Field, name: &str, data_type: DataType) -> Field {
    let mut same = Field::new(name, data_type);
    if field.is_nullable() {
        same = same.nullable();
    }
    match field.default() {
        Some(default) => same.with_default(default.clone()),
        None => same,
    }
}

fn name_branches(branches: &[Field]) -> Vec<Field> {
    let mut taken = HashSet::new();
    let name = |branch: &Field, taken: &mut HashSet<String>| {
        let plain = match branch.name() {
            "" => kind_word(branch.data_type()),
            name => name,
        };
        let (mut name, mut count) = (plain.to_owned(), 1);
        while taken.contains(&name) {
            count += 1;
            name = format!("{plain}_{count}");
        }
        taken.insert(name.clone());
        name
    };
    let of = |branch: &Field| {
        let reshaped = reshape_field(branch);
        rebuilt(&reshaped, &name(branch, &mut taken), reshaped.data_type().clone()).nullable()
    };
    branches.iter().map(of).collect()
}

fn kind_word(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Null => "null",
        DataType::Bool => "bool",
        DataType::Int8 => "int8",
        DataType::Int16 => "int16",
        DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float32 => "float32",
        DataType::Float64 => "float64",
        DataType::Decimal { .. } => "decimal",
        DataType::String => "string",
        DataType::Bytes => "bytes",
        DataType::Fixed(_) => "fixed",
        DataType::Uuid => "uuid",
        DataType::Enum(_) => "enum",
        DataType::Date => "date",
        DataType::Time(_) => "time",
        DataType::Timestamp { .. } => "timestamp",
        DataType::Duration => "duration",
        DataType::List(_) => "list",
        DataType::Map(_) => "map",
        DataType::Struct(_) => "struct",
        DataType::Union(_) => "union",
        _ => "json",
    }
}

/// What files of a shape have in common. Made once, shared by all of them.
pub(crate) struct FileSchema {
    pub(super) arrow: SchemaRef,
    pub(super) parquet: SchemaDescriptor,
    pub(super) properties: WriterProperties,
    pub(super) fields: Vec<Arc<ArrowField>>,
}

impl FileSchema {
    pub(super) fn new(name: Option<&str>, plan: &Plan, properties: WriterProperties) -> Result<Self> {
        let root = plan.node(0);
        let blank = Arc::new(ArrowField::new("", ArrowType::Null, true));
        let mut fields: Vec<_> = plan.nodes().iter().map(|_| Arc::clone(&blank)).collect();
        let (mut top, mut types) = (Vec::new(), Vec::new());
        for &child in &root.children {
            let (arrow, parquet) = column(plan, child as usize, None, &mut fields)?;
            top.push(arrow);
            types.push(parquet);
        }
        let group = Type::group_type_builder(name.unwrap_or("schema")).with_fields(types).build()?;
        Ok(Self {
            arrow: Arc::new(ArrowSchema::new(Fields::from(top))),
            parquet: SchemaDescriptor::new(Arc::new(group)),
            properties,
            fields,
        })
    }

    pub(super) fn leaves(&self) -> usize {
        self.parquet.num_columns()
    }
}

/// The node as a column; `name` where it is not the node's own. Its field is noted in `fields`.
fn column(
    plan: &Plan,
    id: usize,
    name: Option<&str>,
    fields: &mut [Arc<ArrowField>],
) -> Result<(Arc<ArrowField>, TypePtr)> {
    let node = plan.node(id);
    let name = name.unwrap_or(&node.name);
    let repetition = if node.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let below = |place: usize| node.children.get(place).map_or(0, |&child| child as usize);
    let group = |logical: Option<LogicalType>, types: Vec<TypePtr>| {
        let group = Type::group_type_builder(name).with_repetition(repetition).with_logical_type(logical);
        group.with_fields(types).build()
    };
    let (arrow, parquet) = match node.kind {
        Kind::Struct | Kind::Union => {
            let (mut inner, mut types) = (Vec::new(), Vec::new());
            for &child in &node.children {
                let (arrow, parquet) = column(plan, child as usize, None, fields)?;
                inner.push(arrow);
                types.push(parquet);
            }
            (ArrowType::Struct(Fields::from(inner)), group(None, types)?)
        }
        Kind::Duration => {
            let part = |name: &str| primitive(name, Repetition::REQUIRED, Leaf::of(Kind::UInt32));
            let types = vec![part("months")?, part("days")?, part("millis")?];
            (ArrowType::Struct(duration_fields()), group(None, types)?)
        }
        Kind::List => {
            let (element, inner) = column(plan, below(0), Some("element"), fields)?;
            let list = Type::group_type_builder("list")
                .with_repetition(Repetition::REPEATED)
                .with_fields(vec![inner])
                .build()?;
            (ArrowType::List(element), group(Some(LogicalType::List), vec![Arc::new(list)])?)
        }
        Kind::Map => {
            let (value, inner) = column(plan, below(0), Some("value"), fields)?;
            let key = primitive("key", Repetition::REQUIRED, Leaf::of(Kind::String))?;
            let entries = Type::group_type_builder("key_value")
                .with_repetition(Repetition::REPEATED)
                .with_fields(vec![key, inner])
                .build()?;
            let entry = ArrowField::new("key_value", ArrowType::Struct(entry_fields(value)), false);
            (ArrowType::Map(Arc::new(entry), false), group(Some(LogicalType::Map), vec![Arc::new(entries)])?)
        }
        _ => {
            let leaf = Leaf::of_node(node);
            let arrow = leaf.arrow();
            let field = Arc::new(ArrowField::new(name, arrow, node.nullable));
            note(fields, id, &field);
            return Ok((field, primitive(name, repetition, leaf)?));
        }
    };
    let field = Arc::new(ArrowField::new(name, arrow, node.nullable));
    note(fields, id, &field);
    Ok((field, Arc::new(parquet)))
}

fn note(fields: &mut [Arc<ArrowField>], id: usize, field: &Arc<ArrowField>) {
    if let Some(place) = fields.get_mut(id) {
        *place = Arc::clone(field);
    }
}

pub(super) fn duration_fields() -> Fields {
    let part = |name: &str| ArrowField::new(name, ArrowType::Int32, false);
    Fields::from(vec![part("months"), part("days"), part("millis")])
}

pub(super) fn entry_fields(value: Arc<ArrowField>) -> Fields {
    Fields::from(vec![Arc::new(ArrowField::new("key", ArrowType::Binary, false)), value])
}

/// A column without parts. Arrow's side only knows what is stored: what it means is Parquet's to say.
pub(super) struct Leaf {
    pub(super) physical: Physical,
    pub(super) length: i32,
    logical: Option<LogicalType>,
    precision: i32,
    scale: i32,
}

impl Leaf {
    fn of(kind: Kind) -> Self {
        let plain = |physical, logical| Self { physical, length: -1, logical, precision: -1, scale: -1 };
        let integer = |bit_width, is_signed| Some(LogicalType::integer(bit_width, is_signed));
        let units = |unit: TimeUnit| match unit {
            TimeUnit::Millis => ParquetUnit::MILLIS,
            TimeUnit::Micros => ParquetUnit::MICROS,
            TimeUnit::Nanos => ParquetUnit::NANOS,
        };
        match kind {
            Kind::Bool => plain(Physical::BOOLEAN, None),
            Kind::Int(64) => plain(Physical::INT64, None),
            Kind::Int(32) => plain(Physical::INT32, None),
            Kind::Int(bits) => plain(Physical::INT32, integer(bits.cast_signed(), true)),
            Kind::UInt32 => plain(Physical::INT32, integer(32, false)),
            Kind::UInt64 => plain(Physical::INT64, integer(64, false)),
            Kind::Float32 => plain(Physical::FLOAT, None),
            Kind::Float64 => plain(Physical::DOUBLE, None),
            Kind::Decimal { precision, scale } => {
                let (physical, length) = match precision {
                    0..=9 => (Physical::INT32, -1),
                    10..=18 => (Physical::INT64, -1),
                    _ => (Physical::FIXED_LEN_BYTE_ARRAY, decimal_bytes(precision)),
                };
                let (precision, scale) = (precision.max(1).cast_signed(), scale.cast_signed());
                let logical = Some(LogicalType::decimal(scale, precision));
                Self { physical, length, logical, precision, scale }
            }
            Kind::Bytes => plain(Physical::BYTE_ARRAY, None),
            Kind::Fixed(length) => {
                Self { length: length.cast_signed(), ..plain(Physical::FIXED_LEN_BYTE_ARRAY, None) }
            }
            Kind::Uuid => {
                Self { length: 16, ..plain(Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid)) }
            }
            Kind::Date => plain(Physical::INT32, Some(LogicalType::Date)),
            Kind::Time(unit) => {
                let physical = if unit == TimeUnit::Millis { Physical::INT32 } else { Physical::INT64 };
                let logical = LogicalType::time(false, units(unit));
                plain(physical, Some(logical))
            }
            Kind::Timestamp { unit, utc } => {
                let logical = LogicalType::timestamp(utc, units(unit));
                plain(Physical::INT64, Some(logical))
            }
            Kind::Json => plain(Physical::BYTE_ARRAY, Some(LogicalType::Json)),
            _ => plain(Physical::BYTE_ARRAY, Some(LogicalType::String)),
        }
    }

    pub(super) fn of_node(node: &Node) -> Self {
        Self::of(node.kind)
    }

    pub(super) fn arrow(&self) -> ArrowType {
        match self.physical {
            Physical::BOOLEAN => ArrowType::Boolean,
            Physical::INT32 => ArrowType::Int32,
            Physical::INT64 => ArrowType::Int64,
            Physical::FLOAT => ArrowType::Float32,
            Physical::DOUBLE => ArrowType::Float64,
            Physical::FIXED_LEN_BYTE_ARRAY => ArrowType::FixedSizeBinary(self.length),
            _ => ArrowType::Binary,
        }
    }
}

/// Bytes that hold every number of so many digits, with its sign.
fn decimal_bytes(precision: u32) -> i32 {
    let bits = f64::from(precision) * std::f64::consts::LOG2_10 + 1.0;
    (1..=32).find(|bytes| f64::from(bytes * 8) >= bits).unwrap_or(32)
}

fn primitive(name: &str, repetition: Repetition, leaf: Leaf) -> Result<TypePtr> {
    if leaf.physical == Physical::FIXED_LEN_BYTE_ARRAY && leaf.length < 1 {
        return Err(ParquetError::General("fixed bytes of more than 2 GiB".to_owned()));
    }
    let column = Type::primitive_type_builder(name, leaf.physical)
        .with_repetition(repetition)
        .with_length(leaf.length)
        .with_precision(leaf.precision)
        .with_scale(leaf.scale)
        .with_logical_type(leaf.logical);
    Ok(Arc::new(column.build()?))
}
