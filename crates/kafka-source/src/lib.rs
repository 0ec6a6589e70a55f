//! Kafka as a [source](aqueduct_core::Source) and as a [dead-letter target](aqueduct_core::DeadLetterSink), over
//! librdkafka.
//!
//! - [`KafkaSource`] reads topics as a member of a consumer group and keeps the pipeline's marks in the group's
//!   committed offsets.
//! - [`KafkaDeadLetters`] stores records that cannot be processed in a topic, with the headers of Kafka Connect and
//!   the record's identity.
//!
//! TLS (`ssl`) comes with the system's OpenSSL. For SASL/GSSAPI, OAuth over HTTP or a bundled OpenSSL depend on
//! `rdkafka` beside this crate and turn on its `gssapi`, `curl` or `ssl-vendored` feature: Cargo builds one librdkafka
//! with the features of all.

pub use config::{KafkaSourceBuilder, StartAt};
pub use dead_letter::{KafkaDeadLetters, KafkaDeadLettersBuilder};
pub use error::KafkaSourceError;
pub use properties::{ConfigError, ConfigProblem};
pub use source::KafkaSource;

mod client;
mod commit;
mod committer;
mod complaints;
mod config;
mod connect;
mod copy;
mod dead_letter;
mod error;
mod flow;
mod inbox;
mod lanes;
mod marks;
mod poll;
mod properties;
mod reached;
mod rebalance;
mod source;
