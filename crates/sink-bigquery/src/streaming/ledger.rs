//! What became of the rows of a segment that were sent before it is cut.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aqueduct_core::{
    Class, Classify, Offset, OffsetRange, Poison, PoisonReason, Published, PublishedObject, Rejected,
    StageError,
};
use tokio::sync::Notify;

use super::chunk::Chunk;
use super::progress::Progress;
use crate::error::BigQueryError;
use crate::name::TableName;

/// Shared by a segment's writer and the tasks that send its rows.
#[derive(Debug)]
pub(super) struct Ledger {
    progress: Arc<Progress>,
    state: Mutex<State>,
    /// One writer waits at a time.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Pieces that were handed over and of which nothing is known.
    open: usize,
    tables: Vec<Totals>,
    rejected: Vec<Rejected>,
    /// What is being tried again, until the lane was told.
    trouble: Option<Arc<BigQueryError>>,
    /// Why nothing is tried any more.
    failed: Option<Failure>,
    abandoned: bool,
}

#[derive(Clone, Debug)]
enum Failure {
    Service(Arc<BigQueryError>),
    /// A task ended with rows in its hands, which is a defect.
    Lost,
}

/// Acknowledged rows of one table.
#[derive(Debug)]
struct Totals {
    name: TableName,
    rows: u64,
    bytes: u64,
    /// Their first record's offset and the one behind their last's.
    span: Option<(i64, i64)>,
}

/// An error that several lanes are told.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Told(Arc<BigQueryError>);

impl Classify for Told {
    fn class(&self) -> Class {
        self.0.class()
    }

    fn hint(&self) -> Option<String> {
        self.0.hint()
    }
}

impl Ledger {
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self { progress, state: Mutex::default(), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a table; answers its number.
    pub(super) fn add_table(&self, name: TableName) -> usize {
        let mut state = self.state();
        state.tables.push(Totals { name, rows: 0, bytes: 0, span: None });
        state.tables.len() - 1
    }

    /// Rows are handed over.
    pub(super) fn handed_over(&self, chunk: &Chunk) {
        self.state().open += 1;
        self.progress.handed_over(chunk.bytes());
    }

    /// Rows are in the table.
    pub(super) fn acknowledged(&self, table: usize, chunk: &Chunk) {
        {
            let mut state = self.state();
            if let (Some(totals), Some(first), Some(last)) =
                (state.tables.get_mut(table), chunk.offsets().first(), chunk.offsets().last())
            {
                totals.rows += chunk.len() as u64;
                totals.bytes += chunk.bytes();
                let (from, to) = totals.span.unwrap_or((*first, *last + 1));
                totals.span = Some((from.min(*first), to.max(*last + 1)));
            }
        }
        self.progress.acknowledged(chunk.len() as u64);
    }

    /// Rows are none for the table.
    pub(super) fn refused(&self, table: usize, chunk: &Chunk) {
        {
            let mut state = self.state();
            let State { tables, rejected, .. } = &mut *state;
            // The service's words may quote the row.
            let name = tables.get(table).map(|totals| totals.name.to_string()).unwrap_or_default();
            let poison = Poison::new(PoisonReason::Rejected, format!("table {name} refuses the row"));
            rejected.extend(
                chunk
                    .offsets()
                    .iter()
                    .map(|offset| Rejected { offset: Offset::new(*offset), poison: poison.clone() }),
            );
        }
        self.progress.refused(chunk.len() as u64);
    }

    /// A piece of `bytes` bytes is done with, whatever became of its rows.
    pub(super) fn settled(&self, bytes: u64) {
        self.progress.settled(bytes);
        let mut state = self.state();
        state.open = state.open.saturating_sub(1);
        let is_done = state.open == 0;
        drop(state);
        if is_done {
            self.changed.notify_one();
        }
    }

    /// Something went wrong that is tried again; the lane is told once.
    pub(super) fn trouble(&self, error: &Arc<BigQueryError>) {
        self.state().trouble = Some(Arc::clone(error));
        self.changed.notify_one();
    }

    /// Something went wrong for good.
    pub(super) fn failed(&self, error: &Arc<BigQueryError>) {
        self.fail(Failure::Service(Arc::clone(error)));
    }

    /// A piece was dropped with rows of which nothing is known.
    pub(super) fn lost(&self) {
        self.fail(Failure::Lost);
    }

    fn fail(&self, failure: Failure) {
        self.state().failed.get_or_insert(failure);
        self.changed.notify_one();
    }

    /// Nobody wants to know any more; what was not sent is not sent.
    pub(super) fn abandon(&self) {
        self.state().abandoned = true;
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    /// Whether everything handed over is acknowledged or refused.
    ///
    /// # Errors
    /// What went wrong since the last call; for good, in every call.
    pub(super) fn look(&self) -> Result<bool, StageError> {
        self.progress.show();
        let mut state = self.state();
        let trouble = state.trouble.take();
        match (&state.failed, trouble) {
            (Some(Failure::Service(error)), _) => {
                Err(StageError::new("append", Told(Arc::clone(error))).into_fatal())
            }
            (Some(Failure::Lost), _) => {
                Err(StageError::fatal("append", "the task that sends rows has ended before they were sent"))
            }
            // What is through by now needs no more words.
            (None, Some(error)) if state.open > 0 => Err(StageError::new("append", Told(error))),
            (None, _) => Ok(state.open == 0),
        }
    }

    /// Waits until there may be something new to [`look`](Self::look) at, a second at most. Cancel safe.
    pub(super) async fn changed(&self) {
        drop(tokio::time::timeout(LOOK_EVERY, self.changed.notified()).await);
    }

    /// What is in the tables.
    pub(super) fn published(&self) -> Published {
        let state = self.state();
        let object = |totals: &Totals| {
            let (first, end) = totals.span?;
            let range = OffsetRange::new(Offset::new(first), Offset::new(end))?;
            Some(PublishedObject {
                key: totals.name.to_string(),
                range,
                rows: totals.rows,
                bytes: totals.bytes,
            })
        };
        let mut objects: Vec<_> = state.tables.iter().filter_map(object).collect();
        objects.sort_by_key(|object| object.range.start());
        let mut rejected = state.rejected.clone();
        rejected.sort_by_key(|rejected| rejected.offset);
        Published { objects, rejected }
    }
}

/// How often the age of what waits is shown.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
