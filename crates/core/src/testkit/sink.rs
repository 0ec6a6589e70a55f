//! A two-phase sink into a [`MemoryStore`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use writer::MemoryWriter;

use super::store::MemoryStore;
use crate::error::{Poison, StageError};
use crate::fingerprint::Fingerprint;
use crate::record::Offset;
use crate::row::{BytesRow, JsonRow};
use crate::sink::{Begun, Published, SegmentStart, Sink, SinkCapabilities};

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

    /// Refuses rows of more bytes in `append` ([`PoisonReason::TooLarge`](crate::PoisonReason::TooLarge)).
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

    /// Refuses these rows at the cut, in [`Staged::rejected`](crate::Staged::rejected); an after-durable sink refuses them in `spill`.
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
        Self { store: self.store.clone(), encode: Arc::clone(&self.encode), options: self.options.clone() }
    }
}

impl<T> fmt::Debug for MemorySink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySink").field("recovery", &self.options.recovery).finish_non_exhaustive()
    }
}

#[async_trait]
impl<T: Send + 'static> Sink<T> for MemorySink<T> {
    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
        if let Some(token) = at.pinned.as_ref().and_then(|pinned| pinned.token.as_ref().try_into().ok())
            && let Some(published) = self.roll_forward(u64::from_le_bytes(token)).await?
        {
            return Ok(Begun::AlreadyPublished(published));
        }
        let file = at.scratch.create().map_err(|error| StageError::spool("create scratch file", error))?;
        Ok(Begun::Fill(Box::new(MemoryWriter::new(self.clone(), at, file))))
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

mod writer;
