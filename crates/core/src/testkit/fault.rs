//! Faults on a script: which call of which step fails, and how.
//!
//! Errors are the easy half. What makes duplicates and losses is the answer that never comes: the operation was done
//! and the caller does not know. [`Fault::FailAfterWrite`] is that case, [`Fault::Hold`] freezes a caller between two
//! steps (a stopped process, a dead network), so that a test can let the world move on and then thaw it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{Class, Classify, StageError};

/// What goes wrong with one call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing is done; the caller gets an error of this class.
    Reject(Class),
    /// Everything is done, and the caller gets an error of this class all the same: the lost response.
    FailAfterWrite(Class),
    /// Nothing happens until the gate opens; then the call goes on as if nothing had been.
    Hold(Gate),
    /// The call is done; its answer is held back until the gate opens.
    HoldAnswer(Gate),
    /// The call starts after a delay, by Tokio's clock.
    Slow(Duration),
}

/// The steps faults can be injected at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Step {
    /// [`Sink::check`](crate::Sink::check) or [`DeadLetterSink::check`](crate::DeadLetterSink::check).
    Check,
    /// [`Sink::begin`](crate::Sink::begin).
    Begin,
    /// [`SegmentWriter::open_route`](crate::SegmentWriter::open_route).
    OpenRoute,
    /// [`SegmentWriter::spill`](crate::SegmentWriter::spill).
    Spill,
    /// [`SegmentWriter::stage`](crate::SegmentWriter::stage).
    Stage,
    /// [`SegmentWriter::publish`](crate::SegmentWriter::publish).
    Publish,
    /// One object of a publication becoming visible in a [`MemoryStore`](super::MemoryStore).
    Create,
    /// [`SourceControl::commit`](crate::SourceControl::commit).
    Commit,
    /// [`DeadLetterSink::send`](crate::DeadLetterSink::send).
    Send,
}

impl Step {
    /// The step's name, as errors give it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Begin => "begin",
            Self::OpenRoute => "open_route",
            Self::Spill => "spill",
            Self::Stage => "stage",
            Self::Publish => "publish",
            Self::Create => "create",
            Self::Commit => "commit",
            Self::Send => "send",
        }
    }
}

/// The error of a call that failed on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("injected fault at {} ({})", .step.as_str(), if *.applied { "done, answer lost" } else { "not done" })]
pub struct InjectedFault {
    /// Where.
    pub step: Step,
    /// Whether the call was carried out before it failed.
    pub applied: bool,
    /// The class the script asked for.
    pub class: Class,
}

impl Classify for InjectedFault {
    fn class(&self) -> Class {
        self.class
    }
}

impl InjectedFault {
    fn error(step: Step, class: Class, applied: bool) -> StageError {
        StageError::new(step.as_str(), Self { step, applied, class })
    }
}

/// A script of faults. Clones share it, so a test can add to the script of a pipeline that runs.
///
/// Calls of each step are counted from 1, over everything that shares the script.
///
/// ```
/// use aqueduct_core::Class;
/// use aqueduct_core::testkit::{Fault, Faults, Step};
///
/// let faults = Faults::new();
/// faults.on(Step::Publish, 1, Fault::FailAfterWrite(Class::RETRY)); // the first publication loses its answer
/// faults.next(Step::Spill, Fault::Reject(Class::RETRY)); // whichever spill comes next fails
/// ```
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    calls: BTreeMap<Step, u64>,
    planned: BTreeMap<(Step, u64), Fault>,
    always: BTreeMap<Step, Fault>,
}

impl Faults {
    /// A script without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The `call`-th call of `step`, counted from 1, meets `fault`.
    pub fn on(&self, step: Step, call: u64, fault: Fault) -> &Self {
        self.change(|script| script.planned.insert((step, call), fault));
        self
    }

    /// The next call of `step` that has no fault yet meets `fault`.
    pub fn next(&self, step: Step, fault: Fault) -> &Self {
        self.change(|script| {
            let mut call = script.calls.get(&step).copied().unwrap_or(0) + 1;
            while script.planned.contains_key(&(step, call)) {
                call += 1;
            }
            script.planned.insert((step, call), fault)
        });
        self
    }

    /// Every call of `step` without a fault of its own meets `fault`, until [`clear`](Self::clear).
    pub fn always(&self, step: Step, fault: Fault) -> &Self {
        self.change(|script| script.always.insert(step, fault));
        self
    }

    /// No more faults at `step`.
    pub fn clear(&self, step: Step) -> &Self {
        self.change(|script| {
            script.planned.retain(|(planned, _), _| *planned != step);
            script.always.remove(&step)
        });
        self
    }

    /// How often `step` was called so far.
    pub fn calls(&self, step: Step) -> u64 {
        self.change(|script| script.calls.get(&step).copied().unwrap_or(0))
    }

    /// Counts a call of `step` and carries `call` out as the script says. For test doubles of your own.
    ///
    /// # Errors
    /// The call's own, or an [`InjectedFault`].
    pub async fn run<R>(
        &self,
        step: Step,
        call: impl Future<Output = Result<R, StageError>> + Send,
    ) -> Result<R, StageError> {
        match self.take(step) {
            None => call.await,
            Some(Fault::Reject(class)) => Err(InjectedFault::error(step, class, false)),
            Some(Fault::FailAfterWrite(class)) => {
                call.await?;
                Err(InjectedFault::error(step, class, true))
            }
            Some(Fault::Hold(gate)) => {
                gate.pass().await;
                call.await
            }
            Some(Fault::HoldAnswer(gate)) => {
                let answer = call.await;
                gate.pass().await;
                answer
            }
            Some(Fault::Slow(delay)) => {
                tokio::time::sleep(delay).await;
                call.await
            }
        }
    }

    fn take(&self, step: Step) -> Option<Fault> {
        self.change(|script| {
            let call = script.calls.entry(step).or_default();
            *call += 1;
            script.planned.remove(&(step, *call)).or_else(|| script.always.get(&step).cloned())
        })
    }

    fn change<R>(&self, change: impl FnOnce(&mut Script) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A door that stays shut until a test opens it, and tells the test who stands before it. Clones share the door.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Door>);

#[derive(Debug)]
struct Door {
    open: watch::Sender<bool>,
    arrived: watch::Sender<u64>,
}

impl Gate {
    /// A shut gate.
    pub fn new() -> Self {
        Self(Arc::new(Door { open: watch::Sender::new(false), arrived: watch::Sender::new(0) }))
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Resolves when somebody has come to the gate.
    pub async fn arrived(&self) {
        // The sender lives in the gate itself, so the channel cannot close while we wait.
        drop(self.0.arrived.subscribe().wait_for(|arrived| *arrived > 0).await);
    }

    /// Waits at the gate until it is open.
    pub async fn pass(&self) {
        self.0.arrived.send_modify(|arrived| *arrived += 1);
        drop(self.0.open.subscribe().wait_for(|open| *open).await);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn each_fault_does_or_does_not_carry_out_the_call() {
        let done = AtomicU32::new(0);
        let faults = Faults::new();
        faults.on(Step::Publish, 2, Fault::Reject(Class::Fatal));
        faults.on(Step::Publish, 3, Fault::FailAfterWrite(Class::RETRY));
        let mut seen = Vec::new();
        for _ in 0..4 {
            let call = async {
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            };
            let class = faults.run(Step::Publish, call).await.err().map(|error| error.class());
            seen.push((class, done.load(Ordering::Relaxed)));
        }
        assert_eq!(seen, [(None, 1), (Some(Class::Fatal), 1), (Some(Class::RETRY), 2), (None, 3)]);
        assert_eq!((faults.calls(Step::Publish), faults.calls(Step::Stage)), (4, 0));
    }

    #[tokio::test]
    async fn next_queues_behind_what_is_planned_and_clear_forgets() {
        let faults = Faults::new();
        let fails = async || faults.run(Step::Spill, async { Ok(()) }).await.is_err();
        faults.next(Step::Spill, Fault::Reject(Class::RETRY)).next(Step::Spill, Fault::Reject(Class::RETRY));
        assert!(fails().await && fails().await && !fails().await);
        faults.always(Step::Spill, Fault::Reject(Class::RETRY));
        assert!(fails().await && fails().await);
        faults.clear(Step::Spill);
        assert!(!fails().await);
    }

    #[tokio::test]
    async fn a_gate_holds_until_it_is_opened() {
        let gate = Gate::new();
        let faults = Faults::new();
        faults.on(Step::Commit, 1, Fault::Hold(gate.clone()));
        let held = tokio::spawn(async move { faults.run(Step::Commit, async { Ok(7) }).await });
        gate.arrived().await;
        assert!(!held.is_finished());
        gate.open();
        assert_eq!(held.await.unwrap().unwrap(), 7);
    }
}
