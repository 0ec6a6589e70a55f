//! A two-phase sink into a [`MemoryStore`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::store::{MemoryObject, MemoryRow, MemoryStore};
use crate::dead_letter::Rejected;
use crate::error::{Poison, PoisonReason, StageError};
use crate::fingerprint::Fingerprint;
use crate::record::{Offset, OffsetRange};
use crate::row::{BytesRow, JsonRow};
use crate::sink::{Begun, Envelope, Published, SegmentStart, SegmentWriter, Sink, SinkCapabilities, Staged};
use crate::spool::ScratchFile;

/// A [`Sink`] into a [`MemoryStore`], one object per route and segment (or several, see
/// [`object_rows`](Self::object_rows)), named `{topic}/{route}/{topic}+{partition}+{first offset}`.
///
/// It behaves as the sinks for real targets do: rows wait in scratch files and not in memory, objects are created
/// conditionally with the one that holds the segment's first record first, a repeated publication finds its own
/// objects and a foreign one is a fatal conflict. To make it fail wrap it in [`Faulty`](super::Faulty), or script
/// single objects with [`MemoryStore::faults`].
///
/// ```
/// use aqueduct_core::testkit::{MemorySink, MemoryStore};
/// use bytes::Bytes;
///
/// let store = MemoryStore::new();
/// let sink = MemorySink::<Bytes>::bytes(&store);
/// // … run a pipeline into it …
/// assert!(store.objects().is_empty());
/// ```
pub struct MemorySink<T> {
    store: MemoryStore,
    encode: Encode<T>,
    options: Options,
}

type Encode<T> = Arc<dyn Fn(&T, &mut Vec<u8>) -> Result<(), Poison> + Send + Sync>;
type Refuses = Arc<dyn Fn(Offset) -> bool + Send + Sync>;

#[derive(Clone)]
struct Options {
    recovery: Recovery,
    idempotent: bool,
    object_rows: usize,
    row_max: usize,
    routes_max: usize,
    refused_at_stage: Option<Refuses>,
    refused_at_publish: Option<Refuses>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovery {
    Redo,
    RollForward,
    AfterDurable,
}

impl<T: BytesRow> MemorySink<T> {
    /// Stores values that are bytes already.
    pub fn bytes(store: &MemoryStore) -> Self {
        Self::encoding(store, |value: &T, row| {
            row.extend_from_slice(value.row_bytes());
            Ok(())
        })
    }
}

impl<T: JsonRow + 'static> MemorySink<T> {
    /// Stores values as JSON text.
    pub fn json(store: &MemoryStore) -> Self {
        Self::encoding(store, T::write_json)
    }
}

impl<T> MemorySink<T> {
    /// Stores what `encode` appends to the row. An error refuses the record.
    pub fn encoding(
        store: &MemoryStore,
        encode: impl Fn(&T, &mut Vec<u8>) -> Result<(), Poison> + Send + Sync + 'static,
    ) -> Self {
        Self {
            store: store.clone(),
            encode: Arc::new(encode),
            options: Options {
                recovery: Recovery::Redo,
                idempotent: false,
                object_rows: usize::MAX,
                row_max: usize::MAX,
                routes_max: SinkCapabilities::ROUTES_MAX,
                refused_at_stage: None,
                refused_at_publish: None,
            },
        }
    }

    /// Stages complete uploads and names them in the token, so that a new owner makes them visible without reading
    /// again, and redoes only if they are gone. Without it the sink redoes.
    #[must_use]
    pub fn rolling_forward(mut self) -> Self {
        self.options.recovery = Recovery::RollForward;
        self
    }

    /// Writes at every `spill`, as a sink without phases does
    /// ([`CommitStyle::AfterDurable`](crate::CommitStyle::AfterDurable)): at least once.
    #[must_use]
    pub fn after_durable(mut self) -> Self {
        self.options.recovery = Recovery::AfterDurable;
        self
    }

    /// Like [`after_durable`](Self::after_durable), into a target that ignores rows it has already, by topic,
    /// partition and offset.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.options.idempotent = true;
        self.after_durable()
    }

    /// Splits a route's rows into objects of at most this many; at least 1.
    #[must_use]
    pub fn object_rows(mut self, rows: usize) -> Self {
        self.options.object_rows = rows.max(1);
        self
    }

    /// Refuses rows of more bytes in `append` ([`PoisonReason::TooLarge`]).
    #[must_use]
    pub fn row_max(mut self, bytes: usize) -> Self {
        self.options.row_max = bytes;
        self
    }

    /// Most routes a segment may have.
    #[must_use]
    pub fn routes_max(mut self, routes: usize) -> Self {
        self.options.routes_max = routes;
        self
    }

    /// Refuses these rows at the cut, in [`Staged::rejected`]; an after-durable sink refuses them in `spill`.
    #[must_use]
    pub fn refuse_at_stage(mut self, refuses: impl Fn(Offset) -> bool + Send + Sync + 'static) -> Self {
        self.options.refused_at_stage = Some(Arc::new(refuses));
        self
    }

    /// Refuses these rows in [`Published::rejected`]; a second publication refuses them again. An after-durable sink
    /// refuses them in `spill`.
    #[must_use]
    pub fn refuse_at_publish(mut self, refuses: impl Fn(Offset) -> bool + Send + Sync + 'static) -> Self {
        self.options.refused_at_publish = Some(Arc::new(refuses));
        self
    }

    /// The store it writes to.
    pub fn store(&self) -> &MemoryStore {
        &self.store
    }

    async fn roll_forward(&self, token: u64) -> Result<Option<Published>, StageError> {
        let Some(objects) = self.store.staged_objects(token) else {
            return Ok(None);
        };
        let mut published = Published::default();
        for object in objects {
            published.objects.push(self.store.create(object).await?);
        }
        self.store.drop_staged(token);
        Ok(Some(published))
    }
}

impl<T> Clone for MemorySink<T> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            encode: Arc::clone(&self.encode),
            options: self.options.clone(),
        }
    }
}

impl<T> fmt::Debug for MemorySink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySink")
            .field("recovery", &self.options.recovery)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<T: Send + 'static> Sink<T> for MemorySink<T> {
    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
        if let Some(token) = at
            .pinned
            .as_ref()
            .and_then(|pinned| pinned.token.as_ref().try_into().ok())
            && let Some(published) = self.roll_forward(u64::from_le_bytes(token)).await?
        {
            return Ok(Begun::AlreadyPublished(published));
        }
        let file = at
            .scratch
            .create()
            .map_err(|error| StageError::retry("create scratch file", error))?;
        Ok(Begun::Fill(Box::new(MemoryWriter {
            sink: self.clone(),
            at,
            file,
            written: 0,
            buffer: Vec::new(),
            rows: Vec::new(),
            unwritten: Vec::new(),
            rejected: Vec::new(),
            routes: BTreeMap::new(),
            encoded: 0,
            staged: None,
            published: Published::default(),
        })))
    }

    fn capabilities(&self) -> SinkCapabilities {
        let mut capabilities = SinkCapabilities::redo();
        match self.options.recovery {
            Recovery::Redo => {}
            Recovery::RollForward => capabilities.redoes = false,
            Recovery::AfterDurable => capabilities = SinkCapabilities::after_durable(),
        }
        capabilities.routes_max = self.options.routes_max;
        capabilities.idempotent = self.options.idempotent;
        capabilities.rejects_late = self.options.recovery != Recovery::AfterDurable
            && (self.options.refused_at_stage.is_some() || self.options.refused_at_publish.is_some());
        capabilities
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("sink", "memory/1");
        parts.put("object-rows", self.options.object_rows);
    }
}

/// Where a row lies in the scratch file.
#[derive(Clone, Copy)]
struct RowAt {
    route: usize,
    offset: Offset,
    start: u64,
    length: usize,
}

struct MemoryWriter<T> {
    sink: MemorySink<T>,
    at: SegmentStart,
    file: ScratchFile,
    /// Bytes that are safe in the file.
    written: u64,
    /// Rows since then.
    buffer: Vec<u8>,
    rows: Vec<RowAt>,
    /// What an after-durable sink still has to make visible.
    unwritten: Vec<(String, Vec<RowAt>)>,
    /// What it still has to report as refused.
    rejected: Vec<Rejected>,
    routes: BTreeMap<usize, String>,
    encoded: u64,
    staged: Option<Stage>,
    published: Published,
}

/// What `stage` left for `publish`.
struct Stage {
    objects: Vec<(String, Vec<RowAt>)>,
    rejected: Vec<Rejected>,
    token: Option<u64>,
}

impl<T: Send + 'static> MemoryWriter<T> {
    /// The rows nobody refuses, grouped into objects, in order of their first rows.
    fn group(&self) -> Vec<(String, Vec<RowAt>)> {
        let options = &self.sink.options;
        let refusals = [&options.refused_at_stage, &options.refused_at_publish];
        let refused = |row: &&RowAt| refusals.into_iter().flatten().any(|refuses| refuses(row.offset));
        let mut open: BTreeMap<usize, usize> = BTreeMap::new();
        let mut objects: Vec<(String, Vec<RowAt>)> = Vec::new();
        for row in self.rows.iter().filter(|row| !refused(row)) {
            let index = *open.entry(row.route).or_insert(objects.len());
            match objects.get_mut(index) {
                Some((_, rows)) if rows.len() < options.object_rows => rows.push(*row),
                _ => {
                    open.insert(row.route, objects.len());
                    let route = self.routes.get(&row.route).cloned().unwrap_or_default();
                    objects.push((route, vec![*row]));
                }
            }
        }
        objects
    }

    fn rejections(&self, refuses: Option<&Refuses>) -> Vec<Rejected> {
        let Some(refuses) = refuses else { return Vec::new() };
        let refused = self.rows.iter().filter(|row| refuses(row.offset));
        let poison = || Poison::new(PoisonReason::Rejected, "refused by the script");
        refused
            .map(|row| Rejected {
                offset: row.offset,
                poison: poison(),
            })
            .collect()
    }

    /// Reads one object's rows back from scratch, paid from the publish pool.
    async fn load(&self, route: &str, rows: &[RowAt]) -> Result<Option<MemoryObject>, StageError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(None);
        };
        let Some(range) = OffsetRange::new(first.offset, last.offset.next()) else {
            return Ok(None);
        };
        let _permit = self
            .at
            .memory
            .acquire(rows.iter().map(|row| row.length as u64).sum())
            .await;
        let (file, places) = (self.file.clone(), rows.to_vec());
        let read = tokio::task::spawn_blocking(move || {
            let mut read = Vec::with_capacity(places.len());
            for place in places {
                let mut value = vec![0; place.length];
                file.read_exact_at(&mut value, place.start)?;
                read.push(MemoryRow {
                    offset: place.offset,
                    value: Bytes::from(value),
                });
            }
            Ok::<_, std::io::Error>(read)
        });
        let rows = read.await.map_err(std::io::Error::other).flatten();
        let rows = rows.map_err(|error| StageError::retry("read scratch file", error))?;
        let lane = &self.at.lane;
        let (topic, partition) = (lane.topic(), lane.partition());
        let slash = if route.is_empty() { "" } else { "/" };
        Ok(Some(MemoryObject {
            key: format!(
                "{topic}/{route}{slash}{topic}+{partition}+{:010}",
                first.offset.get()
            ),
            lane: lane.clone(),
            route: route.to_owned(),
            range,
            layout: self.at.layout,
            rows,
        }))
    }

    /// An after-durable sink makes the rows of each spill visible, under names that never meet, and forgets them.
    async fn write_through(&mut self) -> Result<Vec<Rejected>, StageError> {
        let options = &self.sink.options;
        let refused = [&options.refused_at_stage, &options.refused_at_publish];
        let rejected: Vec<_> = refused
            .into_iter()
            .flat_map(|refuses| self.rejections(refuses.as_ref()))
            .collect();
        self.rejected.extend(rejected);
        self.unwritten.extend(self.group());
        self.rows.clear();
        while let Some((route, rows)) = self.unwritten.first() {
            let known = if options.idempotent {
                self.sink.store.offsets(&self.at.lane)
            } else {
                Vec::new()
            };
            let rows: Vec<_> = rows
                .iter()
                .filter(|row| !known.contains(&row.offset.get()))
                .copied()
                .collect();
            if let Some(mut object) = self.load(route, &rows).await? {
                object.key.push_str(&format!("~{}", self.sink.store.serial()));
                self.published.objects.push(self.sink.store.create(object).await?);
            }
            self.unwritten.remove(0);
        }
        Ok(std::mem::take(&mut self.rejected))
    }
}

#[async_trait]
impl<T: Send + 'static> SegmentWriter<T> for MemoryWriter<T> {
    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        let before = self.buffer.len();
        let encoded = (self.sink.encode)(&envelope.value, &mut self.buffer);
        let length = self.buffer.len() - before;
        let row_max = self.sink.options.row_max;
        let checked = encoded.and_then(|()| {
            let limit = || {
                Poison::new(
                    PoisonReason::TooLarge,
                    format!("a row of {length} bytes, the limit is {row_max}"),
                )
            };
            if length > row_max { Err(limit()) } else { Ok(()) }
        });
        if let Err(poison) = checked {
            self.buffer.truncate(before);
            return Err(poison);
        }
        let route = envelope.route.index();
        self.routes
            .entry(route)
            .or_insert_with(|| envelope.path.as_str().to_owned());
        let start = self.written + before as u64;
        self.rows.push(RowAt {
            route,
            offset: envelope.record.offset(),
            start,
            length,
        });
        self.encoded += length as u64;
        Ok(())
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        if !self.buffer.is_empty() {
            let length = self.buffer.len() as u64;
            // Paid for already: the lane reserves disk before it takes a batch in.
            // Given away as a copy: a caller that drops this future finds the buffer as it was.
            let (_, result) = self.file.write_at(self.buffer.clone(), self.written).await;
            result.map_err(|error| StageError::retry("write scratch file", error))?;
            self.written += length;
            self.buffer.clear();
        }
        match self.sink.options.recovery {
            Recovery::AfterDurable => self.write_through().await,
            Recovery::Redo | Recovery::RollForward => Ok(Vec::new()),
        }
    }

    async fn stage(&mut self, _range: OffsetRange) -> Result<Staged, StageError> {
        let rejected = self.spill().await?;
        let options = &self.sink.options;
        if options.recovery == Recovery::AfterDurable {
            return Ok(Staged {
                token: Bytes::new(),
                rejected,
            });
        }
        let rejected = self.rejections(options.refused_at_stage.as_ref());
        let late = self.rejections(options.refused_at_publish.as_ref());
        let objects = self.group();
        let mut token = None;
        if options.recovery == Recovery::RollForward {
            let mut uploads = Vec::new();
            for (route, rows) in &objects {
                uploads.extend(self.load(route, rows).await?);
            }
            if let Some(before) = self.staged.take().and_then(|staged| staged.token) {
                self.sink.store.drop_staged(before);
            }
            token = Some(self.sink.store.stage(uploads));
        }
        self.staged = Some(Stage {
            objects,
            rejected: late,
            token,
        });
        let token = token.map_or_else(Bytes::new, |token| Bytes::copy_from_slice(&token.to_le_bytes()));
        Ok(Staged { token, rejected })
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        if self.sink.options.recovery == Recovery::AfterDurable {
            let rejected = self.write_through().await?;
            return Ok(Published {
                rejected,
                ..self.published.clone()
            });
        }
        let Some(staged) = &self.staged else {
            return Err(StageError::fatal("publish", "the segment was not staged"));
        };
        let mut published = Published {
            objects: Vec::new(),
            rejected: staged.rejected.clone(),
        };
        for (route, rows) in &staged.objects {
            if let Some(object) = self.load(route, rows).await? {
                published.objects.push(self.sink.store.create(object).await?);
            }
        }
        if let Some(token) = staged.token {
            self.sink.store.drop_staged(token);
        }
        Ok(published)
    }

    async fn abandon(&mut self) {
        if let Some(token) = self.staged.take().and_then(|staged| staged.token) {
            self.sink.store.drop_staged(token);
        }
        self.buffer.clear();
        self.rows.clear();
    }

    fn encoded_bytes(&self) -> u64 {
        self.encoded
    }
}

#[cfg(test)]
mod tests;
