//! CBOR: checked once, kept as it came, read lazily.

use bytes::Bytes;

use crate::tokens::{encoded_converter, encoded_value};
use crate::tombstones::Tombstones;
use reader::Reader;

mod reader;

/// Reads a value as one item of CBOR (RFC 8949) of any shape.
///
/// The bytes are checked once and kept; nothing is built of them.
///
/// | CBOR | value |
/// | --- | --- |
/// | integers | whole numbers; below `i64::MIN` decimals |
/// | floats of 16, 32 and 64 bits | `F64`: encoders take the shortest form that loses nothing |
/// | `undefined` | null |
/// | maps | structs; whole numbers as keys become their digits |
/// | tags 0 and 1 (times) | timestamps in microseconds, UTC; finer ones are cut |
/// | tags 2 and 3 (large numbers) | decimals without fraction, of up to 512 bits |
/// | tag 4 (decimals) | decimals of up to 76 digits behind the point |
/// | tag 37 | UUIDs |
/// | other tags | the item without its tag |
///
/// Everything else is a poison that names the byte: what is not well-formed or followed by more bytes, text that is not UTF-8,
/// other keys, a key that comes twice in a map, simple values without a meaning, more than
/// [`NESTING_MAX`](aqueduct_core::NESTING_MAX) levels. Lengths are believed only as far as there are bytes.
///
/// ```
/// use aqueduct_converters::CborValue;
/// use aqueduct_core::{FieldPath, FieldValue, Fields, JsonRow};
///
/// let value = CborValue::parse(b"\xa1\x62id\x18\x2a"[..].into())?;
/// assert_eq!(value.field(&FieldPath::parse("id")?), Some(FieldValue::I64(42)));
/// let mut row = Vec::new();
/// value.write_json(&mut row)?;
/// assert_eq!(row, br#"{"id":42}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cbor {
    tombstones: Tombstones,
}

encoded_converter!(Cbor, CborValue, "cbor/1");

/// One CBOR value as checked bytes. Its fields are found in the bytes when asked for.
///
/// As a row of JSON it is what [`write_json`](aqueduct_core::write_json) makes of it; as bytes it is stored as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct CborValue {
    bytes: Bytes,
}

encoded_value!(CborValue, Reader<'_>, 0xf6);

#[cfg(test)]
mod tests;
