//! One type for the values of all converters.

use std::fmt;
use std::sync::Arc;

use aqueduct_core::{
    Batch, Converted, Converter, FieldPath, FieldValue, Fields, Fingerprint, JsonRow, Poison, Record, Replay,
    Schema, StageError, StructuredValue, ValueVisitor, write_json,
};
use async_trait::async_trait;
use bytes::Bytes;

use crate::columns::WithColumns;
use crate::json::JsonValue;
use crate::primitive::PrimitiveValue;
use crate::utf8::Text;

/// A value of any converter, for programs that decide at run time which one: every stage is then of one type, and
/// `Arc<dyn Converter<Output = AnyValue>>` holds any of them. See [`dynamic`](DynamicExt::dynamic).
///
/// A program that knows its converter when it is compiled needs none of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AnyValue {
    /// Of [`RawBytes`](crate::RawBytes).
    Bytes(Bytes),
    /// Of [`Utf8`](crate::Utf8).
    Text(Text),
    /// Of [`Json`](crate::Json).
    Json(JsonValue),
    /// Of [`Primitive`](crate::Primitive).
    Primitive(PrimitiveValue),
    /// Of [`Avro`](crate::Avro).
    #[cfg(feature = "avro")]
    Avro(crate::AvroValue),
    /// Of [`Cbor`](crate::Cbor).
    #[cfg(feature = "cbor")]
    Cbor(crate::CborValue),
    /// Of [`MessagePack`](crate::MessagePack).
    #[cfg(feature = "messagepack")]
    MessagePack(crate::MessagePackValue),
    /// Of [`ConnectJson`](crate::ConnectJson).
    #[cfg(feature = "connect-json")]
    Connect(crate::ConnectValue),
    /// Of [`JsonSchema`](crate::JsonSchema).
    #[cfg(feature = "json-schema")]
    JsonSchema(crate::JsonSchemaValue),
    /// Of [`Protobuf`](crate::Protobuf).
    #[cfg(feature = "protobuf")]
    Protobuf(crate::ProtobufValue),
    /// Of [`Columns`](crate::Columns) around any of them.
    Columns(Box<WithColumns<AnyValue>>),
    /// Of a converter of the user's own, or of [`Serde`](crate::Serde).
    Other(OtherValue),
}

/// A value of a type that is not known here. Cloning bumps a reference count.
#[derive(Clone)]
pub struct OtherValue(Arc<dyn Row>);

/// What every format needs.
trait Row: StructuredValue + Fields + JsonRow + Send + Sync {}

impl<T: StructuredValue + Fields + JsonRow + Send + Sync> Row for T {}

impl AnyValue {
    /// A value of a type of your own.
    ///
    /// ```
    /// use aqueduct_converters::{AnyValue, JsonValue};
    ///
    /// let value = AnyValue::other(JsonValue::parse("{}".into())?);
    /// # Ok::<(), aqueduct_converters::JsonError>(())
    /// ```
    pub fn other(value: impl StructuredValue + Fields + JsonRow + Send + Sync + 'static) -> Self {
        Self::Other(OtherValue(Arc::new(value)))
    }

    fn row(&self) -> &dyn StructuredValue {
        match self {
            Self::Bytes(value) => value,
            Self::Text(value) => value,
            Self::Json(value) => value,
            Self::Primitive(value) => value,
            #[cfg(feature = "avro")]
            Self::Avro(value) => value,
            #[cfg(feature = "cbor")]
            Self::Cbor(value) => value,
            #[cfg(feature = "messagepack")]
            Self::MessagePack(value) => value,
            #[cfg(feature = "connect-json")]
            Self::Connect(value) => value,
            #[cfg(feature = "json-schema")]
            Self::JsonSchema(value) => value,
            #[cfg(feature = "protobuf")]
            Self::Protobuf(value) => value,
            Self::Columns(value) => &**value,
            Self::Other(value) => &*value.0,
        }
    }
}

impl StructuredValue for AnyValue {
    fn schema(&self) -> Option<&Arc<Schema>> {
        self.row().schema()
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        self.row().visit(visitor)
    }
}

/// Bytes, text and primitives have no fields.
impl Fields for AnyValue {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        match self {
            Self::Bytes(_) | Self::Text(_) | Self::Primitive(_) => None,
            Self::Json(value) => value.field(path),
            #[cfg(feature = "avro")]
            Self::Avro(value) => value.field(path),
            #[cfg(feature = "cbor")]
            Self::Cbor(value) => value.field(path),
            #[cfg(feature = "messagepack")]
            Self::MessagePack(value) => value.field(path),
            #[cfg(feature = "connect-json")]
            Self::Connect(value) => value.field(path),
            #[cfg(feature = "json-schema")]
            Self::JsonSchema(value) => value.field(path),
            #[cfg(feature = "protobuf")]
            Self::Protobuf(value) => value.field(path),
            Self::Columns(value) => value.field(path),
            Self::Other(value) => value.0.field(path),
        }
    }
}

impl JsonRow for AnyValue {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        match self {
            Self::Json(value) => value.write_json(out),
            Self::Text(value) => value.write_json(out),
            #[cfg(feature = "avro")]
            Self::Avro(value) => value.write_json(out),
            #[cfg(feature = "connect-json")]
            Self::Connect(value) => value.write_json(out),
            #[cfg(feature = "json-schema")]
            Self::JsonSchema(value) => value.write_json(out),
            Self::Other(value) => value.0.write_json(out),
            other => write_json(other, out),
        }
    }

    fn json_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Json(value) => value.json_bytes(),
            #[cfg(feature = "json-schema")]
            Self::JsonSchema(value) => value.json_bytes(),
            Self::Other(value) => value.0.json_bytes(),
            _ => None,
        }
    }
}

impl fmt::Debug for OtherValue {
    /// Never prints a payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtherValue").finish_non_exhaustive()
    }
}

impl PartialEq for OtherValue {
    /// Whether their rows of JSON are the same.
    fn eq(&self, other: &Self) -> bool {
        let row = |value: &Self| {
            let mut out = Vec::new();
            value.0.write_json(&mut out).map(|()| out)
        };
        row(self) == row(other)
    }
}

macro_rules! from {
    ($($(#[$feature:meta])? $variant:ident($value:ty))*) => { $(
        $(#[$feature])?
        impl From<$value> for AnyValue {
            fn from(value: $value) -> Self {
                Self::$variant(value)
            }
        }
    )* };
}
from! {
    Bytes(Bytes) Text(Text) Json(JsonValue) Primitive(PrimitiveValue)
    #[cfg(feature = "avro")] Avro(crate::AvroValue)
    #[cfg(feature = "cbor")] Cbor(crate::CborValue)
    #[cfg(feature = "messagepack")] MessagePack(crate::MessagePackValue)
    #[cfg(feature = "connect-json")] Connect(crate::ConnectValue)
    #[cfg(feature = "json-schema")] JsonSchema(crate::JsonSchemaValue)
    #[cfg(feature = "protobuf")] Protobuf(crate::ProtobufValue)
}

impl<V: Into<AnyValue>> From<WithColumns<V>> for AnyValue {
    fn from(value: WithColumns<V>) -> Self {
        Self::Columns(Box::new(value.map(Into::into)))
    }
}

impl<T> From<crate::Typed<T>> for AnyValue
where
    T: serde::Serialize + Fields + Send + Sync + 'static,
{
    fn from(value: crate::Typed<T>) -> Self {
        Self::other(value)
    }
}

/// [`dynamic`](Self::dynamic), on every converter whose values are among [`AnyValue`]'s.
pub trait DynamicExt: Converter<Output: Into<AnyValue>> + Sized {
    /// The same converter, giving [`AnyValue`]. Its identity is the same, too: rows do not change.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use aqueduct_converters::{AnyValue, DynamicExt, Json, Utf8};
    /// use aqueduct_core::Converter;
    ///
    /// fn configured(name: &str) -> Option<Arc<dyn Converter<Output = AnyValue>>> {
    ///     match name {
    ///         "json" => Some(Arc::new(Json::new().dynamic())),
    ///         "text" => Some(Arc::new(Utf8::new().dynamic())),
    ///         _ => None,
    ///     }
    /// }
    /// assert!(configured("json").is_some());
    /// ```
    fn dynamic(self) -> Dynamic<Self> {
        Dynamic { inner: self }
    }
}

impl<C: Converter<Output: Into<AnyValue>>> DynamicExt for C {}

/// See [`DynamicExt::dynamic`].
#[derive(Clone, Debug)]
pub struct Dynamic<C> {
    inner: C,
}

#[async_trait]
impl<C: Converter<Output: Into<AnyValue>>> Converter for Dynamic<C> {
    type Output = AnyValue;

    async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
        self.inner.prepare(batch).await
    }

    fn convert(&self, record: &Record<'_>) -> Result<Converted<AnyValue>, Poison> {
        Ok(match self.inner.convert(record)? {
            Converted::Emit(value) => Converted::Emit(value.into()),
            Converted::Skip(reason) => Converted::Skip(reason),
        })
    }

    fn replay(&self) -> Replay {
        self.inner.replay()
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        self.inner.fingerprint(parts);
    }
}
