//! Text on the stack: routes are rendered per record, and a heap allocation for a number would be the dearest part.

use std::fmt;

/// At most `N` bytes of text.
pub(crate) struct ShortText<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> ShortText<N> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// What `value` displays; `None` if that is more than `N` bytes.
    pub(crate) fn of(value: impl fmt::Display) -> Option<Self> {
        let mut text = Self::new();
        fmt::write(&mut text, format_args!("{value}")).ok().map(|()| text)
    }

    pub(crate) fn as_str(&self) -> &str {
        // Written from `&str` and ASCII digits only.
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Writes the last `width` digits of `number` over what stands at `at`.
    #[inline]
    pub(crate) fn put(&mut self, at: usize, width: usize, number: u32) -> fmt::Result {
        let mut rest = number;
        for place in self.bytes.get_mut(at..at + width).ok_or(fmt::Error)?.iter_mut().rev() {
            *place = digit(rest);
            rest /= 10;
        }
        Ok(())
    }

    /// Appends `number` in decimal, with zeros in front up to `width` digits.
    pub(crate) fn push_padded(&mut self, number: u32, width: usize) -> fmt::Result {
        let mut digits = [b'0'; DIGITS_MAX];
        let mut rest = number;
        let mut used = 0;
        for place in digits.iter_mut().rev() {
            if rest == 0 && used >= width {
                break;
            }
            *place = digit(rest);
            rest /= 10;
            used += 1;
        }
        self.push_bytes(digits.get(DIGITS_MAX - used..).unwrap_or_default())
    }

    #[inline]
    fn push_bytes(&mut self, bytes: &[u8]) -> fmt::Result {
        let end = self.len + bytes.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}

impl<const N: usize> fmt::Write for ShortText<N> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_bytes(text.as_bytes())
    }
}

/// The last digit of `number`.
fn digit(number: u32) -> u8 {
    b'0' + u8::try_from(number % 10).unwrap_or_default()
}

/// More zeros in front of a number than this serve nobody.
pub(crate) const DIGITS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn numbers_are_padded_to_their_width_and_never_cut() {
        for (number, width, expected) in
            [(0, 0, ""), (0, 1, "0"), (7, 2, "07"), (2024, 2, "2024"), (5, 20, "00000000000000000005")]
        {
            let mut text = ShortText::<32>::new();
            text.push_padded(number, width).unwrap();
            assert_eq!(text.as_str(), expected, "{number} {width}");
        }
    }

    #[test]
    fn numbers_are_written_over_placeholders() {
        let mut text = ShortText::<8>::new();
        text.write_str("a=0000;").unwrap();
        text.put(2, 4, 24).unwrap();
        assert_eq!((text.as_str(), text.len()), ("a=0024;", 7));
        text.put(4, 2, 107).unwrap();
        assert_eq!(text.as_str(), "a=0007;");
        assert!(text.put(5, 4, 1).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        let mut text = ShortText::<4>::new();
        text.write_str("abcd").unwrap();
        assert!(text.write_str("e").is_err());
        assert_eq!(text.as_str(), "abcd");
        assert!(ShortText::<4>::of(12_345).is_none());
        assert_eq!(ShortText::<20>::of(i64::MIN).unwrap().as_str(), "-9223372036854775808");
    }
}
