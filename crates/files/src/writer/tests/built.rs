//! Files that are built at the cut, in the shapes their rows have.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::{
    BuildError, BuiltRows, Encoded, Encoder, FileBuilder, FileEncoder, FileKind, FileOutline, Format,
    JsonArray, OptionError, RowEncoder, Rows,
};

/// Bytes in front of a row in the spool.
const FRAME: usize = 4;
/// Objects of many parts.
const LARGE: usize = 512 << 10;

/// A format whose records decide their shape: by their offset, or by the first byte of values that have one.
///
/// A file is its shape, its rows each so many times, and how many there were. The encoder holds rows back and gives them away
/// in bursts, as formats of columns do.
#[derive(Clone, Debug)]
struct Shaped {
    shapes: u32,
    times: usize,
    hold: usize,
    /// Where it goes wrong.
    defect: Option<Defect>,
    pool: Option<Pool>,
    open: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Defect {
    Open,
    Write,
    Finish,
    Panic,
}

impl Shaped {
    fn new(shapes: u32) -> Self {
        Self { shapes, times: 1, hold: 0, defect: None, pool: None, open: Arc::default() }
    }

    fn file(&self, shape: u32, rows: &[Vec<u8>]) -> Vec<u8> {
        let mut file = format!("shape {shape}\n").into_bytes();
        for row in rows {
            for _ in 0..self.times {
                file.extend_from_slice(row);
                file.push(b'\n');
            }
        }
        file.extend_from_slice(format!("{} rows", rows.len()).as_bytes());
        file
    }
}

impl FileKind for Shaped {
    fn extension(&self) -> &'static str {
        ".json"
    }

    fn content_type(&self) -> &'static str {
        "text/plain"
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("format", "shaped/1");
    }
}

impl Format<Value> for Shaped {
    fn encoder(&self) -> Encoder<Value> {
        Encoder::built(self.clone())
    }
}

impl RowEncoder<Value> for Shaped {
    fn encode(&mut self, envelope: &Envelope<'_, Value>, out: &mut Vec<u8>) -> Result<Encoded, Poison> {
        let encoded = if let Some(bytes) = envelope.value.json_bytes() {
            Encoded::shared(bytes.clone())
        } else {
            envelope.value.write_json(out)?;
            Encoded::written()
        };
        Ok(encoded.with_shape(shape(envelope.record.offset().get(), self.shapes)))
    }
}

fn shape(offset: i64, shapes: u32) -> u32 {
    u32::try_from(offset % i64::from(shapes)).unwrap()
}

impl BuiltRows<Value> for Shaped {
    fn finish(&mut self) -> Arc<dyn FileBuilder> {
        Arc::new(self.clone())
    }
}

impl FileBuilder for Shaped {
    fn open(&self, file: &FileOutline) -> Result<Box<dyn FileEncoder>, BuildError> {
        if self.defect == Some(Defect::Open) {
            return Err(BuildError::new("no such schema"));
        }
        let workspace = self.workspace(file);
        let open = self.open.fetch_add(workspace, SeqCst) + workspace;
        if let Some(pool) = &self.pool {
            let paid = usize::try_from(pool.used()).unwrap();
            assert!(paid >= open, "{open} bytes are in use, {paid} are paid for");
        }
        Ok(Box::new(OpenFile { of: self.clone(), file: *file, held: Vec::new(), rows: 0, workspace }))
    }

    fn workspace(&self, file: &FileOutline) -> usize {
        self.hold + self.times * (self.hold + file.chunk_bytes()) + 100
    }
}

struct OpenFile {
    of: Shaped,
    file: FileOutline,
    held: Vec<u8>,
    rows: u64,
    workspace: usize,
}

impl FileEncoder for OpenFile {
    fn write(&mut self, rows: Rows<'_>, out: &mut Vec<u8>) -> Result<(), BuildError> {
        match self.of.defect {
            Some(Defect::Write) => return Err(BuildError::new("row and schema differ")),
            Some(Defect::Panic) => panic!("as scripted"),
            _ => {}
        }
        let given = rows.clone().map(|row| FRAME + row.len()).sum::<usize>();
        assert!(given > 0 && given <= self.file.chunk_bytes(), "{given} bytes of rows, {:?}", self.file);
        if self.rows == 0 {
            self.held.extend_from_slice(format!("shape {}\n", self.file.shape).as_bytes());
        }
        for row in rows {
            self.rows += 1;
            assert!(FRAME + row.len() <= self.file.row_max);
            for _ in 0..self.of.times {
                self.held.extend_from_slice(row);
                self.held.push(b'\n');
            }
        }
        if self.held.len() > self.of.hold {
            out.append(&mut self.held);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, out: &mut Vec<u8>) -> Result<(), BuildError> {
        if self.of.defect == Some(Defect::Finish) {
            return Err(BuildError::new("columns of different lengths"));
        }
        assert_eq!(self.rows, self.file.rows);
        out.append(&mut self.held);
        out.extend_from_slice(format!("{} rows", self.rows).as_bytes());
        Ok(())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.of.open.fetch_sub(self.workspace, SeqCst);
    }
}

/// What should be there: the rows of each object by its key, split by the bytes they have in the spool.
fn objects(first: i64, rows: &[Spec], shapes: u32, object_bytes: usize, codec: Compression) -> Stored {
    objects_of(0, first, rows, shapes, object_bytes, codec)
}

fn objects_of(
    partition: i32,
    first: i64,
    rows: &[Spec],
    shapes: u32,
    object_bytes: usize,
    codec: Compression,
) -> Stored {
    let extension = codec.extension();
    let mut objects = Stored::new();
    let mut open = BTreeMap::new();
    for (offset, (route, length)) in (first..).zip(rows) {
        let shape = shape(offset, shapes);
        let row = value(offset, *length).to_vec();
        let bytes = |rows: &[Vec<u8>]| rows.iter().map(|row| FRAME + row.len()).sum::<usize>();
        let fits = open.get(&(*route, shape)).is_some_and(|key| {
            let (_, rows) = &objects[key];
            bytes(rows) + FRAME + row.len() <= object_bytes
        });
        if !fits {
            let key = format!("topics/t/r={route}/t+{partition}+{offset:010}.json{extension}");
            open.insert((*route, shape), key.clone());
            objects.insert(key, (shape, Vec::new()));
        }
        objects.get_mut(&open[&(*route, shape)]).unwrap().1.push(row);
    }
    objects
}

/// The same as arrays.
pub(super) fn arrays(
    partition: i32,
    rows: &[Spec],
    object_bytes: usize,
    codec: Compression,
) -> BTreeMap<String, Vec<u8>> {
    files(&objects_of(partition, 0, rows, 1, object_bytes, codec), |_, rows| array(rows))
}

type Stored = BTreeMap<String, (u32, Vec<Vec<u8>>)>;

fn array(rows: &[Vec<u8>]) -> Vec<u8> {
    [&b"["[..], &rows.join(&b",\n"[..]), b"]"].concat()
}

fn files(objects: &Stored, file: impl Fn(u32, &[Vec<u8>]) -> Vec<u8>) -> BTreeMap<String, Vec<u8>> {
    objects.iter().map(|(key, (shape, rows))| (key.clone(), file(*shape, rows))).collect()
}

fn sink_of<F: FileKind>(
    format: F,
    target: &Arc<MemoryTarget>,
    options: ObjectOptions,
) -> ObjectSink<F, Arc<MemoryTarget>> {
    ObjectSink::new(format, Arc::clone(target), options).unwrap()
}

async fn staged(
    sink: &impl Sink<Value>,
    rig: &Rig,
    first: i64,
    rows: &[Spec],
    sizes: &[usize],
) -> Box<dyn SegmentWriter<Value>> {
    let mut writer = begin(sink, rig.start(0, first)).await;
    fill(&mut *writer, 0, first, rows, sizes).await;
    stage(&mut *writer, first, rows).await;
    writer
}

const CODECS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

/// The last number there is, and one more.
#[tokio::test]
async fn a_row_of_one_shape_too_many_is_a_poison_and_leaves_no_trace() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let sink = sink_of(Shaped::new(u32::MAX), &target, options());
    let last = i64::from(Encoded::SHAPES_MAX) - 1;
    let mut writer = begin(&sink, rig.start(0, last)).await;
    let mut path = RoutePath::default();
    path.push_field("r", "0").unwrap();
    let route = RouteTable::new().intern(&path);
    let rows = [(0, 20), (0, 20)];
    let batch = one_batch(0, last, &rows);
    let mut append = |index: usize| {
        let record = batch.get(index).unwrap();
        let value = Value::Shared(record.value_bytes().unwrap());
        writer.append(Envelope { record: &record, route, path: &path, value })
    };
    append(0).unwrap();
    let poison = append(1).unwrap_err();
    assert_eq!(poison.reason(), PoisonReason::TooLarge);
    assert!(poison.detail().contains("a row of shape 1024"), "{poison}");
    stage(&mut *writer, last, &rows).await;
    writer.publish().await.unwrap();
    assert_eq!(target.objects().len(), 1);
}

#[tokio::test]
async fn a_segment_becomes_its_arrays() {
    for codec in CODECS {
        let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
        let sink = sink_of(JsonArray::new(), &target, options().with_compression(codec));
        let rows = mixed();
        let mut writer = staged(&sink, &rig, 100, &rows, &[250, 1, 40]).await;
        assert!(target.calls().is_empty(), "nothing reaches the target before publication");
        let published = writer.publish().await.unwrap();
        let expected = objects(100, &rows, 1, 40 << 10, codec);
        let stored = decoded(&target, codec);
        assert_same(&stored, &files(&expected, |_, rows| array(rows)));
        assert!(stored.values().all(|file| file.ends_with(b"]")));

        let calls = target.calls();
        assert!(codec != Compression::None || calls.iter().any(|(call, _)| *call == Call::UploadPart));
        assert!(calls.iter().any(|(call, _)| *call == Call::Put));
        assert_eq!(published.objects[0].key, calls[0].1, "the segment's first record goes first");
        assert_eq!(published.objects.iter().map(|object| object.rows).sum::<u64>(), rows.len() as u64);
        for object in &published.objects {
            assert_eq!(object.bytes, target.objects()[&object.key].bytes.len() as u64);
            let content = &target.objects()[&object.key].meta.content_type;
            let plain = codec == Compression::None;
            assert_eq!(content == "application/json", plain, "{content}");
        }
        assert_eq!(writer.publish().await.unwrap().objects, published.objects);
        assert!(rig.scratch_files().is_empty());
        assert_eq!(rig.pool.used(), 0);
    }
}

/// One row that is larger than what a file is given at once, alone and among small ones.
#[tokio::test]
async fn rows_larger_than_a_chunk_are_whole() {
    for rows in
        [vec![(0, 700_000)], vec![(0, 10), (0, 700_000), (0, 300_000), (1, 20), (0, 10), (0, 262_140)]]
    {
        for codec in CODECS {
            let limits = TargetLimits { parts_max: 10_000, ..limits() };
            let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits)));
            let options = options().with_compression(codec).with_target_object_bytes(10 << 20);
            let sink = sink_of(JsonArray::new(), &target, options);
            staged(&sink, &rig, 0, &rows, &[2]).await.publish().await.unwrap();
            let expected = objects(0, &rows, 1, 10 << 20, codec);
            assert_same(&decoded(&target, codec), &files(&expected, |_, rows| array(rows)));
        }
    }
}

/// Two schemas that take turns must not make an object of every record.
#[tokio::test]
async fn shapes_that_alternate_have_one_object_each_for_a_route() {
    for shapes in [2, 3, 7] {
        let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
        let format = Shaped::new(shapes);
        let sink = sink_of(format.clone(), &target, options().with_target_object_bytes(LARGE as u64));
        // Each route has all shapes, turn by turn.
        let rows: Vec<Spec> = (0..2100).map(|i| (u8::try_from(i / 300).unwrap(), 50)).collect();
        let mut writer = staged(&sink, &rig, 0, &rows, &[100]).await;
        let published = writer.publish().await.unwrap();
        let expected = objects(0, &rows, shapes, LARGE, Compression::None);
        assert_eq!(expected.len(), 7 * shapes as usize);
        assert_same(&decoded(&target, Compression::None), &files(&expected, |s, rows| format.file(s, rows)));
        // In order of their first records, those of the same route behind each other.
        let starts: Vec<_> = published.objects.iter().map(|object| object.range.start().get()).collect();
        assert!(starts.is_sorted() && starts[0] == 0, "{starts:?}");
        assert_eq!(target.calls()[0].1, published.objects[0].key);
    }
}

#[tokio::test]
async fn a_conflict_stops_the_segment_before_another_shape_is_visible() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let key = "topics/t/r=0/t+0+0000000000.json";
    target.insert(key, Bytes::from("theirs"), ObjectMeta::default());
    let sink = sink_of(Shaped::new(2), &target, options());
    let error = staged(&sink, &rig, 0, &[(0, 50); 10], &[3]).await.publish().await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert_eq!(target.objects().len(), 1);
}

/// Files of other sizes than their rows, given away in bursts: larger than the buffer of a group, than the group itself, than
/// a part.
#[tokio::test]
async fn files_of_any_size_are_stored() {
    let many = (0..1000).map(|i| (u8::try_from(i % 250).unwrap(), 20 + i % 90)).collect();
    let few = (0..300).map(|i| (u8::try_from(i % 3).unwrap(), 20 + i % 400)).collect();
    for rows in [mixed(), many, few] {
        for (times, hold) in [(0, 0), (1, 0), (1, 5000), (9, 30_000), (60, 100 << 10)] {
            for codec in CODECS {
                let limits = TargetLimits { parts_max: 10_000, ..limits() };
                let (rig, target) = (Rig::new(16 << 20), Arc::new(MemoryTarget::with_limits(limits)));
                let mut format = Shaped::new(2);
                (format.times, format.hold, format.pool) = (times, hold, Some(rig.pool.clone()));
                let sink = sink_of(format.clone(), &target, options().with_compression(codec));
                staged(&sink, &rig, 0, &rows, &[90]).await.publish().await.unwrap();
                let expected = objects(0, &rows, 2, 40 << 10, codec);
                let expected = files(&expected, |shape, rows| format.file(shape, rows));
                assert_same(&decoded(&target, codec), &expected);
                assert_eq!((rig.pool.used(), format.open.load(SeqCst)), (0, 0));
            }
        }
    }
}

/// Small objects are read together also where their files do not fit into one buffer. Were they left to be sent as large
/// objects are, they would be sent in parts.
#[tokio::test]
async fn a_group_is_built_in_rounds() {
    let (rig, target) = (Rig::new(8 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let mut format = Shaped::new(1);
    format.times = 30;
    // Of an object there are 1 KiB of rows and 30 KiB of file. A group has 4 KiB of rows, and a buffer of 68 KiB.
    let rows: Vec<Spec> = (0..1000).map(|i| (u8::try_from(i % 200).unwrap(), 200)).collect();
    let sink = sink_of(format.clone(), &target, options());
    staged(&sink, &rig, 0, &rows, &[100]).await.publish().await.unwrap();
    let expected = objects(0, &rows, 1, 40 << 10, Compression::None);
    let expected = files(&expected, |shape, rows| format.file(shape, rows));
    assert_same(&decoded(&target, Compression::None), &expected);
    assert!(expected.values().all(|file| file.len() > 30_000));
    assert!(target.calls().iter().all(|(call, _)| *call == Call::Put));
}

/// A file that is larger than all that was paid for its group is sent in parts, and its neighbours are not.
#[tokio::test]
async fn a_file_that_outgrows_its_group_is_sent_in_parts() {
    for first in [0, 1] {
        let (rig, target) = (Rig::new(8 << 20), Arc::new(MemoryTarget::with_limits(limits())));
        let mut format = Shaped::new(1);
        (format.times, format.pool) = (100, Some(rig.pool.clone()));
        // The second route has 2 KiB of rows, which are 200 KiB of file.
        let rows: [Spec; 5] = [(first, 20), (1, 1000), (2, 20), (1, 1000), (3, 20)];
        let sink = sink_of(format.clone(), &target, options());
        let mut writer = staged(&sink, &rig, 0, &rows, &[2]).await;
        let published = writer.publish().await.unwrap();
        let expected = objects(0, &rows, 1, 40 << 10, Compression::None);
        let expected = files(&expected, |shape, rows| format.file(shape, rows));
        assert_same(&decoded(&target, Compression::None), &expected);
        for object in published.objects {
            assert_eq!(object.bytes, expected[&object.key].len() as u64);
            let calls = target.calls();
            let in_parts = calls.contains(&(Call::UploadPart, object.key.clone()));
            assert_eq!(in_parts, object.bytes > 100_000, "{}", object.key);
        }
        assert_eq!((rig.pool.used(), format.open.load(SeqCst)), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_share_a_pool_too_small_for_all_of_them() {
    for codec in [Compression::None, Compression::Gzip] {
        for (pool, hold) in [(256 << 10, 0), (2 << 20, 100 << 10)] {
            let rig = Rig::new(pool);
            let target = Arc::new(MemoryTarget::with_limits(limits()));
            target.slow(Duration::from_micros(200));
            let mut format = Shaped::new(2);
            format.hold = hold;
            let options = options().with_target_object_bytes(100 << 10);
            let sink = sink_of(format.clone(), &target, options.with_compression(codec).with_requests(64));
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
            let all = tokio::time::timeout(Duration::from_mins(1), futures::future::join_all(lanes)).await;
            for lane in all.expect("no lane waits for another") {
                lane.unwrap();
            }
            let expected = objects(0, &rows, 2, 100 << 10, codec);
            let expected = files(&expected, |shape, rows| format.file(shape, rows));
            let stored = decoded(&target, codec);
            assert_eq!(stored.len(), 8 * expected.len());
            for (key, file) in &stored {
                let lane = key.split('+').nth(1).unwrap();
                assert!(*file == expected[&key.replace(&format!("+{lane}+"), "+0+")], "{key}");
            }
            let peak = target.body_bytes_peak() as u64;
            assert!(peak > 0 && peak <= pool, "{peak} bytes of bodies, the pool has {pool}");
            assert_eq!((rig.pool.used(), format.open.load(SeqCst)), (0, 0));
        }
    }
}

#[tokio::test]
async fn publication_resumes_after_a_fault_at_any_call() {
    let rows = mixed();
    let rig = Rig::new(1 << 20);
    let mut call = 0;
    let expected = files(&objects(0, &rows, 2, 40 << 10, Compression::None), |_, rows| array(rows));
    let format = || Arrays(Shaped::new(2));
    loop {
        let mut reached = false;
        for fault in [Fault::Reject, Fault::LoseAnswer] {
            let target = Arc::new(MemoryTarget::with_limits(limits()));
            let mut writer = staged(&sink_of(format(), &target, options()), &rig, 0, &rows, &[100]).await;
            target.fail(call, fault);
            let published = match writer.publish().await {
                Err(error) => {
                    assert_eq!(error.class(), Class::RETRY);
                    writer.publish().await.unwrap()
                }
                Ok(published) => published,
            };
            reached |= target.calls().len() > call;
            assert_same(&decoded(&target, Compression::None), &expected);
            assert_eq!(published.objects.len(), expected.len());
            assert_eq!((target.open_uploads(), rig.pool.used()), (0, 0), "call {call} {fault:?}");
        }
        if !reached {
            break;
        }
        call += 1;
    }
    assert!(call > expected.len());
}

/// Arrays whose rows have shapes.
#[derive(Clone)]
struct Arrays(Shaped);

impl FileKind for Arrays {
    fn extension(&self) -> &str {
        self.0.extension()
    }

    fn content_type(&self) -> &str {
        self.0.content_type()
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        self.0.fingerprint(parts);
    }

    fn is_compressed(&self) -> bool {
        true
    }
}

impl Format<Value> for Arrays {
    fn encoder(&self) -> Encoder<Value> {
        Encoder::built(self.clone())
    }
}

impl RowEncoder<Value> for Arrays {
    fn encode(&mut self, envelope: &Envelope<'_, Value>, out: &mut Vec<u8>) -> Result<Encoded, Poison> {
        self.0.encode(envelope, out)
    }
}

impl BuiltRows<Value> for Arrays {
    fn finish(&mut self) -> Arc<dyn FileBuilder> {
        BuiltRows::<Value>::finish(&mut JsonArray::new())
    }
}

#[test]
fn compression_around_files_that_are_compressed_is_refused() {
    let target = Arc::new(MemoryTarget::new());
    let sink = |codec| {
        let options = ObjectOptions::default().with_compression(codec);
        ObjectSink::new(Arrays(Shaped::new(1)), Arc::clone(&target), options).map(drop)
    };
    let problem = OptionError::Compressed { codec: Compression::Gzip, extension: ".json".to_owned() };
    assert!(problem.to_string().contains("gzip") && problem.to_string().contains("own codec"), "{problem}");
    assert_eq!(sink(Compression::Gzip).unwrap_err(), [problem]);
    sink(Compression::None).unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_built_stops_the_lane_with_its_name() {
    for defect in [Defect::Open, Defect::Write, Defect::Finish, Defect::Panic] {
        // A large object and a small one.
        for rows in [vec![(0, 100); 900], vec![(0, 100); 9]] {
            let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
            let mut format = Shaped::new(1);
            format.defect = Some(defect);
            let options = options().with_target_object_bytes(LARGE as u64);
            let sink = sink_of(format.clone(), &target, options);
            let mut writer = staged(&sink, &rig, 0, &rows, &[100]).await;
            let error = writer.publish().await.unwrap_err();
            let text = ErrorChain(&error).to_string();
            assert_eq!(error.class(), Class::Fatal, "{text}");
            assert!(text.matches("columns of different lengths").count() <= 1, "{text}");
            let named = text.contains("topics/t/r=0/t+0+0000000000.json") && text.contains("build");
            assert!(named || defect == Defect::Panic, "{text}");
            assert!(target.objects().is_empty());
            assert_eq!((target.open_uploads(), rig.pool.used(), format.open.load(SeqCst)), (0, 0, 0));
            writer.abandon().await;
            drop(writer);
            assert!(rig.scratch_files().is_empty());
        }
    }
}

#[tokio::test]
async fn a_poison_leaves_no_trace_in_an_array() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::new()));
    let sink = sink_of(JsonArray::new(), &target, ObjectOptions::default());
    let mut writer = begin(&sink, rig.start(0, 0)).await;
    let batch = one_batch(0, 0, &[(0, 20), (0, 20), (0, 20)]);
    let (route, path) = (RouteTable::new().intern(&RoutePath::default()), RoutePath::default());
    let values = [Value::Encoded(value(0, 20)), Value::Poison, Value::Shared(value(2, 20))];
    for (record, value) in batch.iter().zip(values) {
        let refused = matches!(value, Value::Poison);
        assert_eq!(writer.append(Envelope { record: &record, route, path: &path, value }).is_err(), refused);
    }
    assert_eq!(writer.encoded_bytes(), 2 * (FRAME as u64 + 20));
    stage(&mut *writer, 0, &[(0, 20); 3]).await;
    writer.publish().await.unwrap();
    let expected = array(&[value(0, 20).to_vec(), value(2, 20).to_vec()]);
    assert_eq!(target.objects()["topics/t/t+0+0000000000.json"].bytes, expected);
}

/// Rows are verified in whole before the last part of a large file is made, and before a small one is built. What a damaged
/// length makes of them is never more than was paid for.
#[tokio::test]
async fn damaged_rows_are_never_published() {
    let rows: Vec<Spec> = (0..600).map(|i| (u8::from(i % 50 == 7), 30 + i % 200)).collect();
    let options = || options().with_target_object_bytes(LARGE as u64);
    for codec in [Compression::None, Compression::Zstd] {
        let expected = files(&objects(0, &rows, 1, LARGE, codec), |_, rows| array(rows));
        // All places around lengths at the front, at the end, and some between.
        let places = (0..300).chain((300..60_000).step_by(4099));
        for (place, from_end) in places.flat_map(|place| [(place, false), (place, true)]) {
            let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
            let sink = sink_of(JsonArray::new(), &target, options().with_compression(codec));
            let mut writer = staged(&sink, &rig, 0, &rows, &[100]).await;
            let path = rig.scratch_files()[0].clone();
            let end = std::fs::metadata(&path).unwrap().len();
            flip(&path, if from_end { end - 1 - place } else { place });
            let error = writer.publish().await.unwrap_err();
            assert_eq!(error.class(), Class::Fatal, "{}", ErrorChain(&error));
            let text = ErrorChain(&error).to_string();
            assert!(text.contains("read from Kafka again"), "{text}");
            let stored = decoded(&target, codec);
            assert!(stored.iter().all(|(key, file)| *file == expected[key]));
            assert!(stored.len() < expected.len());
            assert_eq!((target.open_uploads(), rig.pool.used()), (0, 0));
        }
    }
}

/// An encoder that trips over a damaged row is not blamed for it.
#[tokio::test]
async fn damage_is_told_from_a_defect() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let mut format = Shaped::new(1);
    format.defect = Some(Defect::Write);
    let sink = sink_of(format, &target, options().with_target_object_bytes(LARGE as u64));
    let mut writer = staged(&sink, &rig, 0, &[(0, 100); 900], &[100]).await;
    flip(&rig.scratch_files()[0], 50_000);
    let text = ErrorChain(&writer.publish().await.unwrap_err()).to_string();
    assert!(text.contains("the checksum differs"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn batching_and_grouping_decide_nothing(
        rows in proptest::collection::vec((0..6_u8, 0..400_usize), 1..300),
        sizes in proptest::collection::vec(1..80_usize, 1..6),
        object_bytes in 1..20_000_u64,
        first in 0..1_000_000_i64,
        shapes in 1..5_u32,
        (times, hold) in (0..3_usize, 0..2000_usize),
        codec in prop_oneof![Just(Compression::None), Just(Compression::Gzip), Just(Compression::Zstd)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
            let options = options().with_target_object_bytes(object_bytes).with_compression(codec);
            let mut format = Shaped::new(shapes);
            (format.times, format.hold) = (times, hold);
            let sink = sink_of(format.clone(), &target, options);
            staged(&sink, &rig, first, &rows, &sizes).await.publish().await.unwrap();
            let expected = objects(first, &rows, shapes, usize::try_from(object_bytes).unwrap(), codec);
            assert_same(&decoded(&target, codec), &files(&expected, |shape, rows| format.file(shape, rows)));
        });
    }
}
