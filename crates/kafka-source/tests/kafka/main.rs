//! The source and the dead-letter producer against librdkafka's in-process brokers and, in `broker`, a real one.

mod broker;
mod dead_letters;
mod flow;
mod groups;
mod marks;
mod opening;
mod reading;
mod support;
