//! Avro datums and schemas as nobody should send them, in bounded time and memory.

use std::time::{Duration, Instant};

use aqueduct_converters::{Avro, AvroValue};
use aqueduct_core::testkit::check_corpus;
use aqueduct_core::{
    BatchBuilder, Converted, Converter, FieldPath, Fields, JsonRow, Offset, Permit, Poison, Timestamp,
    TopicPartition,
};

use super::assert_memory_is_bounded;

fn convert(converter: &Avro, datum: &[u8]) -> Result<AvroValue, Poison> {
    let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), datum.len());
    builder.push(Offset::ZERO, Timestamp::None, None, Some(datum), []);
    match converter.convert(&builder.build(Permit::unlimited()).get(0).unwrap())? {
        Converted::Emit(value) => Ok(value),
        Converted::Skip(_) => panic!("nothing of a datum that is there"),
    }
}

/// Each file is a schema, a newline, and a datum.
fn verdict(file: &[u8]) -> String {
    let end = file.iter().position(|&byte| byte == b'\n').unwrap();
    let schema = String::from_utf8(file[..end].to_vec()).unwrap();
    let converter = match Avro::fixed(schema).build() {
        Ok(converter) => converter,
        Err(refused) => return refused.to_string(),
    };
    let value = match convert(&converter, &file[end + 1..]) {
        Ok(value) => value,
        Err(poison) => return poison.to_string(),
    };
    let found = value.field(&FieldPath::parse("a").unwrap()).map_or("", |_| ", a is there");
    let mut row = Vec::new();
    match value.write_json(&mut row) {
        Ok(()) if row.len() > 60 => format!("{} bytes{found}", row.len()),
        Ok(()) => String::from_utf8(row).unwrap() + found,
        Err(poison) => format!("no json: {poison}{found}"),
    }
}

#[test]
fn every_file_gets_its_verdict_in_bounded_time_and_memory() {
    let mut slowest = (Duration::ZERO, String::new());
    check_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/avro"), |name, file| {
        let started = Instant::now();
        let verdict = verdict(&file);
        slowest = slowest.clone().max((started.elapsed(), name.to_owned()));
        verdict
    });
    // Milliseconds, on a machine that does nothing else; what a bomb announces would take hours.
    assert!(slowest.0 < Duration::from_secs(20), "{slowest:?}");
    assert_memory_is_bounded();
}
