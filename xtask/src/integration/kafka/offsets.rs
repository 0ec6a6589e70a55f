//! The group's offsets and the topic's records, as an operator sees and changes them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::task::spawn_blocking;

use crate::integration::scenario::Case;

/// What is committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

impl Committed {
    /// As a tool sets it: an offset and nothing else.
    pub(crate) fn by_hand(partition: i32, offset: i64) -> Self {
        Self { partition, offset, metadata: String::new() }
    }
}

/// What the group of `case` has committed, with the metadata.
pub(crate) async fn read(case: &Case) -> Result<Vec<Committed>> {
    let consumer = consumer(case)?;
    let mut asked = TopicPartitionList::new();
    for partition in 0..case.partitions() {
        asked.add_partition(&case.topic, i32::try_from(partition)?);
    }
    let answer = spawn_blocking(move || consumer.committed_offsets(asked, TIMEOUT)).await??;
    let mut found = Vec::new();
    for element in answer.elements() {
        if let Offset::Offset(offset) = element.offset() {
            let (partition, metadata) = (element.partition(), element.metadata().to_owned());
            found.push(Committed { partition, offset, metadata });
        }
    }
    Ok(found)
}

/// Sets offsets of the group of `case`, as `kafka-consumer-groups --reset-offsets` does: a commit by no member. The group takes
/// it when it has no members, which after a kill is when the last session has timed out.
pub(crate) async fn set(case: &Case, offsets: &[Committed]) -> Result<()> {
    let consumer = consumer(case)?;
    let mut list = TopicPartitionList::new();
    for Committed { partition, offset, metadata } in offsets {
        let mut element = list.add_partition(&case.topic, *partition);
        element.set_offset(Offset::Offset(*offset))?;
        element.set_metadata(metadata.as_str());
    }
    spawn_blocking(move || {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match consumer.commit(&list, CommitMode::Sync) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("the group's offsets cannot be set");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    })
    .await?
}

/// Removes the records before these offsets, as retention does.
pub(crate) async fn delete_records(case: &Case, before: &[(i32, i64)]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &case.brokers).create()?;
    let mut list = TopicPartitionList::new();
    for (partition, offset) in before {
        list.add_partition_offset(&case.topic, *partition, Offset::Offset(*offset))?;
    }
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let answer = admin.delete_records(&list, &options).await.context("records cannot be deleted")?;
    for element in answer.elements() {
        if let Err(error) = element.error() {
            bail!("records of partition {} cannot be deleted: {error}", element.partition());
        }
    }
    Ok(())
}

fn consumer(case: &Case) -> Result<BaseConsumer> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", &case.brokers)
        .set("client.id", "aqueduct-operator")
        .set("group.id", case.group())
        .set("enable.auto.commit", "false")
        .create()?;
    Ok(consumer)
}

const TIMEOUT: Duration = Duration::from_secs(20);
