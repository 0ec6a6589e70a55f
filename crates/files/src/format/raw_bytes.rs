//! Values one after the other.

use aqueduct_core::{BytesRow, Envelope, Fingerprint, Poison};

use super::{Format, Row};

/// Values one after the other, nothing between them: for values that know their own length, like framed protocols.
/// Where rows must be told apart by a reader, use [`Delimited`](super::Delimited).
#[derive(Clone, Debug)]
pub struct RawBytes {
    extension: String,
}

impl RawBytes {
    /// The format, with the extension `.bin`.
    pub fn new() -> Self {
        Self { extension: ".bin".to_owned() }
    }

    /// Another extension, with its dot.
    #[must_use]
    pub fn with_extension(mut self, extension: impl Into<String>) -> Self {
        self.extension = extension.into();
        self
    }
}

impl Default for RawBytes {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: BytesRow> Format<T> for RawBytes {
    fn encode(&self, envelope: &Envelope<'_, T>, _out: &mut Vec<u8>) -> Result<Row, Poison> {
        Ok(Row::Shared(envelope.value.row_bytes().clone()))
    }

    fn terminator(&self) -> &[u8] {
        b""
    }

    fn extension(&self) -> &str {
        &self.extension
    }

    fn content_type(&self) -> &'static str {
        "application/octet-stream"
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("format", "raw-bytes/1");
        parts.put("format", &self.extension);
    }
}
