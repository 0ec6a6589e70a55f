//! The statements.
//!
//! All of them read `{rows}`: the metadata columns of every table, with the table's place in front.
//!
//! `COUNT(DISTINCT …)` is exact
//! (<https://cloud.google.com/bigquery/docs/reference/standard-sql/aggregate_functions#count>; what may be off by some is called
//! `APPROX_COUNT_DISTINCT`).

use aqueduct_core::{Offset, OffsetRange, TopicPartition};

use super::due::DueRecords;
use super::report::DuplicatedOffset;
use crate::error::{Answer, At, BigQueryError};
use crate::name::TableName;
use crate::query::{Cells, Statement, number_in, quoted, table_sql};
use crate::row::MetadataColumns;

/// Of each partition that is due: rows, distinct offsets, first, last, and the rows of each table.
pub(crate) const COUNTS: &str = "SELECT d.topic, d.lane, COUNT(*), COUNT(DISTINCT r.position), MIN(r.position), MAX(r.position){of_tables} \
     FROM {rows} AS r JOIN UNNEST(@due) AS d ON r.topic = d.topic AND r.lane = d.lane \
     AND r.position >= d.first AND r.position < d.behind GROUP BY d.topic, d.lane";
/// Of each partition: how many of these offsets have a row.
pub(crate) const LOADED: &str = "SELECT d.topic, d.lane, COUNT(DISTINCT r.position) \
     FROM {rows} AS r JOIN UNNEST(@letters) AS d ON r.topic = d.topic AND r.lane = d.lane \
     AND r.position = d.position GROUP BY d.topic, d.lane";
/// Of one partition: distinct offsets in each window of so many. The inner parentheses are for an emulator that forgets them.
pub(crate) const WINDOWS: &str = "SELECT DIV((r.position - @first), @width) AS slot, COUNT(DISTINCT r.position) \
     FROM {rows} AS r WHERE r.topic = @topic AND r.lane = @lane AND r.position >= @first AND r.position < @behind \
     GROUP BY slot";
/// Of one partition: where offsets lack between two that are there, or between one and the range's end.
pub(crate) const GAPS: &str = "SELECT p.position + 1, p.following FROM (SELECT q.position, \
     IFNULL(LEAD(q.position) OVER (ORDER BY q.position), @behind) AS following \
     FROM (SELECT @first - 1 AS position UNION DISTINCT SELECT r.position \
     FROM {rows} AS r WHERE r.topic = @topic AND r.lane = @lane AND r.position >= @first AND r.position < @behind) AS q) AS p \
     WHERE p.following > p.position + 1 ORDER BY p.position LIMIT @most";
/// Of one partition: offsets with several rows.
pub(crate) const DUPLICATES: &str = "SELECT r.position, COUNT(*) \
     FROM {rows} AS r WHERE r.topic = @topic AND r.lane = @lane AND r.position >= @first AND r.position < @behind \
     GROUP BY r.position HAVING COUNT(*) > 1 ORDER BY r.position LIMIT @most";

/// Statements over some tables.
pub(super) struct Statements {
    tables: usize,
    rows: Option<String>,
}

/// What one partition has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) offsets: u64,
    pub(super) first: Option<Offset>,
    pub(super) last: Option<Offset>,
    /// Rows of each table.
    pub(super) of_tables: Vec<u64>,
}

/// Letters that have a row.
pub(super) struct Loaded {
    pub(super) lane: TopicPartition,
    pub(super) offsets: u64,
}

/// The metadata columns of all tables; nothing without tables.
pub(crate) fn rows_of(tables: &[TableName], columns: &MetadataColumns) -> Option<String> {
    let [topic, lane, position] =
        [&columns.topic, &columns.partition, &columns.offset].map(|name| quoted(name));
    let of = |(place, table): (usize, &TableName)| {
        let table = table_sql(table);
        format!(
            "SELECT {place} AS place, {topic} AS topic, {lane} AS lane, {position} AS position FROM {table}"
        )
    };
    let all: Vec<_> = tables.iter().enumerate().map(of).collect();
    (!all.is_empty()).then(|| format!("({})", all.join(" UNION ALL ")))
}

/// The columns of [`COUNTS`] that count the rows of each table.
pub(crate) fn of_tables(tables: usize) -> String {
    let columns: Vec<_> = (0..tables).map(|place| format!(", COUNTIF(r.place = {place})")).collect();
    columns.concat()
}

impl Statements {
    pub(super) fn new(tables: &[TableName], columns: &MetadataColumns) -> Self {
        Self { tables: tables.len(), rows: rows_of(tables, columns) }
    }

    fn of(&self, template: &str) -> Option<String> {
        Some(template.replace("{rows}", self.rows.as_deref()?))
    }

    fn of_lane(&self, template: &str, lane: &TopicPartition, range: OffsetRange) -> Option<Statement> {
        let statement = Statement::new(self.of(template)?)
            .text("topic", lane.topic())
            .number("lane", i64::from(lane.partition()))
            .number("first", range.start().get())
            .number("behind", range.end().get());
        Some(statement)
    }

    pub(super) fn counts(&self, due: &[DueRecords]) -> Option<Statement> {
        let sql = self.of(COUNTS)?.replace("{of_tables}", &of_tables(self.tables));
        let fields = [("topic", "STRING"), ("lane", "INT64"), ("first", "INT64"), ("behind", "INT64")];
        let values = due.iter().map(|due| {
            let (lane, range) = (due.lane(), due.range());
            let (partition, first, behind) = (lane.partition(), range.start(), range.end());
            [lane.topic().to_owned(), partition.to_string(), first.to_string(), behind.to_string()]
        });
        Some(Statement::new(sql).structs("due", fields, values))
    }

    pub(super) fn read_counts(&self, row: &Cells) -> Result<(TopicPartition, Counts), BigQueryError> {
        let number = |place| number_in(row, place).map(|number| u64::try_from(number).unwrap_or_default());
        let offset = |place| number_in(row, place).map(|number| Some(Offset::new(number)));
        let of_tables = (0..self.tables).map(|place| number(6 + place)).collect::<Result<_, _>>()?;
        let counts =
            Counts { rows: number(2)?, offsets: number(3)?, first: offset(4)?, last: offset(5)?, of_tables };
        Ok((lane_in(row)?, counts))
    }

    pub(super) fn loaded(&self, letters: &[(&TopicPartition, i64)]) -> Option<Statement> {
        let fields = [("topic", "STRING"), ("lane", "INT64"), ("position", "INT64")];
        let values = letters.iter().map(|(lane, offset)| {
            [lane.topic().to_owned(), lane.partition().to_string(), offset.to_string()]
        });
        Some(Statement::new(self.of(LOADED)?).structs("letters", fields, values))
    }

    pub(super) fn windows(&self, lane: &TopicPartition, range: OffsetRange, width: i64) -> Option<Statement> {
        Some(self.of_lane(WINDOWS, lane, range)?.number("width", width))
    }

    pub(super) fn gaps(&self, lane: &TopicPartition, range: OffsetRange, most: usize) -> Option<Statement> {
        Some(self.of_lane(GAPS, lane, range)?.number("most", i64::try_from(most).unwrap_or(i64::MAX)))
    }

    pub(super) fn duplicates(
        &self,
        lane: &TopicPartition,
        range: OffsetRange,
        most: usize,
    ) -> Option<Statement> {
        Some(self.of_lane(DUPLICATES, lane, range)?.number("most", i64::try_from(most).unwrap_or(i64::MAX)))
    }
}

impl Loaded {
    pub(super) fn read(row: &Cells) -> Result<Self, BigQueryError> {
        Ok(Self { lane: lane_in(row)?, offsets: u64::try_from(number_in(row, 2)?).unwrap_or_default() })
    }
}

pub(super) fn read_duplicate(row: &Cells) -> Result<DuplicatedOffset, BigQueryError> {
    let rows = u64::try_from(number_in(row, 1)?).unwrap_or_default();
    Ok(DuplicatedOffset { offset: Offset::new(number_in(row, 0)?), rows })
}

fn lane_in(row: &Cells) -> Result<TopicPartition, BigQueryError> {
    let topic = row.first().and_then(Option::as_deref);
    let partition = i32::try_from(number_in(row, 1)?).ok();
    topic.zip(partition).map(|(topic, partition)| TopicPartition::new(topic, partition)).ok_or_else(|| {
        let answer = Answer::new(200, "", "an answer names no partition");
        BigQueryError::Unknown { at: At::new("query", "completeness"), answer }
    })
}
