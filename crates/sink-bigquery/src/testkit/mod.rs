//! A BigQuery in this process, for tests.
//!
//! A gRPC server of the Storage Write interface and a REST server, on ports of their own, that keep tables in memory and behave
//! as Google documents the service: each rule names its document where it is. What is documented nowhere is not in here; what
//! the real service does beyond it no test against this can show.
//!
//! ```
//! use aqueduct_sink_bigquery::testkit::FakeBigQuery;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let fake = FakeBigQuery::start().await;
//! fake.create_dataset("shop", "events");
//! let rest = fake.rest_endpoint();
//! assert!(rest.starts_with("http://127.0.0.1:"));
//! # });
//! ```

mod change;
mod decode;
mod fault;
mod insert_all;
mod order;
mod query;
mod rest;
mod state;
mod stream;
mod tokens;
mod write;

use std::net::TcpListener;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub use fault::{FakeCall, FakeFault, FakeLimits};
pub use state::FakeRow;
pub use tokens::{FakeTokenAnswer, FakeTokenRequest, FakeTokens};

use self::state::State;
use crate::name::TableName;
use crate::schema::TableSchema;

/// See the module. Its servers end when it is dropped.
#[derive(Debug)]
pub struct FakeBigQuery {
    state: Arc<State>,
    rest_endpoint: String,
    grpc_endpoint: String,
    go_away: Arc<Notify>,
    tasks: [JoinHandle<()>; 2],
}

impl FakeBigQuery {
    /// Starts both servers on free ports of the loopback interface.
    ///
    /// # Panics
    /// If there is no port. This is a test helper.
    pub async fn start() -> Self {
        let state = Arc::new(State::default());
        let go_away = Arc::new(Notify::new());
        let (grpc, grpc_endpoint) = listen();
        let (rest, rest_endpoint) = listen();
        let tasks = [
            tokio::spawn(write::serve(grpc, Arc::clone(&state), Arc::clone(&go_away))),
            tokio::spawn(rest::serve(rest, Arc::clone(&state))),
        ];
        // The servers take their first connection from here on; those before wait in the socket.
        tokio::task::yield_now().await;
        let rest_endpoint = format!("{rest_endpoint}/bigquery/v2");
        Self { state, rest_endpoint, grpc_endpoint, go_away, tasks }
    }

    /// The REST interface's base URL.
    pub fn rest_endpoint(&self) -> &str {
        &self.rest_endpoint
    }

    /// The Storage Write interface's URL.
    pub fn grpc_endpoint(&self) -> &str {
        &self.grpc_endpoint
    }

    /// Makes a dataset; one that exists stays.
    pub fn create_dataset(&self, project: &str, dataset: &str) {
        self.state.lock().datasets.insert((project.to_owned(), dataset.to_owned()));
    }

    /// Makes a table as somebody else would, or changes its columns; takes effect at once.
    pub fn create_table(&self, table: &TableName, schema: &TableSchema) {
        self.create_dataset(table.project(), table.dataset());
        let reference = serde_json::json!({
            "projectId": table.project(), "datasetId": table.dataset(), "tableId": table.table(),
        });
        let body = serde_json::json!({ "tableReference": reference, "schema": schema.to_value() });
        self.state.lock().put_table(table, body);
    }

    /// Removes a table with its rows and streams.
    pub fn delete_table(&self, table: &TableName) {
        self.state.lock().delete_table(table);
    }

    /// Forgets every stream of the table, as the service does with old ones; what is visible stays.
    pub fn forget_streams(&self, table: &TableName) {
        self.state.lock().forget_streams(table);
    }

    /// Removes visible rows.
    pub fn delete_rows(&self, table: &TableName, which: impl Fn(&Value) -> bool) {
        self.state.lock().delete_rows(table, which);
    }

    /// The table's resource as `tables.get` gives it.
    pub fn table(&self, table: &TableName) -> Option<Value> {
        self.state.lock().tables.get(table).map(state::Table::resource)
    }

    /// All tables there are.
    pub fn tables(&self) -> Vec<TableName> {
        self.state.lock().tables.keys().cloned().collect()
    }

    /// Every row the table's streams were given, decoded, visible ones first and in the order they became so.
    pub fn rows(&self, table: &TableName) -> Vec<FakeRow> {
        self.state.lock().rows(table)
    }

    /// Counts rows from here on and looks into none: what they hold is not checked, and they are `null` where they are shown. For
    /// measurements, which are of the sink.
    pub fn count_rows_only(&self) {
        self.state.lock().counts_only = true;
    }

    /// How many rows of the table are visible, before any change that they stand for.
    pub fn visible_count(&self, table: &TableName) -> u64 {
        self.state.lock().tables.get(table).map(state::Table::visible_count).unwrap_or_default()
    }

    /// How often a call was made, whatever became of it.
    pub fn calls(&self, call: FakeCall) -> u64 {
        self.state.lock().calls.get(&call).copied().unwrap_or(0)
    }

    /// The next `times` calls of this kind meet the fault; faults of one kind queue.
    pub fn inject(&self, call: FakeCall, fault: FakeFault, times: usize) {
        let mut state = self.state.lock();
        state.faults.entry(call).or_default().extend(std::iter::repeat_n(fault, times));
    }

    /// Faults that nothing has met yet.
    pub fn pending_faults(&self) -> usize {
        self.state.lock().faults.values().map(std::collections::VecDeque::len).sum()
    }

    /// Refuses rows of which `which` is true, as if a column of theirs were wrong.
    pub fn refuse_rows(&self, which: impl Fn(&Value) -> bool + Send + 'static) {
        self.state.lock().refuses = Some(fault::Refuses(Box::new(which)));
    }

    /// Whether changes of columns stay unknown to the Storage Write interface; `false` makes those so far known.
    pub fn hold_changes(&self, hold: bool) {
        self.state.lock().hold_changes(hold);
    }

    /// Whether answers to appends are held back; the requests are read and done meanwhile, as many as come. `false` sends them.
    pub fn hold_answers(&self, hold: bool) {
        self.state.hold_answers(hold);
    }

    /// The most requests that one connection of appends had without an answer at a time, and the most bytes of them.
    pub fn unanswered_max(&self) -> (usize, usize) {
        self.state.lock().unanswered_max
    }

    /// The next `times` streams that are finalized are said to have a row more than they have.
    pub fn miscount(&self, times: usize) {
        self.state.lock().miscounts = times;
    }

    /// Puts a row into a table as somebody else would, visible at once.
    pub fn add_row(&self, table: &TableName, columns: Value) {
        self.state.lock().show(table, "", &[columns]);
    }

    /// Demands a filter on partitions of every query of the table, of which the fake's have none.
    pub fn demand_filter(&self, table: &TableName) {
        self.state.lock().demand_filter(table);
    }

    /// How often a query is answered with "not yet" before it is done.
    pub fn slow_queries(&self, polls: usize) {
        self.state.lock().query_polls = polls;
    }

    /// Jobs do one statement with each REST call, instead of all of them at once: so several run at the same time, and go on when
    /// whoever began them is dead.
    pub fn hold_jobs(&self, hold: bool) {
        self.state.lock().job_rules.held = hold;
    }

    /// Forgets that transactions conflict: for tests that have to fail without it.
    pub fn ignore_conflicts(&self) {
        self.state.lock().job_rules.without_conflicts = true;
    }

    /// Runs every job twice, of which the second one is answered for.
    pub fn repeat_jobs(&self) {
        self.state.lock().job_rules.repeated = true;
    }

    /// Calls of all kinds so far.
    pub fn all_calls(&self) -> u64 {
        self.state.lock().all_calls
    }

    /// Sets the limits.
    pub fn set_limits(&self, limits: FakeLimits) {
        self.state.lock().limits = limits;
    }

    /// Demands this access token of every call.
    pub fn require_token(&self, token: &str) {
        self.state.lock().token = Some(token.to_owned());
    }

    /// Sends GOAWAY on every gRPC connection: calls under way end, new ones need a new connection.
    pub fn go_away(&self) {
        self.go_away.notify_one();
        self.state.go_away();
    }
}

impl Drop for FakeBigQuery {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, format!("http://{address}")))
    });
    match listener {
        Ok(listener) => listener,
        Err(error) => panic!("the fake needs a port: {error}"),
    }
}

#[cfg(test)]
mod tests;
