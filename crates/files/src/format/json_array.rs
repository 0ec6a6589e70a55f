//! One JSON array a file.

use std::sync::Arc;

use aqueduct_core::{Envelope, Fingerprint, JsonRow, Poison};

use super::json_lines::JsonText;
use super::{
    BuildError, BuiltRows, Encoded, Encoder, FileBuilder, FileEncoder, FileKind, FileOutline, Format,
    RowEncoder, Rows,
};

/// One JSON array a file, each value in a line of its own: `.json`, for readers that take a file as one document.
///
/// Who reads such a file has to take all of it. Where that is not asked for, [`JsonLines`](super::JsonLines) serve better:
/// they can be split, concatenated and read from the front.
///
/// Values that are JSON text already are stored byte for byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonArray(());

impl JsonArray {
    /// The format; it has no options.
    pub const fn new() -> Self {
        Self(())
    }
}

impl FileKind for JsonArray {
    fn extension(&self) -> &'static str {
        ".json"
    }

    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("format", "json-array/1");
    }
}

impl<T: JsonRow> Format<T> for JsonArray {
    fn encoder(&self) -> Encoder<T> {
        Encoder::built(*self)
    }
}

impl<T: JsonRow> RowEncoder<T> for JsonArray {
    fn encode(&mut self, envelope: &Envelope<'_, T>, out: &mut Vec<u8>) -> Result<Encoded, Poison> {
        JsonText.encode(envelope, out)
    }
}

impl<T: JsonRow> BuiltRows<T> for JsonArray {
    fn finish(&mut self) -> Arc<dyn FileBuilder> {
        Arc::new(*self)
    }
}

impl FileBuilder for JsonArray {
    fn open(&self, _file: &FileOutline) -> Result<Box<dyn FileEncoder>, BuildError> {
        Ok(Box::new(Array { begun: false }))
    }

    /// What is put between rows is less than what lay between them in the spool.
    fn workspace(&self, _file: &FileOutline) -> usize {
        64
    }
}

/// An array that grows.
struct Array {
    begun: bool,
}

impl FileEncoder for Array {
    fn write(&mut self, rows: Rows<'_>, out: &mut Vec<u8>) -> Result<(), BuildError> {
        for row in rows {
            let before: &[u8] = if self.begun { b",\n" } else { b"[" };
            self.begun = true;
            out.extend_from_slice(before);
            out.extend_from_slice(row);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, out: &mut Vec<u8>) -> Result<(), BuildError> {
        let end: &[u8] = if self.begun { b"]" } else { b"[]" };
        out.extend_from_slice(end);
        Ok(())
    }
}
