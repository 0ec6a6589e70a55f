//! The simple way to write a sink: one method.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::dead_letter::Rejected;
use crate::error::{Poison, StageError};
use crate::fingerprint::Fingerprint;
use crate::partition::RouteId;
use crate::record::{Offset, OffsetRange, Timestamp, TopicPartition};
use crate::sink::{
    Begun, CommitStyle, Envelope, Published, SegmentStart, SegmentWriter, Sink, SinkCapabilities, Staged,
};

/// Writes rows to a target that has no phases: an HTTP endpoint, a queue, a database.
///
/// # Contract
/// - [`write`](Self::write) gets the rows of one batch of one partition, in offset order, and returns when they are
///   durable. It may be called again with the same rows after an error, and after a crash, so delivery is at least
///   once, unless the target knows a row by its (topic, partition, offset) and stores it once: then say so with
///   [`idempotent_by_offset`](Self::idempotent_by_offset), and the pipeline is exactly-once.
/// - Lanes call it at the same time, each for its own partition.
///
/// # Errors
/// An outage is a `Retry`: the lane calls again with the same rows and its source slows down. Rows the target refuses
/// for good are returned, and go where the pipeline's poison policy says.
///
/// ```
/// use aqueduct_core::{BatchSink, Rejected, RowBatch, StageError};
///
/// /// Prints rows.
/// struct Print;
///
/// #[async_trait::async_trait]
/// impl BatchSink<String> for Print {
///     fn name(&self) -> &'static str {
///         "print/1"
///     }
///
///     async fn write(&self, batch: RowBatch<'_, String>) -> Result<Vec<Rejected>, StageError> {
///         for row in batch.rows {
///             println!("{}@{}: {}", batch.lane, row.offset, row.value);
///         }
///         Ok(Vec::new())
///     }
/// }
/// ```
///
/// Give it to [`Builder::sink`](crate::Builder::sink) as [`Batched::new`]`(Print)`.
#[async_trait]
pub trait BatchSink<T: Send + Sync + 'static>: Send + Sync + 'static {
    /// The sink's name with a version, part of the layout's identity.
    fn name(&self) -> &'static str;

    /// Checks the target once, before any record is read. The default does nothing.
    async fn check(&self) -> Result<(), StageError> {
        Ok(())
    }

    /// Writes the rows and returns those the target refused.
    async fn write(&self, batch: RowBatch<'_, T>) -> Result<Vec<Rejected>, StageError>;

    /// Whether writing the same row again changes nothing.
    fn idempotent_by_offset(&self) -> bool {
        false
    }
}

/// Rows of one partition, in offset order.
#[derive(Debug)]
pub struct RowBatch<'a, T> {
    /// The partition.
    pub lane: &'a TopicPartition,
    /// The rows; never empty.
    pub rows: &'a [Row<T>],
}

/// A converted record with its identity.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// The record's position in its partition.
    pub offset: Offset,
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The route the partitioner chose.
    pub route: Arc<str>,
    /// The converted value.
    pub value: T,
}

/// Makes a [`Sink`] of a [`BatchSink`].
#[derive(Debug)]
pub struct Batched<B>(Arc<B>);

impl<B> Batched<B> {
    /// Wraps the sink.
    pub fn new(sink: B) -> Self {
        Self(Arc::new(sink))
    }
}

#[async_trait]
impl<T: Send + Sync + 'static, B: BatchSink<T>> Sink<T> for Batched<B> {
    async fn check(&self) -> Result<(), StageError> {
        self.0.check().await
    }

    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
        Ok(Begun::Fill(Box::new(BatchWriter {
            sink: Arc::clone(&self.0),
            lane: at.lane,
            rows: Vec::new(),
            routes: Vec::new(),
            bytes: 0,
        })))
    }

    fn capabilities(&self) -> SinkCapabilities {
        let mut capabilities = SinkCapabilities::after_durable();
        capabilities.idempotent = self.0.idempotent_by_offset();
        debug_assert_eq!(capabilities.commit, CommitStyle::AfterDurable);
        capabilities
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("sink", self.0.name());
    }
}

struct BatchWriter<T, B> {
    sink: Arc<B>,
    lane: TopicPartition,
    rows: Vec<Row<T>>,
    routes: Vec<Arc<str>>,
    bytes: u64,
}

impl<T, B> BatchWriter<T, B> {
    fn route(&mut self, route: RouteId, path: &str) -> Arc<str> {
        match self.routes.get(route.index()) {
            Some(known) if **known == *path => Arc::clone(known),
            // Numbers come in order of first use; one whose first record was refused comes again with another path.
            _ => {
                let text: Arc<str> = path.into();
                self.routes.truncate(route.index());
                self.routes.push(Arc::clone(&text));
                text
            }
        }
    }
}

#[async_trait]
impl<T: Send + Sync + 'static, B: BatchSink<T>> SegmentWriter<T> for BatchWriter<T, B> {
    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        let Envelope { record, route, path, value } = envelope;
        let route = self.route(route, path.as_str());
        self.bytes += record.size() as u64;
        self.rows.push(Row {
            offset: record.offset(),
            timestamp: record.timestamp(),
            key: record.key_bytes(),
            route,
            value,
        });
        Ok(())
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let rejected = self.sink.write(RowBatch { lane: &self.lane, rows: &self.rows }).await?;
        self.rows.clear();
        Ok(rejected)
    }

    async fn stage(&mut self, _range: OffsetRange) -> Result<Staged, StageError> {
        Ok(Staged::default())
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        Ok(Published::default())
    }

    async fn abandon(&mut self) {
        self.rows.clear();
    }

    fn encoded_bytes(&self) -> u64 {
        self.bytes
    }
}
