//! The demo's servers: librdkafka's own mock cluster, a BigQuery in this process, and lines that are made up.

use std::path::Path;

use anyhow::{Context as _, Result};
use aqueduct_sink_bigquery::testkit::FakeBigQuery;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};

use crate::args::Servers;
use crate::line::{Kind, Level, Line, Request};

const PARTITIONS: i32 = 4;
const PROJECT: &str = "shop";
const DATASET: &str = "logs";
const TOPIC: &str = "server-logs";

/// Both, until they are dropped.
pub struct Embedded {
    _broker: MockCluster<'static, DefaultProducerContext>,
    _bigquery: FakeBigQuery,
    servers: Servers,
}

impl Embedded {
    /// Starts them; what they need of the disk is below `scratch`.
    pub async fn start(scratch: &Path) -> Result<Self> {
        let broker = MockCluster::new(1).context("cannot start the embedded broker")?;
        broker.create_topic(TOPIC, PARTITIONS, 1).context("the embedded broker does not take the topic")?;
        let bigquery = FakeBigQuery::start().await;
        bigquery.create_dataset(PROJECT, DATASET);
        let servers = Servers {
            brokers: broker.bootstrap_servers(),
            topic: TOPIC.to_owned(),
            project: PROJECT.to_owned(),
            dataset: DATASET.to_owned(),
            credentials: None,
            group: "demo".to_owned(),
            letters_topic: None,
            letters: scratch.join("dead-letters"),
            until_end: true,
            check: false,
            partitions: 4,
            seconds: 60,
            spool: Some(scratch.to_owned()),
            properties: Vec::new(),
            rest_endpoint: Some(bigquery.rest_endpoint().to_owned()),
            grpc_endpoint: Some(bigquery.grpc_endpoint().to_owned()),
            emulator: true,
        };
        Ok(Self { _broker: broker, _bigquery: bigquery, servers })
    }

    /// How to reach them, as if the command line had said so.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Produces so many lines, and answers how many of them are damaged.
    pub async fn produce(&self, lines: u32) -> Result<u64> {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.servers.brokers)
            .set("enable.idempotence", "true")
            .set("compression.type", "zstd")
            .set("linger.ms", "50")
            .create()
            .context("cannot make a producer")?;
        let (mut sent, mut damaged) = (Vec::new(), 0);
        for number in 0..lines {
            let text = text(number)?;
            damaged += u64::from(Damage::of(number).is_some());
            let partition = i32::try_from(number)? % PARTITIONS;
            let record = FutureRecord::<[u8], _>::to(TOPIC).partition(partition).payload(&text);
            let delivery = producer.send_result(record).map_err(|(error, _)| error);
            sent.push(delivery.context("a line cannot be produced")?);
        }
        for delivery in sent {
            let stored = delivery.await.context("the producer has ended")?;
            stored.map_err(|(error, _)| error).context("the embedded broker refused a line")?;
        }
        Ok(damaged)
    }
}

/// What is wrong with a line. Each is met by another stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// It ends in the middle: no JSON.
    CutShort,
    /// A kind that no table has.
    UnknownKind,
    /// A day that there is not: JSON, a line, and no row.
    WrongTime,
}

impl Damage {
    fn of(number: u32) -> Option<Self> {
        match number % 500 {
            17 => Some(Self::CutShort),
            170 => Some(Self::UnknownKind),
            417 => Some(Self::WrongTime),
            _ => None,
        }
    }
}

fn text(number: u32) -> Result<String> {
    let mut line = line(number);
    let damage = Damage::of(number);
    if damage == Some(Damage::WrongTime) {
        line.time = "2026-02-30T12:00:00Z".to_owned();
    }
    let mut text = serde_json::to_string(&line)?;
    match damage {
        Some(Damage::CutShort) => text.truncate(text.len() / 2),
        Some(Damage::UnknownKind) => text = text.replacen("\"kind\":\"", "\"kind\":\"un", 1),
        Some(Damage::WrongTime) | None => {}
    }
    Ok(text)
}

/// The same in every run: a function of its number.
fn line(number: u32) -> Line {
    let of = |choices: &[&str], salt: u32| {
        let random = number.wrapping_mul(2_654_435_761).rotate_left(salt);
        choices.get(random as usize % choices.len()).copied().unwrap_or_default().to_owned()
    };
    let kind = match number % 10 {
        0..6 => Kind::Access,
        6..9 => Kind::App,
        _ => Kind::Audit,
    };
    let (hour, minute, second) = (number / 3_600 % 24, number / 60 % 60, number % 60);
    let mut line = Line {
        kind,
        time: format!("2026-11-{:02}T{hour:02}:{minute:02}:{second:02}.250Z", 20 + number % 3),
        app: of(&["checkout", "search", "catalog", "riders"], 3),
        host: format!("host-{:02}", number % 24),
        level: if number % 40 == 6 { Level::Error } else { Level::Info },
        message: None,
        request: None,
        actor: None,
        action: None,
        tags: Vec::new(),
    };
    match kind {
        Kind::Access => {
            line.request = Some(Request {
                method: of(&["GET", "GET", "POST", "PUT"], 7),
                path: format!("/v1/carts/{number}"),
                status: if line.level == Level::Error { 503 } else { 200 },
                duration_us: u64::from(number % 90_000) + 180,
            });
        }
        Kind::App => {
            line.message = Some(format!("cart {number} was repriced after the coupon had expired"));
            line.tags = vec![of(&["eu", "us", "ap"], 11), "cart".to_owned()];
        }
        Kind::Audit => {
            line.actor = Some(format!("user-{}", number % 300));
            line.action = Some(of(&["login", "logout", "refund", "export"], 17));
        }
    }
    line
}
