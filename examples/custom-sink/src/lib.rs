//! Two sinks of one's own, and an endpoint for the first to post to.
//!
//! [`http`] is the simple way, one method. [`directory`] is the thorough one, two phases. Both pass the conformance
//! suite: `tests/conformance.rs`.

pub mod directory;
pub mod endpoint;
pub mod http;
