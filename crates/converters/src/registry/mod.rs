//! Schemas from a registry (feature `registry`): what converters need of one, without its client.
//!
//! | you write | you take |
//! |---|---|
//! | a converter | [`Framing`] to find a record's schema id and payload, a [`SchemaCache`] of what you parse |
//! | a client of a registry | [`SchemaSource`] |
//! | tests, programs without a registry | [`FixedSchemas`] |
//! | records | [`wire`] |
//!
//! The client of Confluent's registry, and of those that speak like it, is the crate `aqueduct-schema-registry`.

pub use cache::{Entry, SchemaCache};
pub use framing::Framing;
#[cfg(any(feature = "json-schema", feature = "protobuf"))]
pub(crate) use registered::Registered;
pub use schema::{GuidError, Reference, RegisteredSchema, SchemaGuid, SchemaId, SchemaKind, SubjectVersion};
pub use source::{FixedSchemas, SchemaAnswer, SchemaSource};

mod cache;
mod flight;
mod framing;
#[cfg(any(feature = "json-schema", feature = "protobuf"))]
mod registered;
mod schema;
mod source;
pub mod wire;
