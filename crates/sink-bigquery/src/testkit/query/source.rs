//! The metadata columns of some tables, as completeness reads them.

use serde_json::Value;

use super::Refused;
use crate::testkit::state::Inner;

/// `(SELECT 0 AS place, … FROM `t` UNION ALL …)` within a statement.
pub(super) struct Source<'s> {
    pub(super) text: &'s str,
    pub(super) parts: Vec<Part<'s>>,
}

pub(super) struct Part<'s> {
    place: u64,
    /// Topic, partition, offset.
    columns: [&'s str; 3],
    table: &'s str,
}

/// One row of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) place: u64,
    pub(super) topic: String,
    pub(super) lane: i64,
    pub(super) offset: i64,
}

impl<'s> Source<'s> {
    pub(super) fn of(sql: &'s str) -> Option<Self> {
        let start = sql.find("(SELECT 0 AS place, ")?;
        let rest = sql.get(start..)?;
        let text = rest.get(..=rest.find(") AS r")?)?;
        let inside = text.strip_prefix('(')?.strip_suffix(')')?;
        let parts = inside.split(" UNION ALL ").map(part).collect::<Option<Vec<_>>>()?;
        Some(Self { text, parts })
    }

    /// Rows without an identity join nothing and are in no range: null equals nothing.
    pub(super) fn positions(&self, inner: &Inner) -> Result<Vec<Position>, Refused> {
        let mut all = Vec::new();
        for Part { place, columns, table } in &self.parts {
            for row in inner.table_of(table)?.visible() {
                let [topic, lane, offset] = columns.map(|column| row.columns.get(column));
                let numbers = lane.and_then(Value::as_i64).zip(offset.and_then(Value::as_i64));
                let Some((topic, (lane, offset))) = topic.and_then(Value::as_str).zip(numbers) else {
                    continue;
                };
                all.push(Position { place: *place, topic: topic.to_owned(), lane, offset });
            }
        }
        Ok(all)
    }
}

/// ``SELECT 0 AS place, `a` AS topic, `b` AS lane, `c` AS position FROM `p.d.t` ``
fn part(text: &str) -> Option<Part<'_>> {
    let (place, rest) = text.strip_prefix("SELECT ")?.split_once(" AS place, `")?;
    let (topic, rest) = rest.split_once("` AS topic, `")?;
    let (lane, rest) = rest.split_once("` AS lane, `")?;
    let (position, table) = rest.split_once("` AS position FROM `")?;
    let (place, table) = (place.parse().ok()?, table.strip_suffix('`')?);
    Some(Part { place, columns: [topic, lane, position], table })
}
