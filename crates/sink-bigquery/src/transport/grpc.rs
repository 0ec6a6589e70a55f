//! The Storage Write interface over gRPC.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_request::{ProtoData, Rows};
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_response::Response as Appended;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::big_query_write_client::BigQueryWriteClient;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::{
    AppendRowsRequest, AppendRowsResponse, BatchCommitWriteStreamsRequest, CreateWriteStreamRequest,
    FinalizeWriteStreamRequest, GetWriteStreamRequest, ProtoRows, ProtoSchema, WriteStream, write_stream,
};
use prost_types::DescriptorProto;
use secrecy::ExposeSecret as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::status::{Missing, from_answer, from_status, from_storage_error};
use super::{AppendAnswer, AppendConnection, Duplex, IN_FLIGHT_MAX, WriteTransport};
use crate::credentials::TokenSource;
use crate::error::{Answer, At, BigQueryError};
use crate::name::{StreamName, TableName};

mod duplex;

/// How to reach the service.
#[derive(Clone, Debug)]
pub(crate) struct GrpcOptions {
    /// `https://bigquerystorage.googleapis.com`, or another.
    pub(crate) endpoint: String,
    /// The longest wait for the answer to one call.
    pub(crate) call_timeout: Duration,
    /// The longest wait for the answer to one append.
    pub(crate) append_timeout: Duration,
    /// Connections to the service.
    pub(crate) channels: usize,
}

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection is asked whether it lives; one that died silently would cost a whole append timeout.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Largest answer that is read; ones with thousands of row errors are large.
const ANSWER_MAX: usize = 64 << 20;

/// Appends at the same time over one HTTP/2 connection. Servers allow about 100 calls; one that waits for its turn there would be
/// taken for one without an answer.
const APPENDS_MAX: usize = 90;

/// A few HTTP/2 connections for all lanes; they reconnect by themselves.
pub(crate) struct GrpcTransport {
    /// For everything but appends.
    client: BigQueryWriteClient<Channel>,
    /// For appends, in turn.
    appending: Vec<BigQueryWriteClient<Channel>>,
    turn: AtomicUsize,
    appends: Arc<Semaphore>,
    /// Tells those who keep a connection that somebody waits for one.
    crowd: Notify,
    tokens: Arc<dyn TokenSource>,
    options: GrpcOptions,
}

impl fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTransport").field("options", &self.options).finish_non_exhaustive()
    }
}

impl GrpcTransport {
    /// Connects at the first call.
    ///
    /// # Errors
    /// The endpoint is not a URL.
    pub(crate) fn new(
        options: GrpcOptions,
        tokens: Arc<dyn TokenSource>,
    ) -> Result<Self, tonic::transport::Error> {
        let mut endpoint = Endpoint::from_shared(options.endpoint.clone())?
            .user_agent(concat!("aqueduct/", env!("CARGO_PKG_VERSION")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        if endpoint.uri().scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        let client =
            || BigQueryWriteClient::new(endpoint.connect_lazy()).max_decoding_message_size(ANSWER_MAX);
        let channels = options.channels.max(1);
        Ok(Self {
            client: client(),
            appending: (0..channels).map(|_| client()).collect(),
            turn: AtomicUsize::new(0),
            appends: Arc::new(Semaphore::new(channels * APPENDS_MAX)),
            crowd: Notify::new(),
            tokens,
            options,
        })
    }

    /// Authorization, and the resource by which the service finds the region.
    async fn metadata(&self, resource: &'static str, name: &str) -> Result<MetadataMap, BigQueryError> {
        let mut metadata = MetadataMap::new();
        let params: String = url_encoded(name);
        if let Ok(value) = AsciiMetadataValue::try_from(format!("{resource}={params}")) {
            metadata.insert("x-goog-request-params", value);
        }
        if let Some(token) = self.tokens.token().await? {
            let value = AsciiMetadataValue::try_from(format!("Bearer {}", token.expose_secret()));
            let mut value = value.map_err(|_| BigQueryError::NoCredentials {
                problem: "the token is not one that fits into a header".to_owned(),
            })?;
            value.set_sensitive(true);
            metadata.insert("authorization", value);
        }
        Ok(metadata)
    }

    async fn call<Q, A, F>(
        &self,
        (at, missing): (At, Missing),
        (resource, name): (&'static str, &str),
        message: Q,
        call: impl FnOnce(BigQueryWriteClient<Channel>, Request<Q>) -> F + Send,
    ) -> Result<A, BigQueryError>
    where
        Q: Send,
        F: Future<Output = Result<Response<A>, Status>> + Send,
    {
        let metadata = self.metadata(resource, name).await?;
        let request = Request::from_parts(metadata, tonic::Extensions::default(), message);
        let after = self.options.call_timeout;
        match tokio::time::timeout(after, call(self.client.clone(), request)).await {
            Err(_) => Err(BigQueryError::Timeout { at, after }),
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failed(at, missing, &status)),
        }
    }

    fn failed(&self, at: At, missing: Missing, status: &Status) -> BigQueryError {
        let error = from_status(at, missing, status);
        if matches!(error, BigQueryError::Unauthenticated { .. }) {
            self.tokens.renew();
        }
        error
    }
}

/// As in a URL's query: everything that could mean something in one is percent-encoded.
pub(crate) fn url_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let digit =
                |nibble: u8| char::from_digit(u32::from(nibble), 16).map_or('0', |c| c.to_ascii_uppercase());
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}

#[async_trait]
impl WriteTransport for GrpcTransport {
    async fn create_pending_stream(&self, table: &TableName) -> Result<StreamName, BigQueryError> {
        let (at, path) = (At::new("create write stream", table), table.path());
        let stream = WriteStream { r#type: write_stream::Type::Pending.into(), ..WriteStream::default() };
        let message = CreateWriteStreamRequest { parent: path.clone(), write_stream: Some(stream) };
        let created = self
            .call((at.clone(), Missing::Table), ("parent", &path), message, async |mut client, request| {
                client.create_write_stream(request).await
            })
            .await?;
        StreamName::of(table, &created.name).ok_or_else(|| BigQueryError::Unknown {
            at,
            answer: Answer::new("Ok", "", "the stream's name is not one of this table"),
        })
    }

    async fn connect(
        &self,
        stream: &StreamName,
        descriptor: &DescriptorProto,
    ) -> Result<Box<dyn AppendConnection>, BigQueryError> {
        let metadata = self.metadata("write_stream", &stream.path()).await?;
        let (requests, queued) = mpsc::channel(IN_FLIGHT_MAX);
        let request =
            Request::from_parts(metadata, tonic::Extensions::default(), ReceiverStream::new(queued));
        // The semaphore is never closed, so acquiring cannot fail.
        let turn = Arc::clone(&self.appends).acquire_owned().await.ok();
        let place = self.turn.fetch_add(1, Ordering::Relaxed) % self.appending.len().max(1);
        let mut client = self.appending.get(place).unwrap_or(&self.client).clone();
        Ok(Box::new(GrpcConnection {
            _turn: turn,
            at: At::new("append rows", stream),
            stream: stream.path(),
            schema: Some(ProtoSchema { proto_descriptor: Some(descriptor.clone()) }),
            requests,
            // The answer's header may not come before the first request is sent.
            answers: Answers::Opening(Box::pin(async move { client.append_rows(request).await })),
            tokens: Arc::clone(&self.tokens),
            timeout: self.options.append_timeout,
        }))
    }

    async fn open_default(
        &self,
        table: &TableName,
        slot: usize,
        descriptor: &DescriptorProto,
    ) -> Result<Duplex, BigQueryError> {
        self.open_duplex(table, slot, descriptor).await
    }

    async fn crowded(&self) {
        let crowded = self.crowd.notified();
        if self.appends.available_permits() > 0 {
            crowded.await;
        }
    }

    async fn finalize(&self, stream: &StreamName) -> Result<i64, BigQueryError> {
        let (at, name) = (At::new("finalize write stream", stream), stream.path());
        let message = FinalizeWriteStreamRequest { name: name.clone() };
        let answer =
            self.call((at, Missing::Stream), ("name", &name), message, async |mut client, request| {
                client.finalize_write_stream(request).await
            });
        Ok(answer.await?.row_count)
    }

    async fn batch_commit(&self, table: &TableName, streams: &[StreamName]) -> Result<(), BigQueryError> {
        let (at, parent) = (At::new("commit write streams", table), table.path());
        let write_streams = streams.iter().map(StreamName::path).collect();
        let message = BatchCommitWriteStreamsRequest { parent: parent.clone(), write_streams };
        let answer = self
            .call((at.clone(), Missing::Stream), ("parent", &parent), message, async |mut client, request| {
                client.batch_commit_write_streams(request).await
            })
            .await?;
        match answer.stream_errors.first() {
            Some(error) => Err(from_storage_error(at, error)),
            None if answer.commit_time.is_none() => Err(BigQueryError::Unknown {
                at,
                answer: Answer::new("Ok", "", "the answer has neither a commit time nor an error"),
            }),
            None => Ok(()),
        }
    }

    async fn is_committed(&self, stream: &StreamName) -> Result<bool, BigQueryError> {
        let (at, name) = (At::new("get write stream", stream), stream.path());
        let message = GetWriteStreamRequest { name: name.clone(), view: 0 };
        let answer =
            self.call((at, Missing::Stream), ("name", &name), message, async |mut client, request| {
                client.get_write_stream(request).await
            });
        Ok(answer.await?.commit_time.is_some())
    }
}

type Opening = Pin<Box<dyn Future<Output = Result<Response<Streaming<AppendRowsResponse>>, Status>> + Send>>;

enum Answers {
    Opening(Opening),
    Open(Box<Streaming<AppendRowsResponse>>),
}

struct GrpcConnection {
    _turn: Option<OwnedSemaphorePermit>,
    at: At,
    /// Only the first request has to name it; others may (comments on `AppendRowsRequest.write_stream`,
    /// <https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1#appendrowsrequest>). All of
    /// ours do: it is next to nothing, and there are servers that look for it in each.
    stream: String,
    /// For the first request.
    schema: Option<ProtoSchema>,
    requests: mpsc::Sender<AppendRowsRequest>,
    answers: Answers,
    tokens: Arc<dyn TokenSource>,
    timeout: Duration,
}

impl Answers {
    /// Cancel safe.
    async fn next(&mut self) -> Result<Option<AppendRowsResponse>, Status> {
        if let Self::Opening(opening) = self {
            *self = Self::Open(Box::new(opening.await?.into_inner()));
        }
        match self {
            Self::Open(answers) => answers.message().await,
            Self::Opening(_) => Ok(None),
        }
    }
}

impl GrpcConnection {
    fn closed(&self) -> BigQueryError {
        BigQueryError::Unreachable { at: self.at.clone(), source: "the connection was closed".into() }
    }
}

#[async_trait]
impl AppendConnection for GrpcConnection {
    async fn send(&mut self, offset: i64, rows: Vec<Vec<u8>>) -> Result<(), BigQueryError> {
        let (write_stream, writer_schema) = (self.stream.clone(), self.schema.take());
        let data = ProtoData { writer_schema, rows: Some(ProtoRows { serialized_rows: rows }) };
        let request = AppendRowsRequest {
            write_stream,
            offset: Some(offset),
            trace_id: TRACE_ID.to_owned(),
            rows: Some(Rows::ProtoRows(data)),
            ..AppendRowsRequest::default()
        };
        self.requests.send(request).await.map_err(|_| self.closed())
    }

    async fn receive(&mut self) -> Result<AppendAnswer, BigQueryError> {
        let after = self.timeout;
        let received = tokio::time::timeout(after, self.answers.next()).await;
        let received = received.map_err(|_| BigQueryError::Timeout { at: self.at.clone(), after })?;
        let answer = match received {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(self.closed()),
            Err(status) => {
                let error = from_status(self.at.clone(), Missing::Stream, &status);
                if matches!(error, BigQueryError::Unauthenticated { .. }) {
                    self.tokens.renew();
                }
                return Err(error);
            }
        };
        judged(&self.at, Missing::Stream, answer)
    }
}

/// How requests say who sends them.
const TRACE_ID: &str = concat!("aqueduct:", env!("CARGO_PKG_VERSION"));

/// What an answer says of its request.
fn judged(at: &At, missing: Missing, answer: AppendRowsResponse) -> Result<AppendAnswer, BigQueryError> {
    if !answer.row_errors.is_empty() {
        let mut rows: Vec<_> =
            answer.row_errors.iter().filter_map(|row| usize::try_from(row.index).ok()).collect();
        rows.sort_unstable();
        rows.dedup();
        return Ok(AppendAnswer::RowsRefused(rows));
    }
    match answer.response {
        Some(Appended::AppendResult(_)) => Ok(AppendAnswer::Appended),
        Some(Appended::Error(status)) => Err(from_answer(at.clone(), missing, &status)),
        None => Err(BigQueryError::Unknown {
            at: at.clone(),
            answer: Answer::new("Ok", "", "the answer to an append is empty"),
        }),
    }
}
