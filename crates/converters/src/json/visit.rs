//! Goes through JSON text that is known to be valid, as events.

use std::borrow::Cow;

use aqueduct_core::{Composite, FieldValue, Poison, ValueVisitor};

use super::lookup::{unescape, whole_number};
use super::text::{skip_space, string_end};

/// Gives the document `text` to `visitor`, member by member, as it is spelled: nothing is sorted or left out.
pub(crate) fn visit<V: ValueVisitor + ?Sized>(text: &[u8], visitor: &mut V) -> Result<(), Poison> {
    // Once for all of it: then its names and strings are text without another look. The validator has seen to that.
    let text = std::str::from_utf8(text).unwrap_or("null");
    let bytes = text.as_bytes();
    let mut at = skip_space(bytes, 0);
    // A bit per open object or array, the innermost lowest: whether it is an object. The validator bounds the levels.
    let (mut objects, mut depth) = (0_u128, 0_u32);
    loop {
        // At a value.
        match bytes.get(at) {
            Some(b'{') => {
                visitor.begin(Composite::Struct)?;
                (objects, depth) = (objects << 1 | 1, depth + 1);
                at = skip_space(bytes, at + 1);
                if bytes.get(at) != Some(&b'}') {
                    at = key(text, at, visitor)?;
                    continue;
                }
            }
            Some(b'[') => {
                visitor.begin(Composite::List)?;
                (objects, depth) = (objects << 1, depth + 1);
                at = skip_space(bytes, at + 1);
                if bytes.get(at) != Some(&b']') {
                    continue;
                }
            }
            _ => {
                at = scalar(text, at, visitor)?;
                if depth == 0 {
                    return Ok(());
                }
                at = skip_space(bytes, at);
            }
        }
        // Behind a value, or in front of the end of something empty.
        loop {
            if bytes.get(at) == Some(&b',') {
                at = skip_space(bytes, at + 1);
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
            at = skip_space(bytes, at + 1);
        }
    }
}

/// Gives the name whose quote is at `at`; answers where its value starts.
#[inline]
fn key(text: &str, at: usize, visitor: &mut (impl ValueVisitor + ?Sized)) -> Result<usize, Poison> {
    let (name, end) = string(text, at);
    visitor.key(&name)?;
    // Past the colon.
    Ok(skip_space(text.as_bytes(), skip_space(text.as_bytes(), end) + 1))
}

#[inline]
fn scalar(text: &str, at: usize, visitor: &mut (impl ValueVisitor + ?Sized)) -> Result<usize, Poison> {
    let (value, end) = match text.as_bytes().get(at) {
        Some(b'"') => {
            let (value, end) = string(text, at);
            (FieldValue::Str(value), end)
        }
        Some(b't') => (FieldValue::Bool(true), at + 4),
        Some(b'f') => (FieldValue::Bool(false), at + 5),
        Some(b'n') => (FieldValue::Null, at + 4),
        _ => number(text, at),
    };
    visitor.scalar(value)?;
    Ok(end)
}

/// The number at `at`, and the position after it.
fn number(text: &str, at: usize) -> (FieldValue<'_>, usize) {
    let mut whole = true;
    let mut end = at;
    loop {
        match text.as_bytes().get(end) {
            Some(b'0'..=b'9' | b'-') => {}
            Some(b'.' | b'e' | b'E' | b'+') => whole = false,
            _ => break,
        }
        end += 1;
    }
    // At least one byte, so that the loop moves on whatever the text is.
    end = end.max(at + 1);
    let number = text.get(at..end).unwrap_or("0");
    let whole = if whole { whole_number(number) } else { None };
    (whole.unwrap_or(FieldValue::Number(number)), end)
}

/// The string whose quote is at `at`, and the position after its last quote.
#[inline]
fn string(text: &str, at: usize) -> (Cow<'_, str>, usize) {
    let (end, is_plain) = string_end(text.as_bytes(), at);
    let inner = text.get(at + 1..end.saturating_sub(1)).unwrap_or_default();
    let content = if is_plain {
        Cow::Borrowed(inner)
    } else {
        Cow::Owned(unescape(inner.as_bytes()).unwrap_or_default())
    };
    (content, end)
}
