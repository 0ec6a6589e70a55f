//! The embedded Kafka broker, librdkafka's own mock cluster, and the readings that are produced to it.

use anyhow::{Context as _, Result};
use custom_converter::fixed_width::{Column, FixedWidth};
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
        let (number, celsius) = (self.number, self.millicelsius());
        let (sign, whole, rest) =
            (if celsius < 0 { "-" } else { "" }, celsius.abs() / 1_000, celsius.abs() % 1_000);
        format!(
            r#"{{"sensor":"{}","number":{number},"at":"2021-06-28T07:{:02}:{:02}.000Z","celsius":{sign}{whole}.{rest:03}}}"#,
            self.sensor(),
            self.second() / 60,
            self.second() % 60,
        )
    }

    fn millicelsius(self) -> i64 {
        i64::from(self.number % 400) * 125 - 10_000
    }

    fn second(self) -> u32 {
        self.number % 3_600
    }

    fn encode(self) -> Vec<u8> {
        let (sign, celsius) = (if self.millicelsius() < 0 { '-' } else { '+' }, self.millicelsius().abs());
        let time = format!("2021062807{:02}{:02}", self.second() / 60, self.second() % 60);
        let mut line =
            format!("{:<12}{:08}{time}{sign}{celsius:06}", self.sensor(), self.number).into_bytes();
        if self.is_damaged() {
            line.truncate(line.len() / 2);
        }
        line
    }
}

/// How a reading is laid out; what the plant's computer has written since 1987.
pub(crate) fn readings() -> FixedWidth {
    FixedWidth::new(
        "plant.Reading",
        [
            ("sensor", Column::Text(12)),
            ("number", Column::Number(8)),
            ("at", Column::Timestamp),
            ("celsius", Column::Decimal { width: 7, scale: 3 }),
        ],
    )
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
            let value = reading.encode();
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
