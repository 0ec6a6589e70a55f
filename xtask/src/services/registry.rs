//! A real schema registry that is not ours (Apicurio Registry) on loopback, with Confluent's API.

use std::path::Path;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use super::daemon::{Daemon, free_ports};
use super::install::{Cache, create_dir};
use crate::process::{Process, Stopped};

/// A registry on `127.0.0.1`. Its port and schemas stay the same when it is stopped and started again. Killed when it is dropped.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    daemon: Daemon,
}

impl Registry {
    /// Starts a registry that keeps everything below `home`. Schemas of an earlier one found there are served again.
    pub async fn launch(cache: &Cache, home: &Path) -> Result<Self> {
        let cache = cache.clone();
        let program = spawn_blocking(move || cache.registry()).await??;
        create_dir(home)?;
        let [port] = free_ports()?;
        let data = home.join("schemas").display().to_string();
        let args = [
            "-Xmx256m",
            // It lives for minutes and has little to do: what counts is its start.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dquarkus.http.host=127.0.0.1",
            &format!("-Dquarkus.http.port={port}"),
            // What was answered is on disk, whatever ends the process.
            &format!("-Dapicurio.datasource.url=jdbc:h2:file:{data};WRITE_DELAY=0"),
            "-jar",
            &program.jar.display().to_string(),
        ];
        let daemon = Daemon::new(program.java.clone(), args, [], home.join("registry.log"));
        let mut registry = Self { port, daemon };
        registry.start().await?;
        Ok(registry)
    }

    /// Where Confluent's API is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port)
    }

    /// Starts it again on its port and schemas, and waits until it serves; no effect if it is up.
    pub async fn start(&mut self) -> Result<()> {
        let port = self.port;
        self.daemon.start(async || serves(port).await.unwrap_or(false)).await
    }

    /// Shuts it down; kills it if that takes longer than 15 s.
    pub async fn stop(&mut self) -> Result<Stopped> {
        self.daemon.stop().await
    }

    /// Kills it without a chance to shut down, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<Stopped> {
        self.daemon.kill().await
    }

    /// The process, to suspend it or to read its usage.
    pub fn process(&self) -> Result<Process> {
        self.daemon.running()
    }

    /// What it writes; the first place to look when something is wrong.
    pub fn log(&self) -> &Path {
        self.daemon.log()
    }
}

const API: &str = "/apis/ccompat/v7";

/// Whether it lists its subjects. It listens earlier than it can.
async fn serves(port: u16) -> Result<bool> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {API}/subjects HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut status = [0; 12];
    socket.read_exact(&mut status).await?;
    Ok(status.ends_with(b"200"))
}
