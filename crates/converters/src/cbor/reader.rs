//! The tokens of CBOR (RFC 8949), tags included.

use std::borrow::Cow;

use aqueduct_core::{Decimal, FieldValue, Poison, PoisonReason, TimeText, TimeUnit};
use jiff::SignedDuration;

use crate::tokens::{Cursor, Token, Tokens};

#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    cursor: Cursor<'a>,
}

/// The start of an item.
struct Head {
    major: u8,
    /// The low five bits.
    info: u8,
    /// `None` for what a break ends.
    argument: Option<u64>,
}

impl<'a> Tokens<'a> for Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(bytes, "cbor") }
    }

    fn cursor(&mut self) -> &mut Cursor<'a> {
        &mut self.cursor
    }

    fn token(&mut self) -> Result<Token<'a>, Poison> {
        loop {
            let start = self.cursor.at();
            let head = self.head()?;
            if head.major != TAG {
                return self.item(&head, start);
            }
            match head.argument {
                Some(0) => return self.time_text().map(Token::Scalar),
                Some(1) => return self.time_number().map(Token::Scalar),
                Some(tag @ (2 | 3)) => {
                    let head = self.head()?;
                    return Ok(Token::Scalar(FieldValue::Decimal(self.big(&head, tag == 3)?)));
                }
                Some(4) => return self.fraction().map(Token::Scalar),
                Some(37) => return self.uuid().map(Token::Scalar),
                // What another tag says of the item is lost, the item is not.
                Some(_) => {}
                None => return Err(self.cursor.fault_at(start, "a tag without a number")),
            }
        }
    }
}

impl<'a> Reader<'a> {
    fn head(&mut self) -> Result<Head, Poison> {
        let start = self.cursor.at();
        let first = self.cursor.byte()?;
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..24 => Some(u64::from(info)),
            24 => Some(u64::from(self.cursor.byte()?)),
            25 => Some(u64::from(u16::from_be_bytes(self.cursor.array()?))),
            26 => Some(u64::from(u32::from_be_bytes(self.cursor.array()?))),
            27 => Some(u64::from_be_bytes(self.cursor.array()?)),
            31 => None,
            _ => return Err(self.cursor.fault_at(start, "a reserved length")),
        };
        Ok(Head { major, info, argument })
    }

    /// An item without a tag, whose head was read.
    fn item(&mut self, head: &Head, start: usize) -> Result<Token<'a>, Poison> {
        Ok(match (head.major, head.argument) {
            (UNSIGNED, Some(number)) => {
                Token::Scalar(i64::try_from(number).map_or(FieldValue::U64(number), FieldValue::I64))
            }
            (NEGATIVE, Some(number)) => Token::Scalar(match i64::try_from(number) {
                Ok(number) => FieldValue::I64(!number),
                Err(_) => FieldValue::Decimal(Decimal::from_i128(!i128::from(number), 0)),
            }),
            (BYTES, length) => Token::Scalar(FieldValue::Bytes(self.bytes(length)?)),
            (TEXT, length) => Token::Scalar(FieldValue::Str(self.text(length)?)),
            (LIST, length) => Token::List(length),
            (MAP, length) => Token::Map(length),
            (SIMPLE, None) => Token::Break,
            (SIMPLE, Some(argument)) => Token::Scalar(self.simple(head.info, argument, start)?),
            _ => return Err(self.cursor.fault_at(start, "a number without an end")),
        })
    }

    fn simple(&self, info: u8, argument: u64, start: usize) -> Result<FieldValue<'a>, Poison> {
        let low = u32::try_from(argument & u64::from(u32::MAX)).unwrap_or_default();
        match info {
            20 => Ok(FieldValue::Bool(false)),
            21 => Ok(FieldValue::Bool(true)),
            22 | 23 => Ok(FieldValue::Null),
            // Encoders take the shortest form that loses nothing, so its length says nothing about the producer's type.
            25 => Ok(FieldValue::F64(half(low).into())),
            26 => Ok(FieldValue::F64(f32::from_bits(low).into())),
            27 => Ok(FieldValue::F64(f64::from_bits(argument))),
            _ => Err(self.cursor.fault_at(start, "a simple value without a meaning")),
        }
    }

    fn bytes(&mut self, length: Option<u64>) -> Result<Cow<'a, [u8]>, Poison> {
        let Some(length) = length else {
            let mut whole = Vec::new();
            while let Some(length) = self.chunk(BYTES)? {
                whole.extend_from_slice(self.cursor.take(length)?);
            }
            return Ok(Cow::Owned(whole));
        };
        self.cursor.take(length).map(Cow::Borrowed)
    }

    fn text(&mut self, length: Option<u64>) -> Result<Cow<'a, str>, Poison> {
        let Some(length) = length else {
            let mut whole = String::new();
            while let Some(length) = self.chunk(TEXT)? {
                // Each chunk is text of its own: no character may be split.
                whole.push_str(self.cursor.text(length)?);
            }
            return Ok(Cow::Owned(whole));
        };
        self.cursor.text(length).map(Cow::Borrowed)
    }

    /// The length of the next chunk of a string in chunks; `None` at its end.
    fn chunk(&mut self, major: u8) -> Result<Option<u64>, Poison> {
        let start = self.cursor.at();
        match self.head()? {
            Head { major: SIMPLE, argument: None, .. } => Ok(None),
            Head { major: found, argument: Some(length), .. } if found == major => Ok(Some(length)),
            _ => Err(self.cursor.fault_at(start, "a chunk of a string is of another kind")),
        }
    }

    /// Tag 0: RFC 3339.
    fn time_text(&mut self) -> Result<FieldValue<'a>, Poison> {
        let start = self.cursor.at();
        let head = self.head()?;
        if head.major != TEXT {
            return Err(self.cursor.fault_at(start, "tag 0 (a time) is on something else than a text"));
        }
        let text = self.text(head.argument)?;
        let time = TimeText::parse(&text).filter(|time| time.utc).and_then(|time| micros(time.nanos));
        time.ok_or_else(|| self.cursor.fault_at(start, "tag 0 is on a text that is no time of RFC 3339"))
    }

    /// Tag 1: seconds since 1970.
    fn time_number(&mut self) -> Result<FieldValue<'a>, Poison> {
        let start = self.cursor.at();
        let head = self.head()?;
        let nanos = match self.number(&head, start) {
            Some(FieldValue::I64(seconds)) => Some(i128::from(seconds) * 1_000_000_000),
            Some(FieldValue::F64(seconds)) => nanos_of(seconds),
            _ => None,
        };
        nanos
            .and_then(micros)
            .ok_or_else(|| self.cursor.fault_at(start, "tag 1 is on something that is no time"))
    }

    fn number(&mut self, head: &Head, start: usize) -> Option<FieldValue<'a>> {
        if !matches!(head.major, UNSIGNED | NEGATIVE | SIMPLE) {
            return None;
        }
        match self.item(head, start) {
            Ok(Token::Scalar(value)) => Some(value),
            _ => None,
        }
    }

    /// Tags 2 and 3: a number of any size, most significant byte first; tag 3 is `-1 - number`.
    fn big(&mut self, head: &Head, negative: bool) -> Result<Decimal<'a>, Poison> {
        if head.major != BYTES {
            return Err(self.cursor.fault("a large number is not in bytes"));
        }
        let mut bytes = self.bytes(head.argument)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        match &mut bytes {
            Cow::Borrowed(bytes) => *bytes = bytes.get(zeros..).unwrap_or_default(),
            Cow::Owned(bytes) => {
                bytes.drain(..zeros);
            }
        }
        if bytes.len() > BIG_MAX {
            let text = self.cursor.describe("a number has more than 512 bits");
            return Err(Poison::new(PoisonReason::TooLarge, text));
        }
        if !negative && bytes.first().is_none_or(|first| first & 0x80 == 0) {
            return Ok(Decimal::new(bytes, 0));
        }
        let (sign, flip) = if negative { (0xff, 0xff) } else { (0, 0) };
        let unscaled: Vec<u8> = std::iter::once(sign).chain(bytes.iter().map(|byte| byte ^ flip)).collect();
        Ok(Decimal::new(unscaled, 0))
    }

    /// Tag 4: `[exponent, number]`.
    fn fraction(&mut self) -> Result<FieldValue<'a>, Poison> {
        let start = self.cursor.at();
        let head = self.head()?;
        if (head.major, head.argument) != (LIST, Some(2)) {
            return Err(self
                .cursor
                .fault_at(start, "tag 4 (a decimal) is on something else than two numbers"));
        }
        let exponent_at = self.cursor.at();
        let head = self.head()?;
        let Some(FieldValue::I64(exponent)) = self.number(&head, exponent_at) else {
            return Err(self.cursor.fault_at(exponent_at, "the exponent of a decimal is no whole number"));
        };
        let number = self.mantissa()?;
        let scaled = match u32::try_from(exponent) {
            // 10^39 does not fit anyway.
            Ok(up) => number.to_i128().and_then(|number| number.checked_mul(10_i128.checked_pow(up)?)),
            Err(_) => None,
        };
        match (scaled, exponent) {
            (_, SCALE_FIRST..=0) => {
                let scale = u32::try_from(-exponent).unwrap_or_default();
                Ok(FieldValue::Decimal(Decimal::new(number.unscaled().to_vec(), scale)))
            }
            (Some(scaled), _) => Ok(FieldValue::Decimal(Decimal::from_i128(scaled, 0))),
            (None, _) => {
                let text = self.cursor.describe(
                    "a decimal has more than 76 digits behind its point, or more than 38 before it",
                );
                Err(Poison::new(PoisonReason::TooLarge, text))
            }
        }
    }

    fn mantissa(&mut self) -> Result<Decimal<'a>, Poison> {
        let start = self.cursor.at();
        let head = self.head()?;
        match (head.major, head.argument) {
            (TAG, Some(tag @ (2 | 3))) => {
                let head = self.head()?;
                self.big(&head, tag == 3)
            }
            (UNSIGNED, Some(number)) => Ok(Decimal::from_i128(i128::from(number), 0)),
            (NEGATIVE, Some(number)) => Ok(Decimal::from_i128(!i128::from(number), 0)),
            _ => Err(self.cursor.fault_at(start, "a decimal's number is no whole number")),
        }
    }

    fn uuid(&mut self) -> Result<FieldValue<'a>, Poison> {
        let start = self.cursor.at();
        let head = self.head()?;
        let bytes = if head.major == BYTES { self.bytes(head.argument)? } else { Cow::Borrowed(&[][..]) };
        let uuid = <[u8; 16]>::try_from(&*bytes);
        uuid.map(FieldValue::Uuid)
            .map_err(|_| self.cursor.fault_at(start, "tag 37 (a uuid) is not on 16 bytes"))
    }
}

/// Fractions are rounded to the microsecond: a float of today's seconds holds no more.
fn nanos_of(seconds: f64) -> Option<i128> {
    Some(SignedDuration::try_from_secs_f64(seconds).ok()?.as_nanos() + 500)
}

/// A moment, cut at the microsecond; `None` if no calendar of four-digit years shows it.
fn micros(nanos: i128) -> Option<FieldValue<'static>> {
    let count = i64::try_from(nanos.div_euclid(1_000)).ok()?;
    let unit = TimeUnit::Micros;
    unit.is_shown(count).then_some(FieldValue::Timestamp { count, unit, utc: true })
}

/// A float of 16 bits.
fn half(bits: u32) -> f32 {
    let (sign, exponent, fraction) = ((bits & 0x8000) << 16, bits >> 10 & 0x1f, bits & 0x3ff);
    match exponent {
        // Subnormal: a multiple of 2^-24, which every f32 of ten bits holds exactly.
        0 => {
            let small = f32::from(u16::try_from(fraction).unwrap_or_default()) / 16_777_216.0;
            if sign == 0 { small } else { -small }
        }
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// Bytes of a large number. Writing one as digits takes time that grows with the square of its length.
const BIG_MAX: usize = 64;
/// The lowest exponent, which is minus the digits behind the point. They are all written, however few bytes said so.
const SCALE_FIRST: i64 = -76;
