//! The producer of the load: events of a [`Spec`] to the partitions they belong to, in order.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use serde::{Deserialize, Serialize};

use super::avro::AvroEvents;
use super::event::Spec;

/// What to produce, and how.
#[derive(Clone, Debug)]
pub struct Load {
    /// A topic with as many partitions as the spec.
    pub topic: String,
    /// The events.
    pub spec: Spec,
    /// Which of them. A second load of the same spec goes on where the first ended.
    pub range: Range<u64>,
    /// How values are written.
    pub encoding: Encoding,
    /// How batches are compressed.
    pub compression: Compression,
    /// The records' timestamps.
    pub record_time: RecordTime,
    /// Records a second; as fast as it goes without one.
    pub rate: Option<u64>,
}

/// How the values of events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// JSON text.
    #[default]
    Json,
    /// Avro, behind the id of its schema.
    Avro,
}

/// librdkafka's codecs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Batches as they are: the consumer does not spend time on it.
    #[default]
    None,
    /// Deflate.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// The timestamp of a Kafka record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RecordTime {
    /// The event's own time.
    #[default]
    Event,
    /// The time it was produced.
    Now,
}

/// A load that has been delivered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Produced {
    /// Records the broker has acknowledged.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// From the first record to the last acknowledgement.
    pub elapsed: Duration,
}

impl Load {
    /// All events of `spec` to `topic`, uncompressed, with the events' times, as fast as it goes.
    pub fn of(spec: Spec, topic: impl Into<String>) -> Self {
        let range = 0..spec.records;
        let (encoding, compression, record_time) = (Encoding::Json, Compression::None, RecordTime::Event);
        Self { topic: topic.into(), spec, range, encoding, compression, record_time, rate: None }
    }

    /// Produces it and waits until every record is acknowledged by all replicas. Blocks: in async code, run it by
    /// `spawn_blocking`. The producer is idempotent, so each record is in the topic once and partitions are in order.
    ///
    /// # Errors
    /// Any record that was not delivered within two minutes, with the first one's reason.
    pub fn produce(&self, brokers: &str) -> Result<Produced> {
        let producer: BaseProducer<Deliveries> = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("client.id", "aqueduct-load")
            .set("enable.idempotence", "true")
            .set("compression.codec", self.compression.codec())
            // Large batches, as a busy producer makes them; at most 128 MiB wait.
            .set("batch.size", "524288")
            .set("batch.num.messages", "10000")
            .set("linger.ms", "20")
            .set("queue.buffering.max.kbytes", "131072")
            .set("queue.buffering.max.messages", "1000000")
            .set("message.timeout.ms", "120000")
            // One report a record would cost more than the record; what is not reported has been delivered.
            .set("delivery.report.only.error", "true")
            .create_with_context(Deliveries::default())
            .with_context(|| format!("no Kafka client for {brokers}"))?;
        let started = Instant::now();
        let mut bytes = 0;
        let mut event = Vec::with_capacity(self.spec.bytes);
        let mut avro = AvroEvents::new()?;
        for (sent, seq) in (0_u64..).zip(self.range.clone()) {
            if sent.is_multiple_of(POLL_EVERY) {
                producer.poll(Duration::ZERO);
                producer.context().check()?;
                self.pace(started, sent);
            }
            match self.encoding {
                Encoding::Json => self.spec.write(seq, &mut event),
                Encoding::Avro => avro.write(&self.spec, seq, &mut event)?,
            }
            bytes += event.len() as u64;
            self.send(&producer, seq, &event)?;
        }
        let flushed = producer.flush(FLUSH_TIMEOUT);
        producer.context().check()?;
        flushed
            .with_context(|| format!("{brokers} did not acknowledge all records of topic {}", self.topic))?;
        let records = self.range.end.saturating_sub(self.range.start);
        Ok(Produced { records, bytes, elapsed: started.elapsed() })
    }

    fn send(&self, producer: &BaseProducer<Deliveries>, seq: u64, event: &[u8]) -> Result<()> {
        let partition = i32::try_from(self.spec.partition_of(seq))?;
        let mut record = BaseRecord::<(), _>::to(&self.topic).partition(partition).payload(event);
        if self.record_time == RecordTime::Event {
            record = record.timestamp(self.spec.time_of(seq));
        }
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    producer.poll(Duration::from_millis(5));
                    producer.context().check()?;
                    record = refused;
                }
                Err((error, _)) => {
                    return Err(error)
                        .with_context(|| format!("event {seq} cannot be sent to topic {}", self.topic));
                }
            }
        }
    }

    /// Sleeps until record `sent` is due.
    fn pace(&self, started: Instant, sent: u64) {
        let Some(rate) = self.rate else { return };
        let due = Duration::from_millis(sent.saturating_mul(1_000) / rate.max(1));
        std::thread::sleep(due.saturating_sub(started.elapsed()));
    }
}

impl Compression {
    fn codec(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl Produced {
    /// Records a second over the whole load.
    pub fn rate(&self) -> u64 {
        let nanos = self.elapsed.as_nanos().max(1);
        u64::try_from(u128::from(self.records) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
    }
}

/// Records that were not delivered.
#[derive(Debug, Default)]
struct Deliveries {
    failed: AtomicU64,
    first: Mutex<Option<String>>,
}

impl Deliveries {
    fn check(&self) -> Result<()> {
        let failed = self.failed.load(Ordering::Relaxed);
        let first = self.first.lock().ok().and_then(|first| first.clone()).unwrap_or_default();
        ensure!(failed == 0, "{failed} records were not delivered; the first: {first}");
        Ok(())
    }
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            if let Ok(mut first) = self.first.lock() {
                first.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

const POLL_EVERY: u64 = 500;
const FLUSH_TIMEOUT: Duration = Duration::from_mins(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_by_waiting() {
        let load = Load { rate: Some(10_000), ..Load::of(Spec::default(), "logs") };
        let started = Instant::now();
        load.pace(started, 500);
        assert!(started.elapsed() >= Duration::from_millis(50));
        let late = Instant::now();
        load.pace(started, 1);
        assert!(late.elapsed() < Duration::from_millis(50), "a record that is due does not wait");
    }

    #[test]
    fn undelivered_records_are_counted_and_the_first_is_told() {
        let deliveries = Deliveries::default();
        assert!(deliveries.check().is_ok());
        deliveries.failed.store(2, Ordering::Relaxed);
        *deliveries.first.lock().unwrap() = Some("no leader".to_owned());
        let error = deliveries.check().unwrap_err().to_string();
        assert!(error.contains("2 records") && error.contains("no leader"), "{error}");
    }

    #[test]
    fn the_rate_is_over_the_whole_load() {
        let produced = Produced { records: 900, bytes: 1, elapsed: Duration::from_millis(300) };
        assert_eq!(produced.rate(), 3_000);
    }
}
