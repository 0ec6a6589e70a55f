//! A lane that panics, or whose operation fails, at its own failpoints. Aborts are for real processes: `cargo xtask integration`.
//!
//! A test binary of its own with one test: what failpoints do is the process's.

#[cfg(test)]
mod lane;
#[cfg(test)]
#[path = "../pipeline/stages.rs"]
mod stages;
