//! The stages the tests compose.

use std::sync::Arc;

use aqueduct_core::testkit::{MemorySink, MemoryStore, ScriptedBroker, ScriptedSource};
use aqueduct_core::{
    Builder, Converted, Converter, Fingerprint, Partitioner, Pipeline, Poison, PoisonReason, Record,
    RoutePath, SkipReason, TopicPartition,
};
use bytes::Bytes;

/// Passes values on: tombstones are skipped, the value `bad` is poison, `boom` panics.
#[derive(Debug)]
pub(crate) struct Raw;

impl Converter for Raw {
    type Output = Bytes;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Bytes>, Poison> {
        match record.value_bytes() {
            None => Ok(Converted::Skip(SkipReason::Tombstone)),
            Some(value) if value == "bad" => Err(Poison::new(PoisonReason::Malformed, "the value is bad")),
            Some(value) if value == "boom" => panic!("a bug in a converter"),
            Some(value) => Ok(Converted::Emit(value)),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "raw/1");
    }
}

/// Routes by the value's first byte, under a name that tells layouts apart.
#[derive(Debug)]
pub(crate) struct ByFirstByte(pub(crate) &'static str);

impl Partitioner<Bytes> for ByFirstByte {
    fn route(&self, _record: &Record<'_>, value: &Bytes, path: &mut RoutePath) -> Result<(), Poison> {
        match value.first() {
            Some(b'!') => Err(Poison::new(PoisonReason::InvalidField, "no route for this value")),
            Some(byte) => path.push_field("first", &char::from(*byte).to_string()),
            None => path.push_field("first", ""),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", self.0);
    }
}

/// A broker with one partition holding `values`, and a store.
pub(crate) fn world<'a>(
    values: impl IntoIterator<Item = &'a str>,
) -> (ScriptedBroker, MemoryStore, TopicPartition) {
    let broker = ScriptedBroker::new();
    let lane = TopicPartition::new("orders", 0);
    broker.extend(&lane, values.into_iter().map(|value| Bytes::copy_from_slice(value.as_bytes())));
    (broker, MemoryStore::new(), lane)
}

/// `count` values over five routes.
pub(crate) fn values(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{}-{index}", ["a", "b", "c", "d", "e"][index % 5])).collect()
}

pub(crate) fn many(count: usize) -> (ScriptedBroker, MemoryStore, TopicPartition) {
    let values = values(count);
    world(values.iter().map(String::as_str))
}

/// A pipeline from `source` into `store`, in a scratch directory of its own, with nothing optional set.
pub(crate) fn pipeline(
    source: ScriptedSource,
    store: &MemoryStore,
) -> Builder<ScriptedSource, Raw, ByFirstByte, MemorySink<Bytes>> {
    pipeline_into(source, MemorySink::bytes(store))
}

pub(crate) fn pipeline_into<K: aqueduct_core::Sink<Bytes>>(
    source: ScriptedSource,
    sink: K,
) -> Builder<ScriptedSource, Raw, ByFirstByte, K> {
    Pipeline::from(source).convert(Raw).partition(ByFirstByte("first/1")).sink(sink).spool_dir(scratch())
}

/// A directory that goes with the test's process.
pub(crate) fn scratch() -> std::path::PathBuf {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static ROOT: LazyLock<Arc<tempfile::TempDir>> = LazyLock::new(|| Arc::new(tempfile::tempdir().unwrap()));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    ROOT.path().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string())
}

/// What the whole log holds, if every record is stored once.
pub(crate) fn all(count: i64) -> Vec<i64> {
    (0..count).collect()
}

pub(crate) async fn never() {
    std::future::pending::<()>().await;
}
