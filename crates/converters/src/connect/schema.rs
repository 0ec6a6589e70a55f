//! Connect's schemas as JSON spells them.

use std::collections::HashMap;

use aqueduct_core::{DataType, Field, Poison, PoisonReason, Schema, TimeUnit};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::JsonValue;
use crate::shape::{self, Kind, Members, Pairs, Parsed, Shape};
use crate::unfold::Unfold;

#[derive(Deserialize)]
struct Text {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    optional: bool,
    name: Option<String>,
    version: Option<u32>,
    doc: Option<String>,
    /// The name of a member of a struct.
    field: Option<String>,
    fields: Option<Vec<Text>>,
    items: Option<Box<Text>>,
    keys: Option<Box<Text>>,
    values: Option<Box<Text>>,
    parameters: Option<HashMap<String, String>>,
    default: Option<Box<RawValue>>,
}

/// Reads a schema; an error says what is wrong with it.
pub(super) fn parse(text: &[u8]) -> Result<Parsed, Poison> {
    if text.len() > SCHEMA_MAX {
        let text = format!("the schema has {} bytes, the limit is {SCHEMA_MAX}", text.len());
        return Err(Poison::new(PoisonReason::TooLarge, text));
    }
    let mut unfold = Unfold::of(text.len());
    let text: Text = serde_json::from_slice(text).map_err(|error| {
        refused(&format!("its json is no schema of connect, noticed at column {}", error.column()))
    })?;
    let (shape, field) = read(&text, "", &mut unfold)?;
    let mut schema = Schema::of_root(field);
    if let Some(name) = &text.name {
        schema = schema.with_name(name);
    }
    if let Some(version) = text.version {
        schema = schema.with_version(version);
    }
    Ok(Parsed { shape, schema: schema.into() })
}

fn read(text: &Text, name: &str, unfold: &mut Unfold) -> Result<(Shape, Field), Poison> {
    let (kind, data_type) = kind(text, unfold)?;
    let mut shape = Shape::new(kind);
    shape.nullable = text.optional;
    let mut field = Field::new(name, data_type);
    if text.optional {
        field = field.nullable();
    }
    if let Some(doc) = &text.doc {
        field = field.with_doc(doc);
    }
    if let Some(default) = text.default.as_deref().filter(|default| default.get() != "null") {
        // On one line and known to fit, as the payload is.
        let checked =
            JsonValue::parse(default.get().to_owned().into()).map_err(|_| refused("a default is damaged"))?;
        shape::check_default(&shape, checked.as_bytes(), unfold)
            .map_err(|poison| refused(&format!("the default of {name:?}: {}", poison.detail())))?;
        shape.default = Some(String::from_utf8_lossy(checked.as_bytes()).into());
        if let Some(literal) = shape.literal() {
            field = field.with_default(literal);
        }
    }
    Ok((shape, field))
}

fn kind(text: &Text, unfold: &mut Unfold) -> Result<(Kind, DataType), Poison> {
    let whole = |min: i64, max: i64| Kind::Whole { min, max };
    let logical = text.name.as_deref().and_then(|name| name.strip_prefix("org.apache.kafka.connect.data."));
    Ok(match (text.kind.as_str(), logical) {
        ("bytes", Some("Decimal")) => {
            let parameter =
                |name: &str| text.parameters.as_ref().and_then(|it| it.get(name)).map(|it| it.parse::<u32>());
            let Some(Ok(scale @ 0..=SCALE_MAX)) = parameter("scale") else {
                return Err(refused("a decimal needs the parameter \"scale\", from 0 to 76"));
            };
            let precision = match parameter("connect.decimal.precision") {
                Some(Ok(precision)) if precision >= scale => precision,
                _ => PRECISION.max(scale),
            };
            (Kind::Decimal { scale }, DataType::Decimal { precision, scale })
        }
        ("int32", Some("Date")) => (Kind::Days, DataType::Date),
        ("int32", Some("Time")) => (Kind::MillisOfDay, DataType::Time(TimeUnit::Millis)),
        ("int64", Some("Timestamp")) => {
            (Kind::Millis, DataType::Timestamp { unit: TimeUnit::Millis, utc: true })
        }
        ("boolean", _) => (Kind::Bool, DataType::Bool),
        ("int8", _) => (whole(i8::MIN.into(), i8::MAX.into()), DataType::Int8),
        ("int16", _) => (whole(i16::MIN.into(), i16::MAX.into()), DataType::Int16),
        ("int32", _) => (whole(i32::MIN.into(), i32::MAX.into()), DataType::Int32),
        ("int64", _) => (whole(i64::MIN, i64::MAX), DataType::Int64),
        ("float" | "float32", _) => (Kind::F32, DataType::Float32),
        ("double" | "float64", _) => (Kind::F64, DataType::Float64),
        ("string", _) => (Kind::Str, DataType::String),
        ("bytes", _) => (Kind::Bytes, DataType::Bytes),
        ("array", _) => {
            let (shape, field) = read(part(text.items.as_deref(), "an array", "items")?, "", unfold)?;
            (Kind::List(Box::new(shape)), DataType::List(Box::new(field)))
        }
        ("map", _) => {
            let (value, field) = read(part(text.values.as_deref(), "a map", "values")?, "", unfold)?;
            let (key, _) = read(part(text.keys.as_deref(), "a map", "keys")?, "", unfold)?;
            let kind = match key {
                // As Kafka's converter has it: an object if the keys are text that may not be null.
                Shape { kind: Kind::Str, nullable: false, .. } => Kind::Map(Box::new(value)),
                Shape {
                    kind: Kind::List(_) | Kind::Map(_) | Kind::Pairs { .. } | Kind::Struct(_), ..
                } => {
                    return Err(refused("the keys of a map are no scalars"));
                }
                key => Kind::Pairs { key: Box::new(key), value: Box::new(value), spelled: Pairs::Lists },
            };
            (kind, DataType::Map(Box::new(field)))
        }
        ("struct", _) => members(text.fields.as_deref().unwrap_or_default(), unfold)?,
        _ => return Err(refused("a type is none of connect's")),
    })
}

fn members(texts: &[Text], unfold: &mut Unfold) -> Result<(Kind, DataType), Poison> {
    let (mut members, mut fields) = (Vec::new(), Vec::new());
    for text in texts {
        let name = text.field.as_deref().ok_or_else(|| refused("a member of a struct has no \"field\""))?;
        let (shape, field) = read(text, name, unfold)?;
        members.push((name.into(), shape));
        fields.push(field);
    }
    let members = Members::new(members, false).ok_or_else(|| refused("a struct has a member twice"))?;
    Ok((Kind::Struct(members), DataType::Struct(fields)))
}

fn part<'a>(part: Option<&'a Text>, of: &str, name: &str) -> Result<&'a Text, Poison> {
    part.ok_or_else(|| refused(&format!("{of} has no {name:?}")))
}

#[cold]
fn refused(why: &str) -> Poison {
    Poison::new(PoisonReason::Malformed, format!("the record's schema cannot be used: {why}"))
}

/// Bytes of a schema.
pub(super) const SCHEMA_MAX: usize = 1 << 20;
/// Digits behind the point of a decimal, which are all written.
const SCALE_MAX: u32 = 76;
/// Digits of a decimal whose schema does not say: what columns hold.
const PRECISION: u32 = 38;
