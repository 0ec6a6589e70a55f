//! Takes bytes off a record, and says where it went wrong.

use aqueduct_core::{Poison, PoisonReason};

/// A place in a record's bytes.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The format, for messages.
    format: &'static str,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], format: &'static str) -> Self {
        Self { bytes, at: 0, format }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Poison> {
        let byte = self.bytes.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte.ok_or_else(|| self.ends())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Poison> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = rest.first_chunk::<N>().copied().ok_or_else(|| self.ends())?;
        self.at += N;
        Ok(array)
    }

    /// So many bytes, which nobody has believed to be there before.
    pub(crate) fn take(&mut self, length: u64) -> Result<&'a [u8], Poison> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or_else(|| self.fault("a length goes past the end of the value"))?;
        self.at += taken.len();
        Ok(taken)
    }

    pub(crate) fn text(&mut self, length: u64) -> Result<&'a str, Poison> {
        let start = self.at;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map_err(|error| self.fault_at(start + error.valid_up_to(), "a text is not utf-8"))
    }

    #[cold]
    fn ends(&self) -> Poison {
        if self.bytes.is_empty() {
            return self.fault("the value is empty");
        }
        self.fault("the value ends too early")
    }

    #[cold]
    pub(crate) fn fault(&self, problem: &str) -> Poison {
        self.fault_at(self.at, problem)
    }

    #[cold]
    pub(crate) fn fault_at(&self, at: usize, problem: &str) -> Poison {
        Poison::new(PoisonReason::Malformed, format!("not valid {} at byte {at}: {problem}", self.format))
    }

    #[cold]
    pub(crate) fn describe(&self, problem: &str) -> String {
        format!("{} at byte {}: {problem}", self.format, self.at)
    }
}
