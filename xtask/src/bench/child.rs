//! Worker processes from the outside.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;
use xtask::process::Process;
use xtask::services::Endpoint;

use super::pages::Pages;
use super::worker::{Compression, Line, Measured, Until, Values};
use clap::ValueEnum;

/// How long a worker may say nothing.
const SILENCE: Duration = Duration::from_mins(5);

/// What a pipeline worker is told.
pub(super) struct Worker {
    pub(super) values: Values,
    pub(super) compression: Compression,
    pub(super) until: Until,
    pub(super) brokers: String,
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) endpoint: Endpoint,
    pub(super) bucket: String,
    pub(super) prefix: String,
    pub(super) spool_dir: PathBuf,
    /// If not the defaults.
    pub(super) tuning: Option<Tuning>,
    pub(super) follow: bool,
}

/// What an operator sets for what the data is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// Where segments end.
    pub(super) segment_mib: u64,
    /// What of a path arrives together, in one batch, lies together in the spool.
    pub(super) batch_mib: usize,
    /// Of batches, and of buffers to publish from.
    pub(super) memory_mib: u64,
    /// Whether headers are read.
    pub(super) headers: bool,
}

impl Worker {
    pub(super) fn command(&self) -> Result<std::process::Command> {
        let mut command = this_program("pipeline")?;
        command
            .args(["--values", &name(&self.values)])
            .args(["--compression", &name(&self.compression)])
            .args(["--until", &name(&self.until)])
            .args(["--brokers", &self.brokers])
            .args(["--topic", &self.topic])
            .args(["--group", &self.group])
            .arg("--spool-dir")
            .arg(&self.spool_dir);
        place(&mut command, &self.endpoint, &self.bucket, &self.prefix);
        if let Some(Tuning { segment_mib, batch_mib, memory_mib, headers }) = self.tuning {
            command
                .args(["--segment-mib", &segment_mib.to_string()])
                .args(["--batch-mib", &batch_mib.to_string()])
                .args(["--memory-mib", &memory_mib.to_string()]);
            if !headers {
                command.arg("--without-headers");
            }
        }
        if self.follow {
            command.arg("--follow");
        }
        Ok(command)
    }
}

/// Says where objects go.
pub(super) fn place(command: &mut std::process::Command, endpoint: &Endpoint, bucket: &str, prefix: &str) {
    command
        .args(["--endpoint", &endpoint.url])
        .args(["--region", &endpoint.region])
        .args(["--bucket", bucket])
        .args(["--prefix", prefix])
        .env("AWS_ACCESS_KEY_ID", &endpoint.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &endpoint.secret_key);
}

/// A value as the command line has it.
pub(super) fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// `bench worker KIND` of this very program.
pub(super) fn this_program(kind: &str) -> Result<std::process::Command> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = std::process::Command::new(program);
    command.args(["bench", "worker", kind]);
    Ok(command)
}

/// A running worker; dropping it kills it.
pub(super) struct Child {
    process: tokio::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
    pages: Option<Pages>,
}

impl Child {
    /// Starts it when everything that was written before, to topics and by other workers, is on its disk: or it would wait, and
    /// write, for them.
    pub(super) fn spawn(command: &std::process::Command) -> Result<Self> {
        rustix::fs::sync();
        let mut again = Command::new(command.get_program());
        again.args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                again.env(name, value);
            }
        }
        let mut process = again
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a worker")?;
        let stdout = process.stdout.take().context("a worker without an output")?;
        Ok(Self { process, lines: BufReader::new(stdout).lines(), pages: None })
    }

    /// Lets these pages go while it runs.
    pub(super) fn with_pages(mut self, pages: Pages) -> Self {
        self.pages = Some(pages);
        self
    }

    /// Waits for the end.
    pub(super) async fn done(mut self) -> Result<Measured> {
        loop {
            if let Line::Done(measured) = self.next().await? {
                let status = self.process.wait().await?;
                if !status.success() {
                    bail!("a worker ended with {status}");
                }
                return Ok(measured);
            }
        }
    }

    /// Waits until so many records are read, and says how many are.
    pub(super) async fn until_read(&mut self, records: u64) -> Result<u64> {
        loop {
            match self.next().await? {
                Line::Progress { read, .. } if read >= records => return Ok(read),
                Line::Progress { .. } | Line::Serving { .. } => {}
                Line::Done(_) => bail!("a worker ended early"),
            }
        }
    }

    /// Asks it to end and says how long that took.
    pub(super) async fn terminate(mut self) -> Result<Duration> {
        let asked = Instant::now();
        let pid = self.process.id().context("a worker that has ended")?;
        let process = Process::find(pid).context("a worker that has ended")?;
        process.stop(Duration::from_mins(1)).await?;
        let took = asked.elapsed();
        let status = self.process.wait().await?;
        if !status.success() {
            bail!("a worker ended with {status}");
        }
        Ok(took)
    }

    /// Asks it to end.
    pub(super) fn ask(&self) -> Result<()> {
        let pid = self.process.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        kill_process(pid.context("a worker that has ended")?, Signal::TERM)
            .context("cannot ask a worker to end")
    }

    /// Kills it where it stands.
    pub(super) async fn kill(mut self) -> Result<()> {
        self.process.kill().await.context("cannot kill a worker")
    }

    /// What it says next.
    pub(super) async fn next(&mut self) -> Result<Line> {
        let line = timeout(SILENCE, self.lines.next_line()).await.context("a worker is silent")??;
        let Some(line) = line else {
            let status = self.process.wait().await?;
            bail!("a worker ended without a result: {status}");
        };
        let line = serde_json::from_str(&line).with_context(|| format!("a worker said {line:?}"))?;
        if let (Line::Progress { read, .. }, Some(pages)) = (&line, &mut self.pages) {
            pages.follow(*read);
        }
        Ok(line)
    }
}
