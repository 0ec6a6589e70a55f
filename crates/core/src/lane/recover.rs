//! What a new owner does before it reads: check the mark, finish what is written down.

use std::sync::atomic::Ordering;

use crate::intent::{Intent, Mark};
use crate::observe::Metric;
use crate::record::Offset;
use crate::source::{Assignment, MarkOrigin};

use super::context::LaneContext;
use super::error::LaneError;

/// What the mark asks for.
#[derive(Debug)]
pub(super) struct Recovery {
    /// Where to start reading, unless the pinned segment turns out to be visible already.
    pub(super) start: Offset,
    /// The segment to reproduce first.
    pub(super) pinned: Option<Intent>,
    /// Whether the start has to be committed before anything else: it was not ours, or nobody's. Without that, a
    /// pipeline that starts at the end of a topic and crashes before its first commit would start at a later end.
    pub(super) commit_start: bool,
}

/// Reads the mark.
pub(super) fn plan(context: &LaneContext, assignment: &Assignment) -> Result<Recovery, LaneError> {
    let Mark { next, intent } = assignment.mark.clone();
    if assignment.origin == MarkOrigin::Foreign {
        context.totals.foreign_marks.fetch_add(1, Ordering::Relaxed);
        Metric::ForeignMarks.add(&context.scope, &[], 1);
        tracing::warn!(lane = %context.lane, mark = %next, "the committed offset was set by another program");
        if context.exactly_once_required && !context.adopt_foreign_marks {
            return Err(LaneError::ForeignMark { mark: next });
        }
    }
    if let Some(intent) = &intent {
        let parts = context.fingerprint.differing_parts(&intent.fingerprint);
        if !parts.is_empty() {
            return Err(LaneError::LayoutChanged { range: intent.range, parts });
        }
    }
    if assignment.log_start > next {
        let (log_start, pending) = (assignment.log_start, intent.map(|intent| intent.range));
        return Err(LaneError::RetentionPassed { mark: next, log_start, pending });
    }
    if let Some(intent) = &intent {
        tracing::info!(lane = %context.lane, range = %intent.range, rows = intent.rows, "finishing a segment that its former owner has cut");
        context.cell.update(|status| status.pending_intent = true);
        Metric::PendingIntents.set(&context.scope, 1);
    }
    Ok(Recovery { start: next, pinned: intent, commit_start: assignment.origin != MarkOrigin::Committed })
}
