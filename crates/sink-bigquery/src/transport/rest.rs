//! BigQuery's REST interface, as much of it as the sink needs.
//!
//! The client crate reads the body of every failed request as JSON and forgets its status, and knows no `If-Match`. So requests
//! are made here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, ETAG, IF_MATCH, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::Value;

use super::grpc::url_encoded;
use crate::credentials::TokenSource;
use crate::error::{Answer, At, BigQueryError};
use crate::name::TableName;

/// How to reach the service.
#[derive(Clone, Debug)]
pub(crate) struct RestOptions {
    /// `https://bigquery.googleapis.com/bigquery/v2`, or another, without a slash at its end.
    pub(crate) endpoint: String,
    /// The longest wait for an answer.
    pub(crate) timeout: Duration,
}

/// The largest body that is read.
const BODY_MAX: usize = 16 << 20;

/// A client of the REST interface.
#[derive(Clone)]
pub(crate) struct Rest {
    client: reqwest::Client,
    tokens: Arc<dyn TokenSource>,
    options: Arc<RestOptions>,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Why rows were not streamed.
#[derive(Debug)]
pub(crate) enum InsertFailure {
    /// There is no such table, or not everywhere yet.
    NoTable(Answer),
    /// The request is larger than is taken.
    TooLarge(Answer),
    /// The request makes no sense; with fewer rows it may.
    Refused(Answer),
    /// Anything else.
    Other(BigQueryError),
}

/// A table as the service describes it.
#[derive(Clone, Debug)]
pub(crate) struct TableResource {
    /// Changes with every change of the table.
    pub(crate) etag: String,
    pub(crate) body: Value,
}

impl Rest {
    pub(crate) fn new(options: RestOptions, tokens: Arc<dyn TokenSource>) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("aqueduct/", env!("CARGO_PKG_VERSION")))
            .timeout(options.timeout)
            .connect_timeout(Duration::from_secs(10))
            .build()?;
        Ok(Self { client, tokens, options: Arc::new(options) })
    }

    /// Fails with [`BigQueryError::NoSuchDataset`] if it is not there.
    pub(crate) async fn check_dataset(&self, project: &str, dataset: &str) -> Result<(), BigQueryError> {
        let at = At::new("get dataset", format_args!("{project}.{dataset}"));
        let request = self.request(Method::GET, &dataset_path(project, dataset), "").await?;
        match self.send(&at, request).await? {
            Outcome::Done(_) => Ok(()),
            Outcome::Failed(StatusCode::NOT_FOUND, answer, _) => {
                Err(BigQueryError::NoSuchDataset { at, answer })
            }
            Outcome::Failed(status, answer, reason) => Err(self.failed(at, status, answer, &reason)),
        }
    }

    /// The table; `None` if it, or its dataset, does not exist.
    pub(crate) async fn table(&self, table: &TableName) -> Result<Option<TableResource>, BigQueryError> {
        let at = At::new("get table", table);
        let request = self.request(Method::GET, &table_path(table), "").await?;
        match self.send(&at, request).await? {
            Outcome::Done(body) => Ok(Some(TableResource {
                etag: body.get("etag").and_then(Value::as_str).unwrap_or_default().to_owned(),
                body,
            })),
            Outcome::Failed(StatusCode::NOT_FOUND, ..) => Ok(None),
            Outcome::Failed(status, answer, reason) => Err(self.failed(at, status, answer, &reason)),
        }
    }

    /// Creates the table; that somebody else was faster is [`BigQueryError::TableBusy`].
    pub(crate) async fn insert_table(&self, table: &TableName, body: &Value) -> Result<(), BigQueryError> {
        let at = At::new("create table", table);
        let path = format!("{}/tables", dataset_path(table.project(), table.dataset()));
        let request = self.request(Method::POST, &path, "").await?.json(body);
        match self.send(&at, request).await? {
            Outcome::Done(_) => Ok(()),
            Outcome::Failed(StatusCode::NOT_FOUND, answer, _) => {
                Err(BigQueryError::NoSuchDataset { at, answer })
            }
            Outcome::Failed(status, answer, reason) => Err(self.failed(at, status, answer, &reason)),
        }
    }

    /// Changes the table if it is still the one of `etag`; otherwise [`BigQueryError::TableBusy`].
    pub(crate) async fn patch_table(
        &self,
        table: &TableName,
        etag: &str,
        body: &Value,
    ) -> Result<(), BigQueryError> {
        let at = At::new("change table", table);
        let request = self.request(Method::PATCH, &table_path(table), "").await?;
        match self.send(&at, request.header(IF_MATCH, etag).json(body)).await? {
            Outcome::Done(_) => Ok(()),
            Outcome::Failed(StatusCode::NOT_FOUND, answer, _) => {
                Err(BigQueryError::NoSuchTable { at, answer })
            }
            Outcome::Failed(status, answer, reason) => Err(self.failed(at, status, answer, &reason)),
        }
    }

    /// Removes the table; one that is not there is no error.
    pub(crate) async fn delete_table(&self, table: &TableName) -> Result<(), BigQueryError> {
        let at = At::new("delete table", table);
        let request = self.request(Method::DELETE, &table_path(table), "").await?;
        match self.send(&at, request).await? {
            Outcome::Done(_) | Outcome::Failed(StatusCode::NOT_FOUND | StatusCode::NO_CONTENT, ..) => Ok(()),
            Outcome::Failed(status, answer, reason) => Err(self.failed(at, status, answer, &reason)),
        }
    }

    /// The answer to a `POST`; [`BigQueryError::NoSuchTable`] if something it names does not exist.
    pub(crate) async fn post(&self, at: &At, path: &str, body: &Value) -> Result<Value, BigQueryError> {
        let request = self.request(Method::POST, path, "").await?.json(body);
        self.answer(at, request).await
    }

    /// The answer to a `GET`; [`BigQueryError::NoSuchTable`] if something it names does not exist.
    pub(crate) async fn get(&self, at: &At, path: &str, query: &str) -> Result<Value, BigQueryError> {
        let request = self.request(Method::GET, path, query).await?;
        self.answer(at, request).await
    }

    async fn answer(&self, at: &At, request: RequestBuilder) -> Result<Value, BigQueryError> {
        match self.send(at, request).await? {
            Outcome::Done(body) => Ok(body),
            Outcome::Failed(status, answer, reason) => Err(self.failed(at.clone(), status, answer, &reason)),
        }
    }

    /// The longest wait for an answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// That something has not ended in time.
    pub(crate) fn timed_out(&self, at: At) -> BigQueryError {
        BigQueryError::Timeout { at, after: self.options.timeout }
    }

    /// Streams rows into a table by the legacy interface; `body` is the request's. The answer says which rows were not written.
    pub(crate) async fn insert_all(&self, table: &TableName, body: String) -> Result<Value, InsertFailure> {
        let at = At::new("insert rows", table);
        let path = format!("{}/insertAll", table_path(table));
        let request = self.request(Method::POST, &path, "").await.map_err(InsertFailure::Other)?;
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        match self.send(&at, request).await.map_err(InsertFailure::Other)? {
            Outcome::Done(answer) => Ok(answer),
            Outcome::Failed(StatusCode::NOT_FOUND, answer, _) => Err(InsertFailure::NoTable(answer)),
            Outcome::Failed(StatusCode::PAYLOAD_TOO_LARGE, answer, _) => Err(InsertFailure::TooLarge(answer)),
            Outcome::Failed(status, answer, reason) => match self.failed(at, status, answer, &reason) {
                BigQueryError::Refused { answer, .. } => Err(InsertFailure::Refused(answer)),
                error => Err(InsertFailure::Other(error)),
            },
        }
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        query: &str,
    ) -> Result<RequestBuilder, BigQueryError> {
        let request = self.client.request(method, format!("{}/{path}{query}", self.options.endpoint));
        Ok(match self.tokens.token().await? {
            // Marked as sensitive by the client.
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        })
    }

    async fn send(&self, at: &At, request: RequestBuilder) -> Result<Outcome, BigQueryError> {
        let unreachable = |error: reqwest::Error| {
            if error.is_timeout() {
                return BigQueryError::Timeout { at: at.clone(), after: self.options.timeout };
            }
            // The URL is in `at` already, by name.
            let told = aqueduct_core::ErrorChain(&error.without_url()).to_string();
            BigQueryError::Unreachable { at: at.clone(), source: told.into() }
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > BODY_MAX {
                let answer = Answer::new(response.status().as_u16(), "", "the answer is larger than is read");
                return Err(BigQueryError::Unknown { at: at.clone(), answer });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Outcome::of(&response, &bytes))
    }

    fn failed(&self, at: At, status: StatusCode, answer: Answer, reason: &str) -> BigQueryError {
        let error = classify(at, status.as_u16(), answer, reason);
        if matches!(error, BigQueryError::Unauthenticated { .. }) {
            self.tokens.renew();
        }
        error
    }
}

fn dataset_path(project: &str, dataset: &str) -> String {
    format!("projects/{}/datasets/{}", url_encoded(project), url_encoded(dataset))
}

fn table_path(table: &TableName) -> String {
    format!("{}/tables/{}", dataset_path(table.project(), table.dataset()), url_encoded(table.table()))
}

enum Outcome {
    Done(Value),
    Failed(StatusCode, Answer, String),
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorInside,
}

#[derive(Deserialize)]
struct ErrorInside {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(default)]
    reason: String,
}

impl Outcome {
    fn of(response: &Response, bytes: &[u8]) -> Self {
        let status = response.status();
        let headers = response.headers();
        if status.is_success()
            && let Ok(mut body) = serde_json::from_slice::<Value>(bytes)
        {
            if let (Some(object), Some(Ok(etag))) =
                (body.as_object_mut(), headers.get(ETAG).map(|tag| tag.to_str()))
            {
                object.entry("etag").or_insert_with(|| etag.into());
            }
            return Self::Done(body);
        }
        // A proxy's answer is not JSON; its status still means something.
        let error = serde_json::from_slice::<ErrorBody>(bytes).ok().map(|body| body.error);
        let reason = error.as_ref().and_then(|error| error.errors.first()).map(|cause| cause.reason.clone());
        let (reason, message) =
            (reason.unwrap_or_default(), error.map(|error| error.message).unwrap_or_default());
        let mut answer = Answer::new(status.as_u16(), reason.as_str(), &message);
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        answer.retry_after = seconds.map(Duration::from_secs);
        Self::Failed(status, answer, reason)
    }
}

/// What an answer means that says this.
pub(crate) fn classify(at: At, status: u16, answer: Answer, reason: &str) -> BigQueryError {
    match (status, reason) {
        (_, "quotaExceeded" | "rateLimitExceeded") | (429, _) => BigQueryError::Throttled { at, answer },
        (_, "jobBackendError" | "jobInternalError" | "backendError" | "internalError")
        | (408 | 500..=599, _) => BigQueryError::Unavailable { at, answer },
        (401, _) => BigQueryError::Unauthenticated { at, answer },
        (403, _) => BigQueryError::AccessDenied { at, answer },
        (409 | 412, _) => BigQueryError::TableBusy { at, answer },
        (404, _) => BigQueryError::NoSuchTable { at, answer },
        (400..=499, _) => BigQueryError::Refused { at, answer },
        _ => BigQueryError::Unknown { at, answer },
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_core::{Class, Classify as _};

    use super::*;

    const TABLE: &[(u16, &str, &str, Class)] = &[
        (401, "authError", "Unauthenticated", Class::Unknown),
        (403, "accessDenied", "AccessDenied", Class::Fatal),
        (403, "quotaExceeded", "Throttled", Class::Retry { after: Some(BigQueryError::THROTTLED_MIN) }),
        (403, "rateLimitExceeded", "Throttled", Class::Retry { after: Some(BigQueryError::THROTTLED_MIN) }),
        (429, "", "Throttled", Class::Retry { after: Some(BigQueryError::THROTTLED_MIN) }),
        (400, "jobBackendError", "Unavailable", Class::RETRY),
        (400, "invalid", "Refused", Class::Fatal),
        (404, "notFound", "NoSuchTable", Class::Fatal),
        (409, "duplicate", "TableBusy", Class::RETRY),
        (412, "conditionNotMet", "TableBusy", Class::RETRY),
        (408, "", "Unavailable", Class::RETRY),
        (500, "", "Unavailable", Class::RETRY),
        (502, "", "Unavailable", Class::RETRY),
        (503, "backendError", "Unavailable", Class::RETRY),
        (204, "", "Unknown", Class::Unknown),
        (302, "", "Unknown", Class::Unknown),
    ];

    #[test]
    fn every_status_has_its_class() {
        for (status, reason, variant, class) in TABLE {
            let error =
                classify(At::new("get table", "p.d.t"), *status, Answer::new(*status, *reason, ""), reason);
            assert!(format!("{error:?}").starts_with(variant), "{status} {reason}: {error:?}");
            assert_eq!(error.class(), *class, "{status} {reason}");
        }
    }
}
