//! Tables, streams and what was asked for so far.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::change;
use super::fault::{FakeCall, FakeFault, FakeLimits, Refuses};
use super::order::{Death, Turns};
use super::query::{Job, JobRules, Running};
use crate::name::TableName;
use crate::schema::TableSchema;

#[derive(Debug, Default)]
pub(super) struct State {
    inner: Mutex<Inner>,
    holds_answers: watch::Sender<bool>,
    /// Changes when connections are told to go away.
    went_away: watch::Sender<u64>,
}

impl State {
    /// Whether answers to appends are held back.
    pub(super) fn hold_answers(&self, hold: bool) {
        self.holds_answers.send_replace(hold);
    }

    /// Waits for as long as they are.
    pub(super) async fn answers_pass(&self) {
        self.holds_answers.subscribe().wait_for(|holds| !holds).await.ok();
    }

    /// Ends the connections of appends.
    pub(super) fn go_away(&self) {
        self.went_away.send_modify(|times| *times += 1);
    }

    /// Sees connections being told to go away from now on.
    pub(super) fn watch_away(&self) -> watch::Receiver<u64> {
        self.went_away.subscribe()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) datasets: BTreeSet<(String, String)>,
    pub(super) tables: BTreeMap<TableName, Table>,
    /// By full name.
    pub(super) streams: HashMap<String, Stream>,
    pub(super) faults: HashMap<FakeCall, VecDeque<FakeFault>>,
    pub(super) calls: HashMap<FakeCall, u64>,
    pub(super) limits: FakeLimits,
    pub(super) token: Option<String>,
    pub(super) refuses: Option<Refuses>,
    pub(super) creates: VecDeque<Instant>,
    pub(super) insert_ids: super::insert_all::InsertIds,
    holds_changes: bool,
    pub(super) miscounts: usize,
    /// Most requests of one connection that had no answer, and most bytes of them.
    pub(super) unanswered_max: (usize, usize),
    pub(super) jobs: VecDeque<Job>,
    pub(super) query_polls: usize,
    pub(super) running: Vec<Running>,
    pub(super) job_rules: JobRules,
    /// How often rows were changed by a transaction.
    pub(super) changes: u64,
    /// Calls of all kinds.
    pub(super) all_calls: u64,
    pub(super) death: Option<Death>,
    pub(super) turns: Option<Turns>,
    /// Rows are not looked into.
    pub(super) counts_only: bool,
    next: u64,
}

#[derive(Debug)]
pub(super) struct Table {
    body: Value,
    etag: u64,
    pub(super) schema: TableSchema,
    /// What the Storage Write interface still sees.
    before: Option<TableSchema>,
    pub(super) updates: VecDeque<Instant>,
    visible: Vec<FakeRow>,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) table: TableName,
    pub(super) rows: Vec<Value>,
    pub(super) finalized: bool,
    pub(super) committed: bool,
}

/// A row as a test sees it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FakeRow {
    /// The stream it came by.
    pub stream: String,
    /// Whether a query would see it.
    pub visible: bool,
    /// Its columns by name: whole numbers for `INTEGER`, `TIMESTAMP` (microseconds) and `DATE` (days), texts for everything that
    /// is written as one, base64 for `BYTES`.
    pub columns: Value,
}

impl Table {
    pub(super) fn resource(&self) -> Value {
        let mut body = self.body.clone();
        if let Some(object) = body.as_object_mut() {
            object.insert("etag".to_owned(), self.etag().into());
        }
        body
    }

    pub(super) fn etag(&self) -> String {
        format!("\"etag-{}\"", self.etag)
    }

    /// What rows are checked against. Schema changes reach the Storage Write interface later, "on the order of minutes"
    /// (<https://cloud.google.com/bigquery/docs/write-api-streaming#update-schema>).
    pub(super) fn write_schema(&self) -> &TableSchema {
        self.before.as_ref().unwrap_or(&self.schema)
    }

    /// "Attempts to query the partitioned table without specifying a WHERE clause produce" an error
    /// (<https://cloud.google.com/bigquery/docs/querying-partitioned-tables#require_a_partition_filter_in_queries>).
    pub(super) fn demands_filter(&self) -> bool {
        self.body.get("requirePartitionFilter").and_then(Value::as_bool) == Some(true)
    }

    /// What a query sees.
    pub(super) fn visible(&self) -> Vec<FakeRow> {
        change::applied(&self.visible, &self.key())
    }

    pub(super) fn visible_count(&self) -> u64 {
        self.visible.len() as u64
    }

    /// The columns of the primary key; none without one.
    pub(super) fn key(&self) -> Vec<String> {
        let columns = self.body.pointer("/tableConstraints/primaryKey/columns").and_then(Value::as_array);
        columns.into_iter().flatten().filter_map(|column| column.as_str().map(str::to_owned)).collect()
    }
}

impl Inner {
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Notes the call; answers the fault it meets.
    pub(super) fn meet(&mut self, call: FakeCall) -> Option<FakeFault> {
        *self.calls.entry(call).or_default() += 1;
        self.all_calls += 1;
        if let Some(fault) = self.dies() {
            return Some(fault);
        }
        self.faults.get_mut(&call)?.pop_front()
    }

    /// Makes or changes a table.
    pub(super) fn put_table(&mut self, name: &TableName, body: Value) {
        let schema =
            body.get("schema").and_then(|schema| TableSchema::from_value(schema).ok()).unwrap_or_default();
        let (etag, holds) = (self.number(), self.holds_changes);
        match self.tables.get_mut(name) {
            None => {
                let (before, updates, visible) = (None, VecDeque::new(), Vec::new());
                self.tables.insert(name.clone(), Table { body, etag, schema, before, updates, visible });
            }
            Some(table) => {
                if holds && table.before.is_none() {
                    table.before = Some(table.schema.clone());
                }
                (table.body, table.etag, table.schema) = (body, etag, schema);
            }
        }
    }

    pub(super) fn demand_filter(&mut self, name: &TableName) {
        if let Some(body) = self.tables.get_mut(name).and_then(|table| table.body.as_object_mut()) {
            body.insert("requirePartitionFilter".to_owned(), true.into());
        }
    }

    pub(super) fn hold_changes(&mut self, hold: bool) {
        self.holds_changes = hold;
        if !hold {
            self.tables.values_mut().for_each(|table| table.before = None);
        }
    }

    pub(super) fn delete_table(&mut self, name: &TableName) {
        self.tables.remove(name);
        self.streams.retain(|_, stream| stream.table != *name);
    }

    pub(super) fn forget_streams(&mut self, name: &TableName) {
        self.streams.retain(|_, stream| stream.table != *name);
    }

    pub(super) fn delete_rows(&mut self, name: &TableName, which: impl Fn(&Value) -> bool) {
        if let Some(table) = self.tables.get_mut(name) {
            table.visible.retain(|row| !which(&row.columns));
        }
    }

    /// Changes visible rows.
    pub(super) fn update_rows(&mut self, name: &TableName, change: impl Fn(&mut FakeRow)) {
        if let Some(table) = self.tables.get_mut(name) {
            table.visible.iter_mut().for_each(change);
        }
    }

    /// Makes rows visible.
    pub(super) fn show(&mut self, name: &TableName, stream: &str, rows: &[Value]) {
        if let Some(table) = self.tables.get_mut(name) {
            let rows = rows.iter().map(|row| FakeRow {
                stream: stream.to_owned(),
                visible: true,
                columns: row.clone(),
            });
            table.visible.extend(rows);
        }
    }

    pub(super) fn rows(&self, name: &TableName) -> Vec<FakeRow> {
        let mut rows = self.tables.get(name).map(Table::visible).unwrap_or_default();
        let mut pending: Vec<_> =
            self.streams.iter().filter(|(_, stream)| stream.table == *name && !stream.committed).collect();
        pending.sort_by_key(|(path, _)| path.as_str());
        for (path, stream) in pending {
            rows.extend(stream.rows.iter().map(|row| FakeRow {
                stream: path.clone(),
                visible: false,
                columns: row.clone(),
            }));
        }
        rows
    }

    /// Notes something that is limited; answers whether that is within `limit` for the `window` that ends now.
    pub(super) fn within(times: &mut VecDeque<Instant>, limit: usize, window: Duration) -> bool {
        let now = Instant::now();
        let recent = times.iter().rev().take_while(|time| now.duration_since(**time) < window).count();
        if recent >= limit {
            return false;
        }
        times.push_back(now);
        true
    }
}

/// The body of an answer with an error, as REST interfaces of Google have it.
pub(super) fn error_body(status: u16, reason: &str, message: &str) -> Value {
    json!({ "error": { "code": status, "message": message, "errors": [{ "reason": reason, "message": message }] } })
}
