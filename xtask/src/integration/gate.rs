//! A proxy before the S3 server, one for each worker, whose uploads can be delayed and held.
//!
//! Requests pass byte for byte: what is signed for the gate's address is valid behind it. A held request has left the worker
//! and not reached the server; it is forwarded when the gate opens, also if its sender is frozen or dead by then, as a network
//! may do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use xtask::services::Endpoint;

/// The proxy; it ends with this value.
#[derive(Debug)]
pub(crate) struct Gate {
    endpoint: Endpoint,
    state: Arc<watch::Sender<State>>,
    _tasks: JoinSet<()>,
}

/// What the gate lets pass, and what it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// How many more uploads may pass; all, if none is given.
    left: Option<u64>,
    /// The partition whose uploads wait, whatever else may pass.
    shut: Option<u32>,
    /// How long each one is delayed.
    delay: Duration,
    /// Uploads that wait.
    pub(crate) held: u64,
    /// Uploads that were forwarded.
    pub(crate) passed: u64,
    /// Answers to uploads that were forwarded.
    pub(crate) answered: u64,
}

impl Gate {
    /// Opens one before `server`.
    pub(crate) async fn open(server: &Endpoint) -> Result<Self> {
        let upstream: SocketAddr = server
            .url
            .strip_prefix("http://")
            .and_then(|address| address.parse().ok())
            .with_context(|| format!("{} is no http://ip:port", server.url))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = Endpoint { url: format!("http://{}", listener.local_addr()?), ..server.clone() };
        let state = Arc::new(watch::Sender::new(State::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, upstream, Arc::clone(&state)));
        Ok(Self { endpoint, state, _tasks: tasks })
    }

    /// What a worker is given in place of the server.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Delays every upload, so that publishing takes its time.
    pub(crate) fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Lets `uploads` more pass and holds all others.
    pub(crate) fn hold_after(&self, uploads: u64) {
        self.state.send_modify(|state| state.left = Some(uploads));
    }

    /// Holds the uploads of one partition.
    pub(crate) fn shut(&self, partition: u32) {
        self.state.send_modify(|state| state.shut = Some(partition));
    }

    /// Lets everything pass, and first what was held.
    pub(crate) fn release(&self) {
        self.state.send_modify(|state| (state.left, state.shut) = (None, None));
    }

    /// What it has seen.
    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, state: Arc<watch::Sender<State>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(connection(client, upstream, Arc::clone(&state)));
                }
                Err(error) => tracing::warn!(%error, "the gate cannot take a connection"),
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Serves one connection. Whatever breaks on one side breaks the other: a server that is down refuses, as without the gate.
async fn connection(client: TcpStream, upstream: SocketAddr, state: Arc<watch::Sender<State>>) {
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let turn = Arc::new(watch::Sender::new(Turn::Request));
    let up = forward_requests(from_client, to_server, Arc::clone(&state), Arc::clone(&turn));
    let down = forward_answers(from_server, to_client, &state, &turn);
    tokio::select! {
        // Sent to its end: what was held goes out although nobody waits for the answer.
        outcome = up => drop(outcome),
        outcome = down => drop(outcome),
    }
}

/// Whose bytes come next. Clients do not pipeline: the first bytes after an answer, or of a connection, begin a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// A request begins.
    Request,
    /// An upload goes on, or is answered.
    Upload,
    /// Another request goes on, or is answered.
    Other,
}

async fn forward_requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    state: Arc<watch::Sender<State>>,
    turn: Arc<watch::Sender<Turn>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = client.read(&mut buffer).await?;
        let chunk = buffer.get(..read).unwrap_or_default();
        if chunk.is_empty() {
            server.shutdown().await?;
            // The answer may still be on its way.
            std::future::pending::<()>().await;
        }
        if *turn.borrow() == Turn::Request {
            let uploads = chunk.starts_with(b"PUT ") || chunk.starts_with(b"POST ");
            turn.send_replace(if uploads { Turn::Upload } else { Turn::Other });
            if uploads {
                admit(&state, partition_of(chunk)).await;
            }
        }
        server.write_all(chunk).await?;
    }
}

async fn forward_answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    state: &watch::Sender<State>,
    turn: &watch::Sender<Turn>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = server.read(&mut buffer).await?;
        let chunk = buffer.get(..read).unwrap_or_default();
        if chunk.is_empty() {
            return Ok(());
        }
        if turn.send_replace(Turn::Request) == Turn::Upload {
            state.send_modify(|state| state.answered += 1);
        }
        client.write_all(chunk).await?;
    }
}

/// The partition in the key of a request, which ends in `{topic}+{partition}+{offset}{extension}` with or without escapes.
fn partition_of(request: &[u8]) -> Option<u32> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let line = String::from_utf8_lossy(line).replace("%2B", "+");
    line.rsplit('/').find_map(|level| level.split('+').nth(1)?.parse().ok())
}

/// Waits until one more upload, of this partition, may pass.
async fn admit(state: &watch::Sender<State>, partition: Option<u32>) {
    let mut changes = state.subscribe();
    state.send_modify(|state| state.held += 1);
    let admitted = || {
        let mut admitted = false;
        state.send_if_modified(|state| {
            // Before it begins, a worker tries out what its credentials allow: that is no upload of a segment.
            let counts = partition.is_some();
            admitted = !counts || (state.left != Some(0) && state.shut != partition);
            if admitted {
                state.left = state.left.map(|left| left - u64::from(counts));
                state.held -= 1;
                state.passed += 1;
            }
            admitted
        });
        admitted
    };
    while !admitted() {
        if changes.changed().await.is_err() {
            return;
        }
    }
    let delay = state.borrow().delay;
    tokio::time::sleep(delay).await;
}

const CHUNK: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every request line with `ok\n`, and shows what has reached it.
    async fn server() -> (Endpoint, Arc<watch::Sender<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(watch::Sender::new(Vec::new()));
        let shown = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok(read @ 1..) = client.read(&mut buffer).await {
                        let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                        seen.send_modify(|seen| seen.push(text));
                        client.write_all(b"ok\n").await.ok();
                    }
                });
            }
        });
        let endpoint =
            Endpoint { url, region: String::new(), access_key: String::new(), secret_key: String::new() };
        (endpoint, shown)
    }

    async fn connect(gate: &Gate) -> TcpStream {
        TcpStream::connect(gate.endpoint().url.strip_prefix("http://").unwrap()).await.unwrap()
    }

    async fn ask(stream: &mut TcpStream, request: &[u8]) {
        stream.write_all(request).await.unwrap();
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ok\n");
    }

    #[tokio::test]
    async fn uploads_are_held_and_others_pass() {
        let (endpoint, seen) = server().await;
        let gate = Gate::open(&endpoint).await.unwrap();
        gate.hold_after(1);
        let (mut first, mut second) = (connect(&gate).await, connect(&gate).await);
        ask(&mut first, b"PUT /b/t+0+1").await;
        ask(&mut first, b"HEAD a").await;
        second.write_all(b"PUT /b/t+0+2").await.unwrap();
        while gate.state().held == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((gate.state().passed, gate.state().answered), (1, 1));
        assert_eq!(*seen.borrow(), ["PUT /b/t+0+1", "HEAD a"]);
        // Its sender is gone, and the upload still arrives.
        drop(second);
        gate.release();
        let mut changes = seen.subscribe();
        changes.wait_for(|seen| seen.len() == 3).await.unwrap();
        assert_eq!(seen.borrow().last().unwrap(), "PUT /b/t+0+2");
        assert_eq!((gate.state().passed, gate.state().held), (2, 0));
    }

    #[tokio::test]
    async fn one_partition_is_held_and_others_pass() {
        let (endpoint, seen) = server().await;
        let gate = Gate::open(&endpoint).await.unwrap();
        gate.shut(1);
        let (mut first, mut second) = (connect(&gate).await, connect(&gate).await);
        first.write_all(b"PUT /b/t/h=1/t%2B1%2B0000000007.json HTTP/1.1\r\n").await.unwrap();
        while gate.state().held == 0 {
            tokio::task::yield_now().await;
        }
        ask(&mut second, b"PUT /b/t/h=1/t+0+0000000001.json HTTP/1.1\r\n").await;
        assert_eq!((gate.state().passed, gate.state().held), (1, 1));
        gate.release();
        let mut changes = seen.subscribe();
        changes.wait_for(|seen| seen.len() == 2).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_is_down_is_down_behind_the_gate() {
        let (mut endpoint, _) = server().await;
        endpoint.url = "http://127.0.0.1:1".to_owned();
        let gate = Gate::open(&endpoint).await.unwrap();
        let mut client = connect(&gate).await;
        client.write_all(b"PUT a").await.ok();
        assert!(!matches!(client.read(&mut [0; 8]).await, Ok(1..)));
    }
}
