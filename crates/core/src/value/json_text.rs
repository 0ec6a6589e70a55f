//! A value as JSON text.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::{Composite, FieldValue, MemberName, StructuredValue, TimeUnit, ValueVisitor};
use crate::error::{Poison, PoisonReason};

/// Appends `value` to `out` as one line of JSON text.
///
/// Kinds that JSON does not have are written as readers expect them:
///
/// | kind | JSON |
/// | --- | --- |
/// | decimal | a number with all its digits: `12.50` |
/// | bytes | a string, base64 with padding |
/// | UUID | a string: `6ba7b810-9dad-11d1-80b4-00c04fd430c8` |
/// | date, time | strings: `2021-06-28`, `07:30:00.250` with the digits of its unit |
/// | timestamp | a string, RFC 3339 with the digits of its unit: `2021-06-28T07:30:00.250Z`; without `Z` if it is local |
/// | duration | a string, ISO 8601: `P1M2DT3.004S` |
/// | not a number, infinities | the strings `NaN`, `Infinity`, `-Infinity`, as the JSON mapping of Protobuf has them |
/// | map | an object |
/// | union | the value, without its branch |
///
/// # Errors
/// A [`Poison`] for a time that no calendar of four-digit years shows, for a decimal beyond
/// [its limits](super::Decimal::check_limits), and for decimals that have more than 16 777 216 digits behind their points together;
/// `out` may then hold a part, which the caller removes.
pub fn write_json<T: StructuredValue + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Poison> {
    value.visit(&mut JsonText::new(out))
}

/// The visitor behind [`write_json`], for what is written event by event.
#[derive(Debug)]
pub struct JsonText<'o> {
    out: &'o mut Vec<u8>,
    depth: u32,
    /// The bit of the level at hand; none at the root.
    level: u128,
    /// A bit per level: whether it has members already.
    filled: u128,
    /// A bit per level: whether it is a list.
    lists: u128,
    /// A key was written, so the next value needs no comma.
    keyed: bool,
    /// Digits behind the points of decimals so far.
    places: u64,
}

impl<'o> JsonText<'o> {
    /// Appends one value to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, depth: 0, level: 0, filled: 0, lists: 0, keyed: false, places: 0 }
    }

    /// Gives the buffer back, for what comes behind the value.
    pub fn into_out(self) -> &'o mut Vec<u8> {
        self.out
    }

    /// The comma before an element or key, if one is due.
    #[inline]
    fn separate(&mut self) {
        if self.keyed {
            self.keyed = false;
        } else {
            if self.filled & self.level != 0 {
                self.out.push(b',');
            }
            self.filled |= self.level;
        }
    }

    /// A string of characters that need no escape.
    fn plain(&mut self, text: impl std::fmt::Display) {
        // Writing to memory cannot fail.
        write!(self.out, "\"{text}\"").ok();
    }

    fn float(&mut self, finite: bool, negative: bool, nan: bool, text: impl std::fmt::Debug) {
        if finite {
            // Debug has an exponent where Display would write hundreds of zeros.
            write!(self.out, "{text:?}").ok();
        } else if nan {
            self.out.extend_from_slice(b"\"NaN\"");
        } else {
            self.out.extend_from_slice(if negative { b"\"-Infinity\"" } else { b"\"Infinity\"" });
        }
    }
}

impl ValueVisitor for JsonText<'_> {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        self.separate();
        match value {
            FieldValue::Null | FieldValue::Composite => self.out.extend_from_slice(b"null"),
            FieldValue::Bool(true) => self.out.extend_from_slice(b"true"),
            FieldValue::Bool(false) => self.out.extend_from_slice(b"false"),
            FieldValue::I64(number) => {
                self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
            FieldValue::U64(number) => {
                self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
            FieldValue::F32(it) => self.float(it.is_finite(), it < 0.0, it.is_nan(), it),
            FieldValue::F64(it) => self.float(it.is_finite(), it < 0.0, it.is_nan(), it),
            FieldValue::Number(text) => self.out.extend_from_slice(text.as_bytes()),
            FieldValue::Decimal(number) => {
                number.check_limits()?;
                self.places += u64::from(number.scale());
                if self.places > PLACES_MAX {
                    return Err(too_many_places());
                }
                write!(self.out, "{number}").ok();
            }
            FieldValue::Str(text) => write_string(text.as_bytes(), self.out),
            FieldValue::Bytes(bytes) => self.plain(STANDARD.encode(bytes)),
            FieldValue::Uuid(bytes) => write_uuid(bytes, self.out),
            FieldValue::Date(days) => {
                self.out.push(b'"');
                write_date(date(days)?, self.out);
                self.out.push(b'"');
            }
            FieldValue::Time { count, unit } => {
                self.out.push(b'"');
                write_time(time(count, unit)?, unit, self.out);
                self.out.push(b'"');
            }
            FieldValue::Timestamp { count, unit, utc } => {
                let at = date_time(count, unit)?;
                self.out.push(b'"');
                write_date(at.date(), self.out);
                self.out.push(b'T');
                write_time(at.time(), unit, self.out);
                self.out.extend_from_slice(if utc { b"Z\"" } else { b"\"" });
            }
            FieldValue::Duration { months, days, millis } => {
                let (seconds, rest) = (millis / 1_000, millis % 1_000);
                self.plain(format_args!("P{months}M{days}DT{seconds}.{rest:03}S"));
            }
        }
        Ok(())
    }

    fn text(&mut self, utf8: &[u8]) -> Result<(), Poison> {
        debug_assert!(std::str::from_utf8(utf8).is_ok(), "text that is not UTF-8");
        self.separate();
        write_string(utf8, self.out);
        Ok(())
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Poison> {
        self.separate();
        if self.depth >= u128::BITS {
            return Err(Poison::new(PoisonReason::TooLarge, "the value nests deeper than 128 levels"));
        }
        self.level = if self.depth == 0 { 1 } else { self.level << 1 };
        self.depth += 1;
        self.filled &= !self.level;
        if composite == Composite::List {
            self.lists |= self.level;
            self.out.push(b'[');
        } else {
            self.lists &= !self.level;
            self.out.push(b'{');
        }
        Ok(())
    }

    fn key(&mut self, name: &str) -> Result<(), Poison> {
        self.separate();
        write_string(name.as_bytes(), self.out);
        self.out.push(b':');
        self.keyed = true;
        Ok(())
    }

    fn member(&mut self, name: &MemberName) -> Result<(), Poison> {
        let Some(json) = name.json() else { return self.key(name) };
        self.separate();
        self.out.extend_from_slice(json);
        self.keyed = true;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Poison> {
        self.out.push(if self.lists & self.level == 0 { b'}' } else { b']' });
        self.depth = self.depth.saturating_sub(1);
        self.level >>= 1;
        Ok(())
    }
}

/// A string with quotes; control characters, quotes and backslashes are escaped.
#[inline]
fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    // At once for its quotes, too, and the colon behind a name.
    out.reserve(bytes.len() + 3);
    out.push(b'"');
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        write_escaped(bytes, out);
    }
    out.push(b'"');
}

fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let plain = rest.iter().position(|&byte| is_escaped(byte)).unwrap_or(rest.len());
        let (plain, escaped) = rest.split_at(plain);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = escaped.split_first() else { break };
        rest = after;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                write!(out, "\\u{byte:04x}").ok();
            }
        }
    }
}

fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Whether nothing is to be escaped. Names and strings are most of a typical value, and few need it.
#[inline]
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    // The last word or block is looked at whole, so that parts of it are seen twice and none byte by byte.
    if let Some(last) = bytes.last_chunk::<32>() {
        bytes.chunks_exact(32).all(is_plain_block) && is_plain_block(last)
    } else if let Some(last) = bytes.last_chunk::<8>() {
        bytes.as_chunks::<8>().0.iter().all(|word| is_plain_word(*word)) && is_plain_word(*last)
    } else {
        !bytes.iter().any(|&byte| is_escaped(byte))
    }
}

/// Without an early exit, which is what lets it be vectorised.
fn is_plain_block(block: &[u8]) -> bool {
    !block.iter().fold(false, |found, &byte| found | is_escaped(byte))
}

#[inline]
fn is_plain_word(word: [u8; 8]) -> bool {
    const EVERY: u64 = u64::MAX / 255;
    let word = u64::from_le_bytes(word);
    // The high bit of a byte is set where it is below the limit and had no high bit of its own; higher ones may be carries.
    let below = |word: u64, limit: u8| word.wrapping_sub(EVERY * u64::from(limit)) & !word;
    let equal = |byte: u8| below(word ^ (EVERY * u64::from(byte)), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) & (EVERY << 7) == 0
}

/// A UUID with quotes.
fn write_uuid(uuid: [u8; 16], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
    out.push(b'"');
    for (index, byte) in uuid.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    out.push(b'"');
}

/// `2021-06-28`
fn write_date(date: Date, out: &mut Vec<u8>) {
    let Ok(year) = u32::try_from(date.year()) else {
        // A sign and six digits; nobody is in a hurry there.
        write!(out, "{date}").ok();
        return;
    };
    write_digits(year, 4, out);
    out.push(b'-');
    write_digits(date.month().unsigned_abs().into(), 2, out);
    out.push(b'-');
    write_digits(date.day().unsigned_abs().into(), 2, out);
}

/// `07:30:00.250`, with the digits of its unit.
fn write_time(time: Time, unit: TimeUnit, out: &mut Vec<u8>) {
    write_digits(time.hour().unsigned_abs().into(), 2, out);
    out.push(b':');
    write_digits(time.minute().unsigned_abs().into(), 2, out);
    out.push(b':');
    write_digits(time.second().unsigned_abs().into(), 2, out);
    out.push(b'.');
    let below_a_second = time.subsec_nanosecond().unsigned_abs();
    let (divisor, digits) = match unit {
        TimeUnit::Millis => (1_000_000, 3),
        TimeUnit::Micros => (1_000, 6),
        TimeUnit::Nanos => (1, 9),
    };
    write_digits(below_a_second / divisor, digits, out);
}

/// The last `count` digits of a number, with zeros in front.
fn write_digits(number: u32, count: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + count, b'0');
    let mut rest = number;
    for place in out.iter_mut().skip(start).rev() {
        *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
}

#[cold]
fn too_many_places() -> Poison {
    let text = format!("the decimals of a value have more than {PLACES_MAX} digits behind their points");
    Poison::new(PoisonReason::TooLarge, text)
}

#[cold]
fn outside(what: &str) -> Poison {
    Poison::new(PoisonReason::InvalidField, format!("a {what} is outside of the years -9999 to 9999"))
}

fn date(days: i32) -> Result<Date, Poison> {
    Date::constant(1970, 1, 1)
        .checked_add(SignedDuration::from_hours(i64::from(days) * 24))
        .map_err(|_| outside("date"))
}

fn time(count: i64, unit: TimeUnit) -> Result<Time, Poison> {
    let nanos = count.checked_mul(1_000_000_000 / unit.per_second());
    let span = nanos.filter(|nanos| (0..86_400_000_000_000).contains(nanos)).map(SignedDuration::from_nanos);
    let time = span.and_then(|span| Time::midnight().checked_add(span).ok());
    time.ok_or_else(|| Poison::new(PoisonReason::InvalidField, "a time is outside of a day"))
}

fn date_time(count: i64, unit: TimeUnit) -> Result<DateTime, Poison> {
    let (seconds, rest) = (count.div_euclid(unit.per_second()), count.rem_euclid(unit.per_second()));
    let nanos = i32::try_from(rest * (1_000_000_000 / unit.per_second())).unwrap_or_default();
    // The short way, which ends some hours before the calendar does.
    if let Ok(moment) = Timestamp::new(seconds, nanos) {
        return Ok(Offset::UTC.to_datetime(moment));
    }
    far_date_time(seconds, nanos)
}

#[cold]
fn far_date_time(seconds: i64, nanos: i32) -> Result<DateTime, Poison> {
    let at = DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(SignedDuration::new(seconds, nanos));
    at.map_err(|_| outside("timestamp"))
}

/// Digits behind the points of all decimals of a value. A scale stands in the schema, so that a megabyte of numbers of a byte
/// would be a gigabyte of zeros.
const PLACES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests;
