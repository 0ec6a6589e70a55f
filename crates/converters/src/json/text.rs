//! Steps through JSON text that the validator and the field reader share.

/// The first byte at or after `at` that ends a plain run inside a string (quote, backslash or control character), or
/// the last few bytes of the text, which the caller steps through one by one.
///
/// Bit 7 of every byte passed is or-ed into `high`, so that text without a byte above ASCII needs no UTF-8 check.
///
/// Eight bytes at a time: strings are most of a typical message, and both passes over it are per record.
#[inline]
pub(super) fn plain_run(text: &[u8], mut at: usize, high: &mut u64) -> usize {
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        *high |= word & HIGH_BITS;
        let special = bytes_below_space(word) | bytes_equal(word, b'"') | bytes_equal(word, b'\\');
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at
}

/// The position after the closing quote of the string that opens at `at`, in text that is known to be valid.
#[inline]
pub(crate) fn skip_string(text: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    loop {
        at = plain_run(text, at, &mut 0);
        match text.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
}

/// The position of the first byte at or after `at` that is not whitespace.
#[inline]
pub(crate) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

const EVERY_BYTE: u64 = u64::MAX / 255;
const HIGH_BITS: u64 = EVERY_BYTE << 7;

// In both, the lowest bit set marks the first byte sought; bits above it may be carries.
fn bytes_equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ (EVERY_BYTE * u64::from(byte));
    difference.wrapping_sub(EVERY_BYTE) & !difference & HIGH_BITS
}

fn bytes_below_space(word: u64) -> u64 {
    word.wrapping_sub(EVERY_BYTE * 0x20) & !word & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_end_where_a_plain_loop_ends_them(text: Vec<u8>, from in 0..40_usize) {
            let mut high = 0;
            let mut at = plain_run(&text, from, &mut high);
            let expected = (from..text.len()).find(|&at| matches!(text[at], b'"' | b'\\' | ..0x20));
            // What is left at the end is for the caller.
            while expected.is_none_or(|expected| at < expected) && at < text.len() {
                prop_assert!(text.len() - at < 8);
                at += 1;
            }
            prop_assert_eq!(at.min(text.len()), expected.unwrap_or(text.len()).max(from.min(text.len())));
            let passed = &text[from.min(text.len())..at.min(text.len()).saturating_sub(8).max(from.min(text.len()))];
            prop_assert!(high != 0 || passed.is_ascii());
        }
    }
}
