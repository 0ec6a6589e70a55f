//! Values as nobody should send them.

#[cfg(test)]
mod documents;
