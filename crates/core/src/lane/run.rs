//! The lane's life, and the events that drive it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};

use crate::convert::Converter;
use crate::error::{Class, ErrorChain};
use crate::observe::{LaneState, Metric};
use crate::partition::Partitioner;
use crate::record::Offset;
use crate::sink::Sink;
use crate::source::Assignment;

use super::context::{LaneContext, Stages};
use super::error::LaneError;
use super::fill::Filler;
use super::inbox::Inbox;

/// What the supervisor wants of a lane, at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Run,
    /// Cut, publish, commit, end; what waits in the inbox is dropped.
    Drain,
}

/// What a new lane starts with.
#[derive(Debug)]
pub(crate) struct LaneStart {
    pub(crate) assignment: Assignment,
    /// Answered with the offset to read from.
    pub(crate) start: oneshot::Sender<Offset>,
    /// Closed when there will be no more events: the lane finishes what it has.
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) wish: watch::Receiver<Wish>,
    /// Requests to cut and publish now; answered when it is done.
    pub(crate) flush: mpsc::Receiver<oneshot::Sender<()>>,
    /// End after the pending intent, if any, is published.
    pub(crate) only_recover: bool,
}

/// How a lane ended.
#[derive(Debug)]
pub(crate) enum LaneExit {
    /// Everything it had taken in is published and committed, or given back unread.
    Drained,
    /// Its lease ended first; what was open is abandoned.
    Abandoned,
    /// A human is needed.
    Failed(LaneError),
}

/// Runs a lane to its end. Never panics, whatever the stages do.
pub(crate) async fn run<C, P, K>(
    stages: Arc<Stages<C, P, K>>,
    context: Arc<LaneContext>,
    start: LaneStart,
) -> LaneExit
where
    C: Converter,
    P: Partitioner<C::Output>,
    K: Sink<C::Output>,
{
    let mut filler = Filler::new(stages, Arc::clone(&context));
    let ended = {
        let life = AssertUnwindSafe(filler.live(start)).catch_unwind();
        tokio::select! {
            biased;
            () = context.lease.ended() => None,
            result = life => Some(result),
        }
    };
    let exit = match ended {
        None => LaneExit::Abandoned,
        Some(Ok(Ok(()))) => LaneExit::Drained,
        Some(Ok(Err(LaneError::Stage(error)))) if error.class() == Class::Fenced => {
            tracing::info!(lane = %context.lane, error = %ErrorChain(&error), "the partition is no longer ours");
            LaneExit::Abandoned
        }
        Some(Ok(Err(error))) => LaneExit::Failed(error),
        Some(Err(panic)) => LaneExit::Failed(LaneError::Panicked { message: panic_message(panic.as_ref()) }),
    };
    let abandoned = filler.abandon().await;
    if abandoned > 0 {
        context.totals.abandoned.fetch_add(abandoned, Ordering::Relaxed);
        Metric::Abandoned.add(&context.scope, &[], abandoned);
    }
    // Nobody else sets these any more, and a gauge keeps what it was last told.
    Metric::SegmentAge.set(&context.scope, 0);
    if !matches!(exit, LaneExit::Failed(_)) {
        Metric::PendingIntents.set(&context.scope, 0);
    }
    if let LaneExit::Failed(error) = &exit {
        let chain = ErrorChain(error).to_string();
        tracing::error!(lane = %context.lane, error = %chain, "the lane stopped; its offsets stay where they are");
        Metric::LaneFailures.add(&context.scope, &[], 1);
        context.cell.update(|status| status.state = LaneState::Failed(chain));
    }
    exit
}

pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
