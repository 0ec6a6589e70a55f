//! An operator who sets the group's offsets.

use anyhow::{Context as _, Result, ensure};

use super::offsets::{self, Committed};
use super::pending::{BOUNDED, cut_and_die, publish_half, run_to_the_end, short_session};
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Listed, Site};
use crate::worker::{Options, Rotation};

/// Records of a segment: its edges are known.
const SEGMENT: i64 = 500;

/// While the worker is down with a cut pending in every partition, offsets are set: back to a segment's edge, back into a segment,
/// and to beyond the cut. The worker stops at each of them and says how to go on if it is meant; it is not, and with the offsets as
/// they were everything is finished.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let case = Case::new(site, "operator-reset", 16_000).await?;
    let options = Options {
        rotation: vec![Rotation::Records(SEGMENT.unsigned_abs())],
        ..short_session(case.options("worker"))
    };
    let marks = publish_half(&case, &options).await?;
    ensure!(
        marks.iter().all(|place| place.mark > 3 * SEGMENT),
        "too little is published: {}",
        Listed(&marks)
    );
    let pending = cut_and_die(site, &case, &options, 0).await?;
    let beyond = pending.get(2).and_then(|place| place.intent).context("nothing is pending")? + SEGMENT + 200;
    let mut resets = vec![
        Committed::by_hand(0, 2 * SEGMENT),
        Committed::by_hand(1, 2 * SEGMENT + SEGMENT / 2),
        Committed::by_hand(2, beyond),
    ];
    let were = offsets::read(&case).await?;
    let stored = case.bucket.objects("").await?;
    offsets::set(&case, &resets).await?;
    let (count, mut last) = (resets.len() as u64, String::new());
    while !resets.is_empty() {
        let message = case.start(&options)?.failure(BOUNDED).await?;
        let says = |reset: &Committed| {
            message.contains(&format!("the committed offset {} was not set by this pipeline", reset.offset))
        };
        let index =
            resets.iter().position(says).with_context(|| format!("not the error promised: {message}"))?;
        ensure!(message.contains("adopt_foreign_marks(true)"), "the error names no remedy: {message}");
        let reset = resets.swap_remove(index);
        let was =
            were.iter().find(|was| was.partition == reset.partition).context("nothing was committed")?;
        offsets::set(&case, std::slice::from_ref(was)).await?;
        last = message;
    }
    run_to_the_end(&case, &options).await?;
    let now = case.bucket.objects("").await?;
    ensure!(
        stored.iter().all(|was| now.iter().any(|is| is.key == was.key && is.bytes == was.bytes)),
        "an object that was there has changed"
    );
    let audit = case.audit(site).await?;
    Ok(Outcome::of("offsets reset with a cut pending: stopped, put back", count, audit, last))
}
