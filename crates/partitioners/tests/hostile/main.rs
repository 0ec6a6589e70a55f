//! Configurations and values as nobody should write them.

#[cfg(test)]
mod layouts;
