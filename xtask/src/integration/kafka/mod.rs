//! A broker, or what it keeps, in trouble.

pub(crate) mod broker;
