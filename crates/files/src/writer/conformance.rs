//! The sink passes core's conformance suite, whatever its objects look like.

use std::io::Read;
use std::sync::Arc;

use aqueduct_core::Record;
use aqueduct_core::testkit::{SinkHarness, StoredRow, sink_suite};
use bytes::Bytes;

use crate::testkit::MemoryTarget;
use crate::{Compression, Delimited, KeyTemplate, ObjectOptions, ObjectSink, TargetLimits};

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
            let mut rows = String::new();
            match self.options.compression {
                Compression::Gzip => {
                    flate2::read::MultiGzDecoder::new(&object.bytes[..]).read_to_string(&mut rows).unwrap();
                }
                _ => rows.push_str(std::str::from_utf8(&object.bytes).unwrap()),
            }
            stored.extend(rows.lines().map(|row| StoredRow::read(&key, row)));
        }
        stored
    }
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
