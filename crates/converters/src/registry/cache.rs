//! Parsed schemas, fetched before a batch is converted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aqueduct_core::{Clock, Poison, PoisonReason, StageError, SystemClock, TopicPartition};
use arc_swap::ArcSwap;
use futures::stream::{self, StreamExt, TryStreamExt};
use hashbrown::{HashMap, HashSet};
use tokio::sync::{Semaphore, watch};

use super::flight::Shared;
use super::schema::{RegisteredSchema, SchemaId};
use super::source::{SchemaAnswer, SchemaSource};

/// Parsed schemas by id, for a converter: [`prepare`](Self::prepare) in `prepare`, [`read`](Self::read) in `convert`.
///
/// # What it promises
/// - `prepare` gives every id of the batch an [`Entry`], or fails, and then the lane waits: no record is judged without one.
/// - Entries do not change while a lane has its batch in hand, whatever other lanes do, and none of them is thrown out. Each lane
///   keeps those of its latest batch.
/// - Every schema is fetched and parsed once, also when many lanes meet it at once; a failure is told to all that wait for it.
///   [`FETCHES_MAX`](Self::FETCHES_MAX) fetches run at a time.
/// - `read` takes no lock and allocates nothing, if all who share the cache have lanes of their own. Two that read one lane may
///   find each other's entries as the lane's latest; those of their own are then looked up among all that are kept.
///
/// # Memory
/// It keeps [`CAPACITY`](Self::CAPACITY) schemas unless [told otherwise](Self::with_capacity), and throws out what was not used
/// for longest. A batch with more than that makes it larger for as long as a lane has the batch in hand. A lane that has gone keeps
/// its latest batch's until it comes back: nobody says that it has gone.
///
/// # What may differ when records are read again
/// A schema that is there is there for good. One that is *not* there may be registered a moment later, by a producer that writes
/// first and registers then; and one that could not be parsed may be by the next version of this program. So both are forgotten
/// after [`NEGATIVE_FOR`](Self::NEGATIVE_FOR), and a record that was poison can be a row when a crash makes another process read
/// it again. The lane notices: a pinned segment is compared with what its intent recorded, and another number of rows stops it
/// (`ReplayDiverged`) before anything is published. With the policy `Stop`, which is the default, nothing was decided about such
/// a record and nothing can diverge.
///
/// ```
/// use aqueduct_converters::registry::{FixedSchemas, Framing, SchemaCache, SchemaKind};
/// use aqueduct_core::{BatchBuilder, Offset, Permit, Timestamp, TopicPartition};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let source = FixedSchemas::new().with(7, SchemaKind::Avro, r#""string""#);
/// let cache = SchemaCache::new(source, |schema| Ok::<_, String>(schema.text.len()));
/// # let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 0);
/// # batch.push(Offset::new(0), Timestamp::None, None, Some(b"\0\0\0\0\x07v"), []);
/// # batch.push(Offset::new(1), Timestamp::None, None, Some(b"\0\0\0\0\x08v"), []);
/// # let batch = batch.build(Permit::unlimited());
///
/// // In `prepare`:
/// let framing = Framing::values();
/// cache.prepare(batch.lane(), framing.ids(&batch)).await?;
/// // In `convert`:
/// # let mut answers = Vec::new();
/// # for record in batch.iter() {
/// if let Some(framed) = framing.split(&record)? {
///     let value = cache.read(record.lane(), framed.id(), |parsed| Ok(parsed + framed.payload().len()));
///     # answers.push(value.map_err(|poison| poison.to_string()));
/// }
/// # }
/// # assert_eq!(answers, [Ok(9), Err("malformed: schema 8 is not in the registry".to_owned())]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct SchemaCache<P> {
    source: Box<dyn SchemaSource>,
    parse: Box<Parse<P>>,
    capacity: usize,
    negative_for: Duration,
    clock: Arc<dyn Clock>,
    fetches: Semaphore,
    /// Counts uses, to know which is the oldest.
    uses: AtomicU64,
    store: Mutex<Store<P>>,
    /// What each lane has in hand. Replaced as a whole, while `store` is locked.
    lanes: ArcSwap<HashMap<TopicPartition, Arc<View<P>>>>,
}

type Parse<P> = dyn Fn(RegisteredSchema) -> Result<P, String> + Send + Sync;

/// What is known about an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<P> {
    /// The parsed schema.
    Known(P),
    /// The registry said that there is none.
    Unknown,
    /// There is one that cannot be used; why, in words.
    Unreadable(String),
}

struct Slot<P> {
    entry: Entry<P>,
    since: SystemTime,
    used: AtomicU64,
}

/// The entries of a batch, by id.
type View<P> = Box<[(SchemaId, Arc<Slot<P>>)]>;

struct Store<P> {
    slots: HashMap<SchemaId, Arc<Slot<P>>>,
    /// Fetches under way; the channel closes when one is done, and says so before if it failed.
    flights: HashMap<SchemaId, watch::Receiver<Option<Shared>>>,
}

/// Whom an id is left to.
enum Found<P> {
    Here(Arc<Slot<P>>),
    /// Somebody else fetches it.
    Awaited(watch::Receiver<Option<Shared>>),
    /// We do.
    Missing(watch::Sender<Option<Shared>>),
}

impl<P: Send + Sync + 'static> SchemaCache<P> {
    /// Schemas kept by default.
    pub const CAPACITY: usize = 1000;
    /// How long it is believed by default that there is no usable schema.
    pub const NEGATIVE_FOR: Duration = Duration::from_secs(30);
    /// Schemas fetched at a time, for all lanes together.
    pub const FETCHES_MAX: usize = 8;

    /// Asks `source` and keeps what `parse` makes of the answers; an error of `parse` is why the schema cannot be used, in words.
    ///
    /// `parse` runs once per schema, between batches. It has to bound what it takes: schemas come from whoever may register one.
    pub fn new<S, F>(source: S, parse: F) -> Self
    where
        S: SchemaSource,
        F: Fn(RegisteredSchema) -> Result<P, String> + Send + Sync + 'static,
    {
        Self {
            source: Box::new(source),
            parse: Box::new(parse),
            capacity: Self::CAPACITY,
            negative_for: Self::NEGATIVE_FOR,
            clock: Arc::new(SystemClock),
            fetches: Semaphore::new(Self::FETCHES_MAX),
            uses: AtomicU64::new(0),
            store: Mutex::new(Store { slots: HashMap::new(), flights: HashMap::new() }),
            lanes: ArcSwap::default(),
        }
    }

    /// Schemas kept beside those that lanes have in hand.
    #[must_use]
    pub fn with_capacity(mut self, schemas: usize) -> Self {
        self.capacity = schemas;
        self
    }

    /// How long it is believed that there is no usable schema. A registry is asked this often about each id that is none.
    #[must_use]
    pub fn with_negative_for(mut self, time: Duration) -> Self {
        self.negative_for = time;
        self
    }

    /// Where that time is read.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Gets every id of the batch an entry; the lane's former batch is out of its hands. `ids` may repeat.
    ///
    /// # Errors
    /// Those of the source. Nothing has changed for the lane then, and what was fetched until then is kept.
    pub async fn prepare(
        &self,
        lane: &TopicPartition,
        ids: impl IntoIterator<Item = SchemaId> + Send,
    ) -> Result<(), StageError> {
        let ids = distinct(ids);
        if self.is_in_hand(lane, &ids) {
            return Ok(());
        }
        let fetched: Result<Vec<_>, StageError> =
            stream::iter(ids).map(|id| self.slot(id)).buffer_unordered(Self::FETCHES_MAX).try_collect().await;
        let mut store = self.store();
        if let Ok(mut view) = fetched {
            view.sort_unstable_by_key(|(id, _)| *id);
            let mut lanes = HashMap::clone(&self.lanes.load());
            lanes.insert(lane.clone(), Arc::new(view.into_boxed_slice()));
            self.lanes.store(Arc::new(lanes));
            store.shrink(self.capacity);
            return Ok(());
        }
        store.shrink(self.capacity);
        fetched.map(drop)
    }

    /// Reads a record with its schema. A record whose schema is not known or of no use is a poison that says so.
    pub fn read<R>(
        &self,
        lane: &TopicPartition,
        id: SchemaId,
        read: impl FnOnce(&P) -> Result<R, Poison>,
    ) -> Result<R, Poison> {
        self.read_entry(lane, id, |entry| {
            let why = match entry {
                Some(Entry::Known(schema)) => return read(schema),
                Some(Entry::Unknown) => format!("schema {id} is not in the registry"),
                Some(Entry::Unreadable(reason)) => format!("schema {id} cannot be used: {reason}"),
                None => format!(
                    "schema {id} was not fetched; is the converter told whether it reads keys or values?"
                ),
            };
            Err(Poison::new(PoisonReason::Malformed, why))
        })
    }

    /// Looks at an entry of the lane's latest [`prepare`](Self::prepare), or else, under a lock, one that is kept: two that share a
    /// cache, such as clones of a converter, may read one lane by turns. `None` if there is none.
    pub fn read_entry<R>(
        &self,
        lane: &TopicPartition,
        id: SchemaId,
        read: impl FnOnce(Option<&Entry<P>>) -> R,
    ) -> R {
        let lanes = self.lanes.load();
        if let Some(slot) = lanes.get(lane).and_then(|view| find(view, id)) {
            return read(Some(&slot.entry));
        }
        let kept = self.store().slots.get(&id).cloned();
        if let Some(slot) = &kept {
            self.touch(slot);
        }
        read(kept.as_deref().map(|slot| &slot.entry))
    }

    /// Schemas kept, those in the hands of lanes among them.
    pub fn len(&self) -> usize {
        self.store().slots.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the lane's former batch had all of these, and not many more, so that nothing needs to change.
    fn is_in_hand(&self, lane: &TopicPartition, ids: &[SchemaId]) -> bool {
        let lanes = self.lanes.load();
        let Some(view) = lanes.get(lane) else { return false };
        let now = self.clock.now();
        let is_here = |id: &SchemaId| {
            find(view, *id).is_some_and(|slot| {
                self.touch(slot);
                self.is_believed(slot, now)
            })
        };
        view.len() <= ids.len().saturating_add(VIEW_SLACK) && ids.iter().all(is_here)
    }

    async fn slot(&self, id: SchemaId) -> Result<(SchemaId, Arc<Slot<P>>), StageError> {
        loop {
            match self.find(id) {
                Found::Here(slot) => return Ok((id, slot)),
                Found::Awaited(mut flight) => {
                    // Closed without an error: it is there, or whoever fetched it has gone. Look again.
                    if let Ok(outcome) = flight.wait_for(Option::is_some).await
                        && let Some(error) = &*outcome
                    {
                        return Err(error.to_stage_error());
                    }
                }
                Found::Missing(sender) => {
                    // Dropped before the sender: who finds the channel closed finds no flight any more.
                    let _flight = Flight { cache: self, id };
                    return match self.fetch(id).await {
                        Ok(slot) => {
                            let slot = Arc::new(slot);
                            self.store().slots.insert(id, Arc::clone(&slot));
                            Ok((id, slot))
                        }
                        Err(error) => {
                            let error = Shared::new(error);
                            let own = error.to_stage_error();
                            sender.send_replace(Some(error));
                            Err(own)
                        }
                    };
                }
            }
        }
    }

    fn find(&self, id: SchemaId) -> Found<P> {
        let now = self.clock.now();
        let mut store = self.store();
        if let Some(slot) = store.slots.get(&id)
            && self.is_believed(slot, now)
        {
            self.touch(slot);
            return Found::Here(Arc::clone(slot));
        }
        if let Some(flight) = store.flights.get(&id) {
            return Found::Awaited(flight.clone());
        }
        let (sender, receiver) = watch::channel(None);
        store.flights.insert(id, receiver);
        Found::Missing(sender)
    }

    async fn fetch(&self, id: SchemaId) -> Result<Slot<P>, StageError> {
        // Nobody closes it; if somebody did, fetching without a limit is what is left.
        let _permit = self.fetches.acquire().await.ok();
        let entry = match self.source.schema(id).await? {
            SchemaAnswer::Unknown => Entry::Unknown,
            SchemaAnswer::Unreadable(reason) => Entry::Unreadable(reason),
            SchemaAnswer::Known(schema) => match ambiguous(&schema) {
                Some(name) => Entry::Unreadable(format!("it refers to two schemas by the name {name:?}")),
                None => (self.parse)(schema).map_or_else(Entry::Unreadable, Entry::Known),
            },
        };
        let slot = Slot { entry, since: self.clock.now(), used: AtomicU64::new(0) };
        self.touch(&slot);
        Ok(slot)
    }

    fn is_believed(&self, slot: &Slot<P>, now: SystemTime) -> bool {
        // A clock that was set back must not make it last.
        matches!(slot.entry, Entry::Known(_))
            || now.duration_since(slot.since).is_ok_and(|age| age < self.negative_for)
    }

    fn touch(&self, slot: &Slot<P>) {
        slot.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl<P> SchemaCache<P> {
    fn store(&self) -> MutexGuard<'_, Store<P>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> fmt::Debug for SchemaCache<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemaCache")
            .field("capacity", &self.capacity)
            .field("negative_for", &self.negative_for)
            .field("schemas", &self.store().slots.len())
            .finish_non_exhaustive()
    }
}

impl<P> Store<P> {
    /// Throws out the oldest of those that nobody has in hand.
    fn shrink(&mut self, capacity: usize) {
        let over = self.slots.len().saturating_sub(capacity);
        if over == 0 {
            return;
        }
        let mut idle: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| Arc::strong_count(slot) == 1)
            .map(|(id, slot)| (slot.used.load(Ordering::Relaxed), *id))
            .collect();
        idle.sort_unstable();
        for (_, id) in idle.into_iter().take(over) {
            self.slots.remove(&id);
        }
        self.slots.shrink_to(capacity.saturating_mul(2));
    }
}

/// Gives a fetch that nobody waits for any more back to those who come.
struct Flight<'a, P> {
    cache: &'a SchemaCache<P>,
    id: SchemaId,
}

impl<P> Drop for Flight<'_, P> {
    fn drop(&mut self) {
        self.cache.store().flights.remove(&self.id);
    }
}

fn find<P>(view: &View<P>, id: SchemaId) -> Option<&Slot<P>> {
    let index = view.binary_search_by_key(&id, |(id, _)| *id).ok()?;
    view.get(index).map(|(_, slot)| &**slot)
}

fn distinct(ids: impl IntoIterator<Item = SchemaId>) -> Vec<SchemaId> {
    let mut all = HashSet::new();
    let mut last = None;
    for id in ids {
        // Most records have the schema of the one before.
        if last.replace(id) != Some(id) {
            all.insert(id);
        }
    }
    all.into_iter().collect()
}

/// A name that stands for two different texts.
fn ambiguous(schema: &RegisteredSchema) -> Option<&str> {
    let mut texts: HashMap<&str, &str> = HashMap::new();
    let mut names = schema.references.iter().map(|it| (it.name.as_str(), it.text.as_str()));
    names.find(|&(name, text)| *texts.entry(name).or_insert(text) != text).map(|(name, _)| name)
}

/// Entries of former batches that a lane keeps rather than have its view made anew.
const VIEW_SLACK: usize = 16;

#[cfg(test)]
mod tests;
