//! CRC-32C: of rows from `append` to read-back, and of requests.
//!
//! One polynomial serves both. For an object that is not compressed the checksum of a part, computed once when it is
//! read back, is the request's checksum, and the checksums of the parts combine to that of the rows.

use crc_fast::{CrcAlgorithm, Digest};

const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;
const XOR_OUT: u32 = u32::MAX;

/// A checksum that grows with its bytes; four bytes of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crc(u32);

impl Crc {
    pub(crate) const EMPTY: Self = Self(0);

    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(crc_fast::crc32_iscsi(bytes))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        let mut digest = Digest::new_with_init_state(ALGORITHM, u64::from(self.0 ^ XOR_OUT));
        digest.update(bytes);
        self.0 = low(digest.finalize());
    }

    /// The checksum of this one's bytes followed by `length` bytes with checksum `next`.
    pub(crate) fn followed_by(self, next: Self, length: u64) -> Self {
        Self(low(crc_fast::checksum_combine(ALGORITHM, u64::from(self.0), u64::from(next.0), length)))
    }

    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_combinations_agree_with_the_whole() {
        assert_eq!(Crc::of(b"123456789").get(), 0xe306_9283, "the catalogue's check value");
        let bytes: Vec<u8> = (0..5000_u32).map(|i| (i * 7 % 251) as u8).collect();
        for cut in [0, 1, 15, 256, 4999, 5000] {
            let (left, right) = bytes.split_at(cut);
            let mut grown = Crc::EMPTY;
            grown.update(left);
            grown.update(right);
            assert_eq!(grown, Crc::of(&bytes));
            assert_eq!(Crc::of(left).followed_by(Crc::of(right), right.len() as u64), Crc::of(&bytes));
        }
    }
}
