//! One lane: the worker of one topic-partition, and the commit protocol.
//!
//! ```text
//! recover   mark has an intent?  begin(pinned): already published → commit(end)
//!                                               fill → replay to the intent's end, same count, same offsets
//! fill      open → [convert → route → append]* → spill          (poison → letters)
//! cut       stage → hand over to the publisher, with the letters
//! publish   commit(start, intent) → letters durable → publish → commit(end) → scratch and disk permits go
//! ```
//!
//! Two tasks a lane: the *filler* (`fill`, `cut`) and the *publisher* (`publish`). Segment N publishes while N+1 fills;
//! a slot per segment bounds that to two. Commits leave in order, from the publisher alone, and the commit that ends N
//! carries the intent of N+1 when that is already cut.
//!
//! Everything a lane does is raced against the end of its [`Lease`](crate::Lease): a partition that went away stops it
//! wherever it waits, and what it had is abandoned, to be redone by the new owner.

mod backoff;
mod context;
mod cut;
mod error;
mod fill;
mod inbox;
mod open;
mod originals;
mod publish;
mod recover;
mod run;
mod step;

pub(crate) use context::{LaneContext, Stages};
pub use error::LaneError;
pub(crate) use inbox::{Inbox, LaneEvent};
pub(crate) use run::{LaneExit, LaneStart, Wish, run};
