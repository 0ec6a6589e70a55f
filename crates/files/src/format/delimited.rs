//! Values with a delimiter after each.

use aqueduct_core::{BytesRow, Envelope, Fingerprint, Poison, PoisonReason};
use bytes::Bytes;
use memchr::memmem::Finder;

use super::{Encoded, Encoder, FileKind, Format, RowEncoder};

/// Values with a delimiter after each: `.bin`, as Confluent's `ByteArrayFormat` writes them.
///
/// A value that contains the delimiter could not be told apart from two rows, and neither could one whose end and the
/// delimiter after it make an earlier one, such as `a|` before `||`. So they are poisons, unless
/// [`allow_embedded`](Self::allow_embedded) says that nobody will split the file again.
#[derive(Clone, Debug)]
pub struct Delimited {
    delimiter: Bytes,
    splits: Splits,
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
        Self { splits: Splits::new(&delimiter), delimiter, extension: ".bin".to_owned(), embedded: false }
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

/// Where a reader splits rows that have a delimiter after each.
#[derive(Clone, Debug)]
pub(crate) struct Splits {
    finder: Finder<'static>,
    /// By how many bytes the delimiter can be moved so that it goes on as before: a row that ends with so many of it, and the
    /// delimiter then, hold one that begins in the row.
    periods: Box<[usize]>,
}

impl Splits {
    pub(crate) fn new(delimiter: &[u8]) -> Self {
        let overlaps = |by: &usize| delimiter.get(*by..).is_some_and(|rest| delimiter.starts_with(rest));
        let periods = (1..delimiter.len()).filter(overlaps).collect();
        Self { finder: Finder::new(delimiter).into_owned(), periods }
    }

    /// Where in the row a delimiter begins, of the row with the delimiter after it. Nowhere if the delimiter is empty.
    pub(crate) fn find(&self, row: &[u8]) -> Option<usize> {
        let delimiter = self.finder.needle();
        if delimiter.is_empty() {
            return None;
        }
        self.finder.find(row).or_else(|| {
            let begun = |by: &&usize| delimiter.get(..**by).is_some_and(|begun| row.ends_with(begun));
            // The longest one begins first.
            self.periods.iter().rev().find(begun).map(|by| row.len() - by)
        })
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
            && let Some(at) = self.splits.find(row)
        {
            return Err(Poison::new(
                PoisonReason::Malformed,
                format!(
                    "the value holds the delimiter {:?} at byte {at}, or begins it there; choose another delimiter or allow embedded ones",
                    self.delimiter
                ),
            ));
        }
        Ok(Encoded::shared(row.clone()))
    }
}
