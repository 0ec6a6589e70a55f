//! Members that come and go.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::integration::gate::Gate;
use crate::integration::member::Member;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};
use crate::worker::{Rotation, Summary};

/// Two members of one group join and leave every few seconds, in any order, while events flow. Who leaves, publishes and commits
/// what it has, whatever the rotation says; nobody has to finish anything of anybody else.
pub(crate) async fn run(site: &mut Site, protocol: &'static str) -> Result<Outcome> {
    let name = if protocol == "classic" { "members" } else { "members-848" };
    let changes = site.pick(16, 7);
    let mut random = StdRng::seed_from_u64(site.seed);
    let case = Case::new(site, name, 1_000_000).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    gate.delay(Duration::from_millis(30));
    let flow = case.flow(site.pick(4_000, 2_000));
    let start = |worker: &str| {
        let mut options = case.options(worker);
        options.group_protocol = protocol.into();
        options.endpoint = gate.endpoint().clone();
        // Older than most memberships: what a member has when it goes was not cut by age.
        options.rotation = vec![Rotation::AgeMs(4_000)];
        options.spool_dir.push(worker);
        case.start(&options)
    };
    let mut members: [Option<Member>; 2] = [Some(start("one")?), None];
    let mut joined = 1_u64;
    let mut gone = Vec::new();
    for _ in 0..changes {
        tokio::time::sleep(Duration::from_millis(random.random_range(200..4_000))).await;
        let [one, two] = &mut members;
        // Never nobody: every change hands partitions over to somebody.
        let (slot, worker) = match (&*one, &*two, random.random::<bool>()) {
            (None, _, _) | (Some(_), Some(_), true) => (one, "one"),
            _ => (two, "two"),
        };
        if let Some(member) = slot.take() {
            gone.push(member.terminate().await?);
        } else {
            *slot = Some(start(worker)?);
            joined += 1;
        }
    }
    flow.stop().await?;
    for (slot, worker) in members.iter_mut().zip(["one", "two"]) {
        if slot.is_none() {
            *slot = Some(start(worker)?);
            joined += 1;
        }
    }
    let present: Vec<&Member> = members.iter().flatten().collect();
    case.drained(&present, Duration::from_mins(1)).await?;
    for member in members.into_iter().flatten() {
        gone.push(member.terminate().await?);
    }
    let sum = |count: fn(&Summary) -> u64| gone.iter().map(count).sum::<u64>();
    let (segments, abandoned) = (sum(|it| it.segments), sum(|it| it.abandoned));
    let recovered = sum(|it| it.recovered);
    ensure!(
        abandoned == 0 && recovered == 0,
        "nobody crashed, and {abandoned} segments were abandoned, {recovered} finished by a successor"
    );
    let audit = case.audit(site).await?;
    let detail = format!("{protocol}: {joined} times joined, {} times left, {segments} segments", gone.len());
    Ok(Outcome::of(format!("members join and leave, {protocol}"), joined + gone.len() as u64, audit, detail))
}
