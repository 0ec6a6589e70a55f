//! One JSON text a line.

use aqueduct_core::{Envelope, Fingerprint, JsonRow, Poison};

use super::{Encoded, Encoder, FileKind, Format, RowEncoder};

/// One JSON text a line: `.json`, as Confluent's `JsonFormat` writes it.
///
/// Values that are JSON text already are stored byte for byte, without a copy of their own.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonLines(());

impl JsonLines {
    /// The format; it has no options.
    pub const fn new() -> Self {
        Self(())
    }
}

impl FileKind for JsonLines {
    fn extension(&self) -> &'static str {
        ".json"
    }

    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("format", "json-lines/1");
    }
}

impl<T: JsonRow> Format<T> for JsonLines {
    fn encoder(&self) -> Encoder<T> {
        Encoder::joined(JsonText, "\n")
    }
}

/// Values as JSON text, not copied where it exists.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonText;

impl<T: JsonRow> RowEncoder<T> for JsonText {
    fn encode(&mut self, envelope: &Envelope<'_, T>, out: &mut Vec<u8>) -> Result<Encoded, Poison> {
        if let Some(bytes) = envelope.value.json_bytes() {
            return Ok(Encoded::shared(bytes.clone()));
        }
        envelope.value.write_json(out)?;
        Ok(Encoded::written())
    }
}
