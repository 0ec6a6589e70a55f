//! Records through the converter.

use aqueduct_converters::{Avro, AvroValue};
use aqueduct_core::{BatchBuilder, Converted, Converter, Offset, Permit, Poison, Timestamp, TopicPartition};

/// Converts one record with that value.
pub(crate) fn convert(converter: &Avro, value: &[u8]) -> Result<AvroValue, Poison> {
    let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), value.len());
    builder.push(Offset::ZERO, Timestamp::None, None, Some(value), []);
    match converter.convert(&builder.build(Permit::unlimited()).get(0).unwrap())? {
        Converted::Emit(value) => Ok(value),
        Converted::Skip(reason) => panic!("{reason:?}"),
    }
}

pub(crate) fn fixed(schema: &str) -> Avro {
    Avro::fixed(schema).build().unwrap_or_else(|error| panic!("{error}: {schema}"))
}
