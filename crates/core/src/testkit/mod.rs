//! What tests of pipelines and of stages are made of (feature `testkit`).
//!
//! | you test | you take |
//! |---|---|
//! | a pipeline, without servers | [`ScriptedBroker`] and its [`ScriptedSource`]s, [`MemorySink`], [`MemoryDeadLetters`], [`ManualClock`] |
//! | a sink of your own | [`sink_suite`], in one line |
//! | a converter, a partitioner | [`check_converter`], [`check_partitioner`], [`check_fingerprints_differ`], [`hostile_records`] |
//! | that no secret is logged or shown | [`Canary`], [`LogCapture`] |
//! | a decoder, against files that are kept | [`check_corpus`] |
//! | a whole run, from outside | [`Auditor`] |
//! | what happens when things fail | [`Faults`] on [`Faulty`] sinks, on commits ([`ScriptedBroker::on_commit`]) and on single objects ([`MemoryStore::faults`]) |
//!
//! Everything here is a test helper: where a stage breaks its contract, it panics with what was expected.
//! It is not covered by the crate's promise of compatibility.

pub use audit::{Audit, Auditor};
pub use broker::{Committed, ScriptedBroker, ScriptedRecord};
pub use clock::ManualClock;
pub use corpus::check_corpus;
pub use dead_letters::MemoryDeadLetters;
pub use fault::{Fault, Faults, Gate, InjectedFault, Step};
pub use faulty::Faulty;
pub use member::ScriptedMember;
pub use purity::{
    check_converter, check_fingerprints_differ, check_partitioner, fingerprint_of, hostile_records, record,
};
pub use repairs::MemoryRepairs;
pub use secrets::{Canary, LogCapture, LogLine};
pub use sink::MemorySink;
pub use source::ScriptedSource;
pub use store::{MemoryObject, MemoryRow, MemoryStore, StoreConflict};
pub use suite::{SinkHarness, StoredRow, SuiteReport, SuiteRow, sink_suite};

mod audit;
mod broker;
mod clock;
mod corpus;
mod dead_letters;
mod fault;
mod faulty;
mod member;
mod purity;
mod repairs;
mod secrets;
mod sink;
mod source;
mod store;
mod suite;
