//! Members that come and go.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::kill::ASSIGNMENT;
use super::protocol::Protocol;
use crate::integration::gate::Gate;
use crate::integration::member::Member;
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site};
use crate::worker::{Rotation, Summary};

/// Three members of one group join and leave every few seconds, in any order, while events flow and uploads take their time, so that
/// cuts, publications and commits are under way at each change. Who leaves, publishes and commits what it has, whatever the rotation
/// says; nobody has to finish anything of anybody else. Where a protocol leaves members what does not move, that goes on.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for protocol in Protocol::some(site.ci, site.seed) {
        outcome = outcome.and(one(site, protocol).await?);
    }
    Ok(outcome)
}

struct Group {
    case: Case,
    gate: Gate,
    protocol: Protocol,
    joined: u64,
    gone: Vec<Summary>,
}

async fn one(site: &Site, protocol: Protocol) -> Result<Proof> {
    let name = match protocol {
        Protocol::Eager => "members-eager",
        Protocol::Cooperative => "members",
        Protocol::Consumer => "members-848",
    };
    let case = Case::new(site, name, 1_000_000).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    gate.delay(Duration::from_millis(60));
    let flow = case.flow(site.pick(4_000, 2_000));
    let mut group = Group { case, gate, protocol, joined: 0, gone: Vec::new() };
    let mut random = StdRng::seed_from_u64(site.seed);
    let mut members = group.churn(site.pick(18, 6), &mut random).await?;
    // What is cut when a partition moves, is not what goes on: for the rest, one member is enough.
    let mut one = members.swap_remove(0);
    for member in members {
        group.gone.push(member.terminate().await?);
    }
    let lanes = group.case.partitions() as usize;
    one.until("all partitions", ASSIGNMENT, |seen| seen.lanes.len() == lanes).await?;
    let mut retained = String::new();
    if protocol.retains() {
        let segments = group.goes_on(&mut one).await?;
        retained = format!("; {segments} segments published by retained lanes while another was held back");
    }
    flow.stop().await?;
    group.case.drained(&[&one], Duration::from_mins(1)).await?;
    group.gone.push(one.terminate().await?);
    let sum = |count: fn(&Summary) -> u64| group.gone.iter().map(count).sum::<u64>();
    let (segments, abandoned) = (sum(|it| it.segments), sum(|it| it.abandoned));
    let recovered = sum(|it| it.recovered);
    ensure!(
        abandoned == 0 && recovered == 0,
        "nobody crashed, and {abandoned} segments were abandoned, {recovered} finished by a successor"
    );
    let audit = group.case.audit(site).await?;
    let changes = group.joined + group.gone.len() as u64;
    let detail = format!("{changes} changes, {segments} segments{retained}");
    Ok(Proof::of(format!("three members join and leave, {}", protocol.name()), changes, audit, detail))
}

impl Group {
    fn start(&mut self, worker: &str) -> Result<Member> {
        let mut options = self.case.options(worker);
        self.protocol.set(&mut options);
        options.endpoint = self.gate.endpoint().clone();
        // In turn far older than a membership, and so young that publishing and commits are always under way.
        let age = if self.joined.is_multiple_of(2) { 4_000 } else { 500 };
        options.rotation = vec![Rotation::AgeMs(age)];
        options.spool_dir.push(worker);
        self.joined += 1;
        self.case.start(&options)
    }

    /// Lets members come and go; answers those who are there in the end.
    async fn churn(&mut self, changes: u32, random: &mut StdRng) -> Result<Vec<Member>> {
        let mut members = [Some(self.start("one")?), None, None];
        for _ in 0..changes {
            tokio::time::sleep(Duration::from_millis(random.random_range(200..3_500))).await;
            let present = members.iter().flatten().count();
            let index = random.random_range(0..members.len());
            let slot = members.get_mut(index).context("no such member")?;
            // Never nobody: every change hands partitions over to somebody.
            match slot.take() {
                Some(member) if present == 1 => *slot = Some(member),
                Some(member) => {
                    self.gone.push(member.terminate().await?);
                    continue;
                }
                None => {}
            }
            if let Some(empty) = (0..3).find(|index| members.get(*index).is_some_and(Option::is_none)) {
                let name = ["one", "two", "three"].get(empty).context("no such member")?;
                let member = self.start(name)?;
                members.get_mut(empty).context("no such member")?.replace(member);
            }
        }
        Ok(members.into_iter().flatten().collect())
    }

    /// A second member joins while nothing of one partition can be uploaded. If that is one that moves, the change cannot end;
    /// until it does, lanes that stay must publish. Answers how many segments they have published in that time.
    async fn goes_on(&mut self, one: &mut Member) -> Result<u64> {
        let lanes = self.case.partitions() as usize;
        for partition in 0..self.case.partitions() {
            one.until("all partitions", ASSIGNMENT, |seen| seen.lanes.len() == lanes).await?;
            self.gate.shut(partition);
            self.wait("an upload is held", |gate| Ok(gate.state().held > 0)).await?;
            let told = one.says(MOVING)?;
            let mut two = self.start("joiner")?;
            self.wait("partitions move", |_| Ok(one.says(MOVING)? > told)).await?;
            let before = one.seen().published;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let stuck = two.seen().lanes.len() < lanes / 2;
            let published = one.seen().published - before;
            self.gate.release();
            two.until("its share", ASSIGNMENT, |seen| seen.lanes.len() == lanes / 2).await?;
            self.gone.push(two.terminate().await?);
            if stuck {
                ensure!(
                    published > 0,
                    "lanes that stay have published nothing while partition {partition} moved"
                );
                return Ok(published);
            }
        }
        bail!("a new member was given its share each time although each partition was held in turn")
    }

    async fn wait(&self, what: &str, happened: impl Fn(&Gate) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + ASSIGNMENT;
        while !happened(&self.gate)? {
            ensure!(Instant::now() < deadline, "still waited for: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// What a member logs when partitions are taken from it.
const MOVING: &str = "partitions are moving to another member";
