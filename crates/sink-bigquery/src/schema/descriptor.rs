//! The protobuf type of a row.
//!
//! Self-contained, as the service wants it: no package, and the types of records inside of the one they belong to
//! (<https://cloud.google.com/bigquery/docs/write-api>, "Work with arrow and protocol buffers").

use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, FieldDescriptorProto};

use super::{Field, FieldType, Mode};

/// The type of rows of these columns. The number of a field is its own, or its place, from 1.
pub(crate) fn descriptor(name: &str, fields: &[Field]) -> DescriptorProto {
    let mut message = DescriptorProto { name: Some(name.to_owned()), ..DescriptorProto::default() };
    for (place, field) in (1..).zip(fields) {
        let number = i32::try_from(field.number).ok().filter(|number| *number > 0).unwrap_or(place);
        let mut of = FieldDescriptorProto {
            name: Some(field.name.clone()),
            number: Some(number),
            ..FieldDescriptorProto::default()
        };
        of.set_label(match field.mode {
            Mode::Nullable => Label::Optional,
            Mode::Required => Label::Required,
            Mode::Repeated => Label::Repeated,
        });
        of.set_type(field.kind.wire_type());
        let inner = match &field.kind {
            FieldType::Record(fields) => Some(fields.clone()),
            FieldType::Range(of) => Some(range_fields(of.element())),
            _ => None,
        };
        if let Some(fields) = inner {
            // By number and not by name: names of types and of fields share a scope.
            let name = format!("{name}_{number}");
            of.type_name = Some(name.clone());
            message.nested_type.push(descriptor(&name, &fields));
        }
        message.field.push(of);
    }
    message
}

/// A bound that is absent is unbounded.
pub(crate) fn range_fields(element: FieldType) -> Vec<Field> {
    vec![Field::nullable("start", element.clone()), Field::nullable("end", element)]
}
