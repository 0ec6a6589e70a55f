//! How formats get a row's bytes out of a converted value.

use bytes::Bytes;

use crate::error::Poison;
use crate::value::Keyed;

/// Values that can be one line of JSON.
pub trait JsonRow {
    /// Appends the value as JSON without any raw newline, and without one at the end.
    ///
    /// # Errors
    /// A [`Poison`] if the value cannot be JSON; `out` may then hold a part of it, which the caller removes.
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison>;

    /// The same bytes where they already exist, to be stored without another copy.
    fn json_bytes(&self) -> Option<&Bytes> {
        None
    }
}

/// Values that are bytes already.
pub trait BytesRow {
    /// The bytes to store.
    fn row_bytes(&self) -> &Bytes;
}

impl<K, V: JsonRow> JsonRow for Keyed<K, V> {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        self.value.write_json(out)
    }

    fn json_bytes(&self) -> Option<&Bytes> {
        self.value.json_bytes()
    }
}

impl<K, V: BytesRow> BytesRow for Keyed<K, V> {
    fn row_bytes(&self) -> &Bytes {
        self.value.row_bytes()
    }
}

impl BytesRow for Bytes {
    fn row_bytes(&self) -> &Bytes {
        self
    }
}
