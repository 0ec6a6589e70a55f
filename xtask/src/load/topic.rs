//! What a topic really holds, by a consumer of our own: without a group, committed records only.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::event::Identity;
use super::ledger::Ledger;

/// A topic as it was read to its end.
#[derive(Debug)]
pub struct Scan {
    /// The events it holds.
    pub ledger: Ledger,
    /// Records that are no events: no audit of ours can judge what became of them.
    pub foreign: u64,
}

/// Reads `topic` from its beginning to the end it has when each partition's end is reached. Blocks: about a second for a
/// million events.
///
/// # Errors
/// No such topic, no answer for 30 s, or contents that prove nothing, such as an event that is there twice.
pub fn scan(brokers: &str, topic: &str) -> Result<Scan> {
    let consumer: BaseConsumer<Quiet> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("client.id", "aqueduct-audit")
        // librdkafka assigns nothing without the name of a group. It is not joined, and nothing is committed.
        .set("group.id", "aqueduct-audit")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create_with_context(Quiet)
        .with_context(|| format!("no Kafka client for {brokers}"))?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT);
    let metadata = metadata.with_context(|| format!("no metadata of topic {topic} from {brokers}"))?;
    let partitions =
        metadata.topics().iter().find(|it| it.name() == topic).map_or(0, |it| it.partitions().len());
    let count = u32::try_from(partitions).ok().and_then(NonZeroU32::new);
    let count = count.with_context(|| format!("there is no topic {topic} on {brokers}"))?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..count.get() {
        assignment.add_partition_offset(topic, i32::try_from(partition)?, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;

    let mut scan = Scan { ledger: Ledger::new(count), foreign: 0 };
    let mut open = vec![true; partitions];
    let mut last = Instant::now();
    while open.iter().any(|open| *open) {
        // It also comes back without a record when the client had something to do for itself.
        let Some(polled) = consumer.poll(POLL) else {
            ensure!(last.elapsed() < TIMEOUT, "nothing from topic {topic} for {} s", TIMEOUT.as_secs());
            continue;
        };
        last = Instant::now();
        match polled {
            Ok(record) => scan.record(record.partition(), record.offset(), record.payload())?,
            Err(KafkaError::PartitionEOF(partition)) => {
                if let Some(open) = usize::try_from(partition).ok().and_then(|index| open.get_mut(index)) {
                    *open = false;
                }
            }
            Err(error) => return Err(error).with_context(|| format!("topic {topic} cannot be read")),
        }
    }
    Ok(scan)
}

impl Scan {
    fn record(&mut self, partition: i32, offset: i64, value: Option<&[u8]>) -> Result<()> {
        let Some(event) = value.and_then(|value| Identity::of(value).ok()) else {
            self.foreign += 1;
            return Ok(());
        };
        ensure!(
            i64::from(event.partition) == i64::from(partition),
            "partition {partition} holds {event:?} at {offset}"
        );
        self.ledger.expect(event, offset)
    }
}

const TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_secs(1);

/// A context that keeps librdkafka's notices of a connection that comes and goes out of the output.
#[derive(Debug)]
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Quiet {}

#[cfg(test)]
mod tests {
    use super::super::event::Spec;
    use super::*;

    #[test]
    fn events_are_expected_and_everything_else_is_foreign() {
        let spec = Spec::default();
        let mut scan = Scan { ledger: Ledger::new(spec.partitions), foreign: 0 };
        let mut event = Vec::new();
        spec.write(2, &mut event);
        scan.record(2, 0, Some(&event)).unwrap();
        scan.record(2, 1, None).unwrap();
        scan.record(2, 2, Some(b"{}")).unwrap();
        spec.write(6, &mut event);
        scan.record(2, 3, Some(&event)).unwrap();
        assert_eq!((scan.ledger.expected(), scan.foreign), (2, 2));
        assert_eq!(scan.ledger.offset_of(Identity { seq: 6, partition: 2 }), Some(3));
        let error = scan.record(1, 0, Some(&event)).unwrap_err().to_string();
        assert!(error.contains("partition 1 holds"), "{error}");
    }
}
