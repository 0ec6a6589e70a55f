//! A sink and a source that are looked at whenever a lane asks something of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aqueduct_core::testkit::{MemoryDeadLetters, MemoryStore, ScriptedBroker};
use aqueduct_core::{
    Begun, DeadLetter, DeadLetterSink, Envelope, Fingerprint, Mark, Offset, OffsetRange, PipelinePlan,
    Poison, Published, Rejected, RoutePath, SegmentStart, SegmentWriter, Sink, SinkCapabilities, Source,
    SourceContext, SourceControl, SourceEvent, StageError, Staged, TopicPartition,
};
use async_trait::async_trait;

use super::steps::Kind;

/// What everybody shares, and what was found wrong.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) lane: TopicPartition,
    pub(super) broker: ScriptedBroker,
    pub(super) store: MemoryStore,
    pub(super) letters: MemoryDeadLetters,
    log: Arc<Mutex<Vec<Kind>>>,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let broker = ScriptedBroker::new();
        let lane = broker.create("orders", 1).remove(0);
        let (store, letters) = (MemoryStore::new(), MemoryDeadLetters::new());
        Self { lane, broker, store, letters, log: Arc::default(), wrong: Arc::default() }
    }

    pub(super) fn produced(&self, kind: Kind) {
        self.log.lock().unwrap().push(kind);
    }

    /// What stands at `offset`.
    pub(super) fn kind(&self, offset: Offset) -> Kind {
        let index = usize::try_from(offset.get()).unwrap();
        self.log.lock().unwrap()[index]
    }

    /// The offsets of a range at which something is that `which` takes.
    pub(super) fn offsets(&self, range: std::ops::Range<i64>, which: impl Fn(Kind) -> bool) -> Vec<i64> {
        range.filter(|offset| which(self.kind(Offset::new(*offset)))).collect()
    }

    pub(super) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.lock().unwrap().push(what());
        }
    }

    /// A lane asks for this mark to be committed: everything below it must be visible or a letter by now.
    fn before_commit(&self, mark: &Mark) {
        let visible: BTreeSet<_> = self.store.offsets(&self.lane).into_iter().collect();
        let letters: BTreeSet<_> = self.letters.offsets(&self.lane).into_iter().collect();
        let next = mark.next.get();
        for lost in self.offsets(0..next, Kind::is_row).iter().filter(|row| !visible.contains(row)) {
            self.check(false, || format!("{next} is to be committed, and {lost} is not visible"));
        }
        for lost in self.offsets(0..next, Kind::is_letter).iter().filter(|row| !letters.contains(row)) {
            self.check(false, || format!("{next} is to be committed, and {lost} is not among the letters"));
        }
        let Some(intent) = &mark.intent else { return };
        let range = intent.range.start().get()..intent.range.end().get();
        self.check(intent.range.start() == mark.next, || format!("an intent of {} at {next}", intent.range));
        let rows = self.offsets(range, Kind::is_staged).len() as u64;
        self.check(intent.rows == rows, || format!("{} of {rows} rows in {}", intent.rows, intent.range));
    }

    /// A lane sends letters: what they are of must have been pinned.
    fn before_send(&self, letters: &[DeadLetter]) {
        let offsets: Vec<_> = letters.iter().map(|letter| letter.record.offset).collect();
        let pinned = self.was_pinned(|range| offsets.iter().all(|offset| range.contains(*offset)));
        self.check(pinned, || format!("letters of {offsets:?} are sent, and were never pinned"));
    }

    /// A lane makes this range visible: its intent must have been committed, and its letters be durable.
    fn before_publish(&self, range: OffsetRange) {
        let pinned = self.was_pinned(|pin| pin == range);
        self.check(pinned, || format!("{range} is published, and was never pinned"));
        let letters: BTreeSet<_> = self.letters.offsets(&self.lane).into_iter().collect();
        let offsets = range.start().get()..range.end().get();
        for lost in
            self.offsets(offsets, Kind::is_letter_before_rows).iter().filter(|row| !letters.contains(row))
        {
            self.check(false, || format!("{range} is published, and {lost} is not among the letters"));
        }
    }

    fn was_pinned(&self, which: impl Fn(OffsetRange) -> bool) -> bool {
        let pins = |mark: &Mark| mark.intent.as_ref().is_some_and(|intent| which(intent.range));
        let commits = self.broker.commits(&self.lane);
        commits.iter().any(|commit| commit.mark().is_ok_and(|mark| pins(&mark)))
    }
}

#[derive(Debug)]
pub(super) struct WatchedLetters<L> {
    pub(super) inner: L,
    pub(super) watch: Watch,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<L: DeadLetterSink> DeadLetterSink for WatchedLetters<L> {
    async fn check(&self) -> Result<(), StageError> {
        self.inner.check().await
    }

    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StageError> {
        self.watch.before_send(&letters);
        self.inner.send(letters).await
    }
}

#[derive(Clone, Debug)]
pub(super) struct WatchedSink<S> {
    pub(super) inner: S,
    pub(super) watch: Watch,
}

struct WatchedWriter<T: Send + 'static> {
    inner: Box<dyn SegmentWriter<T>>,
    watch: Watch,
    range: Option<OffsetRange>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<T: Send + 'static, S: Sink<T>> Sink<T> for WatchedSink<S> {
    async fn check(&self) -> Result<(), StageError> {
        self.inner.check().await
    }

    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
        Ok(match self.inner.begin(at).await? {
            Begun::Fill(inner) => {
                Begun::Fill(Box::new(WatchedWriter { inner, watch: self.watch.clone(), range: None }))
            }
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

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<T: Send + 'static> SegmentWriter<T> for WatchedWriter<T> {
    async fn open_route(&mut self, path: &RoutePath) -> Result<(), StageError> {
        self.inner.open_route(path).await
    }

    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        self.inner.append(envelope)
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        self.inner.spill().await
    }

    async fn tick(&mut self) -> Result<(), StageError> {
        self.inner.tick().await
    }

    async fn stage(&mut self, range: OffsetRange) -> Result<Staged, StageError> {
        self.range = Some(range);
        self.inner.stage(range).await
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        if let Some(range) = self.range {
            self.watch.before_publish(range);
        }
        self.inner.publish().await
    }

    async fn abandon(&mut self) {
        self.inner.abandon().await;
    }

    fn encoded_bytes(&self) -> u64 {
        self.inner.encoded_bytes()
    }
}

#[derive(Debug)]
pub(super) struct WatchedSource<S> {
    pub(super) inner: S,
    pub(super) watch: Watch,
}

struct WatchedControl {
    inner: Arc<dyn SourceControl>,
    watch: Watch,
}

#[async_trait]
impl<S: Source> Source for WatchedSource<S> {
    async fn open(&mut self, context: SourceContext) -> Result<(), StageError> {
        self.inner.open(context).await
    }

    async fn next(&mut self) -> Result<SourceEvent, StageError> {
        self.inner.next().await
    }

    fn control(&self) -> Arc<dyn SourceControl> {
        Arc::new(WatchedControl { inner: self.inner.control(), watch: self.watch.clone() })
    }

    async fn close(&mut self) -> Result<(), StageError> {
        self.inner.close().await
    }
}

#[async_trait]
impl SourceControl for WatchedControl {
    fn pause(&self, lanes: &[TopicPartition]) {
        self.inner.pause(lanes);
    }

    fn resume(&self, lanes: &[TopicPartition]) {
        self.inner.resume(lanes);
    }

    async fn commit(&self, lane: &TopicPartition, mark: Mark) -> Result<(), StageError> {
        self.watch.before_commit(&mark);
        self.inner.commit(lane, mark).await
    }
}
