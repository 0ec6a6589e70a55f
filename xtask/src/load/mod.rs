//! The load: events whose every byte follows from a seed, a producer for them, and the audit of what became of them.
//!
//! The audit shares no code with the crates it judges. It finds out from the topic which records there are, reads every object
//! with decoders of other crates, and counts.

pub mod audit;
pub mod avro;
mod decode;
mod event;
pub mod generate;
mod ledger;
mod tally;
mod topic;

pub use self::event::{Defect, Identity, Spec, Spread};
pub use self::ledger::{Ledger, Mark};
