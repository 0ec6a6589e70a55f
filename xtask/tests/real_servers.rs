//! Against the real servers, so not among the tests of `cargo test --workspace`: run it by
//! `cargo test --package xtask --test real_servers -- --ignored`.
//!
//! The auditor judges everything else, so it is first shown a bucket in which all is well, and then one defect after the other.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::task::spawn_blocking;
use xtask::load::audit::{Audit, Options, Scan, audit, scan};
use xtask::load::generate::Load;
use xtask::load::{Identity, Spec};
use xtask::process::Stopped;
use xtask::services::{self, Bucket, Cache, Running};

const TOPIC: &str = "logs";
const ROWS_PER_OBJECT: u64 = 1_000;

fn spec() -> Spec {
    Spec { records: 20_000, ..Spec::default() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Apache Kafka and MinIO"]
async fn servers_load_and_audit_fit_together() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut running = Running::start(&Cache::from_env()?, &services::Options::at(data.path())).await?;
    let brokers = running.kafka.brokers();

    running.kafka.topics()?.recreate(TOPIC, 4, &[]).await?;
    let (load, to) = (Load::of(spec(), TOPIC), brokers.clone());
    let produced = spawn_blocking(move || load.produce(&to)).await??;
    assert_eq!((produced.records, produced.bytes), (20_000, 10_000_000));

    offsets_are_those_of_committed_records(&brokers).await?;
    for protocol in ["classic", "consumer"] {
        let brokers = brokers.clone();
        spawn_blocking(move || a_group_member_gets_a_record(&brokers, protocol)).await??;
    }

    let bucket = running.s3.endpoint().bucket("archive");
    bucket.create().await?;
    bucket.create().await.context("creating it again")?;
    upload_everything(&bucket).await?;
    let clean = audited(&brokers, &bucket).await?;
    let line = "records=20000 lost=0 duplicated=0 reordered=0 corrupt=0 objects=20 orphans=0";
    assert_eq!(clean.to_string(), line, "{:?}", clean.findings);
    assert!(clean.is_clean() && clean.row_bytes == 10_020_000);

    every_defect_is_counted(&brokers, &bucket).await?;
    servers_come_back_with_their_data(&mut running, &bucket).await?;

    running.kafka.topics()?.delete(TOPIC).await?;
    assert_eq!(running.kafka.topics()?.partitions(TOPIC).await?, None);
    bucket.delete().await?;
    // The server has forgotten the upload that was left behind, so nobody could abort it.
    assert_eq!(running.s3.unfinished_uploads()?, 1);
    running.stop().await?;
    assert!(!running.kafka.is_alive() && !running.s3.is_alive());
    running.wipe()?;
    assert!(!running.home().exists());
    Ok(())
}

/// Control records and aborted events take up offsets, and are not to be found in any bucket.
async fn offsets_are_those_of_committed_records(brokers: &str) -> Result<()> {
    let to = brokers.to_owned();
    spawn_blocking(move || -> Result<()> {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &to).set("transactional.id", "xtask").create()?;
        let timeout = Duration::from_secs(20);
        producer.init_transactions(timeout)?;
        producer.begin_transaction()?;
        let mut event = Vec::new();
        spec().write(20_000, &mut event);
        let record = BaseRecord::<(), _>::to(TOPIC).partition(0).payload(&event);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(timeout)?;
        producer.abort_transaction(timeout)?;
        Ok(())
    })
    .await??;
    let scan = scanned(brokers).await?;
    assert_eq!((scan.ledger.expected(), scan.foreign), (20_000, 0));
    assert_eq!(scan.ledger.offset_of(Identity { seq: 19_999, partition: 3 }), Some(4_999));
    Ok(())
}

fn a_group_member_gets_a_record(brokers: &str, protocol: &str) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", format!("by-{protocol}"));
    config.set("group.protocol", protocol).set("auto.offset.reset", "earliest");
    if protocol == "classic" {
        config.set("session.timeout.ms", "6000");
    }
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[TOPIC])?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let record = loop {
        // Being assigned something ends a poll too.
        match consumer.poll(Duration::from_millis(200)) {
            Some(record) => break record?,
            None => ensure!(Instant::now() < deadline, "{protocol}: no record within 20 s"),
        }
    };
    ensure!(record.offset() == 0, "{protocol} begins at {}", record.offset());
    Ok(())
}

async fn upload_everything(bucket: &Bucket) -> Result<()> {
    for partition in 0..4 {
        for first in (0..5_000).step_by(1_000) {
            put(bucket, partition, first, first..first + ROWS_PER_OBJECT).await?;
        }
    }
    Ok(())
}

/// Writes rows `offsets` of a partition as the object that begins with offset `first`, compressed in one of three ways, with
/// metadata that is true of these rows.
async fn put(
    bucket: &Bucket,
    partition: u64,
    first: u64,
    offsets: impl IntoIterator<Item = u64>,
) -> Result<String> {
    let (mut plain, mut event) = (Vec::new(), Vec::new());
    let offsets: Vec<u64> = offsets.into_iter().collect();
    for offset in &offsets {
        spec().write(offset * 4 + partition, &mut event);
        plain.extend_from_slice(&event);
        plain.push(b'\n');
    }
    let (lowest, highest) =
        (offsets.iter().min().context("no rows")?, offsets.iter().max().context("no rows")?);
    let metadata = [
        ("topic", TOPIC.to_owned()),
        ("partition", partition.to_string()),
        ("start", lowest.to_string()),
        ("end", (highest + 1).to_string()),
        ("rows", offsets.len().to_string()),
        ("row-bytes", plain.len().to_string()),
        ("rows-crc32c", format!("{:08x}", crc_fast::crc32_iscsi(&plain))),
    ];
    let metadata: HashMap<_, _> = metadata.map(|(name, value)| (format!("aqueduct-{name}"), value)).into();
    let (extension, body) = match (first / ROWS_PER_OBJECT) % 3 {
        0 => ("json", plain),
        1 => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&plain)?;
            ("json.gz", gzip.finish()?)
        }
        _ => ("json.zst", zstd::encode_all(plain.as_slice(), 1)?),
    };
    let key = format!("archive/{TOPIC}/partition={partition}/{TOPIC}+{partition}+{first:010}.{extension}");
    bucket.write(&key, body.into(), metadata).await?;
    Ok(key)
}

async fn every_defect_is_counted(brokers: &str, bucket: &Bucket) -> Result<()> {
    // Partition 0 loses its first row, so its first object begins one offset late; a row in the middle of another is lost too.
    put(bucket, 0, 0, 1..1_000).await?;
    put(bucket, 1, 1_000, (1_000..2_000).filter(|offset| *offset != 1_500)).await?;
    // Two rows change places.
    put(bucket, 2, 2_000, [2_001, 2_000].into_iter().chain(2_002..3_000)).await?;
    // A second copy of three rows, and of nothing else.
    put(bucket, 3, 4_997, 4_997..5_000).await?;
    // A gzip stream that is cut short.
    let key = put(bucket, 3, 1_000, 1_000..2_000).await?;
    let (whole, metadata) = bucket.read(&key).await?;
    let cut: Bytes = whole.slice(..whole.len() - 1);
    bucket.write(&key, cut, metadata).await?;
    // Metadata that is lost, and metadata that is not all there.
    let key = put(bucket, 1, 2_000, 2_000..3_000).await?;
    let (body, _) = bucket.read(&key).await?;
    bucket.write(&key, body, HashMap::new()).await?;
    let key = put(bucket, 1, 3_000, 3_000..4_000).await?;
    let (body, mut metadata) = bucket.read(&key).await?;
    let identity = metadata.get_mut("aqueduct").context("it was there")?;
    *identity = identity.replace(" rows=1000", "");
    bucket.write(&key, body, metadata).await?;
    // An upload that nobody completes.
    let upload = bucket.client().create_multipart_upload().bucket(bucket.name()).key("archive/left/behind");
    upload.send().await?;

    let found = audited(brokers, bucket).await?;
    // The first row of a swapped pair is not that object's first offset, but its lowest offset still is: no orphan.
    // The cut takes the gzip trailer's last byte, so all its rows are there.
    let line = "records=19998 lost=2 duplicated=3 reordered=1 corrupt=1 objects=21 orphans=4";
    assert_eq!(found.to_string(), line, "{:#?}", found.findings);
    assert!(!found.is_clean());
    assert_eq!(bucket.objects("archive/logs/partition=3/").await?.len(), 6);
    Ok(())
}

async fn servers_come_back_with_their_data(running: &mut Running, bucket: &Bucket) -> Result<()> {
    // Suspended, it takes connections and does not answer.
    running.s3.process()?.suspend()?;
    let listed = tokio::time::timeout(Duration::from_secs(2), bucket.objects("")).await;
    assert!(listed.is_err(), "a suspended server has answered");
    running.s3.process()?.resume()?;
    assert_eq!(bucket.objects("").await?.len(), 21);

    assert_eq!(running.s3.stop().await?, Stopped::Asked);
    assert!(bucket.objects("").await.is_err());
    running.s3.start().await?;
    assert_eq!(bucket.objects("").await?.len(), 21);
    let mut found = audited(&running.kafka.brokers(), bucket).await?;
    assert_eq!((found.orphans, found.uploads), (3, 0), "a restart has kept the list of uploads");
    found.add_forgotten_uploads(running.s3.unfinished_uploads()?);
    assert_eq!((found.orphans, found.uploads), (4, 1));

    let brokers = running.kafka.brokers();
    assert_eq!(running.kafka.kill().await?, Stopped::Killed);
    running.kafka.start().await?;
    assert_eq!(running.kafka.brokers(), brokers);
    assert_eq!(scanned(&brokers).await?.ledger.expected(), 20_000);
    assert_eq!(running.kafka.stop().await?, Stopped::Asked);
    running.restart().await?;
    assert_eq!(scanned(&brokers).await?.ledger.expected(), 20_000);
    Ok(())
}

async fn audited(brokers: &str, bucket: &Bucket) -> Result<Audit> {
    let (topic, prefix) = (TOPIC.to_owned(), "archive/".to_owned());
    let options = Options { topic, prefix, require_metadata: true, concurrency: 4 };
    audit(bucket, &options, scanned(brokers).await?.ledger).await
}

async fn scanned(brokers: &str) -> Result<Scan> {
    let brokers = brokers.to_owned();
    spawn_blocking(move || scan(&brokers, TOPIC)).await?
}
