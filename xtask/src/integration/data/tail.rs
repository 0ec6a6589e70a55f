//! A topic that ends in records of which nothing is stored.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::task::spawn_blocking;

use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};
use crate::worker::{OnPoison, Rotation, Skip};

/// How many records there are behind the last one that is stored.
const TAIL: usize = 5_000;
/// The mark follows records that store nothing every five seconds; the rest is for reading and committing.
const LIMIT: Duration = Duration::from_secs(20);
const NOISE: &str = "health check";

/// What the tail consists of.
#[derive(Clone, Copy, Debug)]
enum Tail {
    Tombstones,
    Filtered,
    Skipped,
}

impl Tail {
    fn value(self) -> Option<String> {
        match self {
            Self::Tombstones => None,
            Self::Filtered => Some(format!(r#"{{"message":"{NOISE}"}}"#)),
            Self::Skipped => Some("no json".to_owned()),
        }
    }
}

/// 5 000 tombstones, then 5 000 filtered records, then 5 000 bad ones that are skipped by policy, each at the end of the topic, while
/// the worker runs under a rotation that would not come. Lag must go to 0 by itself each time, without a normal record after them.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let case = Case::new(site, "tombstone-tail", 20_000).await?;
    let mut options = case.options("worker");
    options.skip = Skip { tombstones: true, holding: Some(NOISE.to_owned()) };
    options.on_poison = OnPoison::Skip;
    options.rotation = vec![Rotation::AgeMs(1_000)];
    let mut worker = case.start(&options)?;
    worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
    let (mut slowest, mut next) = (Duration::ZERO, 0);
    let tails = [Tail::Tombstones, Tail::Filtered, Tail::Skipped];
    for tail in tails {
        // Stored records first, published by age: then the tail comes alone.
        let range = next..next + case.spec.records / tails.len() as u64 / 4 * 4;
        next = range.end;
        case.produce_range(range).await?;
        case.drained(&[&worker], ASSIGNMENT).await?;
        produce_tail(&case, tail).await?;
        let since = Instant::now();
        case.drained(&[&worker], LIMIT).await?;
        tracing::info!(?tail, after = ?since.elapsed(), "no lag");
        slowest = slowest.max(since.elapsed());
    }
    let summary = worker.terminate().await?;
    ensure!(
        summary.rows == next && summary.durable == next + (tails.len() * TAIL) as u64,
        "{next} stored and {} others became: {summary:?}",
        tails.len() * TAIL
    );
    let audit = case.audit(site).await?;
    let detail = format!("lag 0 at latest {:.1} s after the last one", slowest.as_secs_f64());
    Ok(Outcome::of("topic ends in tombstones, filtered, skipped", tails.len() as u64, audit, detail)
        .recovered_within(slowest))
}

async fn produce_tail(case: &Case, tail: Tail) -> Result<()> {
    let (brokers, topic, partitions) = (case.brokers.clone(), case.topic.clone(), case.partitions());
    spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("enable.idempotence", "true")
            .create()?;
        let value = tail.value();
        for number in 0..TAIL {
            let partition = i32::try_from(number % partitions as usize)?;
            let mut record = BaseRecord::<str, str>::to(&topic).partition(partition).key("tail");
            record.payload = value.as_deref();
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(Duration::from_secs(20))?;
        Ok(())
    })
    .await?
}
