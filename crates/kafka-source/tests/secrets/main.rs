//! No secret leaves the process but to where it is meant for: with everything logged that anybody can log, librdkafka's own
//! debug lines among it, and on every way on which something goes wrong.
//!
//! A process of its own, because it takes all logs of the process.

#[cfg(feature = "tls")]
#[cfg(test)]
mod broker;
#[cfg(feature = "tls")]
#[cfg(test)]
mod paths;
