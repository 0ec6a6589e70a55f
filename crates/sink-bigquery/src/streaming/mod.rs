//! At least once: rows go to the default streams of their tables while the segment fills, and wait in memory until they are there.
//!
//! ```text
//! append    encode into the table's chunk                              plan.rs, chunk.rs
//! spill     pay for chunks and hand them over                          mod.rs ─▶ inbox of the connection
//!           send, many at a time; again after failures                 appender.rs, backlog.rs
//! tick      what went wrong meanwhile                                  ledger.rs
//! stage     nothing but the last spill
//! publish   wait until every row is acknowledged or refused
//! ```
//!
//! Memory: a chunk is paid for from the publish pool before it is handed over, twice its rows, and until they are acknowledged. A
//! connection needs nothing of the pool to get on, so nobody waits for memory that waits for him. Between two spills a writer
//! holds the rows of one batch, which the fill pool pays for as the batch.

mod appender;
mod backlog;
mod chunk;
mod ledger;
mod metrics;
mod plan;
mod progress;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct_core::{
    Envelope, OffsetRange, Permit, Poison, Pool, Published, Rejected, RoutePath, SegmentStart, SegmentWriter,
    StageError, Staged, StructuredValue, TopicPartition,
};
use async_trait::async_trait;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use self::appender::Appender;
use self::backlog::Piece;
use self::chunk::Chunk;
use self::ledger::Ledger;
pub use self::metrics::metrics_reference;
use self::plan::{Encoder, Target};
use self::progress::Progress;
use crate::name::TableName;
use crate::route_tables::{OfTable, RouteTables};
use crate::row::Workspace;
use crate::sink::Parts;
use crate::writer::Defaults;

/// The connections of a sink, each with a task of its own.
#[derive(Debug, Default)]
pub(crate) struct Appenders {
    inboxes: Mutex<HashMap<Key, UnboundedSender<Piece>>>,
    lanes: Mutex<HashMap<TopicPartition, Arc<Progress>>>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    table: TableName,
    /// The type of its rows.
    rows: Arc<[u8]>,
    /// Lanes share a connection of a table by their partition.
    slot: usize,
}

impl Appenders {
    /// Hands a piece over to the connection, whose task is started if there is none.
    #[expect(
        clippy::disallowed_methods,
        reason = "every piece holds a KiB of the publish pool at least, which is the bound"
    )]
    fn hand_over(&self, parts: &Arc<Parts>, target: &Arc<Target>, slot: usize, piece: Piece) {
        let key = Key { table: target.table.clone(), rows: Arc::clone(&target.identity), slot };
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let piece = match inboxes.get(&key) {
            None => piece,
            Some(inbox) => match inbox.send(piece) {
                Ok(()) => return,
                Err(back) => back.0,
            },
        };
        let (inbox, receiver) = unbounded_channel();
        inbox.send(piece).ok();
        tokio::spawn(Appender::new(parts, key.clone(), Arc::clone(target), receiver).run());
        inboxes.insert(key, inbox);
    }

    /// Removes a connection whose task wants to end, unless there is something for it to do.
    fn retire(&self, key: &Key, is_idle: impl FnOnce() -> bool) -> bool {
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = is_idle();
        if ends {
            inboxes.remove(key);
        }
        ends
    }

    fn progress(&self, dataset: &str, lane: &TopicPartition) -> Arc<Progress> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(lane.clone()).or_insert_with(|| Progress::new(dataset, lane)))
    }
}

/// See the module.
pub(crate) struct StreamWriter {
    parts: Arc<Parts>,
    defaults: Defaults,
    slot: usize,
    opened_at_ms: i64,
    memory: Pool,
    workspace: Workspace,
    tables: RouteTables<Rows>,
    /// Chunks that are to be handed over.
    ready: VecDeque<Ready>,
    ledger: Arc<Ledger>,
    encoded_bytes: u64,
    published: Option<Published>,
}

/// The rows of one table that were not handed over.
struct Rows {
    encoder: Encoder,
    chunk: Chunk,
    /// The table's number in the ledger.
    number: usize,
}

struct Ready {
    target: Arc<Target>,
    number: usize,
    chunk: Chunk,
}

impl OfTable for Rows {
    fn table(&self) -> &TableName {
        &self.encoder.table
    }
}

impl Rows {
    /// What is to be handed over; `left` stays.
    fn close(&mut self, left: Chunk) -> Ready {
        let chunk = std::mem::replace(&mut self.chunk, left);
        Ready { target: self.encoder.target(), number: self.number, chunk }
    }
}

impl StreamWriter {
    pub(crate) fn new(parts: Arc<Parts>, defaults: Defaults, at: SegmentStart) -> Self {
        let progress = parts.appenders.progress(&parts.dataset(), &at.lane);
        let slot = usize::try_from(at.lane.partition()).unwrap_or(0) % parts.options.connections.max(1);
        Self {
            parts,
            defaults,
            slot,
            opened_at_ms: at.opened_at_ms,
            memory: at.memory,
            workspace: Workspace::default(),
            tables: RouteTables::new(),
            ready: VecDeque::new(),
            ledger: Arc::new(Ledger::new(progress)),
            encoded_bytes: 0,
            published: None,
        }
    }

    /// Everything that was appended is ready to be handed over, in requests of their size.
    fn close_chunks(&mut self) {
        for rows in self.tables.rows.iter_mut().filter(|rows| !rows.chunk.is_empty()) {
            self.ready.push_back(rows.close(Chunk::default()));
        }
    }

    /// Takes memory, unless something goes wrong meanwhile.
    async fn paid(&self, bytes: u64) -> Result<Permit, StageError> {
        let mut acquiring = std::pin::pin!(self.memory.acquire(bytes));
        loop {
            tokio::select! {
                biased;
                permit = &mut acquiring => return Ok(permit),
                () = self.ledger.changed() => self.ledger.look()?,
            };
        }
    }

    async fn hand_over(&mut self) -> Result<(), StageError> {
        self.close_chunks();
        while let Some(Ready { chunk, .. }) = self.ready.front() {
            self.ledger.look()?;
            let permit = self.paid(chunk.memory()).await?;
            // Only now, so that a dropped future loses no row.
            let Some(Ready { target, number, chunk }) = self.ready.pop_front() else { break };
            let piece = Piece::new(chunk, number, Arc::clone(&self.ledger), permit);
            self.parts.appenders.hand_over(&self.parts, &target, self.slot, piece);
        }
        Ok(())
    }
}

#[async_trait]
impl<T: StructuredValue + Send + 'static> SegmentWriter<T> for StreamWriter {
    async fn open_route(&mut self, path: &RoutePath) -> Result<(), StageError> {
        let table = self.parts.destinations.of_record(path.as_str(), &self.defaults.table);
        self.tables.open(&self.parts, table).await
    }

    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        let (columns, destinations) = (&self.parts.columns, &self.parts.destinations);
        let mut place = self.tables.place(
            envelope.route,
            columns,
            || destinations.of_record(envelope.path.as_str(), &self.defaults.table),
            |table, layout| {
                let changes = columns.changes(&table);
                Rows { encoder: Encoder::new(table, layout, changes), chunk: Chunk::default(), number: 0 }
            },
        )?;
        let rows = self.tables.at(&mut place)?;
        let before = rows.chunk.bytes();
        let (encoder, workspace, opened_at_ms) = (&mut rows.encoder, &mut self.workspace, self.opened_at_ms);
        rows.chunk.push(envelope.record.offset().get(), |out| {
            encoder.encode(&envelope, opened_at_ms, workspace, out)
        })?;
        self.encoded_bytes += rows.chunk.bytes() - before;
        if rows.chunk.len() > 1 && rows.chunk.cost() > self.parts.options.append_bytes {
            let last = rows.chunk.split_last();
            self.ready.push_back(rows.close(last));
        }
        if let Some(rows) = place.fresh_mut() {
            rows.number = self.ledger.add_table(rows.encoder.table.clone());
        }
        self.tables.keep(place);
        Ok(())
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        self.hand_over().await?;
        self.ledger.look()?;
        // What is refused is known only later, and then told by `publish`.
        Ok(Vec::new())
    }

    async fn tick(&mut self) -> Result<(), StageError> {
        self.ledger.look().map(drop)
    }

    async fn stage(&mut self, _: OffsetRange) -> Result<Staged, StageError> {
        self.hand_over().await?;
        Ok(Staged::default())
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        if let Some(published) = &self.published {
            return Ok(published.clone());
        }
        self.hand_over().await?;
        while !self.ledger.look()? {
            self.ledger.changed().await;
        }
        let published = self.ledger.published();
        self.published = Some(published.clone());
        Ok(published)
    }

    async fn abandon(&mut self) {
        // What is under way may be written: at least once allows that.
        self.ready.clear();
        self.ledger.abandon();
    }

    fn encoded_bytes(&self) -> u64 {
        self.encoded_bytes
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.ledger.abandon();
    }
}
