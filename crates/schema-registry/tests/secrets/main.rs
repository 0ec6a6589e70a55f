//! No credential is said: every way that goes wrong with one at hand, and everything that is logged, printed or returned meanwhile.
//!
//! A process of its own, because it takes all logs of the process; only one test here makes requests.

#[cfg(test)]
mod paths;
