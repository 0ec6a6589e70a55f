//! From a value's events to the bytes of a row.
//!
//! ```text
//! plan.rs      columns → messages, numbers, limits; compiled once
//! metadata.rs  which record a row is of
//! encode.rs    events → where each value goes: nesting, names, what is missing or there twice
//! scalar.rs    one value → the bytes of its column; decimal.rs, calendar.rs read texts
//! wire.rs      protobuf
//! document.rs  a row as JSON, for the legacy streaming interface
//! ```
//!
//! Everything the service would refuse a row for is looked for here, so that a bad row becomes a letter before it costs its
//! neighbours a request.

mod calendar;
mod decimal;
mod document;
mod encode;
mod metadata;
mod plan;
mod scalar;
mod wire;

pub(crate) use document::document;
pub(crate) use encode::Workspace;
pub(crate) use metadata::Identity;
pub use metadata::{KeyAs, MetadataColumns};
pub use plan::UnknownFields;
pub(crate) use plan::{PlanOptions, RowPlan};
pub(crate) use wire::{Tag, WireType, begin_delimited, end_delimited, put_bytes};

/// Literals, for the fake.
#[cfg(feature = "testkit")]
pub(crate) mod parsed {
    pub(crate) use super::calendar::{parse_date as date, parse_timestamp as timestamp};
}

#[cfg(test)]
pub(crate) mod events;
#[cfg(test)]
mod tests;
