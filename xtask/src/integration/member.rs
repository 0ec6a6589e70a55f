//! A worker process, as a scenario sees and treats it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use xtask::process::Process;

use super::host::SmallDisk;
use crate::worker::{Event, Options, Redriven, Summary};

/// A worker. Killed when this value is dropped, frozen or not.
#[derive(Debug)]
pub(crate) struct Member {
    name: String,
    child: Child,
    process: Process,
    seen: watch::Receiver<Seen>,
    reader: JoinHandle<()>,
    log: PathBuf,
    started: Instant,
}

/// What a worker has said so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// It runs.
    started: bool,
    /// Its lanes now.
    pub(crate) lanes: BTreeSet<String>,
    /// Times it was given lanes.
    pub(crate) assignments: u64,
    /// Lanes with a pending intent now.
    pub(crate) pending: BTreeSet<String>,
    /// Times a cut was written down.
    pub(crate) cuts: u64,
    /// Segments it has published.
    pub(crate) published: u64,
    /// What it tries again now.
    pub(crate) retrying: Option<String>,
    /// What its lanes have waited for, and how often it has said so.
    pub(crate) waits: BTreeMap<String, u64>,
    /// Those segments.
    pub(crate) segments: Vec<Segment>,
    /// The offset behind the last one published, and when, for each lane.
    pub(crate) reached: BTreeMap<String, (i64, Instant)>,
    /// How often it has come to each failpoint, by name; known at its end.
    pub(crate) hits: BTreeMap<String, u64>,
    /// Its summary, when it has ended well.
    pub(crate) done: Option<Summary>,
    /// What it did with letters, when it has driven them again to their end.
    redriven: Option<Redriven>,
    /// Its error, when it has not.
    pub(crate) failed: Option<String>,
    /// Its output is closed.
    ended: bool,
}

/// A segment that is visible and committed.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) lane: String,
    /// Its first offset.
    pub(crate) start: i64,
    /// The offset behind its last.
    pub(crate) end: i64,
}

impl Member {
    /// Starts one. What it logs goes to a file of its `name` in `logs`. With a `disk`, its spool directory is on that.
    pub(crate) fn start(
        name: &str,
        options: &Options,
        disk: Option<&SmallDisk>,
        logs: &Path,
    ) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        fs::create_dir_all(&options.spool_dir)?;
        let program = std::env::current_exe().context("this program does not know its file")?;
        let started = Instant::now();
        let mut command = Command::new(&program);
        if let Some(disk) = disk {
            command = disk.command(&options.spool_dir);
            command.arg(&program);
        }
        let mut child = command
            .args(["worker", &serde_json::to_string(options)?])
            .env("RUST_LOG", WORKER_LOG)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(out)
            // Ctrl-C is for us: we end it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().context("a worker has no output")?;
        let process = child.id().and_then(Process::find);
        let process = process.with_context(|| format!("worker {name} ended at once"))?;
        let (sender, seen) = watch::channel(Seen::default());
        let reader = tokio::spawn(read(stdout, Arc::new(sender)));
        Ok(Self { name: name.to_owned(), child, process, seen, reader, log, started })
    }

    /// The directory as the worker sees it, if it has a disk of its own.
    pub(crate) fn sees(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.process.pid()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// How it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it has said so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// How often its log says `text`.
    pub(crate) fn says(&self, text: &str) -> Result<usize> {
        let log = fs::read_to_string(&self.log);
        let log = log.with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(log.matches(text).count())
    }

    /// How long ago it was started.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until what it has said satisfies `wanted`; `what` says what that is.
    ///
    /// # Errors
    /// If it takes longer than `limit`, or the worker ends before.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Seen) -> bool,
    ) -> Result<()> {
        let change = self.seen.wait_for(|seen| wanted(seen) || seen.ended);
        let outcome = match tokio::time::timeout(limit, change).await {
            Ok(Ok(seen)) if wanted(&seen) => return Ok(()),
            Ok(_) => "ended before",
            Err(_) => "is still waited for:",
        };
        Err(self.trouble(&format!("{outcome} {what} ({} s)", limit.as_secs())))
    }

    /// Waits until what it has said satisfies `wanted`, or it has ended.
    pub(crate) async fn changed(&mut self, wanted: impl Fn(&Seen) -> bool) {
        // An error only says that nothing more will come.
        self.seen.wait_for(|seen| wanted(seen) || seen.ended).await.ok();
    }

    /// Freezes it where it stands.
    pub(crate) fn freeze(&self) -> Result<()> {
        ensure!(self.process.suspend()?, self.trouble("is gone and cannot be frozen"));
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        ensure!(self.process.resume()?, self.trouble("is gone and cannot go on"));
        Ok(())
    }

    /// Kills it, as a machine that loses its power does.
    ///
    /// # Errors
    /// If it has ended before: then it is not this that it died of.
    pub(crate) async fn kill(mut self) -> Result<()> {
        ensure!(self.process.is_alive(), self.trouble("ended before it was killed"));
        self.process.kill().await?;
        self.child.wait().await?;
        Ok(())
    }

    /// Kills it, and answers with all that it has said.
    pub(crate) async fn kill_told(mut self) -> Result<Seen> {
        ensure!(self.process.is_alive(), self.trouble("ended before it was killed"));
        self.process.kill().await?;
        self.ended(STOP_LIMIT).await?;
        Ok(self.seen())
    }

    /// Kills it unless it has ended, and answers whether it was this that it died of.
    pub(crate) async fn kill_if_alive(&mut self) -> Result<bool> {
        self.process.kill().await?;
        let status = self.ended(STOP_LIMIT).await?;
        Ok(status.signal() == Some(Signal::KILL.as_raw()))
    }

    /// Waits until it has ended: `true` if it has aborted at a failpoint of that name, `false` if it has ended well.
    ///
    /// # Errors
    /// Any other end, or none in time.
    pub(crate) async fn aborted_at(&mut self, failpoint: &str, limit: Duration) -> Result<bool> {
        let status = self.ended(limit).await?;
        if status.success() {
            return Ok(false);
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let says_so = log.lines().any(|line| line.contains("aborting") && line.contains(failpoint));
        let aborted = status.signal() == Some(Signal::ABORT.as_raw());
        ensure!(
            aborted && says_so,
            self.trouble(&format!("was to abort at {failpoint}, and has ended ({status})"))
        );
        Ok(true)
    }

    /// Asks it to end by SIGTERM and waits until it has, however it does; no effect if it already has.
    pub(crate) async fn dismiss(&self) -> Result<()> {
        self.process.stop(STOP_LIMIT).await?;
        Ok(())
    }

    /// Whether it still runs, frozen or not.
    pub(crate) fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// Asks it to end by SIGTERM; it has to end well, with nothing pending.
    pub(crate) async fn terminate(mut self) -> Result<Summary> {
        self.ask().await?;
        self.finish(Duration::from_secs(5)).await
    }

    /// As [`terminate`](Self::terminate), and answers with all that it has said.
    pub(crate) async fn terminate_told(mut self) -> Result<Seen> {
        self.ask().await?;
        self.finish(Duration::from_secs(5)).await?;
        Ok(self.seen())
    }

    /// Asks it to end by SIGTERM, frozen or not; it has to end well. What it could not publish any more may be left pending.
    pub(crate) async fn terminate_in_trouble(mut self) -> Result<Summary> {
        self.ask().await?;
        self.end(Duration::from_secs(5)).await
    }

    /// Waits until it ends by itself; it has to end well, with nothing pending.
    pub(crate) async fn finish(&mut self, limit: Duration) -> Result<Summary> {
        let summary = self.end(limit).await?;
        let pending = summary.pending_intents;
        ensure!(pending == 0, self.trouble(&format!("left {pending} intents pending")));
        Ok(summary)
    }

    /// Waits until it has driven its letters again.
    ///
    /// # Errors
    /// What it failed with, or no end in time.
    pub(crate) async fn redriven(&mut self, limit: Duration) -> Result<Redriven> {
        let status = self.ended(limit).await?;
        let redriven = self.seen().redriven.filter(|_| status.success());
        redriven.ok_or_else(|| self.trouble(&format!("did not drive letters to their end ({status})")))
    }

    async fn ask(&self) -> Result<()> {
        ensure!(self.process.is_alive(), self.trouble("ended before it was asked to"));
        // Before that a signal is the end of a process, of this one as of any other.
        let mut seen = self.seen.clone();
        tokio::time::timeout(START_LIMIT, seen.wait_for(|seen| seen.started || seen.ended)).await.ok();
        self.process.stop(STOP_LIMIT).await?;
        Ok(())
    }

    async fn end(&mut self, limit: Duration) -> Result<Summary> {
        let status = self.ended(limit).await?;
        let done = self.seen().done.filter(|_| status.success());
        done.ok_or_else(|| self.trouble(&format!("did not end well ({status})")))
    }

    /// Waits until it fails by itself, and answers with what it says of it.
    pub(crate) async fn failure(&mut self, limit: Duration) -> Result<String> {
        let status = self.ended(limit).await?;
        match self.seen().failed {
            Some(message) if !status.success() => Ok(message),
            _ => bail!(self.trouble(&format!("was to fail, and has ended ({status})"))),
        }
    }

    async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let Ok(status) = tokio::time::timeout(limit, self.child.wait()).await else {
            bail!(self.trouble(&format!("still runs after {} s", limit.as_secs())));
        };
        // Its last lines may still be in the pipe.
        self.seen.wait_for(|seen| seen.ended).await?;
        Ok(status?)
    }

    fn trouble(&self, what: &str) -> anyhow::Error {
        let seen = self.seen();
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
        anyhow!(
            "worker {} {what}; lanes {:?}, pending {:?}, published {}, retrying {:?}, failed {:?}; the end of {}:\n{}",
            self.name,
            seen.lanes,
            seen.pending,
            seen.published,
            seen.retrying,
            seen.failed,
            self.log.display(),
            tail.join("\n")
        )
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(stdout: ChildStdout, sender: Arc<watch::Sender<Seen>>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(event) => sender.send_modify(|seen| seen.note(event)),
            Err(error) => tracing::warn!(%error, line, "a worker said something strange"),
        }
    }
    sender.send_modify(|seen| seen.ended = true);
}

impl Seen {
    fn note(&mut self, event: Event) {
        match event {
            Event::Started { .. } => self.started = true,
            Event::Assigned { lanes } => {
                self.assignments += u64::from(lanes.difference(&self.lanes).next().is_some());
                self.lanes = lanes;
            }
            Event::Pending { lanes } => {
                self.cuts += u64::from(lanes.difference(&self.pending).next().is_some());
                self.pending = lanes;
            }
            Event::Retrying { error } => self.retrying = error,
            Event::Waiting { reason } => *self.waits.entry(reason).or_default() += 1,
            Event::Published { lane, start, end, .. } => {
                self.published += 1;
                self.segments.push(Segment { lane: lane.clone(), start, end });
                self.reached.insert(lane, (end, Instant::now()));
            }
            Event::Failpoints { hits } => self.hits = hits,
            Event::Done(summary) => self.done = Some(summary),
            Event::Redriven(redriven) => self.redriven = Some(redriven),
            Event::Failed { message } => self.failed = Some(message),
        }
    }
}

const START_LIMIT: Duration = Duration::from_secs(5);
const STOP_LIMIT: Duration = Duration::from_secs(40);
const WORKER_LOG: &str = "info";

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn losing_lanes_is_no_assignment_and_getting_them_back_is() {
        let mut seen = Seen::default();
        for (names, assignments) in [(&["a", "b"][..], 1), (&["a"], 1), (&[], 1), (&["a"], 2), (&["b"], 3)] {
            seen.note(Event::Assigned { lanes: lanes(names) });
            assert_eq!((seen.lanes.len(), seen.assignments), (names.len(), assignments));
        }
    }
}
