//! Whether everything is there, as a number: offsets that the group has passed against rows, by SQL, and letters.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aqueduct::bigquery::{BigQuerySink, Completeness, CompletenessReport, DueRecords};
use aqueduct::files::DirectoryLetters;
use aqueduct::kafka::KafkaLetters;
use aqueduct::{Offset, OffsetRange, TopicPartition};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset as Committed, TopicPartitionList};

use crate::args::Servers;
use crate::line::Kind;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Counts every line that the group has passed.
pub async fn count(servers: &Servers, sink: &BigQuerySink) -> Result<CompletenessReport> {
    let of = servers.clone();
    let due = tokio::task::spawn_blocking(move || due(&of)).await??;
    let check = Completeness::of(sink).tables(Kind::ALL.map(Kind::table))?.due(due);
    let check = match &servers.letters_topic {
        Some(topic) => {
            let mut letters = KafkaLetters::builder().brokers(&servers.brokers).topic(topic);
            for (name, value) in &servers.properties {
                letters = letters.property(name, value);
            }
            check.letters(&mut letters.build()?).await?
        }
        None => check.letters(&mut DirectoryLetters::new(&servers.letters)).await?,
    };
    Ok(check.check().await?)
}

/// From the first offset that each partition still has to the one that the group has committed.
fn due(servers: &Servers) -> Result<Vec<DueRecords>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &servers.brokers).set("group.id", &servers.group);
    for (name, value) in &servers.properties {
        config.set(name, value);
    }
    let consumer: BaseConsumer = config.create().context("cannot make a Kafka client")?;
    let topic = servers.topic.as_str();
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).context("the brokers do not answer")?;
    let mut asked = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|found| found.partitions()) {
        asked.add_partition(topic, partition.id());
    }
    let committed = consumer.committed_offsets(asked, TIMEOUT).context("the group's offsets are not told")?;
    let mut due = Vec::new();
    for found in committed.elements() {
        let Committed::Offset(mark) = found.offset() else { continue };
        let (low, _) = consumer.fetch_watermarks(topic, found.partition(), TIMEOUT)?;
        if let Some(range) = OffsetRange::new(Offset::new(low), Offset::new(mark)) {
            due.push(DueRecords::offsets(TopicPartition::new(topic, found.partition()), range));
        }
    }
    Ok(due)
}
