//! A serde type as events, by way of a serializer: no text and no tree between a user's struct and a row.
//!
//! Where the data model of serde has more than JSON, values are as `serde_json` would write them, so that rows of JSON and rows of
//! columns say the same; only bytes and numbers of 128 bits are kept for what they are.

use std::borrow::Cow;
use std::fmt::{self, Display};

use aqueduct_core::{Composite, Decimal, FieldValue, NESTING_MAX, Poison, PoisonReason, ValueVisitor};
use serde::ser::{
    Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::key::Key;
use crate::json;

/// Gives `value` to `visitor`.
pub(super) fn visit<T: Serialize + ?Sized>(value: &T, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
    value.serialize(&mut Events { visitor, depth: 0 }).map_err(|error| error.0)
}

/// Why a type's own `Serialize` or the visitor stopped.
#[derive(Debug)]
pub(super) struct Stopped(pub(super) Poison);

impl Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Stopped {}

impl serde::ser::Error for Stopped {
    fn custom<M: Display>(_: M) -> Self {
        // The type's own words could quote the value.
        Self::refused("the type's own serialization has failed")
    }
}

impl Stopped {
    #[cold]
    pub(super) fn refused(why: &str) -> Self {
        Self(Poison::new(PoisonReason::InvalidField, why))
    }
}

impl From<Poison> for Stopped {
    fn from(poison: Poison) -> Self {
        Self(poison)
    }
}

struct Events<'v> {
    visitor: &'v mut dyn ValueVisitor,
    depth: usize,
}

impl Events<'_> {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Stopped> {
        Ok(self.visitor.scalar(value)?)
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Stopped> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            let text = "the value nests deeper than 128 levels";
            return Err(Stopped(Poison::new(PoisonReason::TooLarge, text)));
        }
        Ok(self.visitor.begin(composite)?)
    }

    fn end(&mut self) -> Result<(), Stopped> {
        self.depth -= 1;
        Ok(self.visitor.end()?)
    }

    /// The object of one member that stands for a variant with content.
    fn variant(&mut self, name: &str) -> Result<(), Stopped> {
        self.begin(Composite::Struct)?;
        Ok(self.visitor.key(name)?)
    }
}

impl<'e, 'v> Serializer for &'e mut Events<'v> {
    type Ok = ();
    type Error = Stopped;
    type SerializeSeq = Parts<'e, 'v>;
    type SerializeTuple = Parts<'e, 'v>;
    type SerializeTupleStruct = Parts<'e, 'v>;
    type SerializeTupleVariant = Parts<'e, 'v>;
    type SerializeMap = Parts<'e, 'v>;
    type SerializeStruct = Parts<'e, 'v>;
    type SerializeStructVariant = Parts<'e, 'v>;

    fn serialize_bool(self, it: bool) -> Result<(), Stopped> {
        self.scalar(FieldValue::Bool(it))
    }

    fn serialize_i8(self, it: i8) -> Result<(), Stopped> {
        self.serialize_i64(it.into())
    }

    fn serialize_i16(self, it: i16) -> Result<(), Stopped> {
        self.serialize_i64(it.into())
    }

    fn serialize_i32(self, it: i32) -> Result<(), Stopped> {
        self.serialize_i64(it.into())
    }

    fn serialize_i64(self, it: i64) -> Result<(), Stopped> {
        self.scalar(FieldValue::I64(it))
    }

    fn serialize_i128(self, it: i128) -> Result<(), Stopped> {
        self.scalar(FieldValue::Decimal(Decimal::from_i128(it, 0)))
    }

    fn serialize_u8(self, it: u8) -> Result<(), Stopped> {
        self.serialize_i64(it.into())
    }

    fn serialize_u16(self, it: u16) -> Result<(), Stopped> {
        self.serialize_i64(it.into())
    }

    fn serialize_u32(self, it: u32) -> Result<(), Stopped> {
        self.serialize_i64(it.into())
    }

    fn serialize_u64(self, it: u64) -> Result<(), Stopped> {
        self.scalar(i64::try_from(it).map_or(FieldValue::U64(it), FieldValue::I64))
    }

    fn serialize_u128(self, it: u128) -> Result<(), Stopped> {
        // One more byte than the number has, for the sign.
        let mut bytes = [0; 17];
        if let Some(number) = bytes.last_chunk_mut::<16>() {
            *number = it.to_be_bytes();
        }
        self.scalar(FieldValue::Decimal(Decimal::new(&bytes[..], 0)))
    }

    fn serialize_f32(self, it: f32) -> Result<(), Stopped> {
        self.scalar(FieldValue::F32(it))
    }

    fn serialize_f64(self, it: f64) -> Result<(), Stopped> {
        self.scalar(FieldValue::F64(it))
    }

    fn serialize_char(self, it: char) -> Result<(), Stopped> {
        self.serialize_str(it.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, it: &str) -> Result<(), Stopped> {
        self.scalar(FieldValue::Str(Cow::Borrowed(it)))
    }

    fn serialize_bytes(self, it: &[u8]) -> Result<(), Stopped> {
        self.scalar(FieldValue::Bytes(Cow::Borrowed(it)))
    }

    fn serialize_none(self) -> Result<(), Stopped> {
        self.scalar(FieldValue::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, it: &T) -> Result<(), Stopped> {
        it.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Stopped> {
        self.scalar(FieldValue::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Stopped> {
        self.scalar(FieldValue::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Stopped> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, it: &T) -> Result<(), Stopped> {
        it.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        it: &T,
    ) -> Result<(), Stopped> {
        self.variant(variant)?;
        it.serialize(&mut *self)?;
        self.end()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'e, 'v>, Stopped> {
        self.begin(Composite::List)?;
        Ok(Parts { events: self, shape: Shape::Plain })
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'e, 'v>, Stopped> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'e, 'v>, Stopped> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'e, 'v>, Stopped> {
        self.variant(variant)?;
        self.begin(Composite::List)?;
        Ok(Parts { events: self, shape: Shape::Variant })
    }

    /// A map at the root is a row. One of unknown length is what `#[serde(flatten)]` makes of a struct; maps know their length.
    fn serialize_map(self, length: Option<usize>) -> Result<Parts<'e, 'v>, Stopped> {
        let is_row = self.depth == 0 || length.is_none();
        self.begin(if is_row { Composite::Struct } else { Composite::Map })?;
        Ok(Parts { events: self, shape: Shape::Plain })
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts<'e, 'v>, Stopped> {
        if name == RAW_JSON || name == RAW_NUMBER {
            return Ok(Parts { events: self, shape: Shape::Raw });
        }
        self.begin(Composite::Struct)?;
        Ok(Parts { events: self, shape: Shape::Plain })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'e, 'v>, Stopped> {
        self.variant(variant)?;
        self.begin(Composite::Struct)?;
        Ok(Parts { events: self, shape: Shape::Variant })
    }

    fn collect_str<T: Display + ?Sized>(self, it: &T) -> Result<(), Stopped> {
        self.serialize_str(&it.to_string())
    }
}

/// A value with parts that has begun.
struct Parts<'e, 'v> {
    events: &'e mut Events<'v>,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Plain,
    /// Within the object that names the variant.
    Variant,
    /// The disguise in which `serde_json` passes JSON text through: nothing has begun.
    Raw,
}

impl Parts<'_, '_> {
    fn element<T: Serialize + ?Sized>(&mut self, it: &T) -> Result<(), Stopped> {
        it.serialize(&mut *self.events)
    }

    fn member<T: Serialize + ?Sized>(&mut self, name: &str, it: &T) -> Result<(), Stopped> {
        if self.shape == Shape::Raw {
            return it.serialize(RawJson(self.events));
        }
        self.events.visitor.key(name)?;
        self.element(it)
    }

    fn finish(self) -> Result<(), Stopped> {
        match self.shape {
            Shape::Raw => Ok(()),
            Shape::Plain => self.events.end(),
            Shape::Variant => {
                self.events.end()?;
                self.events.end()
            }
        }
    }
}

macro_rules! elements {
    ($($interface:ident $method:ident)*) => { $(
        impl $interface for Parts<'_, '_> {
            type Ok = ();
            type Error = Stopped;

            fn $method<T: Serialize + ?Sized>(&mut self, it: &T) -> Result<(), Stopped> {
                self.element(it)
            }

            fn end(self) -> Result<(), Stopped> {
                self.finish()
            }
        }
    )* };
}
elements!(SerializeSeq serialize_element SerializeTuple serialize_element);
elements!(SerializeTupleStruct serialize_field SerializeTupleVariant serialize_field);

macro_rules! members {
    ($($interface:ident)*) => { $(
        impl $interface for Parts<'_, '_> {
            type Ok = ();
            type Error = Stopped;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, it: &T) -> Result<(), Stopped> {
                self.member(name, it)
            }

            fn end(self) -> Result<(), Stopped> {
                self.finish()
            }
        }
    )* };
}
members!(SerializeStruct SerializeStructVariant);

impl SerializeMap for Parts<'_, '_> {
    type Ok = ();
    type Error = Stopped;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stopped> {
        key.serialize(Key { visitor: &mut *self.events.visitor })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, it: &T) -> Result<(), Stopped> {
        self.element(it)
    }

    fn end(self) -> Result<(), Stopped> {
        self.finish()
    }
}

/// Takes the text of a `RawValue` and gives what it says.
struct RawJson<'e, 'v>(&'e mut Events<'v>);

impl Serializer for RawJson<'_, '_> {
    type Ok = ();
    type Error = Stopped;
    type SerializeSeq = Impossible<(), Stopped>;
    type SerializeTuple = Impossible<(), Stopped>;
    type SerializeTupleStruct = Impossible<(), Stopped>;
    type SerializeTupleVariant = Impossible<(), Stopped>;
    type SerializeMap = Impossible<(), Stopped>;
    type SerializeStruct = Impossible<(), Stopped>;
    type SerializeStructVariant = Impossible<(), Stopped>;

    fn serialize_str(self, text: &str) -> Result<(), Stopped> {
        let levels = NESTING_MAX - self.0.depth;
        Ok(json::visit_text(text.as_bytes(), levels, self.0.visitor)?)
    }

    super::key::refuse! { "raw json is no text":
        serialize_bool(bool) serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_f32(f32)
        serialize_f64(f64) serialize_char(char) serialize_bytes(&[u8]) serialize_none() serialize_unit()
        serialize_unit_struct(&'static str) serialize_unit_variant(&'static str, u32, &'static str)
    }
    super::key::refuse_generic!("raw json is no text");
    super::key::refuse_parts!("raw json is no text");
}

/// The names under which `serde_json` hides text and numbers of any size; both hold JSON.
const RAW_JSON: &str = "$serde_json::private::RawValue";
const RAW_NUMBER: &str = "$serde_json::private::Number";
