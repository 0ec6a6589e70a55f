//! A process as the world sees it: running, frozen or dead. Nothing it does has an effect unless it runs, and what it has
//! sent has its effect whatever became of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aqueduct_core::{Clock, StageError, from_unix_millis};
use tokio::sync::{Notify, oneshot};

use crate::world::{State, World};

/// How long a client waits for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Running,
    Frozen,
    Dead,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) world: Arc<World>,
    /// Its place, with a disk of its own.
    pub(crate) slot: usize,
    /// Tells the processes of a place apart.
    pub(crate) life: u64,
    mode: Mutex<Mode>,
    /// Not a `watch`: that wakes those who wait in an order it draws itself, this one in the order they came.
    changed: Notify,
}

/// What becomes of a request.
enum Fate {
    Served,
    Refused,
    AnswerLost,
    Late(Duration),
    Stalled,
}

impl Process {
    pub(crate) fn start(world: &Arc<World>, slot: usize, life: u64) -> Arc<Self> {
        let (mode, changed) = (Mutex::new(Mode::Running), Notify::new());
        Arc::new(Self { world: Arc::clone(world), slot, life, mode, changed })
    }

    pub(crate) fn set(&self, mode: Mode) {
        {
            let mut now = self.mode.lock().unwrap_or_else(PoisonError::into_inner);
            if *now == Mode::Dead || *now == mode {
                return;
            }
            *now = mode;
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn is(&self, mode: Mode) -> bool {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) == mode
    }

    async fn becomes(&self, mode: Mode) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            if self.is(mode) {
                return;
            }
            changed.await;
        }
    }

    /// Goes on when the process runs; never, when it is dead.
    pub(crate) async fn gate(&self) {
        if !self.is(Mode::Running) {
            self.becomes(Mode::Running).await;
        }
    }

    pub(crate) async fn died(&self) {
        self.becomes(Mode::Dead).await;
    }

    /// A request to somebody elsewhere, who does `effect`.
    pub(crate) async fn request<R: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        effect: impl FnOnce(&mut State) -> Result<R, StageError> + Send + 'static,
    ) -> Result<R, StageError> {
        self.gate().await;
        let (there, back, fate) = {
            let mut state = self.world.state();
            let (there, back) = (state.latency(), state.latency());
            let fate = if state.strikes("request faults", self.world.scenario.faults) {
                match state.rng.u8(0..8) {
                    0..3 => Fate::Refused,
                    3..6 => Fate::AnswerLost,
                    6 => Fate::Late(Duration::from_millis(state.rng.u64(100..60_000))),
                    _ => Fate::Stalled,
                }
            } else {
                Fate::Served
            };
            (there, back, fate)
        };
        let (answer, answered) = oneshot::channel();
        let late = if let Fate::Late(by) = fate { by } else { Duration::ZERO };
        if matches!(fate, Fate::Served | Fate::AnswerLost | Fate::Late(_)) {
            let process = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(there + late).await;
                let result = {
                    let mut state = process.world.state();
                    let result = effect(&mut state);
                    let (slot, life, good) = (process.slot, process.life, result.is_ok());
                    state.trace.note(format_args!("process {slot}.{life} {what} ok={good} late={late:?}"));
                    result
                };
                tokio::time::sleep(back).await;
                // Whoever asked may be gone.
                answer.send(result).ok();
            });
        }
        let result = match fate {
            Fate::Served => answered.await.unwrap_or_else(|_| Err(StageError::retry(what, "no answer"))),
            Fate::AnswerLost => {
                drop(answered.await);
                Err(StageError::retry(what, "the answer was lost"))
            }
            Fate::Refused => {
                tokio::time::sleep(there + back).await;
                Err(StageError::retry(what, "slow down"))
            }
            Fate::Late(by) => {
                tokio::time::sleep(by.min(REQUEST_TIMEOUT)).await;
                Err(StageError::retry(what, "timed out"))
            }
            Fate::Stalled => {
                tokio::time::sleep(REQUEST_TIMEOUT).await;
                Err(StageError::retry(what, "timed out"))
            }
        };
        self.gate().await;
        result
    }
}

/// The wall clock of all processes: the simulated time, and a distance from it that jumps.
#[derive(Debug)]
pub(crate) struct WallClock(pub(crate) Arc<World>);

/// When simulations begin: 2026-03-01T00:00:00Z.
pub(crate) const EPOCH_MS: i64 = 1_772_323_200_000;

impl Clock for WallClock {
    fn now(&self) -> SystemTime {
        let elapsed = i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX);
        from_unix_millis(EPOCH_MS + elapsed + self.0.state().skew_ms)
    }
}
