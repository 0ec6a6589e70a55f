//! A process that is frozen while it publishes, declared dead by its group, replaced, and thawed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::integration::gate::Gate;
use crate::integration::marks::Place;
use crate::integration::member::{Member, Seen};
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Listed, Site};

/// When the process is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The cut is written down and nothing of the segment is visible.
    BeforePublishing,
    /// Some objects of the segment are visible and others are not.
    Publishing,
}

impl Moment {
    /// How many uploads reach the server before the freeze.
    fn uploads(self) -> u64 {
        match self {
            Self::BeforePublishing => 0,
            Self::Publishing => 1,
        }
    }
}

/// The zombie's uploads are held on their way, so that the moment is exact. They arrive when its successor has published the same
/// segments, and after that the zombie itself wakes up.
pub(crate) async fn run(
    site: &mut Site,
    name: &'static str,
    moment: Moment,
    protocol: &'static str,
) -> Result<Outcome> {
    let case = Case::new(site, name, 1_000_000).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    let mut options = case.options("zombie");
    options.group_protocol = protocol.into();
    options.endpoint = gate.endpoint().clone();
    let mut zombie = case.start(&options)?;
    let partitions = case.partitions() as usize;
    zombie.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == partitions).await?;
    let flow = case.flow(site.pick(4_000, 2_000));
    let has_published = |seen: &Seen| seen.published >= 4;
    zombie.until("its first segments", Duration::from_secs(30), has_published).await?;

    let frozen = freeze(&case, &gate, &mut zombie, moment).await?;
    let since = Instant::now();
    let mut options = case.options("heir");
    options.group_protocol = protocol.into();
    let mut heir = case.start(&options)?;
    heir.until("the zombie's partitions", ASSIGNMENT, |seen| seen.lanes.len() == partitions).await?;
    passed(&case, &frozen, Duration::from_secs(30)).await?;
    let taken_over = since.elapsed();

    // First what it had sent arrives, then the zombie itself moves again.
    let before = zombie.seen();
    let late = gate.state().held;
    gate.release();
    tokio::time::sleep(Duration::from_secs(1)).await;
    zombie.thaw()?;
    let back = |seen: &Seen| {
        seen.assignments > before.assignments && seen.published > before.published && !seen.lanes.is_empty()
    };
    zombie.until("new partitions and a segment of them", ASSIGNMENT, back).await?;
    let shared = |seen: &Seen| seen.lanes.len() < partitions && !seen.lanes.is_empty();
    heir.until("a part of the partitions", Duration::from_secs(20), shared).await?;
    flow.stop().await?;
    case.drained(&[&zombie, &heir], Duration::from_mins(1)).await?;
    zombie.terminate().await?;
    let summary = heir.terminate().await?;
    ensure!(
        summary.recovered >= frozen.len() as u64,
        "the successor finished {} segments of the zombie, which left {}",
        summary.recovered,
        frozen.len()
    );
    let audit = case.audit(site).await?;
    let detail = format!(
        "frozen with {} cuts pending, {late} uploads arrived after its successor's; taken over after {:.1} s",
        frozen.len(),
        taken_over.as_secs_f64()
    );
    Ok(Outcome::of(format!("{name}: stopped past its session, resumed"), 1, audit, detail)
        .recovered_within(taken_over))
}

/// Freezes `zombie` in that moment. Another segment may have been under way when the gate was closed; then it is thawed and
/// frozen again later.
pub(super) async fn freeze(
    case: &Case,
    gate: &Gate,
    zombie: &mut Member,
    moment: Moment,
) -> Result<Vec<Place>> {
    let limit = Duration::from_secs(30);
    let deadline = Instant::now() + limit;
    loop {
        zombie.until("a moment without a pending intent", limit, |seen| seen.pending.is_empty()).await?;
        let uploads = gate.state().passed + moment.uploads();
        gate.hold_after(moment.uploads());
        while gate.state().held == 0 || gate.state().answered < uploads {
            zombie.until("a pending intent", limit, |seen| !seen.pending.is_empty()).await?;
            ensure!(Instant::now() < deadline, "too few uploads: {:?}", gate.state());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        zombie.freeze()?;
        let mut frozen = case.marks().await?;
        frozen.retain(|place| place.intent.is_some());
        let visible = visible(case, &frozen).await?;
        if !frozen.is_empty() && (visible > 0) == (moment == Moment::Publishing) {
            tracing::info!(visible, frozen = %Listed(&frozen), "frozen");
            return Ok(frozen);
        }
        ensure!(
            Instant::now() < deadline,
            "never at the right moment; now {visible} objects of {} are visible",
            Listed(&frozen)
        );
        gate.release();
        zombie.thaw()?;
    }
}

/// How many objects of these pending segments are visible.
async fn visible(case: &Case, places: &[Place]) -> Result<usize> {
    let mut visible = 0;
    for object in case.bucket.objects("").await? {
        let (partition, offset) = Case::place_of(&object.key)?;
        visible += usize::from(places.iter().any(|place| {
            place.partition == partition && offset >= place.mark && Some(offset) < place.intent
        }));
    }
    Ok(visible)
}

/// Waits until all of the pending segments are published by whoever has taken over.
pub(crate) async fn passed(case: &Case, pending: &[Place], limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let places = case.marks().await?;
        let passed = |was: &Place| {
            places.iter().any(|now| now.partition == was.partition && Some(now.mark) >= was.intent)
        };
        if pending.iter().all(passed) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "what was pending is not finished after {} s: {} was {}",
            limit.as_secs(),
            Listed(&places),
            Listed(pending)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
