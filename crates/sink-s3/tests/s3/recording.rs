//! An endpoint that answers like S3 and like the security token service, and keeps what it was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// One request, whole.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: Method,
    /// As it stands in the request's first line; with a proxy the whole URL, with a tunnel the host.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Recorded {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The access key the request was signed with.
    pub(crate) fn signed_by(&self) -> &str {
        let authorization = self.header("authorization").unwrap_or_default();
        let key = authorization.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next());
        key.unwrap_or_default()
    }
}

/// What is answered once, instead of what S3 would, to a request whose first line contains the text.
type Scripted = (&'static str, u16, &'static str);

#[derive(Default)]
struct State {
    seen: Vec<Recorded>,
    scripted: VecDeque<Scripted>,
    sessions: usize,
    session_seconds: u64,
}

pub(crate) struct Endpoint {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { session_seconds: 3600, ..State::default() }));
        let task = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let state = Arc::clone(&state);
                    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service);
                    tokio::spawn(async move { drop(connection.await) });
                }
            }
        });
        Self { address, state, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn script(&self, part: &'static str, status: u16, body: &'static str) {
        self.state.lock().unwrap().scripted.push_back((part, status, body));
    }

    /// How long the sessions of roles last from now on.
    pub(crate) fn sessions_last(&self, seconds: u64) {
        self.state.lock().unwrap().session_seconds = seconds;
    }

    /// What was asked since the last call.
    pub(crate) fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
    let headers = head.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
    let recorded = Recorded {
        method: head.method.clone(),
        target: head.uri.to_string(),
        headers: headers.collect(),
        body,
    };
    let line = format!("{} {}", head.method, head.uri);
    let mut state = state.lock().unwrap();
    let scripted = state.scripted.iter().position(|(part, _, _)| line.contains(part));
    let scripted = scripted.and_then(|position| state.scripted.remove(position));
    let query = head.uri.query().unwrap_or_default();
    let as_scripted = scripted.is_some();
    let (status, body) = match (&head.method, scripted) {
        (_, Some((_, status, body))) => (status, body.to_owned()),
        // A tunnel is noted and not dug: the other end would be AWS.
        (&Method::CONNECT, None) => (502, String::new()),
        (&Method::POST, None) if recorded.body.contains("Action=AssumeRole") => {
            state.sessions += 1;
            (200, session(&recorded.body, state.sessions, state.session_seconds))
        }
        (&Method::POST, None) if query.contains("uploads") => {
            let upload = "<UploadId>one</UploadId>";
            (200, format!("<InitiateMultipartUploadResult>{upload}</InitiateMultipartUploadResult>"))
        }
        (&Method::POST, None) => {
            (200, "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>".to_owned())
        }
        (&Method::DELETE, None) => (204, String::new()),
        _ => (200, String::new()),
    };
    state.seen.push(recorded);
    let response = Response::builder().status(status);
    let response = if as_scripted { response } else { response.header("etag", "\"e\"") };
    Ok(response.body(Full::from(body)).unwrap())
}

/// A session with a role: the n-th has the access key `ASIA` and n.
fn session(request: &str, number: usize, seconds: u64) -> String {
    let name = if request.contains("WithWebIdentity") { "AssumeRoleWithWebIdentity" } else { "AssumeRole" };
    let ends =
        aqueduct_core::Clock::now(&aqueduct_core::SystemClock) + std::time::Duration::from_secs(seconds);
    let ends = aws_smithy_types::DateTime::from(ends);
    let ends = ends.fmt(aws_smithy_types::date_time::Format::DateTime).unwrap();
    format!(
        "<{name}Response><{name}Result><Credentials><AccessKeyId>ASIA{number}</AccessKeyId>\
         <SecretAccessKey>canary-session-secret</SecretAccessKey><SessionToken>token-{number}</SessionToken>\
         <Expiration>{ends}</Expiration></Credentials></{name}Result></{name}Response>"
    )
}
