//! The embedded Kafka broker: librdkafka's own mock cluster, and the events that go into it.
//!
//! It has real consumer groups, offsets and timestamps, but it drops the oldest messages of a partition beyond 5 MiB.
//! So the topic has many partitions, the batches are compressed, and [`produce`] ends with a look at every partition's
//! first offset: anything but 0 means that the broker has lost events before the pipeline could read them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::time::sleep;

use crate::child::told_to_end;
use crate::events::{Events, Identity};
use crate::progress::Progress;

/// Serves `topic` with that many partitions, says where on standard output, and ends when the parent does.
pub async fn serve(topic: &str, partitions: u32) -> Result<()> {
    let cluster = MockCluster::new(1).context("cannot start the embedded broker")?;
    cluster
        .create_topic(topic, i32::try_from(partitions)?, 1)
        .with_context(|| format!("the embedded broker does not take the topic {topic}"))?;
    println!("{}", cluster.bootstrap_servers());
    told_to_end().await;
    Ok(())
}

/// Produces all `events` to `topic`, each with its own time as the record's timestamp, and checks that they are there.
pub async fn produce(brokers: &str, topic: &str, events: &Events) -> Result<()> {
    let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("compression.type", "zstd")
        .set("linger.ms", "200")
        .set("batch.size", "900000")
        .set("message.timeout.ms", "30000")
        .create_with_context(Deliveries::default())
        .context("cannot make a producer")?;
    let deliveries = producer.context();
    let mut progress = Progress::new("producing", Some(events.total()));
    let mut body = Vec::new();
    for seq in 0..events.per_partition {
        for partition in 0..events.partitions {
            let event = events.event(Identity { partition, seq });
            event.write_to(&mut body)?;
            let mut record = BaseRecord::to(topic)
                .partition(i32::try_from(partition)?)
                .timestamp(event.time_ms())
                .key(event.host())
                .payload(&body);
            while let Err((error, refused)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error).with_context(|| format!("an event for {topic} cannot be produced"));
                }
                record = refused;
                sleep(Duration::from_millis(10)).await;
            }
        }
        if seq % 64 == 0 {
            progress.update(deliveries.check()?, "events");
            tokio::task::yield_now().await;
        }
    }
    while producer.in_flight_count() > 0 {
        progress.update(deliveries.check()?, "events");
        sleep(Duration::from_millis(20)).await;
    }
    let delivered = deliveries.check()?;
    progress.finish(delivered, "events, zstd, timestamps over three hours");
    ensure!(delivered == events.total(), "{delivered} of {} events were delivered", events.total());
    let (topic, events) = (topic.to_owned(), *events);
    // Blocking requests, one a partition.
    tokio::task::spawn_blocking(move || check_watermarks(&producer, &topic, &events)).await?
}

/// Whether every partition still begins at 0 and holds all of its events.
fn check_watermarks(producer: &ThreadedProducer<Deliveries>, topic: &str, events: &Events) -> Result<()> {
    for partition in 0..events.partitions {
        let (low, high) = producer
            .client()
            .fetch_watermarks(topic, i32::try_from(partition)?, Duration::from_secs(10))
            .with_context(|| format!("cannot ask for the offsets of {topic}-{partition}"))?;
        ensure!(
            low == 0,
            "the embedded broker has dropped the first {low} events of {topic}-{partition}, it keeps 5 MiB of each \
             partition: ask for fewer --events"
        );
        ensure!(
            high == i64::from(events.per_partition),
            "{topic}-{partition} ends at {high} after {} events",
            events.per_partition
        );
    }
    Ok(())
}

/// Counts what the broker has confirmed and keeps the first failure.
#[derive(Debug, Default)]
struct Deliveries {
    confirmed: AtomicU64,
    failed: Mutex<Option<KafkaError>>,
}

impl Deliveries {
    fn check(&self) -> Result<u64> {
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => bail!(anyhow::Error::new(error).context("the embedded broker refused an event")),
            None => Ok(self.confirmed.load(Ordering::Relaxed)),
        }
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.confirmed.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            }
        }
    }
}
