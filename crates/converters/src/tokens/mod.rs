//! Self-describing binary formats as a stream of tokens: what CBOR and MessagePack share.
//!
//! Both spell the same values (maps, lists, scalars), so they are checked, gone through and searched by the same code. Nothing
//! is built: a value is its bytes, and each pass reads them again. No pass recurses, so the stack does not depend on a record.

use std::borrow::Cow;

use aqueduct_core::{FieldValue, NESTING_MAX, Poison, PoisonReason};

pub(crate) use self::check::check;
pub(crate) use self::cursor::Cursor;
pub(crate) use self::walk::{field, visit};

mod check;
mod cursor;
mod walk;

/// One piece of an encoded value.
#[derive(Debug)]
pub(crate) enum Token<'a> {
    Scalar(FieldValue<'a>),
    /// A list of so many elements; `None` if a [`Break`](Self::Break) ends it.
    List(Option<u64>),
    /// A map of so many entries.
    Map(Option<u64>),
    /// The end of a list or map without a length.
    #[cfg_attr(not(feature = "cbor"), expect(dead_code, reason = "only CBOR has lists without a length"))]
    Break,
}

/// Reads tokens. A copy reads on from the same place.
pub(crate) trait Tokens<'a>: Copy {
    /// Begins in front of the value.
    fn new(bytes: &'a [u8]) -> Self;

    /// The next token.
    fn token(&mut self) -> Result<Token<'a>, Poison>;

    /// Where it reads, for positions and for what is left.
    fn cursor(&mut self) -> &mut Cursor<'a>;
}

/// What every value of encoded bytes is, for a type with `bytes: Bytes` that `$tokens` reads.
macro_rules! encoded_value {
    ($value:ident, $tokens:ty, $null:expr) => {
        impl $value {
            /// Checks `bytes` and keeps them.
            ///
            /// # Errors
            /// If the bytes are not one value that rows can be made of, with the place.
            pub fn parse(bytes: bytes::Bytes) -> Result<Self, aqueduct_core::Poison> {
                $crate::tokens::check::<$tokens>(&bytes)?;
                Ok(Self { bytes })
            }

            /// Null, as what stands for a tombstone.
            pub fn null() -> Self {
                Self { bytes: bytes::Bytes::from_static(&[$null]) }
            }

            /// The value, encoded as it came.
            pub fn as_bytes(&self) -> &[u8] {
                &self.bytes
            }
        }

        impl std::fmt::Debug for $value {
            /// Never prints a payload.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($value)).field("len", &self.bytes.len()).finish_non_exhaustive()
            }
        }

        impl aqueduct_core::Fields for $value {
            fn field(&self, path: &aqueduct_core::FieldPath) -> Option<aqueduct_core::FieldValue<'_>> {
                $crate::tokens::field::<$tokens>(&self.bytes, path.segments())
            }
        }

        impl aqueduct_core::StructuredValue for $value {
            fn visit(
                &self,
                visitor: &mut dyn aqueduct_core::ValueVisitor,
            ) -> Result<(), aqueduct_core::Poison> {
                $crate::tokens::visit::<$tokens>(&self.bytes, visitor)
            }
        }

        impl aqueduct_core::JsonRow for $value {
            fn write_json(&self, out: &mut Vec<u8>) -> Result<(), aqueduct_core::Poison> {
                aqueduct_core::write_json(self, out)
            }
        }

        impl aqueduct_core::BytesRow for $value {
            fn row_bytes(&self) -> &bytes::Bytes {
                &self.bytes
            }
        }
    };
}
pub(crate) use encoded_value;

/// The converter of such a value, for a type with `tombstones: Tombstones`.
macro_rules! encoded_converter {
    ($converter:ident, $value:ident, $identity:literal) => {
        $crate::tombstones::tombstones_only!($converter);

        impl aqueduct_core::Converter for $converter {
            type Output = $value;

            fn convert(
                &self,
                record: &aqueduct_core::Record<'_>,
            ) -> Result<aqueduct_core::Converted<$value>, aqueduct_core::Poison> {
                match record.value_bytes() {
                    Some(bytes) => $value::parse(bytes).map(aqueduct_core::Converted::Emit),
                    None => self.tombstones.absent($value::null),
                }
            }

            fn fingerprint(&self, parts: &mut aqueduct_core::Fingerprint) {
                parts.put("converter", format_args!(concat!($identity, " tombstones={}"), self.tombstones));
            }
        }
    };
}
pub(crate) use encoded_converter;

/// Is told what a value consists of.
trait Events {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison>;
    fn begin(&mut self, map: bool) -> Result<(), Poison>;
    /// The key that is encoded at `at`.
    fn key(&mut self, name: &str, at: usize) -> Result<(), Poison>;
    fn end(&mut self, map: bool) -> Result<(), Poison>;
}

/// Reads one value and tells `events` of it.
fn drive<'a>(tokens: &mut impl Tokens<'a>, events: &mut impl Events) -> Result<(), Poison> {
    let mut token = tokens.token()?;
    if let Token::Scalar(value) = token {
        return events.scalar(value);
    }
    // How much of each open list or map is still to come, and a bit for each, the innermost lowest: whether it is a map.
    let mut open = [0_u64; NESTING_MAX];
    let (mut depth, mut maps) = (0_usize, 0_u128);
    loop {
        match token {
            Token::Scalar(value) => events.scalar(value)?,
            Token::Break => return Err(tokens.cursor().fault("a break where a value should be")),
            Token::List(length) | Token::Map(length) => {
                let is_map = matches!(token, Token::Map(_));
                let length = believable(tokens.cursor(), length, is_map)?;
                let Some(level) = open.get_mut(depth) else {
                    let text = tokens.cursor().describe("nested deeper than 128 levels");
                    return Err(Poison::new(PoisonReason::TooLarge, text));
                };
                *level = length;
                (depth, maps) = (depth + 1, maps << 1 | u128::from(is_map));
                events.begin(is_map)?;
            }
        }
        // Behind a value, or at the start of a list or map.
        token = loop {
            let Some(remaining) = depth.checked_sub(1).and_then(|index| open.get_mut(index)) else {
                return Ok(());
            };
            let is_map = maps & 1 == 1;
            if *remaining > 0 {
                let at = tokens.cursor().at();
                let next = tokens.token()?;
                let ends = matches!(next, Token::Break) && *remaining == WITHOUT_LENGTH;
                if !ends {
                    if *remaining != WITHOUT_LENGTH {
                        *remaining -= 1;
                    }
                    if !is_map {
                        break next;
                    }
                    let name = key_text(&next).ok_or_else(|| tokens.cursor().fault_at(at, NO_KEY))?;
                    events.key(&name, at)?;
                    break tokens.token()?;
                }
            }
            events.end(is_map)?;
            (depth, maps) = (depth - 1, maps >> 1);
        };
    }
}

/// The text of a key: text as it is, whole numbers as their digits.
fn key_text<'t>(token: &'t Token<'_>) -> Option<Cow<'t, str>> {
    match token {
        Token::Scalar(FieldValue::Str(text)) => Some(Cow::Borrowed(text)),
        Token::Scalar(FieldValue::I64(number)) => Some(Cow::Owned(number.to_string())),
        Token::Scalar(FieldValue::U64(number)) => Some(Cow::Owned(number.to_string())),
        Token::Scalar(FieldValue::Decimal(number)) if number.scale() == 0 => {
            Some(Cow::Owned(number.to_string()))
        }
        _ => None,
    }
}

/// A length, if the bytes that are left can hold so many elements: each takes a byte, an entry of a map takes two.
fn believable(cursor: &Cursor<'_>, length: Option<u64>, is_map: bool) -> Result<u64, Poison> {
    let Some(length) = length else { return Ok(WITHOUT_LENGTH) };
    let bytes = length.saturating_mul(if is_map { 2 } else { 1 });
    if usize::try_from(bytes).is_ok_and(|bytes| bytes <= cursor.left()) {
        Ok(length)
    } else {
        Err(cursor.fault("a list or map says that it has more elements than there are bytes"))
    }
}

const WITHOUT_LENGTH: u64 = u64::MAX;
const NO_KEY: &str = "a map has a key that is neither text nor a whole number";
