//! The rows the suite writes, recognisable in any format.

use xxhash_rust::xxh3::xxh3_64;

use crate::record::{Offset, TopicPartition};

/// One row of the suite: the identity of its record, its route, and a seed that no other row has.
///
/// A record of the suite has [`to_json`](Self::to_json) of its row as its value. Whatever a sink makes of that, its
/// harness reads it back with [`parse`](Self::parse), or from the fields of a typed value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SuiteRow {
    /// The record's partition. Its topic is one the suite made up, of letters, digits and dashes.
    pub lane: TopicPartition,
    /// The record's offset.
    pub offset: Offset,
    /// The number of its route: the row belongs under `route-<number>`, or under no route if the case has only one.
    pub route: i64,
    /// What no other row has.
    pub seed: u64,
}

impl SuiteRow {
    pub(super) fn new(lane: &TopicPartition, offset: i64, routes: i64) -> Self {
        let text = format!("{lane}@{offset}/{routes}");
        // 53 bits: a reader that takes JSON numbers for floating point still has it.
        let seed = xxh3_64(text.as_bytes()) >> 11;
        Self { lane: lane.clone(), offset: Offset::new(offset), route: offset % routes.max(1), seed }
    }

    /// One line of JSON with the fields `topic`, `partition`, `offset`, `route`, `seed` and a `pad` of varying length.
    pub fn to_json(&self) -> String {
        let Self { lane, offset, route, seed } = self;
        let (topic, partition, pad) = (lane.topic(), lane.partition(), self.pad());
        format!(
            r#"{{"topic":"{topic}","partition":{partition},"offset":{offset},"route":{route},"seed":{seed},"pad":"{pad}"}}"#
        )
    }

    /// Reads [`to_json`](Self::to_json) back, also if another program has written the same fields in another order or
    /// with spaces. `None` if a field is missing, or if a `pad` is there that is not this row's.
    pub fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
        let text = std::str::from_utf8(text.as_ref()).ok()?;
        let row = Self {
            lane: TopicPartition::new(field(text, "topic")?, field(text, "partition")?.parse().ok()?),
            offset: Offset::new(field(text, "offset")?.parse().ok()?),
            route: field(text, "route")?.parse().ok()?,
            seed: field(text, "seed")?.parse().ok()?,
        };
        field(text, "pad").is_none_or(|pad| pad == row.pad()).then_some(row)
    }

    fn pad(&self) -> String {
        let length = usize::try_from(self.seed % 120).unwrap_or_default();
        format!("{:016x}", self.seed).chars().cycle().take(length).collect()
    }
}

/// The value of `name` in a flat JSON object whose texts need no escapes.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    match rest.strip_prefix('"') {
        Some(rest) => rest.split_once('"').map(|(value, _)| value),
        None => rest.split([',', '}']).next().map(str::trim_end),
    }
}

/// A row as it was found in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    object: String,
    text: Vec<u8>,
}

impl StoredRow {
    /// A row with the text `text` found in `object` (a file, a table, a request), which is named as in
    /// [`PublishedObject::key`](crate::PublishedObject::key). A text that [`SuiteRow::parse`] cannot read fails the
    /// case whose topic it, or the object's name, has in it.
    pub fn read(object: impl Into<String>, text: impl AsRef<[u8]>) -> Self {
        Self { object: object.into(), text: text.as_ref().to_vec() }
    }

    /// A row of a typed target, which has the fields of a [`SuiteRow`] and no text.
    pub fn of(object: impl Into<String>, row: &SuiteRow) -> Self {
        Self::read(object, row.to_json())
    }

    /// The row and its object, if it has to do with `topic`: targets keep the rows of all cases, and reading is not
    /// free. `Err` names the object if the row cannot be read.
    pub(super) fn of_topic(self, topic: &str) -> Option<Result<(String, SuiteRow), String>> {
        let in_text = std::str::from_utf8(&self.text).is_ok_and(|text| text.contains(topic));
        if !in_text && !self.object.contains(topic) {
            return None;
        }
        Some(match SuiteRow::parse(&self.text) {
            Some(row) => Ok((self.object, row)),
            None => Err(self.object),
        })
    }
}

/// Whether the object's name has the row's route in it, or none at all.
pub(super) fn is_under_its_route(object: &str, row: &SuiteRow) -> bool {
    let own = format!("route-{}", row.route);
    let mut routes = object.split(['/', '\\']).filter(|level| level.starts_with("route-"));
    routes.all(|level| level == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back_in_any_spelling_and_damage_is_seen() {
        let row = SuiteRow::new(&TopicPartition::new("suite-1", 3), 17, 5);
        let json = row.to_json();
        assert_eq!(SuiteRow::parse(&json), Some(row.clone()));
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(SuiteRow::parse(serde_json::to_string_pretty(&parsed).unwrap()), Some(row.clone()));
        let (seed, pad) = (row.seed, row.pad());
        let sparse =
            format!(r#"{{"seed": {seed} , "offset": 17, "route":2, "partition": 3, "topic": "suite-1"}}"#);
        assert_eq!(SuiteRow::parse(sparse), Some(row.clone()));
        assert_eq!(SuiteRow::parse(json.replace(&pad, "damaged")), None);
        assert_eq!(SuiteRow::parse("{}"), None);
        assert_ne!(row, SuiteRow::new(&row.lane, 18, 5));
    }

    #[test]
    fn a_row_belongs_under_its_own_route() {
        let row = SuiteRow::new(&TopicPartition::new("suite-1", 3), 17, 5);
        let under = |object: &str| is_under_its_route(object, &row);
        assert!(under("p/suite-1/route-2/x+0") && under("table"));
        assert!(!under("p/suite-1/route-1/x+0") && !under("p/route-2/route-1/x"));
    }

    #[test]
    fn a_damaged_row_is_known_by_its_object_or_what_is_left_of_it() {
        let row = SuiteRow::new(&TopicPartition::new("suite-1", 3), 17, 5);
        let of = |object: &str, text: &str| StoredRow::read(object, text).of_topic("suite-1");
        assert_eq!(of("o", &row.to_json()), Some(Ok(("o".into(), row.clone()))));
        assert_eq!(of("suite-1/o", "half"), Some(Err("suite-1/o".into())));
        assert_eq!(of("o", r#"{"topic":"suite-1","#), Some(Err("o".into())));
        assert_eq!(of("o", "somebody else's"), None);
        assert_eq!(StoredRow::of("o", &row), StoredRow::read("o", row.to_json()));
    }
}
