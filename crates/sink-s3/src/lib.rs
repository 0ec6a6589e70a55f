//! The S3 sink: objects in a bucket of AWS S3, or of anything that speaks like it.
//!
//! [`S3Sink::builder`] configures it; names, formats and compression are `aqueduct-files`'. The objects of a segment
//! are created with `If-None-Match: *`, so nothing that exists is ever overwritten; what a crash left half done is met
//! again and verified.
//!
//! [`S3Error`] lists what can go wrong, what the pipeline does about it and what you do.

pub use attributes::ObjectAttributes;
pub use aws_sdk_s3::types::{ObjectCannedAcl, StorageClass};
pub use config::{NoFormat, S3ConfigError, S3ConfigErrors, S3SinkBuilder};
pub use credentials::{AssumeRole, WebIdentity};
pub use encryption::{CustomerKey, Encryption, KmsKey};
pub use error::{Answer, At, S3Error};
pub use proxy::Proxy;
pub use sink::{S3DeadLetters, S3Sink};
pub use target::S3Target;

mod attributes;
mod client;
mod config;
mod credentials;
mod encryption;
mod error;
mod proxy;
mod sink;
mod target;
