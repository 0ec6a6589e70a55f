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
use crate::columns::TableEncoder;
use crate::name::TableName;
use crate::route_tables::{OfTable, RouteTables};
use crate::row::{Identity, Workspace};
use crate::sink::Parts;

/// The largest row, in bytes: what a request of the smallest documented limit, 10 MB, has room for.
pub(crate) const ROW_MAX: usize = 9_000_000;

/// A row that no request has room for is a poison.
pub(crate) fn check_length(length: usize) -> Result<(), Poison> {
    if length > ROW_MAX {
        let detail = format!("a row of {length} bytes, {ROW_MAX} are the most");
        return Err(Poison::new(PoisonReason::TooLarge, detail));
    }
    Ok(())
}

/// See the module.
pub(crate) struct TableWriter {
    parts: Arc<Parts>,
    defaults: Defaults,
    opened_at_ms: i64,
    memory: Pool,
    spool: Spool,
    workspace: Workspace,
    tables: RouteTables<TableRows>,
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

impl OfTable for TableRows {
    fn table(&self) -> &TableName {
        &self.name
    }
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
            tables: RouteTables::new(),
            encoded_bytes: 0,
            row_max: 0,
            pinned,
            staged: None,
            published: None,
        }
    }

    /// The table of a route that is new to the segment, if the token has room for its name.
    fn table_of(parts: &Parts, defaults: &Defaults, path: &str) -> Result<TableName, Poison> {
        let name = parts.destinations.of_record(path, &defaults.table)?;
        let (length, max) = (name_length(&name, defaults), name_max(parts.options.routes_max));
        if length > max {
            let problem =
                format!("the table's name has {length} bytes, with this routes_max {max} are the most");
            return Err(Poison::new(PoisonReason::InvalidRoute, problem));
        }
        Ok(name)
    }
}

#[async_trait]
impl<T: StructuredValue + Send + 'static> SegmentWriter<T> for TableWriter {
    async fn open_route(&mut self, path: &RoutePath) -> Result<(), StageError> {
        let table = Self::table_of(&self.parts, &self.defaults, path.as_str());
        self.tables.open(&self.parts, table).await
    }

    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        let Envelope { record, route, path, value } = envelope;
        let (parts, defaults) = (&self.parts, &self.defaults);
        let mut place = self.tables.place(
            route,
            &parts.columns,
            || Self::table_of(parts, defaults, path.as_str()),
            |name, layout| TableRows {
                name,
                encoder: TableEncoder::new(layout),
                pending: Pending::default(),
                progress: Progress::default(),
            },
        )?;
        let table = self.tables.at(&mut place)?;
        let identity = Identity::of(record, self.opened_at_ms);
        let plan = table.encoder.plan(&value)?;
        let (start, out) = table.pending.begin_row();
        let row_start = out.len();
        let encoded = plan
            .encode(&value, identity, &mut self.workspace, out)
            .and_then(|()| check_length(out.len() - row_start));
        if let Err(poison) = encoded {
            table.pending.give_up_row(start);
            return Err(poison);
        }
        table.encoder.encoded();
        let length = table.pending.end_row(start, record.offset().get());
        self.encoded_bytes += length as u64;
        self.row_max = self.row_max.max(length);
        self.tables.keep(place);
        Ok(())
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        let pending = (0..).zip(self.tables.rows.iter_mut().map(|table| &mut table.pending));
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
