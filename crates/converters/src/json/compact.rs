//! Takes a document's raw newlines out, so that one message is one line.

use super::text::{skip_space, skip_string};

/// Appends `text`, which is known to be valid, without the whitespace between its tokens. What it means does not
/// change, nor does the spelling of numbers and strings or the order of members.
pub(crate) fn compact_into(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len());
    let mut at = skip_space(text, 0);
    while let Some(byte) = text.get(at) {
        let end = if *byte == b'"' { skip_string(text, at) } else { at + 1 };
        out.extend_from_slice(text.get(at..end).unwrap_or_default());
        at = skip_space(text, end);
    }
}
