//! JSON described by JSON Schema, in Confluent's wire format.

use std::sync::Arc;

use aqueduct_core::{
    Batch, Converted, Converter, FieldPath, FieldValue, Fields, Fingerprint, JsonRow, Poison, PoisonReason,
    Record, Schema, StageError, StructuredValue, ValueVisitor,
};
use async_trait::async_trait;
use bytes::Bytes;

use crate::json::JsonValue;
use crate::registry::{Framing, Registered, RegisteredSchema, SchemaSource};
use crate::shape::{self, Described, Parsed};
use crate::tombstones::Tombstones;

mod documents;
mod schema;
mod text;

/// Reads what Confluent's JSON Schema serializer writes: a schema's id, and JSON that the schema describes.
///
/// Of JSON Schema (drafts 4 to 2020-12) it reads what makes columns:
///
/// | schema | column |
/// | --- | --- |
/// | `type`: `boolean`, `string`, `integer`, `number` | truth values, text, whole numbers of 64 bits, `F64` |
/// | `format`: `date`, `time`, `date-time`, `uuid` | dates, times (µs, in UTC), timestamps (µs), UUIDs |
/// | `object` with `properties` | a struct; a property that is not `required` may be null |
/// | `object` with `additionalProperties` alone | a map |
/// | `array` with one schema as `items` | a list |
/// | `enum` and `const` of texts | an enum |
/// | `null` among `type`, `oneOf` or `anyOf` | the column may be null |
/// | `$ref` within the document, or into one that the registry lists as its reference, and `allOf` of one | what it leads to |
/// | `connect.type`, and `title` of a logical type | Connect's numbers, bytes, maps, decimals, dates, times |
/// | everything else, and a `$ref` back to what it is part of, or to what the registry does not have | JSON |
///
/// A `$ref` is a URI, relative to the `$id` around it; the name of a registry's reference is one, too, relative to the schema's
/// own. Anchors and parts of documents with an `$id` are known. No URI is ever fetched. A schema has up to 1 MiB with all it refers
/// to, 10 000 fields and 4 MiB of names when every reference is written out; what is deeper than 64 levels is JSON.
///
/// A value is checked as far as its columns need it, and no further: types, missing members, names of enums, members that
/// `additionalProperties: false` forbids. `minimum`, `pattern` and their like are not looked at; the serializer has done that.
/// What does not fit is a poison that names the member. Members without a column are left out of columns; as a row of JSON the
/// value is stored as it came.
///
/// ```
/// use aqueduct_converters::JsonSchema;
/// use aqueduct_converters::registry::{FixedSchemas, SchemaKind};
/// use aqueduct_core::{BatchBuilder, Converted, Converter, Offset, Permit, StructuredValue, Timestamp, TopicPartition};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let text = r#"{"type": "object", "properties": {"id": {"type": "integer"}, "day": {"type": "string", "format": "date"}},
///     "required": ["id"]}"#;
/// let converter = JsonSchema::with_registry(FixedSchemas::new().with(7, SchemaKind::Json, text));
///
/// let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 64);
/// batch.push(Offset::ZERO, Timestamp::None, None, Some(b"\0\0\0\0\x07{\"id\":1,\"day\":\"2021-06-28\"}"), []);
/// let batch = batch.build(Permit::unlimited());
/// converter.prepare(&batch).await?;
/// let Ok(Converted::Emit(value)) = converter.convert(&batch.get(0).unwrap()) else { panic!("it fits") };
/// assert_eq!(value.schema().unwrap().to_string(), "struct{id:int64,day:date?}");
/// # Ok::<(), aqueduct_core::StageError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct JsonSchema {
    tombstones: Tombstones,
    registered: Registered<Arc<Parsed>>,
}

impl JsonSchema {
    /// Asks `source` for schemas. Tombstones are poisons.
    pub fn with_registry(source: impl SchemaSource) -> Self {
        let parse = |schema: &RegisteredSchema, version| schema::registered(schema, version).map(Arc::new);
        Self { tombstones: Tombstones::default(), registered: Registered::new(source, parse) }
    }

    /// Where schema ids are found: in values and their header unless told otherwise; `Framing::keys()` to read keys.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.registered.set_framing(framing);
        self
    }

    /// Under which subject the version is looked up that values tell of their schema, by which
    /// [`Compatibility`](aqueduct_core::Compatibility) knows the newer of two. Without, they tell the version of a schema that is
    /// registered under one version only.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.registered.set_subject(subject.into());
        self
    }

    /// What a record without a value is.
    #[must_use]
    pub fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.tombstones = tombstones;
        self
    }
}

#[async_trait]
impl Converter for JsonSchema {
    type Output = JsonSchemaValue;

    async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
        self.registered.prepare(batch).await
    }

    fn convert(&self, record: &Record<'_>) -> Result<Converted<JsonSchemaValue>, Poison> {
        let Some(bytes) = record.value_bytes() else {
            return self.tombstones.absent(|| JsonSchemaValue(Described::null()));
        };
        let framed = self.registered.split(record)?;
        let payload = bytes.slice_ref(framed.payload());
        self.registered.read(record, framed.id(), |parsed| {
            let text = JsonValue::parse(payload)
                .map_err(|error| Poison::new(PoisonReason::Malformed, error.to_string()))?
                .into_bytes();
            shape::check(&parsed.shape, &text)?;
            Ok(Converted::Emit(JsonSchemaValue(Described::new(text, Some(Arc::clone(parsed))))))
        })
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        let Self { registered, tombstones } = self;
        parts.put("converter", format_args!("json-schema/2 {registered} tombstones={tombstones}"));
    }
}

/// JSON text with the schema that describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonSchemaValue(Described);

impl JsonSchemaValue {
    /// The text, on one line.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.text()
    }
}

impl Fields for JsonSchemaValue {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        self.0.field(path)
    }
}

impl StructuredValue for JsonSchemaValue {
    fn schema(&self) -> Option<&Arc<Schema>> {
        self.0.schema()
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        self.0.visit(visitor)
    }
}

impl JsonRow for JsonSchemaValue {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        out.extend_from_slice(self.0.text());
        Ok(())
    }

    fn json_bytes(&self) -> Option<&Bytes> {
        Some(self.0.text())
    }
}

#[cfg(test)]
mod tests;
