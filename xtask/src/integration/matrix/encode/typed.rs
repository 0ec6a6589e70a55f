//! A type of the user's own: JSON that is read into it and written again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Result;
use aqueduct::{FieldPath, FieldValue, Fields};
use serde::{Deserialize, Serialize};
use xtask::readers::Cell;

use super::super::storage::as_json;
use super::json;

/// A record as a struct. It takes amounts as text, since floats would lose digits.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Event {
    seq: i64,
    partition: i32,
    flag: bool,
    small: i32,
    big: i64,
    ratio: f64,
    single: f32,
    amount: String,
    note: Option<String>,
    raw: String,
    id: String,
    day: String,
    clock: String,
    at: String,
    at_us: String,
    local: String,
    color: Color,
    place: Place,
    maybe: Option<Maybe>,
    tags: Vec<String>,
    scores: BTreeMap<String, i64>,
    items: Vec<Item>,
    choice: Choice,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Color {
    Red,
    Green,
    Blue,
}

#[derive(Debug, Deserialize, Serialize)]
struct Place {
    city: String,
    at: Point,
}

#[derive(Debug, Deserialize, Serialize)]
struct Point {
    lat: f64,
    lon: f64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Maybe {
    why: Option<String>,
    level: i64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Item {
    sku: String,
    count: i64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Choice {
    Number(i64),
    Text(String),
    Item(Item),
}

impl Fields for Event {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        match path.segments().iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["at"] => Some(FieldValue::Str(Cow::Borrowed(&self.at))),
            ["place", "city"] => Some(FieldValue::Str(Cow::Borrowed(&self.place.city))),
            _ => None,
        }
    }
}

pub(super) fn encode(value: &Cell) -> Result<Vec<u8>> {
    json::encode(&amounts_as_text(value))
}

/// What the struct has: numbers of 32 bits and maps stay what they are.
pub(super) fn carries(value: &Cell) -> Cell {
    let Cell::Record(members) = amounts_as_text(value) else { return value.clone() };
    let kept = |cell: &Cell| matches!(cell, Cell::Map(_));
    Cell::record(
        members
            .into_iter()
            .map(|(name, cell)| if kept(&cell) { (name, cell) } else { (name, as_json(&cell)) }),
    )
}

fn amounts_as_text(value: &Cell) -> Cell {
    match value {
        Cell::Record(members) => Cell::record(members.iter().map(|(name, cell)| match cell {
            Cell::Decimal(text) => (name.clone(), Cell::text(text)),
            other => (name.clone(), other.clone()),
        })),
        other => other.clone(),
    }
}
