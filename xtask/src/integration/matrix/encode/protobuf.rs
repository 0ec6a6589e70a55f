//! Protobuf by prost-reflect, from the text of a `.proto` file.

use std::collections::HashMap;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail};
use prost_reflect::prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use xtask::readers::{Cell, Unit};

use super::super::storage::as_json;

/// The message; what has no type of Protobuf's own is a number or text.
pub(super) const PROTO: &str = r#"syntax = "proto3";
package aqueduct.matrix;
import "google/protobuf/timestamp.proto";

message Event {
    int64 seq = 1;
    int32 partition = 2;
    bool flag = 3;
    sint32 small = 4;
    int64 big = 5;
    double ratio = 6;
    float single = 7;
    string amount = 8;
    optional string note = 9;
    bytes raw = 10;
    string id = 11;
    sint32 day = 12;
    sint64 clock = 13;
    google.protobuf.Timestamp at = 14;
    google.protobuf.Timestamp at_us = 15;
    sfixed64 local = 16;
    Color color = 17;
    Place place = 18;
    Maybe maybe = 19;
    repeated string tags = 20;
    map<string, int64> scores = 21;
    repeated Item items = 22;
    oneof choice {
        int64 number = 23;
        string text = 24;
        Item item = 25;
    }
}

message Place { string city = 1; Point at = 2; }
message Point { double lat = 1; double lon = 2; }
message Maybe { optional string why = 1; int64 level = 2; }
message Item { string sku = 1; int64 count = 2; }
enum Color { RED = 0; GREEN = 1; BLUE = 2; }
"#;

pub(super) const MESSAGE: &str = "aqueduct.matrix.Event";
const FILE: &str = "event.proto";

static COMPILED: LazyLock<Result<Vec<u8>, String>> =
    LazyLock::new(|| compile().map_err(|error| format!("{error:#}")));

/// The text as a `FileDescriptorSet` with what it imports.
pub(super) fn descriptor_set() -> Result<&'static [u8]> {
    COMPILED.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn compile() -> Result<Vec<u8>> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Only);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file(FILE)?;
    Ok(compiler.encode_file_descriptor_set())
}

/// There is one file.
struct Only;

impl FileResolver for Only {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == FILE { File::from_source(name, PROTO) } else { Err(protox::Error::file_not_found(name)) }
    }
}

static EVENT: LazyLock<Result<MessageDescriptor, String>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(descriptor_set().map_err(|error| error.to_string())?);
    pool.map_err(|error| error.to_string())?
        .get_message_by_name(MESSAGE)
        .ok_or_else(|| "no message".to_owned())
});

/// The message alone.
pub(super) fn encode(value: &Cell) -> Result<Vec<u8>> {
    let event = EVENT.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(message(&carries(value), event)?.encode_to_vec())
}

/// Moments in microseconds; the members of the choice, of which one is set; text and numbers for what there is no type of.
pub(super) fn carries(value: &Cell) -> Cell {
    let Cell::Record(members) = value else { return value.clone() };
    let mut carried = Vec::new();
    for (name, cell) in members {
        if name == "choice" {
            let of = |wanted: bool| if wanted { cell.clone() } else { Cell::Null };
            carried.push(("number".to_owned(), of(matches!(cell, Cell::Int(_)))));
            carried.push(("text".to_owned(), of(matches!(cell, Cell::Text(_)))));
            carried.push(("item".to_owned(), of(matches!(cell, Cell::Record(_)))));
            continue;
        }
        let cell = match cell {
            Cell::Uuid(text) | Cell::Decimal(text) => Cell::text(text),
            Cell::Date(count) | Cell::Time(count, _) | Cell::Timestamp(count, _, false) => {
                Cell::Int(i128::from(*count))
            }
            Cell::Timestamp(count, Unit::Millis, true) => Cell::Timestamp(count * 1_000, Unit::Micros, true),
            // prost-reflect takes minus zero for the default, and leaves it out.
            Cell::F64(bits) if f64::from_bits(*bits) == 0.0 => Cell::f64(0.0),
            Cell::F32(bits) if f32::from_bits(*bits) == 0.0 => Cell::f32(0.0),
            other => other.clone(),
        };
        carried.push((name.clone(), cell));
    }
    Cell::record(carried)
}

/// In JSON a field that is absent is not there.
pub(super) fn row(value: &Cell) -> Cell {
    as_json(&carries(value).without_nulls())
}

fn message(value: &Cell, of: &MessageDescriptor) -> Result<DynamicMessage> {
    let Cell::Record(members) = value else { bail!("{value} is no message") };
    let mut message = DynamicMessage::new(of.clone());
    for (name, cell) in members.iter().filter(|(_, cell)| *cell != Cell::Null) {
        let field = of.get_field_by_name(name).with_context(|| format!("no field {name}"))?;
        message.set_field(&field, typed(cell, &field)?);
    }
    Ok(message)
}

fn typed(cell: &Cell, field: &FieldDescriptor) -> Result<Value> {
    match cell {
        Cell::List(items) => {
            Ok(Value::List(items.iter().map(|item| single(item, &field.kind())).collect::<Result<_>>()?))
        }
        Cell::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| Ok((MapKey::String(key.clone()), single(value, &Kind::Int64)?)));
            Ok(Value::Map(entries.collect::<Result<HashMap<_, _>>>()?))
        }
        cell => single(cell, &field.kind()),
    }
}

fn single(cell: &Cell, kind: &Kind) -> Result<Value> {
    Ok(match (cell, kind) {
        (Cell::Bool(value), _) => Value::Bool(*value),
        (Cell::Int(value), Kind::Int32 | Kind::Sint32) => Value::I32(i32::try_from(*value)?),
        (Cell::Int(value), _) => Value::I64(i64::try_from(*value)?),
        (Cell::F64(bits), _) => Value::F64(f64::from_bits(*bits)),
        (Cell::F32(bits), _) => Value::F32(f32::from_bits(*bits)),
        (Cell::Text(text), Kind::Enum(of)) => {
            Value::EnumNumber(of.get_value_by_name(text).context("no such name")?.number())
        }
        (Cell::Text(text), _) => Value::String(text.clone()),
        (Cell::Bytes(bytes), _) => Value::Bytes(bytes.clone().into()),
        (Cell::Timestamp(count, Unit::Micros, true), Kind::Message(of)) => {
            let mut message = DynamicMessage::new(of.clone());
            message.set_field_by_name("seconds", Value::I64(count.div_euclid(1_000_000)));
            message
                .set_field_by_name("nanos", Value::I32(i32::try_from(count.rem_euclid(1_000_000) * 1_000)?));
            Value::Message(message)
        }
        (Cell::Record(_), Kind::Message(of)) => Value::Message(message(cell, of)?),
        (cell, kind) => bail!("{cell} is no {kind:?}"),
    })
}
