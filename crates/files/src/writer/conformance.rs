//! The sink passes core's conformance suite, whatever its objects look like.

use std::io::Read;
use std::sync::Arc;

use aqueduct_core::testkit::{SinkHarness, StoredRow, sink_suite};
use aqueduct_core::{Envelope, Fingerprint, JsonRow, Poison, PoisonReason, Record};
use bytes::Bytes;

use crate::testkit::{MemoryTarget, StoredObject};
use crate::{
    BuiltRows, Compression, Delimited, Encoded, Encoder, FileBuilder, FileKind, Format, JsonArray,
    KeyTemplate, ObjectOptions, ObjectSink, RecordKeys, RowEncoder, TargetLimits,
};

/// Processes that write to one store in memory.
struct Harness {
    target: Arc<MemoryTarget>,
    options: ObjectOptions,
}

impl SinkHarness for Harness {
    type Value = Bytes;
    type Sink = ObjectSink<Delimited, Arc<MemoryTarget>>;

    async fn sink(&self) -> Self::Sink {
        ObjectSink::new(Delimited::lines(), Arc::clone(&self.target), self.options.clone()).unwrap()
    }

    fn value(&self, record: &Record<'_>) -> Bytes {
        record.value_bytes().unwrap()
    }

    fn poison(&self, _record: &Record<'_>) -> Option<Bytes> {
        Some(Bytes::from("two\nrows"))
    }

    async fn stored(&self) -> Vec<StoredRow> {
        let mut stored = Vec::new();
        for (key, object) in self.target.objects() {
            let rows = text(&object, self.options.compression);
            stored.extend(rows.lines().map(|row| StoredRow::read(&key, row)));
        }
        stored
    }
}

fn text(object: &StoredObject, codec: Compression) -> String {
    let mut text = String::new();
    match codec {
        Compression::Gzip => {
            flate2::read::MultiGzDecoder::new(&object.bytes[..]).read_to_string(&mut text).unwrap();
        }
        _ => text.push_str(std::str::from_utf8(&object.bytes).unwrap()),
    }
    text
}

async fn passes(limits: TargetLimits, options: ObjectOptions, cases: usize) {
    let target = Arc::new(MemoryTarget::with_limits(limits));
    let report = sink_suite(Harness { target, options }).await;
    assert!(report.ran.len() >= cases, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_objects_pass() {
    passes(TargetLimits::default(), ObjectOptions::default(), 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_many_parts_pass() {
    let limits = TargetLimits { part_bytes_min: 1 << 10, ..TargetLimits::default() };
    let options = ObjectOptions::default().with_part_bytes(1 << 10).with_target_object_bytes(20_000);
    passes(limits, options.clone(), 20).await;
    passes(limits, options.with_compression(Compression::Gzip), 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_conditions_passes_what_it_can() {
    let limits = TargetLimits { conditional_create: false, ..TargetLimits::default() };
    passes(limits, ObjectOptions::default(), 19).await;
}

/// Names with the end are no claim on a record, but everything else holds: whoever takes over cuts where the intent says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_with_the_end_pass_what_they_can() {
    let keys = KeyTemplate::new("topics").with_file_name("{topic}+{partition}+{start}-{end}");
    passes(TargetLimits::default(), ObjectOptions::default().with_keys(keys), 19).await;
}

/// Arrays of rows whose shapes take turns, by the offset.
#[derive(Clone, Debug)]
struct Turns(u32);

/// JSON text, or none.
struct Text(Option<Bytes>);

impl JsonRow for Text {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        out.extend_from_slice(b"half a row");
        Err(Poison::new(PoisonReason::Malformed, "no text"))
    }

    fn json_bytes(&self) -> Option<&Bytes> {
        self.0.as_ref()
    }
}

impl FileKind for Turns {
    fn extension(&self) -> &'static str {
        ".json"
    }

    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("format", "turns");
    }
}

impl Format<Text> for Turns {
    fn encoder(&self) -> Encoder<Text> {
        Encoder::built(self.clone())
    }
}

impl RowEncoder<Text> for Turns {
    fn encode(&mut self, envelope: &Envelope<'_, Text>, out: &mut Vec<u8>) -> Result<Encoded, Poison> {
        let shape = u32::try_from(envelope.record.offset().get() % i64::from(self.0)).unwrap();
        Ok(JsonArray::new().encode(envelope, out)?.with_shape(shape))
    }
}

impl BuiltRows<Text> for Turns {
    fn finish(&mut self) -> Arc<dyn FileBuilder> {
        BuiltRows::<Text>::finish(&mut JsonArray::new())
    }
}

/// Processes that write arrays.
struct Arrays {
    target: Arc<MemoryTarget>,
    options: ObjectOptions,
    shapes: u32,
}

impl SinkHarness for Arrays {
    type Value = Text;
    type Sink = ObjectSink<Turns, Arc<MemoryTarget>>;

    async fn sink(&self) -> Self::Sink {
        ObjectSink::new(Turns(self.shapes), Arc::clone(&self.target), self.options.clone()).unwrap()
    }

    fn value(&self, record: &Record<'_>) -> Text {
        Text(record.value_bytes())
    }

    fn poison(&self, _record: &Record<'_>) -> Option<Text> {
        Some(Text(None))
    }

    async fn stored(&self) -> Vec<StoredRow> {
        let mut stored = Vec::new();
        let objects = self.target.objects();
        for (key, object) in &objects {
            let file = text(object, self.options.compression);
            if key.contains(".keys.") || key.contains(".headers.") {
                continue;
            }
            let rows: Vec<serde_json::Value> = serde_json::from_str(&file).unwrap();
            // What is beside it may be missing as long as the segment is not published.
            for (beside, line) in [(".keys.json", "null"), (".headers.json", "[]")] {
                let beside = objects.get(&key.replace(".json", beside));
                let lines = beside.map(|object| text(object, self.options.compression));
                assert!(lines.is_none_or(|lines| lines == format!("{line}\n").repeat(rows.len())), "{key}");
            }
            stored.extend(rows.iter().map(|row| StoredRow::read(key, row.to_string())));
        }
        stored
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_beside_others_pass() {
    let limits = TargetLimits { part_bytes_min: 1 << 10, ..TargetLimits::default() };
    let parts = ObjectOptions::default().with_part_bytes(1 << 10).with_target_object_bytes(20_000);
    for options in [ObjectOptions::default(), parts.with_compression(Compression::Gzip)] {
        let options = options.with_record_keys(RecordKeys::json()).with_record_headers(true);
        let target = Arc::new(MemoryTarget::with_limits(limits));
        let report = sink_suite(Arrays { target, options, shapes: 2 }).await;
        assert!(report.ran.len() >= 20, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_built_pass() {
    let small = TargetLimits { part_bytes_min: 1 << 10, ..TargetLimits::default() };
    let parts = ObjectOptions::default().with_part_bytes(1 << 10).with_target_object_bytes(20_000);
    let cases = [
        (1, TargetLimits::default(), ObjectOptions::default()),
        (2, small, parts.clone()),
        (1, small, parts.with_compression(Compression::Gzip)),
    ];
    for (shapes, limits, options) in cases {
        let target = Arc::new(MemoryTarget::with_limits(limits));
        let report = sink_suite(Arrays { target, options, shapes }).await;
        assert!(report.ran.len() >= 20, "{report}");
    }
}
