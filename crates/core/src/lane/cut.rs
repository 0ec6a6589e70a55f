//! Ending the open segment.

use tokio::time::Instant;

use crate::convert::Converter;
use crate::dead_letter::{DeadLetter, OnPoison, Rejected};
use crate::error::PoisonStage;
use crate::failpoint::Failpoint;
use crate::intent::Intent;
use crate::observe::Metric;
use crate::partition::Partitioner;
use crate::record::OffsetRange;
use crate::rotate::CutReason;
use crate::sink::Sink;

use super::backoff::persist;
use super::context::LaneContext;
use super::error::LaneError;
use super::fill::Filler;
use super::originals::Originals;
use super::publish::{Item, StagedSegment};
use super::step::too_much;

impl<C, P, K> Filler<C, P, K>
where
    C: Converter,
    P: Partitioner<C::Output>,
    K: Sink<C::Output>,
{
    /// Ends the open segment, if there is one, at the position reached, or where its intent says.
    ///
    /// The segment stays in `self.open` until it is handed over, so that whoever drops this future half-way can still
    /// abandon it.
    pub(super) async fn cut(&mut self, reason: CutReason) -> Result<(), LaneError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        let end = open.pinned.as_ref().map_or(self.next, |intent| intent.range.end());
        let Some(range) = OffsetRange::new(open.start, end) else {
            // Nothing was taken in; the writer has nothing worth keeping.
            open.writer.abandon().await;
            self.open = None;
            return Ok(());
        };
        let mut refused = Vec::new();
        let token = if open.stats.rows > 0 {
            let mut staged = persist!(
                &self.context,
                match Failpoint::CutBeforeStage.check() {
                    Ok(()) => open.writer.stage(range).await,
                    Err(error) => Err(error),
                }
            )?;
            Failpoint::CutStaged.reach();
            staged.rejected.sort_by_key(|rejected| rejected.offset);
            if let Some(Rejected { offset, poison }) = staged.rejected.last() {
                let count = || self.window.refused(open.stats.records, staged.rejected.len() as u64);
                if let Some(error) = too_much(open, count, *offset, (PoisonStage::Encode, poison)) {
                    return Err(error);
                }
            }
            open.refused(&staged.rejected);
            refused = Originals::settle(&self.context, staged.rejected, PoisonStage::Encode, open.start)?;
            if staged.token.len() > Intent::TOKEN_MAX {
                return Err(LaneError::SinkContract { what: "its token is longer than Intent::TOKEN_MAX" });
            }
            Some(staged.token)
        } else {
            open.writer.abandon().await;
            None
        };
        check_replay(open.pinned.as_ref(), open.stats.rows, open.hash.finish())?;
        let Some(open) = self.open.take() else { return Ok(()) };
        tracing::debug!(lane = %self.context.lane, %range, rows = open.stats.rows, reason = reason.as_str(), "cut");
        Metric::Segments.add(&self.context.scope, &[("reason", reason.as_str())], 1);
        Failpoint::CutBeforeHandOver.reach();
        // What ends a pinned segment may be a record beyond it, and the offsets between them missing: the next segment
        // begins where this one ends, and never inside of it.
        self.next = self.next.max(range.end());
        self.handed_over = range.end();
        let writer = token.is_some().then_some(open.writer);
        // What was decided of a record must be written down before anybody can see it, be it a row or a letter.
        let decided = writer.is_some() || !open.letters.is_empty() || open.pinned.is_some();
        let item = if decided {
            Item::Segment(Box::new(StagedSegment {
                intent: Intent {
                    range,
                    fingerprint: self.context.fingerprint.clone(),
                    rows: open.stats.rows,
                    offsets_hash: open.hash.finish(),
                    opened_at_ms: open.opened_at_ms,
                    token: token.unwrap_or_default(),
                },
                recovered: open.pinned.is_some(),
                records: open.stats.records,
                letters: open.letters,
                refused,
                sent: 0,
                writer,
                originals: open.originals,
                cut_at: Instant::now(),
                _scratch: open.scratch,
                _slot: open.slot,
            }))
        } else {
            Item::Frontier {
                end: range.end(),
                records: open.stats.records,
                skipped: open.skips.total(),
                slot: Some(open.slot),
            }
        };
        self.hand_over(item).await
    }
}

/// A segment that was cut before must come out the same.
fn check_replay(pinned: Option<&Intent>, rows: u64, hash: u64) -> Result<(), LaneError> {
    match pinned {
        Some(intent) if intent.rows != rows || intent.offsets_hash != hash => {
            Err(LaneError::ReplayDiverged {
                range: intent.range,
                expected_rows: intent.rows,
                found_rows: rows,
            })
        }
        _ => Ok(()),
    }
}

pub(super) async fn send_letters(context: &LaneContext, letters: Vec<DeadLetter>) -> Result<(), LaneError> {
    let OnPoison::DeadLetter(target) = &context.on_poison else { return Ok(()) };
    if letters.is_empty() {
        return Ok(());
    }
    Failpoint::LettersBeforeSend.reach();
    persist!(context, target.send(letters.clone()).await)?;
    Failpoint::LettersSent.reach();
    for DeadLetter { stage, poison, .. } in &letters {
        let labels = [("stage", stage.as_str()), ("reason", poison.reason().as_str())];
        Metric::DeadLetters.add(&context.scope, &labels, 1);
    }
    context.totals.dead_letters.fetch_add(letters.len() as u64, std::sync::atomic::Ordering::Relaxed);
    Ok(())
}
