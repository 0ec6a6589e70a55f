//! Steps through JSON text that the validator and the field reader share.

/// The first byte at or after `at` that ends a plain run inside a string (quote, backslash or control character), or
/// the last few bytes of the text, which the caller steps through one by one.
///
/// Bit 7 of every byte passed is or-ed into `high`, so that text without a byte above ASCII needs no UTF-8 check.
///
/// Eight bytes at a time, and more at a time where a string is long: strings are most of a typical message, and both passes
/// over it are per record.
#[inline]
pub(super) fn plain_run(text: &[u8], mut at: usize, high: &mut u64) -> usize {
    for _ in 0..SHORT_WORDS {
        match plain_word(text, at, high) {
            Word::Plain => at += 8,
            Word::Ends(length) => return at + length,
            Word::TooShort => return at,
        }
    }
    while let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk::<32>) {
        // Without an early exit, which is what lets it be vectorised.
        let is_end = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        let (ends, bits) =
            block.iter().fold((false, 0), |(ends, bits), &byte| (ends | is_end(byte), bits | byte));
        if ends {
            break;
        }
        *high |= u64::from(bits) & HIGH_BITS;
        at += 32;
    }
    loop {
        match plain_word(text, at, high) {
            Word::Plain => at += 8,
            Word::Ends(length) => return at + length,
            Word::TooShort => return at,
        }
    }
}

/// Words that are looked at one by one before blocks are: names and most values are shorter than that.
const SHORT_WORDS: usize = 3;

enum Word {
    /// Its eight bytes are passed.
    Plain,
    /// So many of its bytes are.
    Ends(usize),
    /// The text has no eight bytes there.
    TooShort,
}

#[inline]
fn plain_word(text: &[u8], at: usize, high: &mut u64) -> Word {
    let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) else { return Word::TooShort };
    let word = u64::from_le_bytes(*chunk);
    *high |= word & HIGH_BITS;
    let special = bytes_below_space(word) | bytes_equal(word, b'"') | bytes_equal(word, b'\\');
    if special == 0 { Word::Plain } else { Word::Ends((special.trailing_zeros() / 8) as usize) }
}

/// The position after the closing quote of the string that opens at `at`, in text that is known to be valid.
#[inline]
pub(crate) fn skip_string(text: &[u8], at: usize) -> usize {
    string_end(text, at).0
}

/// The same, and whether no escape stands in the string.
#[inline]
pub(crate) fn string_end(text: &[u8], at: usize) -> (usize, bool) {
    let (mut at, mut is_plain) = (at + 1, true);
    loop {
        at = valid_run(text, at);
        match text.get(at) {
            Some(b'"') => return (at + 1, is_plain),
            Some(b'\\') => {
                is_plain = false;
                at += 2;
            }
            Some(_) => at += 1,
            None => return (text.len(), is_plain),
        }
    }
}

/// As [`plain_run`], in text that is known to be valid: there is neither a control character in it nor a doubt of UTF-8.
#[inline]
fn valid_run(text: &[u8], mut at: usize) -> usize {
    for _ in 0..SHORT_WORDS {
        let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) else { return at };
        let word = u64::from_le_bytes(*chunk);
        let special = bytes_equal(word, b'"') | bytes_equal(word, b'\\');
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = text.get(at..).unwrap_or_default();
    at + memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())
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

    /// Long runs, which bytes of any kind would not have.
    fn mostly_plain() -> impl Strategy<Value = Vec<u8>> {
        let byte =
            prop_oneof![40 => b' '..b'"', 10 => any::<u8>().prop_map(|byte| byte | 0x80), 1 => any::<u8>()];
        proptest::collection::vec(byte, 0..200)
    }

    proptest! {
        #[test]
        fn strings_end_at_their_quote(content in "([a-z é]{0,60}(\\\\[\"\\\\n])?){0,3}", after in "[a-z\"\\\\]{0,40}") {
            let text = format!("\"{content}\"{after}");
            let expected = (content.len() + 2, !content.contains('\\'));
            prop_assert_eq!(string_end(text.as_bytes(), 0), expected);
        }

        #[test]
        fn runs_end_where_a_plain_loop_ends_them(
            text in prop_oneof![any::<Vec<u8>>(), mostly_plain()], from in 0..40_usize,
        ) {
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
