//! A process that is frozen past its session, joins again, and gets the same partitions back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::kill::ASSIGNMENT;
use super::protocol::Protocol;
use super::zombie::{Moment, freeze, passed};
use crate::integration::gate::Gate;
use crate::integration::member::Seen;
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site};

/// Who works on its partitions meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Nobody,
    /// Somebody who finishes what it has left, publishes more, and leaves again.
    Heir,
}

/// The coordinator checks the member and not who owns the partition: with its new membership the zombie could finish what it had
/// begun under the old one. Its uploads are held on their way and arrive when it wakes up.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for protocol in Protocol::some(site.ci, site.seed) {
        for meanwhile in [Meanwhile::Nobody, Meanwhile::Heir] {
            outcome = outcome.and(one(site, protocol, meanwhile).await?);
        }
    }
    Ok(outcome)
}

async fn one(site: &Site, protocol: Protocol, meanwhile: Meanwhile) -> Result<Proof> {
    let name = match (protocol, meanwhile) {
        (Protocol::Eager, Meanwhile::Nobody) => "rejoin-eager",
        (Protocol::Eager, Meanwhile::Heir) => "rejoin-eager-heir",
        (Protocol::Cooperative, Meanwhile::Nobody) => "rejoin",
        (Protocol::Cooperative, Meanwhile::Heir) => "rejoin-heir",
        (Protocol::Consumer, Meanwhile::Nobody) => "rejoin-848",
        (Protocol::Consumer, Meanwhile::Heir) => "rejoin-848-heir",
    };
    let case = Case::new(site, name, 1_000_000).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    let mut options = case.options("zombie");
    protocol.set(&mut options);
    options.endpoint = gate.endpoint().clone();
    let mut zombie = case.start(&options)?;
    let partitions = case.partitions() as usize;
    zombie.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == partitions).await?;
    let flow = case.flow(site.pick(4_000, 2_000));
    zombie.until("its first segments", Duration::from_secs(30), |seen| seen.published >= 4).await?;
    let frozen = freeze(&case, &gate, &mut zombie, Moment::Publishing).await?;
    let before = zombie.seen();
    let mut finished = 0;
    match meanwhile {
        Meanwhile::Nobody => tokio::time::sleep(MISSED).await,
        Meanwhile::Heir => {
            let mut options = case.options("heir");
            protocol.set(&mut options);
            let mut heir = case.start(&options)?;
            heir.until("the zombie's partitions", ASSIGNMENT, |seen| seen.lanes.len() == partitions).await?;
            passed(&case, &frozen, Duration::from_secs(30)).await?;
            heir.until("more segments", Duration::from_secs(30), |seen| seen.published >= 8).await?;
            finished += heir.terminate().await?.recovered;
        }
    }
    let late = gate.state().held;
    gate.release();
    zombie.thaw()?;
    let since = Instant::now();
    let back = |seen: &Seen| {
        seen.assignments > before.assignments
            && seen.published > before.published
            && seen.lanes.len() == partitions
    };
    zombie.until("its old partitions and a segment of them", ASSIGNMENT, back).await?;
    let recovery = since.elapsed();
    flow.stop().await?;
    case.drained(&[&zombie], Duration::from_mins(1)).await?;
    let summary = zombie.terminate().await?;
    finished += summary.recovered;
    ensure!(
        finished >= frozen.len() as u64,
        "{finished} segments were finished from their intents, {} were left",
        frozen.len()
    );
    let audit = case.audit(site).await?;
    let detail = format!(
        "{} cuts pending, {late} uploads late; {} segments abandoned, {finished} finished",
        frozen.len(),
        summary.abandoned
    );
    let others = if meanwhile == Meanwhile::Nobody { "alone" } else { "after an heir" };
    let fault = format!("zombie gets its partitions back, {others}, {}", protocol.name());
    Ok(Proof { recovery: Some(recovery), ..Proof::of(fault, 1, audit, detail) })
}

/// A session of 6 s is over, and the group knows.
const MISSED: Duration = Duration::from_secs(9);
