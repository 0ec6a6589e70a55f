//! Datums and schemas as nobody should send them, in bounded time and memory.

use std::time::{Duration, Instant};

use aqueduct_converters::Avro;
use aqueduct_core::testkit::check_corpus;
use aqueduct_core::{FieldPath, Fields, JsonRow};

use super::convert;

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
    if let Some(peak) = peak_memory() {
        assert!(peak < 256 << 20, "the process had {} MiB", peak >> 20);
    }
}

/// The most memory this process ever had, where the kernel says so.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}
