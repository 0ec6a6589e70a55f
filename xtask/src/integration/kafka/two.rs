//! Two pipelines under one prefix.

use anyhow::{Result, ensure};

use super::pending::BOUNDED;
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};
use crate::worker::{Options, Rotation};

/// While one pipeline works, a second one of another group is pointed at the same topic and prefix by mistake, with other cuts.
/// It stops at the first object it finds, and says what it found and what it would have written; the first goes on.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let case = Case::new(site, "two-pipelines", 1_000_000).await?;
    let options =
        Options { rotation: vec![Rotation::Records(500), Rotation::AgeMs(2_000)], ..case.options("first") };
    let flow = case.flow(2_000);
    let mut first = case.start(&options)?;
    let partitions = case.partitions() as usize;
    first.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == partitions).await?;
    first.until("a segment of every lane", BOUNDED, |seen| seen.published >= 8).await?;
    let second = Options {
        name: "second".to_owned(),
        group: format!("{}-second", case.group()),
        rotation: vec![Rotation::Records(333)],
        ..options
    };
    let attempts = site.pick(3, 1);
    let mut message = String::new();
    for _ in 0..attempts {
        // The second attempt finds the first one's intents: it stops at the same object.
        message = case.start(&second)?.failure(BOUNDED).await?;
        for part in
            ["exists with other contents: found ", "expected ", "nothing was overwritten", "another prefix"]
        {
            ensure!(message.contains(part), "the error does not say {part:?}: {message}");
        }
    }
    let before = first.seen().published;
    first.until("more segments of the first", BOUNDED, |seen| seen.published > before).await?;
    flow.stop().await?;
    case.drained(&[&first], BOUNDED).await?;
    first.terminate().await?;
    let audit = case.audit(site).await?;
    Ok(Outcome::of("two pipelines on one prefix: the second stopped", attempts, audit, message))
}
