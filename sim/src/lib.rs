//! Deterministic simulation of whole pipelines.
//!
//! The real lanes, spool and object writer of up to three processes run in one thread and in simulated time, over a group's
//! coordinator, a store, disks and a wall clock in memory that fail as a seed says. Every promise of `ARCHITECTURE.md` that
//! can be seen from outside is looked at whenever an object becomes visible or a mark is committed, and when faults have
//! stopped everything must drain. The same seed gives the same run, event by event.

pub use run::{Outcome, simulate};
pub use scenario::{PoisonPolicy, Scenario};
pub use sweep::{Summary, sweep};

mod client;
mod group;
mod ledger;
mod log;
mod process;
mod run;
mod scenario;
mod source;
mod storage;
mod sweep;
mod world;
