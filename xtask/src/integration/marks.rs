//! What really stands in Kafka: the group's offsets and the ends of the partitions, read by a client of our own.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aqueduct::{Mark, Offset};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::task::spawn_blocking;

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The partition.
    pub(crate) partition: i32,
    /// The committed offset, 0 if there is none.
    pub(crate) mark: i64,
    /// The end of the segment that is written down and not published, if there is one.
    pub(crate) intent: Option<i64>,
    /// The end of the partition.
    pub(crate) end: i64,
}

impl Place {
    /// Whether everything is published and committed.
    pub(crate) fn is_drained(&self) -> bool {
        self.mark == self.end && self.intent.is_none()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {}", self.partition, self.mark, self.end)?;
        match self.intent {
            Some(end) => write!(f, ", cut to {end}"),
            None => Ok(()),
        }
    }
}

/// Reads the marks of `group` in all partitions of `topic`.
///
/// # Errors
/// No answer, or a committed offset that is not one of ours: every commit must carry our marker.
pub(crate) async fn read(brokers: &str, group: &str, topic: &str, partitions: u32) -> Result<Vec<Place>> {
    let (brokers, group, topic) = (brokers.to_owned(), group.to_owned(), topic.to_owned());
    spawn_blocking(move || read_blocking(&brokers, &group, &topic, partitions)).await?
}

fn read_blocking(brokers: &str, group: &str, topic: &str, partitions: u32) -> Result<Vec<Place>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("client.id", "aqueduct-integration")
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()?;
    let mut asked = TopicPartitionList::new();
    for partition in 0..partitions {
        asked.add_partition(topic, i32::try_from(partition)?);
    }
    let deadline = Instant::now() + TIMEOUT;
    let answer = loop {
        match consumer.committed_offsets(asked.clone(), TIMEOUT) {
            // A broker that has just started, or has just got its first group, needs a moment.
            Err(error) if is_passing(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(200));
            }
            answer => break answer.with_context(|| format!("no offsets of group {group} from {brokers}"))?,
        }
    };
    let mut places = Vec::new();
    for element in answer.elements() {
        let partition = element.partition();
        let (_, end) = consumer
            .fetch_watermarks(topic, partition, TIMEOUT)
            .with_context(|| format!("no end of {topic}-{partition} from {brokers}"))?;
        let (mark, intent) = match element.offset() {
            rdkafka::Offset::Offset(offset) => {
                let mark = Mark::decode(Offset::new(offset), element.metadata())
                    .with_context(|| format!("the offset {offset} of {topic}-{partition}"))?;
                (offset, mark.intent.map(|intent| intent.range.end().get()))
            }
            rdkafka::Offset::Invalid => (0, None),
            other => bail!("{topic}-{partition} is committed at {other:?}"),
        };
        places.push(Place { partition, mark, intent, end });
    }
    Ok(places)
}

fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

const TIMEOUT: Duration = Duration::from_secs(10);
