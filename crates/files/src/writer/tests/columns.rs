//! Formats with columns, through the sink.

use aqueduct_core::{Compatibility, DataType, Field, Schema};

use super::*;
use crate::columns::tests::Value as Columns;
use crate::{AvroFiles, Csv, Format, Parquet};

/// Keys with their bodies, of `rows` alternating between schemas and routes, given in batches of this size.
async fn stored(
    format: impl Format<Columns>,
    rows: usize,
    batch: usize,
    poison: bool,
) -> BTreeMap<String, Vec<u8>> {
    let rig = Rig::new(16 << 20);
    let target = Arc::new(MemoryTarget::new());
    let sink = ObjectSink::new(format, Arc::clone(&target), ObjectOptions::default()).unwrap();
    let Begun::Fill(mut writer) = Sink::<Columns>::begin(&sink, rig.start(0, 0)).await.unwrap() else {
        panic!()
    };
    let id = || Field::new("id", DataType::Int64);
    let of = |version, fields| {
        Arc::new(Schema::new(DataType::Struct(fields)).with_name("shop.Order").with_version(version))
    };
    let schemas = [of(1, vec![id()]), of(2, vec![id(), Field::new("note", DataType::String).nullable()])];
    let mut table = RouteTable::new();
    let specs = vec![(0, 20); rows];
    for start in (0..rows).step_by(batch) {
        let slice = &specs[start..(start + batch).min(rows)];
        for record in one_batch(0, count(start), slice).iter() {
            let offset = record.offset().get();
            let mut path = RoutePath::default();
            path.push_field("r", &(offset / 2 % 3).to_string()).unwrap();
            let value =
                Columns::of(&schemas[usize::try_from(offset % 2).unwrap()], &format!(r#"{{"id":{offset}}}"#));
            let mut give = |value| {
                writer.append(Envelope { record: &record, route: table.intern(&path), path: &path, value })
            };
            if poison && offset % 5 == 0 {
                give(Columns::of(&schemas[1], r#"{"id":1,"more":2}"#)).unwrap_err();
            }
            give(value).unwrap();
        }
        writer.spill().await.unwrap();
    }
    let range = OffsetRange::new(Offset::ZERO, Offset::new(count(rows))).unwrap();
    writer.stage(range).await.unwrap();
    writer.publish().await.unwrap();
    assert_eq!(rig.pool.used(), 0);
    target.objects().into_iter().map(|(key, object)| (key, object.bytes.to_vec())).collect()
}

#[tokio::test]
async fn producers_that_alternate_make_one_object_a_route_and_version() {
    let objects = stored(Parquet::new(), 600, 50, false).await;
    assert_eq!(objects.len(), 6, "three routes, two versions");
    let keys: Vec<_> = objects.keys().cloned().collect();
    assert_eq!(keys[0], "topics/t/r=0/t+0+0000000000.snappy.parquet");
    assert_eq!(keys[1], "topics/t/r=0/t+0+0000000001.snappy.parquet");
    let together = stored(Parquet::new().with_compatibility(Compatibility::Backward), 600, 50, false).await;
    assert_eq!(together.len(), 3, "three routes");
    let text = stored(Csv::new().with_compatibility(Compatibility::Backward), 12, 5, false).await;
    assert_eq!(text["topics/t/r=0/t+0+0000000000.csv"], b"id,note\n0,\n1,\n6,\n7,\n");
}

#[tokio::test]
async fn a_replay_in_other_batches_gives_the_same_files() {
    async fn replayed(format: impl Format<Columns> + Clone) {
        let whole = stored(format.clone(), 3_000, 3_000, false).await;
        assert_eq!(whole, stored(format.clone(), 3_000, 7, false).await);
        assert_eq!(whole, stored(format, 3_000, 500, true).await, "refused records leave no trace");
    }
    replayed(Parquet::new()).await;
    replayed(Parquet::new().with_compatibility(Compatibility::Backward).with_row_group_rows(100)).await;
    replayed(AvroFiles::new()).await;
    replayed(Csv::new()).await;
}

#[tokio::test]
async fn records_refused_for_their_key_or_route_shape_no_file() {
    let rig = Rig::new(16 << 20);
    let target = Arc::new(MemoryTarget::new());
    let options = ObjectOptions::default()
        .with_record_keys(crate::RecordKeys::lines())
        .with_keys(KeyTemplate::new("p".repeat(500)));
    let sink = ObjectSink::new(Csv::new(), Arc::clone(&target), options).unwrap();
    let Begun::Fill(mut writer) = Sink::<Columns>::begin(&sink, rig.start(0, 0)).await.unwrap() else {
        panic!()
    };
    let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), 64);
    let keys: [&[u8]; 4] = [b"two\nlines", b"k1", b"k2", b"k3"];
    for (offset, key) in (0..).zip(keys) {
        builder.push(Offset::new(offset), Timestamp::None, Some(key), Some(b"v"), []);
    }
    let batch = builder.build(Permit::unlimited());
    let (short, mut long) = (RoutePath::default(), RoutePath::default());
    long.push(&"x".repeat(255)).unwrap();
    long.push(&"y".repeat(255)).unwrap();
    let mut table = RouteTable::new();
    let values = [r#"{"key":1}"#, r#"{"route":1}"#, r#"{"a":1}"#, r#"{"b":2}"#];
    for (index, (record, value)) in batch.iter().zip(values).enumerate() {
        let path = if index == 1 { &long } else { &short };
        let value = crate::columns::tests::json(value);
        let given = writer.append(Envelope { record: &record, route: table.intern(path), path, value });
        assert_eq!(given.is_err(), index < 2, "{index}");
    }
    writer.spill().await.unwrap();
    writer.stage(OffsetRange::new(Offset::ZERO, Offset::new(4)).unwrap()).await.unwrap();
    writer.publish().await.unwrap();
    let objects: Vec<_> = target.objects().into_values().map(|object| object.bytes).collect();
    assert_eq!(objects.len(), 2);
    assert!(objects.iter().any(|bytes| **bytes == *b"a,b\n1,\n,2\n"), "{objects:?}");
    assert!(objects.iter().any(|bytes| **bytes == *b"k2\nk3\n"), "{objects:?}");
}
