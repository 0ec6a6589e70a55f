//! Goes through JSON text that is known to be valid, as events.

use std::borrow::Cow;

use aqueduct_core::{Composite, FieldValue, Poison, ValueVisitor};

use super::lookup::{unescape, whole_number};
use super::text::{skip_space, skip_string};

/// Gives the document `text` to `visitor`, member by member, as it is spelled: nothing is sorted or left out.
pub(crate) fn visit(text: &[u8], visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
    let mut at = skip_space(text, 0);
    // A bit per open object or array, the innermost lowest: whether it is an object. The validator bounds the levels.
    let (mut objects, mut depth) = (0_u128, 0_u32);
    loop {
        // At a value.
        match text.get(at) {
            Some(b'{') => {
                visitor.begin(Composite::Struct)?;
                (objects, depth) = (objects << 1 | 1, depth + 1);
                at = skip_space(text, at + 1);
                if text.get(at) != Some(&b'}') {
                    at = key(text, at, visitor)?;
                    continue;
                }
            }
            Some(b'[') => {
                visitor.begin(Composite::List)?;
                (objects, depth) = (objects << 1, depth + 1);
                at = skip_space(text, at + 1);
                if text.get(at) != Some(&b']') {
                    continue;
                }
            }
            _ => {
                at = scalar(text, at, visitor)?;
                if depth == 0 {
                    return Ok(());
                }
                at = skip_space(text, at);
            }
        }
        // Behind a value, or in front of the end of something empty.
        loop {
            if text.get(at) == Some(&b',') {
                at = skip_space(text, at + 1);
                if objects & 1 == 1 {
                    at = key(text, at, visitor)?;
                }
                break;
            }
            visitor.end()?;
            (objects, depth) = (objects >> 1, depth - 1);
            if depth == 0 {
                return Ok(());
            }
            at = skip_space(text, at + 1);
        }
    }
}

/// Gives the name whose quote is at `at`; answers where its value starts.
fn key(text: &[u8], at: usize, visitor: &mut dyn ValueVisitor) -> Result<usize, Poison> {
    let end = skip_string(text, at);
    visitor.key(&string(text, at, end))?;
    // Past the colon.
    Ok(skip_space(text, skip_space(text, end) + 1))
}

fn scalar(text: &[u8], at: usize, visitor: &mut dyn ValueVisitor) -> Result<usize, Poison> {
    let (value, end) = match text.get(at) {
        Some(b'"') => {
            let end = skip_string(text, at);
            (FieldValue::Str(string(text, at, end)), end)
        }
        Some(b't') => (FieldValue::Bool(true), at + 4),
        Some(b'f') => (FieldValue::Bool(false), at + 5),
        Some(b'n') => (FieldValue::Null, at + 4),
        _ => {
            let rest = text.get(at..).unwrap_or_default();
            let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
            let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
            // At least one byte, so that the loop moves on whatever the text is.
            let end = at + length.max(1);
            let number = std::str::from_utf8(text.get(at..end).unwrap_or_default()).unwrap_or("0");
            (whole_number(number).unwrap_or(FieldValue::Number(number)), end)
        }
    };
    visitor.scalar(value)?;
    Ok(end)
}

/// The content of the string between the quotes at `at` and before `end`.
fn string(text: &[u8], at: usize, end: usize) -> Cow<'_, str> {
    let inner = text.get(at + 1..end.saturating_sub(1)).unwrap_or_default();
    let plain = if memchr::memchr(b'\\', inner).is_none() { std::str::from_utf8(inner).ok() } else { None };
    plain.map_or_else(|| Cow::Owned(unescape(inner).unwrap_or_default()), Cow::Borrowed)
}
