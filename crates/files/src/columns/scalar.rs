//! One value for one column.
//!
//! A value fits a kind if it is of that kind, or if nothing is lost: whole numbers into wider ones and into fractions, decimals
//! of fewer digits. Where producers could only write JSON, text is read as what [`write_json`](aqueduct_core::write_json)
//! writes for the kind, and whole numbers count days, or units of a time.

use aqueduct_core::{TimeText, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil;
use jiff::fmt::temporal::Pieces;

use super::misfit::Problem;
use super::plan::{Kind, Node};
use super::walk::Cells;
use super::wide::Wide;
use crate::tape::Item;

/// Gives `item`, which is neither null nor has parts, to `cells` as a value of the node.
#[inline]
pub(super) fn scalar(id: usize, node: &Node, item: &Item<'_>, cells: &mut impl Cells) -> Result<(), Problem> {
    match (node.kind, item) {
        (Kind::String, Item::Str(text)) => cells.text(id, text),
        (Kind::Int(64), Item::I64(number)) => cells.integer(id, *number),
        (Kind::Float64, Item::F64(number)) => cells.double(id, *number),
        (Kind::Float64, Item::Number(text)) => cells.double(id, parse(text)?),
        (Kind::Bool, Item::Bool(it)) => cells.boolean(id, *it),
        _ => return rarer(id, node, item, cells),
    }
    Ok(())
}

fn rarer(id: usize, node: &Node, item: &Item<'_>, cells: &mut impl Cells) -> Result<(), Problem> {
    match node.kind {
        Kind::Int(bits) => {
            let number = whole(item)?;
            let rest = number >> (bits - 1);
            if rest != 0 && rest != -1 {
                return Err(Problem::Range);
            }
            cells.integer(id, number);
        }
        Kind::UInt32 => {
            let number = whole(item)?;
            u32::try_from(number).map_err(|_| Problem::Range)?;
            cells.integer(id, number);
        }
        Kind::UInt64 => cells.unsigned(
            id,
            match item {
                Item::U64(number) => *number,
                _ => u64::try_from(whole(item)?).map_err(|_| Problem::Range)?,
            },
        ),
        Kind::Float32 => cells.float(id, float(item)?),
        Kind::Float64 => cells.double(id, double(item)?),
        Kind::Decimal { precision, scale } => {
            let number = decimal(item, scale)?;
            if !number.has_digits(precision) {
                return Err(Problem::Range);
            }
            cells.decimal(id, number);
        }
        Kind::Bytes => match bytes(item)? {
            Given::Borrowed(bytes) => cells.bytes(id, bytes),
            Given::Decoded(bytes) => cells.bytes(id, &bytes),
        },
        Kind::Fixed(length) => {
            let given = bytes(item)?;
            let bytes = match &given {
                Given::Borrowed(bytes) => bytes,
                Given::Decoded(bytes) => &bytes[..],
            };
            if bytes.len() != length as usize {
                return Err(Problem::Range);
            }
            cells.bytes(id, bytes);
        }
        Kind::Uuid => cells.bytes(id, &uuid(item)?),
        Kind::Enum => {
            let Item::Str(text) = item else { return Err(kind_of(item)) };
            let symbol = std::str::from_utf8(text).ok().and_then(|text| node.place_of(text));
            cells.symbol(id, symbol.ok_or(Problem::Symbol)?, text);
        }
        Kind::Date => {
            let days = date(item)?;
            if node.shown && !DAYS.contains(&i64::from(days)) {
                return Err(Problem::Range);
            }
            cells.integer(id, i64::from(days));
        }
        Kind::Time(unit) => {
            let count = time(item, unit)?;
            if !(0..86_400 * unit.per_second()).contains(&count) {
                return Err(Problem::Range);
            }
            cells.integer(id, count);
        }
        Kind::Timestamp { unit, utc } => {
            let count = timestamp(item, unit, utc)?;
            if node.shown && !DAYS.contains(&count.div_euclid(86_400 * unit.per_second())) {
                return Err(Problem::Range);
            }
            cells.integer(id, count);
        }
        Kind::Duration => match item {
            Item::Duration { months, days, millis } => cells.duration(id, *months, *days, *millis),
            _ => return Err(kind_of(item)),
        },
        _ => return Err(kind_of(item)),
    }
    Ok(())
}

/// The days that calendars of four-digit years have, from -9999-01-01 to 9999-12-31, counted from 1970-01-01.
const DAYS: std::ops::RangeInclusive<i64> = -4_371_587..=2_932_896;

/// What was found instead.
#[cold]
pub(super) fn kind_of(item: &Item<'_>) -> Problem {
    use aqueduct_core::Composite;
    Problem::Kind(match item {
        Item::Null => "null",
        Item::Bool(_) => "true or false",
        Item::I64(_) | Item::U64(_) => "a whole number",
        Item::F32(_) | Item::F64(_) | Item::Number(_) => "a fraction",
        Item::Decimal { .. } => "a decimal",
        Item::Str(_) => "text",
        Item::Bytes(_) => "bytes",
        Item::Uuid(_) => "a UUID",
        Item::Date(_) => "a date",
        Item::Time { .. } => "a time",
        Item::Timestamp { .. } => "a timestamp",
        Item::Duration { .. } => "a duration",
        Item::Parts(Composite::Struct, _) => "an object",
        Item::Parts(Composite::Map, _) => "a map",
        Item::Parts(Composite::List, _) => "a list",
    })
}

fn text<'a>(item: &Item<'a>) -> Result<&'a str, Problem> {
    match item {
        Item::Str(text) => std::str::from_utf8(text).map_err(|_| Problem::Damaged),
        _ => Err(kind_of(item)),
    }
}

#[inline]
fn parse(text: &[u8]) -> Result<f64, Problem> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Problem::Spelling)
}

fn whole(item: &Item<'_>) -> Result<i64, Problem> {
    match item {
        Item::I64(number) => Ok(*number),
        Item::U64(number) => i64::try_from(*number).map_err(|_| Problem::Range),
        // `1.0` and `1e3`: whole numbers, as some producers spell them.
        Item::Number(text) => {
            let number = Wide::from_text(text, 0).and_then(Wide::to_i128);
            number.and_then(|number| i64::try_from(number).ok()).ok_or(Problem::Range)
        }
        _ => Err(kind_of(item)),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a fraction is what the column holds; the widening is declared or documented"
)]
fn double(item: &Item<'_>) -> Result<f64, Problem> {
    match item {
        Item::F64(number) => Ok(*number),
        Item::F32(number) => Ok(f64::from(*number)),
        Item::I64(number) => Ok(*number as f64),
        Item::U64(number) => Ok(*number as f64),
        Item::Number(text) => parse(text),
        Item::Str(b"NaN") => Ok(f64::NAN),
        Item::Str(b"Infinity") => Ok(f64::INFINITY),
        Item::Str(b"-Infinity") => Ok(f64::NEG_INFINITY),
        _ => Err(kind_of(item)),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounded to what the column holds, never to infinity")]
fn float(item: &Item<'_>) -> Result<f32, Problem> {
    if let Item::F32(number) = item {
        return Ok(*number);
    }
    let number = double(item)?;
    let rounded = number as f32;
    if number.is_finite() && !rounded.is_finite() { Err(Problem::Range) } else { Ok(rounded) }
}

fn decimal(item: &Item<'_>, scale: u32) -> Result<Wide, Problem> {
    let number = match item {
        Item::Decimal { scale: from, unscaled } => {
            Wide::from_be_bytes(unscaled).and_then(|number| number.rescale(*from, scale))
        }
        Item::I64(number) => Wide::from_i64(*number).rescale(0, scale),
        Item::U64(number) => Wide::from_u64(*number).rescale(0, scale),
        Item::Number(text) => Wide::from_text(text, scale),
        Item::Str(text) => return Wide::from_text(text, scale).ok_or(Problem::Spelling),
        _ => return Err(kind_of(item)),
    };
    number.ok_or(Problem::Range)
}

enum Given<'a> {
    Borrowed(&'a [u8]),
    Decoded(Vec<u8>),
}

fn bytes<'a>(item: &Item<'a>) -> Result<Given<'a>, Problem> {
    match item {
        Item::Bytes(bytes) => Ok(Given::Borrowed(bytes)),
        Item::Str(text) => STANDARD.decode(text).map(Given::Decoded).map_err(|_| Problem::Spelling),
        _ => Err(kind_of(item)),
    }
}

fn uuid(item: &Item<'_>) -> Result<[u8; 16], Problem> {
    match item {
        Item::Uuid(bytes) => Ok(**bytes),
        Item::Bytes(bytes) => (*bytes).try_into().map_err(|_| Problem::Range),
        Item::Str(text) => spelled_uuid(text).ok_or(Problem::Spelling),
        _ => Err(kind_of(item)),
    }
}

/// `6ba7b810-9dad-11d1-80b4-00c04fd430c8`
fn spelled_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    if text.len() != 36 || text.iter().enumerate().any(|(at, byte)| (*byte == b'-') != hyphen(at)) {
        return None;
    }
    let mut digits = text.iter().filter(|byte| **byte != b'-');
    let mut digit = || char::from(*digits.next()?).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        *byte = digit()? << 4 | digit()?;
    }
    Some(bytes)
}

fn date(item: &Item<'_>) -> Result<i32, Problem> {
    match item {
        Item::Date(days) => Ok(*days),
        Item::I64(days) => i32::try_from(*days).map_err(|_| Problem::Range),
        _ => {
            let pieces = pieces(text(item)?)?;
            if pieces.time().is_some() {
                return Err(Problem::Spelling);
            }
            let date = pieces.date();
            let epoch = civil::Date::constant(1970, 1, 1);
            let days = date.duration_since(epoch).as_hours() / 24;
            i32::try_from(days).map_err(|_| Problem::Range)
        }
    }
}

/// A date, perhaps with a time. Where a column has no offset, one in the text would be lost.
fn pieces(text: &str) -> Result<Pieces<'_>, Problem> {
    let pieces = Pieces::parse(text).map_err(|_| Problem::Spelling)?;
    if pieces.offset().is_some() || pieces.time_zone_annotation().is_some() {
        return Err(Problem::Spelling);
    }
    Ok(pieces)
}

fn time(item: &Item<'_>, unit: TimeUnit) -> Result<i64, Problem> {
    match item {
        Item::Time { count, unit: from } => convert(*count, *from, unit),
        Item::I64(count) => Ok(*count),
        _ => {
            let text = text(item)?;
            // What a date, an offset or a zone before or after it would need.
            let digits = text.strip_prefix(['T', 't']).unwrap_or(text);
            if !digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b',')) {
                return Err(Problem::Spelling);
            }
            let time: civil::Time = text.parse().map_err(|_| Problem::Spelling)?;
            let nanos = time.duration_since(civil::Time::midnight()).as_nanos();
            nanos_in(nanos, unit)
        }
    }
}

fn timestamp(item: &Item<'_>, unit: TimeUnit, utc: bool) -> Result<i64, Problem> {
    match item {
        Item::Timestamp { count, unit: from, utc: zone } if *zone == utc => convert(*count, *from, unit),
        Item::I64(count) => Ok(*count),
        Item::Str(_) if utc => {
            let at = TimeText::parse(text(item)?).filter(|at| at.utc).ok_or(Problem::Spelling)?;
            nanos_in(at.nanos, unit)
        }
        Item::Str(_) => {
            let pieces = pieces(text(item)?)?;
            let at = pieces.date().to_datetime(pieces.time().unwrap_or(civil::Time::midnight()));
            let epoch = civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
            nanos_in(at.duration_since(epoch).as_nanos(), unit)
        }
        _ => Err(kind_of(item)),
    }
}

/// Exactly, or not at all.
fn nanos_in(nanos: i128, unit: TimeUnit) -> Result<i64, Problem> {
    let divisor = i128::from(1_000_000_000 / unit.per_second());
    if nanos % divisor != 0 {
        return Err(Problem::Range);
    }
    i64::try_from(nanos / divisor).map_err(|_| Problem::Range)
}

fn convert(count: i64, from: TimeUnit, to: TimeUnit) -> Result<i64, Problem> {
    if from == to {
        return Ok(count);
    }
    nanos_in(i128::from(count) * i128::from(1_000_000_000 / from.per_second()), to)
}
