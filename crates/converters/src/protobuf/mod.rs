//! Protobuf: checked once, kept as it came, gone through with its message type in hand.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aqueduct_core::{
    Batch, BytesRow, Converted, Converter, FieldPath, FieldValue, Fields, Fingerprint, JsonRow, Poison,
    Record, Schema, StageError, StructuredValue, ValueVisitor, write_json,
};
use async_trait::async_trait;
use bytes::Bytes;

use crate::nobody::Nobody;
use crate::registry::{Framing, Registered, RegisteredSchema, SchemaSource};
use crate::tombstones::Tombstones;
use plan::Plan;
use source::FileTypes;

mod lookup;
mod plan;
mod scalar;
mod source;
mod walk;
mod wire;

/// Reads Protobuf messages: in Confluent's wire format, with schemas from a registry, or plain ones of a type that is told.
///
/// The bytes are checked once and kept; nothing is built of them.
///
/// | Protobuf | column |
/// | --- | --- |
/// | `double`, `float`, integers, `bool`, `string`, `bytes` | `F64`, `F32`, whole numbers with or without sign, and so on |
/// | enums | text: the name, or the digits of a number without one |
/// | messages | structs; null if absent. Without fields, and where they come back to themselves: JSON |
/// | fields with presence: `optional`, members of a `oneof`, proto2 | null if absent |
/// | other fields | never null: their default if absent |
/// | `repeated` | lists |
/// | `map` | maps; keys that are no text become it |
/// | `google.protobuf.Timestamp` | timestamps in microseconds, UTC; nanoseconds are cut |
/// | `google.protobuf.Duration` | decimals of seconds, with nine digits behind the point |
/// | wrappers such as `google.protobuf.Int64Value` | the scalar; null if absent |
/// | `Struct`, `Value`, `ListValue` | the JSON they stand for |
/// | `Any` | JSON of `@type` and the bytes |
///
/// Comments on fields are the columns' documentation. Unknown fields are passed over. A poison is what is not well-formed, text
/// that is not UTF-8, a field that is encoded as something else than its type, a `required` field that is missing, times out of
/// range, more than [`NESTING_MAX`](aqueduct_core::NESTING_MAX) levels, and a message whose columns' names and symbols come to more
/// than 1 MiB and 256 bytes for each of its own: members that are absent take no bytes and are shown all the same.
///
/// ```
/// use aqueduct_converters::Protobuf;
/// use aqueduct_core::{BatchBuilder, Converted, Converter, JsonRow, Offset, Permit, StructuredValue, Timestamp, TopicPartition};
///
/// let converter = Protobuf::proto(
///     r#"syntax = "proto3"; package shop; message Order { uint32 id = 1; optional string note = 2; }"#,
///     "Order",
/// )?;
/// let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 8);
/// batch.push(Offset::ZERO, Timestamp::None, None, Some(b"\x08\x2a"), []);
/// let batch = batch.build(Permit::unlimited());
/// let Ok(Converted::Emit(value)) = converter.convert(&batch.get(0).unwrap()) else { panic!("an order") };
/// assert_eq!(value.schema().unwrap().to_string(), "shop.Order struct{id:uint32,note:string?}");
/// let mut row = Vec::new();
/// value.write_json(&mut row)?;
/// assert_eq!(row, br#"{"id":42}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Protobuf {
    tombstones: Tombstones,
    messages: Messages,
}

#[derive(Clone, Debug)]
enum Messages {
    Registered(Registered<Arc<FileTypes>>),
    Plain(Arc<Plan>),
}

/// Why a message type cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the protobuf schema cannot be used: {why}")]
pub struct ProtobufError {
    why: String,
}

impl Protobuf {
    /// Values of Confluent's wire format: a schema's id, which message of the schema it is, and the message. Asks `source` for
    /// schemas. Tombstones are poisons.
    ///
    /// Imports are the schema's references; Google's well-known types and the types that Confluent's own serializers bring along
    /// need none.
    pub fn with_registry(source: impl SchemaSource) -> Self {
        let parse = |schema: &RegisteredSchema, version| FileTypes::registered(schema, version).map(Arc::new);
        let messages = Messages::Registered(Registered::new(source, parse));
        Self { tombstones: Tombstones::default(), messages }
    }

    /// Plain messages of the type with that full name, such as `shop.Order`, out of an encoded `FileDescriptorSet`: what `protoc
    /// --include_imports --descriptor_set_out` writes.
    ///
    /// # Errors
    /// If it is no descriptor set, or has no such message.
    pub fn descriptor_set(set: &[u8], message: &str) -> Result<Self, ProtobufError> {
        let message = source::in_set(set, message).map_err(|why| ProtobufError { why })?;
        Self::plain(&message)
    }

    /// Plain messages of the type with that name, in the text of a `.proto` file. It may import Google's well-known types; for
    /// other imports take a [descriptor set](Self::descriptor_set).
    ///
    /// # Errors
    /// If it does not compile, or has no such message.
    pub fn proto(text: &str, message: &str) -> Result<Self, ProtobufError> {
        let file = source::compile(text, HashMap::new());
        let message =
            file.and_then(|file| source::in_file(&file, message)).map_err(|why| ProtobufError { why })?;
        Self::plain(&message)
    }

    fn plain(message: &prost_reflect::MessageDescriptor) -> Result<Self, ProtobufError> {
        let plan = plan::plan(message, None).map_err(|why| ProtobufError { why })?;
        Ok(Self { tombstones: Tombstones::default(), messages: Messages::Plain(Arc::new(plan)) })
    }

    /// The schema of all values, if one type is told for all.
    pub(crate) fn known_schema(&self) -> Option<&Schema> {
        match &self.messages {
            Messages::Plain(plan) => Some(&plan.schema),
            Messages::Registered(_) => None,
        }
    }

    /// Where schema ids are found: in values and their header unless told otherwise; `Framing::keys()` to read keys. Plain messages
    /// have no ids.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        if let Messages::Registered(registered) = &mut self.messages {
            registered.set_framing(framing);
        }
        self
    }

    /// Under which subject the version is looked up that values tell of their schema, by which
    /// [`Compatibility`](aqueduct_core::Compatibility) knows the newer of two. Without, they tell the version of a schema that is
    /// registered under one version only. Plain messages have none.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        if let Messages::Registered(registered) = &mut self.messages {
            registered.set_subject(subject.into());
        }
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
impl Converter for Protobuf {
    type Output = ProtobufValue;

    async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
        match &self.messages {
            Messages::Registered(registered) => registered.prepare(batch).await,
            Messages::Plain(_) => Ok(()),
        }
    }

    fn convert(&self, record: &Record<'_>) -> Result<Converted<ProtobufValue>, Poison> {
        let Some(bytes) = record.value_bytes() else {
            return self.tombstones.absent(|| ProtobufValue { message: Bytes::new(), plan: None });
        };
        let (message, plan) = match &self.messages {
            Messages::Plain(plan) => (bytes, Arc::clone(plan)),
            Messages::Registered(registered) => {
                let framed = registered.split(record)?;
                let (indexes, message) = framed.message()?;
                let plan = registered.read(record, framed.id(), |types| types.plan(indexes))?;
                (bytes.slice_ref(message), plan)
            }
        };
        walk::visit(&plan, &message, &mut Nobody)?;
        Ok(Converted::Emit(ProtobufValue { message, plan: Some(plan) }))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        let tombstones = self.tombstones;
        match &self.messages {
            Messages::Registered(registered) => {
                parts.put("converter", format_args!("protobuf/3 {registered} tombstones={tombstones}"));
            }
            // The type decides what is stored.
            Messages::Plain(plan) => {
                let digest = plan.digest();
                parts.put("converter", format_args!("protobuf/2 {digest:016x} tombstones={tombstones}"));
            }
        }
    }
}

/// One message, with its type.
#[derive(Clone)]
pub struct ProtobufValue {
    message: Bytes,
    /// Nothing for a tombstone.
    plan: Option<Arc<Plan>>,
}

impl ProtobufValue {
    /// The message as it came, without what stood in front of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.message
    }
}

impl fmt::Debug for ProtobufValue {
    /// Never prints a payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.schema().and_then(|schema| schema.name());
        f.debug_struct("ProtobufValue")
            .field("len", &self.message.len())
            .field("type", &name)
            .finish_non_exhaustive()
    }
}

impl PartialEq for ProtobufValue {
    /// Whether bytes and schema are the same.
    fn eq(&self, other: &Self) -> bool {
        self.message == other.message && self.schema() == other.schema()
    }
}

impl Fields for ProtobufValue {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        lookup::field(self.plan.as_ref()?, &self.message, path.segments())
    }
}

impl StructuredValue for ProtobufValue {
    fn schema(&self) -> Option<&Arc<Schema>> {
        self.plan.as_ref().map(|plan| &plan.schema)
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        match &self.plan {
            Some(plan) => walk::visit(plan, &self.message, visitor),
            None => visitor.scalar(FieldValue::Null),
        }
    }
}

impl JsonRow for ProtobufValue {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        write_json(self, out)
    }
}

impl BytesRow for ProtobufValue {
    fn row_bytes(&self) -> &Bytes {
        &self.message
    }
}

#[cfg(test)]
mod tests;
