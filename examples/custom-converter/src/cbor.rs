//! CBOR (RFC 8949) into values that have fields for layouts and are rows for `JsonLines`.

use std::collections::HashSet;

use aqueduct::{
    Converted, Converter, FieldPath, FieldValue, Fields, Fingerprint, JsonRow, Poison, PoisonReason, Record,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value;
use ciborium::de::from_reader_with_recursion_limit;

/// Reads a record's value as one CBOR item.
///
/// What a stranger sends is bounded by what they send: nesting by [`DEPTH_MAX`], and memory by the record, because the decoder
/// believes no length before the bytes are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cbor;

/// Arrays, maps and tags within each other; JSON readers commonly stop at 128.
pub const DEPTH_MAX: usize = 100;

impl Converter for Cbor {
    type Output = CborValue;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<CborValue>, Poison> {
        let Some(mut bytes) = record.value() else {
            return Err(Poison::new(PoisonReason::NullValue, "the record has no value"));
        };
        let length = bytes.len();
        // The reader moves the slice on: what is left of it was not read.
        let value: Value = from_reader_with_recursion_limit(&mut bytes, DEPTH_MAX).map_err(|error| {
            let place = length - bytes.len();
            Poison::new(PoisonReason::Malformed, format!("no CBOR, near byte {place} of {length}: {error}"))
        })?;
        if !bytes.is_empty() {
            let left = bytes.len();
            return Err(Poison::new(
                PoisonReason::Malformed,
                format!("{left} of {length} bytes follow the CBOR item; a record holds one"),
            ));
        }
        Ok(Converted::Emit(CborValue(value)))
    }

    // Whatever changes what is stored changes this: a segment that is pending must not be finished by another layout.
    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "cbor/1");
    }
}

/// One CBOR item.
#[derive(Clone, Debug, PartialEq)]
pub struct CborValue(Value);

impl Fields for CborValue {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        let mut at = &self.0;
        for name in path.segments() {
            let Value::Map(entries) = untagged(at) else {
                return None;
            };
            at = entries.iter().find_map(|(key, value)| (key.as_text() == Some(name)).then_some(value))?;
        }
        Some(match untagged(at) {
            Value::Null => FieldValue::Null,
            Value::Bool(value) => FieldValue::Bool(*value),
            Value::Text(text) => FieldValue::Str(text.into()),
            Value::Float(number) => FieldValue::F64(*number),
            Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => FieldValue::I64(number),
                (_, Ok(number)) => FieldValue::U64(number),
                _ => FieldValue::Composite,
            },
            _ => FieldValue::Composite,
        })
    }
}

impl JsonRow for CborValue {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        write(&self.0, out)
    }
}

/// What a tag says of a value is lost in JSON; the value is not.
fn untagged(mut value: &Value) -> &Value {
    while let Value::Tag(_, inner) = value {
        value = inner;
    }
    value
}

/// The advice of RFC 8949, section 6.1: bytes as base64url, what JSON has no word for as null, tags left out.
fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), Poison> {
    match value {
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Integer(number) => out.extend_from_slice(i128::from(*number).to_string().as_bytes()),
        Value::Float(number) if number.is_finite() => text(out, number)?,
        Value::Text(string) => text(out, string)?,
        Value::Bytes(bytes) => text(out, &URL_SAFE_NO_PAD.encode(bytes))?,
        // A negative bignum is marked, so that it is not taken for its opposite.
        Value::Tag(3, inner) if inner.is_bytes() => {
            let bytes = inner.as_bytes().map_or(&[][..], Vec::as_slice);
            text(out, &format!("~{}", URL_SAFE_NO_PAD.encode(bytes)))?;
        }
        Value::Tag(_, inner) => write(inner, out)?,
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                separate(out, index);
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Map(entries) => write_map(entries, out)?,
        // Null, undefined, numbers that are none, and whatever a later version of CBOR brings.
        _ => out.extend_from_slice(b"null"),
    }
    Ok(())
}

fn write_map(entries: &[(Value, Value)], out: &mut Vec<u8>) -> Result<(), Poison> {
    let mut seen = HashSet::new();
    out.push(b'{');
    for (index, (key, value)) in entries.iter().enumerate() {
        let key = match key {
            Value::Text(name) => name.clone(),
            Value::Integer(number) => i128::from(*number).to_string(),
            _ => {
                let what = "a map has a key that is neither text nor a whole number, and JSON has none such";
                return Err(Poison::new(PoisonReason::Malformed, what));
            }
        };
        // Readers of JSON disagree about which of two equal names counts, so nobody would know what was stored.
        if !seen.insert(key.clone()) {
            return Err(Poison::new(PoisonReason::Malformed, format!("a map has the key {key:?} twice")));
        }
        separate(out, index);
        text(out, &key)?;
        out.push(b':');
        write(value, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn separate(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

fn text(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) -> Result<(), Poison> {
    serde_json::to_writer(out, value).map_err(|error| Poison::new(PoisonReason::Malformed, error.to_string()))
}
