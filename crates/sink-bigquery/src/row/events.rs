//! Values as lists of events, and rows as a reader sees them that knows nothing of the encoder.

use std::sync::Arc;

use aqueduct_core::{Composite, FieldValue, Poison, Schema, StructuredValue, ValueVisitor};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use serde_json::Value;

/// An event, so that a test can give any sequence of them.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Scalar(FieldValue<'static>),
    Begin(Composite),
    Key(String),
    End,
}

impl Event {
    pub(crate) fn key(name: &str) -> Self {
        Self::Key(name.to_owned())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Events {
    pub(crate) schema: Option<Arc<Schema>>,
    pub(crate) events: Vec<Event>,
}

impl StructuredValue for Events {
    fn schema(&self) -> Option<&Arc<Schema>> {
        self.schema.as_ref()
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        for event in &self.events {
            match event {
                Event::Scalar(value) => visitor.scalar(value.clone())?,
                Event::Begin(composite) => visitor.begin(*composite)?,
                Event::Key(name) => visitor.key(name)?,
                Event::End => visitor.end()?,
            }
        }
        Ok(())
    }
}

/// The type of rows.
pub(crate) fn reader(descriptor: DescriptorProto) -> MessageDescriptor {
    let file = FileDescriptorProto {
        name: Some("row.proto".into()),
        message_type: vec![descriptor],
        syntax: Some("proto2".into()),
        ..FileDescriptorProto::default()
    };
    let pool = DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file: vec![file] }).unwrap();
    pool.get_message_by_name("Row").unwrap()
}

/// One row.
pub(crate) fn read(reader: &MessageDescriptor, row: &[u8]) -> Value {
    let message = DynamicMessage::decode(reader.clone(), row).unwrap();
    assert_eq!(message.unknown_fields().count(), 0, "{message:?}");
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
}
