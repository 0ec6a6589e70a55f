//! What all processes of a simulation share: one state behind one lock, changed at moments the seed decides.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::group::Group;
use crate::ledger::Ledger;
use crate::log::Log;
use crate::scenario::Scenario;
use crate::storage::{Files, Store};

/// The topic everybody reads.
pub(crate) const TOPIC: &str = "t";

/// Everything outside of the processes.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) rng: fastrand::Rng,
    /// No more faults.
    pub(crate) calm: bool,
    pub(crate) logs: BTreeMap<i32, Log>,
    pub(crate) group: Group,
    pub(crate) store: Store,
    pub(crate) disks: BTreeMap<usize, Files>,
    pub(crate) ledger: Ledger,
    /// How often each kind of fault was met.
    pub(crate) injected: BTreeMap<&'static str, u64>,
    pub(crate) trace: Trace,
    /// The wall clock's distance from the simulated one, in ms.
    pub(crate) skew_ms: i64,
}

/// What happened, as a hash and, if wanted, as lines.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) lines: Option<Vec<String>>,
    started: Instant,
}

impl Trace {
    /// Notes an event.
    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {what}", self.started.elapsed().as_secs_f64());
        // FNV-1a: the same on every machine and in every release of the compiler.
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.events += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }
}

impl World {
    pub(crate) fn new(scenario: Scenario, keep_lines: bool) -> Arc<Self> {
        let started = Instant::now();
        let trace =
            Trace { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: keep_lines.then(Vec::new), started };
        let logs = (0..scenario.partitions).map(|partition| (partition, Log::default())).collect();
        let state = State {
            rng: fastrand::Rng::with_seed(scenario.seed ^ 0x5eed),
            calm: false,
            logs,
            group: Group::new(scenario.cooperative),
            store: Store::default(),
            disks: BTreeMap::new(),
            ledger: Ledger::default(),
            injected: BTreeMap::new(),
            trace,
            skew_ms: 0,
        };
        Arc::new(Self { scenario, started, state: Mutex::new(state) })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl State {
    /// Whether a fault of `kind` happens now: `per_mille` of the time, and never when it is calm.
    pub(crate) fn strikes(&mut self, kind: &'static str, per_mille: u32) -> bool {
        let strikes = !self.calm && self.rng.u32(0..1000) < per_mille;
        if strikes {
            self.count(kind);
        }
        strikes
    }

    pub(crate) fn count(&mut self, kind: &'static str) {
        *self.injected.entry(kind).or_default() += 1;
    }

    /// Some milliseconds on the way; now and then many.
    pub(crate) fn latency(&mut self) -> Duration {
        let slow = !self.calm && self.rng.u32(0..100) < 4;
        Duration::from_millis(if slow { self.rng.u64(500..4_000) } else { self.rng.u64(0..40) })
    }
}
