//! Looking at a running pipeline and steering it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::budget::Budget;
use crate::observe::{PipelineStatus, Totals};

use super::Guarantee;

/// Shows and steers a pipeline. Clones are cheap and may be used from any task.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) name: String,
    pub(super) guarantee: Guarantee,
    pub(super) totals: Arc<Totals>,
    pub(super) budget: Budget,
    pub(super) paused: Arc<AtomicBool>,
    pub(super) commands: mpsc::Sender<Command>,
}

/// What a [`Handle`] asks of the supervisor.
#[derive(Debug)]
pub(crate) enum Command {
    Flush(oneshot::Sender<()>),
    Pause,
    Resume,
    Abort,
}

impl Handle {
    /// What the pipeline is doing.
    pub fn status(&self) -> PipelineStatus {
        let lanes = self.totals.lanes();
        PipelineStatus {
            name: self.name.clone(),
            guarantee: self.guarantee,
            pending_intents: lanes.iter().filter(|lane| lane.pending_intent).count(),
            lanes,
            totals: self.totals.report(),
            memory: (self.budget.fill().used() + self.budget.publish().used(), self.budget.memory_bytes()),
            disk: (self.budget.disk().used(), self.budget.disk_bytes()),
        }
    }

    /// Cuts every lane's open segment and resolves when what was taken in before the call is published and
    /// committed. Resolves at once when the pipeline does not run.
    pub async fn flush(&self) {
        let (done, answer) = oneshot::channel();
        if self.commands.send(Command::Flush(done)).await.is_ok() {
            drop(answer.await);
        }
    }

    /// Stops fetching. Open segments still rotate, the group membership stays.
    pub async fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
        drop(self.commands.send(Command::Pause).await);
    }

    /// Fetches again.
    pub async fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
        drop(self.commands.send(Command::Resume).await);
    }

    /// Whether the pipeline is paused.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Ends at once: open segments are abandoned, as after a second signal. Nothing is lost; their next owner redoes
    /// them.
    pub async fn abort(&self) {
        drop(self.commands.send(Command::Abort).await);
    }
}
