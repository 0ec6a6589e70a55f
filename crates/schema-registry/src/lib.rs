//! The client of a schema registry: Confluent's, and those that speak like it (Karapace, Apicurio, Redpanda).
//!
//! [`RegistryClient`] is what converters ask for the schemas that records name
//! ([`SchemaSource`](aqueduct_converters::registry::SchemaSource)). It fetches a schema with everything that it refers to, from
//! several servers with failover, over TLS (rustls, ring, the system's roots or a file's), with basic authentication, bearer tokens
//! or a client certificate.
//!
//! - An outage is never taken for a missing schema. Only error 40403 is; everything else is an error with a class, and a lane
//!   waits, or stops with a hint: see [`RegistryError`].
//! - Every wait, every answer and every chain of references has a limit.
//! - Credentials are in no error, no log line and no `Debug` output. They go to the configured servers only: redirections are not
//!   followed, proxies of the environment not used.
//!
//! The feature `testkit` has a registry that runs in a test's own process and fails as told.

pub use auth::BearerTokens;
pub use client::{NewSchema, RegistryClient};
pub use config::{RegistryBuilder, RegistryConfigError, RegistryConfigErrors};
pub use error::RegistryError;
pub use secrecy::SecretString;

mod answer;
mod auth;
mod client;
mod config;
mod error;
mod http;
mod resolve;
#[cfg(feature = "testkit")]
pub mod testkit;
mod tls;
