//! Text on the stack: names are made per record, and most of them are there already.

use std::fmt;

/// At most `N` bytes of text; what is beyond is not taken, and said.
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
    is_cut: bool,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [0; N], length: 0, is_cut: false }
    }
}

impl<const N: usize> Text<N> {
    pub(super) fn push(&mut self, text: &str) {
        let end = self.length + text.len();
        match self.bytes.get_mut(self.length..end) {
            Some(place) if !self.is_cut => {
                place.copy_from_slice(text.as_bytes());
                self.length = end;
            }
            _ => self.is_cut = true,
        }
    }

    /// The whole text; `None` if it did not fit.
    pub(super) fn get(&self) -> Option<&str> {
        let written = self.bytes.get(..self.length).filter(|_| !self.is_cut)?;
        // Written from `&str` only.
        std::str::from_utf8(written).ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0 && !self.is_cut
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}
