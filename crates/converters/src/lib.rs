//! Converters: from a record's bytes to a value.
//!
//! | Converter    | Value         | Copies                          | As JSON lines | As bytes | Fields by path | Schema |
//! |--------------|---------------|---------------------------------|---------------|----------|----------------|--------|
//! | [`RawBytes`] | [`bytes::Bytes`] | nothing                      | no            | yes      | no             | bytes |
//! | [`Utf8`]     | [`Text`]      | nothing                         | a string      | yes      | no             | text |
//! | [`Json`]     | [`JsonValue`] | only documents on several lines | as it came    | yes      | yes            | none |
//! | [`Serde<T>`] | [`Typed<T>`]  | builds a `T`                    | what `T` writes | no     | if `T` has them | none |
//! | [`Primitive`] | [`PrimitiveValue`] | nothing                   | a number      | no       | no             | its kind |
//! | [`Columns`] around any | [`WithColumns`] | the headers, if asked for | yes     | no       | yes            | the value's, and the columns' |
//! | `Avro` (feature `avro`) | `AvroValue` | nothing                | yes           | the datum | yes           | the writer's or the reader's |
//! | `Cbor` (feature `cbor`) | `CborValue` | nothing                | yes           | yes      | yes            | none |
//! | `ConnectJson` (feature `connect-json`) | `ConnectValue` | as `Json` | yes     | no       | yes            | the envelope's |
//! | `JsonSchema` (feature `json-schema`) | `JsonSchemaValue` | as `Json` | as it came | no   | yes            | the registry's |
//! | `MessagePack` (feature `messagepack`) | `MessagePackValue` | nothing | yes     | yes      | yes            | none |
//! | `Protobuf` (feature `protobuf`) | `ProtobufValue` | nothing     | yes           | the message | yes         | the message type's |
//!
//! Every value goes through formats of columns as a [`StructuredValue`](aqueduct_core::StructuredValue). [`AnyValue`] is all of them
//! in one type, for programs that choose a converter at run time.
//!
//! All of them are pure: the same record always gives the same value. A record that cannot be read is a
//! [`Poison`](aqueduct_core::Poison) whose detail names the byte and never shows the payload. A record without a
//! value is a poison too, unless [`Tombstones`] says otherwise: left out, or a row of null.
//!
//! The feature `registry` adds what converters with a schema registry are made of: the wire format, and a cache of parsed schemas.
//!
//! ```
//! use aqueduct_converters::{Json, RawBytes, Tombstones};
//! use aqueduct_core::{BatchBuilder, Converted, Converter, ConverterExt, Offset, Permit, Timestamp, TopicPartition};
//!
//! let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 256);
//! batch.push(Offset::new(0), Timestamp::None, Some(b"a"), Some(br#"{"total": 12}"#), []);
//! batch.push(Offset::new(1), Timestamp::None, Some(b"b"), Some(br#"{"total": "#), []);
//! batch.push(Offset::new(2), Timestamp::None, Some(b"c"), None, []);
//! let batch = batch.build(Permit::unlimited());
//!
//! // The value as JSON, the key beside it as bytes.
//! let converter = Json::new().tombstones(Tombstones::Skip).keyed(RawBytes::new());
//! let outcomes: Vec<String> = batch
//!     .iter()
//!     .map(|record| match converter.convert(&record) {
//!         Ok(Converted::Emit(row)) => format!("{} bytes", row.value.as_bytes().len()),
//!         Ok(Converted::Skip(reason)) => reason.as_str().to_owned(),
//!         Err(poison) => poison.to_string(),
//!     })
//!     .collect();
//! assert_eq!(outcomes, [
//!     "13 bytes",
//!     "malformed: not valid json at byte 10: the text ends where a value should be",
//!     "tombstone",
//! ]);
//! ```

pub use any::{AnyValue, Dynamic, DynamicExt, OtherValue};
#[cfg(feature = "avro")]
pub use avro::{Avro, AvroBuilder, AvroConfigError, AvroSchemaError, AvroValue};
#[cfg(feature = "cbor")]
pub use cbor::{Cbor, CborValue};
pub use columns::{Columns, ColumnsBuilder, ColumnsError, HeaderValues, WithColumns};
#[cfg(feature = "connect-json")]
pub use connect::{ConnectJson, ConnectValue};
pub use json::{Json, JsonError, JsonValue, NESTING_MAX};
#[cfg(feature = "json-schema")]
pub use json_schema::{JsonSchema, JsonSchemaValue};
#[cfg(feature = "messagepack")]
pub use messagepack::{MessagePack, MessagePackValue};
pub use primitive::{Primitive, PrimitiveValue};
#[cfg(feature = "protobuf")]
pub use protobuf::{Protobuf, ProtobufError, ProtobufValue};
pub use raw_bytes::RawBytes;
pub use tombstones::Tombstones;
pub use typed::{Serde, Typed};
pub use utf8::{Text, Utf8};

mod any;
#[cfg(feature = "avro")]
mod avro;
#[cfg(feature = "cbor")]
mod cbor;
mod columns;
#[cfg(feature = "connect-json")]
mod connect;
mod json;
#[cfg(feature = "json-schema")]
mod json_schema;
#[cfg(feature = "messagepack")]
mod messagepack;
mod nobody;
#[cfg(any(feature = "connect-json", feature = "protobuf"))]
mod owned;
mod primitive;
#[cfg(feature = "protobuf")]
mod protobuf;
mod raw_bytes;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "shape")]
mod shape;
#[cfg(any(feature = "cbor", feature = "messagepack"))]
mod tokens;
mod tombstones;
mod typed;
#[cfg(any(feature = "protobuf", feature = "shape"))]
mod unfold;
mod utf8;

#[cfg(test)]
mod tests {
    use aqueduct_core::{
        BatchBuilder, Converted, Converter, Fingerprint, Offset, Permit, Poison, Timestamp, TopicPartition,
    };

    use super::*;

    /// Converts one record with that value.
    pub(crate) fn convert<C: Converter>(
        converter: &C,
        value: Option<&[u8]>,
    ) -> Result<Converted<C::Output>, Poison> {
        let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), 0);
        builder.push(Offset::ZERO, Timestamp::None, Some(b"key"), value, []);
        converter.convert(&builder.build(Permit::unlimited()).get(0).unwrap())
    }

    pub(crate) fn fingerprint(converter: &impl Converter) -> Fingerprint {
        let mut parts = Fingerprint::new();
        converter.fingerprint(&mut parts);
        parts
    }

    #[test]
    fn no_two_converters_share_an_identity() {
        let all = [
            fingerprint(&Json::new()).digest(),
            fingerprint(&RawBytes::new()).digest(),
            fingerprint(&Utf8::new()).digest(),
            fingerprint(&Serde::<u64>::new()).digest(),
        ];
        assert!(all.iter().enumerate().all(|(index, digest)| !all[..index].contains(digest)));
        // Golden: a change here makes intents of running pipelines unreadable.
        assert_eq!(all[0], JSON_DIGEST);
    }

    const JSON_DIGEST: u64 = 17_483_180_881_318_280_159;
}
