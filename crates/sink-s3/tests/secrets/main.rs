//! No secret leaves the process but to where it is meant for: with everything logged that anybody can log, on every way on
//! which something goes wrong, none is found in a log, an error or a `Debug`.
//!
//! A process of its own, because it takes all logs of the process.

#[cfg(test)]
mod host;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod refusing;
