//! An S3 server in trouble.

pub(crate) mod faults;
pub(crate) mod outage;
pub(crate) mod peers;
mod proxy;
mod trial;
mod wire;
