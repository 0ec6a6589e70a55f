//! Rows on their way to the spool, and the objects they make.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aqueduct_core::{Offset, RouteId};
use bytes::Bytes;

use super::index::IndexTail;
use crate::checksum::Crc;
use crate::format::{FRAME, FileOutline, frame};

/// What is around each row in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// This follows it: what is spooled is what is stored.
    Terminator(Bytes),
    /// Its length is in front of it, for the format that builds a file of it.
    Length,
}

impl Framing {
    /// Bytes it adds to a row.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Terminator(terminator) => terminator.len(),
            Self::Length => FRAME,
        }
    }

    fn put(&self, row: &[u8], block: &mut Vec<u8>) {
        match self {
            Self::Terminator(terminator) => {
                block.extend_from_slice(row);
                block.extend_from_slice(terminator);
            }
            Self::Length => frame(row, block),
        }
    }
}

/// One object of a segment. A fixed size, however many rows it has.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) route: u32,
    pub(super) shape: u32,
    pub(super) first: Offset,
    pub(super) last: Offset,
    pub(super) rows: u64,
    /// Bytes of the rows as they are framed.
    pub(super) bytes: u64,
    /// Of the largest of them.
    pub(super) row_max: u32,
    /// Runs in the index, at most.
    pub(super) runs: u32,
    /// Checksum of those, as far as they are in a block.
    pub(super) crc: Crc,
    /// The object's rows in the batch at hand: a list through [`Workspace::rows`], empty if `head` is `NONE`.
    head: u32,
    tail: u32,
}

impl Object {
    fn new(route: u32, shape: u32, first: Offset) -> Self {
        Self {
            route,
            shape,
            first,
            last: first,
            rows: 0,
            bytes: 0,
            row_max: 0,
            runs: 0,
            crc: Crc::EMPTY,
            head: NONE,
            tail: NONE,
        }
    }

    /// What a format is told of the file.
    pub(super) fn outline(&self) -> FileOutline {
        let row_max = usize::try_from(self.row_max).unwrap_or(usize::MAX);
        FileOutline::new(self.shape, self.rows, self.bytes, row_max)
    }
}

/// A route, and its object that still grows: the one of the shape its last row had.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) path: Box<str>,
    shape: u32,
    open: u32,
}

const NONE: u32 = u32::MAX;

/// Objects of a segment and rows of a batch are counted in 32 bits.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NONE)
}

/// The objects of one segment, numbered in order of their first row. Where a record has rows in several streams, each object is
/// followed by those of the other streams with the same records: of `n` streams, object `id` is of stream `id % n`.
#[derive(Debug)]
pub(super) struct Objects {
    streams: u32,
    routes: Vec<Option<Route>>,
    /// Objects that still grow and are not their route's [`open`](Route::open) one, by route and shape.
    aside: HashMap<(u32, u32), u32>,
    all: Vec<Object>,
    target_bytes: u64,
    bytes: u64,
}

impl Objects {
    pub(super) fn new(streams: usize, target_bytes: u64) -> Self {
        let (routes, aside, all) = (Vec::new(), HashMap::new(), Vec::new());
        Self { streams: number(streams), routes, aside, all, target_bytes, bytes: 0 }
    }

    pub(super) fn knows(&self, route: RouteId) -> bool {
        matches!(self.routes.get(route.index()), Some(Some(_)))
    }

    pub(super) fn add_route(&mut self, route: RouteId, path: &str) {
        if self.routes.len() <= route.index() {
            self.routes.resize(route.index() + 1, None);
        }
        if let Some(slot) = self.routes.get_mut(route.index()) {
            *slot = Some(Route { path: path.into(), shape: 0, open: NONE });
        }
    }

    /// Puts the rows of the next record, from number `first` of the workspace on and one for each stream, into their objects:
    /// the open ones of their route and shape, or new ones if one of those would get larger than an object should be. Only the
    /// rows decide, so a replay cuts at the same record, however the records are batched.
    pub(super) fn push(
        &mut self,
        (route, shape): (RouteId, u32),
        offset: Offset,
        first: usize,
        workspace: &mut Workspace,
    ) {
        let Some(Some(known)) = self.routes.get_mut(route.index()) else {
            return;
        };
        let route = number(route.index());
        if known.shape != shape {
            if known.open != NONE {
                self.aside.insert((route, known.shape), known.open);
            }
            (known.shape, known.open) = (shape, self.aside.remove(&(route, shape)).unwrap_or(NONE));
        }
        let Self { all, streams, target_bytes, .. } = self;
        let fits = |stream: u32| {
            let open = all.get(known.open.saturating_add(stream) as usize)?;
            let row = workspace.rows.get(first + stream as usize)?;
            Some(open.bytes == 0 || open.bytes + u64::from(row.length) <= *target_bytes)
        };
        if !(0..*streams).all(|stream| fits(stream) == Some(true)) {
            known.open = number(all.len());
            all.extend((0..*streams).map(|_| Object::new(route, shape, offset)));
        }
        let rows = number(first);
        for (id, index) in (known.open..).zip(rows..).take(*streams as usize) {
            self.link(id, index, offset, workspace);
        }
    }

    /// Appends a row of the workspace to an object.
    fn link(&mut self, id: u32, index: u32, offset: Offset, workspace: &mut Workspace) {
        let Workspace { rows, touched, .. } = workspace;
        let (Some(object), Some(row)) = (self.all.get_mut(id as usize), rows.get(index as usize)) else {
            return;
        };
        let length = u64::from(row.length);
        object.last = offset;
        object.rows += 1;
        object.bytes += length;
        object.row_max = object.row_max.max(row.length);
        self.bytes += length;
        if object.head == NONE {
            object.head = index;
            touched.push(id);
        } else if let Some(tail) = rows.get_mut(object.tail as usize) {
            tail.next = index;
        }
        object.tail = index;
    }

    /// Moves the rows of the batch into one block, each object's together, in order of the objects, framed as its stream
    /// says. `position` is where the block will lie in the spool.
    pub(super) fn build_block<'a>(
        &mut self,
        workspace: &mut Workspace,
        framing: impl Fn(u32) -> Option<&'a Framing>,
        position: u64,
        index: &mut IndexTail,
    ) {
        let Workspace { rows, touched, scratch, block } = workspace;
        // Ascending already where the rows came in order, which costs one look.
        touched.sort_unstable();
        block.reserve_exact(rows.iter().map(|pending| pending.length as usize).sum());
        for &id in touched.iter() {
            let (Some(object), Some(framing)) = (self.all.get_mut(id as usize), framing(id % self.streams))
            else {
                continue;
            };
            let start = block.len();
            let mut next = object.head;
            while let Some(pending) = rows.get(next as usize) {
                let row = match &pending.row {
                    PendingBytes::Shared(bytes) => bytes,
                    PendingBytes::Scratch { start, end } => scratch.get(*start..*end).unwrap_or_default(),
                };
                framing.put(row, block);
                next = pending.next;
            }
            (object.head, object.tail) = (NONE, NONE);
            let run = block.get(start..).unwrap_or_default();
            object.crc.update(run);
            object.runs = object.runs.saturating_add(1);
            index.push(id, position + start as u64, run.len() as u64);
        }
        rows.clear();
        touched.clear();
        scratch.clear();
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands routes and objects over; the number of bytes stays.
    pub(super) fn take(&mut self) -> (Vec<Option<Route>>, Vec<Object>) {
        self.aside = HashMap::new();
        (std::mem::take(&mut self.routes), std::mem::take(&mut self.all))
    }
}

/// The buffers a writer needs between the first row of a batch and its place on disk. They are shared by the lanes of
/// a sink: a lane that waits for records holds none.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    rows: Vec<PendingRow>,
    /// The objects with rows in this batch, in order of their first one.
    touched: Vec<u32>,
    /// Rows that had to be encoded.
    pub(super) scratch: Vec<u8>,
    /// The rows in their final order.
    pub(super) block: Vec<u8>,
}

#[derive(Debug)]
struct PendingRow {
    row: PendingBytes,
    /// With what is around it.
    length: u32,
    next: u32,
}

/// Where a row waits for its block.
#[derive(Debug)]
pub(super) enum PendingBytes {
    /// In the batch's arena, or wherever the format found it.
    Shared(Bytes),
    /// In [`Workspace::scratch`].
    Scratch { start: usize, end: usize },
}

impl Workspace {
    /// Adds a row whose length in the spool is `length`; it belongs to no object yet.
    pub(super) fn push(&mut self, row: PendingBytes, length: usize) {
        self.rows.push(PendingRow { row, length: number(length), next: NONE });
    }

    /// How much is in it: for [`rewind`](Self::rewind).
    pub(super) fn mark(&self) -> Mark {
        Mark { rows: self.rows.len(), scratch: self.scratch.len() }
    }

    /// Forgets what was added since the mark.
    pub(super) fn rewind(&mut self, mark: Mark) {
        self.rows.truncate(mark.rows);
        self.scratch.truncate(mark.scratch);
    }

    /// Moves the last row before the others since the mark.
    pub(super) fn last_first(&mut self, mark: Mark) {
        if let Some(rows) = self.rows.get_mut(mark.rows..)
            && rows.len() > 1
        {
            rows.rotate_right(1);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// See [`Workspace::mark`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) rows: usize,
    scratch: usize,
}

/// Buffers that are between two batches, of any lane.
#[derive(Debug, Default)]
pub(crate) struct Workspaces {
    idle: Mutex<Vec<Workspace>>,
}

impl Workspaces {
    /// Buffers kept for the next batch; more than threads that fill bring nothing.
    const IDLE_MAX: usize = 4;
    /// Larger ones are given back to the system: one huge batch must not be paid for ever. Those of batches of 2 MiB are kept,
    /// also where rows are longer than records, as JSON made of Avro is: making them anew costs a page fault for every 4 KiB
    /// and copies rows while they grow.
    const BYTES_MAX: usize = 8 << 20;

    pub(super) fn take(&self) -> Workspace {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// `workspace` holds no row any more.
    pub(super) fn give_back(&self, mut workspace: Workspace) {
        let bytes = workspace.block.capacity()
            + workspace.scratch.capacity()
            + workspace.rows.capacity() * size_of::<PendingRow>();
        if bytes > Self::BYTES_MAX {
            return;
        }
        workspace.block.clear();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < Self::IDLE_MAX {
            idle.push(workspace);
        }
    }
}
