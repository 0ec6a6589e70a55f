//! The embedded Kafka broker, librdkafka's own mock cluster, and the readings that are produced to it.

use anyhow::{Context as _, Result};
use ciborium::{Value, cbor};
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};

pub(crate) const TOPIC: &str = "readings";
const PARTITIONS: u32 = 4;
const SENSORS: [&str; 3] = ["boiler", "roof", "yard/north"];

/// What a sensor has measured; its number says everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    number: u32,
}

impl Reading {
    pub(crate) fn all(records: u32) -> impl Iterator<Item = Self> {
        (0..records).map(|number| Self { number })
    }

    /// Whether it is cut short before it reaches Kafka.
    pub(crate) fn is_damaged(self) -> bool {
        self.number % 100 == 99
    }

    pub(crate) fn sensor(self) -> &'static str {
        SENSORS[self.number as usize % SENSORS.len()]
    }

    /// The row it is to become.
    pub(crate) fn row(self) -> String {
        let (number, celsius) = (self.number, self.celsius());
        format!(
            r#"{{"sensor":{{"name":"{}","id":"AQID"}},"number":{number},"celsius":{celsius:?}}}"#,
            self.sensor()
        )
    }

    fn celsius(self) -> f64 {
        f64::from(self.number % 400) / 8.0
    }

    fn encode(self) -> Result<Vec<u8>> {
        let item = cbor!({
            "sensor" => { "name" => self.sensor(), "id" => Value::Bytes(vec![1, 2, 3]) },
            "number" => self.number,
            "celsius" => self.celsius(),
        })?;
        let mut bytes = Vec::new();
        ciborium::into_writer(&item, &mut bytes)?;
        if self.is_damaged() {
            bytes.truncate(bytes.len() / 2);
        }
        Ok(bytes)
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

    /// Produces `records` readings and returns when all of them are stored.
    pub(crate) async fn produce(&self, records: u32) -> Result<()> {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", RECORDS_MAX.to_string())
            .create()
            .context("cannot make a producer")?;
        let mut sent = Vec::new();
        for reading in Reading::all(records) {
            let value = reading.encode()?;
            let partition = (reading.number % PARTITIONS).cast_signed();
            let record = FutureRecord::<[u8], _>::to(TOPIC).partition(partition).payload(&value);
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
