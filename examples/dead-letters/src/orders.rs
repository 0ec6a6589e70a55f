//! The embedded Kafka broker, librdkafka's own mock cluster, and the orders that are produced to it, some of them bad.

use anyhow::{Context as _, Result};
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};

/// Orders, a few of them bad.
pub(crate) const ORDERS: &str = "orders";
/// The same after a deploy that sends XML.
pub(crate) const BROKEN: &str = "orders-as-xml";
const PARTITIONS: u32 = 4;
/// What the broker keeps of a few partitions, with room to spare.
pub(crate) const RECORDS_MAX: u32 = 100_000;

/// What is wrong with an order, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Cut short: no converter can read it.
    Torn,
    /// Without a customer: the layout has no place for it.
    Anonymous,
    /// Less than nothing: the target refuses it.
    Negative,
}

impl Fault {
    pub(crate) fn of(number: u32) -> Option<Self> {
        match number % 100 {
            17 => Some(Self::Torn),
            42 => Some(Self::Anonymous),
            77 => Some(Self::Negative),
            _ => None,
        }
    }

    /// The stage and the reason that its letter has to name.
    pub(crate) fn letter(self) -> (&'static str, &'static str) {
        match self {
            Self::Torn => ("convert", "malformed"),
            Self::Anonymous => ("partition", "missing-field"),
            Self::Negative => ("target", "rejected"),
        }
    }
}

fn order(number: u32) -> String {
    let customer = number % 7;
    let text =
        format!(r#"{{"order":{number},"customer":{{"name":"customer-{customer}"}},"cents":{number}}}"#);
    match Fault::of(number) {
        None => text,
        Some(Fault::Torn) => text.chars().take(text.len() / 2).collect(),
        Some(Fault::Anonymous) => format!(r#"{{"order":{number},"cents":{number}}}"#),
        Some(Fault::Negative) => text.replace("\"cents\":", "\"cents\":-"),
    }
}

/// A running broker; it ends when this is dropped.
pub(crate) struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Broker {
    pub(crate) fn start() -> Result<Self> {
        let cluster = MockCluster::new(1).context("cannot start the embedded broker")?;
        for topic in [ORDERS, BROKEN] {
            let created = cluster.create_topic(topic, PARTITIONS.cast_signed(), 1);
            created.context("the embedded broker does not take the topic")?;
        }
        Ok(Self { cluster })
    }

    pub(crate) fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Produces so many orders to each topic and returns when all of them are stored.
    pub(crate) async fn produce(&self, records: u32) -> Result<()> {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", (2 * RECORDS_MAX).to_string())
            .create()
            .context("cannot make a producer")?;
        let mut sent = Vec::new();
        for number in 0..records {
            for (topic, value) in [(ORDERS, order(number)), (BROKEN, format!("<order>{number}</order>"))] {
                let partition = (number % PARTITIONS).cast_signed();
                let record = FutureRecord::<[u8], _>::to(topic).partition(partition).payload(&value);
                let delivery = producer.send_result(record).map_err(|(error, _)| error);
                sent.push(delivery.context("a record cannot be produced")?);
            }
        }
        for delivery in sent {
            let stored = delivery.await.context("the producer has ended")?;
            stored.map_err(|(error, _)| error).context("the embedded broker refused a record")?;
        }
        Ok(())
    }
}
