//! Keys and headers of records in objects beside those of their values.

use super::built::arrays;
use super::*;
use crate::{JsonArray, OptionError, RecordKeys};

/// One record: its route, and how long its value, its key (or none) and its header are.
type Sizes = (u8, usize, Option<usize>, usize);

fn text(offset: i64, length: usize) -> String {
    format!("{offset}-").chars().cycle().take(length).collect()
}

fn record_batch(first: i64, rows: &[Sizes]) -> Batch {
    let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), 64);
    for (offset, (_, length, key, header)) in (first..).zip(rows) {
        let key = key.map(|length| text(offset, length).into_bytes());
        let header = text(offset, *header).into_bytes();
        let headers = (!header.is_empty()).then_some(("h", Some(&header[..])));
        let value = value(offset, *length);
        builder.push(Offset::new(offset), Timestamp::None, key.as_deref(), Some(&value), headers);
    }
    builder.build(Permit::unlimited())
}

/// The lines of keys and headers that belong to a record.
fn lines(offset: i64, key: Option<usize>, header: usize) -> [String; 2] {
    let key = key.map_or("null\n".to_owned(), |length| format!("\"{}\"\n", text(offset, length)));
    let header = match header {
        0 => "[]\n".to_owned(),
        length => format!("[{{\"key\":\"h\",\"value\":\"{}\"}}]\n", text(offset, length)),
    };
    [key, header]
}

type AnySink = ObjectSink<Box<dyn Format<Value>>, Arc<MemoryTarget>>;

fn sink(built: bool, target: &Arc<MemoryTarget>, options: ObjectOptions) -> AnySink {
    let format: Box<dyn Format<Value>> =
        if built { Box::new(JsonArray::new()) } else { Box::new(JsonLines::new()) };
    let options = options.with_record_keys(RecordKeys::json()).with_record_headers(true);
    ObjectSink::new(format, Arc::clone(target), options).unwrap()
}

/// Fills and stages a segment.
async fn staged(
    sink: &AnySink,
    rig: &Rig,
    first: i64,
    rows: &[Sizes],
    sizes: &[usize],
) -> Box<dyn SegmentWriter<Value>> {
    let mut writer = begin(sink, rig.start(0, first)).await;
    let (mut table, mut sizes, mut done) = (RouteTable::new(), sizes.iter().cycle(), 0);
    while done < rows.len() {
        let size = (*sizes.next().unwrap()).max(1).min(rows.len() - done);
        let slice = &rows[done..done + size];
        for (record, (route, ..)) in record_batch(first + count(done), slice).iter().zip(slice) {
            let mut path = RoutePath::default();
            path.push_field("r", &route.to_string()).unwrap();
            let value = Value::Shared(record.value_bytes().unwrap());
            let envelope = Envelope { record: &record, route: table.intern(&path), path: &path, value };
            writer.append(envelope).unwrap();
        }
        writer.spill().await.unwrap();
        done += size;
    }
    let range = OffsetRange::new(Offset::new(first), Offset::new(first + count(rows.len()))).unwrap();
    writer.stage(range).await.unwrap();
    writer
}

/// What should be there, by key. An object ends where it or one beside it would get too large.
fn expected(
    built: bool,
    first: i64,
    rows: &[Sizes],
    object_bytes: usize,
    codec: Compression,
) -> BTreeMap<String, Vec<u8>> {
    type Open = (i64, [usize; 3]);
    let (mut open, mut objects) = (BTreeMap::<u8, Open>::new(), BTreeMap::new());
    for (offset, (route, length, key, header)) in (first..).zip(rows) {
        let row = String::from_utf8(value(offset, *length).to_vec()).unwrap();
        let [keys, headers] = lines(offset, *key, *header);
        let spooled = [row.len() + if built { 4 } else { 1 }, keys.len(), headers.len()];
        let full = |(_, bytes): &Open| {
            bytes.iter().zip(spooled).any(|(bytes, row)| *bytes > 0 && bytes + row > object_bytes)
        };
        if open.get(route).is_none_or(full) {
            open.insert(*route, (offset, [0; 3]));
        }
        let (start, bytes) = open.get_mut(route).unwrap();
        bytes.iter_mut().zip(spooled).for_each(|(bytes, row)| *bytes += row);
        let all: &mut (Vec<String>, String, String) = objects.entry((*route, *start)).or_default();
        all.0.push(row);
        all.1 += &keys;
        all.2 += &headers;
    }
    let mut files = BTreeMap::new();
    for ((route, start), (rows, keys, headers)) in objects {
        let values = if built { format!("[{}]", rows.join(",\n")) } else { rows.join("\n") + "\n" };
        for (beside, file) in [("", values), (".keys", keys), (".headers", headers)] {
            let key = format!("topics/t/r={route}/t+0+{start:010}{beside}.json{}", codec.extension());
            files.insert(key, file.into_bytes());
        }
    }
    files
}

/// Some with large values, some with large keys, some with large headers, a hot route and many cold ones.
fn mixed_sizes() -> Vec<Sizes> {
    let route = |i| if i % 3 == 0 { u8::try_from(i % 41).unwrap() } else { 0 };
    let one = |i: usize| match i % 4 {
        0 => (route(i), 300, None, 0),
        1 => (route(i), 20, Some(i % 900), 10),
        2 => (route(i), 20, Some(0), i % 700),
        _ => (route(i), 90, Some(10), 5),
    };
    (0..900).map(one).collect()
}

#[tokio::test]
async fn keys_and_headers_lie_beside_their_values() {
    for codec in [Compression::None, Compression::Gzip, Compression::Zstd] {
        for built in [false, true] {
            let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
            let sink = sink(built, &target, options().with_compression(codec));
            let rows = mixed_sizes();
            let mut writer = staged(&sink, &rig, 7, &rows, &[250, 1, 40]).await;
            assert!(target.calls().is_empty());
            let published = writer.publish().await.unwrap();
            let expected = expected(built, 7, &rows, 40 << 10, codec);
            assert_same(&decoded(&target, codec), &expected);

            let calls = target.calls();
            assert!(codec != Compression::None || calls.iter().any(|(call, _)| *call == Call::UploadPart));
            // All of them are reported, and each row once.
            assert_eq!(published.objects.len(), expected.len());
            assert_eq!(published.objects.iter().map(|object| object.rows).sum::<u64>(), rows.len() as u64);
            let stored = target.objects();
            for object in &published.objects {
                assert_eq!(object.bytes, stored[&object.key].bytes.len() as u64);
                let value = !object.key.contains(".keys.") && !object.key.contains(".headers.");
                assert_eq!(object.rows > 0, value, "{}", object.key);
            }
            // The values' object with the first record goes first and alone.
            assert_eq!(calls[0].1, published.objects[0].key);
            assert!(published.objects[0].rows > 0);
            // Each says the same records.
            for triple in published.objects.chunks(3) {
                let identity = |object: &aqueduct_core::PublishedObject| {
                    crate::ObjectIdentity::from_metadata(&stored[&object.key].meta.user).unwrap()
                };
                let said = triple.iter().map(|object| (identity(object).range, identity(object).rows));
                let said: Vec<_> = said.collect();
                assert!(said.iter().all(|one| *one == said[0]), "{said:?}");
                assert_eq!(identity(&triple[0]).range, triple[0].range);
            }
            assert_eq!(rig.pool.used(), 0);
        }
    }
}

#[tokio::test]
async fn publication_resumes_after_a_fault_at_any_call() {
    let rows: Vec<Sizes> =
        (0..150).map(|i| (u8::from(i % 9 == 1), 40, (i % 2 == 0).then_some(5 + i), i % 200)).collect();
    let rig = Rig::new(1 << 20);
    let expected = expected(true, 0, &rows, 8 << 10, Compression::None);
    let mut call = 0;
    loop {
        let mut reached = false;
        for fault in [Fault::Reject, Fault::LoseAnswer] {
            let target = Arc::new(MemoryTarget::with_limits(limits()));
            let sink = sink(true, &target, options().with_target_object_bytes(8 << 10));
            let mut writer = staged(&sink, &rig, 0, &rows, &[100]).await;
            target.fail(call, fault);
            let published = match writer.publish().await {
                Err(error) => {
                    assert_eq!(error.class(), Class::RETRY);
                    writer.publish().await.unwrap()
                }
                Ok(published) => published,
            };
            assert_same(&decoded(&target, Compression::None), &expected);
            assert_eq!(published.objects.len(), expected.len());
            assert_eq!((target.open_uploads(), rig.pool.used()), (0, 0));
            if target.calls().len() <= call {
                continue;
            }
            reached = true;
            // A successor meets them all and creates nothing.
            let stored = target.objects();
            let again = staged(&sink, &rig, 0, &rows, &[31]).await.publish().await.unwrap();
            assert_eq!((again.objects, target.objects()), (published.objects, stored));
        }
        if !reached {
            break;
        }
        call += 1;
    }
    assert!(call > expected.len());
}

#[tokio::test]
async fn objects_beside_others_are_claimed_too() {
    let rows = [(0, 40, Some(5), 5), (0, 40, None, 0)];
    for taken in [".keys.json", ".headers.json"] {
        let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
        let key = format!("topics/t/r=0/t+0+0000000000{taken}");
        target.insert(&key, Bytes::from("theirs"), ObjectMeta::default());
        let sink = sink(false, &target, options());
        let error = staged(&sink, &rig, 0, &rows, &[3]).await.publish().await.unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
        assert!(ErrorChain(&error).to_string().contains(&key));
        assert_eq!(target.objects()[&key].bytes, "theirs");
    }
    // The same values with other keys are other records.
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let sink = sink(false, &target, options());
    staged(&sink, &rig, 0, &rows, &[3]).await.publish().await.unwrap();
    let other = [(0, 40, Some(6), 5), (0, 40, None, 0)];
    let error = staged(&sink, &rig, 0, &other, &[3]).await.publish().await.unwrap_err();
    assert!(ErrorChain(&error).to_string().contains(".keys.json"), "{}", ErrorChain(&error));
}

/// Whichever of the three is refused, nothing of the record stays, and its neighbours keep their lines.
#[tokio::test]
async fn a_poison_leaves_no_trace_in_any_of_them() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::new()));
    let options = ObjectOptions::default().with_record_keys(RecordKeys::lines()).with_record_headers(true);
    let sink = ObjectSink::new(JsonLines::new(), Arc::clone(&target), options).unwrap();
    let mut writer = begin(&sink, rig.start(0, 0)).await;
    let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), 64);
    for (offset, key) in (0..).zip(["a", "b\nc", "d", "e"]) {
        let headers = [("n", Some(key.as_bytes()))];
        builder.push(Offset::new(offset), Timestamp::None, Some(key.as_bytes()), Some(b"1"), headers);
    }
    let batch = builder.build(Permit::unlimited());
    let (route, path) = (RouteTable::new().intern(&RoutePath::default()), RoutePath::default());
    let values =
        [Value::Encoded(value(0, 9)), Value::Encoded(value(1, 9)), Value::Poison, Value::Shared(value(3, 9))];
    let mut refused = Vec::new();
    for (record, value) in batch.iter().zip(values) {
        let bytes = writer.encoded_bytes();
        if let Err(poison) = writer.append(Envelope { record: &record, route, path: &path, value }) {
            assert_eq!(writer.encoded_bytes(), bytes);
            refused.push((record.offset().get(), poison.detail().to_owned()));
        }
    }
    assert_eq!(refused.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [1, 2]);
    assert!(refused[0].1.contains("delimiter of keys"), "{refused:?}");
    let range = OffsetRange::new(Offset::new(0), Offset::new(4)).unwrap();
    writer.stage(range).await.unwrap();
    writer.publish().await.unwrap();
    let stored = |key: &str| target.objects()[&format!("topics/t/t+0+0000000000{key}")].bytes.clone();
    assert_eq!(stored(".json"), [&value(0, 9)[..], b"\n", &value(3, 9), b"\n"].concat());
    assert_eq!(stored(".keys.bin"), "a\ne\n");
    assert_eq!(
        stored(".headers.json"),
        "[{\"key\":\"n\",\"value\":\"a\"}]\n[{\"key\":\"n\",\"value\":\"e\"}]\n"
    );
}

#[test]
fn what_is_beside_values_is_part_of_the_layout_only_if_it_is_there() {
    let parts = |options: ObjectOptions| {
        let target = Arc::new(MemoryTarget::new());
        let sink = ObjectSink::new(JsonLines::new(), target, options).unwrap();
        let mut parts = Fingerprint::new();
        Sink::<Value>::fingerprint(&sink, &mut parts);
        parts
    };
    let base = parts(ObjectOptions::default());
    let differs = |options: ObjectOptions| base.differing_parts(&parts(options));
    let with = ObjectOptions::default;
    assert_eq!(differs(with().with_record_keys(RecordKeys::json())), ["record-keys"]);
    assert_eq!(differs(with().with_record_headers(true)), ["record-headers"]);
    assert!(differs(with().with_record_headers(false)).is_empty());
    let keys = [RecordKeys::json(), RecordKeys::lines(), RecordKeys::delimited_by("\0")];
    let digests: std::collections::HashSet<_> =
        keys.into_iter().map(|keys| parts(with().with_record_keys(keys)).digest()).collect();
    assert_eq!(digests.len(), 3);
}

#[test]
fn names_that_would_meet_and_keys_without_a_delimiter_are_refused() {
    let sink = |extension: &str, options: ObjectOptions| {
        let format = Delimited::lines().with_extension(extension);
        ObjectSink::new(format, Arc::new(MemoryTarget::new()), options).map(drop)
    };
    let options = ObjectOptions::default;
    let taken = |extension: &str| vec![OptionError::Extension { extension: extension.to_owned() }];
    let keys = options().with_record_keys(RecordKeys::lines());
    assert_eq!(sink(".keys.bin", keys.clone()).unwrap_err(), taken(".keys.bin"));
    let headers = options().with_record_headers(true);
    assert_eq!(sink(".headers.json", headers).unwrap_err(), taken(".headers.json"));
    sink(".headers.json", keys).unwrap();
    let empty = options().with_record_keys(RecordKeys::delimited_by(""));
    assert_eq!(sink(".bin", empty).unwrap_err(), [OptionError::RecordKeys]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn batching_and_grouping_decide_nothing(
        rows in proptest::collection::vec((0..4_u8, 0..300_usize, proptest::option::of(0..300_usize), 0..300_usize), 1..200),
        sizes in proptest::collection::vec(1..80_usize, 1..6),
        object_bytes in 1..20_000_u64,
        first in 0..1_000_000_i64,
        built: bool,
        codec in prop_oneof![Just(Compression::None), Just(Compression::Gzip), Just(Compression::Zstd)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
            let options = options().with_target_object_bytes(object_bytes).with_compression(codec);
            let sink = sink(built, &target, options);
            staged(&sink, &rig, first, &rows, &sizes).await.publish().await.unwrap();
            let bytes = usize::try_from(object_bytes).unwrap();
            assert_same(&decoded(&target, codec), &expected(built, first, &rows, bytes, codec));
        });
    }
}

/// The model of this file agrees with the one without anything beside values.
#[test]
fn the_models_agree() {
    let specs = mixed();
    let rows: Vec<Sizes> = specs.iter().map(|(route, length)| (*route, *length, None, 0)).collect();
    for built in [false, true] {
        let mut ours = expected(built, 0, &rows, 40 << 10, Compression::None);
        ours.retain(|key, _| !key.contains(".keys.") && !key.contains(".headers."));
        let theirs = if built {
            arrays(0, &specs, 40 << 10, Compression::None)
        } else {
            model(0, 0, &specs, 40 << 10, "")
        };
        assert_same(&ours, &theirs);
    }
}
