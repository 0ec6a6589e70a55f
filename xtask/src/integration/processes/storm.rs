//! Everything at once.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::integration::gate::Gate;
use crate::integration::member::Member;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};
use crate::worker::{Options, Rotation};

/// One of the members there may be, and the way its uploads take.
struct Slot {
    options: Options,
    gate: Gate,
    member: Option<Member>,
    frozen: bool,
}

/// How often what was done.
#[derive(Debug, Default)]
struct Counts {
    joined: u32,
    killed: u32,
    terminated: u32,
    frozen: u32,
    held: u32,
}

/// Three members that are started, killed, frozen, thawed, asked to end and cut off from the S3 server at random, often while the
/// others are in trouble too. At the end all of them are let go on together.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let lasts = Duration::from_secs(site.pick(180, 45));
    let mut random = StdRng::seed_from_u64(site.seed);
    let case = Case::new(site, "storm", 1_000_000).await?;
    let mut slots = Vec::new();
    for (index, name) in ["one", "two", "three"].into_iter().enumerate() {
        let gate = Gate::open(site.servers.s3.endpoint()).await?;
        gate.delay(Duration::from_millis(80));
        let mut options = case.options(name);
        options.endpoint = gate.endpoint().clone();
        options.spool_dir.push(name);
        options.rotation = vec![if index == 0 { Rotation::ScheduleMs(1_000) } else { Rotation::AgeMs(800) }];
        slots.push(Slot { options, gate, member: None, frozen: false });
    }
    let flow = case.flow(site.pick(4_000, 2_000));
    let mut counts = Counts::default();
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        let index = random.random_range(0..slots.len());
        if let Some(slot) = slots.get_mut(index) {
            slot.stir(&case, &mut random, &mut counts).await?;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(50..1_500))).await;
    }
    flow.stop().await?;
    for slot in &mut slots {
        slot.calm(&case)?;
    }
    let members: Vec<&Member> = slots.iter().filter_map(|slot| slot.member.as_ref()).collect();
    let calm = Instant::now();
    case.drained(&members, Duration::from_secs(90)).await?;
    let recovered = calm.elapsed();
    for slot in slots {
        if let Some(member) = slot.member {
            member.terminate().await?;
        }
    }
    let audit = case.audit(site).await?;
    let Counts { joined, killed, terminated, frozen, held } = counts;
    let detail = format!(
        "joined {joined}, killed {killed}, terminated {terminated}, frozen {frozen}, held {held} times"
    );
    Ok(Outcome::of(
        "kills, freezes, stops, cut-off uploads at random",
        u64::from(joined + killed + terminated + frozen + held),
        audit,
        detail,
    )
    .recovered_within(recovered))
}

impl Slot {
    /// Does something to it.
    async fn stir(&mut self, case: &Case, random: &mut StdRng, counts: &mut Counts) -> Result<()> {
        let Some(mut member) = self.member.take() else {
            self.gate.release();
            self.member = Some(case.start(&self.options)?);
            counts.joined += 1;
            return Ok(());
        };
        match random.random_range(0..10) {
            0..3 => {
                if !self.frozen {
                    // Rather while it has something to lose.
                    let cuts = member.seen().cuts;
                    tokio::time::timeout(Duration::from_secs(2), member.changed(|seen| seen.cuts > cuts))
                        .await
                        .ok();
                }
                self.frozen = false;
                counts.killed += 1;
                member.kill().await?;
                return Ok(());
            }
            3..5 => {
                self.gate.release();
                self.frozen = false;
                counts.terminated += 1;
                member.terminate_in_trouble().await?;
                return Ok(());
            }
            _ if self.frozen => {
                member.thaw()?;
                self.frozen = false;
            }
            5..8 => {
                member.freeze()?;
                self.frozen = true;
                counts.frozen += 1;
            }
            8 => {
                self.gate.hold_after(random.random_range(0..3));
                counts.held += 1;
            }
            _ => self.gate.release(),
        }
        self.member = Some(member);
        Ok(())
    }

    /// Lets it go on, or starts it.
    fn calm(&mut self, case: &Case) -> Result<()> {
        self.gate.release();
        match &self.member {
            Some(member) if self.frozen => member.thaw(),
            Some(_) => Ok(()),
            None => {
                self.member = Some(case.start(&self.options)?);
                Ok(())
            }
        }
    }
}
