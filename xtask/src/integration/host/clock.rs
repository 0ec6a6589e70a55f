//! A wall clock that is wrong, and one that jumps.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use xtask::load::Spread;

use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site, audited};
use crate::worker::{Layout, Rotation, Shift};
use xtask::load::audit::Audit;

const HOUR_S: i64 = 3_600;
const AGE: Duration = Duration::from_secs(2);
const AGE_MS: u64 = 2_000;
/// Events a second.
const RATE: u64 = 2_000;
/// What event times advance by in one age: a million events are three hours, in order.
const EVENT_TIME_MS: u64 = 3 * 3_600_000 * RATE / 1_000_000 * AGE_MS / 1_000;

/// How the clock is wrong.
struct Trouble {
    name: &'static str,
    fault: &'static str,
    shifts: Vec<Shift>,
    rotation: Vec<Rotation>,
}

/// The clock is an hour ahead, then an hour behind, then it jumps by an hour in both directions while events flow, under rotation by
/// age, by schedule, and by record time, with a level of the layout that shows the time at which a segment was opened. Marks
/// go on, and a jump costs at most one early segment for each lane.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let lasts = Duration::from_secs(site.pick(24, 12));
    let always = |by_s| vec![Shift { after_ms: 0, by_s }];
    // A fixed clock is wrong from the start: what is to be seen is the jumps between machines, which a restart makes.
    let jumps: Vec<Shift> = (0..u64::MAX)
        .zip([HOUR_S, 0, -HOUR_S, HOUR_S, 0, -HOUR_S, 0])
        .map(|(index, by_s)| Shift { after_ms: 3_000 + index * 1_300, by_s })
        .collect();
    let schedule = vec![Rotation::ScheduleMs(AGE_MS)];
    let record_time = vec![Rotation::RecordTimeMs(EVENT_TIME_MS)];
    let age = vec![Rotation::AgeMs(AGE_MS)];
    let troubles = [
        Trouble {
            name: "clock-wrong",
            fault: "clock 1 h ahead, 1 h behind after a restart",
            shifts: Vec::new(),
            rotation: age.clone(),
        },
        Trouble {
            name: "clock-age",
            fault: "clock jumps by 1 and 2 h, rotation by age",
            shifts: jumps.clone(),
            rotation: age,
        },
        Trouble {
            name: "clock-schedule",
            fault: "clock jumps by 1 and 2 h, rotation by schedule",
            shifts: jumps.clone(),
            rotation: schedule,
        },
        Trouble {
            name: "clock-record-time",
            fault: "clock jumps by 1 and 2 h, rotation by record time",
            shifts: jumps,
            rotation: record_time,
        },
    ];
    let site = &*site;
    let proofs = troubles.map(|trouble| async move {
        let wrong = trouble.shifts.is_empty();
        let phases = if wrong { vec![always(HOUR_S), always(-HOUR_S)] } else { vec![trouble.shifts.clone()] };
        one(site, &trouble, &phases, lasts).await
    });
    audited(site, try_join_all(proofs).await?).await
}

async fn one(
    site: &Site,
    trouble: &Trouble,
    phases: &[Vec<Shift>],
    lasts: Duration,
) -> Result<(Case, Proof)> {
    let mut case = Case::new(site, trouble.name, 1_000_000).await?;
    // Event times that ascend, so that record time has something to go by.
    case.spec.spread = Spread::InOrder;
    let flow = case.flow(RATE);
    let mut options = case.options("worker");
    options.rotation.clone_from(&trouble.rotation);
    options.layout.insert(0, Layout::MinuteOpened);
    let (mut segments, mut jumps, mut longest) = (0, 0, Duration::ZERO);
    let phase_lasts = lasts / u32::try_from(phases.len())?;
    for shifts in phases {
        options.host.clock.clone_from(shifts);
        jumps += shifts.len() as u64;
        let mut worker = case.start(&options)?;
        worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
        let until = tokio::time::Instant::now() + phase_lasts;
        while tokio::time::Instant::now() < until {
            let since = tokio::time::Instant::now();
            let published = worker.seen().published;
            worker.until("another segment", STALL, |seen| seen.published > published).await?;
            longest = longest.max(since.elapsed());
        }
        segments += worker.terminate().await?.segments;
    }
    flow.stop().await?;
    options.until_end = true;
    segments += case.start(&options)?.finish(Duration::from_mins(1)).await?.segments;
    // Each lane: one an age, one for each jump and each end, and as much again for a machine that is busy.
    let ages = lasts.as_secs().div_ceil(AGE.as_secs());
    let most = 2 * u64::from(case.partitions()) * (ages + jumps + phases.len() as u64 + 1);
    ensure!(segments <= most, "{segments} segments in {} s, {most} are plenty", lasts.as_secs());
    let detail = format!(
        "{jumps} settings of the clock, {segments} segments, never {:.1} s without one",
        longest.as_secs_f64()
    );
    let proof = Proof::of(trouble.fault, jumps, Audit::default(), detail);
    Ok((case, Proof { recovery: Some(longest), ..proof }))
}

/// The longest time without a segment, whatever the clock does: several times the age.
const STALL: Duration = Duration::from_secs(15);
