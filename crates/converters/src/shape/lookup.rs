//! Finds one field of a document that is known to fit its shape.

use aqueduct_core::FieldValue;

use super::{Kind, Shape, scalar};
use crate::json::lookup::{member, scan};

/// What stands at `path`, as the walk would give it. A path of names does not lead into lists, nor into maps that are lists.
pub(crate) fn field<'t>(shape: &'t Shape, text: &'t [u8], path: &[String]) -> Option<FieldValue<'t>> {
    let (mut shape, mut text) = (shape, text);
    let mut rest = path;
    loop {
        if text == b"null" {
            match &shape.default {
                Some(default) => text = default.as_bytes(),
                None => return rest.is_empty().then_some(FieldValue::Null),
            }
        }
        if matches!(shape.kind, Kind::Json) {
            return scan(text, rest);
        }
        let Some((name, behind)) = rest.split_first() else {
            return Some(match text.first()? {
                b'{' | b'[' => FieldValue::Composite,
                _ => scalar::read(&shape.kind, text).ok()?,
            });
        };
        shape = match &shape.kind {
            Kind::Struct(members) => members.get(name)?,
            Kind::Map(values) => values,
            _ => return None,
        };
        text = match member(text, name) {
            Some(text) => text,
            // A member that may be left out and is: its default, or nothing.
            None => shape.default.as_ref()?.as_bytes(),
        };
        rest = behind;
    }
}
