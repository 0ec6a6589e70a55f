//! A sink that fails on a script.

use async_trait::async_trait;

use super::fault::{Faults, Step};
use crate::dead_letter::{DeadLetter, DeadLetterSink, Rejected};
use crate::error::{Poison, StageError};
use crate::fingerprint::Fingerprint;
use crate::partition::RoutePath;
use crate::record::OffsetRange;
use crate::sink::{
    Begun, Envelope, PipelinePlan, Published, SegmentStart, SegmentWriter, Sink, SinkCapabilities, Staged,
};

/// Wraps a [`Sink`] or a [`DeadLetterSink`] and makes its calls fail as [`Faults`] say; otherwise it is the inner one.
///
/// A fault at `begin`, `open_route`, `spill`, `stage`, `publish` and `send` applies to the whole call. To fail *between* the objects
/// of one publication, script [`MemoryStore::faults`](super::MemoryStore::faults).
///
/// ```
/// use aqueduct_core::Class;
/// use aqueduct_core::testkit::{Fault, Faults, Faulty, MemorySink, MemoryStore, Step};
/// use bytes::Bytes;
///
/// let faults = Faults::new();
/// faults.on(Step::Publish, 1, Fault::FailAfterWrite(Class::RETRY));
/// let sink = Faulty::new(MemorySink::<Bytes>::bytes(&MemoryStore::new()), &faults);
/// ```
#[derive(Clone, Debug)]
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S> Faulty<S> {
    /// `inner`, failing as `faults` say. The script is shared: add to it at any time.
    pub fn new(inner: S, faults: &Faults) -> Self {
        Self { inner, faults: faults.clone() }
    }

    /// The script.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What is wrapped.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<T: Send + 'static, S: Sink<T>> Sink<T> for Faulty<S> {
    async fn check(&self) -> Result<(), StageError> {
        self.faults.run(Step::Check, self.inner.check()).await
    }

    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
        Ok(match self.faults.run(Step::Begin, self.inner.begin(at)).await? {
            Begun::Fill(inner) => Begun::Fill(Box::new(FaultyWriter { inner, faults: self.faults.clone() })),
            published @ Begun::AlreadyPublished(_) => published,
        })
    }

    fn capabilities(&self) -> SinkCapabilities {
        self.inner.capabilities()
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        self.inner.fingerprint(parts);
    }

    fn plan_problems(&self, plan: &PipelinePlan) -> Vec<String> {
        self.inner.plan_problems(plan)
    }
}

struct FaultyWriter<T: Send + 'static> {
    inner: Box<dyn SegmentWriter<T>>,
    faults: Faults,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<T: Send + 'static> SegmentWriter<T> for FaultyWriter<T> {
    async fn open_route(&mut self, path: &RoutePath) -> Result<(), StageError> {
        self.faults.run(Step::OpenRoute, self.inner.open_route(path)).await
    }

    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        self.inner.append(envelope)
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        self.faults.run(Step::Spill, self.inner.spill()).await
    }

    async fn tick(&mut self) -> Result<(), StageError> {
        self.inner.tick().await
    }

    async fn stage(&mut self, range: OffsetRange) -> Result<Staged, StageError> {
        self.faults.run(Step::Stage, self.inner.stage(range)).await
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        self.faults.run(Step::Publish, self.inner.publish()).await
    }

    async fn abandon(&mut self) {
        self.inner.abandon().await;
    }

    fn encoded_bytes(&self) -> u64 {
        self.inner.encoded_bytes()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: DeadLetterSink> DeadLetterSink for Faulty<S> {
    async fn check(&self) -> Result<(), StageError> {
        self.faults.run(Step::Check, self.inner.check()).await
    }

    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StageError> {
        self.faults.run(Step::Send, self.inner.send(letters)).await
    }
}
