//! Processes by their id: start one that outlives us, stop it, suspend it, and read what it has used.
//!
//! Everything goes through `/proc` and signals to one pid, never through a name. A pid alone is not an identity, because the
//! kernel hands it out again; [`Process`] therefore remembers when the process started and never signals another one.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// One process, told apart from a later one with the same pid by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pid: u32,
    /// Clock ticks between the boot of the machine and the start of the process.
    started_ticks: u64,
    /// Our child: somebody has to collect its exit status, or it stays as a zombie for as long as we live.
    #[serde(skip)]
    child: bool,
}

/// How a process came to its end in [`Process::stop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was gone before the call.
    Already,
    /// It followed SIGTERM.
    Asked,
    /// It did not follow SIGTERM in time and was killed.
    Killed,
}

/// What a process has used since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// User and system time of all its threads, finished ones included; the kernel counts in ticks of 10 ms.
    pub cpu: Duration,
    /// The largest resident set it ever had (`VmHWM`), in bytes; 0 once it has exited and only its status is left.
    pub peak_rss_bytes: u64,
}

impl Process {
    /// Starts `command` in a process group of its own, so that Ctrl-C in our terminal does not reach it, with its output
    /// appended to `log`. It keeps running when we exit.
    pub fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log);
        let out = out.with_context(|| format!("cannot open the log {}", log.display()))?;
        let program = command.get_program().to_os_string();
        let child = command
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .stdout(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut process = Self::find(child.id())
            .with_context(|| format!("{} ended before it could be looked at", program.display()))?;
        process.child = true;
        Ok(process)
    }

    /// The process that has `pid` now; none if there is no such process.
    ///
    /// Exit statuses of our own children found this way stay with whoever started them.
    pub fn find(pid: u32) -> Option<Self> {
        let stat = read_stat(pid)?;
        Some(Self { pid, started_ticks: stat.started_ticks, child: false })
    }

    /// This very process.
    pub fn current() -> Result<Self> {
        Self::find(std::process::id()).context("/proc has no entry for this process: is it mounted?")
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs, a suspended process included. A zombie does not run.
    pub fn is_alive(&self) -> bool {
        if let Some(pid) = self.rustix_pid().filter(|_| self.child) {
            // An error only says that the status has been collected before.
            rustix::process::waitpid(Some(pid), WaitOptions::NOHANG).ok();
        }
        read_stat(self.pid).is_some_and(|stat| stat.started_ticks == self.started_ticks && !stat.exited)
    }

    /// Sends SIGTERM, waits up to `grace`, then sends SIGKILL. A suspended process is woken, so that it can follow SIGTERM.
    pub async fn stop(&self, grace: Duration) -> Result<Stopped> {
        if !self.signal(Signal::TERM)? {
            return Ok(Stopped::Already);
        }
        self.signal(Signal::CONT)?;
        if self.wait(grace).await {
            return Ok(Stopped::Asked);
        }
        self.kill().await
    }

    /// Sends SIGKILL and waits until it is gone.
    pub async fn kill(&self) -> Result<Stopped> {
        if !self.signal(Signal::KILL)? {
            return Ok(Stopped::Already);
        }
        if self.wait(KILL_TIMEOUT).await { Ok(Stopped::Killed) } else { self.unkillable() }
    }

    /// As [`kill`](Self::kill), for a destructor.
    pub fn kill_blocking(&self) -> Result<Stopped> {
        if !self.signal(Signal::KILL)? {
            return Ok(Stopped::Already);
        }
        let deadline = Instant::now() + KILL_TIMEOUT;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return self.unkillable();
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(Stopped::Killed)
    }

    fn unkillable(&self) -> Result<Stopped> {
        bail!(
            "process {} does not go away after SIGKILL: it hangs in the kernel, see /proc/{0}/stack",
            self.pid
        )
    }

    /// Freezes it (SIGSTOP): its sockets stay open and nothing answers.
    pub fn suspend(&self) -> Result<bool> {
        self.signal(Signal::STOP)
    }

    /// Thaws it (SIGCONT).
    pub fn resume(&self) -> Result<bool> {
        self.signal(Signal::CONT)
    }

    /// Waits until it has ended; false if it still runs after `limit`.
    pub async fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        true
    }

    /// What it has used so far. Of a child that has exited, the CPU time can be read until its status is collected.
    pub fn usage(&self) -> Result<Usage> {
        let stat = read_stat(self.pid).filter(|stat| stat.started_ticks == self.started_ticks);
        let stat = stat.with_context(|| format!("process {} is gone", self.pid))?;
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.with_context(|| format!("process {} is gone", self.pid))?;
        let nanos_per_tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        Ok(Usage {
            cpu: Duration::from_nanos(stat.cpu_ticks.saturating_mul(nanos_per_tick)),
            peak_rss_bytes: parse_peak_rss(&status).unwrap_or(0),
        })
    }

    fn signal(&self, signal: Signal) -> Result<bool> {
        let Some(pid) = self.rustix_pid().filter(|_| self.is_alive()) else {
            return Ok(false);
        };
        match rustix::process::kill_process(pid, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    fn rustix_pid(&self) -> Option<Pid> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(20);
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    exited: bool,
    cpu_ticks: u64,
    started_ticks: u64,
}

/// Memory that a program could still get, in bytes; 0 if the kernel does not say.
pub fn available_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is the program's name in parentheses, and a name may hold spaces and parentheses: count from the last one.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        exited: matches!(*fields.first()?, "Z" | "X"),
        cpu_ticks: number(11)?.checked_add(number(12)?)?,
        started_ticks: number(19)?,
    })
}

fn parse_peak_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "4242 (a) R (b) S 1 4242 4242 0 -1 4194560 99 0 0 0 150 25 7 8 20 0 3 0 987654 1000 200 184467 1 1";
        assert_eq!(parse_stat(stat), Some(Stat { exited: false, cpu_ticks: 175, started_ticks: 987_654 }));
        assert!(parse_stat("1 (x) Z 1 4 4 0 -1 4 9 0 0 0 1 2 7 8 20 0 3 0 98").unwrap().exited);
        assert_eq!(parse_stat("1 (x) S 1 2"), None);
    }

    #[test]
    fn peak_memory_is_the_high_water_mark_in_bytes() {
        assert_eq!(
            parse_peak_rss("Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n"),
            Some(2_097_152)
        );
        assert_eq!(parse_peak_rss("Name:\tx\n"), None);
    }

    #[test]
    fn our_own_usage_is_readable() {
        let usage = Process::current().unwrap().usage().unwrap();
        assert!(usage.peak_rss_bytes > 100 * 1024, "{usage:?}");
    }

    #[tokio::test]
    async fn a_child_is_suspended_resumed_stopped_and_collected() {
        let dir = tempfile::tempdir().unwrap();
        let child = Process::spawn(Command::new("sleep").arg("60"), &dir.path().join("log")).unwrap();
        assert!(child.is_alive());
        assert!(child.suspend().unwrap());
        assert!(child.is_alive(), "a suspended process is alive");
        // Suspended on purpose: stopping must wake it, or SIGTERM would wait for a SIGCONT that never comes.
        assert_eq!(child.stop(Duration::from_secs(5)).await.unwrap(), Stopped::Asked);
        assert_eq!(child.stop(Duration::ZERO).await.unwrap(), Stopped::Already);
        assert!(!Path::new(&format!("/proc/{}", child.pid())).exists(), "a zombie is left");
    }

    #[tokio::test]
    async fn a_child_deaf_to_sigterm_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready");
        let script = format!("trap '' TERM; : > {}; while :; do sleep 0.05; done", ready.display());
        let child =
            Process::spawn(Command::new("sh").args(["-c", &script]), &dir.path().join("log")).unwrap();
        while !ready.exists() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        assert_eq!(child.stop(Duration::from_millis(200)).await.unwrap(), Stopped::Killed);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = Process::current().unwrap();
        let earlier = Process { started_ticks: me.started_ticks - 1, ..me };
        assert!(me.is_alive());
        assert!(!earlier.is_alive());
        assert!(!earlier.suspend().unwrap(), "it would have frozen this test");
    }
}
