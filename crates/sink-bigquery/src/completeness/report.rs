//! What a check has found.

use std::fmt;

use aqueduct_core::{Offset, OffsetRange, TopicPartition};

use super::due::DueRecords;
use super::statements::Counts;
use crate::name::TableName;

/// What was found of every partition that is due. `Display` prints a table, the sums, and what is missing by its offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompletenessReport {
    /// The tables looked into; a partition's [`of_tables`](LaneCompleteness::of_tables) are in this order.
    pub tables: Vec<TableName>,
    /// Tables that do not exist, and so have no rows.
    pub absent: Vec<TableName>,
    /// By partition, in order.
    pub lanes: Vec<LaneCompleteness>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneCompleteness {
    /// Which.
    pub lane: TopicPartition,
    /// The offsets looked at.
    pub range: OffsetRange,
    /// Records due; as many as there are offsets if nobody has counted.
    pub due: u64,
    /// Whether somebody has counted what is due.
    pub is_counted: bool,
    /// Rows in tables.
    pub rows: u64,
    /// Records with a row, each once.
    pub loaded: u64,
    /// Rows of each table.
    pub of_tables: Vec<u64>,
    /// The first offset that has a row.
    pub first: Option<Offset>,
    /// The last one.
    pub last: Option<Offset>,
    /// Records with a letter and without a row.
    pub dead_lettered: u64,
    /// Records with a letter and a row: they were driven again.
    pub repaired: u64,
    /// Records left out by intention, as the caller says.
    pub skipped: u64,
    /// The first ranges of offsets with neither a row nor a letter, where records are missing. Skipped ones are among them, and
    /// offsets that are no records.
    pub missing_ranges: Vec<OffsetRange>,
    /// Whether there are more such ranges.
    pub more_missing: bool,
    /// The first offsets with several rows.
    pub duplicated_offsets: Vec<DuplicatedOffset>,
}

/// An offset with several rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DuplicatedOffset {
    /// The record.
    pub offset: Offset,
    /// Its rows.
    pub rows: u64,
}

/// Sums over partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompletenessTotal {
    /// Records due.
    pub due: u64,
    /// Whether all of them were counted.
    pub is_counted: bool,
    /// Records with a row, each once.
    pub loaded: u64,
    /// Records with a letter and without a row.
    pub dead_lettered: u64,
    /// Records left out by intention.
    pub skipped: u64,
    /// Records that are nowhere.
    pub missing: u64,
    /// Rows too many.
    pub duplicated: u64,
    /// Records that are somewhere and were not due.
    pub surplus: u64,
}

/// A part of a whole, as a percentage with four digits that is never rounded up: what misses one record in a billion does not
/// print as `100.0000 %`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    part: u64,
    whole: u64,
}

impl Share {
    /// All of nothing is all.
    pub fn of(part: u64, whole: u64) -> Self {
        Self { part: part.min(whole), whole }
    }

    /// In millionths, rounded down: 999,000 is 99.9 %.
    pub fn millionths(self) -> u64 {
        if self.whole == 0 {
            return 1_000_000;
        }
        let millionths = u128::from(self.part) * 1_000_000 / u128::from(self.whole);
        u64::try_from(millionths).unwrap_or(1_000_000)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millionths = self.millionths();
        f.pad(&format!("{}.{:04} %", millionths / 10_000, millionths % 10_000))
    }
}

impl LaneCompleteness {
    pub(super) fn new(due: &DueRecords, tables: usize, counts: Counts) -> Self {
        let Counts { rows, offsets, first, last, mut of_tables } = counts;
        of_tables.resize(tables, 0);
        Self {
            lane: due.lane().clone(),
            range: due.range(),
            due: due.records(),
            is_counted: due.is_counted(),
            rows,
            loaded: offsets,
            of_tables,
            first,
            last,
            dead_lettered: 0,
            repaired: 0,
            skipped: 0,
            missing_ranges: Vec::new(),
            more_missing: false,
            duplicated_offsets: Vec::new(),
        }
    }

    fn accounted(&self) -> u64 {
        self.loaded.saturating_add(self.dead_lettered).saturating_add(self.skipped)
    }

    /// Records due that have no row and no letter and were not skipped. At most so many, if nobody has counted what is due.
    pub fn missing(&self) -> u64 {
        self.due.saturating_sub(self.accounted())
    }

    /// Rows too many: of records that have another one.
    pub fn duplicated(&self) -> u64 {
        self.rows.saturating_sub(self.loaded)
    }

    /// More is accounted for than was due: a count that was given is wrong, or records counted as skipped have rows.
    pub fn surplus(&self) -> u64 {
        self.accounted().saturating_sub(self.due)
    }

    /// Records with a row, of those that should have one: due and not skipped.
    pub fn loaded_share(&self) -> Share {
        Share::of(self.loaded, self.due.saturating_sub(self.skipped))
    }
}

impl CompletenessReport {
    /// Sums.
    pub fn total(&self) -> CompletenessTotal {
        let sum = |of: fn(&LaneCompleteness) -> u64| self.lanes.iter().map(of).fold(0, u64::saturating_add);
        CompletenessTotal {
            due: sum(|lane| lane.due),
            is_counted: self.lanes.iter().all(|lane| lane.is_counted),
            loaded: sum(|lane| lane.loaded),
            dead_lettered: sum(|lane| lane.dead_lettered),
            skipped: sum(|lane| lane.skipped),
            missing: sum(LaneCompleteness::missing),
            duplicated: sum(LaneCompleteness::duplicated),
            surplus: sum(LaneCompleteness::surplus),
        }
    }

    /// Every record due is a row, once, or a letter, or was skipped; and nothing else is there.
    pub fn is_complete(&self) -> bool {
        let CompletenessTotal { missing, duplicated, surplus, .. } = self.total();
        (missing, duplicated, surplus) == (0, 0, 0)
    }
}

impl CompletenessTotal {
    /// The service level: records with a row, of those that should have one. Letters are not loaded.
    pub fn loaded_share(&self) -> Share {
        Share::of(self.loaded, self.due.saturating_sub(self.skipped))
    }
}

/// For people: a line for each partition, the sums, and what is wrong by its offsets.
impl fmt::Display for CompletenessReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        let mut lines = vec![
            [
                "partition",
                "offsets",
                "due",
                "loaded",
                "dead letters",
                "skipped",
                "missing",
                "duplicated",
                "loaded of due",
            ]
            .map(str::to_owned),
        ];
        for lane in &self.lanes {
            let most = if lane.is_counted { "" } else { "≤" };
            let (due, missing) = (at_most(most, lane.due), at_most(most, lane.missing()));
            let numbers = [lane.loaded, lane.dead_lettered, lane.skipped].map(|number| number.to_string());
            let [loaded, letters, skipped] = numbers;
            let (name, range, share) =
                (lane.lane.to_string(), lane.range.to_string(), lane.loaded_share().to_string());
            lines.push([
                name,
                range,
                due,
                loaded,
                letters,
                skipped,
                missing,
                lane.duplicated().to_string(),
                share,
            ]);
        }
        let most = if total.is_counted { "" } else { "≤" };
        let (due, missing) = (at_most(most, total.due), at_most(most, total.missing));
        let [loaded, letters, skipped, duplicated] =
            [total.loaded, total.dead_lettered, total.skipped, total.duplicated]
                .map(|number| number.to_string());
        let share = total.loaded_share().to_string();
        lines.push([
            "total".to_owned(),
            String::new(),
            due,
            loaded,
            letters,
            skipped,
            missing,
            duplicated,
            share,
        ]);
        table(f, &lines)?;
        self.tables_and_sum(f, &total)?;
        self.lanes.iter().try_for_each(|lane| lane.wrong(f))
    }
}

impl CompletenessReport {
    fn tables_and_sum(&self, f: &mut fmt::Formatter<'_>, total: &CompletenessTotal) -> fmt::Result {
        for (place, table) in self.tables.iter().enumerate() {
            let rows: u64 = self.lanes.iter().filter_map(|lane| lane.of_tables.get(place)).sum();
            writeln!(f, "table {table}: {rows} rows")?;
        }
        for table in &self.absent {
            writeln!(f, "table {table}: does not exist")?;
        }
        let should = total.due.saturating_sub(total.skipped);
        let most = if total.is_counted { "" } else { "at most " };
        write!(f, "loaded {} of {most}{should} records due, {}", total.loaded, total.loaded_share())?;
        if total.skipped > 0 {
            write!(f, " ({} skipped ones not counted)", total.skipped)?;
        }
        let CompletenessTotal { missing, duplicated, surplus, .. } = *total;
        if self.is_complete() {
            return writeln!(f, "; nothing is missing, nothing is there twice");
        }
        writeln!(f, "; {most}{missing} missing, {duplicated} rows too many, {surplus} more than were due")?;
        if !total.is_counted && missing > 0 {
            writeln!(
                f,
                "≤: nobody has counted what is due, so offsets that are no records count as missing"
            )?;
        }
        Ok(())
    }
}

impl LaneCompleteness {
    fn wrong(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lane = &self.lane;
        if !self.missing_ranges.is_empty() {
            write!(f, "{lane}: neither row nor letter at")?;
            listed(f, &self.missing_ranges)?;
            writeln!(f, "{}", if self.more_missing { " and more" } else { "" })?;
        }
        if !self.duplicated_offsets.is_empty() {
            write!(f, "{lane}: more than one row at")?;
            listed(f, &self.duplicated_offsets)?;
            writeln!(f, " ({} rows too many in all)", self.duplicated())?;
        }
        if self.surplus() > 0 {
            writeln!(
                f,
                "{lane}: {} more rows, letters and skipped records than were due: a number that was given is wrong",
                self.surplus()
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for DuplicatedOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} rows)", self.offset, self.rows)
    }
}

fn at_most(most: &str, number: u64) -> String {
    format!("{most}{number}")
}

fn listed(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        write!(f, "{} {item}", if index == 0 { "" } else { "," })?;
    }
    Ok(())
}

/// Columns under each other, the first two to the left.
fn table<const COLUMNS: usize>(f: &mut fmt::Formatter<'_>, lines: &[[String; COLUMNS]]) -> fmt::Result {
    let mut widths = [0; COLUMNS];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            let space = if column == 0 { "" } else { "  " };
            if column < 2 {
                write!(f, "{space}{cell:<width$}")?;
            } else {
                write!(f, "{space}{cell:>width$}")?;
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_up() {
        for (part, whole, shown) in [
            (999, 1_000, "99.9000 %"),
            (9_999_999_999, 10_000_000_000, "99.9999 %"),
            (u64::MAX - 1, u64::MAX, "99.9999 %"),
            (1, 1, "100.0000 %"),
            (2, 3, "66.6666 %"),
            (0, 5, "0.0000 %"),
            (0, 0, "100.0000 %"),
            (7, 5, "100.0000 %"),
        ] {
            assert_eq!(Share::of(part, whole).to_string(), shown, "{part} of {whole}");
        }
    }
}
