//! Scalars of Protobuf, and the messages that are read as scalars.

use std::borrow::Cow;

use aqueduct_core::{FieldValue, Poison, PoisonReason};

use super::plan::{Member, Message, Names, Scalar};
use super::walk::{last as last_of, micros, places_of, seconds, unfit};
use super::wire::{Wire, WireType, malformed};
use crate::owned::into_static;

/// How one value of the kind is encoded.
pub(super) fn wire_type(kind: &Scalar) -> WireType {
    match kind {
        Scalar::Double | Scalar::Fixed64 | Scalar::Sfixed64 => WireType::Fixed64,
        Scalar::Float | Scalar::Fixed32 | Scalar::Sfixed32 => WireType::Fixed32,
        Scalar::String | Scalar::Bytes | Scalar::Message(_) => WireType::Length,
        Scalar::Group(_) => WireType::Group,
        _ => WireType::Varint,
    }
}

/// Whether several may stand in one field.
pub(super) fn packs(kind: &Scalar) -> bool {
    matches!(wire_type(kind), WireType::Varint | WireType::Fixed32 | WireType::Fixed64)
}

/// The value that `content` holds.
pub(super) fn one<'b>(member: &Member, wire: WireType, content: &'b [u8]) -> Result<FieldValue<'b>, Poison> {
    if wire != wire_type(&member.kind) {
        return Err(unfit(member));
    }
    match member.kind {
        Scalar::String => match std::str::from_utf8(content) {
            Ok(text) => Ok(FieldValue::Str(Cow::Borrowed(text))),
            Err(_) => Err(malformed(&format!("the field {} is not utf-8", member.name))),
        },
        Scalar::Bytes => Ok(FieldValue::Bytes(Cow::Borrowed(content))),
        Scalar::Enum(ref names) => {
            Ok(FieldValue::Str(Cow::Owned(name(names, Wire::new(content).varint()?).into_owned())))
        }
        _ => read(&member.kind, &mut Wire::new(content))
            .map(|value| into_static(value).unwrap_or(FieldValue::Null)),
    }
}

/// The next number, truth value or name.
pub(super) fn read<'p>(kind: &'p Scalar, wire: &mut Wire<'_>) -> Result<FieldValue<'p>, Poison> {
    Ok(match kind {
        Scalar::Double => FieldValue::F64(f64::from_le_bytes(wire.array()?)),
        Scalar::Float => FieldValue::F32(f32::from_le_bytes(wire.array()?)),
        Scalar::Int32 => FieldValue::I64(low(wire.varint()?).cast_signed().into()),
        Scalar::Int64 => FieldValue::I64(wire.varint()?.cast_signed()),
        Scalar::Uint32 => FieldValue::I64(low(wire.varint()?).into()),
        Scalar::Uint64 => unsigned(wire.varint()?),
        Scalar::Sint32 => {
            let number = low(wire.varint()?);
            FieldValue::I64(((number >> 1).cast_signed() ^ -(number & 1).cast_signed()).into())
        }
        Scalar::Sint64 => {
            let number = wire.varint()?;
            FieldValue::I64((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
        }
        Scalar::Fixed32 => FieldValue::I64(u32::from_le_bytes(wire.array()?).into()),
        Scalar::Fixed64 => unsigned(u64::from_le_bytes(wire.array()?)),
        Scalar::Sfixed32 => FieldValue::I64(i32::from_le_bytes(wire.array()?).into()),
        Scalar::Sfixed64 => FieldValue::I64(i64::from_le_bytes(wire.array()?)),
        Scalar::Bool => FieldValue::Bool(wire.varint()? != 0),
        Scalar::Enum(names) => FieldValue::Str(name(names, wire.varint()?)),
        Scalar::String | Scalar::Bytes | Scalar::Message(_) | Scalar::Group(_) => {
            return Err(malformed("a list of texts or messages is packed"));
        }
    })
}

/// What a field is that is not there.
pub(super) fn default(kind: &Scalar) -> FieldValue<'_> {
    match kind {
        Scalar::Double => FieldValue::F64(0.0),
        Scalar::Float => FieldValue::F32(0.0),
        Scalar::Bool => FieldValue::Bool(false),
        Scalar::String => FieldValue::Str(Cow::Borrowed("")),
        Scalar::Bytes => FieldValue::Bytes(Cow::Borrowed(&[])),
        Scalar::Enum(names) => FieldValue::Str(by_number(names, names.default)),
        Scalar::Message(_) | Scalar::Group(_) => FieldValue::Null,
        _ => FieldValue::I64(0),
    }
}

/// One scalar field of a message; `None` if it is not there.
pub(super) fn of_field<'b>(
    message: &Message,
    index: usize,
    member: &Member,
    bytes: &'b [u8],
) -> Result<Option<FieldValue<'b>>, Poison> {
    let places = places_of(message, index, bytes)?;
    last_of(&places, bytes).map(|(wire, content)| one(member, wire, content)).transpose()
}

/// The key of a map's entry as text.
pub(super) fn key<'b>(entry: &Message, bytes: &'b [u8]) -> Result<Cow<'b, str>, Poison> {
    let key = entry.index_of(1).and_then(|index| Some((index, entry.members.get(index)?)));
    let Some((index, member)) = key else { return Err(malformed("a map has no keys")) };
    // Of several the last counts.
    let (mut found, mut wire) = (None, Wire::new(bytes));
    while !wire.is_done() {
        let raw = wire.field()?;
        if entry.index_of(raw.number) == Some(index) {
            found = Some(one(member, raw.wire, bytes.get(raw.start..raw.end).unwrap_or_default())?);
        }
    }
    Ok(match found {
        Some(FieldValue::Str(text)) => text,
        Some(FieldValue::I64(number)) => Cow::Owned(number.to_string()),
        Some(FieldValue::U64(number)) => Cow::Owned(number.to_string()),
        Some(FieldValue::Bool(truth)) => Cow::Owned(truth.to_string()),
        _ => Cow::Borrowed(match member.kind {
            Scalar::String => "",
            Scalar::Bool => "false",
            _ => "0",
        }),
    })
}

/// The fields of a `Timestamp` or a `Duration`; what is not there is zero.
pub(super) fn seconds_and_nanos(bytes: &[u8]) -> Result<(i64, i32), Poison> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut wire = Wire::new(bytes);
    while !wire.is_done() {
        let raw = wire.field()?;
        let content = bytes.get(raw.start..raw.end).unwrap_or_default();
        match (raw.number, raw.wire) {
            (1, WireType::Varint) => seconds = Wire::new(content).varint()?.cast_signed(),
            (2, WireType::Varint) => nanos = low(Wire::new(content).varint()?).cast_signed(),
            (1 | 2, _) => return Err(malformed("a time is encoded as something else than numbers")),
            _ => {}
        }
    }
    Ok((seconds, nanos))
}

/// A moment of the years 1 to 9999, cut at the microsecond.
pub(super) fn timestamp(at: i64, nanos: i32) -> Result<FieldValue<'static>, Poison> {
    let is_time = (-62_135_596_800..=253_402_300_799).contains(&at) && (0..1_000_000_000).contains(&nanos);
    if !is_time {
        return Err(Poison::new(PoisonReason::InvalidField, "a timestamp is outside of the years 1 to 9999"));
    }
    Ok(micros(at * 1_000_000 + i64::from(nanos / 1_000)))
}

/// Seconds, exactly.
pub(super) fn duration(span: i64, nanos: i32) -> Result<FieldValue<'static>, Poison> {
    let is_span = (-315_576_000_000..=315_576_000_000).contains(&span)
        && (-999_999_999..=999_999_999).contains(&nanos)
        && (span == 0 || nanos == 0 || (span < 0) == (nanos < 0));
    if !is_span {
        return Err(Poison::new(PoisonReason::InvalidField, "a duration is out of range"));
    }
    Ok(seconds(i128::from(span) * 1_000_000_000 + i128::from(nanos)))
}

fn unsigned(number: u64) -> FieldValue<'static> {
    i64::try_from(number).map_or(FieldValue::U64(number), FieldValue::I64)
}

/// The low 32 bits: negative numbers of 32 bits are written with 64.
fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default()
}

fn name(names: &Names, number: u64) -> Cow<'_, str> {
    by_number(names, low(number).cast_signed())
}

fn by_number(names: &Names, number: i32) -> Cow<'_, str> {
    names.by_number.get(&number).map_or_else(|| Cow::Owned(number.to_string()), |name| Cow::Borrowed(&**name))
}
