//! The other encodings, as nobody should send them, and all of them behind one type.

#[cfg(test)]
#[cfg(all(
    feature = "cbor",
    feature = "connect-json",
    feature = "json-schema",
    feature = "messagepack",
    feature = "protobuf"
))]
mod decoders;
#[cfg(test)]
#[cfg(all(feature = "cbor", feature = "connect-json", feature = "messagepack"))]
mod dynamic;
