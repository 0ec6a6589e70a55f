//! A topic that is deleted and created again: its offsets begin anew.

use std::time::Duration;

use anyhow::{Result, ensure};
use xtask::load::Spec;

use super::pending::{BOUNDED, run_to_the_end};
use crate::integration::member::Member;
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site};
use crate::worker::{Layout, Options};

const RECORDS: u64 = 12_000;

/// The topic comes back with other records while the worker is down, and while it runs. Either way the worker stops and says
/// what it takes for the reason; what is stored of the old topic stays as it is, and under another group and prefix the new one is
/// stored too.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (name, running, fault) in [
        ("recreated", false, "topic recreated, worker down: stopped"),
        ("recreated-live", true, "topic recreated, worker running: stopped"),
    ] {
        for proof in one(site, name, running, fault).await? {
            outcome = outcome.and(proof);
        }
    }
    Ok(outcome)
}

async fn one(site: &Site, name: &'static str, running: bool, fault: &str) -> Result<[Proof; 2]> {
    let mut case = Case::new(site, name, RECORDS).await?;
    // By record time, the first records of the new topic could have other routes: names that are not taken.
    let options = Options { layout: vec![Layout::Partition], ..case.options("worker") };
    case.produce().await?;
    let mut worker: Option<Member> = None;
    if running {
        let mut member = case.start(&options)?;
        member.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
        case.drained(&[&member], BOUNDED).await?;
        worker = Some(member);
    } else {
        run_to_the_end(&case, &options).await?;
    }
    let old = case.scan().await?;
    let stored = case.bucket.objects("").await?;

    case.topics().recreate(&case.topic, case.partitions(), &[]).await?;
    case.spec = Spec { seed: case.spec.seed + 1, records: RECORDS / 2, ..case.spec };
    case.produce().await?;
    let message = match worker.take() {
        Some(mut worker) => worker.failure(NOTICED).await?,
        None => case.start(&options)?.failure(BOUNDED).await?,
    };
    let told = ["was the topic recreated", "the topic was recreated"];
    ensure!(told.iter().any(|told| message.contains(told)), "not an error promised: {message}");
    let now = case.bucket.objects("").await?;
    let changed =
        stored.iter().filter(|was| !now.iter().any(|is| is.key == was.key && is.bytes == was.bytes));
    ensure!(changed.count() == 0 && now.len() == stored.len(), "the old topic's objects have changed");
    let audit = case.audit_of(site, old, "").await?;
    let before = Proof::of(fault, 1, audit, message);

    let anew = Options { group: format!("{}-anew", case.group()), prefix: "anew".into(), ..options };
    case.start(&Options { until_end: true, ..anew })?.finish(BOUNDED).await?;
    let audit = case.audit_of(site, case.scan().await?, "anew/").await?;
    let after = Proof::of("the same, stored anew under another prefix", 1, audit, "");
    if before.is_clean() && after.is_clean() {
        case.remove().await?;
    }
    Ok([before, after])
}

/// A client asks for the topic's metadata every now and then.
const NOTICED: Duration = Duration::from_secs(90);
