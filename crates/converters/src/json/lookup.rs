//! Finds fields in JSON text that is known to be valid, without building a tree.

use std::borrow::Cow;

use aqueduct_core::FieldValue;

use super::text::{skip_space, skip_string};

/// What stands at `path` in the document `text`. Where an object repeats a name, its last member counts.
pub(crate) fn scan<'a>(text: &'a [u8], path: &[String]) -> Option<FieldValue<'a>> {
    let mut value = text;
    for name in path {
        value = member(value, name)?;
    }
    scalar(value)
}

/// The text of the last member called `name`; `None` if `text` is not an object or has no such member.
pub(crate) fn member<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if text.first() != Some(&b'{') {
        return None;
    }
    let mut found = None;
    let mut at = skip_space(text, 1);
    while text.get(at) == Some(&b'"') {
        let key_end = skip_string(text, at);
        let key = text.get(at + 1..key_end - 1)?;
        let start = skip_space(text, skip_space(text, key_end) + 1);
        let end = skip_value(text, start);
        if is_called(key, name) {
            found = text.get(start..end);
        }
        at = skip_space(text, skip_space(text, end) + 1);
    }
    found
}

/// Whether the member's name `key`, as written between its quotes, spells `name`.
pub(super) fn is_called(key: &[u8], name: &str) -> bool {
    if key == name.as_bytes() {
        return true;
    }
    // An escape is always longer than what it stands for.
    key.len() > name.len() && key.contains(&b'\\') && unescape(key).is_some_and(|key| key == name)
}

pub(crate) fn skip_value(text: &[u8], at: usize) -> usize {
    match text.get(at) {
        Some(b'{' | b'[') => skip_container(text, at),
        _ => skip_scalar(text, at),
    }
}

/// The end of the scalar at `at`; of an object or array, the end of its first piece, which is enough to tell what it is.
fn skip_scalar(text: &[u8], at: usize) -> usize {
    match text.get(at) {
        Some(b'"') => skip_string(text, at),
        Some(b'{' | b'[') => at + 1,
        _ => {
            let rest = text.get(at..).unwrap_or_default();
            let end = rest
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'));
            end.map_or(text.len(), |length| at + length)
        }
    }
}

fn skip_container(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0_u32;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = skip_string(text, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

fn scalar(text: &[u8]) -> Option<FieldValue<'_>> {
    Some(match text.first()? {
        b'n' => FieldValue::Null,
        b't' => FieldValue::Bool(true),
        b'f' => FieldValue::Bool(false),
        b'{' | b'[' => FieldValue::Composite,
        b'"' => {
            let inner = text.get(1..text.len() - 1)?;
            FieldValue::Str(if inner.contains(&b'\\') {
                Cow::Owned(unescape(inner)?)
            } else {
                Cow::Borrowed(std::str::from_utf8(inner).ok()?)
            })
        }
        _ => number(std::str::from_utf8(text).ok()?)?,
    })
}

pub(super) fn number(text: &str) -> Option<FieldValue<'_>> {
    match whole_number(text) {
        None => Some(FieldValue::F64(serde_json::from_str(text).ok()?)),
        whole => whole,
    }
}

/// The number `text`, if it is a whole one of 64 bits as `serde_json` tells them: minus zero is none.
pub(crate) fn whole_number(text: &str) -> Option<FieldValue<'static>> {
    if text == "-0" {
        return None;
    }
    text.parse().map(FieldValue::I64).or_else(|_| text.parse().map(FieldValue::U64)).ok()
}

/// The text that `inner`, a string's content between its quotes, stands for.
pub(crate) fn unescape(inner: &[u8]) -> Option<String> {
    let mut quoted = Vec::with_capacity(inner.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(inner);
    quoted.push(b'"');
    serde_json::from_slice(&quoted).ok()
}
