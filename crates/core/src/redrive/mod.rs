//! Letters driven again, through a corrected pipeline, each stored once.
//!
//! ```text
//! LetterSource ─ letter ─▶ LetterFilter ─▶ converter ─▶ partitioner ─▶ RepairSink
//!  topic, files,           which of them    corrected                   under the record's own (topic, partition, offset)
//!  objects
//! ```
//!
//! A letter stays where it is: what is stored of it is known by the [`RepairSink`], which answers for each record whether it
//! was there. So re-driving twice, two at once, with other filters, or after a crash anywhere stores nothing twice. That a
//! letter's record was not stored by the pipeline itself is the [lane's promise](crate::DeadLetterSink).

mod letters;
mod repair;
mod report;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

pub use letters::{LetterFilter, LetterSource, UnreadableLetter};
pub use repair::{RepairBatch, RepairRow, RepairSink, Repaired, UnfinishedRepair};
pub use report::{RedriveError, RedriveReport, StillPoison};

use crate::batch::{Batch, BatchBuilder};
use crate::budget::Permit;
use crate::clock::{Clock, SystemClock, unix_millis};
use crate::convert::{Converted, Converter};
use crate::dead_letter::StoredLetter;
use crate::error::PoisonStage;
use crate::fingerprint::Fingerprint;
use crate::partition::{Partitioner, RoutePath};
use crate::record::{Offset, TopicPartition};

/// Most letters that are repaired together.
const CHUNK_LETTERS: usize = 1_000;
/// Most bytes of letters that are repaired together; one letter may be larger.
const CHUNK_BYTES: usize = 8 << 20;
/// Most bytes of letters that wait for others of their partition, over all partitions.
const WAITING_BYTES: usize = 64 << 20;

/// Drives letters again.
///
/// Converter and partitioner are those of the *corrected* pipeline; the [`RepairSink`] stores their rows where the pipeline
/// stores its own. Letters may come in any order and several times. Those of one partition are repaired up to a thousand, or
/// 8 MiB, at a time; at most 64 MiB wait in memory, and some dozens of bytes for each letter that was taken, to know it again.
///
/// What a run that died has begun is finished first, whatever the filter, with the letters it had begun with.
///
/// # Errors
/// An outage of the letters or of the target, once it has lasted for as long as they wait for it: run it again.
///
/// ```
/// use aqueduct_core::{
///     Converter, LetterFilter, LetterSource, Partitioner, PoisonReason, Redrive, RedriveError, RepairSink,
/// };
///
/// async fn repair<C, P, K>(converter: C, partitioner: P, target: K, letters: &mut dyn LetterSource) -> Result<(), RedriveError>
/// where
///     C: Converter,
///     P: Partitioner<C::Output>,
///     K: RepairSink<C::Output>,
/// {
///     let redrive = Redrive::new(converter, partitioner, target)
///         .select(LetterFilter::all().topic("orders").reason(PoisonReason::Malformed));
///     println!("{}", redrive.run(letters).await?);
///     Ok(())
/// }
/// ```
pub struct Redrive<C, P, K> {
    converter: C,
    partitioner: P,
    sink: K,
    filter: LetterFilter,
    clock: Arc<dyn Clock>,
    layout: u64,
}

impl<C, P, K> Redrive<C, P, K>
where
    C: Converter,
    P: Partitioner<C::Output>,
    K: RepairSink<C::Output>,
{
    /// All letters, through these.
    pub fn new(converter: C, partitioner: P, sink: K) -> Self {
        let mut parts = Fingerprint::new();
        converter.fingerprint(&mut parts);
        partitioner.fingerprint(&mut parts);
        sink.fingerprint(&mut parts);
        let (filter, layout) = (LetterFilter::all(), parts.digest());
        Self { converter, partitioner, sink, filter, clock: Arc::new(SystemClock), layout }
    }

    /// Only these letters.
    #[must_use]
    pub fn select(mut self, filter: LetterFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Another clock: layouts by the time of a segment's opening read when a repair began.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Reads every letter there is and stores what is selected and not stored yet.
    ///
    /// # Errors
    /// [`RedriveError`]; what was stored until then is stored.
    pub async fn run<L: LetterSource + ?Sized>(
        &self,
        letters: &mut L,
    ) -> Result<RedriveReport, RedriveError> {
        self.sink.check().await?;
        let mut run =
            Run { redrive: self, lanes: BTreeMap::new(), waiting: 0, report: RedriveReport::default() };
        while let Some(letter) = letters.next().await? {
            match letter {
                Ok(letter) => run.take(letter).await?,
                Err(unreadable) => run.report.unreadable(unreadable),
            }
        }
        run.end().await
    }
}

impl<C, P, K> fmt::Debug for Redrive<C, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redrive").field("filter", &self.filter).finish_non_exhaustive()
    }
}

/// One pass over the letters.
struct Run<'a, C, P, K> {
    redrive: &'a Redrive<C, P, K>,
    lanes: BTreeMap<TopicPartition, Lane>,
    /// Bytes of all chunks.
    waiting: usize,
    report: RedriveReport,
}

/// What is known of one partition.
#[derive(Default)]
struct Lane {
    seen: HashSet<Offset>,
    chunk: Vec<StoredLetter>,
    bytes: usize,
    unfinished: Vec<Begun>,
    /// Some of its records were stored, or taken, before.
    met: bool,
}

/// A repair that somebody has begun, and its letters as far as they were found.
struct Begun {
    repair: UnfinishedRepair,
    letters: Vec<StoredLetter>,
}

impl<C, P, K> Run<'_, C, P, K>
where
    C: Converter,
    P: Partitioner<C::Output>,
    K: RepairSink<C::Output>,
{
    async fn take(&mut self, letter: StoredLetter) -> Result<(), RedriveError> {
        self.report.read += 1;
        let name = letter.record.lane.clone();
        if !self.lanes.contains_key(&name) {
            let unfinished = self.redrive.sink.unfinished(&name).await?;
            let unfinished = unfinished.into_iter().map(|repair| Begun { repair, letters: Vec::new() });
            self.lanes.insert(name.clone(), Lane { unfinished: unfinished.collect(), ..Lane::default() });
        }
        let lane = self.lanes.entry(name.clone()).or_default();
        let offset = letter.record.offset;
        let begun = |it: &Begun| it.repair.offsets.binary_search(&offset).is_ok();
        let unfinished = lane.unfinished.iter().position(begun);
        // One that is not taken says nothing of the record's others: another version of the pipeline may have sent them.
        if unfinished.is_none() && !self.redrive.filter.takes(&letter) {
            return Ok(());
        }
        if !lane.seen.insert(offset) {
            self.report.repeated += 1;
            return Ok(());
        }
        if let Some(index) = unfinished {
            return self.take_begun(&name, index, letter).await;
        }
        self.report.selected += 1;
        let bytes = size_of(&letter);
        lane.bytes += bytes;
        self.waiting += bytes;
        lane.chunk.push(letter);
        if lane.chunk.len() >= CHUNK_LETTERS || lane.bytes >= CHUNK_BYTES {
            self.repair(&name).await?;
        }
        while self.waiting >= WAITING_BYTES {
            let largest = self.lanes.iter().max_by_key(|(_, lane)| lane.bytes);
            let Some(largest) = largest.map(|(name, _)| name.clone()) else { break };
            self.repair(&largest).await?;
        }
        Ok(())
    }

    /// One more letter of a repair that was begun; with the last one it is finished.
    async fn take_begun(
        &mut self,
        name: &TopicPartition,
        index: usize,
        letter: StoredLetter,
    ) -> Result<(), RedriveError> {
        let Some(lane) = self.lanes.get_mut(name) else { return Ok(()) };
        let Some(begun) = lane.unfinished.get_mut(index) else { return Ok(()) };
        begun.letters.push(letter);
        if begun.letters.len() < begun.repair.offsets.len() {
            return Ok(());
        }
        let Begun { repair, letters } = lane.unfinished.swap_remove(index);
        let batch = batch_of(name, letters);
        let rows = self.rows(&batch, repair.opened_at_ms).await?;
        let (layout, opened_at_ms) = (self.redrive.layout, repair.opened_at_ms);
        let batch = RepairBatch { lane: name, layout, opened_at_ms, rows };
        self.report.finished += self.redrive.sink.finish(&repair, batch).await?;
        Ok(())
    }

    /// Stores the letters of a partition that wait.
    async fn repair(&mut self, name: &TopicPartition) -> Result<(), RedriveError> {
        let Some(lane) = self.lanes.get_mut(name) else { return Ok(()) };
        self.waiting -= std::mem::take(&mut lane.bytes);
        let letters = std::mem::take(&mut lane.chunk);
        if letters.is_empty() {
            return Ok(());
        }
        let batch = batch_of(name, letters);
        let opened_at_ms = unix_millis(self.redrive.clock.now());
        let rows = self.rows(&batch, opened_at_ms).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let batch = RepairBatch { lane: name, layout: self.redrive.layout, opened_at_ms, rows };
        let Repaired { stored, before, refused, objects } = self.redrive.sink.repair(batch).await?;
        self.report.repaired += stored;
        self.report.before += before;
        if before > 0
            && let Some(lane) = self.lanes.get_mut(name)
        {
            lane.met = true;
        }
        self.report.objects += objects;
        for refused in refused {
            self.report.poison(name, refused.offset, PoisonStage::Encode, &refused.poison);
        }
        Ok(())
    }

    /// What the corrected stages make of the records; what they make no row of is counted.
    async fn rows<'b>(
        &mut self,
        batch: &'b Batch,
        opened_at_ms: i64,
    ) -> Result<Vec<RepairRow<'b, C::Output>>, RedriveError> {
        let Redrive { converter, partitioner, .. } = self.redrive;
        converter.prepare(batch).await?;
        let mut rows = Vec::with_capacity(batch.len());
        for record in batch.iter() {
            let poison = match converter.convert(&record) {
                Ok(Converted::Emit(value)) => {
                    let mut path = RoutePath::new(opened_at_ms);
                    match partitioner.route(&record, &value, &mut path) {
                        Ok(()) => {
                            rows.push(RepairRow { record, path, value });
                            continue;
                        }
                        Err(poison) => (PoisonStage::Partition, poison),
                    }
                }
                Ok(Converted::Skip(_)) => {
                    self.report.skipped += 1;
                    continue;
                }
                Err(poison) => (poison.part().stage(), poison),
            };
            self.report.poison(record.lane(), record.offset(), poison.0, &poison.1);
        }
        Ok(rows)
    }

    /// Stores what still waits; nothing may be left of what was begun.
    async fn end(mut self) -> Result<RedriveReport, RedriveError> {
        let names: Vec<_> = self.lanes.keys().cloned().collect();
        for name in names {
            self.repair(&name).await?;
        }
        for (name, lane) in self.lanes {
            if lane.unfinished.is_empty() && !lane.met {
                continue;
            }
            // Whoever began it may have ended it since; and somebody may have begun since and died.
            let still = self.redrive.sink.unfinished(&name).await?;
            self.report.under_way += still.len() as u64;
            let left = |begun: &Begun| still.iter().any(|it| it.number == begun.repair.number);
            if let Some(Begun { repair, letters }) = lane.unfinished.into_iter().find(left) {
                let found: HashSet<_> = letters.iter().map(|letter| letter.record.offset).collect();
                let first = repair.offsets.iter().find(|offset| !found.contains(offset));
                let missing = repair.offsets.len() - found.len();
                let first = first.copied().unwrap_or(Offset::ZERO);
                return Err(RedriveError::LettersMissing { repair: repair.name, missing, first });
            }
        }
        Ok(self.report)
    }
}

fn size_of(letter: &StoredLetter) -> usize {
    let record = &letter.record;
    let headers = record.headers.iter();
    let headers: usize =
        headers.map(|(name, value)| name.len() + value.as_ref().map_or(0, bytes::Bytes::len)).sum();
    let [key, value] = [&record.key, &record.value].map(|bytes| bytes.as_ref().map_or(0, bytes::Bytes::len));
    std::mem::size_of::<StoredLetter>() + key + value + headers
}

/// The records as a source would have given them.
fn batch_of(lane: &TopicPartition, mut letters: Vec<StoredLetter>) -> Batch {
    letters.sort_by_key(|letter| letter.record.offset);
    let mut builder = BatchBuilder::new(lane.clone(), letters.iter().map(size_of).sum());
    for StoredLetter { record, .. } in letters {
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        builder.push(
            record.offset,
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            headers,
        );
    }
    builder.build(Permit::unlimited())
}
