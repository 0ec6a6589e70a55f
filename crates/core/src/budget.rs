//! Memory and disk budgets: permits that are taken before bytes exist and returned when they are gone.
//!
//! There are two memory pools, because one can deadlock: filling waits for disk, disk waits for publishing,
//! publishing waits for memory. A source takes from the *fill* pool before it copies a record out of its client; a
//! sink takes from the *publish* pool for every buffer it sends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicU64, AtomicUsize, OwnedSemaphorePermit, Semaphore};

/// Permits count in KiB, so that a pool can be larger than 4 GiB.
const UNIT: u64 = 1024;

/// The budgets of a process. A cheap clone: give the same one to several pipelines and they share it.
///
/// ```
/// use aqueduct_core::Budget;
///
/// let budget = Budget::new(64 << 20, 10 << 30);
/// assert_eq!(budget.memory_bytes(), 64 << 20);
/// ```
#[derive(Clone, Debug)]
pub struct Budget {
    fill: Pool,
    publish: Pool,
    disk: Pool,
}

impl Budget {
    /// The default memory budget, in bytes.
    pub const DEFAULT_MEMORY: u64 = 32 << 20;
    /// The default disk budget, in bytes.
    pub const DEFAULT_DISK: u64 = 8 << 30;
    /// The smallest memory budget that works: a few batches and one buffer to publish from.
    pub const MIN_MEMORY: u64 = 8 << 20;

    /// `memory` bytes for records on their way to the spool and for buffers on their way to the target (one half
    /// each), and `disk` bytes of spool.
    pub fn new(memory: u64, disk: u64) -> Self {
        Self { fill: Pool::new(memory / 2), publish: Pool::new(memory - memory / 2), disk: Pool::new(disk) }
    }

    /// Both memory pools together, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.fill.capacity() + self.publish.capacity()
    }

    /// The disk budget, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.disk.capacity()
    }

    /// The pool for records between source and spool.
    pub fn fill(&self) -> &Pool {
        &self.fill
    }

    /// The pool for buffers between spool and target.
    pub fn publish(&self) -> &Pool {
        &self.publish
    }

    /// The pool of spool bytes.
    pub fn disk(&self) -> &Pool {
        &self.disk
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MEMORY, Self::DEFAULT_DISK)
    }
}

/// A bounded number of bytes that several tasks take from, first come first served.
#[derive(Clone, Debug)]
pub struct Pool(Arc<PoolState>);

#[derive(Debug)]
struct PoolState {
    semaphore: Arc<Semaphore>,
    units: u64,
    waiting: AtomicUsize,
}

impl Pool {
    /// A pool of `bytes` bytes, rounded up to KiB.
    pub fn new(bytes: u64) -> Self {
        let units = bytes.div_ceil(UNIT).clamp(1, u64::from(u32::MAX));
        let permits = usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(PoolState {
            semaphore: Arc::new(Semaphore::new(permits)),
            units,
            waiting: AtomicUsize::new(0),
        }))
    }

    /// The pool's size in bytes.
    pub fn capacity(&self) -> u64 {
        self.0.units * UNIT
    }

    /// Bytes taken at the moment.
    pub fn used(&self) -> u64 {
        self.capacity() - (self.0.semaphore.available_permits() as u64 * UNIT).min(self.capacity())
    }

    /// How many tasks wait for bytes at the moment. Not zero for long means that somebody has to give some back:
    /// lanes cut their open segment early when the disk pool says so.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, waiting until they are free. A request over the pool's size is granted when the whole pool is
    /// free: one oversized record must pass, alone.
    ///
    /// Cancel safe: dropping the future takes nothing.
    pub async fn acquire(&self, bytes: u64) -> Permit {
        if let Some(permit) = self.try_acquire(bytes) {
            return permit;
        }
        self.acquire_as(&self.wait(), bytes).await
    }

    /// [`acquire`](Self::acquire) for somebody who counts as waiting already.
    pub(crate) async fn acquire_as(&self, _: &Waiting, bytes: u64) -> Permit {
        // The semaphore is never closed, so acquiring cannot fail; an absent permit would only under-count.
        let permit = Arc::clone(&self.0.semaphore).acquire_many_owned(self.units_for(bytes)).await.ok();
        Permit { permit, gauge: None }
    }

    /// Takes `bytes` if they are free now.
    pub fn try_acquire(&self, bytes: u64) -> Option<Permit> {
        let permit = Arc::clone(&self.0.semaphore).try_acquire_many_owned(self.units_for(bytes)).ok()?;
        Some(Permit { permit: Some(permit), gauge: None })
    }

    /// Counts the caller among those who [wait](Self::waiting) until the answer is dropped.
    pub(crate) fn wait(&self) -> Waiting {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    fn units_for(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).clamp(1, self.0.units)).unwrap_or(u32::MAX)
    }
}

/// See [`Pool::wait`].
#[derive(Debug)]
pub(crate) struct Waiting(Pool);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes taken from a [`Pool`]; dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    gauge: Option<Held>,
}

impl Permit {
    /// A permit that counts against nothing, for tests and for sources that bound themselves.
    pub fn unlimited() -> Self {
        Self { permit: None, gauge: None }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.permit.as_ref().map_or(0, |permit| permit.num_permits() as u64 * UNIT)
    }

    /// Adds the bytes of `other`, taken from the same pool.
    pub fn merge(&mut self, mut other: Self) {
        match (&mut self.permit, other.permit.take()) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
    }

    /// Also counts one batch of `bytes` bytes in `gauge` until the permit is dropped: how a source knows what is
    /// under way in one lane.
    #[must_use]
    pub fn counted_in(mut self, gauge: &Arc<InFlight>, bytes: u64) -> Self {
        gauge.batches.fetch_add(1, Ordering::Relaxed);
        gauge.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.gauge = Some(Held { gauge: Arc::clone(gauge), bytes });
        self
    }
}

/// What one lane has in flight between its source and its spool.
#[derive(Debug, Default)]
pub struct InFlight {
    batches: AtomicU64,
    bytes: AtomicU64,
}

impl InFlight {
    /// Batches not yet spooled.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Bytes not yet spooled.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Held {
    gauge: Arc<InFlight>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.batches.fetch_sub(1, Ordering::Relaxed);
        self.gauge.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::explore::{explore, spawn, yield_now};

    #[test]
    fn bytes_come_back_when_the_permit_is_dropped() {
        explore(async || {
            let pool = Pool::new(10 * UNIT);
            let held = pool.acquire(8 * UNIT).await;
            assert!(pool.try_acquire(3 * UNIT).is_none());
            assert_eq!(pool.used(), 8 * UNIT);
            drop(held);
            assert_eq!(pool.used(), 0);
            assert!(pool.try_acquire(3 * UNIT).is_some());
        });
    }

    #[test]
    fn a_request_over_the_pool_passes_alone() {
        explore(async || {
            let pool = Pool::new(4 * UNIT);
            let small = pool.acquire(1).await;
            let large = spawn({
                let pool = pool.clone();
                async move { pool.acquire(1 << 40).await }
            });
            while pool.waiting() == 0 {
                yield_now().await;
            }
            drop(small);
            let large = large.await.unwrap();
            assert_eq!((large.bytes(), pool.used(), pool.waiting()), (4 * UNIT, 4 * UNIT, 0));
        });
    }

    #[test]
    fn a_gauge_counts_batches_until_they_are_dropped() {
        explore(async || {
            let gauge = Arc::new(InFlight::default());
            let permit = Permit::unlimited().counted_in(&gauge, 100);
            assert_eq!((gauge.batches(), gauge.bytes()), (1, 100));
            drop(permit);
            assert_eq!((gauge.batches(), gauge.bytes()), (0, 0));
        });
    }
}
