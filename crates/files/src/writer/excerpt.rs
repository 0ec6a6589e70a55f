//! The runs of neighbouring objects, found together.
//!
//! The index is as long as its segment, and a group of small objects is as small as the pool for publication wants it: to go
//! through all of the index for each group would cost more than to read its rows, and the more the larger the segment is. So one
//! pass finds the runs of as many groups as fit into a fixed size. Groups that are under way together share it, and each has paid
//! for it: whoever is the last to hold it holds it alone. Between two groups that wait for memory nobody may hold it, so a few
//! publications of a sink keep theirs for the next group, beside the budget.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::index::Run;
use super::read::{ReadError, Spooled};

/// The runs of some neighbouring objects, in the order of the rows.
#[derive(Debug)]
pub(super) struct Excerpt {
    objects: Range<u32>,
    runs: Vec<Run>,
}

impl Excerpt {
    /// The most memory of one, in bytes.
    pub(super) const BYTES: usize = 256 << 10;
    /// The most runs of one.
    pub(super) const RUNS_MAX: usize = Self::BYTES / size_of::<Run>();

    /// `None` if there are too many. Blocks.
    fn read(spooled: &Spooled, objects: &Range<u32>) -> Result<Option<Self>, ReadError> {
        let (mut index, mut runs) = (spooled.runs(), Vec::with_capacity(Self::RUNS_MAX));
        while let Some(run) = index.next_of(objects)? {
            if runs.len() == Self::RUNS_MAX {
                return Ok(None);
            }
            runs.push(run);
        }
        Ok(Some(Self { objects: objects.clone(), runs }))
    }

    /// Those of some of the objects, all of which are here.
    pub(super) fn runs_of(&self, objects: &Range<u32>) -> impl Iterator<Item = Run> {
        self.runs.iter().copied().filter(move |run| objects.contains(&run.object))
    }
}

/// The most excerpts that a sink keeps, which is 2 MiB that no budget counts.
pub(crate) const KEPT_EXCERPTS_MAX: usize = 8;

/// The excerpt that was made last, as long as somebody holds it, or it is kept.
#[derive(Debug, Default)]
pub(super) struct Excerpts {
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    made: Weak<Excerpt>,
    keeps: bool,
    kept: Option<Arc<Excerpt>>,
}

impl Excerpts {
    /// Keeps the excerpt that was made last until the answer is dropped, if there is a place for one more.
    pub(super) fn keep(&self, places: &Arc<Semaphore>) -> Option<Keeping<'_>> {
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        self.last().keeps = true;
        Some(Keeping { excerpts: self, _place: place })
    }

    /// One with the runs of `group`, and of the others in `reach` if it is made anew; `None` if it would be too large. Whoever
    /// asks has paid for one. Blocks, also while another one is made.
    pub(super) fn of(
        &self,
        spooled: &Spooled,
        group: &Range<u32>,
        reach: &Range<u32>,
    ) -> Result<Option<Arc<Excerpt>>, ReadError> {
        let mut last = self.last();
        let has_all = |within: &Range<u32>| within.start <= group.start && group.end <= within.end;
        if let Some(known) = last.made.upgrade().filter(|known| has_all(&known.objects)) {
            return Ok(Some(known));
        }
        if !has_all(reach) {
            return Ok(None);
        }
        last.kept = None;
        let made = Excerpt::read(spooled, reach)?.map(Arc::new);
        if let Some(made) = &made {
            last.made = Arc::downgrade(made);
            last.kept = last.keeps.then(|| Arc::clone(made));
        }
        Ok(made)
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Excerpts::keep`].
#[derive(Debug)]
pub(super) struct Keeping<'a> {
    excerpts: &'a Excerpts,
    _place: OwnedSemaphorePermit,
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        let mut last = self.excerpts.last();
        (last.keeps, last.kept) = (false, None);
    }
}
