//! Values that are one number or truth value, as Kafka's serializers write them: most significant byte first.

use anyhow::{Context as _, Result, bail};
use xtask::readers::Cell;

/// The record's number.
pub(super) fn long(value: &Cell) -> Result<Vec<u8>> {
    let Cell::Int(seq) = carries_long(value) else { bail!("no number in {value}") };
    Ok(i64::try_from(seq)?.to_be_bytes().to_vec())
}

/// What [`long`] says.
pub(super) fn carries_long(value: &Cell) -> Cell {
    value.member("seq").cloned().unwrap_or(Cell::Null)
}

/// The record's number with a fraction, and with the sign and the size of the field `ratio`.
pub(super) fn double(value: &Cell) -> Result<Vec<u8>> {
    Ok(fraction(value).context("no fraction")?.to_be_bytes().to_vec())
}

/// What [`double`] says.
pub(super) fn carries_double(value: &Cell) -> Cell {
    fraction(value).map_or(Cell::Null, Cell::f64)
}

/// The bits of `ratio`, with the number in the last ones: no two records have the same.
fn fraction(value: &Cell) -> Option<f64> {
    let (Cell::Int(seq), Cell::F64(bits)) = (value.member("seq")?, value.member("ratio")?) else {
        return None;
    };
    Some(f64::from_bits(bits & !0xffff | u64::try_from(*seq).ok()? & 0xffff))
}

/// The field `flag`.
pub(super) fn boolean(value: &Cell) -> Result<Vec<u8>> {
    let Cell::Bool(flag) = carries_boolean(value) else { bail!("no truth value in {value}") };
    Ok(vec![u8::from(flag)])
}

/// What [`boolean`] says.
pub(super) fn carries_boolean(value: &Cell) -> Cell {
    value.member("flag").cloned().unwrap_or(Cell::Null)
}
