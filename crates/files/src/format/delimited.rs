//! Values with a delimiter after each.

use aqueduct_core::{BytesRow, Envelope, Fingerprint, Poison, PoisonReason};
use bytes::Bytes;
use memchr::memmem::Finder;

use super::{Encoded, Encoder, FileKind, Format, RowEncoder};

/// Values with a delimiter after each: `.bin`, as Confluent's `ByteArrayFormat` writes them.
///
/// A value that contains the delimiter could not be told apart from two rows, so it is a poison, unless
/// [`allow_embedded`](Self::allow_embedded) says that nobody will split the file again.
#[derive(Clone, Debug)]
pub struct Delimited {
    delimiter: Bytes,
    finder: Finder<'static>,
    extension: String,
    embedded: bool,
}

impl Delimited {
    /// A line feed after each value.
    pub fn lines() -> Self {
        Self::by("\n")
    }

    /// `delimiter` after each value.
    pub fn by(delimiter: impl Into<Bytes>) -> Self {
        let delimiter = delimiter.into();
        Self {
            finder: Finder::new(&delimiter).into_owned(),
            delimiter,
            extension: ".bin".to_owned(),
            embedded: false,
        }
    }

    /// Another extension, with its dot.
    #[must_use]
    pub fn with_extension(mut self, extension: impl Into<String>) -> Self {
        self.extension = extension.into();
        self
    }

    /// Stores values that contain the delimiter, as Confluent's format does.
    #[must_use]
    pub fn allow_embedded(mut self) -> Self {
        self.embedded = true;
        self
    }
}

impl FileKind for Delimited {
    fn extension(&self) -> &str {
        &self.extension
    }

    fn content_type(&self) -> &'static str {
        "application/octet-stream"
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("format", "delimited/1");
        parts.put("format", format_args!("{:?}", self.delimiter));
        parts.put("format", &self.extension);
        parts.put("format", self.embedded);
    }
}

impl<T: BytesRow> Format<T> for Delimited {
    fn encoder(&self) -> Encoder<T> {
        Encoder::joined(self.clone(), self.delimiter.clone())
    }
}

impl<T: BytesRow> RowEncoder<T> for Delimited {
    fn encode(&mut self, envelope: &Envelope<'_, T>, _out: &mut Vec<u8>) -> Result<Encoded, Poison> {
        let row = envelope.value.row_bytes();
        if !self.embedded
            && !self.delimiter.is_empty()
            && let Some(at) = self.finder.find(row)
        {
            return Err(Poison::new(
                PoisonReason::Malformed,
                format!(
                    "the value holds the delimiter {:?} at byte {at}; choose another delimiter or allow embedded ones",
                    self.delimiter
                ),
            ));
        }
        Ok(Encoded::shared(row.clone()))
    }
}
