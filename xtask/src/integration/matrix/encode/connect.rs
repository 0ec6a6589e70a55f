//! JSON in Kafka Connect's envelope, as its `JsonConverter` writes it.

use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use xtask::readers::{Cell, Unit};

use super::super::truth::AMOUNT_SCALE;
use super::avro::unscaled;
use super::json;

/// The schema of the records. Connect has no UUIDs, no times finer than milliseconds and no unions.
static SCHEMA: LazyLock<String> = LazyLock::new(|| schema().to_string());

fn schema() -> Value {
    let plain = |name: &str, kind: &str| json!({"field": name, "type": kind, "optional": false});
    let maybe = |name: &str, kind: &str| json!({"field": name, "type": kind, "optional": true});
    let logical = |name: &str, kind: &str, of: &str| {
        let class = format!("org.apache.kafka.connect.data.{of}");
        json!({"field": name, "type": kind, "optional": false, "name": class, "version": 1})
    };
    let mut amount = logical("amount", "bytes", "Decimal");
    if let Some(amount) = amount.as_object_mut() {
        amount.insert("parameters".to_owned(), json!({"scale": AMOUNT_SCALE.to_string()}));
    }
    let structure = |name: &str, optional: bool, fields: Value| json!({"field": name, "type": "struct", "optional": optional, "fields": fields});
    let item = || json!([plain("sku", "string"), plain("count", "int64")]);
    json!({"type": "struct", "optional": false, "name": "aqueduct.matrix.Event", "fields": [
        plain("seq", "int64"), plain("partition", "int32"), plain("flag", "boolean"), plain("small", "int32"),
        plain("big", "int64"), plain("ratio", "double"), plain("single", "float"), amount, maybe("note", "string"),
        plain("raw", "bytes"), plain("id", "string"), logical("day", "int32", "Date"), plain("clock", "int64"),
        logical("at", "int64", "Timestamp"), plain("at_us", "int64"), plain("local", "int64"), plain("color", "string"),
        structure("place", false, json!([plain("city", "string"),
            structure("at", false, json!([plain("lat", "double"), plain("lon", "double")]))])),
        structure("maybe", true, json!([maybe("why", "string"), plain("level", "int64")])),
        json!({"field": "tags", "type": "array", "optional": false, "items": {"type": "string", "optional": false}}),
        json!({"field": "scores", "type": "map", "optional": false, "keys": {"type": "string", "optional": false},
            "values": {"type": "int64", "optional": false}}),
        json!({"field": "items", "type": "array", "optional": false,
            "items": {"type": "struct", "optional": false, "fields": item()}}),
        structure("choice", false, json!([maybe("number", "int64"), maybe("text", "string"), structure("item", true, item())])),
    ]})
}

pub(super) fn encode(value: &Cell) -> Result<Vec<u8>> {
    let mut out = format!("{{\"schema\":{},\"payload\":", *SCHEMA);
    json::write(&payload(&carries(value))?, &mut out)?;
    out.push('}');
    Ok(out.into_bytes())
}

/// Days, moments in milliseconds, decimals, maps; the choice is a struct of which one member is set.
pub(super) fn carries(value: &Cell) -> Cell {
    let Cell::Record(members) = value else { return value.clone() };
    Cell::record(members.iter().map(|(name, cell)| (name.clone(), member(name, cell))))
}

fn member(name: &str, cell: &Cell) -> Cell {
    match (name, cell) {
        ("choice", chosen) => {
            let of = |wanted: bool| if wanted { chosen.clone() } else { Cell::Null };
            Cell::record([
                ("number", of(matches!(chosen, Cell::Int(_)))),
                ("text", of(matches!(chosen, Cell::Text(_)))),
                ("item", of(matches!(chosen, Cell::Record(_)))),
            ])
        }
        (_, Cell::Uuid(text)) => Cell::text(text),
        (_, Cell::Time(count, _) | Cell::Timestamp(count, Unit::Micros, _)) => Cell::Int(i128::from(*count)),
        (_, other) => other.clone(),
    }
}

/// Logical values by what they are written as.
fn payload(cell: &Cell) -> Result<Cell> {
    Ok(match cell {
        Cell::Decimal(text) => {
            let bytes = unscaled(text)?.to_be_bytes();
            // As Java's `BigInteger` has it: no more bytes than the sign needs.
            let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
            let filler = if negative { 0xff } else { 0 };
            let same_sign = |at: &usize| bytes.get(*at).is_some_and(|byte| (*byte >= 0x80) == negative);
            let spare =
                (1..bytes.len()).take_while(|at| bytes.get(at - 1) == Some(&filler) && same_sign(at)).count();
            Cell::text(STANDARD.encode(bytes.get(spare..).context("no digits")?))
        }
        Cell::Bytes(bytes) => Cell::text(STANDARD.encode(bytes)),
        Cell::Date(days) => Cell::Int(i128::from(*days)),
        Cell::Timestamp(count, Unit::Millis, true) => Cell::Int(i128::from(*count)),
        Cell::List(items) => Cell::List(items.iter().map(payload).collect::<Result<_>>()?),
        Cell::Map(members) | Cell::Record(members) => {
            let members = members.iter().map(|(name, value)| Ok((name.clone(), payload(value)?)));
            Cell::record(members.collect::<Result<Vec<_>>>()?)
        }
        other => other.clone(),
    })
}
