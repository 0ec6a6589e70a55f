//! An emulator of BigQuery that is not ours (`bqemulator`) on loopback.
//!
//! It keeps everything in memory: a stopped one is empty when it starts again. What it does not do as the service does is in
//! `xtask/src/integration/bigquery`, where it is used.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use super::daemon::{Daemon, free_ports};
use super::install::{Cache, create_dir};
use crate::process::{Process, Stopped};

/// Starts it with more threads. A call of its write interface holds one, and a call whose client is killed in the middle of an
/// append holds it for ever: gRPC's adapter for handlers that are not `async` waits for a request that cannot come any more. The
/// event loop's own pool has four threads and one for each core; when they are gone no append is answered, while all other calls
/// are. These are made when they are needed.
const LAUNCH: &str = r#"
import functools, runpy
from concurrent.futures import ThreadPoolExecutor
import grpc.aio
grpc.aio.server = functools.partial(grpc.aio.server, migration_thread_pool=ThreadPoolExecutor(1024))
runpy.run_module("bqemulator", run_name="__main__")
"#;

/// An emulator on `127.0.0.1`. Its ports stay the same when it is stopped and started again. Killed when it is dropped.
#[derive(Debug, Serialize, Deserialize)]
pub struct BigQuery {
    rest_port: u16,
    grpc_port: u16,
    python: PathBuf,
    daemon: Daemon,
}

impl BigQuery {
    /// Starts an emulator that writes its log below `home`.
    pub async fn launch(cache: &Cache, home: &Path) -> Result<Self> {
        let cache = cache.clone();
        let program = spawn_blocking(move || cache.bigquery()).await??;
        create_dir(home)?;
        let [rest_port, grpc_port] = free_ports()?;
        let (rest, grpc) = (rest_port.to_string(), grpc_port.to_string());
        // Isolated: nothing of the user's environment decides what is imported.
        let args = [
            "-I",
            "-c",
            LAUNCH,
            "start",
            "--rest-host",
            "127.0.0.1",
            "--rest-port",
            &rest,
            "--grpc-host",
            "127.0.0.1",
            "--grpc-port",
            &grpc,
            "--ephemeral",
            "--log-level",
            "warning",
        ];
        let env = [
            // DuckDB finds its extensions there, and writes nowhere else.
            ("HOME", program.home.to_string_lossy().into_owned()),
            // Nobody asks for an earlier state of a table, and each costs a copy of it.
            ("BQEMU_TIME_TRAVEL_RETENTION_DAYS", "0".to_owned()),
        ];
        let env = env.iter().map(|(name, value)| (*name, value.as_str()));
        let daemon = Daemon::new(program.python.clone(), args, env, home.join("bigquery.log"));
        let mut emulator = Self { rest_port, grpc_port, python: program.python, daemon };
        emulator.start().await?;
        Ok(emulator)
    }

    /// Where Google's clients send REST calls to: the URL without the version's path.
    pub fn api_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.rest_port)
    }

    /// The REST interface's base URL, as the sink takes it.
    pub fn rest_endpoint(&self) -> String {
        format!("{}/bigquery/v2", self.api_endpoint())
    }

    /// The Storage Write interface's URL.
    pub fn grpc_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc_port)
    }

    /// A Python that has Google's own client.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Starts it again on its ports, empty, and waits until it serves; no effect if it is up.
    pub async fn start(&mut self) -> Result<()> {
        let (rest, grpc) = (self.rest_port, self.grpc_port);
        self.daemon.start(async || serves(rest, grpc).await.unwrap_or(false)).await
    }

    /// Shuts it down; kills it if that takes longer than 15 s.
    pub async fn stop(&mut self) -> Result<Stopped> {
        self.daemon.stop().await
    }

    /// The process, to suspend it or to read its usage.
    pub fn process(&self) -> Result<Process> {
        self.daemon.running()
    }

    /// Whether the process runs.
    pub fn is_alive(&self) -> bool {
        self.daemon.is_alive()
    }

    /// What it writes; the first place to look when something is wrong.
    pub fn log(&self) -> &Path {
        self.daemon.log()
    }

    pub(super) fn detach(&mut self) {
        self.daemon.detach();
    }
}

/// Whether it says that it is well, and listens for gRPC, which it does a moment later.
async fn serves(rest: u16, grpc: u16) -> Result<bool> {
    let mut socket = TcpStream::connect(("127.0.0.1", rest)).await?;
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").await?;
    let mut status = [0; 12];
    socket.read_exact(&mut status).await?;
    TcpStream::connect(("127.0.0.1", grpc)).await?;
    Ok(status.ends_with(b"200"))
}
