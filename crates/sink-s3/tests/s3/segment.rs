//! Whole segments through the sink, with faults on the way.

use std::path::Path;
use std::sync::Arc;

use aqueduct_core::{
    BatchBuilder, Begun, Class, Envelope, ErrorChain, JsonRow, LocalDisk, Offset, OffsetRange, Permit,
    Poison, Pool, Published, RoutePath, RouteTable, SegmentStart, SegmentWriter, Sink, Spool, StageError,
    Timestamp, TopicPartition,
};
use aqueduct_files::{Delimited, JsonArray, RecordKeys};
use aqueduct_sink_s3::S3Sink;
use bytes::Bytes;

use super::support::{ACCESS_KEY, BUCKET, Fault, SECRET, Server};

async fn sink(server: &Server) -> S3Sink<Delimited> {
    S3Sink::builder()
        .bucket(BUCKET)
        .endpoint(server.endpoint())
        .credentials(ACCESS_KEY, SECRET)
        .format(Delimited::lines())
        .part_bytes(5 << 20)
        .build()
        .await
        .unwrap()
}

fn value(offset: i64) -> Bytes {
    Bytes::from(format!("{{\"offset\":{offset},\"pad\":\"{}\"}}", "x".repeat(900)))
}

/// One hot route of 12 MB and three of one row in ten thousand.
fn route(offset: i64) -> &'static str {
    match offset % 4000 {
        7 => "b",
        8 => "c",
        9 => "d",
        _ => "a",
    }
}

const RECORDS: i64 = 13_000;

fn start(directory: &Path) -> SegmentStart {
    let spool = Spool::open(directory, "test", Arc::new(LocalDisk), Pool::new(1 << 30)).unwrap();
    SegmentStart {
        lane: TopicPartition::new("orders", 2),
        start: Offset::ZERO,
        pinned: None,
        opened_at_ms: 0,
        layout: 1,
        scratch: spool.scratch(),
        memory: Pool::new(24 << 20),
    }
}

async fn staged(sink: &S3Sink<Delimited>, directory: &Path) -> Box<dyn SegmentWriter<Bytes>> {
    let at = start(directory);
    let Begun::Fill(mut writer) = sink.begin(at).await.unwrap() else { panic!("this sink redoes") };
    let mut table = RouteTable::new();
    for first in (0..RECORDS).step_by(1000) {
        let mut builder = BatchBuilder::new(TopicPartition::new("orders", 2), 1 << 20);
        for offset in first..first + 1000 {
            builder.push(Offset::new(offset), Timestamp::None, None, Some(&value(offset)), []);
        }
        let batch = builder.build(Permit::unlimited());
        for record in batch.iter() {
            let mut path = RoutePath::default();
            path.push(route(record.offset().get())).unwrap();
            let (route, value) = (table.intern(&path), record.value_bytes().unwrap());
            writer.append(Envelope { record: &record, route, path: &path, value }).unwrap();
        }
        writer.spill().await.unwrap();
    }
    writer.stage(OffsetRange::new(Offset::ZERO, Offset::new(RECORDS)).unwrap()).await.unwrap();
    writer
}

/// As the lane does it: again after every `Retry`.
async fn publish(writer: &mut dyn SegmentWriter<Bytes>) -> Result<Published, StageError> {
    for _ in 0..10 {
        match writer.publish().await {
            Err(error) if matches!(error.class(), Class::Retry { .. }) => {}
            other => return other,
        }
    }
    panic!("still failing after ten tries")
}

fn assert_complete(server: &Server) {
    let mut expected: Vec<(String, Vec<u8>)> = Vec::new();
    for offset in 0..RECORDS {
        let directory = format!("topics/orders/{}/", route(offset));
        let row = [&value(offset)[..], b"\n"].concat();
        match expected.iter_mut().find(|(key, _)| key.starts_with(&directory)) {
            Some((_, rows)) => rows.extend(row),
            None => expected.push((format!("{directory}orders+2+{offset:010}.bin"), row)),
        }
    }
    expected.sort();
    let found = server.objects();
    let keys = |objects: &[(String, Vec<u8>)]| objects.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&found), keys(&expected));
    assert!(found == expected, "the rows differ");
}

#[tokio::test]
async fn every_fault_ends_in_the_same_objects() {
    let faults: [&[(&str, Fault)]; 7] = [
        &[],
        &[("PUT", Fault::Status(503, "SlowDown")), ("partNumber=2", Fault::Status(500, "InternalError"))],
        &[("partNumber=1", Fault::Reset), ("/orders/b/", Fault::Reset)],
        &[("POST /archive/topics/orders/a/orders%2B2%2B0000000000.bin?uploadId", Fault::LoseAnswer)],
        &[("/orders/c/", Fault::LoseAnswer), ("HEAD", Fault::Status(503, "SlowDown"))],
        &[("uploadId", Fault::Status(404, "NoSuchUpload"))],
        &[("?uploadId", Fault::Status(409, "ConditionalRequestConflict"))],
    ];
    for script in faults {
        let server = Server::start().await;
        let sink = sink(&server).await;
        for (part, fault) in script {
            server.fault(part, *fault);
        }
        let directory = tempfile::tempdir().unwrap();
        let mut writer = staged(&sink, directory.path()).await;
        let published = publish(&mut *writer).await.unwrap();
        assert_eq!(published.objects.len(), 4, "{script:?}");
        assert_complete(&server);
        let lines: Vec<_> = server.seen().into_iter().map(|seen| seen.line).collect();
        assert!(server.faults_are_used_up(), "{script:?} {lines:?}");

        // A new owner that redoes the segment meets everything and changes nothing.
        let directory = tempfile::tempdir().unwrap();
        let again = publish(&mut *staged(&sink, directory.path()).await).await.unwrap();
        assert_eq!(again.objects, published.objects);
        assert_complete(&server);
    }
}

#[tokio::test]
async fn a_conflict_names_both_objects() {
    let server = Server::start().await;
    let sink = sink(&server).await;
    let client = sink.target().client();
    let key = "topics/orders/a/orders+2+0000000000.bin";
    client.put_object().bucket(BUCKET).key(key).body(Bytes::from("theirs").into()).send().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let error = publish(&mut *staged(&sink, directory.path()).await).await.unwrap_err();
    let text = ErrorChain(&error).to_string();
    assert_eq!(error.class(), Class::Fatal);
    assert!(
        text.contains(&format!("s3://{BUCKET}/{key}")) && text.contains("orders[2] [0, 13000)"),
        "{text}"
    );
    assert_eq!(server.objects(), [(key.to_owned(), b"theirs".to_vec())]);
}

/// JSON text.
struct Text(Bytes);

impl JsonRow for Text {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        out.extend_from_slice(&self.0);
        Ok(())
    }
}

#[tokio::test]
async fn an_array_has_keys_and_headers_beside_it() {
    let server = Server::start().await;
    let sink = S3Sink::builder()
        .bucket(BUCKET)
        .endpoint(server.endpoint())
        .credentials(ACCESS_KEY, SECRET)
        .format(JsonArray::new())
        .record_keys(RecordKeys::json())
        .record_headers(true)
        .build()
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let Begun::Fill(mut writer) = sink.begin(start(directory.path())).await.unwrap() else {
        panic!("this sink redoes")
    };
    let mut builder = BatchBuilder::new(TopicPartition::new("orders", 2), 1 << 10);
    let header: [(&str, Option<&[u8]>); 1] = [("trace", Some(b"7"))];
    builder.push(Offset::ZERO, Timestamp::None, Some(b"first"), Some(b"{\"n\":1}"), header);
    builder.push(Offset::new(1), Timestamp::None, None, Some(b"{\"n\":2}"), []);
    let batch = builder.build(Permit::unlimited());
    let (route, path) = (RouteTable::new().intern(&RoutePath::default()), RoutePath::default());
    for record in batch.iter() {
        let value = Text(record.value_bytes().unwrap());
        writer.append(Envelope { record: &record, route, path: &path, value }).unwrap();
    }
    writer.stage(OffsetRange::new(Offset::ZERO, Offset::new(2)).unwrap()).await.unwrap();
    writer.publish().await.unwrap();
    let expected = [
        (".headers.json", "[{\"key\":\"trace\",\"value\":\"7\"}]\n[]\n"),
        (".json", "[{\"n\":1},\n{\"n\":2}]"),
        (".keys.json", "\"first\"\nnull\n"),
    ];
    let key = |beside| format!("topics/orders/orders+2+0000000000{beside}");
    assert_eq!(server.objects(), expected.map(|(beside, file)| (key(beside), file.as_bytes().to_vec())));
}
