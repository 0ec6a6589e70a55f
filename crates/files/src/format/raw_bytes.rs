//! Values one after the other.

use aqueduct_core::{BytesRow, Envelope, Fingerprint, Poison};

use super::{Encoded, Encoder, FileKind, Format, RowEncoder};

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

impl FileKind for RawBytes {
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

impl<T: BytesRow> Format<T> for RawBytes {
    fn encoder(&self) -> Encoder<T> {
        Encoder::joined(Verbatim, "")
    }
}

/// The bytes of values, not copied.
struct Verbatim;

impl<T: BytesRow> RowEncoder<T> for Verbatim {
    fn encode(&mut self, envelope: &Envelope<'_, T>, _out: &mut Vec<u8>) -> Result<Encoded, Poison> {
        Ok(Encoded::shared(envelope.value.row_bytes().clone()))
    }
}
