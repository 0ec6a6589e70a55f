//! Child processes of this same program.
//!
//! A child says one line (where it can be reached) and ends when it reads one, or when its standard input closes, so
//! it does not outlive its parent, however that one ends. It has a process group of its own: Ctrl-C in the terminal
//! reaches the parent alone, which then stops its children in order.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A running child.
#[derive(Debug)]
pub struct Child {
    role: &'static str,
    process: tokio::process::Child,
    /// Open for as long as the child shall live.
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts this program again in the given role (a hidden subcommand); `secrets` go through the environment, where
    /// no other user of the machine can read them.
    pub fn start(
        role: &'static str,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        secrets: &[(&str, &str)],
    ) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut process = Command::new(program)
            .arg(role)
            .args(args)
            .envs(secrets.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the {role} process"))?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().context("a child without standard output")?;
        Ok(Self { role, process, stdin, lines: BufReader::new(stdout).lines() })
    }

    /// The next line it says.
    pub async fn line(&mut self) -> Result<String> {
        match self.lines.next_line().await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => bail!("the {} process has ended, see its message above", self.role),
            Err(error) => Err(error).with_context(|| format!("cannot read from the {} process", self.role)),
        }
    }

    /// The line it says once it can be reached.
    pub async fn address(&mut self) -> Result<String> {
        let within = timeout(START_TIMEOUT, self.line()).await;
        within.with_context(|| format!("the {} process did not start within {START_TIMEOUT:?}", self.role))?
    }

    /// Asks it to end and waits; kills it if it takes longer than `patience`.
    pub async fn stop(&mut self, patience: Duration) {
        if let Some(mut stdin) = self.stdin.take() {
            // A child that is gone already cannot be told.
            stdin.write_all(b"end\n").await.ok();
        }
        if timeout(patience, self.process.wait()).await.is_err() {
            eprintln!("the {} process did not stop within {patience:?} and is killed", self.role);
            if let Err(error) = self.process.kill().await {
                eprintln!("the {} process cannot be killed: {error}", self.role);
            }
        }
    }
}

/// In a child: resolves when the parent asks it to end (`true`), or is gone (`false`).
pub async fn told_to_end() -> bool {
    let (tell, told) = oneshot::channel();
    // A plain thread: unlike tokio's, it does not keep the process from ending.
    std::thread::spawn(move || {
        let asked = std::io::stdin().read_line(&mut String::new()).is_ok_and(|bytes| bytes > 0);
        // Nobody waits any more if the child has ended by itself.
        tell.send(asked).ok();
    });
    told.await.unwrap_or(false)
}

/// Ctrl-C or SIGTERM.
pub async fn signalled() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.context("cannot listen for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}

/// The largest resident set this process has had, in bytes; none where the system does not say.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

const START_TIMEOUT: Duration = Duration::from_secs(20);
