//! Scalars out of JSON text.

use std::borrow::Cow;

use aqueduct_core::{Decimal, FieldValue, TimeText, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::{Date, Time};

use super::Kind;
use crate::json::lookup::{unescape, whole_number};

/// The text is something else.
pub(super) struct Unfit;

/// What `text`, one JSON scalar other than null, is as a `kind`.
pub(super) fn read<'t>(kind: &Kind, text: &'t [u8]) -> Result<FieldValue<'t>, Unfit> {
    match kind {
        Kind::Bool => match text {
            b"true" => Ok(FieldValue::Bool(true)),
            b"false" => Ok(FieldValue::Bool(false)),
            _ => Err(Unfit),
        },
        Kind::Whole { min, max } => Ok(FieldValue::I64(whole(text, *min, *max)?)),
        #[expect(clippy::cast_possible_truncation, reason = "rounding is what a float of 32 bits means")]
        Kind::F32 => Ok(FieldValue::F32(float(text)? as f32)),
        Kind::F64 => Ok(FieldValue::F64(float(text)?)),
        Kind::Decimal { scale } => decimal(text, *scale).map(FieldValue::Decimal),
        Kind::Str => Ok(FieldValue::Str(string(text)?)),
        Kind::Enum(names) => {
            let name = string(text)?;
            if names.iter().any(|it| **it == *name) { Ok(FieldValue::Str(name)) } else { Err(Unfit) }
        }
        Kind::Bytes => Ok(FieldValue::Bytes(Cow::Owned(bytes(text)?))),
        Kind::Uuid => uuid(&string(text)?).map(FieldValue::Uuid),
        Kind::Days => {
            let days = whole(text, i32::MIN.into(), i32::MAX.into())?;
            Ok(FieldValue::Date(i32::try_from(days).map_err(|_| Unfit)?))
        }
        Kind::MillisOfDay => {
            let count = whole(text, 0, 86_399_999)?;
            Ok(FieldValue::Time { count, unit: TimeUnit::Millis })
        }
        Kind::Millis => {
            let count = whole(text, i64::MIN, i64::MAX)?;
            Ok(FieldValue::Timestamp { count, unit: TimeUnit::Millis, utc: true })
        }
        Kind::DateText => {
            let date: Date = string(text)?.parse().map_err(|_| Unfit)?;
            let days = date.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24;
            Ok(FieldValue::Date(i32::try_from(days).map_err(|_| Unfit)?))
        }
        Kind::TimeText => time(&string(text)?),
        Kind::TimestampText => {
            let time = TimeText::parse(&string(text)?).filter(|time| time.utc).ok_or(Unfit)?;
            let count = i64::try_from(time.nanos.div_euclid(1_000)).map_err(|_| Unfit)?;
            Ok(FieldValue::Timestamp { count, unit: TimeUnit::Micros, utc: true })
        }
        Kind::Json | Kind::List(_) | Kind::Map(_) | Kind::Pairs { .. } | Kind::Struct(_) => Err(Unfit),
    }
}

/// What stands between the quotes.
pub(super) fn string(text: &[u8]) -> Result<Cow<'_, str>, Unfit> {
    let [b'"', inner @ .., b'"'] = text else { return Err(Unfit) };
    if inner.contains(&b'\\') {
        unescape(inner).map(Cow::Owned).ok_or(Unfit)
    } else {
        std::str::from_utf8(inner).map(Cow::Borrowed).map_err(|_| Unfit)
    }
}

fn number(text: &[u8]) -> Result<&str, Unfit> {
    match text.first() {
        Some(b'-' | b'0'..=b'9') => std::str::from_utf8(text).map_err(|_| Unfit),
        _ => Err(Unfit),
    }
}

/// Also `1.0` and `1e3`, which are whole.
fn whole(text: &[u8], min: i64, max: i64) -> Result<i64, Unfit> {
    let text = number(text)?;
    let whole = match whole_number(text) {
        Some(FieldValue::I64(whole)) => whole,
        Some(_) => return Err(Unfit),
        None => {
            let float: f64 = text.parse().map_err(|_| Unfit)?;
            // Beyond that the text may have said another number.
            if float.fract() != 0.0 || float.abs() > 9_007_199_254_740_992.0 {
                return Err(Unfit);
            }
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            let whole = float as i64;
            whole
        }
    };
    if (min..=max).contains(&whole) { Ok(whole) } else { Err(Unfit) }
}

fn float(text: &[u8]) -> Result<f64, Unfit> {
    match text {
        b"\"NaN\"" => Ok(f64::NAN),
        b"\"Infinity\"" => Ok(f64::INFINITY),
        b"\"-Infinity\"" => Ok(f64::NEG_INFINITY),
        // The nearest float, which `serde_json` does not promise.
        _ => number(text)?.parse().map_err(|_| Unfit),
    }
}

fn bytes(text: &[u8]) -> Result<Vec<u8>, Unfit> {
    STANDARD.decode(&*string(text)?).map_err(|_| Unfit)
}

/// A number with at most `scale` digits behind its point, or base64.
fn decimal(text: &[u8], scale: u32) -> Result<Decimal<'static>, Unfit> {
    if text.first() == Some(&b'"') {
        let unscaled = bytes(text)?;
        return if unscaled.len() <= UNSCALED_MAX { Ok(Decimal::new(unscaled, scale)) } else { Err(Unfit) };
    }
    let text = number(text)?;
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().map_err(|_| Unfit)?;
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let behind = if exponent == 0 { behind.trim_end_matches('0') } else { behind };
    let digits = format!("{before}{behind}");
    let mut unscaled: i128 = digits.parse().map_err(|_| Unfit)?;
    let behind = i64::try_from(behind.len()).map_err(|_| Unfit)?;
    let mut shift = i64::from(scale) + i64::from(exponent) - behind;
    while shift > 0 && unscaled != 0 {
        unscaled = unscaled.checked_mul(10).ok_or(Unfit)?;
        shift -= 1;
    }
    while shift < 0 && unscaled != 0 {
        if unscaled % 10 != 0 {
            return Err(Unfit);
        }
        unscaled /= 10;
        shift += 1;
    }
    Ok(Decimal::from_i128(unscaled, scale))
}

fn uuid(text: &str) -> Result<[u8; 16], Unfit> {
    let bytes = text.as_bytes();
    let hyphens = [8, 13, 18, 23];
    if bytes.len() != 36 || hyphens.iter().any(|at| bytes.get(*at) != Some(&b'-')) {
        return Err(Unfit);
    }
    let mut digits = bytes.iter().enumerate().filter(|(at, _)| !hyphens.contains(at)).map(|(_, digit)| digit);
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        for digit in digits.by_ref().take(2) {
            let digit = char::from(*digit).to_digit(16).and_then(|it| u8::try_from(it).ok()).ok_or(Unfit)?;
            *byte = *byte << 4 | digit;
        }
    }
    Ok(uuid)
}

/// A time of day, with the zone it may name taken off: a column of times has none.
fn time(text: &str) -> Result<FieldValue<'static>, Unfit> {
    let zone = text.rfind(['Z', 'z', '+', '-']).unwrap_or(text.len());
    let (clock, zone) = text.split_at_checked(zone).ok_or(Unfit)?;
    let clock: Time = clock.parse().map_err(|_| Unfit)?;
    let since = i64::try_from(clock.duration_since(Time::midnight()).as_micros()).map_err(|_| Unfit)?;
    let offset = match zone.as_bytes() {
        [] | [b'Z' | b'z'] => 0,
        [sign, a, b, b':', c, d] => {
            let digit = |it: &u8| char::from(*it).to_digit(10).ok_or(Unfit);
            let minutes = (digit(a)? * 10 + digit(b)?) * 60 + digit(c)? * 10 + digit(d)?;
            i64::from(minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return Err(Unfit),
    };
    let micros = since - offset * 60_000_000;
    Ok(FieldValue::Time { count: micros.rem_euclid(86_400_000_000), unit: TimeUnit::Micros })
}

/// Bytes of a decimal's unscaled number. Writing one as digits takes time that grows with the square of its length.
const UNSCALED_MAX: usize = 64;
