//! The protobuf wire format, as much of it as rows need.

use prost_types::field_descriptor_proto::Type;

use crate::schema::FieldType;

/// A field's number and wire type, as they stand before its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    bytes: [u8; 5],
    length: u8,
}

/// How a value is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Delimited = 2,
}

impl WireType {
    /// How values of a column are laid out.
    pub(crate) fn of(kind: &FieldType) -> Self {
        match kind.wire_type() {
            Type::Int64 | Type::Int32 | Type::Bool => Self::Varint,
            Type::Double => Self::Fixed64,
            _ => Self::Delimited,
        }
    }
}

impl Tag {
    pub(crate) fn new(number: u32, wire: WireType) -> Self {
        let mut encoded = Vec::with_capacity(5);
        put_varint(&mut encoded, u64::from(number) << 3 | wire as u64);
        let mut bytes = [0; 5];
        for (to, from) in bytes.iter_mut().zip(&encoded) {
            *to = *from;
        }
        Self { bytes, length: u8::try_from(encoded.len().min(5)).unwrap_or(5) }
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        match self.length {
            // Nearly all of them.
            1 => out.push(self.bytes[0]),
            length => out.extend_from_slice(self.bytes.get(..usize::from(length)).unwrap_or_default()),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "masked to seven bits")]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Negative numbers take ten bytes, as protobuf's `int32` and `int64` have it.
pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    put_varint(out, value.cast_unsigned());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Leaves room for the length of what comes next; answers where.
pub(crate) fn begin_delimited(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len()
}

/// Writes the length of what came since `start`, moving it if the length takes more than a byte.
pub(crate) fn end_delimited(out: &mut Vec<u8>, start: usize) {
    let end = out.len();
    let mut length = end.saturating_sub(start) as u64;
    let mut prefix = [0; VARINT_MAX];
    let mut used = 0;
    for place in &mut prefix {
        used += 1;
        *place = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            break;
        }
        *place |= 0x80;
    }
    // There is room for one byte.
    if used > 1 {
        out.resize(end + used - 1, 0);
        out.copy_within(start..end, start + used - 1);
    }
    let room = out.iter_mut().skip(start.wrapping_sub(1)).take(used);
    room.zip(prefix).for_each(|(to, from)| *to = from);
}

/// A varint of 64 bits takes so many bytes at most.
const VARINT_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_are_protobufs(value: u64, number in 1..(1_u32 << 29)) {
            let mut ours = Vec::new();
            put_varint(&mut ours, value);
            let mut theirs = Vec::new();
            prost::encoding::encode_varint(value, &mut theirs);
            prop_assert_eq!(&ours, &theirs);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            Tag::new(number, WireType::Delimited).put(&mut ours);
            prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut theirs);
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn a_length_is_written_in_front(before in 0..3_usize, length in prop::sample::select(vec![0, 1, 127, 128, 16_383, 16_384])) {
            let mut out = vec![7; before];
            let start = begin_delimited(&mut out);
            out.extend(std::iter::repeat_n(9, length));
            end_delimited(&mut out, start);
            let mut expected = vec![7; before];
            put_bytes(&mut expected, &vec![9; length]);
            prop_assert_eq!(out, expected);
        }
    }
}
