//! Records of letters in the tables of the sink, each once.
//!
//! ```text
//! rows → a table of their own, by a pending stream                                          staging.rs
//! one job, one transaction:                                                                 statements.rs
//!   update the partition's turn in the claims table     two that do so at a time: one is cancelled
//!   claim what is neither claimed nor in its table      rows of the claims table
//!   copy the rows of what was claimed
//!   commit                                              all of it or nothing
//! ask the claims table what came of it
//! ```
//!
//! # Why each record is stored once
//! What is used of BigQuery, with where Google says so:
//! 1. A transaction is committed as a whole or not at all, and reads one snapshot, its own changes included
//!    (<https://cloud.google.com/bigquery/docs/transactions>: "guarantee ACID properties and support snapshot isolation").
//! 2. Two transactions that change rows of one table do not both commit if they run at the same time: "If a transaction mutates
//!    (update or deletes) rows in a table, then other transactions or DML statements that mutate rows in the same table cannot run
//!    concurrently. Conflicting transactions are cancelled" (the same document). Inserting does *not* conflict, neither as `INSERT` nor
//!    as a `MERGE` that only inserts (<https://cloud.google.com/bigquery/docs/data-manipulation-language#dml_statement_conflicts>):
//!    two `INSERT … WHERE NOT EXISTS` may both insert.
//!
//! Every repair of a partition *updates* its turn: a row of the claims table without an offset. So those that commit do so one after
//! the other (2), each has read what those before it have claimed (1), and leaves it out. Rows and claims become visible
//! together (1). The turn's row is inserted before the transaction begins, if it is not there. Two that do so at a time insert
//! two; then everybody who begins later sees the first of them at least, and updates it: they conflict all the same.
//!
//! A process that dies leaves its transaction to BigQuery, which commits it or not; whoever comes next finds the claims or does not.
//! Nothing is half done, so nothing has to be finished. An answer that is lost is not guessed: the claims say which job they are of.
//! That a job has an id, by which it is run once, saves work and no more: a script that ran twice would find its own claims of an
//! earlier turn, and copy nothing.
//!
//! # Rejected
//! *A `MERGE` on the metadata columns*: two that only insert do not conflict. *Claims that name pending streams*, committed behind them,
//! as objects are created behind theirs: a stream that is finalized is kept for four hours
//! (<https://cloud.google.com/bigquery/docs/write-api-batch>), and a claim of rows that are gone would have to be taken back. *An
//! `insertId`*, which holds for a minute. *The rows' own columns as the only claim*: a correction that routes a record to another table
//! would find nothing there.

mod rows;
mod staging;
pub(crate) mod statements;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use aqueduct_core::{
    Class, Classify as _, ErrorChain, Fingerprint, Offset, Poison, PoisonReason, Rejected, RepairBatch,
    RepairSink, Repaired, Sink, StageError, StructuredValue, TopicPartition,
};
use async_trait::async_trait;
use ring::rand::SecureRandom as _;
use tokio::sync::OnceCell;

use self::rows::TableRows;
use self::staging::Staged;
use self::statements::{Script, ScriptTable};
use crate::config::{BigQueryConfigError, BigQueryConfigErrors, BigQuerySinkBuilder};
use crate::error::{Answer, At, BigQueryError};
use crate::name::{TableName, TableNameError};
use crate::query::number_in;
use crate::retry::retried;
use crate::sink::{BigQuerySink, Parts};
use crate::table::{TableOptions, TableOptionsOf, Tables};

/// The claims table's name without another.
const CLAIMS: &str = "aqueduct_repairs";
/// Tables of one transaction. Google's limit is a hundred that are changed
/// (<https://cloud.google.com/bigquery/docs/transactions#limitations>).
const TABLES_MAX: usize = 40;
/// How often a transaction is tried: it is cancelled if another one is faster.
const ATTEMPTS_MAX: u32 = 8;
const STAGE: &str = "repair";

/// Stores the records of letters in the tables a [`BigQuerySink`] would have stored them in, each once. It is built from that
/// sink's configuration.
///
/// Two re-drives at a time, one that died anywhere and was run again, one that is run twice, with the same correction or with another
/// that has other tables: each record is in one row. What was repaired, where, by which job and when is in the claims table,
/// `aqueduct_repairs` in the sink's dataset: `topic`, `partition`, `offset`, `table`, `claim`, `claimed_at`. Its rows are never
/// removed, and may not be: a record whose claim is gone could be stored again.
///
/// Records are also looked for in their table, by the metadata columns, so one that has a letter and was stored by the pipeline all
/// the same is left out. That reads three columns of the whole table for up to a thousand records; for huge tables
/// [`look_at_rows(false)`](Self::look_at_rows) saves it, and the claims alone decide. Tables that demand a filter on their partitions
/// are not looked at.
///
/// It needs, beside what the sink needs, to run query jobs (`roles/bigquery.jobUser`), and to make and delete tables in the datasets
/// of its tables. All of them have to be in one location. Rows wait in tables called `aqueduct_repair_…`, which are deleted
/// at the end; those of a process that died expire within a day.
///
/// Changes (`changes()`) cannot be driven again like this: a row that is inserted is no change.
///
/// ```no_run
/// use aqueduct_sink_bigquery::{BigQuerySink, BigQueryConfigErrors, BigQueryRepairs, Field, FieldType, TableSchema};
///
/// # async fn build() -> Result<(), BigQueryConfigErrors> {
/// // As the sink is built.
/// let builder = BigQuerySink::builder()
///     .project("shop")
///     .dataset("events")
///     .schema(TableSchema::new([Field::required("id", FieldType::Int64)]));
/// let repairs: BigQueryRepairs = builder.build_repairs().await?;
/// # drop(repairs); Ok(())
/// # }
/// ```
pub struct BigQueryRepairs {
    sink: BigQuerySink,
    claims: TableName,
    /// What is known of the claims table; it is made like no other.
    own_tables: Tables,
    location: OnceCell<String>,
    looks: bool,
}

impl BigQuerySinkBuilder {
    /// Builds what stores the records of letters where the sink would have: give it the sink's own configuration.
    ///
    /// # Errors
    /// As [`build`](Self::build); and for changes, which cannot be driven again.
    pub async fn build_repairs(self) -> Result<BigQueryRepairs, BigQueryConfigErrors> {
        let sink = self.build().await?;
        if sink.parts().options.changes.is_some() {
            let problem = "cannot be driven again: a row that is inserted is no change";
            return Err(BigQueryConfigErrors(vec![BigQueryConfigError::Changes { problem }]));
        }
        let parts = sink.parts();
        let destinations = &parts.destinations;
        let claims = TableName::new(destinations.project.as_str(), destinations.dataset.as_str(), CLAIMS);
        let claims = claims.map_err(|error| BigQueryConfigErrors(vec![BigQueryConfigError::Name(error)]))?;
        let options = TableOptions::new()
            .clustering(["topic", "partition", "offset"])
            .description("which records of dead letters were stored, by which job; rows must stay");
        let own_tables = Tables::new(
            parts.tables.rest().clone(),
            TableOptionsOf { general: options, ..TableOptionsOf::default() },
        );
        Ok(BigQueryRepairs { sink, claims, own_tables, location: OnceCell::new(), looks: true })
    }
}

impl BigQueryRepairs {
    /// Another claims table: `table`, `dataset.table` or `project.dataset.table`. All re-drives of a pipeline need the same one.
    ///
    /// # Errors
    /// A name that no table has.
    pub fn claims_table(mut self, table: &str) -> Result<Self, TableNameError> {
        self.claims = self.sink.parts().destinations.of_route(table)?;
        Ok(self)
    }

    /// Whether records are also looked for among the rows of their tables; they are by default.
    #[must_use]
    pub fn look_at_rows(mut self, look: bool) -> Self {
        self.looks = look;
        self
    }

    fn parts(&self) -> &Parts {
        self.sink.parts()
    }

    /// The claims table is there, and where it is.
    async fn ready(&self) -> Result<&str, BigQueryError> {
        let ready = self.location.get_or_try_init(|| async {
            let rest = self.parts().tables.rest();
            let (project, dataset) = (self.claims.project(), self.claims.dataset());
            let location = retried(|| async { rest.location(project, dataset).await }).await?;
            retried(|| async { self.own_tables.ensure(&self.claims, &statements::claim_fields()).await })
                .await?;
            Ok(location)
        });
        ready.await.map(String::as_str)
    }

    /// Of these records those that are claimed, and by which job.
    async fn claimed(
        &self,
        lane: &TopicPartition,
        offsets: &[i64],
    ) -> Result<BTreeMap<i64, String>, BigQueryError> {
        let statement = statements::claimed(&self.claims, lane, offsets);
        let (rest, project) = (self.parts().tables.rest(), &self.parts().options.query_project);
        let rows = retried(|| async { rest.query(project, &statement).await }).await?;
        let claim = |row: &crate::query::Cells| {
            let claim = row.get(1).cloned().flatten().unwrap_or_default();
            number_in(row, 0).map(|offset| (offset, claim))
        };
        rows.iter().map(claim).collect()
    }

    /// Stores rows of some tables that nobody has stored; answers how many that were.
    async fn store(
        &self,
        lane: &TopicPartition,
        run: &str,
        tables: &[(TableRows, Staged)],
    ) -> Result<u64, BigQueryError> {
        let identity = statements::identity(&self.parts().options.metadata);
        let script = Script {
            claims: self.claims.clone(),
            identity: identity.clone(),
            tables: tables.iter().map(|(rows, staged)| self.script_table(rows, staged)).collect(),
        };
        let offsets: Vec<Vec<i64>> = tables.iter().map(|(rows, staged)| offsets_of(rows, staged)).collect();
        let all: Vec<i64> = offsets.iter().flatten().copied().collect();
        let location = self.ready().await?;
        let (rest, project) = (self.parts().tables.rest(), &self.parts().options.query_project);
        let mut attempt = 0;
        loop {
            attempt += 1;
            // Each with a claim of its own: what one claims, another one copies no rows of.
            let claim = format!("{run}_{attempt}");
            let statement = script.statement(lane, &claim, offsets.iter().map(Vec::as_slice));
            let ended = rest.run_job(project, location, &claim, &statement).await;
            let claims = self.claimed(lane, &all).await?;
            let missing: Vec<_> = all.iter().filter(|offset| !claims.contains_key(offset)).copied().collect();
            let error = match ended {
                _ if missing.is_empty() => None,
                // It is over, so what it did not claim has a row.
                Ok(()) if self.have_rows(&identity, lane, &script, &offsets, &missing).await? => None,
                Ok(()) => Some(BigQueryError::Unknown {
                    at: At::new("run job", &claim),
                    answer: Answer::new("", "", "the job has ended, and neither claims nor rows are there"),
                }),
                Err(error) => Some(error),
            };
            let Some(error) = error else {
                let ours =
                    |claim: &&String| claim.strip_prefix(run).is_some_and(|rest| rest.starts_with('_'));
                return Ok(claims.values().filter(ours).count() as u64);
            };
            if attempt == ATTEMPTS_MAX || !may_pass(&error) {
                return Err(error);
            }
            tracing::info!(%lane, attempt, error = %ErrorChain(&error), "the transaction is tried again");
            tokio::time::sleep(jittered(attempt)).await;
        }
    }

    fn script_table(&self, rows: &TableRows, staged: &Staged) -> ScriptTable {
        ScriptTable {
            target: rows.table.clone(),
            staging: staged.table.clone(),
            columns: staged.columns.clone(),
            looks: self.looks && !staged.wants_filter,
        }
    }

    /// Whether records that are not claimed have rows where they were looked for.
    async fn have_rows(
        &self,
        identity: &[String; 3],
        lane: &TopicPartition,
        script: &Script,
        offsets: &[Vec<i64>],
        missing: &[i64],
    ) -> Result<bool, BigQueryError> {
        let (rest, project) = (self.parts().tables.rest(), &self.parts().options.query_project);
        for (table, offsets) in script.tables.iter().zip(offsets) {
            let of_table: Vec<_> =
                missing.iter().filter(|offset| offsets.contains(offset)).copied().collect();
            if of_table.is_empty() {
                continue;
            }
            if !table.looks {
                return Ok(false);
            }
            let statement = statements::present(&table.target, identity, lane, &of_table);
            let rows = retried(|| async { rest.query(project, &statement).await }).await?;
            let found = rows.first().map_or(Ok(0), |row| number_in(row, 0))?;
            if usize::try_from(found) != Ok(of_table.len()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Leaves out what is claimed, and stores the rest.
    async fn repair_rows(
        &self,
        lane: &TopicPartition,
        mut tables: Vec<TableRows>,
        repaired: &mut Repaired,
    ) -> Result<(), BigQueryError> {
        self.ready().await?;
        let all: Vec<i64> = tables.iter().flat_map(|table| &table.rows).map(|(offset, _)| *offset).collect();
        let claims = if all.is_empty() { BTreeMap::new() } else { self.claimed(lane, &all).await? };
        repaired.before += claims.len() as u64;
        for table in &mut tables {
            table.rows.retain(|(offset, _)| !claims.contains_key(offset));
        }
        tables.retain(|table| !table.rows.is_empty());
        let parts = self.parts();
        for table in &tables {
            retried(|| async { parts.tables.ensure(&table.table, &table.encoder.columns()).await }).await?;
        }
        while !tables.is_empty() {
            let rest = tables.split_off(tables.len().min(TABLES_MAX));
            self.repair_tables(lane, std::mem::replace(&mut tables, rest), repaired).await?;
        }
        Ok(())
    }

    async fn repair_tables(
        &self,
        lane: &TopicPartition,
        tables: Vec<TableRows>,
        repaired: &mut Repaired,
    ) -> Result<(), BigQueryError> {
        let run = format!("aqueduct_repair_{}", random_name()?);
        let mut staged: Vec<(TableRows, Staged)> = Vec::with_capacity(tables.len());
        let mut result = Ok(0);
        for (place, rows) in tables.into_iter().enumerate() {
            match staging::stage(self.parts(), &rows, format!("{run}_{place}")).await {
                Ok(found) => staged.push((rows, found)),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if result.is_ok() && staged.iter().any(|(rows, staged)| !offsets_of(rows, staged).is_empty()) {
            result = self.store(lane, &run, &staged).await;
        }
        for (_, staged) in &staged {
            staging::discard(self.parts(), &staged.table).await;
        }
        let stored = result?;
        repaired.stored += stored;
        for (rows, staged) in &staged {
            let refused = staged.refused.iter().map(|offset| Rejected {
                offset: Offset::new(*offset),
                poison: Poison::new(PoisonReason::Rejected, format!("table {} refuses the row", rows.table)),
            });
            repaired.refused.extend(refused);
            repaired.before += offsets_of(rows, staged).len() as u64;
            repaired.objects += 1;
        }
        repaired.before = repaired.before.saturating_sub(stored);
        Ok(())
    }
}

/// The records that can be stored.
fn offsets_of(rows: &TableRows, staged: &Staged) -> Vec<i64> {
    let refused: &BTreeSet<i64> = &staged.refused;
    rows.rows.iter().map(|(offset, _)| *offset).filter(|offset| !refused.contains(offset)).collect()
}

/// A transaction that was cancelled fails as a query that is wrong does (`invalidQuery`), and only the words of the message tell them
/// apart. So both are tried again, a few times.
fn may_pass(error: &BigQueryError) -> bool {
    matches!(error, BigQueryError::Refused { .. }) || !matches!(error.class(), Class::Fatal | Class::Fenced)
}

/// A tenth of a second at first and some at last, and up to twice as much: two that were in each other's way should not meet again.
fn jittered(attempt: u32) -> Duration {
    let mut random = [0];
    // Without a random number there is only no jitter.
    ring::rand::SystemRandom::new().fill(&mut random).ok();
    let half = Duration::from_millis(50) * 2_u32.saturating_pow(attempt.min(5));
    half + half * u32::from(random[0]) / 256
}

/// A name that nobody has.
fn random_name() -> Result<String, BigQueryError> {
    let mut random = [0_u8; 16];
    let failed = |_| BigQueryError::Unknown {
        at: At::new("name job", "a repair"),
        answer: Answer::new("", "", "the system gives no random numbers"),
    };
    ring::rand::SystemRandom::new().fill(&mut random).map_err(failed)?;
    Ok(format!("{:032x}", u128::from_le_bytes(random)))
}

#[async_trait]
impl<T: StructuredValue + Send + 'static> RepairSink<T> for BigQueryRepairs {
    /// The claims table can be made, or is there.
    async fn check(&self) -> Result<(), StageError> {
        self.ready().await.map(drop).map_err(|error| StageError::new(STAGE, error))
    }

    async fn repair(&self, batch: RepairBatch<'_, T>) -> Result<Repaired, StageError> {
        let lane = batch.lane.clone();
        let failed = |error| StageError::new(STAGE, error);
        let (tables, refused) = rows::encode(self.parts(), batch).await.map_err(failed)?;
        let mut repaired = Repaired { refused, ..Repaired::default() };
        self.repair_rows(&lane, tables, &mut repaired).await.map_err(failed)?;
        Ok(repaired)
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        Sink::<T>::fingerprint(&self.sink, parts);
        parts.put("repairs", "1");
    }
}

impl fmt::Debug for BigQueryRepairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BigQueryRepairs")
            .field("sink", &self.sink)
            .field("claims", &self.claims)
            .field("looks", &self.looks)
            .finish_non_exhaustive()
    }
}
