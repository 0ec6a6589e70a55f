//! The events in Avro: the same values, with the time as a number, in the wire format of schema registries.

use std::fmt;
use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Spec;

/// One event as its fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are what the JSON of an event says")]
pub struct LogEvent {
    pub seq: i64,
    pub partition: i32,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub service: String,
    pub level: String,
    pub user_id: String,
    pub path: String,
    pub status: i32,
    pub latency_ms: f64,
    pub request: Request,
    pub message: String,
    pub crc: String,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are what the JSON of an event says")]
pub struct Request {
    pub method: String,
    pub host: String,
    pub ip: String,
    pub bytes: i32,
    pub trace_id: String,
    pub user_agent: String,
}

/// The schema of [`LogEvent`], as a producer registers it.
pub const SCHEMA: &str = r#"{
    "type": "record", "name": "LogEvent", "namespace": "aqueduct.load", "fields": [
        {"name": "seq", "type": "long"},
        {"name": "partition", "type": "int"},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "service", "type": "string"},
        {"name": "level", "type": "string"},
        {"name": "user_id", "type": "string"},
        {"name": "path", "type": "string"},
        {"name": "status", "type": "int"},
        {"name": "latency_ms", "type": "double"},
        {"name": "request", "type": {"type": "record", "name": "Request", "fields": [
            {"name": "method", "type": "string"},
            {"name": "host", "type": "string"},
            {"name": "ip", "type": "string"},
            {"name": "bytes", "type": "int"},
            {"name": "trace_id", "type": "string"},
            {"name": "user_agent", "type": "string"}]}},
        {"name": "message", "type": "string"},
        {"name": "crc", "type": "string"}]}"#;

/// The id under which the schema is known; every value names it.
pub const SCHEMA_ID: u32 = 1;

/// What stands before the datum: a zero and the id.
pub const PREFIX_BYTES: usize = 5;

/// [`SCHEMA`], parsed.
pub fn schema() -> Result<&'static Schema> {
    static PARSED: LazyLock<Result<Schema, String>> =
        LazyLock::new(|| Schema::parse_str(SCHEMA).map_err(|error| error.to_string()));
    PARSED.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Writes events of a [`Spec`].
pub struct AvroEvents {
    writer: GenericDatumWriter<'static>,
    text: Vec<u8>,
}

impl AvroEvents {
    /// A writer that knows the schema.
    pub fn new() -> Result<Self> {
        let writer = GenericDatumWriter::builder(schema()?).human_readable(false).build()?;
        Ok(Self { writer, text: Vec::new() })
    }

    /// Replaces what is in `value` by event `seq`.
    pub fn write(&mut self, spec: &Spec, seq: u64, value: &mut Vec<u8>) -> Result<()> {
        let event = self.event(spec, seq)?;
        value.clear();
        value.push(0);
        value.extend_from_slice(&SCHEMA_ID.to_be_bytes());
        self.writer.write_ser(value, &event)?;
        Ok(())
    }

    fn event(&mut self, spec: &Spec, seq: u64) -> Result<LogEvent> {
        spec.write(seq, &mut self.text);
        let mut fields: Value = serde_json::from_slice(&self.text)?;
        let timestamp = fields.get_mut("timestamp").context("an event without a time")?;
        *timestamp = spec.time_of(seq).into();
        Ok(serde_json::from_value(fields)?)
    }
}

impl fmt::Debug for AvroEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AvroEvents").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::reader::datum::GenericDatumReader;

    use super::*;

    #[test]
    fn an_event_is_read_back_with_the_values_of_its_json() {
        let (spec, mut value) = (Spec::default(), Vec::new());
        let mut events = AvroEvents::new().unwrap();
        events.write(&spec, 7, &mut value).unwrap();
        assert_eq!(value.first_chunk(), Some(&[0, 0, 0, 0, 1]));
        let reader = GenericDatumReader::builder(schema().unwrap()).human_readable(false).build().unwrap();
        let mut datum = &value[PREFIX_BYTES..];
        let event: LogEvent = reader.read_deser(&mut datum).unwrap();
        assert!(datum.is_empty());
        let mut text = Vec::new();
        spec.write(7, &mut text);
        let json: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((event.seq, event.partition, event.timestamp), (7, 3, spec.time_of(7)));
        assert_eq!(json["request"]["trace_id"], event.request.trace_id);
        assert_eq!(json["message"], event.message);
        assert_eq!(json["latency_ms"], event.latency_ms);
    }
}
