//! JSON with Kafka Connect's schema around it.

use std::sync::Arc;

use aqueduct_core::{
    Converted, Converter, FieldPath, FieldValue, Fields, Fingerprint, JsonRow, Poison, PoisonReason, Record,
    Schema, StructuredValue, ValueVisitor, write_json,
};

use crate::json::JsonValue;
use crate::json::lookup::skip_value;
use crate::json::text::{skip_space, skip_string};
use crate::shape::{self, Described, Parsed};
use crate::tombstones::Tombstones;
use cache::TextCache;

mod cache;
mod schema;

/// Reads what Kafka Connect's `JsonConverter` writes with `schemas.enable=true`: an object of two members, `schema` and `payload`.
///
/// The schema is Connect's, with its logical types (`Decimal`, `Date`, `Time`, `Timestamp`); the payload has to fit it. Where the
/// schema is null the payload is JSON of any shape. No registry is asked: each distinct text of a schema is parsed once and kept, up
/// to 256 texts and 4 MiB of them; a schema of more than 1 MiB is a poison.
///
/// | in the payload | becomes |
/// | --- | --- |
/// | null, or nothing, where the schema has a default | the default |
/// | nothing where the schema says `optional` | null |
/// | a decimal | a decimal, from base64 (`BASE64`) or a number (`NUMERIC`) with no more digits than the schema's scale |
/// | a member that the schema does not have | nothing, as in Connect |
/// | a map whose keys are no text, a list of pairs | a map with the keys' text |
///
/// A payload that does not fit is a poison that names the member; so is one that defaults make longer than 1 MiB and 256 bytes for
/// each of its own. As a row of JSON the payload is written with what its kinds are:
/// dates as dates, decimals as numbers.
///
/// ```
/// use aqueduct_converters::ConnectJson;
/// use aqueduct_core::{BatchBuilder, Converted, Converter, JsonRow, Offset, Permit, StructuredValue, Timestamp, TopicPartition};
///
/// let text = br#"{"schema": {"type": "struct", "fields": [
///     {"field": "day", "type": "int32", "name": "org.apache.kafka.connect.data.Date"},
///     {"field": "note", "type": "string", "optional": true}]}, "payload": {"day": 18806}}"#;
/// let mut batch = BatchBuilder::new(TopicPartition::new("days", 0), 256);
/// batch.push(Offset::ZERO, Timestamp::None, None, Some(text), []);
/// let batch = batch.build(Permit::unlimited());
/// let Ok(Converted::Emit(value)) = ConnectJson::new().convert(&batch.get(0).unwrap()) else { panic!("it fits") };
/// assert_eq!(value.schema().unwrap().to_string(), "struct{day:date,note:string?}");
/// let mut row = Vec::new();
/// value.write_json(&mut row)?;
/// assert_eq!(row, br#"{"day":"2021-06-28"}"#);
/// # Ok::<(), aqueduct_core::Poison>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConnectJson {
    tombstones: Tombstones,
    schemas: Arc<TextCache<Parsed>>,
}

impl ConnectJson {
    /// Tombstones are poisons.
    pub fn new() -> Self {
        Self { tombstones: Tombstones::default(), schemas: Arc::new(TextCache::new()) }
    }

    /// What a record without a value is.
    #[must_use]
    pub fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.tombstones = tombstones;
        self
    }
}

impl Default for ConnectJson {
    fn default() -> Self {
        Self::new()
    }
}

impl Converter for ConnectJson {
    type Output = ConnectValue;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<ConnectValue>, Poison> {
        let Some(bytes) = record.value_bytes() else {
            return self.tombstones.absent(|| ConnectValue(Described::null()));
        };
        let document = JsonValue::parse(bytes)
            .map_err(|error| Poison::new(PoisonReason::Malformed, error.to_string()))?
            .into_bytes();
        let (schema, payload) = parts(&document)?;
        let parsed = if schema == b"null" { None } else { Some(self.schemas.get(schema, schema::parse)?) };
        if let Some(parsed) = &parsed {
            shape::check(&parsed.shape, payload)?;
        }
        Ok(Converted::Emit(ConnectValue(Described::new(document.slice_ref(payload), parsed))))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", format_args!("connect-json/1 tombstones={}", self.tombstones));
    }
}

/// The schema and the payload of an envelope; whitespace around each is left out.
fn parts(document: &[u8]) -> Result<(&[u8], &[u8]), Poison> {
    let refused = |why: &str| {
        let text = format!("not an envelope of connect's json: {why}; read plain json with `Json`");
        Poison::new(PoisonReason::Malformed, text)
    };
    if document.first() != Some(&b'{') {
        return Err(refused("it is no object"));
    }
    let (mut schema, mut payload) = (None, None);
    let mut at = skip_space(document, 1);
    while document.get(at) == Some(&b'"') {
        let end = skip_string(document, at);
        let start = skip_space(document, skip_space(document, end) + 1);
        let name = document.get(at..end).unwrap_or_default();
        let end = skip_value(document, start);
        let part = match name {
            b"\"schema\"" => &mut schema,
            b"\"payload\"" => &mut payload,
            _ => return Err(refused("it has other members than schema and payload")),
        };
        if part.replace(document.get(start..end).unwrap_or_default()).is_some() {
            return Err(refused("it has a member twice"));
        }
        at = skip_space(document, skip_space(document, end) + 1);
    }
    schema.zip(payload).ok_or_else(|| refused("it has no schema or no payload"))
}

/// The payload of an envelope, with its schema, if the record has one.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectValue(Described);

impl ConnectValue {
    /// The payload's text, as it came.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.text()
    }
}

impl Fields for ConnectValue {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        self.0.field(path)
    }
}

impl StructuredValue for ConnectValue {
    fn schema(&self) -> Option<&Arc<Schema>> {
        self.0.schema()
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        self.0.visit(visitor)
    }
}

impl JsonRow for ConnectValue {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        if self.0.schema().is_none() {
            out.extend_from_slice(self.0.text());
            return Ok(());
        }
        write_json(self, out)
    }
}

#[cfg(test)]
mod tests;
