//! JSON text, by `serde_json`'s strings and the numbers' own spelling.

use std::fmt::Write as _;

use anyhow::Result;
use xtask::readers::Cell;

use super::super::storage::as_json;

/// The value as a producer without schemas writes it: times are RFC 3339 text, bytes are base64, decimals are numbers with all
/// their digits.
pub(super) fn encode(value: &Cell) -> Result<Vec<u8>> {
    let mut out = String::new();
    write(&as_json(value), &mut out)?;
    Ok(out.into_bytes())
}

/// What such a value still says: the kinds that JSON has.
pub(super) fn carries(value: &Cell) -> Cell {
    as_json(value)
}

pub(in super::super) fn write(value: &Cell, out: &mut String) -> Result<()> {
    match value {
        Cell::Null => out.push_str("null"),
        Cell::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Cell::Int(value) => out.push_str(&value.to_string()),
        Cell::F64(bits) => write!(out, "{:?}", f64::from_bits(*bits))?,
        Cell::F32(bits) => write!(out, "{:?}", f32::from_bits(*bits))?,
        Cell::Number(text) | Cell::Decimal(text) => out.push_str(text),
        Cell::Text(text) => out.push_str(&serde_json::to_string(text)?),
        Cell::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write(item, out)?;
            }
            out.push(']');
        }
        Cell::Map(members) | Cell::Record(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                out.push_str(&serde_json::to_string(name)?);
                out.push(':');
                write(value, out)?;
            }
            out.push('}');
        }
        other => anyhow::bail!("{other} is no kind of JSON"),
    }
    Ok(())
}
