//! The sink against an S3 server that is not ours.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod letters;
#[cfg(test)]
mod options;
#[cfg(test)]
mod recording;
#[cfg(test)]
mod segment;
#[cfg(test)]
mod support;
#[cfg(test)]
mod target;
