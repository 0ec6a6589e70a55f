//! Avro by apache-avro: datums, bare or behind a fingerprint.

use std::collections::HashMap;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail};
use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use xtask::readers::{Cell, Unit};

/// The schema of the records; it knows every kind they have.
pub(super) const SCHEMA: &str = r#"{"type": "record", "name": "Event", "namespace": "aqueduct.matrix", "fields": [
    {"name": "seq", "type": "long"},
    {"name": "partition", "type": "int"},
    {"name": "flag", "type": "boolean"},
    {"name": "small", "type": "int"},
    {"name": "big", "type": "long"},
    {"name": "ratio", "type": "double"},
    {"name": "single", "type": "float"},
    {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}},
    {"name": "note", "type": ["null", "string"], "default": null},
    {"name": "raw", "type": "bytes"},
    {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    {"name": "clock", "type": {"type": "long", "logicalType": "time-micros"}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "at_us", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
    {"name": "color", "type": {"type": "enum", "name": "Color", "symbols": ["RED", "GREEN", "BLUE"]}},
    {"name": "place", "type": {"type": "record", "name": "Place", "fields": [
        {"name": "city", "type": "string"},
        {"name": "at", "type": {"type": "record", "name": "Point", "fields": [
            {"name": "lat", "type": "double"}, {"name": "lon", "type": "double"}]}}]}},
    {"name": "maybe", "type": ["null", {"type": "record", "name": "Maybe", "fields": [
        {"name": "why", "type": ["null", "string"]}, {"name": "level", "type": "long"}]}]},
    {"name": "tags", "type": {"type": "array", "items": "string"}},
    {"name": "scores", "type": {"type": "map", "values": "long"}},
    {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "Item", "fields": [
        {"name": "sku", "type": "string"}, {"name": "count", "type": "long"}]}}},
    {"name": "choice", "type": ["long", "string", "Item"]}]}"#;

static PARSED: LazyLock<Result<Schema, String>> =
    LazyLock::new(|| Schema::parse_str(SCHEMA).map_err(|error| error.to_string()));

/// The datum alone.
pub(super) fn datum(value: &Cell) -> Result<Vec<u8>> {
    datum_of(value, PARSED.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?)
}

/// The datum of a value of any schema of these kinds.
pub(crate) fn datum_of(value: &Cell, schema: &Schema) -> Result<Vec<u8>> {
    Ok(GenericDatumWriter::builder(schema)
        .human_readable(false)
        .build()?
        .write_value_to_vec(typed(value, schema)?)?)
}

/// The Rabin fingerprint of the schema's parsing canonical form, as fastavro computes it. apache-avro's own is of another text: it
/// leaves what has a logical type an object, which the canonical form makes the plain name.
const FINGERPRINT: u64 = 0x4af1_fa58_bf29_6c3f;

/// Avro's single-object encoding.
pub(super) fn single_object(value: &Cell) -> Result<Vec<u8>> {
    let mut bytes = vec![0xc3, 0x01];
    bytes.extend_from_slice(&FINGERPRINT.to_le_bytes());
    bytes.extend(datum(value)?);
    Ok(bytes)
}

fn typed(cell: &Cell, schema: &Schema) -> Result<Value> {
    Ok(match (cell, schema) {
        (Cell::Null, Schema::Union(union)) if union.is_nullable() => Value::Union(0, Box::new(Value::Null)),
        (cell, Schema::Union(union)) => {
            let takes = |branch: &Schema| {
                matches!(
                    (cell, branch),
                    (Cell::Int(_), Schema::Long)
                        | (Cell::Text(_), Schema::String)
                        | (Cell::Record(_), Schema::Record(_) | Schema::Ref { .. })
                )
            };
            let branches = union.variants();
            let index = branches.iter().position(takes).with_context(|| format!("no branch for {cell}"))?;
            let branch = branches.get(index).context("no branch")?;
            Value::Union(u32::try_from(index)?, Box::new(typed(cell, branch)?))
        }
        (Cell::Bool(value), _) => Value::Boolean(*value),
        (Cell::Int(value), Schema::Int) => Value::Int(i32::try_from(*value)?),
        (Cell::Int(value), _) => Value::Long(i64::try_from(*value)?),
        (Cell::F64(bits), _) => Value::Double(f64::from_bits(*bits)),
        (Cell::F32(bits), _) => Value::Float(f32::from_bits(*bits)),
        (Cell::Decimal(text), _) => Value::Decimal(unscaled(text)?.to_be_bytes().into()),
        (Cell::Text(text), Schema::Enum(of)) => {
            let index = of.symbols.iter().position(|it| it == text).context("no such symbol")?;
            Value::Enum(u32::try_from(index)?, text.clone())
        }
        (Cell::Text(text), _) => Value::String(text.clone()),
        (Cell::Bytes(bytes), _) => Value::Bytes(bytes.clone()),
        (Cell::Uuid(text), _) => Value::Uuid(text.parse()?),
        (Cell::Date(days), _) => Value::Date(i32::try_from(*days)?),
        (Cell::Time(count, Unit::Micros), _) => Value::TimeMicros(*count),
        (Cell::Timestamp(count, Unit::Millis, true), _) => Value::TimestampMillis(*count),
        (Cell::Timestamp(count, Unit::Micros, true), _) => Value::TimestampMicros(*count),
        (Cell::Timestamp(count, Unit::Micros, false), _) => Value::LocalTimestampMicros(*count),
        (Cell::List(items), Schema::Array(of)) => {
            Value::Array(items.iter().map(|item| typed(item, &of.items)).collect::<Result<_>>()?)
        }
        (Cell::Map(entries), Schema::Map(of)) => {
            let entries = entries.iter().map(|(key, value)| Ok((key.clone(), typed(value, &of.types)?)));
            Value::Map(entries.collect::<Result<HashMap<_, _>>>()?)
        }
        (Cell::Record(members), Schema::Record(of)) => {
            let fields = of.fields.iter().map(|field| {
                let (_, cell) =
                    members.iter().find(|(name, _)| *name == field.name).context("a field is missing")?;
                Ok((field.name.clone(), typed(cell, &field.schema)?))
            });
            Value::Record(fields.collect::<Result<_>>()?)
        }
        // The one record that is used twice: an item.
        (Cell::Record(members), Schema::Ref { .. }) => {
            let of = |name: &str| {
                members.iter().find(|(it, _)| it == name).map(|(_, cell)| cell).context("no item")
            };
            let field = |name: &str, schema| anyhow::Ok((name.to_owned(), typed(of(name)?, schema)?));
            Value::Record(vec![field("sku", &Schema::String)?, field("count", &Schema::Long)?])
        }
        (cell, schema) => bail!("{cell} is no {schema:?}"),
    })
}

/// The digits of a decimal without its point.
pub(super) fn unscaled(text: &str) -> Result<i128> {
    Ok(text.replace('.', "").parse()?)
}
