//! The writer of one segment: rows to scratch while it fills, streams at the cut, visible in one call for each table.
//!
//! ```text
//! append    encode                                                          row/
//! spill     one block for each table                                        spool.rs
//! stage     create a pending stream for each table, append, finalize        stage.rs      nothing is visible
//!           the token names the streams                                     token.rs
//! publish   commit each table's stream                                      publish.rs
//! begin     with an intent: what became of its streams                      recover.rs
//! ```

mod publish;
mod recover;
mod spool;
mod stage;
mod token;

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_core::{
    Envelope, Failpoint, OffsetRange, Poison, PoisonReason, Pool, Published, Rejected, RoutePath,
    SegmentStart, SegmentWriter, StageError, Staged, StructuredValue,
};
use async_trait::async_trait;

pub(crate) use self::publish::commit;
pub(crate) use self::recover::{Recovered, recover};
use self::spool::{Pending, Spool};
use self::stage::Progress;
pub(crate) use self::token::Entry;
use self::token::Refused;
pub(crate) use self::token::{Defaults, ROUTES_MAX, name_length, name_max};
use crate::columns::{TableEncoder, TableLayout};
use crate::name::TableName;
use crate::row::{Identity, Workspace};
use crate::sink::Parts;

/// The largest row, in bytes: what a request of the smallest documented limit, 10 MB, has room for.
pub(crate) const ROW_MAX: usize = 9_000_000;

/// See the module.
pub(crate) struct TableWriter {
    parts: Arc<Parts>,
    defaults: Defaults,
    opened_at_ms: i64,
    memory: Pool,
    spool: Spool,
    workspace: Workspace,
    tables: Vec<TableRows>,
    /// Of tables that were asked for their columns.
    layouts: HashMap<TableName, TableLayout>,
    /// By the numbers of routes: places in `tables`.
    by_route: Vec<usize>,
    encoded_bytes: u64,
    /// The largest row, in bytes.
    row_max: usize,
    /// What a former owner's intent says, if there is one.
    pinned: Option<Pinned>,
    staged: Option<Staged>,
    published: Option<Published>,
}

/// The rows of one table.
struct TableRows {
    name: TableName,
    encoder: TableEncoder,
    pending: Pending,
    progress: Progress,
}

/// A former owner's intent whose segment has to be written again, at least in part.
#[derive(Debug)]
pub(crate) struct Pinned {
    refused: Refused,
    tables: Vec<PinnedTable>,
}

#[derive(Debug)]
struct PinnedTable {
    entry: Entry,
    /// Its rows are visible and must not be written again.
    is_there: bool,
}

impl TableWriter {
    pub(crate) fn new(
        parts: Arc<Parts>,
        defaults: Defaults,
        at: SegmentStart,
        pinned: Option<Pinned>,
    ) -> Self {
        Self {
            parts,
            defaults,
            opened_at_ms: at.opened_at_ms,
            memory: at.memory,
            spool: Spool::new(at.scratch),
            workspace: Workspace::default(),
            tables: Vec::new(),
            layouts: HashMap::new(),
            by_route: Vec::new(),
            encoded_bytes: 0,
            row_max: 0,
            pinned,
            staged: None,
            published: None,
        }
    }

    /// The table of a route that is new to the segment.
    fn table_of(&self, path: &str) -> Result<TableName, Poison> {
        let refuse = |problem: String| Poison::new(PoisonReason::InvalidRoute, problem);
        let name = if path.is_empty() {
            self.defaults.table.clone()
        } else {
            self.parts
                .destinations
                .of_route(path)
                .map_err(|error| refuse(format!("the route is no table: {error}")))?
        };
        let (length, max) = (name_length(&name, &self.defaults), name_max(self.parts.options.routes_max));
        if length > max {
            let problem =
                format!("the table's name has {length} bytes, with this routes_max {max} are the most");
            return Err(refuse(problem));
        }
        Ok(name)
    }

    /// The table of a route that is new to the segment, and how its rows are encoded; nothing is kept of it yet.
    fn resolve(&self, path: &str) -> Result<(TableName, TableEncoder), Poison> {
        let name = self.table_of(path)?;
        let layout = self.parts.columns.declared(&name).or_else(|| self.layouts.get(&name).cloned());
        let layout = layout.ok_or_else(|| {
            Poison::new(PoisonReason::InvalidRoute, format!("no columns are declared for table {name}"))
        })?;
        Ok((name, TableEncoder::new(layout)))
    }
}

#[async_trait]
impl<T: StructuredValue + Send + 'static> SegmentWriter<T> for TableWriter {
    async fn open_route(&mut self, path: &RoutePath) -> Result<(), StageError> {
        // A route that is no table is the poison of its records.
        let Ok(name) = self.table_of(path.as_str()) else { return Ok(()) };
        if self.layouts.contains_key(&name) {
            return Ok(());
        }
        let layout = self.parts.columns.ask(&self.parts.tables, &name).await;
        if let Some(layout) = layout.map_err(|error| StageError::new("open route", error))? {
            self.layouts.insert(name, layout);
        }
        Ok(())
    }

    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        let Envelope { record, route, path, value } = envelope;
        let mut fresh = None;
        let place = if let Some(place) = self.by_route.get(route.index()) {
            *place
        } else {
            let (name, encoder) = self.resolve(path.as_str())?;
            let known = self.tables.iter().position(|table| table.name == name);
            known.unwrap_or_else(|| {
                let (pending, progress) = (Pending::default(), Progress::default());
                fresh = Some(TableRows { name, encoder, pending, progress });
                self.tables.len()
            })
        };
        let Some(table) = fresh.as_mut().or_else(|| self.tables.get_mut(place)) else {
            return Err(Poison::new(PoisonReason::InvalidRoute, "the route has no table"));
        };
        let offset = record.offset().get();
        let lane = record.lane();
        let identity = Identity {
            topic: lane.topic(),
            partition: lane.partition(),
            offset,
            timestamp: record.timestamp(),
            key: record.key(),
            opened_at_ms: self.opened_at_ms,
        };
        let plan = table.encoder.plan(&value)?;
        let (start, out) = table.pending.begin_row();
        let row_start = out.len();
        let encoded = plan.encode(&value, identity, &mut self.workspace, out).and_then(|()| {
            match out.len() - row_start {
                length if length > ROW_MAX => {
                    let detail = format!("a row of {length} bytes, {ROW_MAX} are the most");
                    Err(Poison::new(PoisonReason::TooLarge, detail))
                }
                _ => Ok(()),
            }
        });
        if let Err(poison) = encoded {
            table.pending.give_up_row(start);
            return Err(poison);
        }
        table.encoder.encoded();
        let length = table.pending.end_row(start, offset);
        self.encoded_bytes += length as u64;
        self.row_max = self.row_max.max(length);
        if let Some(table) = fresh {
            self.tables.push(table);
        }
        // A route whose first record was refused comes again with its number.
        if self.by_route.len() == route.index() {
            self.by_route.push(place);
        }
        Ok(())
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        let pending = (0..).zip(self.tables.iter_mut().map(|table| &mut table.pending));
        self.spool.write(pending).await?;
        Ok(Vec::new())
    }

    async fn stage(&mut self, range: OffsetRange) -> Result<Staged, StageError> {
        if let Some(staged) = &self.staged {
            return Ok(Staged { token: staged.token.clone(), rejected: staged.rejected.clone() });
        }
        SegmentWriter::<T>::spill(self).await?;
        let staged = self.stage_tables(range).await?;
        self.staged = Some(Staged { token: staged.token.clone(), rejected: staged.rejected.clone() });
        Ok(staged)
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        if let Some(published) = &self.published {
            return Ok(published.clone());
        }
        let published = self.publish_tables().await?;
        self.published = Some(published.clone());
        Failpoint::CleanBefore.reach();
        self.spool.discard().await;
        Ok(published)
    }

    async fn abandon(&mut self) {
        // Pending streams cannot be deleted; nobody sees them, and the service removes them in time.
        self.spool.discard().await;
    }

    fn encoded_bytes(&self) -> u64 {
        self.encoded_bytes
    }
}
