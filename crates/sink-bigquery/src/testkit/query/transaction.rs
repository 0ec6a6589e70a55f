//! Jobs of the one script this crate runs: a transaction that claims and copies.
//!
//! A job runs a statement at a time. By default all of them at once; with [held jobs](crate::testkit::FakeBigQuery::hold_jobs) one
//! with each call of the REST interface, whosever it is, so that transactions run at the same time and go on when those who began
//! them are dead. The rules are those of <https://cloud.google.com/bigquery/docs/transactions>:
//!
//! - everything a transaction reads is of one snapshot, with its own changes on top;
//! - "if a transaction mutates (update or deletes) rows in a table, then other transactions […] that mutate rows in the same table
//!   cannot run concurrently. Conflicting transactions are cancelled": here, who comes second;
//! - "if a transaction only […] appends new rows", nothing conflicts with it;
//! - what is committed is so as a whole; a job that fails has changed nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Job, Parameters, Refused, Rows, invalid};
use crate::name::TableName;
use crate::query::table_sql;
use crate::repair::statements::{Script, ScriptTable};
use crate::testkit::rest::{Answer, refused};
use crate::testkit::state::{FakeRow, Inner};

/// How jobs run.
#[derive(Debug, Default)]
pub(in crate::testkit) struct JobRules {
    /// A statement with each call, instead of all at once.
    pub(in crate::testkit) held: bool,
    /// Each runs twice.
    pub(in crate::testkit) repeated: bool,
    /// Transactions do not conflict.
    pub(in crate::testkit) without_conflicts: bool,
}

/// A job that is not done.
#[derive(Debug)]
pub(in crate::testkit) struct Running {
    pub(super) id: String,
    script: Script,
    parameters: Parameters,
    /// Statements that are done.
    done: usize,
    /// It runs for the second time.
    again: bool,
    transaction: Option<Transaction>,
}

#[derive(Debug, Default)]
struct Transaction {
    /// What it sees of each table: the snapshot, and its own changes.
    sees: BTreeMap<TableName, Vec<FakeRow>>,
    /// What it has inserted.
    inserted: Vec<(TableName, Value)>,
    /// How often rows of the claims table had been changed by then.
    changes: u64,
    /// It has changed such rows.
    mutates: bool,
}

/// Reads a script: the names that are in it, and then it must be the one that is made of them.
fn read(sql: &str) -> Option<Script> {
    let mut statements = sql.strip_suffix(";")?.split(";\n");
    let claims = statements.next()?.strip_prefix("INSERT INTO `")?.split_once('`')?.0;
    let claims = TableName::parse(claims).ok()?;
    let (mut tables, mut identity) = (Vec::new(), None);
    let pairs: Vec<_> = statements.skip(2).collect();
    for pair in pairs.chunks_exact(2) {
        let [claiming, copying] = pair else { return None };
        let (target, rest) = copying.strip_prefix("INSERT INTO `")?.split_once("` (`")?;
        let (columns, rest) = rest.split_once("`) SELECT ")?;
        let (staging, rest) = rest.split_once(" FROM `")?.1.split_once("` AS s WHERE s.`")?;
        let (topic, rest) = rest.split_once("` = @topic AND s.`")?;
        let (partition, rest) = rest.split_once("` = @partition AND s.`")?;
        let offset = rest.split_once("` IN (")?.0;
        identity = Some([topic, partition, offset].map(str::to_owned));
        let target = TableName::parse(target).ok()?;
        let looks = claiming.contains(&format!("FROM {} AS t", table_sql(&target)));
        let columns = columns.split("`, `").map(str::to_owned).collect();
        tables.push(ScriptTable { target, staging: TableName::parse(staging).ok()?, columns, looks });
    }
    let script = Script { claims, identity: identity?, tables };
    (script.sql() == sql).then_some(script)
}

fn not_found(table: &TableName) -> Refused {
    (404, "notFound", format!("Not found: Table {table}"))
}

impl Inner {
    /// `jobs.insert`: a job's id is used once (<https://cloud.google.com/bigquery/docs/managing-jobs#repeat_jobs>).
    pub(in crate::testkit) fn insert_job(&mut self, body: &Value) -> Answer {
        let text = |pointer| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let id = text("/jobReference/jobId").to_owned();
        if text("/jobReference/location") != "US" {
            return refused(400, "invalid", "the job's location is not that of its tables");
        }
        if self.jobs.iter().any(|job| job.id == id) || self.running.iter().any(|job| job.id == id) {
            return refused(409, "duplicate", &format!("Already Exists: Job {id}"));
        }
        let configuration = body.pointer("/configuration/query").cloned().unwrap_or_default();
        match read(text("/configuration/query/query")) {
            Some(script) => {
                let parameters = Parameters::of(&configuration);
                self.running.push(Running {
                    id: id.clone(),
                    script,
                    parameters,
                    done: 0,
                    again: false,
                    transaction: None,
                });
            }
            None => self.end_job(id.clone(), Err(invalid("the fake does not read this"))),
        }
        if !self.job_rules.held {
            while !self.running.is_empty() {
                self.advance_jobs();
            }
        }
        (
            200,
            json!({ "kind": "bigquery#job", "jobReference": { "projectId": "p", "jobId": id, "location": "US" } }),
        )
    }

    /// Every job does one statement.
    pub(in crate::testkit) fn advance_jobs(&mut self) {
        for _ in 0..self.running.len() {
            let mut job = self.running.remove(0);
            match self.advance(&mut job) {
                Ok(true) if self.job_rules.repeated && !job.again => {
                    (job.again, job.done) = (true, 0);
                    self.running.push(job);
                }
                Ok(true) => self.end_job(job.id, Ok(Rows::new())),
                Ok(false) => self.running.push(job),
                Err(refused) => self.end_job(job.id, Err(refused)),
            }
        }
    }

    fn end_job(&mut self, id: String, outcome: Result<Rows, Refused>) {
        let unready = self.query_polls;
        self.keep_job(Job { id, outcome, unready });
    }

    /// Answers whether it was the last one.
    fn advance(&mut self, job: &mut Running) -> Result<bool, Refused> {
        let statement = job.done;
        job.done += 1;
        match statement {
            0 => self.insert_turn(job).map(|()| false),
            1 => self.begin_transaction(job).map(|()| false),
            2 => self.take_turn(job).map(|()| false),
            of_table => match job.script.tables.get((of_table - 3) / 2).cloned() {
                Some(table) if of_table % 2 == 1 => {
                    Self::claim(job, (of_table - 3) / 2, &table).map(|()| false)
                }
                Some(table) => copy(job, &table).map(|()| false),
                None => self.commit(job).map(|()| true),
            },
        }
    }

    /// A statement outside of a transaction is one of its own, and inserting conflicts with nothing.
    fn insert_turn(&mut self, job: &Running) -> Result<(), Refused> {
        let claims = &job.script.claims;
        let table = self.tables.get(claims).ok_or_else(|| not_found(claims))?;
        let (topic, partition) = (job.parameters.text("topic")?, job.parameters.number("partition")?);
        if !table.visible().iter().any(|row| is_turn(row, &topic, partition)) {
            let row = json!({ "topic": topic, "partition": partition, "turn": 0 });
            self.show(claims, &job.id, &[row]);
        }
        Ok(())
    }

    fn begin_transaction(&mut self, job: &mut Running) -> Result<(), Refused> {
        let mut transaction = Transaction { changes: self.changes, ..Transaction::default() };
        let of_tables = job.script.tables.iter().flat_map(|table| [&table.target, &table.staging]);
        for name in of_tables.chain([&job.script.claims]) {
            let table = self.tables.get(name).ok_or_else(|| not_found(name))?;
            let looks = job.script.tables.iter().any(|of| of.looks && of.target == *name);
            if looks && table.demands_filter() {
                return Err(invalid(format!("Cannot query over table '{name}' without a filter")));
            }
            transaction.sees.insert(name.clone(), table.visible());
        }
        job.transaction = Some(transaction);
        Ok(())
    }

    fn take_turn(&mut self, job: &mut Running) -> Result<(), Refused> {
        let (topic, partition) = (job.parameters.text("topic")?, job.parameters.number("partition")?);
        let others = self.running.iter().filter(|other| other.script.claims == job.script.claims);
        let busy = others.filter_map(|other| other.transaction.as_ref()).any(|other| other.mutates);
        let Some(transaction) = &mut job.transaction else { return Err(invalid("no transaction")) };
        let mine = transaction.sees.get_mut(&job.script.claims);
        for row in mine.into_iter().flatten().filter(|row| is_turn(row, &topic, partition)) {
            next_turn(row);
            transaction.mutates = true;
        }
        if transaction.mutates
            && !self.job_rules.without_conflicts
            && (busy || transaction.changes != self.changes)
        {
            return Err(conflict(&job.script.claims));
        }
        Ok(())
    }

    fn claim(job: &mut Running, place: usize, table: &ScriptTable) -> Result<(), Refused> {
        let (topic, partition) = (job.parameters.text("topic")?, job.parameters.number("partition")?);
        let (name, claim) = (job.parameters.text(&format!("table_{place}"))?, job.parameters.text("claim")?);
        let wanted = job.parameters.numbers(&format!("offsets_{place}"))?;
        let identity = &job.script.identity;
        let Some(transaction) = &mut job.transaction else { return Err(invalid("no transaction")) };
        let of = |name: &TableName| transaction.sees.get(name).map(Vec::as_slice).unwrap_or_default();
        let claims = of(&job.script.claims);
        if !claims.iter().any(|row| is_turn(row, &topic, partition)) {
            return Ok(());
        }
        let turn = last_turn(claims, &topic, partition);
        let claimed = ["topic", "partition", "offset"].map(str::to_owned);
        let mut free = Vec::new();
        for row in of(&table.staging) {
            let Some(offset) = offset_of(row, identity, &topic, partition) else { continue };
            let has = |rows: &[FakeRow], identity: &[String; 3]| {
                rows.iter().any(|row| offset_of(row, identity, &topic, partition) == Some(offset))
            };
            let there = table.looks && wanted.contains(&offset) && has(of(&table.target), identity);
            if wanted.contains(&offset) && !has(claims, &claimed) && !there {
                free.push(offset);
            }
        }
        for offset in free {
            let row = json!({
                "topic": topic, "partition": partition, "offset": offset, "table": name, "claim": claim, "claimed_at": 0,
                "turn": turn,
            });
            insert(transaction, &job.script.claims, row);
        }
        Ok(())
    }

    fn commit(&mut self, job: &mut Running) -> Result<(), Refused> {
        let Some(transaction) = job.transaction.take() else { return Err(invalid("no transaction")) };
        if transaction.mutates {
            if transaction.changes != self.changes && !self.job_rules.without_conflicts {
                return Err(conflict(&job.script.claims));
            }
            self.changes += 1;
            let (topic, partition) = (job.parameters.text("topic")?, job.parameters.number("partition")?);
            let seen = |row: &FakeRow| is_turn(row, &topic, partition);
            self.update_rows(&job.script.claims, |row| {
                if seen(row) {
                    next_turn(row);
                }
            });
        }
        for (table, _) in &transaction.inserted {
            if !self.tables.contains_key(table) {
                return Err(not_found(table));
            }
        }
        for (table, row) in transaction.inserted {
            self.show(&table, &job.id, &[row]);
        }
        Ok(())
    }
}

/// Copies the rows of what this job has claimed for the table.
fn copy(job: &mut Running, table: &ScriptTable) -> Result<(), Refused> {
    let (topic, partition) = (job.parameters.text("topic")?, job.parameters.number("partition")?);
    let (name, claim) = (table.target.to_string(), job.parameters.text("claim")?);
    let Some(transaction) = &mut job.transaction else { return Err(invalid("no transaction")) };
    let of = |name: &TableName| transaction.sees.get(name).map(Vec::as_slice).unwrap_or_default();
    let columns = ["topic", "partition", "offset"].map(str::to_owned);
    let is = |row: &FakeRow, column: &str, value: &str| row.columns.get(column) == Some(&Value::from(value));
    let turn = last_turn(of(&job.script.claims), &topic, partition);
    let ours = of(&job.script.claims).iter().filter(|row| {
        let of_turn = row.columns.get("turn").and_then(Value::as_i64);
        is(row, "claim", &claim) && is(row, "table", &name) && of_turn.is_some() && of_turn == turn
    });
    let claimed: Vec<_> = ours.filter_map(|row| offset_of(row, &columns, &topic, partition)).collect();
    let mut copied = Vec::new();
    for row in of(&table.staging) {
        let offset = offset_of(row, &job.script.identity, &topic, partition);
        if offset.is_some_and(|offset| claimed.contains(&offset)) {
            let cell = |column: &String| Some((column.clone(), row.columns.get(column.as_str())?.clone()));
            copied.push(table.columns.iter().filter_map(cell).collect::<serde_json::Map<_, _>>());
        }
    }
    for row in copied {
        insert(transaction, &table.target, Value::Object(row));
    }
    Ok(())
}

fn next_turn(row: &mut FakeRow) {
    if let Some(columns) = row.columns.as_object_mut() {
        let turn = columns.get("turn").and_then(Value::as_i64);
        columns.insert("turn".to_owned(), turn.map(|turn| turn + 1).into());
    }
}

/// `MAX` over the rows that take turns.
fn last_turn(claims: &[FakeRow], topic: &str, partition: i64) -> Option<i64> {
    let turns = claims.iter().filter(|row| is_turn(row, topic, partition));
    turns.filter_map(|row| row.columns.get("turn").and_then(Value::as_i64)).max()
}

/// "The changes are visible to subsequent statements within the same transaction."
fn insert(transaction: &mut Transaction, table: &TableName, row: Value) {
    let seen = FakeRow { stream: String::new(), visible: true, columns: row.clone() };
    transaction.sees.entry(table.clone()).or_default().push(seen);
    transaction.inserted.push((table.clone(), row));
}

fn is_turn(row: &FakeRow, topic: &str, partition: i64) -> bool {
    let of = |column| row.columns.get(column);
    of("topic").and_then(Value::as_str) == Some(topic)
        && of("partition").and_then(Value::as_i64) == Some(partition)
        && of("offset").is_none_or(Value::is_null)
}

fn offset_of(
    row: &FakeRow,
    [topic, partition, offset]: &[String; 3],
    of_topic: &str,
    of_partition: i64,
) -> Option<i64> {
    let of = |column: &String| row.columns.get(column.as_str());
    let is = of(topic)?.as_str()? == of_topic && of(partition)?.as_i64()? == of_partition;
    of(offset)?.as_i64().filter(|_| is)
}

/// <https://cloud.google.com/bigquery/docs/troubleshoot-queries>: "Transaction is aborted due to concurrent update against table".
fn conflict(table: &TableName) -> Refused {
    invalid(format!(
        "Transaction is aborted due to concurrent update against table {table}. Transaction ID: fake"
    ))
}
