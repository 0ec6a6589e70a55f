//! Whether every record is where it should be: offsets of Kafka against rows of tables.
//!
//! ```text
//! due       the caller: offsets of each partition, counted or not               due.rs
//! loaded    SQL on the metadata columns, over all tables at once                statements.rs
//! letters   a LetterSource, as runs of offsets in memory                        letters.rs
//! ───────
//! missing = due - loaded - letters without a row - skipped
//! report                                                                        report.rs
//! ```
//!
//! Everything is one pass over three columns of each table, one more for each twenty thousand letters, and a few for a partition
//! that misses something.

mod due;
mod gaps;
mod letters;
mod report;
pub(crate) mod statements;

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_core::{LetterSource, OffsetRange, StageError, TopicPartition};
use serde_json::Value;

pub use self::due::DueRecords;
pub use self::report::{CompletenessReport, CompletenessTotal, DuplicatedOffset, LaneCompleteness, Share};

use self::letters::LetterOffsets;
use self::statements::{Counts, Loaded, Statements};
use crate::error::BigQueryError;
use crate::name::{TableName, TableNameError};
use crate::query::Statement;
use crate::retry::retried;
use crate::sink::{BigQuerySink, Parts};

const STAGE: &str = "completeness";
/// Partitions asked for in one statement.
const LANES_OF_STATEMENT: usize = 2_000;
/// Letters asked for in one statement: some megabytes of parameters, of the ten that a request may have.
const LETTERS_OF_STATEMENT: usize = 20_000;

/// Compares what Kafka had with what the tables have, by topic, partition and offset.
///
/// It reads and changes nothing. It needs the rows of every table that records may have gone to: without
/// [`tables`](Self::tables) these are the tables of the topics and those with columns of their own.
///
/// # What is due
/// An offset is not a record: markers of transactions and compaction leave offsets without one. So what is due of a partition is
/// a [`DueRecords`]: a range of offsets, with the number of records in it if somebody has counted them. Without a count every
/// offset counts as a record, and what is missing is *at most* what the report says; it marks such numbers with `≤`.
///
/// The range should end at the mark of the pipeline, not at the end of the topic: what is behind the mark is under way. And it
/// should begin where the pipeline began.
///
/// # Letters, skipped records
/// A letter counts if its record is due and has no row: one that was driven again is a row. Records that are left out by
/// intention (tombstones, filters) are in no table; their number has to be given (the metric `aqueduct_skipped_records_total`
/// counts them), or they are missing.
///
/// # Limits
/// A table that demands a filter on its partitions cannot be counted: [`BigQueryError::Refused`]. Each statement reads the three
/// metadata columns of every table; on demand that is what it costs. Memory is some dozens of bytes for each partition and each run
/// of consecutive letters; [`LETTERS_MAX`](Self::LETTERS_MAX) such runs are the most.
///
/// ```no_run
/// use aqueduct_core::{LetterSource, Offset, OffsetRange, TopicPartition};
/// use aqueduct_sink_bigquery::{BigQuerySink, Completeness, DueRecords};
///
/// # async fn check(sink: &BigQuerySink, letters: &mut dyn LetterSource) -> Result<(), Box<dyn std::error::Error>> {
/// let marks = [(0, 120_000), (1, 118_500)];
/// let due = marks.iter().filter_map(|(partition, mark)| {
///     let range = OffsetRange::new(Offset::ZERO, Offset::new(*mark))?;
///     Some(DueRecords::offsets(TopicPartition::new("server-logs", *partition), range))
/// });
/// let report = Completeness::of(sink).due(due).letters(letters).await?.check().await?;
/// println!("{report}");
/// assert!(report.is_complete());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Completeness {
    sink: BigQuerySink,
    due: Vec<DueRecords>,
    tables: Vec<TableName>,
    letters: LetterOffsets,
    skipped: BTreeMap<TopicPartition, u64>,
    examples: usize,
}

impl Completeness {
    /// Most runs of consecutive letters that are kept in memory.
    pub const LETTERS_MAX: usize = letters::RUNS_MAX;

    /// Of what this sink writes. Nothing is due yet.
    pub fn of(sink: &BigQuerySink) -> Self {
        Self {
            sink: sink.clone(),
            due: Vec::new(),
            tables: Vec::new(),
            letters: LetterOffsets::default(),
            skipped: BTreeMap::new(),
            examples: 10,
        }
    }

    /// Adds what is due; one range of each partition.
    pub fn due(mut self, due: impl IntoIterator<Item = DueRecords>) -> Self {
        self.due.extend(due);
        self
    }

    /// Adds tables to look into, as routes name them: `table`, `dataset.table` or `project.dataset.table`. With any, only these.
    ///
    /// # Errors
    /// A name that no table has.
    pub fn tables<S: AsRef<str>>(
        mut self,
        tables: impl IntoIterator<Item = S>,
    ) -> Result<Self, TableNameError> {
        for table in tables {
            let table = self.parts().destinations.of_route(table.as_ref())?;
            self.tables.push(table);
        }
        Ok(self)
    }

    /// Reads all letters there are; those of other partitions and offsets than are due by now count nothing, so say
    /// [what is due](Self::due) before.
    ///
    /// # Errors
    /// Of the source; or if there are more runs of letters than [`LETTERS_MAX`](Self::LETTERS_MAX).
    pub async fn letters<L: LetterSource + ?Sized>(mut self, letters: &mut L) -> Result<Self, StageError> {
        let due: BTreeMap<_, _> = self.due.iter().map(|due| (due.lane().clone(), due.range())).collect();
        while let Some(letter) = letters.next().await? {
            match letter {
                Ok(letter) => {
                    let record = &letter.record;
                    if due.get(&record.lane).is_some_and(|range| range.contains(record.offset)) {
                        self.letters
                            .add(&record.lane, record.offset)
                            .map_err(|problem| StageError::fatal(STAGE, problem))?;
                    }
                }
                Err(unreadable) => tracing::warn!(%unreadable, "this is no letter and counts nothing"),
            }
        }
        Ok(self)
    }

    /// Records of a partition that were left out by intention, among those due.
    pub fn skipped(mut self, lane: TopicPartition, records: u64) -> Self {
        *self.skipped.entry(lane).or_default() += records;
        self
    }

    /// How many ranges of offsets without a row, and how many offsets with several, are named of a partition; ten by default.
    pub fn examples(mut self, examples: usize) -> Self {
        self.examples = examples;
        self
    }

    /// Counts.
    ///
    /// # Errors
    /// [`BigQueryError`] of the service, after having tried for some time where that may help. What is due makes no sense:
    /// twice the same partition, more records than offsets.
    pub async fn check(self) -> Result<CompletenessReport, StageError> {
        if let Some(problem) = due::problem(&self.due) {
            return Err(StageError::fatal(STAGE, problem));
        }
        let failed = |error| StageError::new(STAGE, error);
        let (tables, absent) = self.find_tables().await.map_err(failed)?;
        let ask =
            Ask { parts: self.parts(), statements: Statements::new(&tables, &self.parts().options.metadata) };
        let counts = ask.counts(&self.due).await.map_err(failed)?;
        let loaded = ask.loaded_letters(&self.letters).await.map_err(failed)?;
        let mut lanes = Vec::with_capacity(self.due.len());
        for due in &self.due {
            let lane = due.lane();
            let counted = counts.get(lane).cloned().unwrap_or_default();
            let mut found = LaneCompleteness::new(due, tables.len(), counted);
            found.skipped = self.skipped.get(lane).copied().unwrap_or_default();
            found.repaired = loaded.get(lane).copied().unwrap_or_default();
            found.dead_lettered = self.letters.count(lane).saturating_sub(found.repaired);
            if found.missing() > 0 && self.examples > 0 {
                let named = ask.gaps(lane, due.range(), self.letters.of(lane), self.examples);
                (found.missing_ranges, found.more_missing) = named.await.map_err(failed)?;
            }
            if found.duplicated() > 0 && self.examples > 0 {
                found.duplicated_offsets =
                    ask.duplicates(lane, due.range(), self.examples).await.map_err(failed)?;
            }
            lanes.push(found);
        }
        lanes.sort_by(|a, b| a.lane.cmp(&b.lane));
        Ok(CompletenessReport { tables, absent, lanes })
    }

    fn parts(&self) -> &Parts {
        self.sink.parts()
    }

    /// The tables that are there, and those that are not.
    async fn find_tables(&self) -> Result<(Vec<TableName>, Vec<TableName>), BigQueryError> {
        let parts = self.parts();
        let mut names: BTreeSet<_> = self.tables.iter().cloned().collect();
        if names.is_empty() {
            let topics: BTreeSet<_> = self.due.iter().map(|due| due.lane().topic()).collect();
            names.extend(topics.iter().filter_map(|topic| parts.destinations.of_topic(topic).ok()));
            names.extend(parts.columns.of.keys().cloned());
        }
        let (mut there, mut absent) = (Vec::new(), Vec::new());
        for name in names {
            let Some(found) = retried(|| async { parts.tables.rest().table(&name).await }).await? else {
                absent.push(name);
                continue;
            };
            let fields = found.body.pointer("/schema/fields").and_then(Value::as_array);
            let columns = &parts.options.metadata;
            // The other ones nobody counts by, and a table may be older than they are.
            for column in [&columns.topic, &columns.partition, &columns.offset] {
                let has = |field: &Value| {
                    field
                        .get("name")
                        .and_then(Value::as_str)
                        .is_some_and(|it| it.eq_ignore_ascii_case(column))
                };
                if !fields.is_some_and(|fields| fields.iter().any(has)) {
                    let problem = format!("it lacks the column {column}, by which rows are counted");
                    return Err(BigQueryError::Schema { table: name.to_string(), problem });
                }
            }
            there.push(name);
        }
        Ok((there, absent))
    }
}

/// Statements and where to send them.
struct Ask<'a> {
    parts: &'a Parts,
    statements: Statements,
}

impl Ask<'_> {
    async fn rows(&self, statement: Statement) -> Result<Vec<crate::query::Cells>, BigQueryError> {
        let project = &self.parts.options.query_project;
        retried(|| async { self.parts.tables.rest().query(project, &statement).await }).await
    }

    async fn counts(&self, due: &[DueRecords]) -> Result<BTreeMap<TopicPartition, Counts>, BigQueryError> {
        let mut all = BTreeMap::new();
        for due in due.chunks(LANES_OF_STATEMENT) {
            let Some(statement) = self.statements.counts(due) else { break };
            for row in self.rows(statement).await? {
                let (lane, counts) = self.statements.read_counts(&row)?;
                all.insert(lane, counts);
            }
        }
        Ok(all)
    }

    /// How many letters of each partition have a row.
    async fn loaded_letters(
        &self,
        letters: &LetterOffsets,
    ) -> Result<BTreeMap<TopicPartition, u64>, BigQueryError> {
        let mut all: BTreeMap<TopicPartition, u64> = BTreeMap::new();
        let mut rest = letters.iter().peekable();
        while rest.peek().is_some() {
            let chunk: Vec<_> = rest.by_ref().take(LETTERS_OF_STATEMENT).collect();
            let Some(statement) = self.statements.loaded(&chunk) else { break };
            for row in self.rows(statement).await? {
                let Loaded { lane, offsets } = Loaded::read(&row)?;
                *all.entry(lane).or_default() += offsets;
            }
        }
        Ok(all)
    }

    async fn duplicates(
        &self,
        lane: &TopicPartition,
        range: OffsetRange,
        most: usize,
    ) -> Result<Vec<DuplicatedOffset>, BigQueryError> {
        let Some(statement) = self.statements.duplicates(lane, range, most) else { return Ok(Vec::new()) };
        self.rows(statement).await?.iter().map(statements::read_duplicate).collect()
    }
}
