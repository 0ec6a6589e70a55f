//! The client against a registry in this process.

#[cfg(test)]
mod auth;
#[cfg(test)]
mod config;
#[cfg(test)]
mod converters;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod lookup;
#[cfg(test)]
mod references;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
