//! Files that are built of their rows at the cut.
//!
//! Such rows lie in the spool each with its length in front, four bytes, little endian. Formats never see that: they hand
//! rows out as they are, and get them back as [`Rows`].

use std::fmt;

/// Bytes in front of each row.
pub(crate) const FRAME: usize = 4;

/// The longest row, in bytes; far above what a broker takes.
pub(crate) const ROW_MAX: usize = 1 << 30;

/// Builds the files of one segment, several at the same time.
///
/// # Contract
/// - **Memory is paid before it exists.** [`workspace`](Self::workspace) is asked before [`open`](Self::open); a file is not
///   begun until the pool for publication has that much. A format that holds back rows bounds how many.
/// - **Pure.** The same rows give a file with the same contents, also in another process.
/// - **CPU.** All of it runs off the async threads; it may take its time, and must not block on anything else.
///
/// ```
/// use std::sync::Arc;
///
/// use aqueduct_core::{Envelope, Fingerprint, Poison};
/// use aqueduct_files::{
///     BuildError, BuiltRows, Encoded, Encoder, FileBuilder, FileEncoder, FileKind, FileOutline, Format, RowEncoder, Rows,
/// };
///
/// /// Numbers, eight bytes each, below a line that says how many there are.
/// #[derive(Clone, Copy)]
/// struct Numbers;
///
/// impl FileKind for Numbers {
///     fn extension(&self) -> &str {
///         ".numbers"
///     }
///     fn content_type(&self) -> &str {
///         "application/octet-stream"
///     }
///     fn fingerprint(&self, parts: &mut Fingerprint) {
///         parts.put("format", "numbers/1");
///     }
/// }
///
/// impl Format<u64> for Numbers {
///     fn encoder(&self) -> Encoder<u64> {
///         Encoder::built(Numbers)
///     }
/// }
///
/// impl RowEncoder<u64> for Numbers {
///     fn encode(&mut self, envelope: &Envelope<'_, u64>, out: &mut Vec<u8>) -> Result<Encoded, Poison> {
///         out.extend_from_slice(&envelope.value.to_le_bytes());
///         Ok(Encoded::written())
///     }
/// }
///
/// impl BuiltRows<u64> for Numbers {
///     fn finish(&mut self) -> Arc<dyn FileBuilder> {
///         Arc::new(Numbers)
///     }
/// }
///
/// impl FileBuilder for Numbers {
///     fn open(&self, file: &FileOutline) -> Result<Box<dyn FileEncoder>, BuildError> {
///         Ok(Box::new(Open { rows: file.rows, begun: false }))
///     }
///     fn workspace(&self, _file: &FileOutline) -> usize {
///         64
///     }
/// }
///
/// struct Open {
///     rows: u64,
///     begun: bool,
/// }
///
/// impl FileEncoder for Open {
///     fn write(&mut self, rows: Rows<'_>, out: &mut Vec<u8>) -> Result<(), BuildError> {
///         if !std::mem::replace(&mut self.begun, true) {
///             out.extend_from_slice(format!("{} numbers\n", self.rows).as_bytes());
///         }
///         rows.for_each(|row| out.extend_from_slice(row));
///         Ok(())
///     }
///     fn finish(self: Box<Self>, _out: &mut Vec<u8>) -> Result<(), BuildError> {
///         Ok(())
///     }
/// }
///
/// # #[cfg(feature = "testkit")]
/// # {
/// let file = aqueduct_files::testkit::build_file(&Numbers, 0, &[1_u64.to_le_bytes(), 2_u64.to_le_bytes()]);
/// assert_eq!(file.unwrap(), *b"2 numbers\n\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
/// # }
/// ```
pub trait FileBuilder: Send + Sync {
    /// Begins a file of rows of one shape.
    ///
    /// # Errors
    /// [`BuildError`].
    fn open(&self, file: &FileOutline) -> Result<Box<dyn FileEncoder>, BuildError>;

    /// The most memory the open file takes, in bytes, beside the rows it is given: what it holds back, and what one call
    /// appends to its output beyond the length of the rows of that call. A call is given at most
    /// [`FileOutline::chunk_bytes`].
    fn workspace(&self, file: &FileOutline) -> usize;
}

/// A file that is being built.
pub trait FileEncoder: Send {
    /// Takes the next rows, in offset order, and appends those bytes of the file to `out` that are final.
    ///
    /// # Errors
    /// [`BuildError`]; the file is given up.
    fn write(&mut self, rows: Rows<'_>, out: &mut Vec<u8>) -> Result<(), BuildError>;

    /// After the last row: appends the rest of the file.
    ///
    /// # Errors
    /// [`BuildError`]; the file is given up.
    fn finish(self: Box<Self>, out: &mut Vec<u8>) -> Result<(), BuildError>;
}

/// A file that is to be built, known before it is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileOutline {
    /// The shape of its rows.
    pub shape: u32,
    /// Number of its rows; not 0.
    pub rows: u64,
    /// Bytes of its rows as they lie in the spool, each with four more in front.
    pub row_bytes: u64,
    /// Bytes of the largest of them, with those four.
    pub row_max: usize,
    /// The memory it should make do with, in bytes: a share of the pool for publication. A format that holds back rows holds
    /// back fewer where this is little. It may ask for more.
    pub memory: usize,
}

impl FileOutline {
    /// Rows are given to a file in chunks of about this many bytes.
    const CHUNK: usize = 256 << 10;

    const MEMORY: usize = 8 << 20;

    /// A file of these rows, with 8 MiB of memory.
    pub fn new(shape: u32, rows: u64, row_bytes: u64, row_max: usize) -> Self {
        Self { shape, rows, row_bytes, row_max, memory: Self::MEMORY }
    }

    /// The same file with this much memory.
    #[must_use]
    pub fn with_memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// The most bytes of rows one call of [`FileEncoder::write`] is given, counted like [`row_bytes`](Self::row_bytes).
    pub fn chunk_bytes(&self) -> usize {
        let all = usize::try_from(self.row_bytes).unwrap_or(usize::MAX);
        Self::CHUNK.max(self.row_max).min(all)
    }
}

/// A file cannot be built of rows that its own format has encoded: a defect of the format.
///
/// It stops the lane with the object's name; nothing of the object is visible.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BuildError(Box<dyn std::error::Error + Send + Sync>);

impl BuildError {
    /// What went wrong, without payload.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// Rows as an encoder gave them, in offset order.
#[derive(Clone)]
pub struct Rows<'a>(&'a [u8]);

impl<'a> Rows<'a> {
    /// `framed` holds whole rows; what does not is left out.
    pub(crate) fn new(framed: &'a [u8]) -> Self {
        Self(framed)
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<FRAME>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (row, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(row)
    }
}

impl std::iter::FusedIterator for Rows<'_> {}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}

/// Appends a row of at most [`ROW_MAX`] bytes with its length in front.
pub(crate) fn frame(row: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(row.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(row);
}

/// Bytes of the whole rows at the front of `framed`, as many as fit into `most`; 0 if the first does not.
pub(crate) fn whole_rows(framed: &[u8], most: usize) -> usize {
    let most = framed.len().min(most);
    let mut whole = 0;
    while let Some(length) = framed.get(whole..).and_then(<[u8]>::first_chunk::<FRAME>) {
        let row = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        match whole.checked_add(FRAME).and_then(|start| start.checked_add(row)) {
            Some(end) if end <= most => whole = end,
            _ => break,
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_come_back_whole_in_chunks_of_any_size(
            rows in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20), most in 0..100_usize,
        ) {
            let mut framed = Vec::new();
            for row in &rows {
                frame(row, &mut framed);
            }
            let (mut rest, mut read) = (framed.as_slice(), Vec::new());
            while !rest.is_empty() {
                let fits = whole_rows(rest, most);
                prop_assert!(fits <= most);
                // One that is larger than a chunk goes alone.
                let first = FRAME + rows[read.len()].len();
                prop_assert_eq!(fits == 0, first > most);
                let (chunk, after) = rest.split_at(fits.max(first));
                read.extend(Rows::new(chunk).map(<[u8]>::to_vec));
                rest = after;
            }
            prop_assert_eq!(read, rows);
        }

        #[test]
        fn any_bytes_are_rows_up_to_where_they_are_none(bytes: Vec<u8>, most: usize) {
            let whole = whole_rows(&bytes, most);
            let rows: usize = Rows::new(&bytes[..whole]).map(|row| FRAME + row.len()).sum();
            prop_assert_eq!(rows, whole);
            prop_assert!(whole <= most);
        }
    }

    #[test]
    fn a_chunk_holds_the_largest_row_and_no_more_than_there_is() {
        let chunk = |bytes, row_max| FileOutline::new(0, 1, bytes, row_max).chunk_bytes();
        assert_eq!(chunk(1 << 30, 10), FileOutline::CHUNK);
        assert_eq!(chunk(1 << 30, 1 << 20), 1 << 20);
        assert_eq!(chunk(100, 10), 100);
    }
}
