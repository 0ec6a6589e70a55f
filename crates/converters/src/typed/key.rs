//! Keys of maps: JSON has only text, so numbers and truth values become their text, as `serde_json` writes them.

use std::fmt::Display;

use aqueduct_core::ValueVisitor;
use serde::ser::{Impossible, Serialize, Serializer};

use super::visit::Stopped;

/// Takes one key and gives it to the visitor.
pub(super) struct Key<'v> {
    pub(super) visitor: &'v mut dyn ValueVisitor,
}

impl Key<'_> {
    fn shown(self, key: impl Display) -> Result<(), Stopped> {
        Ok(self.visitor.key(&key.to_string())?)
    }

    fn float(self, finite: bool, key: impl std::fmt::Debug) -> Result<(), Stopped> {
        if finite { self.shown(format_args!("{key:?}")) } else { Err(Stopped::refused(NO_KEY)) }
    }
}

macro_rules! refuse {
    ($why:literal: $($method:ident($($argument:ty),*))*) => { $(
        fn $method(self, $(_: $argument),*) -> Result<(), super::visit::Stopped> {
            Err(super::visit::Stopped::refused($why))
        }
    )* };
}
pub(super) use refuse;

macro_rules! refuse_generic {
    ($why:literal) => {
        fn serialize_some<T: serde::Serialize + ?Sized>(self, _: &T) -> Result<(), super::visit::Stopped> {
            Err(super::visit::Stopped::refused($why))
        }

        fn serialize_newtype_struct<T: serde::Serialize + ?Sized>(
            self,
            _: &'static str,
            _: &T,
        ) -> Result<(), super::visit::Stopped> {
            Err(super::visit::Stopped::refused($why))
        }
    };
}
pub(super) use refuse_generic;

macro_rules! refuse_parts {
    ($why:literal) => {
        super::key::refuse_parts! { $why:
            serialize_seq SerializeSeq (Option<usize>)
            serialize_tuple SerializeTuple (usize)
            serialize_tuple_struct SerializeTupleStruct (&'static str, usize)
            serialize_tuple_variant SerializeTupleVariant (&'static str, u32, &'static str, usize)
            serialize_map SerializeMap (Option<usize>)
            serialize_struct SerializeStruct (&'static str, usize)
            serialize_struct_variant SerializeStructVariant (&'static str, u32, &'static str, usize)
        }

        fn serialize_newtype_variant<T: serde::Serialize + ?Sized>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: &T,
        ) -> Result<(), super::visit::Stopped> {
            Err(super::visit::Stopped::refused($why))
        }
    };
    ($why:literal: $($method:ident $output:ident ($($argument:ty),*))*) => { $(
        fn $method(self, $(_: $argument),*) -> Result<Self::$output, super::visit::Stopped> {
            Err(super::visit::Stopped::refused($why))
        }
    )* };
}
pub(super) use refuse_parts;

impl Serializer for Key<'_> {
    type Ok = ();
    type Error = Stopped;
    type SerializeSeq = Impossible<(), Stopped>;
    type SerializeTuple = Impossible<(), Stopped>;
    type SerializeTupleStruct = Impossible<(), Stopped>;
    type SerializeTupleVariant = Impossible<(), Stopped>;
    type SerializeMap = Impossible<(), Stopped>;
    type SerializeStruct = Impossible<(), Stopped>;
    type SerializeStructVariant = Impossible<(), Stopped>;

    fn serialize_str(self, key: &str) -> Result<(), Stopped> {
        Ok(self.visitor.key(key)?)
    }

    fn serialize_char(self, key: char) -> Result<(), Stopped> {
        self.serialize_str(key.encode_utf8(&mut [0; 4]))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Stopped> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        key: &T,
    ) -> Result<(), Stopped> {
        key.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, key: &T) -> Result<(), Stopped> {
        key.serialize(self)
    }

    fn serialize_bool(self, key: bool) -> Result<(), Stopped> {
        self.shown(key)
    }

    fn serialize_i8(self, key: i8) -> Result<(), Stopped> {
        self.shown(key)
    }

    fn serialize_i16(self, key: i16) -> Result<(), Stopped> {
        self.shown(key)
    }

    fn serialize_i32(self, key: i32) -> Result<(), Stopped> {
        self.shown(key)
    }

    fn serialize_i64(self, key: i64) -> Result<(), Stopped> {
        self.shown(key)
    }

    fn serialize_i128(self, key: i128) -> Result<(), Stopped> {
        self.shown(key)
    }

    fn serialize_u8(self, key: u8) -> Result<(), Stopped> {
        self.shown(key)
    }

    fn serialize_u16(self, key: u16) -> Result<(), Stopped> {
        self.shown(key)
    }

    fn serialize_u32(self, key: u32) -> Result<(), Stopped> {
        self.shown(key)
    }

    fn serialize_u64(self, key: u64) -> Result<(), Stopped> {
        self.shown(key)
    }

    fn serialize_u128(self, key: u128) -> Result<(), Stopped> {
        self.shown(key)
    }

    fn serialize_f32(self, key: f32) -> Result<(), Stopped> {
        self.float(key.is_finite(), key)
    }

    fn serialize_f64(self, key: f64) -> Result<(), Stopped> {
        self.float(key.is_finite(), key)
    }

    fn collect_str<T: Display + ?Sized>(self, key: &T) -> Result<(), Stopped> {
        self.shown(key)
    }

    refuse! { "keys of maps must be text or numbers":
        serialize_bytes(&[u8]) serialize_none() serialize_unit() serialize_unit_struct(&'static str)
    }
    refuse_parts!("keys of maps must be text or numbers");
}

const NO_KEY: &str = "keys of maps must be text or finite numbers";
