//! A proxy before the S3 server that knows S3's operations and makes scripted calls of them fail.
//!
//! Requests are passed on with their headers as they came, `Host` among them: what was signed for the proxy's address is valid
//! behind it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aws_sdk_s3::Client;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, EXPECT};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use xtask::services::Endpoint;

use super::wire::{Fate, Wire};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// `PutObject`.
    Put,
    /// `CreateMultipartUpload`.
    Create,
    /// `UploadPart`.
    Part,
    /// `CompleteMultipartUpload`.
    Complete,
    /// A look at an object: `HeadObject`, or `GetObject` of its first byte.
    Head,
    /// Anything else, and everything about the key that is only tried at the start.
    Other,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Refused with this status and code; no effect.
    Answer(u16, &'static str),
    /// Answered with 200 and an error in the body; no effect.
    ErrorInside,
    /// The upload is aborted, as a lifecycle rule does, before the request arrives.
    UploadGone,
    /// The connection breaks before the server has seen anything.
    Reset,
    /// It has its effect, and the connection breaks instead of an answer.
    Lost,
    /// Nothing happens at all, for longer than anybody waits.
    Stall,
    /// Everything goes through at 1 KiB a second.
    Drip,
}

/// Which calls meet which fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) operation: Operation,
    pub(crate) fault: Fault,
    /// So many calls that no rule before this one takes pass first.
    pub(crate) after: u64,
    /// So many meet it; all, if there is none.
    pub(crate) times: Option<u64>,
    /// Nothing that comes later passes, whatever it asks for: the time in which the sender can be killed.
    pub(crate) then_hold: bool,
}

impl Rule {
    /// The first `times` calls meet `fault`.
    pub(crate) fn first(times: u64, operation: Operation, fault: Fault) -> Self {
        Self { operation, fault, after: 0, times: Some(times), then_hold: false }
    }
}

/// What a proxy has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Requests that have arrived, by operation.
    requests: [u64; 6],
    /// Answers of the server that were passed on, by operation.
    answered: [u64; 6],
    /// Faults met.
    pub(crate) injected: u64,
    /// When the last of them was.
    pub(crate) last: Option<Instant>,
}

impl Seen {
    pub(crate) fn requests(&self, operation: Operation) -> u64 {
        self.requests.get(operation as usize).copied().unwrap_or_default()
    }

    pub(crate) fn answered(&self, operation: Operation) -> u64 {
        self.answered.get(operation as usize).copied().unwrap_or_default()
    }
}

/// The proxy; it ends with this value.
#[derive(Debug)]
pub(crate) struct Proxy {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    client: Client,
    rules: Mutex<Vec<Rule>>,
    seen: watch::Sender<Seen>,
    holds: watch::Sender<bool>,
}

impl Proxy {
    /// Opens one before `server`, with its script.
    pub(crate) async fn open(server: &Endpoint, rules: Vec<Rule>) -> Result<Self> {
        let upstream = server
            .url
            .strip_prefix("http://")
            .and_then(|address| address.parse().ok())
            .with_context(|| format!("{} is no http://ip:port", server.url))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = Endpoint { url: format!("http://{}", listener.local_addr()?), ..server.clone() };
        let shared = Arc::new(Shared {
            upstream,
            client: server.client(),
            rules: Mutex::new(rules),
            seen: watch::Sender::new(Seen::default()),
            holds: watch::Sender::new(false),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { endpoint, shared, _tasks: tasks })
    }

    /// What a worker is given in place of the server.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Seen {
        *self.shared.seen.borrow()
    }

    /// Waits until it has seen that.
    pub(crate) async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Seen) -> bool,
    ) -> Result<()> {
        let mut changes = self.shared.seen.subscribe();
        let change = tokio::time::timeout(limit, changes.wait_for(wanted)).await;
        change.ok().and_then(Result::ok).with_context(|| format!("never {what}: {:?}", self.seen()))?;
        Ok(())
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
                Err(error) => tracing::warn!(%error, "the proxy cannot take a connection"),
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).ok();
    let fate = Arc::new(Fate::default());
    let wire = TokioIo::new(Wire::new(stream, Arc::clone(&fate)));
    let service = service_fn(move |request| {
        let (shared, fate) = (Arc::clone(&shared), Arc::clone(&fate));
        async move { shared.serve(request, &fate).await }
    });
    // A broken connection is what is wanted.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(wire, service).await);
}

impl Shared {
    async fn serve(&self, request: Request<Incoming>, fate: &Fate) -> io::Result<Response<Full<Bytes>>> {
        let operation = Operation::of(request.method(), request.uri().path(), request.uri().query());
        self.seen.send_modify(|seen| bump(&mut seen.requests, operation));
        if *self.holds.borrow() {
            return std::future::pending().await;
        }
        let Some(rule) = self.meets(operation) else {
            let answer = self.forward(request).await?;
            self.seen.send_modify(|seen| bump(&mut seen.answered, operation));
            return Ok(answer);
        };
        if rule.then_hold {
            self.holds.send_replace(true);
        }
        let note = || {
            self.seen.send_modify(|seen| {
                seen.injected += 1;
                seen.last = Some(Instant::now());
            });
        };
        if rule.fault != Fault::Lost {
            // Before it: a sender that does not wait for the end takes this future with it.
            note();
            return self.fail(rule.fault, request, fate).await;
        }
        let outcome = self.fail(rule.fault, request, fate).await;
        // Who waits for it may rely on its effect.
        note();
        outcome
    }

    /// Takes the fault of this call out of the script.
    fn meets(&self, operation: Operation) -> Option<Rule> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in rules.iter_mut().filter(|rule| rule.operation == operation) {
            if rule.after > 0 {
                rule.after -= 1;
            } else if rule.times != Some(0) {
                rule.times = rule.times.map(|times| times - 1);
                return Some(*rule);
            }
        }
        None
    }

    async fn fail(
        &self,
        fault: Fault,
        request: Request<Incoming>,
        fate: &Fate,
    ) -> io::Result<Response<Full<Bytes>>> {
        let broken = |what: &str| Err(io::Error::new(io::ErrorKind::ConnectionReset, what.to_owned()));
        match fault {
            Fault::Answer(status, code) => {
                let head = request.method() == Method::HEAD;
                // Read to its end: else the answer would race against a broken pipe.
                request.into_body().collect().await.map_err(io::Error::other)?;
                error_answer(status, if head { None } else { Some(code) })
            }
            Fault::ErrorInside => {
                request.into_body().collect().await.map_err(io::Error::other)?;
                error_answer(200, Some("InternalError"))
            }
            Fault::UploadGone => {
                self.abort_upload(&request).await?;
                self.forward(request).await
            }
            Fault::Reset => {
                fate.break_off();
                broken("reset")
            }
            Fault::Lost => {
                self.forward(request).await?;
                fate.break_off();
                broken("lost")
            }
            Fault::Stall => {
                // The sender gives up long before the end.
                tokio::time::sleep(STALL).await;
                broken("stalled")
            }
            Fault::Drip => {
                fate.drip();
                let mut answer = self.forward(request).await?;
                // The next request must not drip as well.
                answer.headers_mut().insert(CONNECTION, hyper::header::HeaderValue::from_static("close"));
                Ok(answer)
            }
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        // Both are about one connection, and neither is signed.
        head.headers.remove(EXPECT);
        head.headers.remove(CONNECTION);
        let stream = TcpStream::connect(self.upstream).await?;
        let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.map_err(io::Error::other)?;
        let answer = async {
            let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await?;
            let (mut head, body) = answer.into_parts();
            let body = body.collect().await?.to_bytes();
            head.headers.remove(CONNECTION);
            Ok::<_, hyper::Error>(Response::from_parts(head, Full::new(body)))
        };
        tokio::pin!(connection);
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer.map_err(io::Error::other),
            ended = &mut connection => match ended {
                // The answer may have been its last words.
                Ok(()) => answer.await.map_err(io::Error::other),
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }

    async fn abort_upload(&self, request: &Request<Incoming>) -> io::Result<()> {
        let path = request.uri().path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let id = parameter(request.uri().query(), "uploadId").unwrap_or_default();
        let abort =
            self.client.abort_multipart_upload().bucket(bucket).key(decode(key)).upload_id(decode(id));
        abort.send().await.map_err(io::Error::other)?;
        Ok(())
    }
}

impl Operation {
    fn of(method: &Method, path: &str, query: Option<&str>) -> Self {
        let has = |name| parameter(query, name).is_some();
        let of_object = path.trim_matches('/').contains('/') && !path.ends_with("/aqueduct-check");
        if !of_object {
            return Self::Other;
        }
        match *method {
            Method::PUT if has("partNumber") => Self::Part,
            Method::PUT => Self::Put,
            Method::POST if has("uploads") => Self::Create,
            Method::POST if has("uploadId") => Self::Complete,
            Method::HEAD | Method::GET if !has("uploads") && !has("uploadId") => Self::Head,
            _ => Self::Other,
        }
    }
}

/// The value of a parameter; empty if it has none.
fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| {
        let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
        (known == name).then_some(value)
    })
}

/// Takes the percent-encoding off.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| first == b'%');
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn bump(counts: &mut [u64; 6], operation: Operation) {
    if let Some(count) = counts.get_mut(operation as usize) {
        *count += 1;
    }
}

/// An S3 error; without a body, as for every `HEAD`, if it has no code.
fn error_answer(status: u16, code: Option<&str>) -> io::Result<Response<Full<Bytes>>> {
    let body = code.map_or_else(String::new, |code| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <Error><Code>{code}</Code><Message>as scripted</Message><RequestId>PROXY</RequestId></Error>"
        )
    });
    let answer = Response::builder().status(status).header(CONTENT_TYPE, "application/xml");
    answer.body(Full::new(body.into())).map_err(io::Error::other)
}

/// Longer than the timeout of any attempt.
const STALL: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let of = |method, path, query| Operation::of(&method, path, query);
        for (method, path, query, expected) in [
            (Method::PUT, "/b/k/o", None, Operation::Put),
            (Method::PUT, "/b/k/o", Some("partNumber=3&uploadId=x%3D&x-id=UploadPart"), Operation::Part),
            (Method::POST, "/b/k/o", Some("uploads"), Operation::Create),
            (Method::POST, "/b/k/o", Some("uploadId=x"), Operation::Complete),
            (Method::HEAD, "/b/k/o", None, Operation::Head),
            (Method::GET, "/b/k/o", Some("x-id=GetObject"), Operation::Head),
            (Method::DELETE, "/b/k/o", Some("uploadId=x"), Operation::Other),
            (Method::GET, "/b", Some("uploads&prefix=k"), Operation::Other),
            (Method::GET, "/b/", Some("list-type=2"), Operation::Other),
            (Method::HEAD, "/b", None, Operation::Other),
            (Method::POST, "/b/topics/aqueduct-check", Some("uploads"), Operation::Other),
        ] {
            assert_eq!(of(method.clone(), path, query), expected, "{method} {path} {query:?}");
        }
    }

    #[test]
    fn keys_are_decoded() {
        assert_eq!(decode("a/hour%3D07/b%2B0%2B1.json"), "a/hour=07/b+0+1.json");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%41"), "%zzA");
    }

    /// Bodies of requests and answers, and who asked for what, through a server that answers with what it was sent.
    #[tokio::test]
    async fn a_script_is_played_once_and_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let arrived = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&arrived);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                let echo = service_fn(move |request: Request<Incoming>| {
                    *counted.lock().unwrap() += 1;
                    async move { Ok::<_, hyper::Error>(Response::new(request.into_body())) }
                });
                let serve = hyper::server::conn::http1::Builder::new();
                tokio::spawn(serve.serve_connection(TokioIo::new(stream), echo));
            }
        });
        let server = Endpoint { url, region: "r".into(), access_key: "a".into(), secret_key: "b".into() };
        let rules = vec![
            Rule { after: 1, ..Rule::first(1, Operation::Put, Fault::Answer(503, "SlowDown")) },
            Rule::first(1, Operation::Head, Fault::Reset),
            Rule { after: 1, then_hold: true, ..Rule::first(1, Operation::Put, Fault::Lost) },
        ];
        let proxy = Proxy::open(&server, rules).await.unwrap();
        let ask = async |method: Method| {
            let address = proxy.endpoint().url.strip_prefix("http://").unwrap();
            let stream = TcpStream::connect(address).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let request = Request::builder().method(method).uri("/b/k").header("host", "h");
            let answer = sender.send_request(request.body(Full::new(Bytes::from("body"))).unwrap()).await?;
            let status = answer.status().as_u16();
            Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
        };
        assert_eq!(ask(Method::PUT).await.unwrap(), (200, Bytes::from("body")));
        let (status, body) = ask(Method::PUT).await.unwrap();
        assert!(status == 503 && body.windows(8).any(|it| it == b"SlowDown"), "{body:?}");
        ask(Method::GET).await.unwrap_err();
        assert_eq!(*arrived.lock().unwrap(), 1, "what is refused or reset does not arrive");
        ask(Method::PUT).await.unwrap_err();
        assert_eq!(*arrived.lock().unwrap(), 2, "what is lost has arrived");
        let held = tokio::time::timeout(Duration::from_millis(50), ask(Method::PUT)).await;
        assert!(held.is_err(), "nothing passes any more");
        let seen = proxy.seen();
        assert_eq!((seen.injected, seen.requests(Operation::Put), seen.answered(Operation::Put)), (3, 4, 1));
    }
}
