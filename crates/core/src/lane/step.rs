//! One record on its way through the stages, and a batch's rows into scratch.

use std::sync::atomic::Ordering;

use crate::batch::Batch;
use crate::convert::{Converted, Converter, SkipReason};
use crate::dead_letter::{DeadLetter, OnPoison, Rejected};
use crate::error::{Poison, PoisonReason, PoisonStage};
use crate::failpoint::Failpoint;
use crate::observe::Metric;
use crate::partition::Partitioner;
use crate::record::{Offset, Record};
use crate::sink::{Envelope, Sink};

use super::backoff::persist;
use super::context::{LaneContext, Stages};
use super::error::LaneError;
use super::fill::Filler;
use super::open::Open;

/// The error to stop with if there is more poison in the open segment than the breaker lets through. A pinned segment's is not
/// counted: it was let through by whoever cut it.
pub(super) fn too_much<T: Send + 'static>(
    open: &Open<T>,
    count: impl FnOnce() -> Option<(u64, u64)>,
    offset: Offset,
    (stage, poison): (PoisonStage, &Poison),
) -> Option<LaneError> {
    if open.pinned.is_some() {
        return None;
    }
    let (poisoned, seen) = count()?;
    let (poison, published) = (poison.clone(), open.start);
    Some(LaneError::PoisonRate { poisoned, seen, offset, stage, poison, published })
}

/// What became of one record.
pub(super) enum Step {
    Stored,
    Skipped(SkipReason),
    /// The segment has no room for another route.
    RoutesFull,
    /// The writer is to be told of the route first; the record comes again.
    NewRoute,
    Poisoned(PoisonStage, Poison),
}

impl<C, P, K> Filler<C, P, K>
where
    C: Converter,
    P: Partitioner<C::Output>,
    K: Sink<C::Output>,
{
    /// Takes one record through the three stages. Part of the hot loop.
    pub(super) fn step(
        stages: &Stages<C, P, K>,
        context: &LaneContext,
        open: &mut Open<C::Output>,
        record: &Record<'_>,
    ) -> Step {
        if record.size() as u64 > context.record_bytes_max {
            let poison = Poison::new(
                PoisonReason::TooLarge,
                format!(
                    "{} bytes, the limit is {}; raise Limits::with_record_max",
                    record.size(),
                    context.record_bytes_max
                ),
            );
            return Step::Poisoned(PoisonStage::Convert, poison);
        }
        let value = match stages.converter.convert(record) {
            Ok(Converted::Emit(value)) => value,
            Ok(Converted::Skip(reason)) => return Step::Skipped(reason),
            Err(poison) => return Step::Poisoned(poison.part().stage(), poison),
        };
        // Asked again, a partitioner with a clock of its own may say another route, and that would have to be opened, too.
        if open.routed.take() != Some(record.offset()) {
            open.path.clear();
            if let Err(poison) = stages.partitioner.route(record, &value, &mut open.path) {
                return Step::Poisoned(PoisonStage::Partition, poison);
            }
        }
        let known = open.routes.get(&open.path);
        // A pinned segment was cut by its first owner; it has as many routes as it has.
        if known.is_none() && open.pinned.is_none() && open.routes.len() >= context.capabilities.routes_max {
            return Step::RoutesFull;
        }
        if known.is_none() && context.capabilities.opens_routes && open.opened.get(&open.path).is_none() {
            open.routed = Some(record.offset());
            return Step::NewRoute;
        }
        let route = known.unwrap_or_else(|| open.routes.next_id());
        if let Err(poison) = open.writer.append(Envelope { record, route, path: &open.path, value }) {
            return Step::Poisoned(PoisonStage::Encode, poison);
        }
        if known.is_none() {
            open.routes.intern(&open.path);
        }
        Step::Stored
    }

    /// Counts what this batch has skipped, once per batch: a counter is looked up by its labels.
    pub(super) fn report_skips(context: &LaneContext, open: &mut Open<C::Output>) {
        for (reason, count) in open.skips.take() {
            context.totals.skipped.fetch_add(count, Ordering::Relaxed);
            Metric::RecordsSkipped.add(&context.scope, &[("reason", reason.as_str())], count);
        }
    }

    /// Moves what was appended to scratch; rows the target refuses right away become poison.
    pub(super) async fn spill(&mut self, batch: &Batch, taken: u64) -> Result<(), LaneError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        Self::report_skips(&self.context, open);
        if let Some(originals) = &mut open.originals {
            persist!(&self.context, originals.spill().await)?;
        }
        let mut rejected = persist!(
            &self.context,
            match Failpoint::SpillBefore.check() {
                Ok(()) => open.writer.spill().await,
                Err(error) => Err(error),
            }
        )?;
        open.scratch.settle();
        Failpoint::SpillAfter.reach();
        if open.pinned.is_some() {
            Failpoint::RecoverMidReplay.reach();
        }
        rejected.sort_by_key(|rejected| rejected.offset);
        if let Some(Rejected { offset, poison }) = rejected.last() {
            let count = || self.window.refused(taken, rejected.len() as u64);
            if let Some(error) = too_much(open, count, *offset, (PoisonStage::Target, poison)) {
                return Err(error);
            }
        }
        open.refused(&rejected);
        for Rejected { offset, poison } in rejected {
            let record = batch.iter().find(|record| record.offset() == offset);
            let Some(record) = record else { return Err(LaneError::UndeclaredRejection { offset }) };
            if let Some((stage, poison)) =
                Self::poisoned(&self.context, open, &record, PoisonStage::Target, poison)
            {
                return Err(LaneError::Poisoned { offset, stage, poison, published: open.start });
            }
        }
        Ok(())
    }

    /// Applies the policy; gives the poison back if the lane has to stop.
    pub(super) fn poisoned(
        context: &LaneContext,
        open: &mut Open<C::Output>,
        record: &Record<'_>,
        stage: PoisonStage,
        poison: Poison,
    ) -> Option<(PoisonStage, Poison)> {
        match &context.on_poison {
            OnPoison::Stop => return Some((stage, poison)),
            OnPoison::Skip => {
                tracing::debug!(lane = %context.lane, offset = %record.offset(), %stage, %poison, "skipping a record");
                open.skips.add(SkipReason::Poison);
            }
            OnPoison::DeadLetter(_) => {
                open.letter_bytes += record.size() + size_of::<DeadLetter>();
                open.letters.push(DeadLetter { record: record.to_owned(), stage, poison });
            }
        }
        None
    }
}
