//! JSON that a registry's JSON Schema describes, in Confluent's wire format.

use xtask::readers::{Cell, Unit};

use super::super::calendar::Moment;
use super::super::storage::as_json;

/// What the columns are; a choice has no single kind and stays JSON.
pub(super) const SCHEMA: &str = r##"{"$schema": "http://json-schema.org/draft-07/schema#", "title": "Event", "type": "object",
    "additionalProperties": false,
    "required": ["seq", "partition", "flag", "small", "big", "ratio", "single", "amount", "raw", "id", "day", "clock", "at",
        "at_us", "local", "color", "place", "tags", "scores", "items"],
    "properties": {
        "seq": {"type": "integer", "connect.index": 0},
        "partition": {"type": "integer", "connect.type": "int32", "connect.index": 1},
        "flag": {"type": "boolean", "connect.index": 2},
        "small": {"type": "integer", "connect.type": "int32", "connect.index": 3},
        "big": {"type": "integer", "connect.type": "int64", "connect.index": 4},
        "ratio": {"type": "number", "connect.type": "float64", "connect.index": 5},
        "single": {"type": "number", "connect.type": "float32", "connect.index": 6},
        "amount": {"type": "number", "title": "org.apache.kafka.connect.data.Decimal", "connect.index": 7,
            "connect.parameters": {"scale": "4", "connect.decimal.precision": "20"}},
        "note": {"type": ["null", "string"], "connect.index": 8},
        "raw": {"type": "string", "contentEncoding": "base64", "connect.index": 9},
        "id": {"type": "string", "format": "uuid", "connect.index": 10},
        "day": {"type": "string", "format": "date", "connect.index": 11},
        "clock": {"type": "string", "format": "time", "connect.index": 12},
        "at": {"type": "string", "format": "date-time", "connect.index": 13},
        "at_us": {"type": "string", "format": "date-time", "connect.index": 14},
        "local": {"type": "string", "connect.index": 15},
        "color": {"type": "string", "enum": ["RED", "GREEN", "BLUE"], "connect.index": 16},
        "place": {"$ref": "#/definitions/place", "connect.index": 17},
        "maybe": {"oneOf": [{"type": "null"}, {"type": "object", "required": ["level"], "properties": {
            "why": {"type": ["string", "null"]}, "level": {"type": "integer"}}}], "connect.index": 18},
        "tags": {"type": "array", "items": {"type": "string"}, "connect.index": 19},
        "scores": {"type": "object", "additionalProperties": {"type": "integer"}, "connect.index": 20},
        "items": {"type": "array", "items": {"type": "object", "required": ["sku", "count"], "properties": {
            "sku": {"type": "string"}, "count": {"type": "integer"}}}, "connect.index": 21},
        "choice": {"connect.index": 22}},
    "definitions": {"place": {"type": "object", "required": ["city", "at"], "properties": {
        "city": {"type": "string"},
        "at": {"type": "object", "required": ["lat", "lon"], "properties": {
            "lat": {"type": "number"}, "lon": {"type": "number"}}}}}}}"##;

/// Moments are in microseconds, local times are text.
pub(super) fn carries(value: &Cell) -> Cell {
    let Cell::Record(members) = value else { return value.clone() };
    Cell::record(members.iter().map(|(name, cell)| {
        let cell = match cell {
            Cell::Timestamp(count, Unit::Millis, true) => Cell::Timestamp(count * 1_000, Unit::Micros, true),
            Cell::Timestamp(count, unit, false) => Cell::text(Moment::at(*count, *unit).text()),
            chosen if name == "choice" => as_json(chosen),
            other => other.clone(),
        };
        (name.clone(), cell)
    }))
}
