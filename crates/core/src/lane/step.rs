//! One record on its way through the stages.

use std::sync::atomic::Ordering;

use crate::convert::{Converted, Converter, SkipReason};
use crate::dead_letter::{DeadLetter, OnPoison, PoisonWindow};
use crate::error::{Poison, PoisonReason, PoisonStage};
use crate::observe::Metric;
use crate::partition::Partitioner;
use crate::record::{Offset, Record};
use crate::sink::{Envelope, Sink};

use super::context::{LaneContext, Stages};
use super::error::LaneError;
use super::fill::Filler;
use super::open::Open;

/// The error to stop with if `count` more of the open segment's records are more poison than the breaker lets through. A
/// pinned segment's are not counted: they were let through by whoever cut it.
pub(super) fn too_much<T: Send + 'static>(
    window: &mut PoisonWindow,
    open: &Open<T>,
    offset: Offset,
    (stage, poison): (PoisonStage, &Poison),
    count: usize,
) -> Option<LaneError> {
    if open.pinned.is_some() {
        return None;
    }
    let (poisoned, seen) = window.poisoned(count)?;
    let (poison, published) = (poison.clone(), open.start);
    Some(LaneError::PoisonRate { poisoned, seen, offset, stage, poison, published })
}

/// What became of one record.
pub(super) enum Step {
    Stored,
    Skipped(SkipReason),
    /// The segment has no room for another route.
    RoutesFull,
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
            Err(poison) => return Step::Poisoned(PoisonStage::Convert, poison),
        };
        open.path.clear();
        if let Err(poison) = stages.partitioner.route(record, &value, &mut open.path) {
            return Step::Poisoned(PoisonStage::Partition, poison);
        }
        let known = open.routes.get(&open.path);
        // A pinned segment was cut by its first owner; it has as many routes as it has.
        if known.is_none() && open.pinned.is_none() && open.routes.len() >= context.capabilities.routes_max {
            return Step::RoutesFull;
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
            // The first owner has sent the letters of a pinned segment before it wrote the cut down.
            OnPoison::DeadLetter(_) if open.pinned.is_some() => {}
            OnPoison::DeadLetter(_) => {
                open.letter_bytes += record.size() + size_of::<DeadLetter>();
                open.letters.push(DeadLetter { record: record.to_owned(), stage, poison });
            }
        }
        None
    }
}
