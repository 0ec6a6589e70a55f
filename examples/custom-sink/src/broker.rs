//! The embedded Kafka broker, librdkafka's own mock cluster, and what is produced to it.
//!
//! It has real consumer groups and offsets. For anything longer than a demo, take a real one: it keeps 5 MiB a partition.

use anyhow::{Context as _, Result};
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const PARTITIONS: u32 = 4;
pub(crate) const SERVICES: [&str; 3] = ["cart", "checkout", "search"];

/// A record is known by its partition and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) partition: u32,
    pub(crate) number: u32,
}

impl Identity {
    /// Everything there is in the record.
    pub(crate) fn value(self) -> String {
        let Self { partition, number } = self;
        let (service, amount) = (self.service(), u64::from(number) * 7919 % 10_000);
        format!(r#"{{"partition":{partition},"number":{number},"service":"{service}","amount":{amount}}}"#)
    }

    /// The field the directories are named by.
    pub(crate) fn service(self) -> &'static str {
        SERVICES[(self.partition + self.number) as usize % SERVICES.len()]
    }

    /// All of `records` records, over all partitions.
    pub(crate) fn all(records: u32) -> impl Iterator<Item = Self> {
        (0..records).map(|index| Self { partition: index % PARTITIONS, number: index / PARTITIONS })
    }
}

/// A running broker; it ends when this is dropped.
pub(crate) struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    pub(crate) fn start() -> Result<Self> {
        let cluster = MockCluster::new(1).context("cannot start the embedded broker")?;
        let created = cluster.create_topic(TOPIC, PARTITIONS.cast_signed(), 1);
        created.context("the embedded broker does not take the topic")?;
        Ok(Self { cluster })
    }

    pub(crate) fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Produces `records` records and returns when all of them are stored.
    pub(crate) async fn produce(&self, records: u32) -> Result<()> {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", RECORDS_MAX.to_string())
            .create()
            .context("cannot make a producer")?;
        let mut sent = Vec::new();
        for identity in Identity::all(records) {
            let value = identity.value();
            let record = FutureRecord::<[u8], _>::to(TOPIC)
                .partition(identity.partition.cast_signed())
                .payload(&value);
            let delivery = producer.send_result(record).map_err(|(error, _)| error);
            sent.push(delivery.context("a record cannot be produced")?);
        }
        for delivery in sent {
            let stored = delivery.await.context("the producer has ended")?;
            stored.map_err(|(error, _)| error).context("the embedded broker refused a record")?;
        }
        Ok(())
    }
}

/// What the broker keeps of a few partitions, with room to spare.
pub(crate) const RECORDS_MAX: u32 = 100_000;
