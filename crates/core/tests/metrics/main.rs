//! The metrics are the closed set the reference lists, with its labels, and they add up; the document shows the reference.

#[cfg(test)]
mod document;
#[cfg(test)]
mod emitted;
#[cfg(test)]
#[expect(dead_code, reason = "shared with the pipeline tests, which use all of it")]
#[path = "../pipeline/stages.rs"]
mod stages;
