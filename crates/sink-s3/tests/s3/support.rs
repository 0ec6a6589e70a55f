//! An S3 server that is not ours, on loopback, with faults in front of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const BUCKET: &str = "archive";
pub(crate) const ACCESS_KEY: &str = "AKIATESTTESTTEST";
pub(crate) const SECRET: &str = "canary-7f3c-secret";

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answered with a status and an S3 error code; no effect.
    Status(u16, &'static str),
    /// Answered with 200 and this body; no effect.
    Body(&'static str),
    /// The connection breaks; no effect.
    Reset,
    /// It has its effect, and the connection breaks.
    LoseAnswer,
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The server checks a condition, writes the object and then its metadata, one after the other; S3 does it in one
/// step. Requests that touch an object therefore pass one at a time.
type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Default)]
struct State {
    faults: VecDeque<(&'static str, Fault)>,
    seen: Vec<Seen>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    root: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let task = tokio::spawn({
            let (state, turn) = (Arc::clone(&state), Turn::default());
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket, service.clone(), Arc::clone(&state), Arc::clone(&turn)));
                }
            }
        });
        Self { address, root, state, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request whose line (`PUT /bucket/key?query`) contains `part` meets a fault; once.
    pub(crate) fn fault(&self, part: &'static str, fault: Fault) {
        self.state.lock().unwrap().faults.push_back((part, fault));
    }

    /// Whether every fault has been met.
    pub(crate) fn faults_are_used_up(&self) -> bool {
        self.state.lock().unwrap().faults.is_empty()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// The visible objects with their bytes, by key, in order.
    pub(crate) fn objects(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        let bucket = self.root.path().join(BUCKET);
        let mut directories: Vec<PathBuf> = vec![bucket.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let key = path.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned();
                    found.push((key, std::fs::read(&path).unwrap()));
                }
            }
        }
        found.sort();
        found
    }
}

async fn serve(socket: TcpStream, service: S3Service, state: Arc<Mutex<State>>, turn: Turn) {
    let faulty = service_fn(move |request: Request<Incoming>| {
        let (service, state, turn) = (service.clone(), Arc::clone(&state), Arc::clone(&turn));
        async move {
            let fault = note(&request, &state);
            let is_part = request.uri().query().is_some_and(|query| query.contains("partNumber"));
            let _turn = if is_part { None } else { Some(turn.lock().await) };
            match fault {
                None => service.call(request.map(s3s::Body::from)).await.map_err(std::io::Error::other),
                Some(Fault::Status(status, code)) => {
                    let body = format!("<Error><Code>{code}</Code><Message>as scripted</Message></Error>");
                    let body = s3s::Body::from(Bytes::from(body));
                    Ok(Response::builder().status(status).body(body).unwrap())
                }
                Some(Fault::Body(body)) => {
                    Ok(Response::new(s3s::Body::from(Bytes::from_static(body.as_bytes()))))
                }
                Some(Fault::Reset) => Err(std::io::Error::other("reset")),
                Some(Fault::LoseAnswer) => {
                    let answer =
                        service.call(request.map(s3s::Body::from)).await.map_err(std::io::Error::other)?;
                    // Completion answers before it is done; give it the time.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    drop(answer);
                    Err(std::io::Error::other("lost"))
                }
            }
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), faulty);
    // A broken connection is what some tests want.
    drop(connection.await);
}

fn note(request: &Request<Incoming>, state: &Mutex<State>) -> Option<Fault> {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
    let mut state = state.lock().unwrap();
    let position = state.faults.iter().position(|(part, _)| line.contains(part));
    state.seen.push(Seen { headers: headers.collect(), line });
    position.and_then(|position| state.faults.remove(position)).map(|(_, fault)| fault)
}
