//! Confluent's wire format: how a record says which schema its bytes were written with.
//!
//! ```text
//! in front of the payload:   00 <id, 4 bytes, big-endian>  [message indexes]  payload
//! in a header:               __value_schema_id = 01 <guid, 16 bytes>  [message indexes]      value = payload
//! ```
//!
//! The header is called `__key_schema_id` for keys, and may also hold the first form. The message indexes are there for Protobuf
//! only: which message of the file it is, as the number of indexes and then each index, zig-zag varints all; the first message of
//! the file, `[0]`, is shortened to a single byte 0.

use aqueduct_core::{Poison, PoisonReason};

use super::schema::{SchemaGuid, SchemaId};

/// The header that holds the schema's id of a record's key.
pub const KEY_HEADER: &str = "__key_schema_id";
/// The header that holds the schema's id of a record's value.
pub const VALUE_HEADER: &str = "__value_schema_id";
/// How deep a message may be nested in others.
pub const MESSAGE_INDEXES_MAX: usize = 32;

/// Bytes that do not name a schema as they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// No room for an id.
    #[error("{len} bytes are too few for a schema's id")]
    TooShort {
        /// How many there are.
        len: usize,
    },
    /// Another first byte than the format's.
    #[error(
        "starts with byte {found:#04x}, not with a schema's id (0x00); was it written without a schema registry?"
    )]
    NoSchemaId {
        /// The byte.
        found: u8,
    },
    /// A header that is none of the two forms.
    #[error("the header {header} does not hold a schema's id")]
    Header {
        /// Its name.
        header: &'static str,
    },
    /// What should say which message it is, does not.
    #[error("the indexes of the protobuf message are damaged")]
    MessageIndexes,
    /// A message nested deeper than [`MESSAGE_INDEXES_MAX`].
    #[error("the protobuf message has {count} indexes, the limit is {MESSAGE_INDEXES_MAX}")]
    TooDeep {
        /// How many indexes are announced.
        count: u32,
    },
}

impl From<WireError> for Poison {
    fn from(error: WireError) -> Self {
        Self::new(PoisonReason::Malformed, error.to_string())
    }
}

/// A key or a value, and the schema it was written with. A view: nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    id: SchemaId,
    /// Behind the id, where that is in front of the payload; else everything.
    rest: &'a [u8],
    /// Behind the id, where that is in a header.
    header: Option<&'a [u8]>,
}

impl<'a> Framed<'a> {
    /// Reads an id in front of a payload.
    ///
    /// ```
    /// use aqueduct_converters::registry::wire::{Framed, WireError};
    ///
    /// let framed = Framed::from_prefix(b"\0\0\0\x01\0payload")?;
    /// assert_eq!((framed.id(), framed.payload()), (256.into(), &b"payload"[..]));
    /// assert_eq!(Framed::from_prefix(b"{}   "), Err(WireError::NoSchemaId { found: b'{' }));
    /// # Ok::<(), WireError>(())
    /// ```
    pub fn from_prefix(bytes: &'a [u8]) -> Result<Self, WireError> {
        match bytes.split_first_chunk::<5>() {
            Some(([MAGIC_NUMBER, id @ ..], rest)) => {
                let id: [u8; 4] = *id;
                Ok(Self { id: u32::from_be_bytes(id).into(), rest, header: None })
            }
            _ => match bytes.first() {
                Some(&found) if found != MAGIC_NUMBER => Err(WireError::NoSchemaId { found }),
                _ => Err(WireError::TooShort { len: bytes.len() }),
            },
        }
    }

    /// Reads an id from the header called `name`; `bytes` is all payload.
    pub fn from_header(name: &'static str, header: &'a [u8], bytes: &'a [u8]) -> Result<Self, WireError> {
        if let Some(([MAGIC_GUID, guid @ ..], behind)) = header.split_first_chunk::<17>() {
            let guid: [u8; 16] = *guid;
            return Ok(Self { id: SchemaGuid::from_bytes(guid).into(), rest: bytes, header: Some(behind) });
        }
        match Self::from_prefix(header) {
            Ok(Self { id, rest, .. }) => Ok(Self { id, rest: bytes, header: Some(rest) }),
            Err(_) => Err(WireError::Header { header: name }),
        }
    }

    /// The schema.
    pub fn id(&self) -> SchemaId {
        self.id
    }

    /// What was written with the schema, for formats without message indexes: Avro and JSON.
    pub fn payload(&self) -> &'a [u8] {
        self.rest
    }

    /// Which message of the schema's file it is, and what was written with it: Protobuf.
    pub fn message(&self) -> Result<(MessageIndexes<'a>, &'a [u8]), WireError> {
        match self.header {
            Some(behind) => Ok((MessageIndexes::read(behind)?.0, self.rest)),
            None => MessageIndexes::read(self.rest),
        }
    }
}

/// The way to a message: its index in the file, then in the message around it, and so on. Checked, not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageIndexes<'a> {
    count: usize,
    /// The indexes as they came; empty for the short form of `[0]`.
    encoded: &'a [u8],
}

impl<'a> MessageIndexes<'a> {
    /// Reads them, and gives what is behind them.
    ///
    /// ```
    /// use aqueduct_converters::registry::wire::MessageIndexes;
    ///
    /// // Two indexes: the second message in the first one.
    /// let (indexes, payload) = MessageIndexes::read(b"\x04\x00\x02rest")?;
    /// assert_eq!(indexes.iter().collect::<Vec<_>>(), [0, 1]);
    /// assert_eq!(payload, b"rest");
    /// # Ok::<(), aqueduct_converters::registry::wire::WireError>(())
    /// ```
    pub fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), WireError> {
        let (count, indexes) = take_index(bytes)?;
        let len = usize::try_from(count).unwrap_or(usize::MAX);
        if len > MESSAGE_INDEXES_MAX {
            return Err(WireError::TooDeep { count });
        }
        let mut rest = indexes;
        for _ in 0..len {
            rest = take_index(rest)?.1;
        }
        let encoded = indexes.get(..indexes.len() - rest.len()).unwrap_or_default();
        Ok((Self { count: len, encoded }, rest))
    }

    /// The indexes; at least one.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let mut rest = self.encoded;
        let first = (self.count == 0).then_some(0);
        first.into_iter().chain((0..self.count).map_while(move |_| {
            let (index, behind) = take_index(rest).ok()?;
            rest = behind;
            Some(index)
        }))
    }
}

/// Appends what stands in front of a payload, for who writes records.
///
/// ```
/// use aqueduct_converters::registry::wire::{Framed, write_message_indexes, write_prefix};
///
/// let mut value = Vec::new();
/// write_prefix(9, &mut value);
/// write_message_indexes(&[2, 0], &mut value);
/// value.extend_from_slice(b"payload");
/// let framed = Framed::from_prefix(&value)?;
/// let (indexes, payload) = framed.message()?;
/// assert_eq!((indexes.iter().collect(), payload), (vec![2, 0], &b"payload"[..]));
/// # Ok::<(), aqueduct_converters::registry::wire::WireError>(())
/// ```
pub fn write_prefix(id: u32, out: &mut Vec<u8>) {
    out.push(MAGIC_NUMBER);
    out.extend_from_slice(&id.to_be_bytes());
}

/// Appends what stands in a header before the message indexes.
pub fn write_guid(guid: SchemaGuid, out: &mut Vec<u8>) {
    out.push(MAGIC_GUID);
    out.extend_from_slice(guid.as_bytes());
}

/// Appends message indexes, shortened where they can be. More than [`MESSAGE_INDEXES_MAX`] are not read again.
pub fn write_message_indexes(indexes: &[u32], out: &mut Vec<u8>) {
    if let [0] = indexes {
        out.push(0);
        return;
    }
    put_index(u32::try_from(indexes.len()).unwrap_or(u32::MAX), out);
    for &index in indexes {
        put_index(index, out);
    }
}

fn put_index(index: u32, out: &mut Vec<u8>) {
    // Zig-zag of what is not negative.
    let mut rest = u64::from(index) << 1;
    loop {
        let [low, ..] = (rest & 0x7f).to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// A zig-zag varint of 32 bits that is not negative.
fn take_index(bytes: &[u8]) -> Result<(u32, &[u8]), WireError> {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().enumerate().take(VARINT_MAX) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| WireError::MessageIndexes)?;
            if value & 1 == 1 {
                return Err(WireError::MessageIndexes);
            }
            return Ok((value >> 1, bytes.get(at + 1..).unwrap_or_default()));
        }
    }
    Err(WireError::MessageIndexes)
}

const MAGIC_NUMBER: u8 = 0;
const MAGIC_GUID: u8 = 1;
/// Bytes of a varint of 32 bits.
const VARINT_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u32>, WireError> {
        Ok(MessageIndexes::read(bytes)?.0.iter().collect())
    }

    #[test]
    fn an_id_needs_five_bytes_and_the_first_is_zero() {
        assert_eq!(Framed::from_prefix(b"\0\xff\xff\xff\xff").unwrap().id(), u32::MAX.into());
        assert_eq!(Framed::from_prefix(b"\0\0\0\0"), Err(WireError::TooShort { len: 4 }));
        assert_eq!(Framed::from_prefix(b""), Err(WireError::TooShort { len: 0 }));
        assert_eq!(Framed::from_prefix(b"\x01\0\0\0\x07x"), Err(WireError::NoSchemaId { found: 1 }));
        assert_eq!(Framed::from_prefix(b"{"), Err(WireError::NoSchemaId { found: b'{' }));
    }

    #[test]
    fn a_header_holds_a_guid_or_a_number() {
        let guid = SchemaGuid::from_bytes(*b"0123456789abcdef");
        let mut header = Vec::new();
        write_guid(guid, &mut header);
        let framed = Framed::from_header(VALUE_HEADER, &header, b"\0\0\0\0\x01x").unwrap();
        assert_eq!((framed.id(), framed.payload()), (guid.into(), &b"\0\0\0\0\x01x"[..]));
        assert_eq!(framed.message(), Err(WireError::MessageIndexes), "a header of avro has no indexes");
        write_message_indexes(&[3], &mut header);
        let framed = Framed::from_header(VALUE_HEADER, &header, b"x").unwrap();
        let (indexes, payload) = framed.message().unwrap();
        assert_eq!((indexes.iter().collect(), payload), (vec![3], &b"x"[..]));

        let framed = Framed::from_header(KEY_HEADER, b"\0\0\0\0\x07\0", b"x").unwrap();
        assert_eq!((framed.id(), framed.payload()), (7.into(), &b"x"[..]));
        assert_eq!(framed.message().unwrap().0.iter().collect::<Vec<_>>(), [0]);
        for wrong in [&b""[..], b"\0\0\0\0", b"\x01", b"\x010123456789abcde", b"\x020123456789abcdef"] {
            let refused = Framed::from_header(KEY_HEADER, wrong, b"x");
            assert_eq!(refused, Err(WireError::Header { header: KEY_HEADER }), "{wrong:?}");
        }
    }

    #[test]
    fn the_first_message_has_a_short_form_and_a_long_one() {
        assert_eq!(read(&[0]), Ok(vec![0]));
        assert_eq!(read(&[2, 0]), Ok(vec![0]));
        let mut short = Vec::new();
        write_message_indexes(&[0], &mut short);
        assert_eq!(short, [0]);
    }

    #[test]
    fn indexes_have_limits() {
        let mut at_the_limit = Vec::new();
        write_message_indexes(&[1; MESSAGE_INDEXES_MAX], &mut at_the_limit);
        assert_eq!(read(&at_the_limit).unwrap().len(), MESSAGE_INDEXES_MAX);
        let mut past_it = Vec::new();
        write_message_indexes(&[1; MESSAGE_INDEXES_MAX + 1], &mut past_it);
        assert_eq!(read(&past_it), Err(WireError::TooDeep { count: 33 }));
        // A count that would allocate gigabytes, a negative one, a varint without an end, one of 33 bits.
        assert_eq!(read(b"\xfe\xff\xff\xff\x0f"), Err(WireError::TooDeep { count: i32::MAX.unsigned_abs() }));
        for damaged in
            [&b"\x01"[..], b"\xff\xff\xff\xff\xff\x01", b"\x80\x80\x80\x80\x10", b"", b"\x04\x00", b"\x80"]
        {
            assert_eq!(read(damaged), Err(WireError::MessageIndexes), "{damaged:?}");
        }
    }

    #[test]
    fn errors_become_poison_without_the_payload() {
        let poison = Poison::from(Framed::from_prefix(b"hunter2").unwrap_err());
        assert_eq!(poison.reason(), PoisonReason::Malformed);
        assert!(!poison.detail().contains("hunter2"), "{poison}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(id: u32, indexes in vec(0..=i32::MAX.unsigned_abs(), 1..8), payload: Vec<u8>) {
            let mut value = Vec::new();
            write_prefix(id, &mut value);
            write_message_indexes(&indexes, &mut value);
            value.extend_from_slice(&payload);
            let framed = Framed::from_prefix(&value).unwrap();
            let (read, rest) = framed.message().unwrap();
            prop_assert_eq!((framed.id(), rest), (id.into(), &payload[..]));
            prop_assert_eq!(read.iter().collect::<Vec<_>>(), indexes);
        }

        #[test]
        fn any_bytes_are_framed_or_refused(bytes: Vec<u8>, header: Vec<u8>) {
            for framed in [Framed::from_prefix(&bytes), Framed::from_header(KEY_HEADER, &header, &bytes)].into_iter().flatten() {
                if let Ok((indexes, payload)) = framed.message() {
                    prop_assert!(payload.len() <= framed.payload().len());
                    prop_assert!((1..=MESSAGE_INDEXES_MAX).contains(&indexes.iter().count()));
                }
            }
        }
    }
}
