//! From a value to the bytes of its row.

mod delimited;
mod json_lines;
mod raw_bytes;

use std::sync::Arc;

use aqueduct_core::{Envelope, Fingerprint, Poison};
use bytes::Bytes;

pub use delimited::Delimited;
pub use json_lines::JsonLines;
pub use raw_bytes::RawBytes;

/// Encodes records as rows of a file.
///
/// # Contract
/// - [`encode`](Self::encode) is pure: the same record gives the same bytes, because a replay compares row checksums.
/// - An object is its rows in offset order, each followed by [`terminator`](Self::terminator); there is no header and
///   no footer. Objects of a route may be concatenated.
///
/// # Errors
/// A record that cannot be a row is a [`Poison`]; its neighbours are not touched.
///
/// ```
/// use aqueduct_core::{Envelope, Fingerprint, Poison};
/// use aqueduct_files::{Format, Row};
///
/// /// One decimal number a line.
/// struct Numbers;
///
/// impl Format<u64> for Numbers {
///     fn encode(&self, envelope: &Envelope<'_, u64>, out: &mut Vec<u8>) -> Result<Row, Poison> {
///         out.extend_from_slice(envelope.value.to_string().as_bytes());
///         Ok(Row::Written)
///     }
///     fn terminator(&self) -> &[u8] {
///         b"\n"
///     }
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
/// ```
#[diagnostic::on_unimplemented(
    message = "the format `{Self}` does not encode values of type `{T}`",
    note = "`JsonLines` needs `JsonRow`, `RawBytes` and `Delimited` need `BytesRow`: choose a converter that gives those, or `map` its output"
)]
pub trait Format<T>: Send + Sync + 'static {
    /// Encodes one row without its terminator: either hands out bytes that exist already, or appends to `out`, which
    /// holds other rows before. What an `Err` left in `out` is removed by the caller.
    fn encode(&self, envelope: &Envelope<'_, T>, out: &mut Vec<u8>) -> Result<Row, Poison>;

    /// What follows each row; may be empty.
    fn terminator(&self) -> &[u8];

    /// The end of a key, with its dot: `.json`. Compression adds its own.
    fn extension(&self) -> &str;

    /// The media type of an object that is not compressed.
    fn content_type(&self) -> &str;

    /// Adds what decides the bytes of a row to the part `format` of the layout's identity.
    fn fingerprint(&self, parts: &mut Fingerprint);
}

macro_rules! forward_format {
    ($($pointer:ident)*) => { $(
        impl<T, F: Format<T> + ?Sized> Format<T> for $pointer<F> {
            fn encode(&self, envelope: &Envelope<'_, T>, out: &mut Vec<u8>) -> Result<Row, Poison> {
                (**self).encode(envelope, out)
            }

            fn terminator(&self) -> &[u8] {
                (**self).terminator()
            }

            fn extension(&self) -> &str {
                (**self).extension()
            }

            fn content_type(&self) -> &str {
                (**self).content_type()
            }

            fn fingerprint(&self, parts: &mut Fingerprint) {
                (**self).fingerprint(parts);
            }
        }
    )* };
}
forward_format!(Arc Box);

/// Where [`Format::encode`] left a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// In bytes that existed already, mostly a slice of the batch: nothing was copied.
    Shared(Bytes),
    /// At the end of `out`.
    Written,
}

#[cfg(test)]
mod tests;
