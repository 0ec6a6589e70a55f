//! The statements of a completeness check.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::source::{Position, Source};
use super::{Parameters, Refused, Rows, invalid};
use crate::completeness::statements::{COUNTS, DUPLICATES, GAPS, LOADED, WINDOWS, of_tables};
use crate::testkit::state::Inner;

type Lane = (String, i64);

pub(super) fn select(
    inner: &Inner,
    sql: &str,
    source: &Source<'_>,
    parameters: &Parameters,
) -> Result<Rows, Refused> {
    let places = source.parts.len();
    let of_tables = of_tables(places);
    let is =
        |template: &str| template.replace("{rows}", source.text).replace("{of_tables}", &of_tables) == sql;
    let rows = source.positions(inner)?;
    if is(COUNTS) {
        counts(&rows, places, &parameters.structs("due")?)
    } else if is(LOADED) {
        Ok(loaded(&rows, &parameters.structs("letters")?))
    } else if is(WINDOWS) {
        let (first, width) = (parameters.number("first")?, parameters.number("width")?);
        let mut windows: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
        for row in of_lane(&rows, parameters)? {
            windows.entry((row.offset - first) / width).or_default().insert(row.offset);
        }
        Ok(windows.into_iter().map(|(place, offsets)| numbers([place, length(&offsets)])).collect())
    } else if is(GAPS) {
        gaps(&rows, parameters)
    } else if is(DUPLICATES) {
        let mut offsets: BTreeMap<i64, i64> = BTreeMap::new();
        for row in of_lane(&rows, parameters)? {
            *offsets.entry(row.offset).or_default() += 1;
        }
        let several = offsets.into_iter().filter(|(_, rows)| *rows > 1);
        Ok(several.map(|(offset, rows)| numbers([offset, rows])).take(most(parameters)?).collect())
    } else {
        Err(invalid("the fake does not read this"))
    }
}

/// `COUNT(*)` and `COUNT(DISTINCT …)` by partition; partitions without rows are in no group.
fn counts(rows: &[Position], places: usize, due: &[Value]) -> Result<Rows, Refused> {
    let mut all = Rows::new();
    for due in due {
        let number = |name: &str| due.get(name).and_then(Value::as_i64);
        let lane = lane_of(due).zip(number("first").zip(number("behind")));
        let ((topic, partition), (first, behind)) =
            lane.ok_or_else(|| invalid("a field of due is missing"))?;
        let found: Vec<_> = rows
            .iter()
            .filter(|row| row.topic == topic && row.lane == partition)
            .filter(|row| row.offset >= first && row.offset < behind)
            .collect();
        let offsets: BTreeSet<i64> = found.iter().map(|row| row.offset).collect();
        let (Some(lowest), Some(highest)) = (offsets.first(), offsets.last()) else { continue };
        let mut cells = vec![Some(topic)];
        cells.extend(numbers([partition, count(&found), length(&offsets), *lowest, *highest]));
        for place in (0_u64..).take(places) {
            let of_table: Vec<_> = found.iter().filter(|row| row.place == place).collect();
            cells.extend(numbers([count(&of_table)]));
        }
        all.push(cells);
    }
    Ok(all)
}

fn loaded(rows: &[Position], letters: &[Value]) -> Rows {
    let there: BTreeSet<_> = rows.iter().map(|row| (row.topic.as_str(), row.lane, row.offset)).collect();
    let mut lanes: BTreeMap<Lane, BTreeSet<i64>> = BTreeMap::new();
    for letter in letters {
        let position = letter.get("position").and_then(Value::as_i64);
        let Some(((topic, partition), position)) = lane_of(letter).zip(position) else { continue };
        if there.contains(&(topic.as_str(), partition, position)) {
            lanes.entry((topic, partition)).or_default().insert(position);
        }
    }
    let row = |((topic, partition), offsets): (Lane, BTreeSet<i64>)| {
        let mut cells = vec![Some(topic)];
        cells.extend(numbers([partition, length(&offsets)]));
        cells
    };
    lanes.into_iter().map(row).collect()
}

fn gaps(rows: &[Position], parameters: &Parameters) -> Result<Rows, Refused> {
    let (first, behind) = (parameters.number("first")?, parameters.number("behind")?);
    let mut offsets: BTreeSet<i64> = of_lane(rows, parameters)?.map(|row| row.offset).collect();
    offsets.insert(first - 1);
    let following = offsets.iter().skip(1).copied().chain([behind]);
    let gaps = offsets.iter().zip(following).filter(|(offset, following)| following - *offset > 1);
    Ok(gaps.map(|(offset, following)| numbers([offset + 1, following])).take(most(parameters)?).collect())
}

fn of_lane<'r>(
    rows: &'r [Position],
    parameters: &Parameters,
) -> Result<impl Iterator<Item = &'r Position>, Refused> {
    let (topic, lane) = (parameters.text("topic")?, parameters.number("lane")?);
    let (first, behind) = (parameters.number("first")?, parameters.number("behind")?);
    let is = move |row: &&Position| {
        row.topic == topic && row.lane == lane && row.offset >= first && row.offset < behind
    };
    Ok(rows.iter().filter(is))
}

fn lane_of(value: &Value) -> Option<Lane> {
    Some((value.get("topic")?.as_str()?.to_owned(), value.get("lane")?.as_i64()?))
}

fn most(parameters: &Parameters) -> Result<usize, Refused> {
    parameters.number("most").map(|most| usize::try_from(most).unwrap_or(usize::MAX))
}

fn count<T>(rows: &[T]) -> i64 {
    i64::try_from(rows.len()).unwrap_or(i64::MAX)
}

fn length(offsets: &BTreeSet<i64>) -> i64 {
    i64::try_from(offsets.len()).unwrap_or(i64::MAX)
}

fn numbers<const COUNT: usize>(numbers: [i64; COUNT]) -> Vec<Option<String>> {
    numbers.map(|number| Some(number.to_string())).to_vec()
}
