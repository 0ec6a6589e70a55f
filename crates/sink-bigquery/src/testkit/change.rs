//! Change data capture: what rows with `_CHANGE_TYPE` do to a table.
//!
//! The rules of <https://cloud.google.com/bigquery/docs/change-data-capture>: by the default stream only, into a table with a primary
//! key; `UPSERT` puts a row in the place of the one with its key, `DELETE` removes that; changes of one key count in the order of
//! `_CHANGE_SEQUENCE_NUMBER`, and without one, or with equal ones, in the order they arrived; a connection has rows with changes or
//! rows without.

use std::collections::BTreeMap;

use serde_json::Value;

use super::state::FakeRow;
use crate::schema::{Field, FieldType};

const TYPE: &str = "_CHANGE_TYPE";
const SEQUENCE: &str = "_CHANGE_SEQUENCE_NUMBER";

/// The columns that a writer may use and no query sees.
pub(super) fn pseudo_columns() -> [Field; 2] {
    [TYPE, SEQUENCE].map(|name| Field::nullable(name, FieldType::String))
}

pub(super) fn is_pseudo(name: &str) -> bool {
    [TYPE, SEQUENCE].iter().any(|pseudo| pseudo.eq_ignore_ascii_case(name))
}

/// What is wrong with a row's change, by the column's name.
pub(super) fn check(row: &Value) -> Result<(), String> {
    match row.get(TYPE).and_then(Value::as_str) {
        None | Some("UPSERT" | "DELETE") => {}
        Some(_) => return Err(format!("{TYPE} is neither UPSERT nor DELETE")),
    }
    match row.get(SEQUENCE).and_then(Value::as_str).map(sequence) {
        Some(None) => Err(format!("{SEQUENCE} is not one to four hexadecimal numbers with slashes between")),
        Some(Some(_)) | None => Ok(()),
    }
}

/// "Mixing rows that have `UPSERT` or `DELETE` values for `_CHANGE_TYPE` with rows that have `INSERT` or unspecified values \[…\] in
/// the same connection isn't supported"; the error is the document's.
pub(super) fn check_connection(row: &Value, changes: &mut Option<bool>) -> Result<(), String> {
    let is_change = row.get(TYPE).is_some();
    if *changes.get_or_insert(is_change) == is_change {
        return Ok(());
    }
    Err("The given value is not a valid CHANGE_TYPE".to_owned())
}

/// Up to four sections of up to sixteen hexadecimal digits, the first of which weighs most.
fn sequence(text: &str) -> Option<Vec<u64>> {
    let sections: Vec<_> = text.split('/').collect();
    let section = |text: &&str| {
        let fits = (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
    };
    (sections.len() <= 4).then(|| sections.iter().map(section).collect()).flatten()
}

/// The rows that a query sees of a table with this key.
pub(super) fn applied(rows: &[FakeRow], key: &[String]) -> Vec<FakeRow> {
    if rows.iter().all(|row| row.columns.get(TYPE).is_none()) {
        return rows.to_vec();
    }
    // By key: the sequence of the change that counts, when the row's place was taken, and the row unless it is deleted.
    let mut latest: BTreeMap<String, (Vec<u64>, usize, Option<FakeRow>)> = BTreeMap::new();
    for (place, row) in rows.iter().enumerate() {
        let column = |name: &String| row.columns.get(name.as_str()).cloned().unwrap_or_default();
        let identity = key.iter().map(column).collect::<Value>().to_string();
        let number = row.columns.get(SEQUENCE).and_then(Value::as_str).and_then(sequence).unwrap_or_default();
        let deleted = row.columns.get(TYPE).and_then(Value::as_str) == Some("DELETE");
        if latest.get(&identity).is_some_and(|(known, ..)| *known > number) {
            continue;
        }
        let mut seen = row.clone();
        if let Some(columns) = seen.columns.as_object_mut() {
            columns.retain(|name, _| !is_pseudo(name));
        }
        latest.insert(identity, (number, place, (!deleted).then_some(seen)));
    }
    let mut left: Vec<_> = latest.into_values().filter_map(|(_, place, row)| Some((place, row?))).collect();
    left.sort_by_key(|(place, _)| *place);
    left.into_iter().map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(kind: &str, id: i64, name: &str, sequence: &str) -> FakeRow {
        let mut columns = json!({ "id": id, "name": name, "_CHANGE_TYPE": kind });
        if !sequence.is_empty() {
            columns["_CHANGE_SEQUENCE_NUMBER"] = sequence.into();
        }
        FakeRow { stream: String::new(), visible: true, columns }
    }

    fn names(rows: &[FakeRow]) -> Vec<String> {
        let key = ["id".to_owned()];
        applied(rows, &key).iter().map(|row| row.columns["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_last_change_of_a_key_counts() {
        let rows = [
            change("UPSERT", 1, "a", ""),
            change("UPSERT", 2, "b", ""),
            change("UPSERT", 1, "c", ""),
            change("DELETE", 2, "", ""),
            change("DELETE", 3, "", ""),
        ];
        assert_eq!(names(&rows), ["c"]);
        assert_eq!(applied(&rows, &["id".to_owned()])[0].columns, json!({ "id": 1, "name": "c" }));
    }

    #[test]
    fn sequence_numbers_are_worth_more_than_the_order_of_arrival() {
        let rows = [
            change("UPSERT", 1, "late", "a/1"),
            change("UPSERT", 1, "early", "9/FFFF"),
            change("UPSERT", 2, "first", "1"),
            change("UPSERT", 2, "second", "1"),
            change("DELETE", 3, "", "10"),
            change("UPSERT", 3, "before it was deleted", "f"),
        ];
        assert_eq!(names(&rows), ["late", "second"]);
    }

    #[test]
    fn changes_are_checked() {
        for (kind, sequence, good) in [
            ("UPSERT", "0/ffffffffffffffff/1/2", true),
            ("DELETE", "", true),
            ("INSERT", "", false),
            ("UPSERT", "1/2/3/4/5", false),
            ("UPSERT", "11111111111111111", false),
            ("UPSERT", "x", false),
            ("UPSERT", "1//2", false),
        ] {
            assert_eq!(check(&change(kind, 1, "", sequence).columns).is_ok(), good, "{kind} {sequence}");
        }
        let plain = FakeRow { columns: json!({ "id": 1, "name": "n" }), ..change("UPSERT", 1, "", "") };
        assert_eq!(names(&[plain.clone(), plain]), ["n", "n"], "without changes a table is a table");
    }
}
