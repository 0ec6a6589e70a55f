//! Where a document's members stand: a by-product of validating it.
//!
//! Finding a field by scanning costs as much as validating did, and a layout by field and time asks for two. The
//! validator passes every name anyway; noting where costs next to nothing and turns a lookup into a few comparisons.

use super::text::skip_space;

/// The names of all members that a path of names can reach, in document order.
///
/// Members inside arrays are left out: no path leads there. Of fixed size, so that a value needs no allocation; a
/// document with more members is read by scanning.
#[derive(Clone)]
pub(super) struct Outline {
    /// Position of a name's opening quote in the low bits, level of nesting in the high ones.
    entries: [u32; ENTRIES_MAX],
    len: u8,
    usable: bool,
}

impl Outline {
    /// No members yet.
    pub(super) fn new() -> Self {
        Self { entries: [0; ENTRIES_MAX], len: 0, usable: true }
    }

    /// Notes the member whose name's opening quote is at `at`, in an object `level` levels deep, from 1.
    #[inline]
    pub(super) fn push(&mut self, at: usize, level: u32) {
        // A path that goes deeper is found by scanning.
        if level > LEVEL_MAX {
            return;
        }
        match (self.entries.get_mut(usize::from(self.len)), u32::try_from(at)) {
            (Some(entry), Ok(at @ ..=POSITION_MASK)) => {
                *entry = level << POSITION_BITS | at;
                self.len += 1;
            }
            _ => self.usable = false,
        }
    }

    /// Gives up: the positions do not fit the text, or names need unescaping before they can be compared.
    pub(super) fn discard(&mut self) {
        self.usable = false;
    }

    /// Where the value at `path` starts in `text`, the document the outline was made of. The last of several members
    /// of one name counts. `Err` if only a scan can tell.
    pub(super) fn find(&self, text: &[u8], path: &[String]) -> Result<Option<usize>, NotOutlined> {
        if !self.usable || path.len() > LEVEL_MAX as usize {
            return Err(NotOutlined);
        }
        let mut members = self.entries.get(..usize::from(self.len)).unwrap_or_default();
        let mut value = None;
        for (level, name) in (1..).zip(path) {
            let is_member =
                |entry: &u32| entry >> POSITION_BITS == level && is_called(text, position(*entry), name);
            let Some(index) = members.iter().rposition(is_member) else {
                return Ok(None);
            };
            let (upto, inner) = members.split_at(index + 1);
            let end = inner.iter().position(|entry| entry >> POSITION_BITS <= level).unwrap_or(inner.len());
            members = inner.get(..end).unwrap_or_default();
            // Past both quotes, the colon and the whitespace around it.
            value = upto
                .last()
                .map(|&entry| skip_space(text, skip_space(text, position(entry) + name.len() + 2) + 1));
        }
        Ok(value)
    }
}

/// The outline does not answer: scan the text.
pub(super) struct NotOutlined;

/// Whether the name with its opening quote at `at`, which holds no escape, is `name`.
#[inline]
fn is_called(text: &[u8], at: usize, name: &str) -> bool {
    let (start, end) = (at + 1, at + 1 + name.len());
    // The closing quote first: it tells names of another length apart without a call.
    text.get(end) == Some(&b'"')
        && text.get(start..end) == Some(name.as_bytes())
        // With a quote in it, `name` could match past the end of the member's name.
        && !name.contains('"')
}

fn position(entry: u32) -> usize {
    (entry & POSITION_MASK) as usize
}

const ENTRIES_MAX: usize = 32;
const POSITION_BITS: u32 = 29;
const POSITION_MASK: u32 = (1 << POSITION_BITS) - 1;
const LEVEL_MAX: u32 = 7;
