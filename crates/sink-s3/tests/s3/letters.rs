//! Letters and repairs against a server that is not ours.

use std::sync::Arc;

use aqueduct_core::{
    Converted, Converter, DeadLetter, DeadLetterSink as _, Fingerprint, LetterSource as _, Offset,
    OwnedRecord, Partitioner, Poison, PoisonReason, PoisonStage, Record, Redrive, RoutePath, Timestamp,
    TopicPartition,
};
use aqueduct_files::{Compression, Delimited, ObjectRead as _};
use aqueduct_sink_s3::{S3Sink, S3SinkBuilder};
use bytes::Bytes;

use super::support::{ACCESS_KEY, BUCKET, Fault, SECRET, Server};

fn builder(server: &Server, prefix: &str) -> S3SinkBuilder<Delimited> {
    S3Sink::builder()
        .bucket(BUCKET)
        .endpoint(server.endpoint())
        .credentials(ACCESS_KEY, SECRET)
        .prefix(prefix)
        .format(Delimited::lines())
}

struct Values;

impl Converter for Values {
    type Output = Bytes;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Bytes>, Poison> {
        Ok(Converted::Emit(record.value_bytes().unwrap_or_default()))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "values/1");
    }
}

impl Partitioner<Bytes> for Values {
    fn route(&self, _record: &Record<'_>, value: &Bytes, path: &mut RoutePath) -> Result<(), Poison> {
        path.push_field("length", &value.len().to_string())
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "values/1");
    }
}

fn letter(offset: i64) -> DeadLetter {
    DeadLetter {
        record: OwnedRecord {
            lane: TopicPartition::new("orders", 3),
            offset: Offset::new(offset),
            timestamp: Timestamp::Create(7),
            key: None,
            value: Some(Bytes::from(format!("row-{offset}"))),
            headers: Vec::new(),
        },
        stage: PoisonStage::Convert,
        poison: Poison::new(PoisonReason::Malformed, "once"),
    }
}

#[tokio::test]
async fn letters_go_to_the_bucket_and_are_driven_again_once() {
    let server = Server::start().await;
    let letters = builder(&server, "dead").build_dead_letters().await.unwrap().with_pipeline("orders");
    letters.check().await.unwrap();
    server.fault("PUT /archive/dead/orders", Fault::LoseAnswer);
    letters.send((8..12).map(letter).collect()).await.unwrap();
    letters.send((8..12).map(letter).collect()).await.unwrap();
    letters.send(vec![letter(20)]).await.unwrap();
    assert_eq!(server.objects().len(), 2, "what is sent again meets its own");

    let repairs = || async {
        let builder = builder(&server, "topics").compression(Compression::Gzip);
        Redrive::new(Values, Arc::new(Values), builder.build_repairs().await.unwrap())
    };
    // One object refused for good: the claim is there, and the next run ends it.
    server.fault("length%3D5", Fault::Status(403, "AccessDenied"));
    repairs().await.run(&mut letters.letters()).await.unwrap_err();
    let report = repairs().await.run(&mut letters.letters()).await.unwrap();
    assert_eq!((report.read, report.finished, report.repaired), (5, 5, 0), "{report}");
    let before = server.objects();
    let report = repairs().await.run(&mut letters.letters()).await.unwrap();
    assert_eq!((report.repaired, report.before), (0, 5), "{report}");
    assert_eq!(server.objects(), before);
    let keys: Vec<_> = before.into_iter().map(|(key, _)| key).filter(|key| key.contains("length=")).collect();
    let name =
        |length: i32, first: i64| format!("topics/orders/length={length}/orders+3+{first:010}.repair-0");
    assert!(
        keys.len() == 2 && keys[0].starts_with(&name(5, 8)) && keys[1].starts_with(&name(6, 10)),
        "{keys:?}"
    );
    assert!(keys.iter().all(|key| key.rsplit('.').next() == Some("gz")), "{keys:?}");
    assert!(server.faults_are_used_up());
}

#[tokio::test]
async fn objects_are_listed_in_order_and_read_within_a_limit() {
    let server = Server::start().await;
    let letters = builder(&server, "dead").build_dead_letters().await.unwrap();
    for offset in 0..5 {
        letters.send(vec![letter(offset)]).await.unwrap();
    }
    let target = builder(&server, "dead").build().await.unwrap().target().clone();
    let keys = target.list("dead/", None).await.unwrap();
    assert!(keys.len() == 5 && keys.is_sorted(), "{keys:?}");
    assert_eq!(target.list("dead/", Some(&keys[2])).await.unwrap(), keys[3..]);
    assert_eq!(target.list("dead/", Some(&keys[4])).await.unwrap(), [] as [String; 0]);
    let size = target.get(&keys[0], 1 << 20).await.unwrap().unwrap().len() as u64;
    assert!(target.get(&keys[0], size).await.unwrap().is_some());
    let error = target.get(&keys[0], size - 1).await.unwrap_err();
    assert_eq!(error.class(), aqueduct_core::Class::Fatal);
    assert_eq!(target.get("dead/none", 10).await.unwrap(), None);
    let mut source = letters.letters();
    let mut offsets = Vec::new();
    while let Some(letter) = source.next().await.unwrap() {
        offsets.push(letter.unwrap().record.offset.get());
    }
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
}
