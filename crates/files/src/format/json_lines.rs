//! One JSON text a line.

use aqueduct_core::{Envelope, Fingerprint, JsonRow, Poison};

use super::{Format, Row};

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

impl<T: JsonRow> Format<T> for JsonLines {
    fn encode(&self, envelope: &Envelope<'_, T>, out: &mut Vec<u8>) -> Result<Row, Poison> {
        if let Some(bytes) = envelope.value.json_bytes() {
            return Ok(Row::Shared(bytes.clone()));
        }
        envelope.value.write_json(out)?;
        Ok(Row::Written)
    }

    fn terminator(&self) -> &'static [u8] {
        b"\n"
    }

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
