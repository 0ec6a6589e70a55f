//! Reads Avro's binary encoding.

/// A place in a datum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'d> {
    rest: &'d [u8],
}

impl<'d> Cursor<'d> {
    pub(super) fn new(bytes: &'d [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that are left.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `length` bytes.
    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Option<&'d [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(taken)
    }

    /// A zig-zag varint of up to 64 bits.
    #[inline]
    pub(super) fn long(&mut self) -> Option<i64> {
        let (&first, rest) = self.rest.split_first()?;
        if first < 0x80 {
            self.rest = rest;
            return Some(unzigzag(u64::from(first)));
        }
        self.long_of_several(u64::from(first & 0x7f), rest)
    }

    fn long_of_several(&mut self, first: u64, rest: &'d [u8]) -> Option<i64> {
        let mut number = first;
        for (index, &byte) in rest.iter().take(9).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * (index + 1));
            if byte < 0x80 {
                // The tenth byte has room for one bit.
                if index == 8 && byte > 1 {
                    return None;
                }
                self.rest = rest.get(index + 1..)?;
                return Some(unzigzag(number));
            }
        }
        None
    }

    /// Bytes behind their length.
    #[inline]
    pub(super) fn bytes(&mut self) -> Option<&'d [u8]> {
        let length = usize::try_from(self.long()?).ok()?;
        self.take(length)
    }

    /// The number of items of the next block of a list or map; 0 behind the last.
    #[inline]
    pub(super) fn block(&mut self) -> Option<u64> {
        let count = self.long()?;
        if count < 0 {
            // Then the block's bytes are counted, too. Items are gone through all the same, so nothing depends on it.
            self.long()?;
            return (count != i64::MIN).then_some(count.unsigned_abs());
        }
        Some(count.unsigned_abs())
    }
}

#[inline]
fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_up_to_ten_bytes() {
        let long = |bytes: &[u8]| {
            let mut cursor = Cursor::new(bytes);
            cursor.long().map(|number| (number, cursor.left()))
        };
        assert_eq!(long(&[0]), Some((0, 0)));
        assert_eq!(long(&[1, 9]), Some((-1, 1)));
        assert_eq!(long(&[0x80, 0x01, 9]), Some((64, 1)));
        let last = [&[0xff; 9][..], &[1]].concat();
        assert_eq!(long(&last), Some((i64::MIN, 0)));
        assert_eq!(long(&[&[0xfe][..], &[0xff; 8], &[1]].concat()), Some((i64::MAX, 0)));
        for wrong in [&[][..], &[0x80], &[0xff; 9], &[0xff; 11], &[&[0xff; 9][..], &[2]].concat()] {
            assert_eq!(long(wrong), None, "{wrong:x?}");
        }
    }

    #[test]
    fn blocks_may_say_their_size() {
        let block = |bytes: &[u8]| Cursor::new(bytes).block();
        assert_eq!(block(&[6]), Some(3));
        assert_eq!(block(&[5, 0]), Some(3));
        assert_eq!(block(&[5]), None);
        assert_eq!(block(&[&[0xff; 9][..], &[1, 0]].concat()), None);
    }
}
