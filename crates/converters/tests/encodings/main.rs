//! The other encodings, as nobody should send them.

#[cfg(all(test, feature = "cbor", feature = "messagepack", feature = "connect-json"))]
mod decoders;
