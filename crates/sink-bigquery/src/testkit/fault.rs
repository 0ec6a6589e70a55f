//! What a test can make the fake do wrong, and its limits.

use std::fmt;

use serde_json::Value;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FakeCall {
    /// `CreateWriteStream`
    CreateWriteStream,
    /// One request on an `AppendRows` connection.
    AppendRows,
    /// `FinalizeWriteStream`
    FinalizeWriteStream,
    /// `BatchCommitWriteStreams`
    BatchCommitWriteStreams,
    /// `GetWriteStream`
    GetWriteStream,
    /// `datasets.get`
    GetDataset,
    /// `tables.get`
    GetTable,
    /// `tables.insert`
    InsertTable,
    /// `tables.patch`
    PatchTable,
    /// `tabledata.insertAll`
    InsertAll,
    /// `jobs.query`
    Query,
    /// `jobs.getQueryResults`
    GetQueryResults,
    /// `jobs.insert`
    InsertJob,
    /// `jobs.get`
    GetJob,
    /// `tables.delete`
    DeleteTable,
}

impl FakeCall {
    /// All there are.
    pub const ALL: [Self; 15] = [
        Self::CreateWriteStream,
        Self::AppendRows,
        Self::FinalizeWriteStream,
        Self::BatchCommitWriteStreams,
        Self::GetWriteStream,
        Self::GetDataset,
        Self::GetTable,
        Self::InsertTable,
        Self::PatchTable,
        Self::InsertAll,
        Self::Query,
        Self::GetQueryResults,
        Self::InsertJob,
        Self::GetJob,
        Self::DeleteTable,
    ];
}

/// What happens to a call instead of what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FakeFault {
    /// None: the call does what it asks for. So that a fault meets a later one.
    Pass,
    /// `UNAVAILABLE`, 503; nothing has happened.
    Unavailable,
    /// `ABORTED`, 503; nothing has happened.
    Aborted,
    /// `INTERNAL`, 500; nothing has happened.
    Internal,
    /// The answer to one append says `UNAVAILABLE`, and the connection lives on: an error inside of an answer "indicates rows
    /// were not accepted", "users can retry or continue with other append requests within the same connection"
    /// (the comments of storage.proto). Elsewhere as [`Unavailable`](Self::Unavailable).
    UnavailableInside,
    /// The same with `RESOURCE_EXHAUSTED`.
    ExhaustedInside,
    /// `RESOURCE_EXHAUSTED` with a delay of a few milliseconds, 429; nothing has happened.
    Exhausted,
    /// `UNAUTHENTICATED`, 401; nothing has happened.
    Unauthenticated,
    /// `PERMISSION_DENIED`, 403; nothing has happened.
    Denied,
    /// It has happened, and the connection breaks before the answer.
    LoseAnswer,
    /// It has happened, and no answer ever comes.
    Stall,
    /// Nothing has happened, and no answer ever comes.
    Hang,
}

impl FakeFault {
    /// Those after which the same call again succeeds.
    pub const PASSING: [Self; 7] = [
        Self::Unavailable,
        Self::Aborted,
        Self::Internal,
        Self::Exhausted,
        Self::Unauthenticated,
        Self::LoseAnswer,
        Self::Stall,
    ];
}

/// Limits of the fake.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FakeLimits {
    /// The largest `AppendRows` or `insertAll` request, in bytes. 10 MB, as the interface's comments say.
    pub request_bytes: usize,
    /// Rows of one `insertAll` request. 50,000 (<https://cloud.google.com/bigquery/quotas#streaming_inserts>).
    pub rows_per_insert: usize,
    /// `CreateWriteStream` calls in an hour. 10,000 (<https://cloud.google.com/bigquery/quotas#createwritestream>).
    pub creates_per_hour: usize,
    /// `CreateWriteStream` calls in a second; 50, where the documents say that calls begin to fail.
    pub creates_per_second: usize,
    /// Changes of one table's metadata in ten seconds. 5 (<https://cloud.google.com/bigquery/quotas#standard_tables>).
    pub updates_per_ten_seconds: usize,
    /// Rows of one page of a query's answer.
    pub query_page_rows: usize,
}

impl Default for FakeLimits {
    fn default() -> Self {
        Self {
            request_bytes: 10_000_000,
            rows_per_insert: 50_000,
            creates_per_hour: 10_000,
            creates_per_second: 50,
            updates_per_ten_seconds: 5,
            query_page_rows: 10_000,
        }
    }
}

impl FakeLimits {
    /// No quota at all: for what tests the sink and not its patience.
    #[must_use]
    pub fn without_quotas(mut self) -> Self {
        self.creates_per_hour = usize::MAX;
        self.creates_per_second = usize::MAX;
        self.updates_per_ten_seconds = usize::MAX;
        self
    }

    /// Sets [`request_bytes`](Self::request_bytes).
    #[must_use]
    pub fn with_request_bytes(mut self, bytes: usize) -> Self {
        self.request_bytes = bytes;
        self
    }

    /// Sets [`query_page_rows`](Self::query_page_rows).
    #[must_use]
    pub fn with_query_page_rows(mut self, rows: usize) -> Self {
        self.query_page_rows = rows.max(1);
        self
    }

    /// Sets [`rows_per_insert`](Self::rows_per_insert).
    #[must_use]
    pub fn with_rows_per_insert(mut self, rows: usize) -> Self {
        self.rows_per_insert = rows;
        self
    }

    /// Sets [`creates_per_hour`](Self::creates_per_hour).
    #[must_use]
    pub fn with_creates_per_hour(mut self, creates: usize) -> Self {
        self.creates_per_hour = creates;
        self
    }
}

/// Which rows are refused.
pub(super) struct Refuses(pub(super) Box<dyn Fn(&Value) -> bool + Send>);

impl fmt::Debug for Refuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refuses(..)")
    }
}
