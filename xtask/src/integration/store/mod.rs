//! An S3 server in trouble.

pub(crate) mod outage;
