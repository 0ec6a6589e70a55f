//! `MessagePack` by rmp-serde, with its own kind of moments.

use anyhow::Result;
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Serialize, Serializer};
use xtask::readers::{Cell, Unit};

use super::super::storage::as_json;

pub(super) fn encode(value: &Cell) -> Result<Vec<u8>> {
    Ok(rmp_serde::to_vec_named(&Packed(value))?)
}

/// Bytes, floats of both widths and moments in microseconds; what else JSON does not have is text, as there.
pub(super) fn carries(value: &Cell) -> Cell {
    match value {
        Cell::Timestamp(count, Unit::Millis, true) => Cell::Timestamp(count * 1_000, Unit::Micros, true),
        Cell::Decimal(text) => Cell::text(text),
        Cell::Timestamp(_, _, true) | Cell::Bytes(_) | Cell::F64(_) | Cell::F32(_) => value.clone(),
        Cell::List(items) => Cell::List(items.iter().map(carries).collect()),
        Cell::Map(members) | Cell::Record(members) => {
            Cell::record(members.iter().map(|(name, value)| (name.clone(), carries(value))))
        }
        other => as_json(other),
    }
}

struct Packed<'a>(&'a Cell);

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl Serialize for Packed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Cell::Null => serializer.serialize_none(),
            Cell::Bool(value) => serializer.serialize_bool(*value),
            Cell::Int(value) => serializer.serialize_i64(i64::try_from(*value).map_err(S::Error::custom)?),
            Cell::F64(bits) => serializer.serialize_f64(f64::from_bits(*bits)),
            Cell::F32(bits) => serializer.serialize_f32(f32::from_bits(*bits)),
            Cell::Text(text) | Cell::Decimal(text) => serializer.serialize_str(text),
            Cell::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Cell::Timestamp(count, unit, true) => {
                let bytes = moment(*count, *unit);
                serializer
                    .serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &(-1_i8, Bytes(&bytes)))
            }
            Cell::List(items) => serializer.collect_seq(items.iter().map(Packed)),
            Cell::Map(members) | Cell::Record(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, &Packed(value))?;
                }
                map.end()
            }
            other => match as_json(other) {
                Cell::Text(text) => serializer.serialize_str(&text),
                other => Err(S::Error::custom(format!("{other} is no kind of MessagePack"))),
            },
        }
    }
}

/// A moment in the shortest of its three forms: seconds; both in 64 bits; nanoseconds, then seconds with a sign.
fn moment(count: i64, unit: Unit) -> Vec<u8> {
    let seconds = count.div_euclid(unit.per_second());
    let nanos = count.rem_euclid(unit.per_second()) * (1_000_000_000 / unit.per_second());
    let nanos = u32::try_from(nanos).unwrap_or_default();
    match (u32::try_from(seconds), u64::try_from(seconds)) {
        (Ok(seconds), _) if nanos == 0 => seconds.to_be_bytes().to_vec(),
        (_, Ok(seconds)) if seconds >> 34 == 0 => (u64::from(nanos) << 34 | seconds).to_be_bytes().to_vec(),
        _ => [nanos.to_be_bytes().as_slice(), &seconds.to_be_bytes()].concat(),
    }
}
