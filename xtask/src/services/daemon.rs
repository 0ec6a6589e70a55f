//! One server: the command line it is started with, so that it can be stopped and started again as it was.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::install::tail;
use crate::process::{Process, Stopped};

/// A server process and what is needed to start it again. A process that was started by this value is killed with it, unless
/// it has been [let go](Self::detach).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Daemon {
    program: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    log: PathBuf,
    process: Option<Process>,
    #[serde(skip)]
    owned: bool,
}

impl Daemon {
    /// A server that has not been started.
    pub(super) fn new<'a>(
        program: PathBuf,
        args: impl IntoIterator<Item = &'a str>,
        env: impl IntoIterator<Item = (&'a str, &'a str)>,
        log: PathBuf,
    ) -> Self {
        let args = args.into_iter().map(str::to_owned).collect();
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { program, args, env, log, process: None, owned: false }
    }

    /// Starts it and waits until `probe` says that it serves. One that is up already only has to serve.
    ///
    /// # Errors
    /// The end of the log, if the server exits or does not serve in time.
    pub(super) async fn start(&mut self, probe: impl AsyncFn() -> bool) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        if let Some(process) = self.process
            && self.wait(process, &probe, deadline).await?
        {
            return Ok(());
        }
        let mut command = Command::new(&self.program);
        let process = Process::spawn(command.args(&self.args).envs(&self.env), &self.log)?;
        self.process = Some(process);
        self.owned = true;
        match self.wait(process, &probe, deadline).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.process = None;
                Err(self.failure("exited after its start"))
            }
            Err(error) => {
                self.kill().await?;
                Err(error)
            }
        }
    }

    /// Waits until `process` serves: true, or has ended: false.
    async fn wait(
        &self,
        process: Process,
        probe: &impl AsyncFn() -> bool,
        deadline: Instant,
    ) -> Result<bool> {
        while process.is_alive() {
            if probe().await {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Err(self.failure("runs and does not serve"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(false)
    }

    fn failure(&self, what: &str) -> anyhow::Error {
        let log = fs::read(&self.log).unwrap_or_default();
        let (program, log) = (self.program.display(), tail(&String::from_utf8_lossy(&log)));
        anyhow!("{program} {what}; the end of {}:\n{log}", self.log.display())
    }

    pub(super) async fn stop(&mut self) -> Result<Stopped> {
        let Some(process) = self.process else {
            return Ok(Stopped::Already);
        };
        let stopped = process.stop(STOP_GRACE).await?;
        self.process = None;
        Ok(stopped)
    }

    /// Kills it and waits until it is gone: until then it holds its port and its data.
    pub(super) async fn kill(&mut self) -> Result<Stopped> {
        let Some(process) = self.process else {
            return Ok(Stopped::Already);
        };
        let stopped = process.kill().await?;
        self.process = None;
        Ok(stopped)
    }

    /// Lets it run when this value is gone.
    pub(super) fn detach(&mut self) {
        self.owned = false;
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn is_alive(&self) -> bool {
        self.process.is_some_and(|process| process.is_alive())
    }

    pub(super) fn running(&self) -> Result<Process> {
        self.process.filter(Process::is_alive).with_context(|| {
            format!("{} is not running; its log: {}", self.program.display(), self.log.display())
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(process) = self.process.filter(|_| self.owned)
            && let Err(error) = process.kill_blocking()
        {
            tracing::warn!(%error, "a server is left running");
        }
    }
}

const START_TIMEOUT: Duration = Duration::from_mins(1);
const STOP_GRACE: Duration = Duration::from_secs(15);

/// `N` ports of the loopback interface on which nobody listens.
///
/// They lie below the range from which the kernel takes ports for outgoing connections: a server that is stopped and started
/// again on its port must not find one of its own clients there.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let (first, below) = (10_000_u16, first_ephemeral_port());
    let count = u16::checked_sub(below, first).filter(|count| *count > 1_000);
    let count =
        count.context("no room between port 10000 and net.ipv4.ip_local_port_range: raise that range")?;
    let offset = rand::random_range(0..count);
    let mut ports = [0; N];
    let mut slots = ports.iter_mut();
    let mut slot = slots.next();
    for step in 0..count {
        let Some(port) = slot else { break };
        let candidate = first + u16::try_from((u32::from(offset) + u32::from(step)) % u32::from(count))?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)).is_ok() {
            *port = candidate;
            slot = slots.next();
        } else {
            slot = Some(port);
        }
    }
    if slot.is_some() {
        bail!("no {N} free ports on 127.0.0.1 between {first} and {below}");
    }
    Ok(ports)
}

fn first_ephemeral_port() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_ascii_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: PathBuf) -> Daemon {
        Daemon::new(PathBuf::from("sh"), ["-c", script], [], log)
    }

    #[test]
    fn ports_are_free_distinct_and_outside_the_ephemeral_range() {
        // Other tests take ports at the same time, perhaps one of these.
        let free = (0..10).find_map(|_| {
            let ports = free_ports::<8>().unwrap();
            let bound: Result<Vec<_>, _> =
                ports.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port))).collect();
            bound.ok().map(|held| (ports, held))
        });
        let (ports, held) = free.expect("ports that can be bound");
        let distinct: std::collections::BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!((distinct.len(), held.len()), (8, 8));
        assert!(ports.iter().all(|port| (10_000..first_ephemeral_port()).contains(port)), "{ports:?}");
    }

    #[tokio::test]
    async fn a_server_that_exits_shows_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = shell("echo 'port 9 is taken' >&2; exit 3", dir.path().join("log"));
        let error = daemon.start(async || false).await.unwrap_err().to_string();
        assert!(error.contains("sh exited") && error.contains("port 9 is taken"), "{error}");
        assert!(daemon.process.is_none());
    }

    #[tokio::test]
    async fn a_server_is_stopped_and_started_again_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut daemon = shell("echo up; exec sleep 60", log.clone());
        let up = |count: usize| {
            let log = log.clone();
            async move || fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == count)
        };
        daemon.start(up(1)).await.unwrap();
        let first = daemon.running().unwrap();
        daemon.start(async || true).await.unwrap();
        assert_eq!(daemon.running().unwrap(), first);
        assert_eq!(daemon.stop().await.unwrap(), Stopped::Asked);
        assert!(daemon.running().is_err());
        daemon.start(up(2)).await.unwrap();
        assert_ne!(daemon.running().unwrap(), first);
        daemon.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_server_dies_with_its_value_unless_it_was_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = shell("exec sleep 60", dir.path().join("kept"));
        let mut owned = shell("exec sleep 60", dir.path().join("owned"));
        kept.start(async || true).await.unwrap();
        owned.start(async || true).await.unwrap();
        let (kept_process, owned_process) = (kept.running().unwrap(), owned.running().unwrap());
        kept.detach();
        drop((kept, owned));
        assert!(!owned_process.is_alive());
        assert!(kept_process.is_alive());
        kept_process.stop(Duration::from_secs(5)).await.unwrap();
    }
}
