//! The pipeline: four stages, a guarantee, and what drives them.

mod builder;
mod check;
mod guarantee;
mod handle;
mod options;
mod supervise;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::error::StageError;
use crate::lane::LaneError;
use crate::observe::{Report, Totals};
use crate::record::{OffsetRange, TopicPartition};
use crate::sink::PublishedObject;
use crate::source::Source;
use crate::spool::SpoolError;

pub(crate) use builder::Runnable;
pub use builder::{BuildErrors, Builder, Unset};
pub use guarantee::Guarantee;
pub(crate) use handle::Command;
pub use handle::Handle;
pub(crate) use options::Options;
pub use options::{Limits, OnLaneFailure};

/// A pipeline that is ready to run.
///
/// # Lanes
/// Every topic-partition assigned to this process is worked on by a *lane* of its own, a task on the caller's Tokio
/// runtime. A lane converts, routes and spools the records of its partition in order, ends segments where the
/// rotation policy says, and commits. Lanes do not wait for each other.
///
/// # Guarantee
/// [`guarantee`](Self::guarantee) is computed from the stages, not claimed.
pub struct Pipeline {
    source: Box<dyn Source>,
    stages: Arc<dyn Runnable>,
    options: Options,
    guarantee: Guarantee,
    totals: Arc<Totals>,
    handle: Handle,
    commands: tokio::sync::mpsc::Receiver<Command>,
}

impl Pipeline {
    /// Starts a pipeline at its source; `convert`, `partition` and `sink` follow.
    pub fn from<Src: Source>(source: Src) -> Builder<Src, Unset, Unset, Unset> {
        Builder::new(source)
    }

    /// What the pipeline guarantees.
    pub fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    /// A handle that shows and steers the pipeline while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `shutdown` resolves, a bounded source has delivered everything, or a lane fails.
    ///
    /// Then every lane cuts, publishes and commits within the shutdown timeout; what is not done by then is abandoned
    /// and redone by the next owner. Must be called inside a multi-thread Tokio runtime; it blocks no thread of it.
    ///
    /// # Errors
    /// [`PipelineError`]: what is wrong at the start (source, target, spool), or why a lane stopped.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<Report, PipelineError> {
        supervise::run(self, shutdown, supervise::Mode::Run).await
    }

    /// Finishes the segments that former owners have cut and not published, then stops without reading anything else.
    ///
    /// Run it with the *old* layout before a change of converter, partitioner, format or prefix goes live. Partitions
    /// of other members of the group are theirs to finish.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn finish_pending(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Report, PipelineError> {
        supervise::run(self, shutdown, supervise::Mode::FinishPending).await
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("name", &self.options.name)
            .field("guarantee", &self.guarantee)
            .finish_non_exhaustive()
    }
}

/// Called after a segment's end is committed.
pub(crate) type PublishedHook = dyn Fn(&PublishedSegment) + Send + Sync;

/// A segment that is visible and committed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishedSegment {
    /// The partition.
    pub lane: TopicPartition,
    /// Its offsets.
    pub range: OffsetRange,
    /// Number of rows.
    pub rows: u64,
    /// Its objects, with their keys.
    pub objects: Vec<PublishedObject>,
}

/// Why a pipeline ended with an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The scratch directory cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The source failed.
    #[error("the source failed")]
    Source(#[source] StageError),
    /// The target's check failed before anything was read.
    #[error("the sink is not ready")]
    Sink(#[source] StageError),
    /// The dead letters' check failed before anything was read.
    #[error("the dead-letter target is not ready")]
    DeadLetters(#[source] StageError),
    /// A lane stopped. The others were drained first.
    #[error("lane {lane} stopped")]
    Lane {
        /// The partition.
        lane: TopicPartition,
        /// Why.
        source: Box<LaneError>,
    },
}
