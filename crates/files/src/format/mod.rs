//! From a value to the bytes of its row, and from rows to files.

#[cfg(feature = "avro")]
pub(crate) mod avro;
#[cfg(feature = "csv")]
pub(crate) mod csv;
mod delimited;
mod file;
mod json_array;
mod json_lines;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
mod raw_bytes;

use std::sync::Arc;

use aqueduct_core::{Envelope, Fingerprint, Poison};
use bytes::Bytes;

pub use delimited::Delimited;
pub(crate) use delimited::Splits;
pub use file::{BuildError, FileBuilder, FileEncoder, FileOutline, Rows};
pub(crate) use file::{FRAME, ROW_MAX, frame, whole_rows};
pub use json_array::JsonArray;
pub use json_lines::JsonLines;
pub use raw_bytes::RawBytes;

/// What files of a format look like, whatever values are in them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a format",
    note = "choose a format, like `JsonLines::new()`, before the sink is built"
)]
pub trait FileKind: Send + Sync + 'static {
    /// The end of a key, with its dot: `.json`. Compression adds its own.
    fn extension(&self) -> &str;

    /// The media type of an object that is not compressed.
    fn content_type(&self) -> &str;

    /// Adds what decides the bytes of rows and files to the part `format` of the layout's identity.
    fn fingerprint(&self, parts: &mut Fingerprint);

    /// Whether the format compresses inside of its files, as Parquet and Avro do. A
    /// [`Compression`](crate::Compression) around it is a mistake then.
    fn is_compressed(&self) -> bool {
        false
    }
}

/// Stores values of type `T` as rows of files.
///
/// # Contract
/// - **One encoder per segment.** What it learns from records, such as schemas, is gone with its segment: a replay begins
///   with a new one.
/// - **Pure.** The same records from the start of a segment give the same rows and shapes, because a replay compares row
///   checksums.
/// - **Joined or built.** The files of an [`Encoder::Joined`] are its rows in offset order, each followed by a terminator:
///   what is spooled is what is stored, and files of a route may be concatenated. Where a file is more than that (a header,
///   a footer, columns) an [`Encoder::Built`] gives a [`FileBuilder`] at the cut.
///
/// ```
/// use aqueduct_core::{Envelope, Fingerprint, Poison};
/// use aqueduct_files::{Encoded, Encoder, FileKind, Format, RowEncoder};
///
/// /// One decimal number a line.
/// #[derive(Clone, Copy)]
/// struct Numbers;
///
/// impl FileKind for Numbers {
///     fn extension(&self) -> &str {
///         ".txt"
///     }
///     fn content_type(&self) -> &str {
///         "text/plain"
///     }
///     fn fingerprint(&self, parts: &mut Fingerprint) {
///         parts.put("format", "numbers/1");
///     }
/// }
///
/// impl Format<u64> for Numbers {
///     fn encoder(&self) -> Encoder<u64> {
///         Encoder::joined(Numbers, "\n")
///     }
/// }
///
/// impl RowEncoder<u64> for Numbers {
///     fn encode(&mut self, envelope: &Envelope<'_, u64>, out: &mut Vec<u8>) -> Result<Encoded, Poison> {
///         out.extend_from_slice(envelope.value.to_string().as_bytes());
///         Ok(Encoded::written())
///     }
/// }
/// ```
///
/// A format whose files are built is shown at [`FileBuilder`].
#[diagnostic::on_unimplemented(
    message = "the format `{Self}` does not encode values of type `{T}`",
    note = "`JsonLines` needs `JsonRow`, `RawBytes` and `Delimited` need `BytesRow`: choose a converter that gives those, or `map` its output"
)]
pub trait Format<T>: FileKind {
    /// The encoder of one segment.
    fn encoder(&self) -> Encoder<T>;
}

macro_rules! forward_format {
    ($($pointer:ident)*) => { $(
        impl<F: FileKind + ?Sized> FileKind for $pointer<F> {
            fn extension(&self) -> &str {
                (**self).extension()
            }

            fn content_type(&self) -> &str {
                (**self).content_type()
            }

            fn fingerprint(&self, parts: &mut Fingerprint) {
                (**self).fingerprint(parts);
            }

            fn is_compressed(&self) -> bool {
                (**self).is_compressed()
            }
        }

        impl<T, F: Format<T> + ?Sized> Format<T> for $pointer<F> {
            fn encoder(&self) -> Encoder<T> {
                (**self).encoder()
            }
        }
    )* };
}
forward_format!(Arc Box);

/// The encoder of one segment, and what becomes of its rows.
pub enum Encoder<T> {
    /// A file is its rows, each followed by the terminator.
    Joined {
        /// Makes the rows.
        rows: Box<dyn RowEncoder<T>>,
        /// What follows each row; may be empty.
        terminator: Bytes,
    },
    /// A file is built of its rows at the cut.
    Built(Box<dyn BuiltRows<T>>),
}

impl<T> Encoder<T> {
    /// A file is its rows, each followed by `terminator`.
    pub fn joined(rows: impl RowEncoder<T> + 'static, terminator: impl Into<Bytes>) -> Self {
        Self::Joined { rows: Box::new(rows), terminator: terminator.into() }
    }

    /// A file is built of its rows at the cut.
    pub fn built(rows: impl BuiltRows<T> + 'static) -> Self {
        Self::Built(Box::new(rows))
    }

    pub(crate) fn rows(&mut self) -> &mut dyn RowEncoder<T> {
        match self {
            Self::Joined { rows, .. } => &mut **rows,
            Self::Built(rows) => &mut **rows,
        }
    }
}

impl<T> std::fmt::Debug for Encoder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Joined { terminator, .. } => {
                f.debug_struct("Joined").field("terminator", terminator).finish_non_exhaustive()
            }
            Self::Built(_) => f.debug_struct("Built").finish_non_exhaustive(),
        }
    }
}

/// Encodes the records of one segment, in offset order, as rows.
///
/// What the records of rows can be refused for otherwise, their routes, keys and headers, is checked before. Only a row of more
/// than a gibibyte is refused after it was encoded.
pub trait RowEncoder<T>: Send {
    /// Encodes one row without its terminator: either hands out bytes that exist already, or appends to `out`, which
    /// holds other rows before.
    ///
    /// # Errors
    /// A record that cannot be a row is a [`Poison`], and leaves no trace in the encoder. What it left in `out` is removed by
    /// the caller.
    fn encode(&mut self, envelope: &Envelope<'_, T>, out: &mut Vec<u8>) -> Result<Encoded, Poison>;
}

/// Encodes the records of one segment as rows that files are built of.
pub trait BuiltRows<T>: RowEncoder<T> {
    /// At the cut, after the last row: what builds files of the segment's rows. Called once.
    fn finish(&mut self) -> Arc<dyn FileBuilder>;
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Where its row is.
    pub row: Row,
    /// The number of the row's shape in this segment: what a file has to have in common, mostly its schema. Rows of a route
    /// that have different shapes go to different objects. A format without shapes says 0.
    ///
    /// Each shape of a route costs an object, so an encoder keeps their number small: it numbers them from 0, and a record whose
    /// shape is [`SHAPES_MAX`](Self::SHAPES_MAX) or more is a poison.
    pub shape: u32,
}

impl Encoded {
    /// Shapes of a segment, at most.
    pub const SHAPES_MAX: u32 = 1_024;

    /// The row is at the end of `out`; its shape is 0.
    pub fn written() -> Self {
        Row::Written.into()
    }

    /// The row is `bytes`; its shape is 0.
    pub fn shared(bytes: Bytes) -> Self {
        Row::Shared(bytes).into()
    }

    /// The same row with another shape.
    #[must_use]
    pub fn with_shape(mut self, shape: u32) -> Self {
        self.shape = shape;
        self
    }
}

impl From<Row> for Encoded {
    fn from(row: Row) -> Self {
        Self { row, shape: 0 }
    }
}

/// Where [`RowEncoder::encode`] left a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// In bytes that existed already, mostly a slice of the batch: nothing was copied.
    Shared(Bytes),
    /// At the end of `out`.
    Written,
}

#[cfg(test)]
mod tests;
