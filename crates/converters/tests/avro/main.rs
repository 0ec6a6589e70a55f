//! The Avro converter, beside another reading of Avro and against records nobody should send.
#![cfg(feature = "avro")]

#[cfg(test)]
mod converted;
#[cfg(test)]
mod framings;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod resolution;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod tree;

#[cfg(test)]
use converted::{convert, fixed};
