//! The source and the dead-letter producer against librdkafka's in-process brokers and, in `broker`, a real one.

// `cfg(test)` tells clippy that helpers may unwrap, too.
#[cfg(test)]
mod broker;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod marks;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod starts;
#[cfg(test)]
mod support;
