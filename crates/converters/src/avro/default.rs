//! Defaults: JSON by the rules of a schema, as bytes and as what a schema tells of them.

use aqueduct_core::{FieldValue, Literal};
use serde_json::Value;

use super::compile::scalar;
use super::cursor::Cursor;
use super::schema::{AvroSchema, LEVELS_MAX, Type, TypeId};

/// The default as it would have been written, and the levels it nests; `None` if it does not fit the type.
pub(super) fn encode(schema: &AvroSchema, of: TypeId, json: &Value) -> Option<(Vec<u8>, usize)> {
    let mut out = Vec::new();
    let mut encoder = Encoder { schema, deepest: 0 };
    encoder.value(of, json, 0, &mut out)?;
    Some((out, encoder.deepest))
}

/// The default as schemas tell it; `None` of what they have no words for, and of what does not fit the type.
pub(super) fn literal(schema: &AvroSchema, of: TypeId, json: &Value) -> Option<Literal> {
    match (schema.get(of), json) {
        (Type::Union(branches), _) => branches.iter().find_map(|branch| literal(schema, *branch, json)),
        (Type::Array(_), Value::Array(items)) => items.is_empty().then_some(Literal::EmptyList),
        (Type::Map(_), Value::Object(entries)) => entries.is_empty().then_some(Literal::EmptyMap),
        (Type::Enum(of), Value::String(symbol)) => {
            of.symbols.contains(symbol).then(|| Literal::Scalar(FieldValue::Str(symbol.clone().into())))
        }
        (Type::Array(_) | Type::Map(_) | Type::Record(_) | Type::Enum(_), _) => None,
        (plain, _) => {
            let (bytes, _) = encode(schema, of, json)?;
            Some(Literal::Scalar(owned(scalar(plain).read(&mut Cursor::new(&bytes))?)?))
        }
    }
}

fn owned(value: FieldValue<'_>) -> Option<FieldValue<'static>> {
    Some(match value {
        FieldValue::Null => FieldValue::Null,
        FieldValue::Bool(it) => FieldValue::Bool(it),
        FieldValue::I64(it) => FieldValue::I64(it),
        FieldValue::F32(it) => FieldValue::F32(it),
        FieldValue::F64(it) => FieldValue::F64(it),
        FieldValue::Decimal(it) => FieldValue::Decimal(it.into_owned()),
        FieldValue::Str(it) => FieldValue::Str(it.into_owned().into()),
        FieldValue::Bytes(it) => FieldValue::Bytes(it.into_owned().into()),
        FieldValue::Uuid(it) => FieldValue::Uuid(it),
        FieldValue::Date(it) => FieldValue::Date(it),
        FieldValue::Time { count, unit } => FieldValue::Time { count, unit },
        FieldValue::Timestamp { count, unit, utc } => FieldValue::Timestamp { count, unit, utc },
        FieldValue::Duration { months, days, millis } => FieldValue::Duration { months, days, millis },
        _ => return None,
    })
}

struct Encoder<'s> {
    schema: &'s AvroSchema,
    deepest: usize,
}

impl Encoder<'_> {
    fn value(&mut self, of: TypeId, json: &Value, level: usize, out: &mut Vec<u8>) -> Option<()> {
        // A record whose fields default to records may never end.
        if level > LEVELS_MAX || out.len() > BYTES_MAX {
            return None;
        }
        self.deepest = self.deepest.max(level);
        match (self.schema.get(of), json) {
            (Type::Null, Value::Null) => {}
            (Type::Boolean, Value::Bool(it)) => out.push(u8::from(*it)),
            (Type::Int(_), Value::Number(it)) => long(i32::try_from(it.as_i64()?).ok()?.into(), out),
            (Type::Long(_), Value::Number(it)) => long(it.as_i64()?, out),
            (Type::Float, _) => out.extend_from_slice(&narrow(float(json)?).to_le_bytes()),
            (Type::Double, _) => out.extend_from_slice(&float(json)?.to_le_bytes()),
            (Type::String(_), Value::String(it)) => bytes(it.as_bytes(), out),
            (Type::Bytes(_), Value::String(it)) => bytes(&code_points(it)?, out),
            (Type::Fixed(fixed), Value::String(it)) => {
                let content = code_points(it).filter(|bytes| bytes.len() == fixed.size as usize)?;
                out.extend_from_slice(&content);
            }
            (Type::Enum(of), Value::String(it)) => {
                long(i64::try_from(of.symbols.iter().position(|symbol| symbol == it)?).ok()?, out);
            }
            (Type::Array(items), Value::Array(elements)) => {
                self.deepest = self.deepest.max(level + 1);
                block(elements.len(), out)?;
                elements.iter().try_for_each(|element| self.value(*items, element, level + 1, out))?;
                end_of_blocks(elements.len(), out);
            }
            (Type::Map(values), Value::Object(entries)) => {
                self.deepest = self.deepest.max(level + 1);
                block(entries.len(), out)?;
                for (key, value) in entries {
                    bytes(key.as_bytes(), out);
                    self.value(*values, value, level + 1, out)?;
                }
                end_of_blocks(entries.len(), out);
            }
            (Type::Record(record), Value::Object(members)) => {
                self.deepest = self.deepest.max(level + 1);
                for field in &record.fields {
                    let member = members.get(&field.name).or(field.default.as_ref())?;
                    self.value(field.of, member, level + 1, out)?;
                }
            }
            // The first branch should be the default's; later versions of the specification take any.
            (Type::Union(branches), _) => {
                let start = out.len();
                for (index, branch) in branches.iter().enumerate() {
                    long(i64::try_from(index).ok()?, out);
                    if self.value(*branch, json, level, out).is_some() {
                        return Some(());
                    }
                    out.truncate(start);
                }
                return None;
            }
            _ => return None,
        }
        Some(())
    }
}

fn float(json: &Value) -> Option<f64> {
    match json {
        Value::Number(number) => number.as_f64(),
        // What some writers of schemas put for numbers that JSON does not have.
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the nearest number of 32 bits is what the default means"
)]
fn narrow(float: f64) -> f32 {
    float as f32
}

/// Each character stands for the byte of its number.
fn code_points(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}

fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push((rest & 0x7f) as u8);
}

fn bytes(content: &[u8], out: &mut Vec<u8>) {
    // No text of a schema is longer than `i64::MAX`.
    long(i64::try_from(content.len()).unwrap_or(i64::MAX), out);
    out.extend_from_slice(content);
}

fn block(length: usize, out: &mut Vec<u8>) -> Option<()> {
    long(i64::try_from(length).ok()?, out);
    Some(())
}

/// An empty list is its end already.
fn end_of_blocks(length: usize, out: &mut Vec<u8>) {
    if length > 0 {
        out.push(0);
    }
}

/// Bytes of one default.
const BYTES_MAX: usize = 1 << 20;
