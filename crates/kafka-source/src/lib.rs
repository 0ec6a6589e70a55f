//! Kafka as a [source](aqueduct_core::Source) and as a [dead-letter target](aqueduct_core::DeadLetterSink), over
//! librdkafka.
//!
//! - [`KafkaSource`] reads topics as a member of a consumer group and keeps the pipeline's marks in the group's
//!   committed offsets.
//! - [`KafkaDeadLetters`] stores records that cannot be processed in a topic, with the headers of Kafka Connect and
//!   the record's identity.
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | `tls` (default) | [`Security`]: TLS, client certificates, SASL with PLAIN and SCRAM; the system's OpenSSL |
//! | `oauthbearer` | [`OAuthTokens`]: SASL/OAUTHBEARER with tokens of your own making |
//!
//! For SASL/GSSAPI, OAuth over HTTP by librdkafka itself (OIDC) or a bundled OpenSSL depend on `rdkafka` beside this
//! crate and turn on its `gssapi`, `curl` or `ssl-vendored` feature: Cargo builds one librdkafka with the features of
//! all. They are not features here because each needs further programs or headers to build.

pub use config::{GroupProtocol, KafkaSourceBuilder};
pub use dead_letter::{KafkaDeadLetters, KafkaDeadLettersBuilder};
pub use error::KafkaSourceError;
pub use letters::{KafkaLetters, KafkaLettersBuilder};
#[cfg(feature = "oauthbearer")]
pub use oauth::{OAuthToken, OAuthTokens};
pub use properties::{ConfigError, ConfigProblem};
#[cfg(feature = "tls")]
pub use security::{Sasl, Security, Tls};
pub use source::KafkaSource;
pub use start::StartAt;

mod client;
mod commit;
mod committer;
mod complaints;
mod config;
mod connect;
mod connection;
mod copy;
mod dead_letter;
mod ends;
mod error;
mod flow;
mod inbox;
mod lanes;
mod letters;
mod marks;
#[cfg(feature = "oauthbearer")]
mod oauth;
mod poll;
mod properties;
mod reached;
mod rebalance;
#[cfg(feature = "tls")]
mod security;
mod source;
mod start;
