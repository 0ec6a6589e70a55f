//! What is known of one table.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::error::{Answer, At, BigQueryError};
use crate::schema::Field;

/// Most changes of a table within [`CHANGES_WINDOW`]: "Maximum rate of table metadata update operations: 5 operations per 10 seconds
/// per table" (<https://cloud.google.com/bigquery/quotas#standard_tables>).
const CHANGES_MAX: usize = 5;
const CHANGES_WINDOW: Duration = Duration::from_secs(10);

/// A table of the sink's.
#[derive(Debug, Default)]
pub(super) struct Entry {
    known: Mutex<Known>,
    /// What is known turned out to be wrong.
    pub(super) stale: AtomicBool,
}

/// See [`Entry`].
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What it has; `None` if that is not known, or it does not exist.
    pub(super) columns: Option<Arc<Vec<Field>>>,
    /// When the service was asked.
    pub(super) looked_at: Option<Instant>,
    /// Whether it was compared with what it would be made like.
    pub(super) compared: bool,
    /// When it was changed.
    changes: VecDeque<Instant>,
}

impl Entry {
    /// Held while something is being found out or changed: lanes that see a new column all see it at once.
    pub(super) async fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().await;
        if self.stale.swap(false, Ordering::AcqRel) {
            (known.columns, known.looked_at) = (None, None);
        }
        known
    }
}

impl Known {
    /// These are the table's columns now.
    pub(super) fn saw(&mut self, columns: Vec<Field>) {
        self.looked_at = Some(Instant::now());
        if self.columns.as_ref().is_none_or(|known| **known != columns) {
            self.columns = Some(Arc::new(columns));
        }
    }

    /// Notes a change that is about to be made, or asks to come back when the quota has room for it.
    pub(super) fn change(&mut self, at: &At, now: Instant) -> Result<(), BigQueryError> {
        while self.changes.front().is_some_and(|change| now.duration_since(*change) >= CHANGES_WINDOW) {
            self.changes.pop_front();
        }
        match self.changes.front() {
            Some(first) if self.changes.len() >= CHANGES_MAX => {
                let mut answer =
                    Answer::new("held back", "", "the table was changed five times within ten seconds");
                answer.retry_after = Some(CHANGES_WINDOW.saturating_sub(now.duration_since(*first)));
                Err(BigQueryError::Throttled { at: at.clone(), answer })
            }
            _ => {
                self.changes.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_changes_in_ten_seconds_and_the_sixth_says_when() {
        let (mut known, at) = (Known::default(), At::new("change table", "t"));
        let begun = Instant::now();
        let mut change = |second| match known.change(&at, begun + Duration::from_secs(second)) {
            Ok(()) => None,
            Err(BigQueryError::Throttled { answer, .. }) => answer.retry_after.map(|after| after.as_secs()),
            Err(other) => panic!("{other:?}"),
        };
        for second in 0..5 {
            assert_eq!(change(second), None);
        }
        assert_eq!((change(5), change(9)), (Some(5), Some(1)));
        assert_eq!((change(10), change(10)), (None, Some(1)), "one at a time comes free");
    }
}
