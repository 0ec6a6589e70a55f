//! Segments written to a store in memory, through the public traits.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aqueduct_core::{
    Batch, BatchBuilder, Begun, Class, ErrorChain, Fingerprint, Intent, JsonRow, LocalDisk, Offset, Permit,
    RoutePath, RouteTable, Sink, Spool, Timestamp,
};
use bytes::Bytes;
use proptest::prelude::*;

mod beside;
mod built;
#[cfg(all(feature = "parquet", feature = "avro", feature = "csv"))]
mod columns;
mod damage;
mod excerpts;
mod leftovers;
mod partitions;
mod segments;
mod take_over;

use super::*;
use crate::testkit::{Call, Fault, MemoryTarget};
use crate::{
    Compression, Delimited, Format, JsonLines, KeyTemplate, ObjectMeta, ObjectOptions, ObjectSink, RawBytes,
    TargetLimits,
};

/// A value that is bytes already, or has to be encoded.
#[derive(Debug)]
enum Value {
    Shared(Bytes),
    Encoded(Bytes),
    /// Writes half a row and then fails.
    Poison,
}

impl JsonRow for Value {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        match self {
            Self::Shared(bytes) | Self::Encoded(bytes) => out.extend_from_slice(bytes),
            Self::Poison => {
                out.extend_from_slice(b"half a row");
                return Err(Poison::new(PoisonReason::Malformed, "as scripted"));
            }
        }
        Ok(())
    }

    fn json_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Shared(bytes) => Some(bytes),
            _ => None,
        }
    }
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap()
}

/// One row of a test: its route, and how long its value is.
type Spec = (u8, usize);

fn value(offset: i64, length: usize) -> Bytes {
    let text = format!("{{\"offset\":{offset}}}");
    text.bytes()
        .chain((0..).map(|i: u64| b'a' + (i.wrapping_mul(offset.unsigned_abs() + 7) % 26) as u8))
        .take(length)
        .collect()
}

struct Rig {
    directory: tempfile::TempDir,
    spool: Spool,
    pool: Pool,
}

impl Rig {
    fn new(publish_bytes: u64) -> Self {
        Self::on(Arc::new(LocalDisk), publish_bytes)
    }

    fn on(disk: Arc<dyn aqueduct_core::Disk>, publish_bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path(), "test", disk, Pool::new(1 << 30)).unwrap();
        Self { directory, spool, pool: Pool::new(publish_bytes) }
    }

    fn start(&self, partition: i32, start: i64) -> SegmentStart {
        SegmentStart {
            lane: TopicPartition::new("t", partition),
            start: Offset::new(start),
            pinned: None,
            opened_at_ms: 0,
            layout: 77,
            scratch: self.spool.scratch(),
            memory: self.pool.clone(),
        }
    }

    fn scratch_files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.directory.path().join("aqueduct-spool-test")).unwrap();
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| !path.ends_with("aqueduct-spool"));
        files.sort();
        files
    }
}

fn flip(path: &Path, position: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
}

/// Small sizes, so that a few kilobytes are a large object of several parts.
fn limits() -> TargetLimits {
    TargetLimits { part_bytes_min: 4 << 10, parts_max: 200, ..TargetLimits::default() }
}

fn options() -> ObjectOptions {
    ObjectOptions::default().with_part_bytes(4 << 10).with_target_object_bytes(40 << 10)
}

type TestSink = ObjectSink<JsonLines, Arc<MemoryTarget>>;

fn sink(target: &Arc<MemoryTarget>, options: ObjectOptions) -> TestSink {
    ObjectSink::new(JsonLines::new(), Arc::clone(target), options).unwrap()
}

async fn begin(sink: &impl Sink<Value>, at: SegmentStart) -> Box<dyn SegmentWriter<Value>> {
    match sink.begin(at).await.unwrap() {
        Begun::Fill(writer) => writer,
        Begun::AlreadyPublished(_) => panic!("this sink redoes"),
    }
}

fn one_batch(partition: i32, first: i64, rows: &[Spec]) -> Batch {
    let mut builder = BatchBuilder::new(TopicPartition::new("t", partition), 64);
    for (offset, (_, length)) in (first..).zip(rows) {
        builder.push(Offset::new(offset), Timestamp::None, None, Some(&value(offset, *length)), []);
    }
    builder.build(Permit::unlimited())
}

/// Appends rows from `first` on, in batches of `sizes` (repeated), every other value encoded anew.
async fn fill(
    writer: &mut dyn SegmentWriter<Value>,
    partition: i32,
    first: i64,
    rows: &[Spec],
    sizes: &[usize],
) {
    let mut table = RouteTable::new();
    let mut sizes = sizes.iter().cycle();
    let mut done = 0;
    while done < rows.len() {
        let size = (*sizes.next().unwrap()).max(1).min(rows.len() - done);
        let slice = &rows[done..done + size];
        let batch = one_batch(partition, first + count(done), slice);
        for (record, (route, _)) in batch.iter().zip(slice) {
            let mut path = RoutePath::default();
            path.push_field("r", &route.to_string()).unwrap();
            let bytes = record.value_bytes().unwrap();
            let value =
                if record.offset().get() % 2 == 0 { Value::Shared(bytes) } else { Value::Encoded(bytes) };
            writer
                .append(Envelope { record: &record, route: table.intern(&path), path: &path, value })
                .unwrap();
        }
        writer.spill().await.unwrap();
        done += size;
    }
}

async fn stage(writer: &mut dyn SegmentWriter<Value>, first: i64, rows: &[Spec]) {
    let range = OffsetRange::new(Offset::new(first), Offset::new(first + count(rows.len()))).unwrap();
    assert!(writer.stage(range).await.unwrap().token.is_empty(), "a sink that redoes has no token");
}

/// What should be there: rows split by bytes, per route.
fn model(
    partition: i32,
    first: i64,
    rows: &[Spec],
    object_bytes: usize,
    extension: &str,
) -> BTreeMap<String, Vec<u8>> {
    let mut objects = BTreeMap::new();
    let mut open: BTreeMap<u8, String> = BTreeMap::new();
    for (offset, (route, length)) in (first..).zip(rows) {
        let mut row = value(offset, *length).to_vec();
        row.push(b'\n');
        let fits = open.get(route).is_some_and(|key| {
            let object: &Vec<u8> = &objects[key];
            object.is_empty() || object.len() + row.len() <= object_bytes
        });
        if !fits {
            open.insert(*route, format!("topics/t/r={route}/t+{partition}+{offset:010}.json{extension}"));
        }
        objects.entry(open[route].clone()).or_insert_with(Vec::new).extend_from_slice(&row);
    }
    objects
}

fn decoded(target: &MemoryTarget, codec: Compression) -> BTreeMap<String, Vec<u8>> {
    let decode = |bytes: &[u8]| {
        let mut rows = Vec::new();
        match codec {
            Compression::None => rows.extend_from_slice(bytes),
            Compression::Gzip => {
                flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut rows).unwrap();
            }
            Compression::Zstd => rows = zstd::stream::decode_all(bytes).unwrap(),
        }
        rows
    };
    target.objects().into_iter().map(|(key, object)| (key, decode(&object.bytes))).collect()
}

/// Routes of very different sizes: a hot one of several objects of many parts, some middling, some of one row.
fn mixed() -> Vec<Spec> {
    (0..900).map(|i| (if i % 3 == 0 { u8::try_from(i % 41).unwrap() } else { 0 }, 40 + i % 300)).collect()
}

fn assert_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (key, rows) in expected {
        assert!(&found[key] == rows, "{key} has other rows");
    }
}

#[tokio::test]
async fn a_segment_becomes_its_objects() {
    for codec in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
        let sink = sink(&target, options().with_compression(codec));
        let rows = mixed();
        let mut writer = begin(&sink, rig.start(3, 100)).await;
        fill(&mut *writer, 3, 100, &rows, &[250, 1, 40]).await;
        stage(&mut *writer, 100, &rows).await;
        assert!(target.calls().is_empty(), "nothing reaches the target before publication");
        let published = writer.publish().await.unwrap();
        let expected = model(3, 100, &rows, 40 << 10, codec.extension());
        assert_same(&decoded(&target, codec), &expected);

        let calls = target.calls();
        assert!(codec != Compression::None || calls.iter().any(|(call, _)| *call == Call::UploadPart));
        let first = &published.objects[0];
        assert_eq!((first.key.as_str(), first.range.start()), (calls[0].1.as_str(), Offset::new(100)));
        assert_eq!(published.objects.len(), expected.len());
        assert_eq!(published.objects.iter().map(|object| object.rows).sum::<u64>(), rows.len() as u64);
        let stored = target.objects();
        for object in &published.objects {
            assert_eq!(object.bytes, stored[&object.key].bytes.len() as u64);
        }
        assert_eq!(
            writer.publish().await.unwrap().objects,
            published.objects,
            "publishing again changes nothing"
        );
        assert_eq!(target.calls().len(), calls.len());
        assert!(rig.scratch_files().is_empty(), "scratch goes once all is visible");
        assert_eq!(rig.pool.used(), 0);
    }
}

#[tokio::test]
async fn an_empty_segment_publishes_nothing() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::new()));
    let mut writer = begin(&sink(&target, ObjectOptions::default()), rig.start(0, 5)).await;
    writer.spill().await.unwrap();
    stage(&mut *writer, 5, &[(0, 0)]).await;
    assert!(writer.publish().await.unwrap().objects.is_empty());
    assert!(target.calls().is_empty() && rig.scratch_files().is_empty());
}

#[tokio::test]
async fn objects_without_bytes_are_files_of_their_codec() {
    for codec in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
        let options = options().with_compression(codec);
        let sink = ObjectSink::new(RawBytes::new(), Arc::clone(&target), options).unwrap();
        let Begun::Fill(mut writer) = Sink::<Bytes>::begin(&sink, rig.start(0, 0)).await.unwrap() else {
            panic!("this sink redoes")
        };
        let (mut table, batch) = (RouteTable::new(), one_batch(0, 0, &[(0, 0), (1, 3), (2, 0), (3, 0)]));
        for record in batch.iter() {
            let mut path = RoutePath::default();
            path.push(&record.offset().to_string()).unwrap();
            let (route, value) = (table.intern(&path), record.value_bytes().unwrap());
            writer.append(Envelope { record: &record, route, path: &path, value }).unwrap();
        }
        writer.stage(OffsetRange::new(Offset::ZERO, Offset::new(4)).unwrap()).await.unwrap();
        writer.publish().await.unwrap();
        let stored = decoded(&target, codec);
        assert_eq!(stored.values().map(Vec::len).collect::<Vec<_>>(), [0, 3, 0, 0]);
        assert!(target.objects().values().all(|object| object.bytes.len() > 3 || codec == Compression::None));
    }
}

#[tokio::test]
async fn a_poison_leaves_no_trace() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::new()));
    let mut writer = begin(&sink(&target, ObjectOptions::default()), rig.start(0, 0)).await;
    let batch = one_batch(0, 0, &[(0, 20), (0, 20), (0, 20)]);
    let (mut table, mut path) = (RouteTable::new(), RoutePath::default());
    path.push("r").unwrap();
    let route = table.intern(&path);
    for (record, value) in
        batch.iter().zip([Value::Encoded(value(0, 20)), Value::Poison, Value::Encoded(value(2, 20))])
    {
        let refused = matches!(value, Value::Poison);
        assert_eq!(writer.append(Envelope { record: &record, route, path: &path, value }).is_err(), refused);
    }
    assert_eq!(writer.encoded_bytes(), 42);
    // A route whose keys would be too long is refused with its record; the number is free for the next route.
    let mut long = RoutePath::default();
    long.push(&"x".repeat(255)).unwrap();
    long.push(&"y".repeat(255)).unwrap();
    let deep = ObjectOptions::default().with_keys(KeyTemplate::new("p".repeat(500)));
    let mut other = begin(&sink(&target, deep), rig.start(0, 0)).await;
    let record = batch.get(0).unwrap();
    let refused =
        other.append(Envelope { record: &record, route, path: &long, value: Value::Shared(value(0, 9)) });
    assert_eq!(refused.unwrap_err().reason(), PoisonReason::InvalidRoute);
    other
        .append(Envelope { record: &record, route, path: &path, value: Value::Shared(value(0, 9)) })
        .unwrap();

    stage(&mut *writer, 0, &[(0, 20); 3]).await;
    writer.publish().await.unwrap();
    let expected = [value(0, 20), Bytes::from("\n"), value(2, 20), Bytes::from("\n")].concat();
    assert_eq!(target.objects()["topics/t/r/t+0+0000000000.json"].bytes, expected);
}

#[tokio::test]
async fn damaged_scratch_is_never_published() {
    let rows = mixed();
    for codec in [Compression::None, Compression::Gzip] {
        // In the first row (of the large first object), in the last of the rows, in the index.
        for (file, from_end) in [(0, false), (0, true), (1, false), (1, true)] {
            let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
            let mut writer = begin(&sink(&target, options().with_compression(codec)), rig.start(0, 0)).await;
            fill(&mut *writer, 0, 0, &rows, &[100]).await;
            stage(&mut *writer, 0, &rows).await;
            let path = rig.scratch_files()[file].clone();
            let position = if from_end { std::fs::metadata(&path).unwrap().len() - 2 } else { 4 };
            flip(&path, position);
            let error = writer.publish().await.unwrap_err();
            assert_eq!(error.class(), Class::Fatal, "{}", ErrorChain(&error));
            assert!(ErrorChain(&error).to_string().contains("read from Kafka again"));
            let expected = model(0, 0, &rows, 40 << 10, codec.extension());
            for (key, found) in decoded(&target, codec) {
                assert!(found == expected[&key], "{key} was published with damage");
            }
            assert!(target.objects().len() < expected.len());
            assert_eq!(target.open_uploads(), 0, "what was begun is aborted");
        }
    }
}

#[tokio::test]
async fn publication_resumes_after_a_fault_at_any_call() {
    let rows = mixed();
    let calls = {
        let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
        let mut writer = begin(&sink(&target, options()), rig.start(0, 0)).await;
        fill(&mut *writer, 0, 0, &rows, &[100]).await;
        stage(&mut *writer, 0, &rows).await;
        writer.publish().await.unwrap();
        target.calls().len()
    };
    let expected = model(0, 0, &rows, 40 << 10, "");
    let rig = Rig::new(1 << 20);
    for fault in [Fault::Reject, Fault::LoseAnswer, Fault::Forbid] {
        for call in 0..calls {
            let target = Arc::new(MemoryTarget::with_limits(limits()));
            let mut writer = begin(&sink(&target, options()), rig.start(0, 0)).await;
            fill(&mut *writer, 0, 0, &rows, &[100]).await;
            stage(&mut *writer, 0, &rows).await;
            target.fail(call, fault);
            let published = match writer.publish().await {
                Err(error) => {
                    assert_eq!(error.class() == Class::Fatal, fault == Fault::Forbid);
                    writer.publish().await.unwrap()
                }
                Ok(published) => {
                    let called = target.calls()[call].0;
                    let settled_at_once = (called, fault) == (Call::Complete, Fault::LoseAnswer);
                    assert!(settled_at_once || called == Call::ListUploads, "{called:?} {fault:?}");
                    published
                }
            };
            assert_same(&decoded(&target, Compression::None), &expected);
            assert_eq!(published.objects.len(), expected.len());
            assert!(
                published.objects.iter().all(|object| object.bytes == expected[&object.key].len() as u64)
            );
            // Also the one whose name was in a lost answer: it is found when its object stands.
            assert_eq!(target.open_uploads(), 0, "call {call} {fault:?}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_expired_is_begun_anew() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let rows = vec![(0, 100); 200];
    let mut writer = begin(&sink(&target, options()), rig.start(0, 0)).await;
    fill(&mut *writer, 0, 0, &rows, &[50]).await;
    stage(&mut *writer, 0, &rows).await;
    target.slow(Duration::from_millis(20));
    let expire = async {
        while !target.calls().iter().any(|(call, _)| *call == Call::Complete) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        target.expire_uploads();
    };
    let (result, ()) = tokio::join!(writer.publish(), expire);
    assert_eq!(result.unwrap_err().class(), Class::RETRY);
    writer.publish().await.unwrap();
    assert_same(&decoded(&target, Compression::None), &model(0, 0, &rows, 40 << 10, ""));
}

#[tokio::test]
async fn a_new_owner_completes_what_the_former_began() {
    let rows = mixed();
    let expected = model(0, 0, &rows, 40 << 10, "");
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let sink = sink(&target, options());
    let mut former = begin(&sink, rig.start(0, 0)).await;
    fill(&mut *former, 0, 0, &rows, &[100]).await;
    stage(&mut *former, 0, &rows).await;
    target.fail(target.calls().len() + 25, Fault::Forbid);
    former.publish().await.unwrap_err();
    former.abandon().await;
    let before = target.objects().len();
    assert!(before > 0 && before < expected.len());

    let mut at = rig.start(0, 0);
    at.pinned = Some(Intent {
        range: OffsetRange::new(Offset::ZERO, Offset::new(count(rows.len()))).unwrap(),
        fingerprint: Fingerprint::new(),
        rows: rows.len() as u64,
        offsets_hash: 0,
        opened_at_ms: 0,
        token: Bytes::new(),
    });
    let mut owner = begin(&sink, at).await;
    fill(&mut *owner, 0, 0, &rows, &[7, 300]).await;
    stage(&mut *owner, 0, &rows).await;
    let calls = target.calls().len();
    let published = owner.publish().await.unwrap();
    assert_same(&decoded(&target, Compression::None), &expected);
    assert_eq!(published.objects.len(), expected.len());
    let again = target.calls().split_off(calls);
    assert_eq!(again[0].0, Call::Head, "a large object is looked for before it is sent a second time");

    // The former owner wakes up and publishes after all: everything is there and is its own.
    let mut zombie = begin(&sink, rig.start(0, 0)).await;
    fill(&mut *zombie, 0, 0, &rows, &[100]).await;
    stage(&mut *zombie, 0, &rows).await;
    assert_eq!(zombie.publish().await.unwrap().objects, published.objects);
}

#[tokio::test]
async fn a_taken_key_stops_the_segment_before_anything_is_visible() {
    let rows = mixed();
    let strangers = [
        ("topics/t/r=0/t+0+0000000000.json", "an object without our metadata"),
        ("topics/t/r=3/t+0+0000000003.json", "an object without our metadata"),
    ];
    for (index, (key, found)) in strangers.into_iter().enumerate() {
        let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
        target.insert(key, Bytes::from("theirs"), ObjectMeta::default());
        let mut writer = begin(&sink(&target, options()), rig.start(0, 0)).await;
        fill(&mut *writer, 0, 0, &rows, &[100]).await;
        stage(&mut *writer, 0, &rows).await;
        let error = writer.publish().await.unwrap_err();
        let text = ErrorChain(&error).to_string();
        assert_eq!(error.class(), Class::Fatal);
        assert!(text.contains(key) && text.contains(found) && text.contains("t[0] ["), "{text}");
        assert_eq!(target.objects()[key].bytes, "theirs");
        if index == 0 {
            assert_eq!(target.objects().len(), 1, "the first object goes first and alone");
        }
    }
}

#[tokio::test]
async fn the_same_offsets_with_other_rows_are_a_conflict() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let sink = sink(&target, options());
    for (rows, conflict) in [(vec![(0, 50); 9], false), (vec![(0, 50); 8], true), (vec![(0, 51); 9], true)] {
        let mut writer = begin(&sink, rig.start(0, 0)).await;
        fill(&mut *writer, 0, 0, &rows, &[100]).await;
        stage(&mut *writer, 0, &rows).await;
        assert_eq!(writer.publish().await.is_err(), conflict);
    }
    let mut at = rig.start(0, 0);
    at.layout = 78;
    let rows = vec![(0, 50); 9];
    let mut writer = begin(&sink, at).await;
    fill(&mut *writer, 0, 0, &rows, &[100]).await;
    stage(&mut *writer, 0, &rows).await;
    let error = writer.publish().await.unwrap_err();
    assert!(error.hint().unwrap().contains("another layout"), "{error}");
}

#[tokio::test]
async fn a_store_without_conditions_is_looked_at_first() {
    let unconditional = TargetLimits { conditional_create: false, ..limits() };
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(unconditional)));
    let sink = sink(&target, options());
    assert!(Sink::<Value>::capabilities(&sink).weakness.is_some());
    let rows = mixed();
    for _ in 0..2 {
        let mut writer = begin(&sink, rig.start(0, 0)).await;
        fill(&mut *writer, 0, 0, &rows, &[100]).await;
        stage(&mut *writer, 0, &rows).await;
        writer.publish().await.unwrap();
    }
    let expected = model(0, 0, &rows, 40 << 10, "");
    assert_same(&decoded(&target, Compression::None), &expected);
    let created =
        target.calls().iter().filter(|(call, _)| matches!(call, Call::Put | Call::Complete)).count();
    assert_eq!(created, expected.len(), "nothing is written a second time");
}

#[tokio::test]
async fn an_abandoned_publication_leaves_no_upload() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let rows = vec![(0, 100); 200];
    let mut writer = begin(&sink(&target, options()), rig.start(0, 0)).await;
    fill(&mut *writer, 0, 0, &rows, &[50]).await;
    stage(&mut *writer, 0, &rows).await;
    target.fail(3, Fault::Hang);
    tokio::time::timeout(Duration::from_millis(200), writer.publish()).await.unwrap_err();
    assert_eq!(target.open_uploads(), 1);
    writer.abandon().await;
    assert_eq!(target.open_uploads(), 0);
    drop(writer);
    // The tasks that were sending end when the runtime gets to them.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(rig.scratch_files().is_empty());
    assert_eq!(rig.pool.used(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_share_a_pool_too_small_for_all_of_them() {
    for codec in [Compression::None, Compression::Gzip] {
        let rig = Rig::new(256 << 10);
        let target = Arc::new(MemoryTarget::with_limits(limits()));
        target.slow(Duration::from_micros(200));
        let sink = sink(&target, options().with_compression(codec).with_requests(64));
        let rows = mixed();
        let lanes = (0..8).map(|partition| {
            let (at, sink, rows) = (rig.start(partition, 0), sink.clone(), rows.clone());
            tokio::spawn(async move {
                let mut writer = begin(&sink, at).await;
                fill(&mut *writer, partition, 0, &rows, &[100]).await;
                stage(&mut *writer, 0, &rows).await;
                writer.publish().await.unwrap();
            })
        });
        let all = futures::future::join_all(lanes);
        for lane in
            tokio::time::timeout(Duration::from_mins(1), all).await.expect("no lane waits for another")
        {
            lane.unwrap();
        }
        let mut expected = BTreeMap::new();
        for partition in 0..8 {
            expected.extend(model(partition, 0, &rows, 40 << 10, codec.extension()));
        }
        assert_same(&decoded(&target, codec), &expected);
        let peak = target.body_bytes_peak();
        assert!(peak > 0 && peak <= 256 << 10, "{peak} bytes of bodies, the pool has 256 KiB");
    }
}

#[tokio::test]
async fn a_write_that_failed_is_repeated_in_place() {
    let (mut rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let disk = Arc::new(FewFiles(0.into()));
    let few = Arc::<FewFiles>::clone(&disk);
    rig.spool = Spool::open(rig.directory.path(), "few", few, Pool::new(1 << 30)).unwrap();
    let rows = mixed();
    let mut writer = begin(&sink(&target, options()), rig.start(0, 0)).await;
    let batch = one_batch(0, 0, &rows[..100]);
    let (mut table, mut path) = (RouteTable::new(), RoutePath::default());
    path.push_field("r", "0").unwrap();
    let route = table.intern(&path);
    for record in batch.iter() {
        let value = Value::Shared(record.value_bytes().unwrap());
        writer.append(Envelope { record: &record, route, path: &path, value }).unwrap();
    }
    assert!(writer.spill().await.is_err());
    assert!(writer.spill().await.is_err());
    disk.0.store(2, std::sync::atomic::Ordering::SeqCst);
    writer.spill().await.unwrap();
    stage(&mut *writer, 0, &rows[..100]).await;
    writer.publish().await.unwrap();
    let flat: Vec<Spec> = rows[..100].iter().map(|(_, length)| (0, *length)).collect();
    assert_same(&decoded(&target, Compression::None), &model(0, 0, &flat, 40 << 10, ""));
}

#[test]
fn problems_of_options_are_named_at_once() {
    let target = Arc::new(MemoryTarget::new());
    let options = ObjectOptions::default()
        .with_keys(KeyTemplate::new("/x"))
        .with_compression(Compression::Gzip)
        .with_compression_level(13)
        .with_part_bytes(1)
        .with_target_object_bytes(0)
        .with_requests(0);
    let problems = ObjectSink::new(Delimited::lines(), target, options).unwrap_err();
    assert_eq!(problems.len(), 5, "{problems:?}");
}

#[test]
fn the_layout_names_what_differs() {
    let target = Arc::new(MemoryTarget::new());
    let parts = |options: ObjectOptions| {
        let mut parts = Fingerprint::new();
        Sink::<Value>::fingerprint(&sink(&target, options), &mut parts);
        parts
    };
    let base = parts(ObjectOptions::default());
    let differs = |options: ObjectOptions| base.differing_parts(&parts(options));
    assert_eq!(differs(ObjectOptions::default().with_compression(Compression::Zstd)), ["compression"]);
    assert_eq!(differs(ObjectOptions::default().with_target_object_bytes(1)), ["object-bytes"]);
    assert_eq!(differs(ObjectOptions::default().with_keys(KeyTemplate::new("x"))), ["prefix"]);
    assert_eq!(
        differs(ObjectOptions::default().with_keys(KeyTemplate::new("topics").with_pad_width(3))),
        ["key"]
    );
    let same = ObjectOptions::default().with_part_bytes(6 << 20).with_requests(1).with_compression_level(9);
    assert!(differs(same).is_empty(), "how objects are sent is no part of the layout");
}

/// An intent that is under way is still ours after an update: these digests were stored by 0.1.
#[test]
fn layouts_are_golden() {
    fn digest<T: Send + 'static>(format: impl Format<T>, options: ObjectOptions) -> u64 {
        let sink = ObjectSink::new(format, Arc::new(MemoryTarget::new()), options).unwrap();
        let mut parts = Fingerprint::new();
        Sink::<T>::fingerprint(&sink, &mut parts);
        parts.digest()
    }
    let options = ObjectOptions::default;
    let gzip = options().with_compression(Compression::Gzip);
    assert_eq!(digest::<Value>(JsonLines::new(), options()), 14_376_028_994_380_533_820);
    assert_eq!(digest::<Bytes>(Delimited::lines(), gzip), 11_932_078_795_702_747_486);
    assert_eq!(digest::<Bytes>(RawBytes::new(), options()), 11_754_306_373_997_710_105);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn batching_and_grouping_decide_nothing(
        rows in proptest::collection::vec((0..6_u8, 0..400_usize), 1..300),
        sizes in proptest::collection::vec(1..80_usize, 1..6),
        object_bytes in 1..20_000_u64,
        first in 0..1_000_000_i64,
        codec in prop_oneof![Just(Compression::None), Just(Compression::Gzip), Just(Compression::Zstd)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
            let options = options().with_target_object_bytes(object_bytes).with_compression(codec);
            let sink = sink(&target, options);
            let mut writer = begin(&sink, rig.start(1, first)).await;
            fill(&mut *writer, 1, first, &rows, &sizes).await;
            stage(&mut *writer, first, &rows).await;
            writer.publish().await.unwrap();
            let expected = model(1, first, &rows, usize::try_from(object_bytes).unwrap(), codec.extension());
            assert_same(&decoded(&target, codec), &expected);
        });
    }
}

/// A file system with room for so many files beside the marker.
#[derive(Debug)]
struct FewFiles(std::sync::atomic::AtomicUsize);

impl aqueduct_core::Disk for FewFiles {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn aqueduct_core::DiskFile>> {
        use std::sync::atomic::Ordering::SeqCst;
        let taken = self.0.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        taken.map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        LocalDisk.create(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)?;
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        LocalDisk.list(path)
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        LocalDisk.available(path)
    }

    fn lock(&self, path: &Path, content: &str) -> io::Result<Option<Arc<dyn aqueduct_core::DiskFile>>> {
        LocalDisk.lock(path, content)
    }
}

#[tokio::test]
async fn a_segment_has_both_its_files_or_waits_without_holding_one() {
    let mut rig = Rig::new(1 << 20);
    let disk = Arc::new(FewFiles(3.into()));
    rig.spool = Spool::open(rig.directory.path(), "few", disk, Pool::new(1 << 30)).unwrap();
    let sink = sink(&Arc::new(MemoryTarget::with_limits(limits())), options());
    let rows = [(0, 20)];
    let mut first = begin(&sink, rig.start(0, 0)).await;
    fill(&mut *first, 0, 0, &rows, &[1]).await;
    let mut second = begin(&sink, rig.start(1, 0)).await;
    let batch = one_batch(1, 0, &rows);
    let record = batch.get(0).unwrap();
    let (route, path) = (RouteTable::new().intern(&RoutePath::default()), RoutePath::default());
    let value = Value::Shared(record.value_bytes().unwrap());
    second.append(Envelope { record: &record, route, path: &path, value }).unwrap();
    for _ in 0..3 {
        assert_eq!(second.spill().await.unwrap_err().class(), Class::RETRY);
    }
    // The first has what it needs to its end, however often the second has tried; then there is room for the second.
    stage(&mut *first, 0, &rows).await;
    first.publish().await.unwrap();
    second.spill().await.unwrap();
}
