//! The gRPC server.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use gcp_bigquery_client::google::cloud::bigquery::storage::v1::{
    AppendRowsRequest, AppendRowsResponse, BatchCommitWriteStreamsRequest, CreateWriteStreamRequest,
    FinalizeWriteStreamRequest, GetWriteStreamRequest, append_rows_response,
};
use gcp_bigquery_client::google::rpc;
use prost::Message as _;
use prost_types::Any;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::fault::{FakeCall, FakeFault};
use super::state::State;
use super::stream::Connection;

/// The largest message the server reads at all; what is allowed is a limit of the fake.
const MESSAGE_MAX: usize = 64 << 20;
/// Bytes that a client may send before they are read: a request, so that its frames do not wait for each other. HTTP/2 begins with
/// 64 KiB, and servers that take megabytes at a time allow more.
const WINDOW: u32 = 2 << 20;
/// Answers of one connection that wait to be read.
const ANSWERS: usize = 16;
/// Answers of one connection that are held back; more requests are not read.
const DECIDED: usize = 4096;

/// Serves until the task is aborted; a GOAWAY ends connections, not the listener.
pub(super) async fn serve(listener: std::net::TcpListener, state: Arc<State>, go_away: Arc<Notify>) {
    loop {
        let Ok(listener) = listener.try_clone().and_then(TcpListener::from_std) else { return };
        let service = Write(Arc::clone(&state));
        let served = Server::builder()
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 4)
            .add_service(service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), go_away.notified())
            .await;
        if served.is_err() {
            return;
        }
    }
}

#[derive(Clone)]
struct Write(Arc<State>);

impl NamedService for Write {
    const NAME: &'static str = "google.cloud.bigquery.storage.v1.BigQueryWrite";
}

type Answering<A> = Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send>>;

/// A call as a service of its own, which is what the server side of the protocol takes.
struct Call<Q, A>(Box<dyn FnMut(Request<Q>) -> Answering<A> + Send>);

impl<Q, A: 'static> Call<Q, A> {
    fn new<F>(mut call: impl FnMut(Request<Q>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        Self(Box::new(move |request| Box::pin(call(request))))
    }
}

impl<Q, A> Service<Request<Q>> for Call<Q, A> {
    type Response = Response<A>;
    type Error = Status;
    type Future = Answering<A>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        (self.0)(request)
    }
}

impl Service<http::Request<Body>> for Write {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let state = Arc::clone(&self.0);
        macro_rules! unary {
            ($call:expr, $key:literal, $request:ty, |$message:ident| $name:expr, |$inner:ident| $act:expr) => {{
                let call = Call::new(move |request: Request<$request>| {
                    let state = Arc::clone(&state);
                    async move {
                        let (metadata, _, $message) = request.into_parts();
                        let expected = format!("{}={}", $key, $name);
                        let fault = enter(&state, $call, &metadata, &expected)?;
                        hang(fault).await;
                        let answer = {
                            let mut inner = state.lock();
                            let $inner = &mut *inner;
                            $act
                        };
                        leave(fault).await?;
                        answer.map(Response::new)
                    }
                });
                Box::pin(async move {
                    let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_MAX);
                    Ok(grpc.unary(call, request).await)
                })
            }};
        }
        let path = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        match path.as_str() {
            "CreateWriteStream" => unary!(
                FakeCall::CreateWriteStream,
                "parent",
                CreateWriteStreamRequest,
                |message| message.parent,
                |inner| inner.create_stream(&message)
            ),
            "FinalizeWriteStream" => unary!(
                FakeCall::FinalizeWriteStream,
                "name",
                FinalizeWriteStreamRequest,
                |message| message.name,
                |inner| inner.finalize(&message.name)
            ),
            "BatchCommitWriteStreams" => unary!(
                FakeCall::BatchCommitWriteStreams,
                "parent",
                BatchCommitWriteStreamsRequest,
                |message| message.parent,
                |inner| inner.batch_commit(&message)
            ),
            "GetWriteStream" => unary!(
                FakeCall::GetWriteStream,
                "name",
                GetWriteStreamRequest,
                |message| message.name,
                |inner| inner.get_stream(&message.name)
            ),
            "AppendRows" => {
                let call = Call::new(move |request: Request<Streaming<AppendRowsRequest>>| {
                    let state = Arc::clone(&state);
                    async move {
                        let (metadata, _, requests) = request.into_parts();
                        let (answers, receiver) = mpsc::channel(ANSWERS);
                        tokio::spawn(append(state, metadata, requests, answers));
                        Ok(Response::new(ReceiverStream::new(receiver)))
                    }
                });
                Box::pin(async move {
                    let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_MAX);
                    Ok(grpc.streaming(call, request).await)
                })
            }
            _ => Box::pin(async { Ok(Status::unimplemented("").into_http()) }),
        }
    }
}

/// "Responses are received in the same order in which requests are sent."
async fn append(
    state: Arc<State>,
    metadata: MetadataMap,
    mut requests: Streaming<AppendRowsRequest>,
    answers: mpsc::Sender<Result<AppendRowsResponse, Status>>,
) {
    let (decided, receiver) = mpsc::channel(DECIDED);
    let unanswered = Arc::new(Mutex::new((0, 0)));
    tokio::spawn(answer(Arc::clone(&state), Arc::clone(&unanswered), receiver, answers));
    let mut connection = Connection::default();
    let mut away = state.watch_away();
    loop {
        let request = tokio::select! {
            request = requests.message() => request,
            _ = away.changed() => {
                decided.send((Err(Status::unavailable("the server goes away")), 0)).await.ok();
                return;
            }
        };
        let Ok(Some(request)) = request else { return };
        let bytes = request.encoded_len();
        let now = {
            let mut unanswered = unanswered.lock().unwrap_or_else(PoisonError::into_inner);
            (unanswered.0, unanswered.1) = (unanswered.0 + 1, unanswered.1 + bytes);
            *unanswered
        };
        {
            let mut inner = state.lock();
            let (requests, bytes) = inner.unanswered_max;
            inner.unanswered_max = (requests.max(now.0), bytes.max(now.1));
        }
        let expected = format!("write_stream={}", connection.stream(&request));
        let fault = match enter(&state, FakeCall::AppendRows, &metadata, &expected) {
            Ok(fault) => fault,
            Err(status) => {
                // An error of the call itself ends the connection.
                decided.send((Err(status), bytes)).await.ok();
                return;
            }
        };
        hang(fault).await;
        let answer = match fault {
            Some(FakeFault::UnavailableInside) => {
                inside(connection.stream(&request), &Status::unavailable("injected"))
            }
            Some(FakeFault::ExhaustedInside) => inside(connection.stream(&request), &exhausted()),
            _ => state.lock().append(&mut connection, &request),
        };
        if let Err(status) = leave(fault).await {
            decided.send((Err(status), bytes)).await.ok();
            return;
        }
        if decided.send((Ok(answer), bytes)).await.is_err() {
            return;
        }
    }
}

type Decided = (Result<AppendRowsResponse, Status>, usize);

/// Sends the answers of one connection, when they may pass.
async fn answer(
    state: Arc<State>,
    unanswered: Arc<Mutex<(usize, usize)>>,
    mut decided: mpsc::Receiver<Decided>,
    answers: mpsc::Sender<Result<AppendRowsResponse, Status>>,
) {
    while let Some((answer, bytes)) = decided.recv().await {
        state.answers_pass().await;
        {
            let mut unanswered = unanswered.lock().unwrap_or_else(PoisonError::into_inner);
            *unanswered = (unanswered.0.saturating_sub(1), unanswered.1.saturating_sub(bytes));
        }
        if answers.send(answer).await.is_err() {
            return;
        }
    }
}

/// An error that leaves the connection as it is.
fn inside(stream: &str, status: &Status) -> AppendRowsResponse {
    let details = rpc::Status::decode(status.details()).map(|status| status.details).unwrap_or_default();
    let error = rpc::Status { code: status.code().into(), message: status.message().to_owned(), details };
    AppendRowsResponse {
        write_stream: stream.to_owned(),
        response: Some(append_rows_response::Response::Error(error)),
        ..AppendRowsResponse::default()
    }
}

/// What happens before a call is looked at.
fn enter(
    state: &State,
    call: FakeCall,
    metadata: &MetadataMap,
    expected: &str,
) -> Result<Option<FakeFault>, Status> {
    let mut inner = state.lock();
    let fault = inner.meet(call);
    if let Some(token) = &inner.token {
        let given = metadata.get("authorization").and_then(|value| value.to_str().ok());
        if given != Some(format!("Bearer {token}").as_str()) {
            return Err(Status::unauthenticated("Request had invalid authentication credentials"));
        }
    }
    // Outside of the US multi-region calls that do not say their resource are not routed
    // (<https://cloud.google.com/bigquery/docs/write-api-best-practices>).
    let params = metadata.get("x-goog-request-params").and_then(|value| value.to_str().ok());
    if params.map(decoded).as_deref() != Some(expected) {
        return Err(Status::invalid_argument("x-goog-request-params does not name the resource"));
    }
    match fault {
        Some(FakeFault::UnavailableInside | FakeFault::ExhaustedInside) if call == FakeCall::AppendRows => {
            Ok(fault)
        }
        Some(FakeFault::Unavailable | FakeFault::UnavailableInside) => Err(Status::unavailable("injected")),
        Some(FakeFault::Aborted) => Err(Status::aborted("injected")),
        Some(FakeFault::Internal) => Err(Status::internal("injected")),
        Some(FakeFault::Exhausted | FakeFault::ExhaustedInside) => Err(exhausted()),
        Some(FakeFault::Unauthenticated) => Err(Status::unauthenticated("injected")),
        Some(FakeFault::Denied) => Err(Status::permission_denied("injected")),
        Some(FakeFault::Pass | FakeFault::LoseAnswer | FakeFault::Stall | FakeFault::Hang) | None => {
            Ok(fault)
        }
    }
}

/// A call that nothing comes of.
async fn hang(fault: Option<FakeFault>) {
    if fault == Some(FakeFault::Hang) {
        tokio::time::sleep(Duration::from_hours(1)).await;
    }
}

/// What happens between a call's effect and its answer.
async fn leave(fault: Option<FakeFault>) -> Result<(), Status> {
    match fault {
        Some(FakeFault::LoseAnswer) => Err(Status::unavailable("the answer is lost")),
        Some(FakeFault::Stall) => {
            tokio::time::sleep(Duration::from_hours(1)).await;
            Err(Status::deadline_exceeded("stalled"))
        }
        _ => Ok(()),
    }
}

/// With the delay that quota errors may carry.
fn exhausted() -> Status {
    let delay = prost_types::Duration { seconds: 0, nanos: 5_000_000 };
    // `google.rpc.RetryInfo` has the delay as its first field.
    let mut value = vec![0x0a];
    value.extend(delay.encode_length_delimited_to_vec());
    let any = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value };
    let code = Code::ResourceExhausted;
    let status = rpc::Status { code: code.into(), message: "injected".to_owned(), details: vec![any] };
    Status::with_details(code, "injected", status.encode_to_vec().into())
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).unwrap_or(0);
        out.push(if byte == b'%' { u8::try_from(digit() * 16 + digit()).unwrap_or(0) } else { byte });
    }
    String::from_utf8_lossy(&out).into_owned()
}
