//! Errors of BigQuery operations and their classes.

use std::fmt;
use std::time::Duration;

use aqueduct_core::{BoxError, Class, Classify};

/// A BigQuery operation failed: when, what the pipeline does about it, and what you do.
///
/// | error | when | class | what to do |
/// | --- | --- | --- | --- |
/// | [`NoSuchTable`](BigQueryError::NoSuchTable) | 404, `TABLE_NOT_FOUND`, and it may not be created | fatal | create the table, or call `create_tables(true)` |
/// | [`NoSuchDataset`](BigQueryError::NoSuchDataset) | 404 for a dataset | fatal | create the dataset, or correct its name |
/// | [`AccessDenied`](BigQueryError::AccessDenied) | `PERMISSION_DENIED`, 403, `KMS_PERMISSION_DENIED` | fatal | grant the roles the README lists |
/// | [`NoCredentials`](BigQueryError::NoCredentials) | nothing where credentials were looked for, or not readable | fatal | give a key, or set `GOOGLE_APPLICATION_CREDENTIALS` |
/// | [`Refused`](BigQueryError::Refused) | `INVALID_ARGUMENT`, 400, a wrong CMEK, other failed preconditions | fatal | see the service's words |
/// | [`Schema`](BigQueryError::Schema) | the table and the columns of rows do not go together | fatal | see the message; `evolve_tables(true)` adds columns |
/// | [`TopicsMeet`](BigQueryError::TopicsMeet) | two topics become one table by [`TopicNames::Connect`](crate::TopicNames::Connect) | fatal | give one of them a name with `topic_table()` |
/// | [`PartlyThere`](BigQueryError::PartlyThere) | a segment whose stream is gone has left some of its rows | fatal | see [recovery](crate::BigQuerySink#recovery) |
/// | [`StreamLost`](BigQueryError::StreamLost) | a stream was gone when it was to be committed | fatal | restart: recovery asks the table and writes the rows again if they are not there |
/// | [`Diverged`](BigQueryError::Diverged) | a replay gave other rows than the intent says | fatal | as for `ReplayDiverged` of the lane |
/// | [`Token`](BigQueryError::Token) | the intent's token cannot be read, or would be too long | fatal | see the message |
/// | [`Unauthenticated`](BigQueryError::Unauthenticated) | `UNAUTHENTICATED`, 401 | retry with a new token, a bounded number of times | check the key and the account |
/// | [`CredentialsUnavailable`](BigQueryError::CredentialsUnavailable) | the token endpoint does not answer | retry | check the network if it lasts |
/// | [`Unreachable`](BigQueryError::Unreachable) | refused, reset, unknown host, TLS, a connection that was closed | retry | check endpoint and network if it lasts |
/// | [`Timeout`](BigQueryError::Timeout) | no answer in time | retry | nothing; raise the timeout on slow links |
/// | [`Unavailable`](BigQueryError::Unavailable) | `UNAVAILABLE`, `INTERNAL`, `ABORTED`, `CANCELLED`, `DEADLINE_EXCEEDED`, 5xx, `KMS_SERVICE_ERROR` | retry | nothing; the source slows down |
/// | [`Throttled`](BigQueryError::Throttled) | `RESOURCE_EXHAUSTED`, 429, 403 `quotaExceeded` and `rateLimitExceeded` | retry, not before what the service asks for or a while | ask for quota, or make segments larger |
/// | [`CreateQuota`](BigQueryError::CreateQuota) | one write stream more would be too many for this hour | retry | let segments live longer, or raise `create_quota()` with Google's |
/// | [`TableBusy`](BigQueryError::TableBusy) | 409, 412: somebody else has changed the table; a change has not reached everybody | retry | nothing |
/// | [`Stream`](BigQueryError::Stream) | a stream is finalized, committed, gone or of another length | retry, on a new stream | nothing |
/// | [`SchemaMismatch`](BigQueryError::SchemaMismatch) | `SCHEMA_MISMATCH_EXTRA_FIELDS` after the table was brought up to date | retry | nothing for minutes; then look at the table |
/// | [`Unknown`](BigQueryError::Unknown) | anything else | retry, a bounded number of times | report it, with the code |
///
/// Codes are read from where they are structured: `StorageError` in the details of a status, the gRPC code, the HTTP status
/// and the `reason` of its body. Never from the words of a message.
///
/// A row that the service refuses is not in this table: it is a letter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`at` is what failed and `answer` the service's words, in every variant")]
pub enum BigQueryError {
    /// The table does not exist.
    #[error("the table does not exist: {at} ({answer})")]
    NoSuchTable { at: At, answer: Answer },
    /// The dataset does not exist.
    #[error("the dataset does not exist: {at} ({answer})")]
    NoSuchDataset { at: At, answer: Answer },
    /// The credentials are good, but not for this.
    #[error("access is denied: {at} ({answer})")]
    AccessDenied { at: At, answer: Answer },
    /// There are none.
    #[error("no credentials: {problem}")]
    NoCredentials { problem: String },
    /// The request makes no sense to the service.
    #[error("the service refuses {at} ({answer})")]
    Refused { at: At, answer: Answer },
    /// The table is not as it has to be.
    #[error("table {table} does not fit: {problem}")]
    Schema { table: String, problem: String },
    /// Two topics become one table.
    #[error("{one:?} and {other:?} both become table {table}")]
    TopicsMeet { table: String, one: String, other: String },
    /// Some rows of a segment are there and some are not, and nothing under way can change that.
    #[error(
        "of the {expected} rows of offsets {range} table {table} has {found}, and the stream that held them is gone"
    )]
    PartlyThere { table: String, range: String, expected: u64, found: u64 },
    /// A stream whose rows were to become visible does not exist any more.
    #[error("the stream of table {table} was gone before it could be committed")]
    StreamLost { table: String, source: BoxError },
    /// The rows read again are not the rows of the intent.
    #[error("reading {range} again gave other rows for table {table} than its intent says: {problem}")]
    Diverged { table: String, range: String, problem: String },
    /// The intent's token.
    #[error("the intent's token {problem}")]
    Token { problem: String },
    /// The service does not know who we are.
    #[error("the credentials are not accepted: {at} ({answer})")]
    Unauthenticated { at: At, answer: Answer },
    /// Credentials could not be fetched at the moment.
    #[error("credentials are not available at the moment")]
    CredentialsUnavailable { source: BoxError },
    /// No connection, or it broke.
    #[error("the service cannot be reached: {at}")]
    Unreachable { at: At, source: BoxError },
    /// No answer in time.
    #[error("no answer within {}s: {at}", .after.as_secs())]
    Timeout { at: At, after: Duration },
    /// The service has trouble of its own.
    #[error("the service is not available at the moment: {at} ({answer})")]
    Unavailable { at: At, answer: Answer },
    /// Too much, or too often.
    #[error("a quota is used up: {at} ({answer})")]
    Throttled { at: At, answer: Answer },
    /// The service would refuse to create another stream; it was not asked.
    #[error(
        "{created} write streams of project {project} were created within an hour, as many as there may be"
    )]
    CreateQuota { project: String, created: u64, after: Duration },
    /// The table is being changed.
    #[error("the table is being changed: {at} ({answer})")]
    TableBusy { at: At, answer: Answer },
    /// The stream is not in the state it should be in.
    #[error("{state}: {at} ({answer})")]
    Stream { state: StreamState, at: At, answer: Answer },
    /// Rows have fields that the table, as the service sees it, lacks.
    #[error("the table lacks columns the rows have: {at} ({answer})")]
    SchemaMismatch { at: At, answer: Answer },
    /// Nobody has classified this one.
    #[error("{at} failed ({answer})")]
    Unknown { at: At, answer: Answer },
}

/// What a stream turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamState {
    /// It does not exist, or not any more.
    NotFound,
    /// Its rows are visible.
    Committed,
    /// It takes no more rows.
    Finalized,
    /// It is not in a state for this, or of a type for this.
    Invalid,
    /// There are rows at this offset already.
    OffsetExists,
    /// There are no rows before this offset yet.
    OffsetOutOfRange,
    /// It holds another number of rows than were sent.
    Length,
}

impl fmt::Display for StreamState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "the stream does not exist",
            Self::Committed => "the stream is committed already",
            Self::Finalized => "the stream is finalized already",
            Self::Invalid => "the stream is in another state",
            Self::OffsetExists => "the stream has rows at this offset already",
            Self::OffsetOutOfRange => "the stream ends before this offset",
            Self::Length => "the stream has another number of rows than were sent",
        })
    }
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The operation: `append rows`.
    pub operation: &'static str,
    /// The table, stream or dataset.
    pub resource: Box<str>,
}

impl At {
    pub(crate) fn new(operation: &'static str, resource: impl fmt::Display) -> Self {
        Self { operation, resource: resource.to_string().into() }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.operation, self.resource)
    }
}

/// What the service answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, or the gRPC code by name.
    pub code: Box<str>,
    /// The `StorageError` code or the REST reason; empty where there is none.
    pub reason: Box<str>,
    /// The service's message, on one line and cut short.
    pub message: Box<str>,
    /// The delay it asks for.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// The longest message kept, in characters.
    pub const MESSAGE_MAX: usize = 400;

    pub(crate) fn new(code: impl fmt::Display, reason: impl Into<Box<str>>, message: &str) -> Self {
        let line = message.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self {
            code: code.to_string().into(),
            reason: reason.into(),
            message: line.take(Self::MESSAGE_MAX).collect(),
            retry_after: None,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        for part in [&self.reason, &self.message] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        Ok(())
    }
}

impl BigQueryError {
    /// The least a lane waits after a quota was used up: coming back at once makes it worse.
    pub const THROTTLED_MIN: Duration = Duration::from_secs(2);

    /// Its variant's name, for metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NoSuchTable { .. } => "no-such-table",
            Self::NoSuchDataset { .. } => "no-such-dataset",
            Self::AccessDenied { .. } => "access-denied",
            Self::NoCredentials { .. } => "no-credentials",
            Self::Refused { .. } => "refused",
            Self::Schema { .. } => "schema",
            Self::PartlyThere { .. } => "partly-there",
            Self::StreamLost { .. } => "stream-lost",
            Self::Diverged { .. } => "diverged",
            Self::Token { .. } => "token",
            Self::Unauthenticated { .. } => "unauthenticated",
            Self::CredentialsUnavailable { .. } => "credentials-unavailable",
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::Unavailable { .. } => "unavailable",
            Self::Throttled { .. } => "throttled",
            Self::TableBusy { .. } => "table-busy",
            Self::Stream { .. } => "stream",
            Self::SchemaMismatch { .. } => "schema-mismatch",
            Self::TopicsMeet { .. } => "topics-meet",
            Self::CreateQuota { .. } => "create-quota",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// What a stream turned out to be, if this is about one.
    pub(crate) fn stream_state(&self) -> Option<StreamState> {
        match self {
            Self::Stream { state, .. } => Some(*state),
            _ => None,
        }
    }
}

impl Classify for BigQueryError {
    fn class(&self) -> Class {
        match self {
            Self::NoSuchTable { .. }
            | Self::NoSuchDataset { .. }
            | Self::AccessDenied { .. }
            | Self::NoCredentials { .. }
            | Self::Refused { .. }
            | Self::Schema { .. }
            | Self::TopicsMeet { .. }
            | Self::PartlyThere { .. }
            | Self::StreamLost { .. }
            | Self::Diverged { .. }
            | Self::Token { .. } => Class::Fatal,
            Self::CredentialsUnavailable { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::TableBusy { .. }
            | Self::Stream { .. }
            | Self::SchemaMismatch { .. } => Class::RETRY,
            Self::CreateQuota { after, .. } => Class::Retry { after: Some(*after) },
            Self::Unavailable { answer, .. } => Class::Retry { after: answer.retry_after },
            Self::Throttled { answer, .. } => {
                Class::Retry { after: Some(answer.retry_after.unwrap_or(Self::THROTTLED_MIN)) }
            }
            Self::Unauthenticated { .. } | Self::Unknown { .. } => Class::Unknown,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoSuchTable { .. } => "create the table, or let the sink do it with create_tables(true)",
            Self::NoSuchDataset { .. } => "create the dataset; the sink does not",
            Self::AccessDenied { .. } => {
                "grant roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project"
            }
            Self::NoCredentials { .. } | Self::Unauthenticated { .. } => {
                "give a service account's key, or set GOOGLE_APPLICATION_CREDENTIALS"
            }
            Self::TopicsMeet { .. } => {
                "give one of the topics a table with topic_table(), or leave the names to TopicNames::Distinct"
            }
            Self::PartlyThere { .. } => {
                "delete the rows of these offsets from the table and restart: they are written again as a whole"
            }
            Self::StreamLost { .. } => {
                "restart the lane: recovery asks the table, and writes the rows again if they are not there"
            }
            Self::CreateQuota { .. } => {
                "let segments live longer or have fewer tables; create_quota() says how many are allowed"
            }
            Self::Throttled { .. } => {
                "ask for more quota, or let segments grow larger so that there are fewer"
            }
            Self::Unreachable { .. } => "check the endpoint and the network",
            Self::Refused { .. }
            | Self::Schema { .. }
            | Self::Diverged { .. }
            | Self::Token { .. }
            | Self::CredentialsUnavailable { .. }
            | Self::Timeout { .. }
            | Self::Unavailable { .. }
            | Self::TableBusy { .. }
            | Self::Stream { .. }
            | Self::SchemaMismatch { .. }
            | Self::Unknown { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
