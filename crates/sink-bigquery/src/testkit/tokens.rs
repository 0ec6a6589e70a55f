//! The endpoints that access tokens come from.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aqueduct_core::{Clock as _, SystemClock, unix_millis};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Token endpoints in this process, on a port of the loopback interface: OAuth's (`/token`), the exchange of workload identity
/// federation (`/sts`), the IAM service's, the metadata server's, and a place to read a subject's token from (`/subject`,
/// `/subject.json`).
///
/// They check what the documents demand of a request and give tokens that are numbered: `oauth-1`, `sts-2`, `iam-3`, `metadata-4`.
#[derive(Debug)]
pub struct FakeTokens {
    state: Arc<State>,
    endpoint: String,
    task: JoinHandle<()>,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FakeTokenRequest {
    /// Its path and query.
    pub path: String,
    /// Its headers, by names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

/// What is answered instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FakeTokenAnswer {
    /// A status with a body.
    Status(u16, String),
    /// A status with all that the request held, as an error's description: what a hostile or curious endpoint may do.
    Echo(u16),
    /// A redirect to this place.
    Redirect(String),
}

#[derive(Debug, Default)]
struct State(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    requests: Vec<FakeTokenRequest>,
    answers: VecDeque<FakeTokenAnswer>,
    lifetime: Duration,
    delay: Duration,
    subject: String,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            requests: Vec::new(),
            answers: VecDeque::new(),
            lifetime: Duration::from_hours(1),
            delay: Duration::ZERO,
            subject: "subject-token".to_owned(),
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeTokens {
    /// Starts the server.
    ///
    /// # Panics
    /// If there is no port. This is a test helper.
    pub async fn start() -> Self {
        let state = Arc::new(State::default());
        let (listener, endpoint) = super::listen();
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        tokio::task::yield_now().await;
        Self { state, endpoint, task }
    }

    /// `http://127.0.0.1:…`
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<FakeTokenRequest> {
        self.state.lock().requests.clone()
    }

    /// The next requests are answered so, one each.
    pub fn answer(&self, answers: impl IntoIterator<Item = FakeTokenAnswer>) {
        self.state.lock().answers.extend(answers);
    }

    /// How long tokens live.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.state.lock().lifetime = lifetime;
    }

    /// How long every answer takes.
    pub fn set_delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    /// The subject's token.
    pub fn set_subject(&self, token: &str) {
        token.clone_into(&mut self.state.lock().subject);
    }
}

impl Drop for FakeTokens {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<State>) {
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

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let headers = parts.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let request = FakeTokenRequest {
        path,
        headers: headers.collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let (delay, (status, header, body)) = {
        let mut inner = state.lock();
        inner.requests.push(request.clone());
        let answer = inner.answers.pop_front();
        (inner.delay, inner.respond(parts.uri.path(), &request, answer))
    };
    tokio::time::sleep(delay).await;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some((name, value)) = header
        && let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value))
    {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

type Respond = (u16, Option<(&'static str, String)>, String);

impl Inner {
    fn respond(&self, path: &str, request: &FakeTokenRequest, answer: Option<FakeTokenAnswer>) -> Respond {
        match answer {
            Some(FakeTokenAnswer::Status(status, body)) => return (status, None, body),
            Some(FakeTokenAnswer::Echo(status)) => {
                let all = format!("{} {:?} {}", request.path, request.headers, request.body);
                return (status, None, json!({ "error": all, "error_description": all }).to_string());
            }
            Some(FakeTokenAnswer::Redirect(to)) => return (307, Some(("location", to)), String::new()),
            None => {}
        }
        let number = self.requests.len();
        let has = |part: &str| request.body.contains(part);
        let seconds = self.lifetime.as_secs();
        let granted = |kind: &str| {
            json!({ "access_token": format!("{kind}-{number}"), "expires_in": seconds, "token_type": "Bearer" })
                .to_string()
        };
        let refused = |code: &str| (400, None, json!({ "error": code }).to_string());
        match path {
            // <https://www.rfc-editor.org/rfc/rfc7523#section-2.1>, <https://www.rfc-editor.org/rfc/rfc6749#section-6>
            "/token"
                if has("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer")
                    && has("assertion=") =>
            {
                (200, None, granted("oauth"))
            }
            "/token" if has("grant_type=refresh_token") && has("refresh_token=") && has("client_secret=") => {
                (200, None, granted("oauth"))
            }
            "/token" => refused("unsupported_grant_type"),
            // <https://www.rfc-editor.org/rfc/rfc8693#section-2.1>
            "/sts"
                if has("grant-type%3Atoken-exchange")
                    && has("subject_token=")
                    && has("subject_token_type=") =>
            {
                (200, None, granted("sts"))
            }
            "/sts" => refused("invalid_request"),
            "/subject" => (200, None, format!("{}\n", self.subject)),
            "/subject.json" => (200, None, json!({ "access_token": self.subject }).to_string()),
            _ if path.starts_with("/computeMetadata/v1/instance/service-accounts/default/token") => {
                if request.headers.get("metadata-flavor").is_some_and(|flavor| flavor == "Google") {
                    (200, Some(("metadata-flavor", "Google".to_owned())), granted("metadata"))
                } else {
                    (403, None, "Missing Metadata-Flavor:Google header.".to_owned())
                }
            }
            _ if path.ends_with(":generateAccessToken") => {
                if !request.headers.contains_key(AUTHORIZATION.as_str()) {
                    let body =
                        json!({ "error": { "code": 401, "status": "UNAUTHENTICATED", "message": "" } });
                    return (401, None, body.to_string());
                }
                let until = unix_millis(SystemClock.now()) / 1000 + i64::try_from(seconds).unwrap_or(0);
                let until = jiff::Timestamp::from_second(until).unwrap_or_default().to_string();
                (
                    200,
                    None,
                    json!({ "accessToken": format!("iam-{number}"), "expireTime": until }).to_string(),
                )
            }
            _ => (404, None, String::new()),
        }
    }
}
