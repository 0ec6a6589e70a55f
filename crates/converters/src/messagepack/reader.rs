//! The tokens of MessagePack.

use std::borrow::Cow;

use aqueduct_core::{FieldValue, Poison, TimeUnit};

use crate::tokens::{Cursor, Token, Tokens};

#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Tokens<'a> for Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(bytes, "messagepack") }
    }

    fn cursor(&mut self) -> &mut Cursor<'a> {
        &mut self.cursor
    }

    fn token(&mut self) -> Result<Token<'a>, Poison> {
        let start = self.cursor.at();
        let first = self.cursor.byte()?;
        let value = match first {
            0x00..=0x7f => FieldValue::I64(i64::from(first)),
            0xe0..=0xff => FieldValue::I64(i64::from(first.cast_signed())),
            0x80..=0x8f => return Ok(Token::Map(Some(u64::from(first & 0x0f)))),
            0x90..=0x9f => return Ok(Token::List(Some(u64::from(first & 0x0f)))),
            0xa0..=0xbf => self.text(u64::from(first & 0x1f))?,
            0xc0 => FieldValue::Null,
            0xc1 => return Err(self.cursor.fault_at(start, "the byte that is never used")),
            0xc2 => FieldValue::Bool(false),
            0xc3 => FieldValue::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(first - 0xc4)?;
                self.bytes(length)?
            }
            0xc7..=0xc9 => {
                let length = self.length(first - 0xc7)?;
                self.extension(length)?
            }
            0xca => FieldValue::F32(f32::from_be_bytes(self.cursor.array()?)),
            0xcb => FieldValue::F64(f64::from_be_bytes(self.cursor.array()?)),
            0xcc => FieldValue::I64(i64::from(self.cursor.byte()?)),
            0xcd => FieldValue::I64(i64::from(u16::from_be_bytes(self.cursor.array()?))),
            0xce => FieldValue::I64(i64::from(u32::from_be_bytes(self.cursor.array()?))),
            0xcf => {
                let number = u64::from_be_bytes(self.cursor.array()?);
                i64::try_from(number).map_or(FieldValue::U64(number), FieldValue::I64)
            }
            0xd0 => FieldValue::I64(i64::from(i8::from_be_bytes(self.cursor.array()?))),
            0xd1 => FieldValue::I64(i64::from(i16::from_be_bytes(self.cursor.array()?))),
            0xd2 => FieldValue::I64(i64::from(i32::from_be_bytes(self.cursor.array()?))),
            0xd3 => FieldValue::I64(i64::from_be_bytes(self.cursor.array()?)),
            0xd4..=0xd8 => self.extension(1 << (first - 0xd4))?,
            0xd9..=0xdb => {
                let length = self.length(first - 0xd9)?;
                self.text(length)?
            }
            0xdc | 0xdd => return Ok(Token::List(Some(self.length(first - 0xdc + 1)?))),
            0xde | 0xdf => return Ok(Token::Map(Some(self.length(first - 0xde + 1)?))),
        };
        Ok(Token::Scalar(value))
    }
}

impl<'a> Reader<'a> {
    /// A length of one, two or four bytes, by `class`.
    fn length(&mut self, class: u8) -> Result<u64, Poison> {
        Ok(match class {
            0 => u64::from(self.cursor.byte()?),
            1 => u64::from(u16::from_be_bytes(self.cursor.array()?)),
            _ => u64::from(u32::from_be_bytes(self.cursor.array()?)),
        })
    }

    fn text(&mut self, length: u64) -> Result<FieldValue<'a>, Poison> {
        self.cursor.text(length).map(|text| FieldValue::Str(Cow::Borrowed(text)))
    }

    fn bytes(&mut self, length: u64) -> Result<FieldValue<'a>, Poison> {
        self.cursor.take(length).map(|bytes| FieldValue::Bytes(Cow::Borrowed(bytes)))
    }

    /// Of the extensions only the one for time has a meaning that everybody knows; the others are the bytes they hold.
    fn extension(&mut self, length: u64) -> Result<FieldValue<'a>, Poison> {
        let start = self.cursor.at();
        let kind = self.cursor.byte()?.cast_signed();
        let content = self.cursor.take(length)?;
        if kind != TIMESTAMP {
            return Ok(FieldValue::Bytes(Cow::Borrowed(content)));
        }
        let (seconds, nanos) = if let Ok(seconds) = <[u8; 4]>::try_from(content) {
            (Some(i64::from(u32::from_be_bytes(seconds))), 0)
        } else if let Ok(both) = <[u8; 8]>::try_from(content) {
            let both = u64::from_be_bytes(both);
            (i64::try_from(both & 0x3_ffff_ffff).ok(), both >> 34)
        } else if let Some((nanos, seconds)) = content.split_first_chunk::<4>() {
            let seconds = <[u8; 8]>::try_from(seconds).ok().map(i64::from_be_bytes);
            (seconds, u64::from(u32::from_be_bytes(*nanos)))
        } else {
            (None, 0)
        };
        let nanos = i32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        let time = seconds.zip(nanos).and_then(|(seconds, nanos)| {
            // The nanoseconds count on from the second, also before 1970.
            seconds.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1_000))
        });
        let time = time.filter(|count| TimeUnit::Micros.is_shown(*count));
        let count = time.ok_or_else(|| self.cursor.fault_at(start, "a timestamp that is no time"))?;
        Ok(FieldValue::Timestamp { count, unit: TimeUnit::Micros, utc: true })
    }
}

const TIMESTAMP: i8 = -1;
