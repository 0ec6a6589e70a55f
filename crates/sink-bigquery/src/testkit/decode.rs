//! Rows as the service reads them: any message type the writer describes, against the table's columns.
//!
//! Which type may stand for which column, and in which form, is said in
//! <https://cloud.google.com/bigquery/docs/supported-data-types>. Of the choices listed there the fake takes those that the
//! service prefers and refuses the others, so that a test sees when the sink leaves them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor,
    ReflectMessage as _, Value as Reflected,
};
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use serde_json::{Map, Value};

use crate::schema::{Field, FieldType, Mode, range_fields};

/// Why no row of a request can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The message has a field that the table lacks.
    ExtraField(String),
    /// It makes no sense.
    Invalid(String),
}

/// The type that the writer describes. "The descriptor must be self-contained"
/// (<https://cloud.google.com/bigquery/docs/write-api>): it is looked at alone, in a file of its own.
pub(super) fn message(descriptor: &DescriptorProto) -> Result<MessageDescriptor, Unfit> {
    let name = descriptor.name().to_owned();
    let file = FileDescriptorProto {
        name: Some("writer.proto".to_owned()),
        syntax: Some("proto2".to_owned()),
        message_type: vec![descriptor.clone()],
        ..FileDescriptorProto::default()
    };
    let pool = DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file: vec![file] });
    let pool = pool.map_err(|error| Unfit::Invalid(format!("the descriptor is not sound: {error}")))?;
    pool.get_message_by_name(&name).ok_or_else(|| Unfit::Invalid(format!("there is no message {name:?}")))
}

/// Whether messages of this type can be rows of these columns.
pub(super) fn check(message: &MessageDescriptor, columns: &[Field]) -> Result<(), Unfit> {
    for field in message.fields() {
        let Some(column) = find(columns, field.name()) else {
            return Err(Unfit::ExtraField(field.name().to_owned()));
        };
        let invalid = || Unfit::Invalid(format!("field {} cannot be written to its column", field.name()));
        if (field.cardinality() == Cardinality::Repeated) != (column.mode == Mode::Repeated) {
            return Err(invalid());
        }
        match (&column.kind, field.kind()) {
            (FieldType::Record(columns), Kind::Message(inner)) => check(&inner, columns)?,
            (FieldType::Range(of), Kind::Message(inner)) => check(&inner, &range_fields(of.element()))?,
            (kind, wire) if fits(kind, &wire) => {}
            _ => return Err(invalid()),
        }
    }
    Ok(())
}

/// Names of columns do not differ by case (<https://cloud.google.com/bigquery/docs/schemas#column_names>).
fn find<'c>(columns: &'c [Field], name: &str) -> Option<&'c Field> {
    columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
}

fn fits(column: &FieldType, wire: &Kind) -> bool {
    match column {
        FieldType::Int64 | FieldType::Timestamp => matches!(wire, Kind::Int64),
        FieldType::Date => matches!(wire, Kind::Int32),
        FieldType::Float64 => matches!(wire, Kind::Double),
        FieldType::Bool => matches!(wire, Kind::Bool),
        FieldType::Bytes => matches!(wire, Kind::Bytes),
        FieldType::Record(_) | FieldType::Range(_) => false,
        _ => matches!(wire, Kind::String),
    }
}

/// One row; the error says what is wrong with it, by the field's name.
pub(super) fn row(message: &MessageDescriptor, columns: &[Field], bytes: &[u8]) -> Result<Value, String> {
    let row = DynamicMessage::decode(message.clone(), bytes).map_err(|error| error.to_string())?;
    // "Unknown fields" are those that the writer's own descriptor does not have.
    if row.unknown_fields().next().is_some() {
        return Err("the row has fields that its descriptor does not have".to_owned());
    }
    record(&row, columns)
}

fn record(row: &DynamicMessage, columns: &[Field]) -> Result<Value, String> {
    let mut object = Map::new();
    for column in columns {
        let field = row.descriptor().fields().find(|field| field.name().eq_ignore_ascii_case(&column.name));
        let value =
            field.filter(|field| row.has_field(field)).map(|field| value(row, &field, column)).transpose()?;
        match (value, column.mode) {
            (Some(value), _) => {
                object.insert(column.name.clone(), value);
            }
            (None, Mode::Required) => return Err(format!("field {} is required and missing", column.name)),
            (None, Mode::Nullable | Mode::Repeated) => {}
        }
    }
    Ok(Value::Object(object))
}

fn value(row: &DynamicMessage, field: &FieldDescriptor, column: &Field) -> Result<Value, String> {
    match row.get_field(field).as_ref() {
        Reflected::List(elements) => elements
            .iter()
            .map(|element| single(element, column))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
        other => single(other, column),
    }
}

fn single(value: &Reflected, column: &Field) -> Result<Value, String> {
    let wrong = || Err(format!("the value of field {} is not one of its type", column.name));
    let within = |length: usize| column.max_length.is_none_or(|max| length as u64 <= max);
    match (&column.kind, value) {
        (FieldType::Record(columns), Reflected::Message(inner)) => record(inner, columns),
        (FieldType::Range(of), Reflected::Message(inner)) => record(inner, &range_fields(of.element())),
        (FieldType::Int64, Reflected::I64(number)) => Ok((*number).into()),
        (FieldType::Timestamp, Reflected::I64(micros)) => {
            // 0001-01-01 00:00:00 to 9999-12-31 23:59:59.999999 UTC.
            if !(-62_135_596_800_000_000..=253_402_300_799_999_999).contains(micros) {
                return wrong();
            }
            Ok((*micros).into())
        }
        (FieldType::Date, Reflected::I32(days)) => {
            if !(-719_162..=2_932_896).contains(days) {
                return wrong();
            }
            Ok((*days).into())
        }
        (FieldType::Float64, Reflected::F64(number)) => {
            Ok(serde_json::Number::from_f64(*number).map_or_else(|| number.to_string().into(), Value::Number))
        }
        (FieldType::Bool, Reflected::Bool(truth)) => Ok((*truth).into()),
        (FieldType::Bytes, Reflected::Bytes(bytes)) if within(bytes.len()) => {
            Ok(STANDARD.encode(bytes).into())
        }
        (FieldType::String, Reflected::String(text)) if within(text.chars().count()) => {
            Ok(text.as_str().into())
        }
        (kind, Reflected::String(text)) if literal(kind, column, text) => Ok(text.as_str().into()),
        _ => wrong(),
    }
}

/// Whether the text is what a column of this type reads, in the strict form of the SQL literals.
pub(super) fn literal(kind: &FieldType, column: &Field, text: &str) -> bool {
    match kind {
        FieldType::Json => serde_json::from_str::<Value>(text).is_ok(),
        FieldType::Geography | FieldType::Interval => !text.is_empty(),
        FieldType::Time => is_time(text),
        FieldType::DateTime => {
            text.len() >= 19
                && text.as_bytes().get(10) == Some(&b' ')
                && text.get(..10).is_some_and(|date| date.parse::<jiff::civil::Date>().is_ok())
                && text.get(11..).is_some_and(is_time)
        }
        FieldType::Numeric => decimal(text, column.precision.unwrap_or((38, 9)), 38),
        FieldType::BigNumeric => decimal(text, column.precision.unwrap_or((77, 38)), 77),
        _ => false,
    }
}

fn is_time(text: &str) -> bool {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    clock.len() == 8
        && fraction.len() <= 6
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
        && clock.parse::<jiff::civil::Time>().is_ok()
}

fn decimal(text: &str, (precision, scale): (u64, u64), most: u64) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let whole = whole.trim_start_matches('0');
    all_digits(whole)
        && all_digits(fraction)
        && !digits.is_empty()
        && fraction.len() as u64 <= scale
        && whole.len() as u64 <= precision.min(most) - scale
}
