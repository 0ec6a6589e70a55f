//! What tasks and threads meet at: locks, counters and wake-ups.
//!
//! The modules whose correctness hangs on the order of two threads' steps (`budget`, `lease`, `lane/inbox`, `spool`) take
//! theirs from here, and from nowhere else. So `tests/schedules` can compile *these very files* against a `sync` of its
//! own, made of [shuttle](https://docs.rs/shuttle)'s, and try thousands of orders. A `cfg` for it was rejected: it would
//! have to reach every dependency's build. Here nothing is decided at all, these are the same types as ever.

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize};

pub(crate) use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
pub(crate) use tokio::time::sleep;

/// What the unit tests of those modules are run by: here by Tokio, once; in `tests/schedules` in many orders.
#[cfg(test)]
pub(crate) mod explore {
    pub(crate) use tokio::spawn;
    pub(crate) use tokio::task::yield_now;

    /// Runs `test`.
    pub(crate) fn explore<F: Future<Output = ()>>(test: impl Fn() -> F) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test());
    }
}
