//! A converter of one's own: [`cbor::Cbor`].

pub mod cbor;
