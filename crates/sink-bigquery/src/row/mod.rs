//! From a value's events to the bytes of a row.
//!
//! ```text
//! plan.rs      columns → messages, numbers, limits; compiled once
//! metadata.rs  which record a row is of
//! encode.rs    events → where each value goes: nesting, names, what is missing or there twice
//! scalar.rs    one value → the bytes of its column; decimal.rs, calendar.rs read texts
//! wire.rs      protobuf
//! ```
//!
//! Everything the service would refuse a row for is looked for here, so that a bad row becomes a letter before it costs its
//! neighbours a request.

mod calendar;
mod decimal;
mod encode;
mod metadata;
mod plan;
mod scalar;
mod wire;

pub(crate) use encode::Workspace;
pub(crate) use metadata::Identity;
pub use metadata::{KeyAs, MetadataColumns};
pub use plan::UnknownFields;
pub(crate) use plan::{PlanOptions, RowPlan};
pub(crate) use wire::{Tag, WireType, begin_delimited, end_delimited, put_bytes};

#[cfg(test)]
mod tests;
