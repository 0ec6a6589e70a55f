//! Rotation by bytes of rows.

use super::{Cut, CutReason, RotationPolicy, SegmentStats};

/// Ends a segment once its rows have this many bytes, over all its routes.
///
/// Rows count as encoded and before compression, so that a new compressor does not move the cuts. The row that
/// reaches the limit still belongs to the segment: a segment is larger than the limit by less than one row.
///
/// ```
/// use aqueduct_core::MaxBytes;
///
/// assert_eq!(MaxBytes::mib(256), MaxBytes::bytes(256 * 1024 * 1024));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxBytes {
    bytes: u64,
}

impl MaxBytes {
    /// `bytes` bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// `mib` times 1024 × 1024 bytes.
    pub const fn mib(mib: u64) -> Self {
        Self { bytes: mib.saturating_mul(1024 * 1024) }
    }
}

impl RotationPolicy for MaxBytes {
    fn after(&self, open: &SegmentStats) -> Cut {
        Cut::when(open.bytes >= self.bytes, CutReason::Bytes)
    }

    fn problems(&self) -> Vec<String> {
        if self.bytes > 0 {
            return Vec::new();
        }
        vec!["rotation by bytes: the limit is 0; give at least 1 byte, as in MaxBytes::mib(256)".to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_row_that_reaches_the_limit_is_the_last_one() {
        let mut open = SegmentStats::opened(UNIX_EPOCH);
        for (bytes, cut) in [(0, false), (1024 * 1024 - 1, false), (1024 * 1024, true), (u64::MAX, true)] {
            open.bytes = bytes;
            assert_eq!(MaxBytes::mib(1).after(&open), Cut::when(cut, CutReason::Bytes), "{bytes}");
        }
    }

    #[test]
    fn limits_do_not_overflow() {
        assert_eq!(MaxBytes::mib(u64::MAX), MaxBytes::bytes(u64::MAX));
    }

    #[test]
    fn a_limit_of_zero_is_a_problem() {
        assert_eq!(MaxBytes::mib(0).problems().len(), 1);
        assert!(MaxBytes::bytes(1).problems().is_empty());
    }
}
