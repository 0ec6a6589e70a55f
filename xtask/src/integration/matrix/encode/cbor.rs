//! CBOR by ciborium, with the tags that say what text and numbers mean.

use anyhow::{Context as _, Result, bail};
use ciborium::Value;
use xtask::readers::{Cell, Unit};

use super::super::calendar::{Moment, date_text};
use super::super::truth::AMOUNT_SCALE;
use super::avro::unscaled;

/// RFC 3339 text.
const TIME: u64 = 0;
/// Exponent and digits.
const DECIMAL: u64 = 4;
const UUID: u64 = 37;

pub(super) fn encode(value: &Cell) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    ciborium::into_writer(&tagged(value)?, &mut out)?;
    Ok(out)
}

/// There are neither days nor times of day, nor floats of 32 bits; moments are in microseconds.
pub(super) fn carries(value: &Cell) -> Cell {
    match value {
        Cell::F32(bits) => Cell::f64(f64::from(f32::from_bits(*bits))),
        Cell::Timestamp(count, Unit::Millis, true) => Cell::Timestamp(count * 1_000, Unit::Micros, true),
        Cell::List(items) => Cell::List(items.iter().map(carries).collect()),
        Cell::Map(members) | Cell::Record(members) => {
            Cell::record(members.iter().map(|(name, value)| (name.clone(), carries(value))))
        }
        other => untagged(other).map_or_else(|| other.clone(), Cell::Text),
    }
}

/// What goes as plain text.
fn untagged(value: &Cell) -> Option<String> {
    match value {
        Cell::Date(days) => Some(date_text(*days)),
        Cell::Time(count, unit) => Some(Moment::at(*count, *unit).time_text()),
        Cell::Timestamp(count, unit, false) => Some(Moment::at(*count, *unit).text()),
        _ => None,
    }
}

fn tagged(value: &Cell) -> Result<Value> {
    if let Some(text) = untagged(value) {
        return Ok(Value::Text(text));
    }
    let tag = |number, value| Value::Tag(number, Box::new(value));
    Ok(match value {
        Cell::Null => Value::Null,
        Cell::Bool(value) => Value::Bool(*value),
        Cell::Int(value) => Value::from(*value),
        Cell::F64(bits) => Value::Float(f64::from_bits(*bits)),
        Cell::F32(bits) => Value::Float(f64::from(f32::from_bits(*bits))),
        Cell::Decimal(text) => {
            let exponent = Value::from(-i64::from(AMOUNT_SCALE));
            tag(DECIMAL, Value::Array(vec![exponent, Value::from(unscaled(text)?)]))
        }
        Cell::Text(text) => Value::Text(text.clone()),
        Cell::Bytes(bytes) => Value::Bytes(bytes.clone()),
        Cell::Uuid(text) => {
            let bytes = u128::from_str_radix(&text.replace('-', ""), 16).context("no UUID")?.to_be_bytes();
            tag(UUID, Value::Bytes(bytes.to_vec()))
        }
        Cell::Timestamp(count, unit, true) => {
            tag(TIME, Value::Text(format!("{}Z", Moment::at(*count, *unit).text())))
        }
        Cell::List(items) => Value::Array(items.iter().map(tagged).collect::<Result<_>>()?),
        Cell::Map(members) | Cell::Record(members) => {
            let entries = members.iter().map(|(name, value)| Ok((Value::Text(name.clone()), tagged(value)?)));
            Value::Map(entries.collect::<Result<_>>()?)
        }
        other => bail!("{other} is no kind of CBOR"),
    })
}
