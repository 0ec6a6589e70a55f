//! MessagePack: checked once, kept as it came, read lazily.

use bytes::Bytes;

use crate::tokens::{encoded_converter, encoded_value};
use crate::tombstones::Tombstones;
use reader::Reader;

mod reader;

/// Reads a value as one object of MessagePack of any shape.
///
/// The bytes are checked once and kept; nothing is built of them.
///
/// | MessagePack | value |
/// | --- | --- |
/// | `int`, `float`, `bool`, `nil` | whole numbers, `F32` and `F64`, truth values, null |
/// | `str`, `bin` | text, bytes |
/// | `map` | structs; whole numbers as keys become their digits |
/// | `ext` of type -1 | timestamps in microseconds, UTC; finer ones are cut |
/// | other `ext` | the bytes they hold |
///
/// Everything else is a poison that names the byte: what is not well-formed or followed by more bytes, a `str` that is not UTF-8,
/// other keys, a key that comes twice in a map, more than [`NESTING_MAX`](aqueduct_core::NESTING_MAX) levels. Lengths are
/// believed only as far as there are bytes.
///
/// ```
/// use aqueduct_converters::MessagePackValue;
/// use aqueduct_core::{FieldPath, FieldValue, Fields, JsonRow};
///
/// let value = MessagePackValue::parse(b"\x81\xa2id\x2a"[..].into())?;
/// assert_eq!(value.field(&FieldPath::parse("id")?), Some(FieldValue::I64(42)));
/// let mut row = Vec::new();
/// value.write_json(&mut row)?;
/// assert_eq!(row, br#"{"id":42}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessagePack {
    tombstones: Tombstones,
}

encoded_converter!(MessagePack, MessagePackValue, "messagepack/1");

/// One MessagePack value as checked bytes. Its fields are found in the bytes when asked for.
///
/// As a row of JSON it is what [`write_json`](aqueduct_core::write_json) makes of it; as bytes it is stored as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct MessagePackValue {
    bytes: Bytes,
}

encoded_value!(MessagePackValue, Reader<'_>, 0xc0);

#[cfg(test)]
mod tests;
