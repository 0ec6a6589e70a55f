//! One value for one column.
//!
//! | column | takes |
//! | --- | --- |
//! | `STRING` | texts; numbers, truth values, UUIDs, days and times as their text; bytes as base64 |
//! | `BYTES` | bytes, UUIDs; texts as base64 |
//! | `INTEGER` | whole numbers, also spelled `1.0`, `1e3` or as a text |
//! | `FLOAT` | numbers; the texts `NaN`, `Infinity`, `-Infinity` |
//! | `BOOLEAN` | truth values; the texts `true` and `false` |
//! | `TIMESTAMP` | moments; RFC 3339; whole numbers in the unit configured |
//! | `DATE` | days; `2021-06-28`; whole numbers of days |
//! | `TIME`, `DATETIME` | times of day, moments; their literals |
//! | `NUMERIC`, `BIGNUMERIC` | decimals, numbers, texts; only with all their digits |
//! | `JSON` | anything |
//! | `GEOGRAPHY` | texts |
//! | `INTERVAL` | durations; texts |

use std::borrow::Cow;

use aqueduct_core::{Decimal, FieldValue, JsonText, TimeUnit, ValueVisitor as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::calendar;
use super::decimal::Plain;
use super::plan::FieldPlan;
use super::wire::{begin_delimited, end_delimited, put_bytes, put_int};
use crate::schema::FieldType;

/// Why a value cannot stand in its column.
pub(super) type Problem = &'static str;

const NOT_WHOLE: Problem = "is no whole number of 64 bits";
const NOT_OF_TYPE: Problem = "is of another kind than its column";
const TOO_MANY_DIGITS: Problem = "is a decimal of more digits than any column has";
const OUTSIDE: Problem = "is outside of BigQuery's calendar";

/// Appends the field's tag and `value`, which is not null. On an error, `out` may hold a part.
pub(super) fn put_scalar(
    field: &FieldPlan,
    value: &FieldValue<'_>,
    timestamps: TimeUnit,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    field.tag.put(out);
    match &field.kind {
        FieldType::Int64 => put_int(out, whole(value)?),
        FieldType::Bool => out.push(u8::from(truth(value)?)),
        FieldType::Float64 => out.extend_from_slice(&float(value)?.to_le_bytes()),
        FieldType::Timestamp => put_int(out, timestamp(value, timestamps)?),
        FieldType::Date => put_int(out, date(value)?),
        FieldType::Range(_) | FieldType::Record(_) => return Err("is no object, and its column is a RECORD"),
        FieldType::Bytes => {
            let bytes = bytes(value)?;
            within(field, bytes.len())?;
            put_bytes(out, &bytes);
        }
        FieldType::String | FieldType::Geography => match value {
            FieldValue::Str(text) => {
                if field.max_length.is_some() {
                    within(field, text.chars().count())?;
                }
                put_bytes(out, text.as_bytes());
            }
            _ if matches!(field.kind, FieldType::Geography) => return Err(NOT_OF_TYPE),
            other => {
                let start = begin_delimited(out);
                put_text(other, out)?;
                within(field, out.len() - start)?;
                end_delimited(out, start);
            }
        },
        FieldType::Json => {
            let start = begin_delimited(out);
            JsonText::new(out).scalar(value.clone()).map_err(|_| OUTSIDE)?;
            end_delimited(out, start);
        }
        FieldType::Time
        | FieldType::DateTime
        | FieldType::Numeric
        | FieldType::BigNumeric
        | FieldType::Interval => {
            let start = begin_delimited(out);
            put_literal(field, value, out)?;
            end_delimited(out, start);
        }
    }
    Ok(())
}

fn within(field: &FieldPlan, length: usize) -> Result<(), Problem> {
    match field.max_length {
        Some(max) if length as u64 > max => Err("is longer than its column"),
        _ => Ok(()),
    }
}

fn put_literal(field: &FieldPlan, value: &FieldValue<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    match (&field.kind, value) {
        (FieldType::Time, FieldValue::Time { count, unit }) => calendar::in_micros(*count, *unit)
            .and_then(|micros| calendar::put_time(out, micros))
            .ok_or(OUTSIDE),
        (FieldType::Time, FieldValue::Str(text)) => {
            let micros = calendar::parse_time(text).ok_or("is no time like 07:30:00.25")?;
            calendar::put_time(out, micros).ok_or(OUTSIDE)
        }
        (FieldType::DateTime, FieldValue::Timestamp { count, unit, .. }) => {
            calendar::in_micros(*count, *unit).and_then(|at| calendar::put_datetime(out, at)).ok_or(OUTSIDE)
        }
        (FieldType::DateTime, FieldValue::Str(text)) => {
            let at = calendar::parse_datetime(text)
                .ok_or("is no date and time like 2021-06-28T07:30:00 without a zone")?;
            calendar::put_datetime(out, at).ok_or(OUTSIDE)
        }
        (FieldType::Interval, FieldValue::Str(text)) => {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        (FieldType::Interval, FieldValue::Duration { months, days, millis }) => {
            let (seconds, rest) = (millis / 1000, millis % 1000);
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let (years, months) = (months / 12, months % 12);
            let text = format!("{years}-{months} {days} {hours}:{minutes}:{seconds}.{rest:03}");
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        (FieldType::Numeric | FieldType::BigNumeric, value) => {
            let plain = decimal(value)?;
            let (before, behind) = field.digits;
            // Without a precision of its own a BIGNUMERIC holds a little more than all numbers of 38 digits.
            let whole_type = matches!(field.kind, FieldType::BigNumeric) && (before, behind) == (38, 38);
            if !(plain.fits(before, behind) || whole_type && plain.fits_big()) {
                return Err("has more digits than its column");
            }
            plain.put(out);
            Ok(())
        }
        _ => Err(NOT_OF_TYPE),
    }
}

fn whole(value: &FieldValue<'_>) -> Result<i64, Problem> {
    match value {
        FieldValue::I64(number) => Ok(*number),
        FieldValue::Str(text) => Plain::parse(text).and_then(|plain| plain.to_i64()).ok_or(NOT_WHOLE),
        FieldValue::U64(_)
        | FieldValue::Number(_)
        | FieldValue::Decimal(_)
        | FieldValue::F32(_)
        | FieldValue::F64(_) => decimal(value)?.to_i64().ok_or(NOT_WHOLE),
        _ => Err(NOT_OF_TYPE),
    }
}

fn decimal(value: &FieldValue<'_>) -> Result<Plain, Problem> {
    let text: Cow<'_, str> = match value {
        FieldValue::I64(number) => number.to_string().into(),
        FieldValue::U64(number) => number.to_string().into(),
        // The shortest text that is this number and no other.
        FieldValue::F32(number) if number.is_finite() => number.to_string().into(),
        FieldValue::F64(number) if number.is_finite() => number.to_string().into(),
        FieldValue::Number(text) => (*text).into(),
        FieldValue::Decimal(number) => digits(number)?.into(),
        FieldValue::Str(text) => text.as_ref().into(),
        _ => return Err(NOT_OF_TYPE),
    };
    Plain::parse(&text).ok_or("is no decimal number, or has more digits than its column")
}

/// A producer's decimal as text; ten bytes may say that it has billions of digits.
fn digits(number: &Decimal<'_>) -> Result<String, Problem> {
    number.check_limits().map_err(|_| TOO_MANY_DIGITS)?;
    Ok(number.to_string())
}

fn float(value: &FieldValue<'_>) -> Result<f64, Problem> {
    #[expect(clippy::cast_precision_loss, reason = "a FLOAT has 53 bits; that is the column's type")]
    Ok(match value {
        FieldValue::F64(number) => *number,
        FieldValue::F32(number) => f64::from(*number),
        FieldValue::I64(number) => *number as f64,
        FieldValue::U64(number) => *number as f64,
        FieldValue::Number(text) => text.parse().map_err(|_| NOT_OF_TYPE)?,
        FieldValue::Decimal(number) => digits(number)?.parse().map_err(|_| NOT_OF_TYPE)?,
        FieldValue::Str(text) => match text.as_ref() {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => return Err(NOT_OF_TYPE),
        },
        _ => return Err(NOT_OF_TYPE),
    })
}

fn truth(value: &FieldValue<'_>) -> Result<bool, Problem> {
    match value {
        FieldValue::Bool(truth) => Ok(*truth),
        FieldValue::Str(text) if text == "true" => Ok(true),
        FieldValue::Str(text) if text == "false" => Ok(false),
        _ => Err(NOT_OF_TYPE),
    }
}

fn timestamp(value: &FieldValue<'_>, unit: TimeUnit) -> Result<i64, Problem> {
    let micros = match value {
        FieldValue::Timestamp { count, unit, .. } => calendar::in_micros(*count, *unit),
        FieldValue::I64(count) => calendar::in_micros(*count, unit),
        FieldValue::Str(text) => {
            return calendar::parse_timestamp(text).ok_or("is no moment like 2021-06-28T07:30:00.25Z");
        }
        _ => return Err(NOT_OF_TYPE),
    };
    micros.and_then(calendar::micros).ok_or(OUTSIDE)
}

fn date(value: &FieldValue<'_>) -> Result<i64, Problem> {
    match value {
        FieldValue::Date(days) => calendar::days(i64::from(*days)).ok_or(OUTSIDE),
        FieldValue::I64(days) => calendar::days(*days).ok_or(OUTSIDE),
        FieldValue::Str(text) => calendar::parse_date(text).ok_or("is no day like 2021-06-28"),
        _ => Err(NOT_OF_TYPE),
    }
}

fn bytes<'v>(value: &'v FieldValue<'_>) -> Result<Cow<'v, [u8]>, Problem> {
    match value {
        FieldValue::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        FieldValue::Uuid(bytes) => Ok(Cow::Borrowed(bytes)),
        FieldValue::Str(text) => STANDARD.decode(text.as_bytes()).map(Cow::Owned).map_err(|_| "is no base64"),
        _ => Err(NOT_OF_TYPE),
    }
}

/// The text of what is no text: as in JSON, without quotes. None of these kinds has characters that JSON escapes.
fn put_text(value: &FieldValue<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    if matches!(value, FieldValue::Composite | FieldValue::Null) {
        return Err(NOT_OF_TYPE);
    }
    let start = out.len();
    JsonText::new(out).scalar(value.clone()).map_err(|_| OUTSIDE)?;
    if out.get(start) == Some(&b'"') {
        out.remove(start);
        out.pop();
    }
    Ok(())
}
