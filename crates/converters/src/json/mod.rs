//! JSON without a schema: validated once, passed through, read lazily.

use std::fmt;

use aqueduct_core::{
    BytesRow, Composite, Converted, Converter, FieldPath, FieldValue, Fields, Fingerprint, JsonRow, Poison,
    PoisonReason, Record, StructuredValue, ValueVisitor,
};
use bytes::Bytes;

pub use validate::{JsonError, NESTING_MAX};

use crate::nobody::Nobody;
use crate::tombstones::{Tombstones, tombstones_only};
use compact::compact_into;
use tokens::Tokens;
use validate::validate;

pub(crate) mod compact;
pub(crate) mod lookup;
pub(crate) mod text;
mod tokens;
mod validate;
pub(crate) mod visit;

/// Reads a value as one JSON document of any shape.
///
/// The bytes are checked once and stored as they came: order of members, spelling of numbers and whitespace between
/// tokens survive. Two things change, neither of them the document's meaning: whitespace *around* it is left out, and
/// a document with raw newlines inside is compacted, so that one message is always one line. Only then is anything
/// copied.
///
/// What counts as JSON is what `serde_json::Value` reads: at most [`NESTING_MAX`] levels, no lone surrogates, UTF-8
/// throughout, numbers that fit a 64-bit float. Everything else is a poison that names the byte: an empty value, a
/// byte order mark, a second document, text after the end.
///
/// ```
/// use aqueduct_converters::{Json, JsonValue};
/// use aqueduct_core::{BatchBuilder, Converted, Converter, FieldPath, FieldValue, Fields, Offset, Permit, Timestamp};
/// use aqueduct_core::TopicPartition;
///
/// let mut batch = BatchBuilder::new(TopicPartition::new("logs", 0), 64);
/// batch.push(Offset::ZERO, Timestamp::None, None, Some(br#"{"request": {"host": "a.example"}}"#), []);
/// let batch = batch.build(Permit::unlimited());
///
/// let record = batch.get(0).unwrap();
/// let Ok(Converted::Emit(value)) = Json::new().convert(&record) else { panic!("valid JSON") };
/// assert_eq!(value.field(&FieldPath::parse("request.host")?), Some(FieldValue::Str("a.example".into())));
/// assert_eq!(value.as_bytes(), br#"{"request": {"host": "a.example"}}"#);
/// # Ok::<(), aqueduct_core::FieldPathError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json {
    tombstones: Tombstones,
}

tombstones_only!(Json);

impl Converter for Json {
    type Output = JsonValue;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<JsonValue>, Poison> {
        let Some(bytes) = record.value_bytes() else {
            return self.tombstones.absent(JsonValue::null);
        };
        match JsonValue::parse(bytes) {
            Ok(value) => Ok(Converted::Emit(value)),
            Err(error) => Err(Poison::new(PoisonReason::Malformed, error.to_string())),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", format_args!("json/1 tombstones={}", self.tombstones));
    }
}

/// One JSON document as validated text, on one line.
///
/// Its fields are found in the text when asked for. Where an object repeats a name, the last member counts, as it
/// does for most readers. A path of names does not lead into arrays.
#[derive(Clone)]
pub struct JsonValue {
    bytes: Bytes,
    tokens: Tokens,
}

impl JsonValue {
    /// Checks `bytes` and keeps them, or a compacted copy if the document spans several lines.
    ///
    /// # Errors
    /// If the bytes are not one JSON document.
    pub fn parse(bytes: Bytes) -> Result<Self, JsonError> {
        let document = validate(&bytes)?;
        if !document.multiline {
            let bytes = if document.span.len() == bytes.len() { bytes } else { bytes.slice(document.span) };
            return Ok(Self { bytes, tokens: document.tokens });
        }
        let mut compacted = Vec::new();
        compact_into(&mut compacted, bytes.get(document.span).unwrap_or_default());
        // Everything has moved; the second pass finds it again.
        let tokens = validate(&compacted)?.tokens;
        Ok(Self { bytes: compacted.into(), tokens })
    }

    /// The document `null`, as what stands for a tombstone.
    pub fn null() -> Self {
        Self { bytes: Bytes::from_static(b"null"), tokens: Tokens::default() }
    }

    /// The document: one line of UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The document as an owned slice of the memory it came in; nothing is copied.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl fmt::Debug for JsonValue {
    /// Never prints a payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonValue").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl PartialEq for JsonValue {
    /// Whether the texts are the same, byte for byte.
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for JsonValue {}

impl Fields for JsonValue {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        if self.tokens.are_known() {
            self.tokens.field(&self.bytes, path.segments())
        } else {
            lookup::scan(&self.bytes, path.segments())
        }
    }
}

impl StructuredValue for JsonValue {
    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        visit_document(&self.bytes, &self.tokens, visitor)
    }

    fn visit_with<V: ValueVisitor>(&self, visitor: &mut V) -> Result<(), Poison> {
        visit_document(&self.bytes, &self.tokens, visitor)
    }
}

impl JsonRow for JsonValue {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        out.extend_from_slice(&self.bytes);
        Ok(())
    }

    fn json_bytes(&self) -> Option<&Bytes> {
        Some(&self.bytes)
    }
}

/// Whether the text is one document of at most `levels` levels.
pub(crate) fn is_text(text: &[u8], levels: usize) -> bool {
    visit_text(text, levels, &mut Nobody).is_ok()
}

/// Gives what the JSON text says to `visitor`, if it is one document of at most `levels` levels.
pub(crate) fn visit_text(text: &[u8], levels: usize, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
    let malformed = |error: JsonError| Poison::new(PoisonReason::Malformed, error.to_string());
    let document = validate(text).map_err(malformed)?;
    let text = text.get(document.span).unwrap_or_default();
    visit_document(text, &document.tokens, &mut Bounded { visitor, levels, depth: 0 })
}

/// Gives `text`, a document with these tokens, to `visitor`.
fn visit_document<V: ValueVisitor + ?Sized>(
    text: &[u8],
    tokens: &Tokens,
    visitor: &mut V,
) -> Result<(), Poison> {
    if tokens.are_known() { tokens.visit(text, visitor) } else { visit::visit(text, visitor) }
}

/// Passes events on as long as they do not nest too deeply.
struct Bounded<'v> {
    visitor: &'v mut dyn ValueVisitor,
    levels: usize,
    depth: usize,
}

impl ValueVisitor for Bounded<'_> {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        self.visitor.scalar(value)
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Poison> {
        if self.depth == self.levels {
            return Err(Poison::new(PoisonReason::TooLarge, "the value nests deeper than 128 levels"));
        }
        self.depth += 1;
        self.visitor.begin(composite)
    }

    fn key(&mut self, name: &str) -> Result<(), Poison> {
        self.visitor.key(name)
    }

    fn end(&mut self) -> Result<(), Poison> {
        self.depth -= 1;
        self.visitor.end()
    }
}

impl BytesRow for JsonValue {
    fn row_bytes(&self) -> &Bytes {
        &self.bytes
    }
}

#[cfg(test)]
mod tests;
