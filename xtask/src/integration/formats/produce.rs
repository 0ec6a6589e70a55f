//! Orders into a topic, and what the topic then holds by a reader of our own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::{JoinHandle, spawn_blocking};

use super::orders::{Order, Version, Versions};

/// Orders that are produced in the background, one version of their schema after the other.
#[derive(Debug)]
pub(crate) struct Orders {
    stop: Arc<AtomicBool>,
    newest: Arc<AtomicU32>,
    /// The version of partition 0 alone; 0 while there is none.
    alone: Arc<AtomicU32>,
    task: JoinHandle<Result<u64>>,
}

/// Where a record stands.
pub(crate) type Place = (i32, i64);

/// Records of one partition that follow each other: every version that is in use is among them.
const RUN: u64 = 12;

impl Orders {
    /// Produces `rate` a second until told to stop; of the first two versions at first.
    pub(crate) fn flow(brokers: &str, topic: &str, partitions: u32, rate: u64, versions: Versions) -> Self {
        let (stop, newest, alone) =
            (Arc::<AtomicBool>::default(), Arc::new(AtomicU32::new(2)), Arc::<AtomicU32>::default());
        let (stopped, newest_now, alone_now) = (Arc::clone(&stop), Arc::clone(&newest), Arc::clone(&alone));
        let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
        let task = spawn_blocking(move || {
            let producer = producer(&brokers)?;
            let started = Instant::now();
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                let partition = i32::try_from(number / RUN % u64::from(partitions))?;
                let alone = alone_now.load(Ordering::Relaxed);
                let among = u64::from(newest_now.load(Ordering::Relaxed));
                let version = if alone > 0 && partition == 0 {
                    Version(alone)
                } else {
                    Version(u32::try_from(number % among)? + 1)
                };
                let value = versions.encode(Order { number, version })?;
                send(&producer, &topic, partition, Some(&value), &number.to_string())?;
                number += 1;
                let due = started + Duration::from_micros(1_000_000 * number / rate.max(1));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            producer.flush(TIMEOUT)?;
            Ok(number)
        });
        Self { stop, newest, alone, task }
    }

    /// From now on the first so many versions are in use.
    pub(crate) fn newest(&self, version: Version) {
        self.newest.store(version.0, Ordering::Relaxed);
    }

    /// From now on partition 0 has this version only; all of them again if there is none.
    pub(crate) fn alone(&self, version: Option<Version>) {
        self.alone.store(version.map_or(0, |it| it.0), Ordering::Relaxed);
    }

    /// Ends it and answers how many there are.
    pub(crate) async fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.task).await?
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn producer(brokers: &str) -> Result<BaseProducer> {
    let producer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .create();
    producer.context("no producer")
}

/// Sends one record, and waits while the client's queue is full. Blocks.
pub(crate) fn send(
    producer: &BaseProducer,
    topic: &str,
    partition: i32,
    value: Option<&[u8]>,
    key: &str,
) -> Result<()> {
    let mut record = BaseRecord::<str, [u8]>::to(topic).partition(partition).key(key);
    record.payload = value;
    loop {
        match producer.send(record) {
            Ok(()) => {
                producer.poll(Duration::ZERO);
                return Ok(());
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                producer.poll(Duration::from_millis(20));
                record = again;
            }
            Err((error, _)) => return Err(error).context("a record cannot be produced"),
        }
    }
}

/// A record as it stands in a topic, as far as anybody asks.
#[derive(Clone, Debug)]
pub(crate) struct Stands {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// Everything a topic of so many partitions holds.
pub(crate) async fn scan(brokers: &str, topic: &str, partitions: u32) -> Result<BTreeMap<Place, Stands>> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    spawn_blocking(move || scan_blocking(&brokers, &topic, partitions)).await?
}

fn scan_blocking(brokers: &str, topic: &str, partitions: u32) -> Result<BTreeMap<Place, Stands>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "aqueduct-audit")
        .set("enable.auto.commit", "false")
        .create()?;
    let (mut assignment, mut left) = (TopicPartitionList::new(), 0);
    for partition in 0..i32::try_from(partitions)? {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        left += consumer.fetch_watermarks(topic, partition, TIMEOUT)?.1;
    }
    consumer.assign(&assignment)?;
    let (mut found, mut last) = (BTreeMap::new(), Instant::now());
    while i64::try_from(found.len())? < left {
        ensure!(last.elapsed() < TIMEOUT, "{} of {left} records of {topic} arrived", found.len());
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message?;
        last = Instant::now();
        let stands = Stands {
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().map(<[u8]>::to_vec),
        };
        found.insert((message.partition(), message.offset()), stands);
    }
    Ok(found)
}

const TIMEOUT: Duration = Duration::from_secs(30);
