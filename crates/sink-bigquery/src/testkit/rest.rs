//! The REST server: datasets, tables and [queries](super::query).

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::fault::{FakeCall, FakeFault};
use super::order;
use super::state::{Inner, State, error_body};
use crate::name::TableName;
use crate::schema::{Field, FieldType, Mode, TableSchema};

/// Changes of a table within this time are limited.
const UPDATES_WINDOW: Duration = Duration::from_secs(10);

pub(super) async fn serve(listener: std::net::TcpListener, state: Arc<State>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connection.await.ok();
        });
    }
}

/// The connection breaks where there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("the answer is lost")]
struct Lost;

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Lost> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let length = body.len();
    let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let path: Vec<String> = parts.uri.path().split('/').skip(3).map(decoded).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let pairs = parts.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let query: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
    order::wait(&state, header(AUTHORIZATION).as_deref()).await;
    let (fault, (status, answer)) = {
        let mut inner = state.lock();
        let Some(call) = call_of(&parts.method, &path) else {
            return Ok(respond(404, &error_body(404, "notFound", "no such method")));
        };
        let fault = inner.meet(call);
        let expected = inner.token.as_ref().map(|token| format!("Bearer {token}"));
        if expected.is_some() && header(AUTHORIZATION) != expected {
            return Ok(respond(401, &error_body(401, "authError", "Invalid Credentials")));
        }
        let refusal = match fault {
            Some(FakeFault::Unavailable | FakeFault::UnavailableInside | FakeFault::Aborted) => {
                Some((503, "backendError"))
            }
            Some(FakeFault::Internal) => Some((500, "internalError")),
            Some(FakeFault::Exhausted | FakeFault::ExhaustedInside) => Some((429, "rateLimitExceeded")),
            Some(FakeFault::Unauthenticated) => Some((401, "authError")),
            Some(FakeFault::Denied) => Some((403, "accessDenied")),
            Some(FakeFault::Pass | FakeFault::LoseAnswer | FakeFault::Stall | FakeFault::Hang) | None => None,
        };
        if let Some((status, reason)) = refusal {
            return Ok(respond(status, &error_body(status, reason, "injected")));
        }
        if fault == Some(FakeFault::Hang) {
            (fault, (200, Value::Null))
        } else {
            inner.advance_jobs();
            (fault, inner.rest(call, &path, &query, header(IF_MATCH).as_deref(), (&body, length)))
        }
    };
    match fault {
        Some(FakeFault::LoseAnswer) => Err(Lost),
        Some(FakeFault::Stall | FakeFault::Hang) => {
            tokio::time::sleep(Duration::from_hours(1)).await;
            Err(Lost)
        }
        _ => Ok(respond(status, &answer)),
    }
}

fn respond(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    if let Some(Ok(etag)) = body.get("etag").and_then(Value::as_str).map(str::parse) {
        headers.insert(ETAG, etag);
    }
    response
}

fn decoded(segment: &str) -> String {
    let mut bytes = segment.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).unwrap_or(0);
        out.push(if byte == b'%' { u8::try_from(digit() * 16 + digit()).unwrap_or(0) } else { byte });
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The path behind `/bigquery/v2`.
fn call_of(method: &Method, path: &[&str]) -> Option<FakeCall> {
    Some(match (method, path) {
        (&Method::GET, ["projects", _, "datasets", _]) => FakeCall::GetDataset,
        (&Method::POST, ["projects", _, "datasets", _, "tables"]) => FakeCall::InsertTable,
        (&Method::GET, ["projects", _, "datasets", _, "tables", _]) => FakeCall::GetTable,
        (&Method::PATCH, ["projects", _, "datasets", _, "tables", _]) => FakeCall::PatchTable,
        (&Method::POST, ["projects", _, "datasets", _, "tables", _, "insertAll"]) => FakeCall::InsertAll,
        (&Method::POST, ["projects", _, "queries"]) => FakeCall::Query,
        (&Method::GET, ["projects", _, "queries", _]) => FakeCall::GetQueryResults,
        (&Method::POST, ["projects", _, "jobs"]) => FakeCall::InsertJob,
        (&Method::GET, ["projects", _, "jobs", _]) => FakeCall::GetJob,
        (&Method::DELETE, ["projects", _, "datasets", _, "tables", _]) => FakeCall::DeleteTable,
        _ => return None,
    })
}

pub(super) type Answer = (u16, Value);

pub(super) fn refused(status: u16, reason: &str, message: &str) -> Answer {
    (status, error_body(status, reason, message))
}

impl Inner {
    fn rest(
        &mut self,
        call: FakeCall,
        path: &[&str],
        query: &[(String, String)],
        if_match: Option<&str>,
        (body, length): (&Value, usize),
    ) -> Answer {
        let [_, project, rest @ ..] = path else { return refused(404, "notFound", "") };
        match call {
            FakeCall::Query => return self.query(body),
            FakeCall::InsertJob => return self.insert_job(body),
            FakeCall::GetJob => return self.job(rest.get(1).copied().unwrap_or_default()),
            FakeCall::GetQueryResults => {
                return self.query_results(rest.get(1).copied().unwrap_or_default(), query);
            }
            _ => {}
        }
        let dataset = rest.get(1).copied().unwrap_or_default();
        if !self.datasets.contains(&((*project).to_owned(), dataset.to_owned())) {
            return refused(404, "notFound", &format!("Not found: Dataset {project}:{dataset}"));
        }
        let table = match call {
            FakeCall::GetDataset => {
                let reference = json!({ "projectId": project, "datasetId": dataset });
                return (
                    200,
                    json!({ "kind": "bigquery#dataset", "datasetReference": reference, "location": "US" }),
                );
            }
            FakeCall::InsertTable => {
                body.pointer("/tableReference/tableId").and_then(Value::as_str).unwrap_or_default()
            }
            _ => rest.get(3).copied().unwrap_or_default(),
        };
        let Ok(name) = TableName::new(*project, dataset, table) else {
            return refused(400, "invalid", "Invalid table ID");
        };
        match call {
            FakeCall::InsertTable => self.insert(&name, body),
            FakeCall::InsertAll => self.insert_all(&name, body, length),
            FakeCall::PatchTable => self.patch(&name, if_match, body),
            FakeCall::DeleteTable => {
                self.delete_table(&name);
                (204, json!({}))
            }
            _ => self.get(&name),
        }
    }

    fn get(&self, name: &TableName) -> Answer {
        match self.tables.get(name) {
            Some(table) => (200, table.resource()),
            None => refused(404, "notFound", &format!("Not found: Table {name}")),
        }
    }

    fn insert(&mut self, name: &TableName, body: &Value) -> Answer {
        if self.tables.contains_key(name) {
            return refused(409, "duplicate", &format!("Already Exists: Table {name}"));
        }
        if let Err(problem) = sound(body) {
            return refused(400, "invalid", &problem);
        }
        self.put_table(name, body.clone());
        self.get(name)
    }

    /// `If-Match` with an etag that is not the table's is 412
    /// (<https://cloud.google.com/bigquery/docs/reference/rest#etags>: read-modify-write). What may change of a schema is in
    /// <https://cloud.google.com/bigquery/docs/managing-table-schemas>: columns added that are not required, REQUIRED relaxed.
    fn patch(&mut self, name: &TableName, if_match: Option<&str>, body: &Value) -> Answer {
        let limit = self.limits.updates_per_ten_seconds;
        let Some(table) = self.tables.get_mut(name) else {
            return refused(404, "notFound", &format!("Not found: Table {name}"));
        };
        if if_match.is_some_and(|etag| etag != "*" && etag != table.etag()) {
            return refused(412, "conditionNotMet", "Precondition check failed");
        }
        if !Self::within(&mut table.updates, limit, UPDATES_WINDOW) {
            return refused(
                403,
                "rateLimitExceeded",
                "Exceeded rate limits: too many table update operations",
            );
        }
        let mut changed = table.resource();
        if let (Some(object), Some(patch)) = (changed.as_object_mut(), body.as_object()) {
            object.remove("etag");
            for (key, value) in patch {
                object.insert(key.clone(), value.clone());
            }
        }
        let schema = changed.get("schema").map(TableSchema::from_value);
        let Some(Ok(schema)) = schema else {
            return refused(400, "invalid", "Provided Schema does not parse");
        };
        if let Err(problem) = may_become(&table.schema.fields, &schema.fields) {
            return refused(
                400,
                "invalid",
                &format!("Provided Schema does not match Table {name}. {problem}"),
            );
        }
        self.put_table(name, changed);
        self.get(name)
    }
}

fn sound(body: &Value) -> Result<(), String> {
    let schema = body.get("schema").ok_or("a table needs a schema")?;
    let schema = TableSchema::from_value(schema).map_err(|error| error.to_string())?;
    match schema.problems().first() {
        // Two of our own columns begin with an underscore; the service's rule is on certain prefixes, which is checked.
        Some(problem) => Err(problem.to_string()),
        None => Ok(()),
    }
}

fn may_become(before: &[Field], after: &[Field]) -> Result<(), String> {
    for old in before {
        let Some(new) = after.iter().find(|new| new.name.eq_ignore_ascii_case(&old.name)) else {
            return Err(format!("Field {} is missing in new schema", old.name));
        };
        let relaxed = old.mode == Mode::Required && new.mode == Mode::Nullable;
        if old.mode != new.mode && !relaxed {
            return Err(format!("Field {} has changed mode", old.name));
        }
        match (&old.kind, &new.kind) {
            (FieldType::Record(before), FieldType::Record(after)) => may_become(before, after)?,
            (old_kind, new_kind) if old_kind == new_kind => {}
            _ => return Err(format!("Field {} has changed type", old.name)),
        }
    }
    let added = after.iter().filter(|new| !before.iter().any(|old| old.name.eq_ignore_ascii_case(&new.name)));
    for new in added {
        if new.mode == Mode::Required {
            return Err(format!("Cannot add required fields to an existing schema. (field: {})", new.name));
        }
    }
    Ok(())
}
