//! A topic written in transactions, some of which are aborted.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::task::spawn_blocking;
use xtask::load::Spec;

use super::pending::run_to_the_end;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};

const RECORDS: u64 = 12_000;
/// Events of one transaction.
const EACH: u64 = 400;

/// Every third transaction is aborted, and so is the last: the topic ends in records that nobody may see, and in their control
/// records. A bounded run ends there by itself; another ends at a transaction that is still open, and a third behind it.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let case = Case::new(site, "transactions", RECORDS).await?;
    let options = case.options("worker");
    let aborted = write(&case, "ended", 0..RECORDS / EACH, |index| index % 3 == 2).await?;
    run_to_the_end(&case, &options).await?;
    let first = case.bucket.objects("").await?.len();
    ensure!(first > 0, "nothing was stored of {RECORDS} records");

    // The end for a reader of committed records stands before what is open.
    let open = Open::begin(&case, RECORDS..RECORDS + EACH).await?;
    run_to_the_end(&case, &options).await?;
    open.abort().await?;
    let more = write(&case, "after", 50..56, |index| index % 2 == 1).await?;
    run_to_the_end(&case, &options).await?;
    let audit = case.audit(site).await?;
    let detail =
        format!("{aborted} + {more} + 1 transactions of {EACH} events aborted, each run ended by itself");
    Ok(Outcome::of("aborted transactions, control records at the end", aborted + more + 1, audit, detail))
}

/// Writes transactions of events, and aborts those that `aborts`; answers how many.
async fn write(
    case: &Case,
    id: &'static str,
    transactions: Range<u64>,
    aborts: fn(u64) -> bool,
) -> Result<u64> {
    let (producer, spec, topic) = (producer(case, id)?, case.spec.clone(), case.topic.clone());
    spawn_blocking(move || {
        producer.init_transactions(TIMEOUT)?;
        let mut aborted = 0;
        for index in transactions {
            producer.begin_transaction()?;
            send(&producer, &topic, &spec, index * EACH..(index + 1) * EACH)?;
            // Otherwise an abort would throw away what has not been sent yet.
            producer.flush(TIMEOUT)?;
            if aborts(index) {
                producer.abort_transaction(TIMEOUT)?;
                aborted += 1;
            } else {
                producer.commit_transaction(TIMEOUT)?;
            }
        }
        Ok(aborted)
    })
    .await?
}

/// A transaction that is written and not ended.
struct Open(BaseProducer);

impl Open {
    async fn begin(case: &Case, events: Range<u64>) -> Result<Self> {
        let (producer, spec, topic) = (producer(case, "open")?, case.spec.clone(), case.topic.clone());
        spawn_blocking(move || {
            producer.init_transactions(TIMEOUT)?;
            producer.begin_transaction()?;
            send(&producer, &topic, &spec, events)?;
            producer.flush(TIMEOUT)?;
            Ok(Self(producer))
        })
        .await?
    }

    async fn abort(self) -> Result<()> {
        Ok(spawn_blocking(move || self.0.abort_transaction(TIMEOUT)).await??)
    }
}

fn producer(case: &Case, id: &str) -> Result<BaseProducer> {
    ClientConfig::new()
        .set("bootstrap.servers", &case.brokers)
        .set("transactional.id", format!("{}-{id}", case.topic))
        .create()
        .context("no transactional producer")
}

fn send(producer: &BaseProducer, topic: &str, spec: &Spec, events: Range<u64>) -> Result<()> {
    let mut event = Vec::new();
    for seq in events {
        spec.write(seq, &mut event);
        let partition = i32::try_from(spec.partition_of(seq))?;
        let record = BaseRecord::<(), _>::to(topic).partition(partition).payload(&event);
        producer.send(record.timestamp(spec.time_of(seq))).map_err(|(error, _)| error)?;
        producer.poll(Duration::ZERO);
    }
    Ok(())
}

const TIMEOUT: Duration = Duration::from_secs(20);
