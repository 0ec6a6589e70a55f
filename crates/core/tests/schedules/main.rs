//! The modules that several threads meet in, in thousands of orders of those threads' steps.
//!
//! `Lease`, `Pool`, the lane's `Inbox` and the spool's accounts are compiled here a second time, from the files of the
//! crate, against a [`sync`] made of [shuttle](https://docs.rs/shuttle): every lock, counter, wait and wake-up of theirs
//! is a place at which the scheduler may go on with another task. A wake-up that is lost shows as a deadlock, which
//! shuttle reports; everything else is asserted. A failure prints the schedule; `shuttle::replay` takes it.
//!
//! `PROPTEST_CASES` sets the number of schedules a test tries, as it does for the properties.
//!
//! Seen to catch, each put in by hand: a revocation or a wait for the end that looks before it listens; an `enter` that looks
//! before it locks; a guard that tells one waiter only, or before it lets go; an end that tells nobody; a revocation that does
//! not end; an oversized request that is not cut to the pool, or passes beside others; requests rounded down; waiters that
//! are counted for ever; merged permits and gauges that are not given back; an inbox that tells only who waits already, at a
//! push or when it closes; pushes after a discard; a spool that gives up its kept files before it counts as waiting, asks for
//! room before it asks what is promised, promises nothing, or takes no promise back. With 20 000 schedules: a spool that
//! decides to keep a file outside of its lock.
//!
//! What shuttle does not see: orders that only a weak memory model allows (every atomic is sequentially consistent here),
//! and Tokio's own semaphore and notification, whose documented behaviour [`sync`] stands in for; Tokio tests them with
//! loom.

/// Names that the included files take from the crate, where the crate's own serve.
#[cfg(test)]
mod batch {
    pub(crate) use aqueduct_core::Batch;
}

#[cfg(test)]
mod record {
    pub(crate) use aqueduct_core::Offset;
}

#[cfg(test)]
mod failpoint {
    pub(crate) use aqueduct_core::Failpoint;
}

#[cfg(test)]
mod sync;

#[cfg(test)]
#[path = "../../src/budget.rs"]
pub mod budget;
#[cfg(test)]
#[path = "../../src/lane/inbox.rs"]
pub mod inbox;
#[cfg(test)]
#[path = "../../src/lease.rs"]
pub mod lease;

#[cfg(test)]
pub mod spool;

#[cfg(test)]
mod disk;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod pools;
#[cfg(test)]
mod queues;
