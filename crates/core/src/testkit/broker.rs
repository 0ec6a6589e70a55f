//! A message log and its one consumer group, in memory.
//!
//! The group is a coordinator as Kafka's is where it matters to a pipeline: it keeps a committed offset and a metadata
//! *text* per partition, takes a commit only from the member that owns the partition at that moment, and hands a
//! partition over only when a test says so. Like Kafka's it does not fence reads: a member that was silently replaced
//! goes on reading, and only its commits are refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::fault::{Fault, Faults, Step};
use super::member::{Member, MemberId};
use super::source::ScriptedSource;
use crate::error::StageError;
use crate::intent::{Mark, MarkError};
use crate::record::{Offset, OwnedRecord, Timestamp, TopicPartition};

/// Partitions with records and marks, shared by the sources of a test. Clones share everything.
///
/// ```
/// use aqueduct_core::TopicPartition;
/// use aqueduct_core::testkit::{ScriptedBroker, ScriptedRecord};
///
/// let broker = ScriptedBroker::new();
/// let lane = TopicPartition::new("orders", 0);
/// broker.append(&lane, r#"{"status":200}"#);
/// broker.skip(&lane, 2); // offsets 1 and 2 hold no record
/// let offset = broker.append(&lane, ScriptedRecord::new("{}").key("k").header("trace", "abc"));
/// assert_eq!(offset.get(), 3);
/// let source = broker.source().until_end();
/// ```
#[derive(Clone, Debug, Default)]
pub struct ScriptedBroker {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told after every change of the state.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) logs: BTreeMap<TopicPartition, Log>,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) members_ever: u64,
    pub(super) assignments_ever: u64,
}

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Ascending by offset.
    pub(super) records: Vec<OwnedRecord>,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) owner: Option<MemberId>,
    pub(super) commits: Vec<Committed>,
    pub(super) faults: Faults,
}

/// One accepted commit, as the coordinator stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    /// The text beside it.
    pub metadata: String,
}

impl Committed {
    /// The mark it spells.
    ///
    /// # Errors
    /// [`MarkError`] if it was not written by a pipeline of ours.
    pub fn mark(&self) -> Result<Mark, MarkError> {
        Mark::decode(self.offset, &self.metadata)
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells everybody who waits for it.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let answer = change(&mut self.lock());
        self.changed.notify_waiters();
        answer
    }
}

impl ScriptedBroker {
    /// The longest metadata text a commit may carry, in characters: Kafka's default.
    pub const METADATA_MAX: usize = 4096;

    /// No partitions yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A source that is a new member of the group. See [`ScriptedSource`].
    pub fn source(&self) -> ScriptedSource {
        ScriptedSource::join(self)
    }

    /// Makes partitions `0..partitions` of `topic`, those that are not there yet, without records.
    pub fn create(&self, topic: &str, partitions: i32) -> Vec<TopicPartition> {
        let lanes: Vec<_> = (0..partitions).map(|partition| TopicPartition::new(topic, partition)).collect();
        self.shared.change(|state| {
            for lane in &lanes {
                state.logs.entry(lane.clone()).or_default();
            }
        });
        lanes
    }

    /// Appends a record at the end of `lane`, which is made if it is not there, and says at which offset.
    pub fn append(&self, lane: &TopicPartition, record: impl Into<ScriptedRecord>) -> Offset {
        let record = record.into();
        self.shared.change(|state| {
            let log = state.logs.entry(lane.clone()).or_default();
            let offset = Offset::new(log.end);
            log.end += 1;
            log.records.push(OwnedRecord {
                lane: lane.clone(),
                offset,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: record.headers,
            });
            offset
        })
    }

    /// Appends several records.
    pub fn extend<R: Into<ScriptedRecord>>(
        &self,
        lane: &TopicPartition,
        records: impl IntoIterator<Item = R>,
    ) {
        for record in records {
            self.append(lane, record);
        }
    }

    /// Uses up `offsets` offsets without a record, as transaction markers and aborted records do.
    pub fn skip(&self, lane: &TopicPartition, offsets: u32) {
        self.shared.change(|state| state.logs.entry(lane.clone()).or_default().end += i64::from(offsets));
    }

    /// Removes the record at `offset`, as compaction does. Its offset stays used.
    pub fn compact(&self, lane: &TopicPartition, offset: Offset) {
        self.shared.change(|state| {
            if let Some(log) = state.logs.get_mut(lane) {
                log.records.retain(|record| record.offset != offset);
            }
        });
    }

    /// Removes everything below `offset`, as retention does.
    pub fn retain_from(&self, lane: &TopicPartition, offset: Offset) {
        self.shared.change(|state| {
            if let Some(log) = state.logs.get_mut(lane) {
                log.start = log.start.max(offset.get()).min(log.end);
                log.records.retain(|record| record.offset.get() >= log.start);
            }
        });
    }

    /// Sets the committed offset of `lane` from outside the group: an operator's reset, another tool, or (with a text
    /// of ours, see [`Mark::encode`]) a predecessor of the pipeline under test.
    pub fn commit_from_outside(&self, lane: &TopicPartition, offset: Offset, metadata: impl Into<String>) {
        let committed = Committed { offset, metadata: metadata.into() };
        self.shared.change(|state| {
            let log = state.logs.entry(lane.clone()).or_default();
            log.commits.push(committed);
        });
    }

    /// The `commit`-th commit of `lane` (counted from 1, over all members) meets `fault`.
    pub fn on_commit(&self, lane: &TopicPartition, commit: u64, fault: Fault) {
        self.shared.change(|state| {
            state.logs.entry(lane.clone()).or_default().faults.on(Step::Commit, commit, fault);
        });
    }

    /// The next commit of `lane` that has no fault yet meets `fault`.
    pub fn on_next_commit(&self, lane: &TopicPartition, fault: Fault) {
        self.shared.change(|state| {
            state.logs.entry(lane.clone()).or_default().faults.next(Step::Commit, fault);
        });
    }

    /// What is committed for `lane`.
    pub fn committed(&self, lane: &TopicPartition) -> Option<Committed> {
        self.shared.lock().logs.get(lane)?.commits.last().cloned()
    }

    /// The mark of `lane`; `None` if nothing was committed, or not by us.
    pub fn mark(&self, lane: &TopicPartition) -> Option<Mark> {
        self.committed(lane)?.mark().ok()
    }

    /// Every commit of `lane` that was accepted, oldest first.
    pub fn commits(&self, lane: &TopicPartition) -> Vec<Committed> {
        self.shared.lock().logs.get(lane).map(|log| log.commits.clone()).unwrap_or_default()
    }

    /// The partitions there are.
    pub fn lanes(&self) -> Vec<TopicPartition> {
        self.shared.lock().logs.keys().cloned().collect()
    }

    /// The records `lane` still holds.
    pub fn records(&self, lane: &TopicPartition) -> Vec<OwnedRecord> {
        self.shared.lock().logs.get(lane).map(|log| log.records.clone()).unwrap_or_default()
    }

    /// The offset the next record of `lane` will get.
    pub fn end(&self, lane: &TopicPartition) -> Offset {
        Offset::new(self.shared.lock().logs.get(lane).map_or(0, |log| log.end))
    }

    /// Resolves when a plain mark (without an intent) at or above `offset` is committed for `lane`: everything below
    /// it is published.
    pub async fn wait_durable(&self, lane: &TopicPartition, offset: Offset) {
        self.wait_for(lane, |mark| mark.next >= offset).await;
    }

    /// Resolves when `lane` has an intent, and gives the mark that carries it.
    pub async fn wait_intent(&self, lane: &TopicPartition) -> Mark {
        self.wait_for(lane, |mark| mark.intent.is_some()).await
    }

    async fn wait_for(&self, lane: &TopicPartition, reached: impl Fn(&Mark) -> bool) -> Mark {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            if let Some(mark) = self.mark(lane).filter(|mark| reached(mark)) {
                return mark;
            }
            changed.await;
        }
    }
}

/// A record to append.
#[derive(Clone, Default)]
pub struct ScriptedRecord {
    timestamp: Timestamp,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
}

impl ScriptedRecord {
    /// A record with this value and nothing else.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record without a value.
    pub fn tombstone() -> Self {
        Self::default()
    }

    /// Gives it a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Gives it a timestamp set by its producer, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn at_millis(self, ms: i64) -> Self {
        self.timestamp(Timestamp::Create(ms))
    }

    /// Gives it a timestamp.
    #[must_use]
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = timestamp;
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }
}

impl<V: Into<Bytes>> From<V> for ScriptedRecord {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

impl std::fmt::Debug for ScriptedRecord {
    /// Never prints a payload.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedRecord")
            .field("timestamp", &self.timestamp)
            .field("value_len", &self.value.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

impl Log {
    /// The first record at or above `position`.
    pub(super) fn from(&self, position: i64) -> &[OwnedRecord] {
        let first = self.records.partition_point(|record| record.offset.get() < position);
        self.records.get(first..).unwrap_or_default()
    }

    /// Stores a commit.
    pub(super) fn commit(&mut self, mark: &Mark) -> Result<(), StageError> {
        let metadata = mark.encode();
        let length = metadata.chars().count();
        if length > ScriptedBroker::METADATA_MAX {
            return Err(StageError::fatal("commit", format!("the metadata has {length} characters"))
                .with_hint(format!("the broker takes {}", ScriptedBroker::METADATA_MAX)));
        }
        self.commits.push(Committed { offset: mark.next, metadata });
        Ok(())
    }
}
