//! A topic that is compacted between a cut and its replay.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::task::spawn_blocking;
use xtask::load::Ledger;

use super::offsets::{self, Committed};
use super::pending::{BOUNDED, cut_and_die, run_to_the_end, short_session};
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site};
use crate::worker::Options;

/// Events that are published, then as many that are cut, then those that make Kafka close its segment and are one of each key.
const HALF: u64 = 4_000;
/// Keys of a partition.
const KEYS: u64 = 100;
const FOUR: u64 = 4;

/// Of what is cut in every partition, compaction removes all but one record of each key before it is read again. The worker stops
/// before it publishes anything, and when the operator has given up what is gone, exactly that is missing.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let config = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "500"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("min.compaction.lag.ms", "0"),
    ];
    let records = 2 * HALF + KEYS * FOUR;
    let case = Case::with(site, "compacted", records, &config).await?;
    ensure!(u64::from(case.partitions()) == FOUR, "counts below are for {FOUR} partitions");
    let options = short_session(case.options("worker"));
    produce(&case, 0..HALF).await?;
    let marks = run_to_the_end(&case, &options).await?;
    produce(&case, HALF..2 * HALF).await?;
    cut_and_die(site, &case, &options, 0).await?;
    let stored = case.bucket.objects("").await?;
    // The broker rolls a segment by the timestamps it is given.
    tokio::time::sleep(Duration::from_secs(1)).await;
    produce(&case, 2 * HALF..records).await?;
    let deadline = Instant::now() + COMPACTION;
    while case.scan().await?.expected() > 2 * KEYS * FOUR {
        ensure!(Instant::now() < deadline, "the topic is not compacted after {} s", COMPACTION.as_secs());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    let message = case.start(&options)?.failure(BOUNDED).await?;
    let (first, now) = (HALF / FOUR, KEYS);
    let told = format!("were recorded with {first} rows, reading them again gave {now} rows");
    ensure!(message.contains(&told) && message.contains("compaction"), "not the error promised: {message}");
    ensure!(case.bucket.objects("").await? == stored, "a replay that diverged has published something");

    let resets: Vec<_> = marks.iter().map(|place| Committed::by_hand(place.partition, place.mark)).collect();
    offsets::set(&case, &resets).await?;
    run_to_the_end(&case, &Options { adopt_foreign_marks: true, ..options }).await?;
    let audit = case.audit_of(site, Ledger::generated(&case.spec, 0..records)?, "").await?;
    let audit = audit.excusing(HALF - KEYS * FOUR);
    let proof = Proof::of("compaction of a pending cut: stopped, then reset", FOUR, audit, message);
    if proof.is_clean() {
        case.remove().await?;
    }
    Ok(Outcome::default().and(proof))
}

/// Produces events with a key; a compacted topic takes no others.
async fn produce(case: &Case, events: Range<u64>) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &case.brokers)
        .set("enable.idempotence", "true")
        .create()?;
    let (spec, topic) = (case.spec.clone(), case.topic.clone());
    spawn_blocking(move || {
        let mut event = Vec::new();
        for seq in events {
            spec.write(seq, &mut event);
            let partition = i32::try_from(spec.partition_of(seq))?;
            let key = (seq / FOUR % KEYS).to_string();
            let record = BaseRecord::to(&topic).partition(partition).key(&key).payload(&event);
            producer.send(record).map_err(|(error, _)| error)?;
            producer.poll(Duration::ZERO);
        }
        Ok(producer.flush(BOUNDED)?)
    })
    .await?
}

const COMPACTION: Duration = Duration::from_secs(90);
