//! The sink against a BigQuery in this process.

#[cfg(test)]
mod changes;
#[cfg(test)]
mod columns;
#[cfg(test)]
mod completeness;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod insert_all;
#[cfg(test)]
mod pipeline;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod routing;
#[cfg(test)]
mod streaming;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod values;
