//! An endpoint for the [`HttpSink`](crate::http::HttpSink) to post to: a small server on loopback with a table in memory.
//!
//! It stands for what is on the other side of a sink like that: a service which stores a row under its topic, partition and
//! offset, and does not mind being told twice.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /rows/<topic>/<partition>` with lines | 200: all of them are in the table |
//! | … one of them is no JSON, or its value is no object | 422: none of them is |
//! | … one of them is in the table with another value | 409: none of them is |
//! | … more than 16 MiB | 413 |
//! | `POST` without a line | 200 |
//! | every n-th one, if it is told to lose answers | does the above, then says 503 |
//! | anything else | 404, 405 |

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    table: Arc<Table>,
    server: JoinHandle<()>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRow {
    /// Where the record came from.
    pub topic: String,
    /// Where the record came from.
    pub partition: i32,
    /// Where the record came from.
    pub offset: i64,
    /// Its value as JSON, byte for byte as it was sent.
    pub value: String,
}

/// What the server has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests with lines.
    pub requests: u64,
    /// Those whose lines were stored and whose answer said otherwise.
    pub answers_lost: u64,
    /// Rows that came although they were in the table.
    pub rows_again: u64,
}

impl Endpoint {
    /// Listens on a free port of loopback. With `lose_every` it stores the rows of every so manieth request and then
    /// claims to be unavailable, as if the answer had been lost on the way.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(lose_every: Option<NonZeroU64>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let table = Arc::new(Table { lose_every, contents: Mutex::default() });
        let server = tokio::spawn(serve(listener, Arc::clone(&table)));
        Ok(Self { address, table, server })
    }

    /// What a sink posts to.
    pub fn url(&self) -> String {
        format!("http://{}/rows", self.address)
    }

    /// The table, in order of topic, partition and offset.
    pub fn rows(&self) -> Vec<EndpointRow> {
        let rows = self.table.look(|contents| contents.rows.clone());
        let row = |((topic, partition, offset), value)| EndpointRow { topic, partition, offset, value };
        rows.into_iter().map(row).collect()
    }

    /// What it has seen so far.
    pub fn traffic(&self) -> Traffic {
        self.table.look(|contents| contents.traffic)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug)]
struct Table {
    lose_every: Option<NonZeroU64>,
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    rows: BTreeMap<(String, i32, i64), String>,
    traffic: Traffic,
}

/// One line of a request.
#[derive(Deserialize)]
struct Line<'a> {
    offset: i64,
    #[serde(borrow)]
    value: &'a RawValue,
}

async fn serve(listener: TcpListener, table: Arc<Table>) {
    // Aborted with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(converse(stream, Arc::clone(&table)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, table: Arc<Table>) {
    let service = service_fn(|request| {
        let table = Arc::clone(&table);
        async move { Ok::<_, Infallible>(table.answer(request).await) }
    });
    // A client that goes away in the middle of a request is its own business.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

impl Table {
    const BODY_BYTES_MAX: usize = 16 << 20;

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let status = self.take(request).await.unwrap_or_else(|refusal| refusal);
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert("retry-after", 0.into());
        }
        response
    }

    async fn take(&self, request: Request<Incoming>) -> Result<StatusCode, StatusCode> {
        if request.method() != Method::POST {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        let (head, body) = request.into_parts();
        let path = head.uri.path().strip_prefix("/rows").ok_or(StatusCode::NOT_FOUND)?;
        let body = Limited::new(body, Self::BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?.to_bytes();
        if body.is_empty() {
            return Ok(StatusCode::OK);
        }
        let (topic, partition) = lane(path).ok_or(StatusCode::NOT_FOUND)?;
        self.store(topic, partition, &body)
    }

    fn store(&self, topic: &str, partition: i32, body: &[u8]) -> Result<StatusCode, StatusCode> {
        let mut lines = Vec::new();
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Line<'_>>(line) {
                Ok(line) if line.value.get().starts_with('{') => lines.push(line),
                _ => return Err(StatusCode::UNPROCESSABLE_ENTITY),
            }
        }
        let identity = |line: &Line<'_>| (topic.to_owned(), partition, line.offset);
        self.look(|contents| {
            contents.traffic.requests += 1;
            let differs = |line: &Line<'_>| {
                let there = contents.rows.get(&identity(line));
                there.is_some_and(|there| there != line.value.get())
            };
            if lines.iter().any(differs) {
                return Err(StatusCode::CONFLICT);
            }
            for line in &lines {
                let before = contents.rows.insert(identity(line), line.value.get().to_owned());
                contents.traffic.rows_again += u64::from(before.is_some());
            }
            let number = contents.traffic.requests;
            if self.lose_every.is_some_and(|every| number.is_multiple_of(every.get())) {
                contents.traffic.answers_lost += 1;
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            Ok(StatusCode::OK)
        })
    }

    fn look<R>(&self, at: impl FnOnce(&mut Contents) -> R) -> R {
        at(&mut self.contents.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads `/<topic>/<partition>`.
fn lane(path: &str) -> Option<(&str, i32)> {
    let (topic, partition) = path.strip_prefix('/')?.split_once('/')?;
    Some((topic, partition.parse().ok()?))
}
