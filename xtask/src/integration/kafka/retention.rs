//! A topic that has removed records nobody has stored yet.

use anyhow::{Context as _, Result, ensure};

use super::offsets::{self, Committed};
use super::pending::{BOUNDED, cut_and_die, publish_half, run_to_the_end, short_session};
use crate::integration::marks::Place;
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site};
use crate::worker::Options;

/// What the group has left when the records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Marks.
    Marks,
    /// Cuts that are written down, with nothing visible.
    Cuts,
    /// The same, with an object of one of them visible.
    Visible,
}

/// Records are deleted past the marks of two partitions: of one some, of the other all. The worker stops, names the offsets and
/// what to do, and after the operator has done that, exactly the deleted records are missing.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (name, fault, left) in [
        ("retention", "retention past a mark: stopped, then reset", Left::Marks),
        ("retention-cut", "retention into a pending cut: the same", Left::Cuts),
        ("retention-visible", "retention into a cut visible in part: the same", Left::Visible),
    ] {
        outcome = outcome.and(one(site, name, fault, left).await?);
    }
    Ok(outcome)
}

async fn one(site: &Site, name: &'static str, fault: &str, left: Left) -> Result<Proof> {
    let case = Case::new(site, name, 16_000).await?;
    let options = short_session(case.options("worker"));
    let places = publish_half(&case, &options).await?;
    let mut first = 1;
    if left != Left::Marks {
        let uploads = u64::from(left == Left::Visible);
        cut_and_die(site, &case, &options, uploads).await?;
    }
    let visible = objects_beyond(&case, &places).await?;
    ensure!(visible.is_empty() != (left == Left::Visible), "visible of what is pending: {visible:?}");
    if let Some((partition, _)) = visible.first() {
        first = *partition;
    }
    let second = (first + 1) % i32::try_from(case.partitions())?;
    let mark = |partition: i32| -> Result<i64> {
        let place = places.iter().find(|place| place.partition == partition);
        Ok(place.context("a partition without a mark")?.mark)
    };
    let ledger = case.scan().await?;
    let per_partition = i64::try_from(case.spec.records / u64::from(case.partitions()))?;
    let gone = [(first, mark(first)? + SOME), (second, per_partition)];
    offsets::delete_records(&case, &gone).await?;

    let mut worker = case.start(&options)?;
    let message = worker.failure(BOUNDED).await?;
    let mut named = false;
    for (partition, start) in gone {
        named |= message.contains(&format!("retention removed offsets {} to {start}", mark(partition)?));
    }
    ensure!(named && message.contains("adopt_foreign_marks(true)"), "not the error promised: {message}");
    ensure!(
        (left == Left::Marks) != message.contains("remove the objects"),
        "what is pending is to be removed first, and the error says: {message}"
    );

    // What the error says: remove what is visible of the cut, set the offsets, start with the permission.
    for (partition, key) in objects_beyond(&case, &places).await? {
        if gone.iter().any(|(victim, _)| *victim == partition) {
            case.bucket.remove(&key).await?;
        }
    }
    let reset = gone.map(|(partition, start)| Committed::by_hand(partition, start));
    offsets::set(&case, &reset).await?;
    run_to_the_end(&case, &Options { adopt_foreign_marks: true, ..options }).await?;
    let deleted = u64::try_from(SOME + per_partition - mark(second)?)?;
    let audit = case.audit_of(site, ledger, "").await?.excusing(deleted);
    let proof = Proof::of(fault, 2, audit, format!("{deleted} records deleted: {message}"));
    if proof.is_clean() {
        case.remove().await?;
    }
    Ok(proof)
}

/// Partitions and keys of the objects that begin at a mark or behind it.
async fn objects_beyond(case: &Case, places: &[Place]) -> Result<Vec<(i32, String)>> {
    let mut found = Vec::new();
    for object in case.bucket.objects("").await? {
        let (partition, offset) = Case::place_of(&object.key)?;
        if places.iter().any(|place| place.partition == partition && offset >= place.mark) {
            found.push((partition, object.key));
        }
    }
    Ok(found)
}

/// How many records of the first partition go.
const SOME: i64 = 300;
