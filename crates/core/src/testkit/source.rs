//! A source that reads a scripted log.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;

use super::broker::{ScriptedBroker, Shared};
use super::member::{Member, MemberId, Reading, ScriptedMember};
use crate::batch::{Batch, BatchBuilder};
use crate::budget::Permit;
use crate::error::StageError;
use crate::record::{Offset, OwnedRecord, TopicPartition};
use crate::source::{Source, SourceContext, SourceControl, SourceEvent};

/// A [`Source`] over a [`ScriptedBroker`]: one member of its group.
///
/// By default [`open`](Source::open) assigns every partition that nobody has, the source reads on for ever and starts
/// at the first record where nothing is committed. What happens after that, a test scripts through
/// [`member`](Self::member). Two sources of one broker are two processes: hand partitions over in order with
/// [`revoke`](ScriptedMember::revoke) and [`assign`](ScriptedMember::assign), or behind the old owner's back with
/// `assign` alone.
///
/// It keeps the whole contract of [`Source`]: records of a partition come only after the answer to `Assigned`, from the
/// answered offset; every batch is paid from [`SourceContext::memory`], and while that is used up the group is still
/// served; commits are refused with [`Class::Fenced`](crate::Class::Fenced) once the partition is gone, also if it has
/// come back since. A partition missing from the answer is not read. Dropping the source without
/// [`close`](Source::close) is a crash: its partitions are free.
///
/// ```
/// use aqueduct_core::testkit::ScriptedBroker;
/// use aqueduct_core::{Budget, Source, SourceContext, SourceEvent, TopicPartition};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let broker = ScriptedBroker::new();
/// let lane = TopicPartition::new("orders", 0);
/// broker.extend(&lane, ["a", "b", "c"]);
///
/// let mut source = broker.source().until_end();
/// let memory = Budget::default().fill().clone();
/// source.open(SourceContext { memory, adopt_foreign_marks: false }).await?;
/// let SourceEvent::Assigned(assigned, reply) = source.next().await? else { panic!("assigned first") };
/// reply.send(vec![(lane, assigned[0].mark.next)]);
/// let SourceEvent::Batch(batch) = source.next().await? else { panic!("then records") };
/// assert_eq!(batch.len(), 3);
/// # Ok::<(), aqueduct_core::StageError>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct ScriptedSource {
    member: ScriptedMember,
    context: Option<SourceContext>,
    options: Options,
    /// Where partitions ended when a bounded source was opened.
    ends: BTreeMap<TopicPartition, i64>,
    /// The partition the last batch was from; the next one has its turn first.
    last: Option<TopicPartition>,
    assigned: bool,
    finished: bool,
}

#[derive(Clone, Debug)]
struct Options {
    bounded: bool,
    from_latest: bool,
    assign_on_open: bool,
    batch_records: usize,
    batch_bytes: usize,
}

/// The next batch, before it is paid for.
struct Wanted {
    lane: TopicPartition,
    assignment: u64,
    position: i64,
    records: usize,
    bytes: u64,
}

impl ScriptedSource {
    /// Most records of a batch, unless [`batch_records`](Self::batch_records) says otherwise.
    pub const BATCH_RECORDS: usize = 1_000;

    pub(super) fn join(broker: &ScriptedBroker) -> Self {
        let shared = Arc::clone(&broker.shared);
        let id = shared.change(|state| {
            state.members_ever += 1;
            let id = MemberId(state.members_ever);
            state.members.insert(id, Member::default());
            id
        });
        Self {
            member: ScriptedMember { shared, id },
            context: None,
            options: Options {
                bounded: false,
                from_latest: false,
                assign_on_open: true,
                batch_records: Self::BATCH_RECORDS,
                batch_bytes: 1 << 20,
            },
            ends: BTreeMap::new(),
            last: None,
            assigned: false,
            finished: false,
        }
    }

    /// What a test does to this source once the pipeline has it.
    pub fn member(&self) -> ScriptedMember {
        self.member.clone()
    }

    /// Makes the source bounded: it reads each partition up to its end as of `open` and then tells
    /// [`Finished`](SourceEvent::Finished), once.
    #[must_use]
    pub fn until_end(mut self) -> Self {
        self.options.bounded = true;
        self
    }

    /// Starts at the end of a partition for which nothing is committed, instead of its first record.
    #[must_use]
    pub fn from_latest(mut self) -> Self {
        self.options.from_latest = true;
        self
    }

    /// Gets no partition at `open`, only those of [`ScriptedMember::assign`].
    #[must_use]
    pub fn unassigned(mut self) -> Self {
        self.options.assign_on_open = false;
        self
    }

    /// Most records of a batch; at least 1.
    #[must_use]
    pub fn batch_records(mut self, records: usize) -> Self {
        self.options.batch_records = records.max(1);
        self
    }

    /// Most bytes of a batch; one record may be larger.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.options.batch_bytes = bytes;
        self
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.member.shared
    }

    /// The next thing that needs no memory, or what a batch would need.
    fn step(&mut self) -> Result<Step, StageError> {
        let shared = Arc::clone(self.shared());
        let mut state = shared.lock();
        if let Some(change) = state.members.get_mut(&self.member.id).and_then(|own| own.changes.pop_front()) {
            return self.tell(&mut state, change).map(Step::Tell);
        }
        let Some(own) = state.members.get(&self.member.id) else {
            return Ok(Step::Nothing);
        };
        let mut wanted = None;
        let mut reached = None;
        let mut all_read = true;
        for (lane, reading) in self.turns(&own.reading) {
            let Some(log) = state.logs.get(lane) else { continue };
            let end = reading.until.unwrap_or(log.end);
            all_read &= reading.reached.is_some_and(|reached| reached >= end);
            let Some(position) = reading.position else {
                continue;
            };
            if reading.paused || reading.revoking {
                continue;
            }
            if position < log.start {
                let gone =
                    format!("retention has removed {lane} below {}, next to read is {position}", log.start);
                return Err(StageError::fatal("fetch", gone));
            }
            let (records, bytes) = self.fits(log.from(position), end);
            if records > 0 {
                let lane = lane.clone();
                wanted.get_or_insert(Wanted {
                    lane,
                    assignment: reading.assignment,
                    position,
                    records,
                    bytes,
                });
            } else if reading.reached.is_none_or(|reached| reached < end) {
                reached.get_or_insert((lane.clone(), position.max(end)));
            }
        }
        if let Some((lane, next)) = reached {
            if let Some(reading) =
                state.members.get_mut(&self.member.id).and_then(|own| own.reading.get_mut(&lane))
            {
                reading.position = Some(next);
                reading.reached = Some(next);
            }
            return Ok(Step::Tell(SourceEvent::Reached { lane, next: Offset::new(next) }));
        }
        if let Some(wanted) = wanted {
            return Ok(Step::Read(wanted));
        }
        let nothing_to_come = self.assigned || self.options.assign_on_open;
        if self.options.bounded && all_read && nothing_to_come && !self.finished {
            self.finished = true;
            return Ok(Step::Tell(SourceEvent::Finished));
        }
        Ok(Step::Nothing)
    }

    /// The partitions, beginning after the one that was served last.
    fn turns<'a>(
        &self,
        reading: &'a BTreeMap<TopicPartition, Reading>,
    ) -> impl Iterator<Item = (&'a TopicPartition, &'a Reading)> {
        let (after, before) = match &self.last {
            Some(last) => (Bound::Excluded(last.clone()), Bound::Included(last.clone())),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let rest =
            self.last.is_some().then(|| reading.range((Bound::Unbounded, before))).into_iter().flatten();
        reading.range((after, Bound::Unbounded)).chain(rest)
    }

    /// How many of `records` below `end` one batch takes, and their bytes.
    fn fits(&self, records: &[OwnedRecord], end: i64) -> (usize, u64) {
        let (mut count, mut bytes) = (0, 0);
        for record in records.iter().take(self.options.batch_records) {
            let size = size_of_record(record);
            if record.offset.get() >= end || (count > 0 && bytes + size > self.options.batch_bytes) {
                break;
            }
            count += 1;
            bytes += size;
        }
        (count, bytes as u64)
    }

    /// Copies the records `wanted` names, unless the partition has gone, paused or moved in between.
    fn read(&mut self, wanted: &Wanted, permit: Permit) -> Option<Batch> {
        let shared = Arc::clone(self.shared());
        let mut state = shared.lock();
        let state = &mut *state;
        let log = state.logs.get(&wanted.lane)?;
        let reading = state.members.get_mut(&self.member.id)?.reading.get_mut(&wanted.lane)?;
        let unchanged = reading.assignment == wanted.assignment
            && reading.position == Some(wanted.position)
            && !reading.paused
            && !reading.revoking;
        if !unchanged {
            return None;
        }
        let capacity = usize::try_from(wanted.bytes).unwrap_or_default();
        let mut batch = BatchBuilder::new(wanted.lane.clone(), capacity);
        for record in log.from(wanted.position).iter().take(wanted.records) {
            let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
            batch.push(
                record.offset,
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                headers,
            );
            reading.position = Some(record.offset.next().get());
        }
        self.last = Some(wanted.lane.clone());
        (!batch.is_empty()).then(|| batch.build(permit))
    }

    fn leave(&mut self) {
        self.member.shared.change(|state| {
            state.members.remove(&self.member.id);
            for log in state.logs.values_mut().filter(|log| log.owner == Some(self.member.id)) {
                log.owner = None;
            }
        });
    }
}

enum Step {
    Tell(SourceEvent),
    Read(Wanted),
    Nothing,
}

/// Bytes of a record in a batch's arena: its parts, and for each header two lengths and a mark.
fn size_of_record(record: &OwnedRecord) -> usize {
    let length = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = record.headers.iter().map(|(name, value)| 9 + name.len() + length(value)).sum();
    length(&record.key) + length(&record.value) + headers
}

#[async_trait]
impl Source for ScriptedSource {
    async fn open(&mut self, context: SourceContext) -> Result<(), StageError> {
        if self.context.replace(context).is_some() {
            return Err(StageError::fatal("open", "the source is open already"));
        }
        let shared = Arc::clone(self.shared());
        let (ends, free): (_, Vec<_>) = {
            let state = shared.lock();
            let free = state.logs.iter().filter(|(_, log)| log.owner.is_none());
            let ends = state.logs.iter().map(|(lane, log)| (lane.clone(), log.end));
            (ends.collect(), free.map(|(lane, _)| lane.clone()).collect())
        };
        self.ends = ends;
        if self.options.assign_on_open && !free.is_empty() {
            self.member.assign(free);
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<SourceEvent, StageError> {
        let Some(memory) = self.context.as_ref().map(|context| context.memory.clone()) else {
            return Err(StageError::fatal("next", "the source is not open"));
        };
        let shared = Arc::clone(self.shared());
        loop {
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            let wanted = match self.step()? {
                Step::Tell(event) => return Ok(event),
                Step::Read(wanted) => wanted,
                Step::Nothing => {
                    changed.await;
                    continue;
                }
            };
            let permit = tokio::select! {
                biased;
                permit = memory.acquire(wanted.bytes) => permit,
                // While no memory is free, the group is still served.
                () = changed => continue,
            };
            if let Some(batch) = self.read(&wanted, permit) {
                return Ok(SourceEvent::Batch(batch));
            }
        }
    }

    fn control(&self) -> Arc<dyn SourceControl> {
        Arc::new(self.member.clone())
    }

    async fn close(&mut self) -> Result<(), StageError> {
        self.leave();
        Ok(())
    }
}

impl Drop for ScriptedSource {
    fn drop(&mut self) {
        self.leave();
    }
}

mod tell;
#[cfg(test)]
mod tests;
