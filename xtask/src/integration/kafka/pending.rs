//! A group without members that has left cuts pending.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::integration::gate::Gate;
use crate::integration::marks::Place;
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::scenario::{Case, Listed, Site};
use crate::worker::Options;

/// The most a bounded run over a few thousand records may take.
pub(crate) const BOUNDED: Duration = Duration::from_secs(90);

/// A killed member is missed after 3 s: nothing of these scenarios is about slow members.
pub(crate) fn short_session(mut options: Options) -> Options {
    for (name, value) in [("session.timeout.ms", "3000"), ("heartbeat.interval.ms", "750")] {
        options.properties.insert(name.to_owned(), value.to_owned());
    }
    options
}

/// Runs until the topic's end, and answers where the group stands then.
pub(crate) async fn run_to_the_end(case: &Case, options: &Options) -> Result<Vec<Place>> {
    let options = Options { until_end: true, ..options.clone() };
    case.start(&options)?.finish(BOUNDED).await?;
    let places = case.marks().await?;
    ensure!(places.iter().all(Place::is_drained), "a bounded run has ended at {}", Listed(&places));
    Ok(places)
}

/// Publishes the first half of the case's events, and produces the second.
pub(crate) async fn publish_half(case: &Case, options: &Options) -> Result<Vec<Place>> {
    let half = case.spec.records / 2;
    case.produce_range(0..half).await?;
    let places = run_to_the_end(case, options).await?;
    case.produce_range(half..case.spec.records).await?;
    Ok(places)
}

/// A worker writes down a cut in every partition, publishes `uploads` objects of them all, and is killed.
pub(crate) async fn cut_and_die(
    site: &Site,
    case: &Case,
    options: &Options,
    uploads: u64,
) -> Result<Vec<Place>> {
    let visible = case.bucket.objects("").await?.len() as u64 + uploads;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    gate.hold_after(uploads);
    let options = Options { endpoint: gate.endpoint().clone(), ..options.clone() };
    let mut worker = case.start(&options)?;
    let partitions = case.partitions() as usize;
    worker.until("a cut in every partition", ASSIGNMENT, |seen| seen.pending.len() == partitions).await?;
    let deadline = Instant::now() + ASSIGNMENT;
    while (case.bucket.objects("").await?.len() as u64) < visible {
        ensure!(Instant::now() < deadline, "too few objects are visible: {:?}", gate.state());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What the gate holds goes with it.
    worker.kill().await?;
    drop(gate);
    let places = case.marks().await?;
    ensure!(places.iter().all(|place| place.intent.is_some()), "not all are pending: {}", Listed(&places));
    Ok(places)
}
