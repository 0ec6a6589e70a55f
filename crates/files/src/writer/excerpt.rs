//! The runs of neighbouring objects, found together.
//!
//! The index is as long as its segment, and a group of small objects is as small as the pool for publication wants it: to go
//! through all of the index for each group would cost more than to read its rows, and the more the larger the segment is. So one
//! pass finds the runs of as many groups as fit into a fixed size. Groups that are under way together share it, and each has paid
//! for it: whoever is the last to hold it holds it alone.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

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

/// The excerpt that was made last, as long as somebody holds it.
#[derive(Debug, Default)]
pub(super) struct Excerpts {
    last: Mutex<Weak<Excerpt>>,
}

impl Excerpts {
    /// One with the runs of `group`, and of the others in `reach` if it is made anew; `None` if it would be too large. Whoever
    /// asks has paid for one. Blocks, also while another one is made.
    pub(super) fn of(
        &self,
        spooled: &Spooled,
        group: &Range<u32>,
        reach: &Range<u32>,
    ) -> Result<Option<Arc<Excerpt>>, ReadError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let has_all = |within: &Range<u32>| within.start <= group.start && group.end <= within.end;
        if let Some(known) = last.upgrade().filter(|known| has_all(&known.objects)) {
            return Ok(Some(known));
        }
        if !has_all(reach) {
            return Ok(None);
        }
        let made = Excerpt::read(spooled, reach)?.map(Arc::new);
        if let Some(made) = &made {
            *last = Arc::downgrade(made);
        }
        Ok(made)
    }
}
