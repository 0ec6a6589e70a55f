//! Rows on scratch disk, between their encoding and their stream.
//!
//! ```text
//! block   table u32 | rows u32 | length u64 | xxh3 u64     then its rows: (length u32 | offset i64 | protobuf)…
//! ```
//!
//! One file for all tables of a segment, one block for each table and batch. Reading a table skips the blocks of the others by
//! their heads: no index is kept, so nothing in memory grows with the segment.

use std::io;

use aqueduct_core::{Class, Classify, Scratch, ScratchFile, StageError};
use xxhash_rust::xxh3::xxh3_64;

const HEAD: usize = 24;
const ROW_HEAD: usize = 12;
/// A block is closed once it has this many bytes; so a table's rows are read back in pieces of about this size.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// What cannot be read back must not be sent.
#[derive(Debug, thiserror::Error)]
#[error("the spool holds other bytes than were written ({problem})")]
pub(super) struct Damaged {
    problem: &'static str,
}

impl Classify for Damaged {
    fn class(&self) -> Class {
        Class::Fatal
    }

    fn hint(&self) -> Option<String> {
        Some(
            "nothing was published; check the disk and restart: the records are read from Kafka again"
                .to_owned(),
        )
    }
}

/// The rows of one table since the last spill.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// Where blocks end, with their rows.
    blocks: Vec<(usize, u32)>,
    rows: u32,
}

impl Pending {
    /// Larger buffers are given back after a spill.
    const KEEP_MAX: usize = 4 << 20;

    /// Where the next row is to be written: behind room for its head.
    pub(super) fn begin_row(&mut self) -> (usize, &mut Vec<u8>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ROW_HEAD]);
        (start, &mut self.bytes)
    }

    /// Ends the row begun at `start`; answers its bytes with the head's.
    pub(super) fn end_row(&mut self, start: usize, offset: i64) -> usize {
        let whole = self.bytes.len() - start;
        let length = u32::try_from(whole - ROW_HEAD).unwrap_or(u32::MAX);
        let (head, number) = length.to_le_bytes().into_iter().chain(offset.to_le_bytes()).enumerate().fold(
            ([0_u8; ROW_HEAD], 0),
            |(mut head, _), (place, byte)| {
                if let Some(to) = head.get_mut(place) {
                    *to = byte;
                }
                (head, place)
            },
        );
        debug_assert_eq!(number + 1, ROW_HEAD);
        if let Some(room) = self.bytes.get_mut(start..start + ROW_HEAD) {
            room.copy_from_slice(&head);
        }
        self.rows += 1;
        let begun = self.blocks.last().map_or(0, |(end, _)| *end);
        if self.bytes.len() - begun >= BLOCK_BYTES {
            self.close_block();
        }
        whole
    }

    /// The row begun at `start` was refused.
    pub(super) fn give_up_row(&mut self, start: usize) {
        self.bytes.truncate(start);
    }

    fn close_block(&mut self) {
        if self.rows > 0 {
            self.blocks.push((self.bytes.len(), std::mem::take(&mut self.rows)));
        }
    }

    /// Moves the rows behind `out` as blocks of `table`.
    fn drain(&mut self, table: u32, out: &mut Vec<u8>) {
        self.close_block();
        let mut start = 0;
        for (end, rows) in self.blocks.drain(..) {
            let body = self.bytes.get(start..end).unwrap_or_default();
            out.extend_from_slice(&table.to_le_bytes());
            out.extend_from_slice(&rows.to_le_bytes());
            out.extend_from_slice(&(body.len() as u64).to_le_bytes());
            out.extend_from_slice(&xxh3_64(body).to_le_bytes());
            out.extend_from_slice(body);
            start = end;
        }
        self.bytes.clear();
        self.bytes.shrink_to(Self::KEEP_MAX);
    }
}

/// The file of a segment.
#[derive(Debug)]
pub(super) struct Spool {
    scratch: Option<Scratch>,
    file: Option<ScratchFile>,
    written: u64,
    /// Blocks that are built and not written.
    unwritten: Vec<u8>,
}

impl Spool {
    pub(super) fn new(scratch: Scratch) -> Self {
        Self { scratch: Some(scratch), file: None, written: 0, unwritten: Vec::new() }
    }

    /// Moves what is pending to the file. Goes on where a failed call stopped.
    pub(super) async fn write<'p>(
        &mut self,
        pending: impl Iterator<Item = (u32, &'p mut Pending)>,
    ) -> Result<(), StageError> {
        for (table, pending) in pending {
            pending.drain(table, &mut self.unwritten);
        }
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let file = self.file().await.map_err(|error| StageError::spool("spill", error))?;
        let block = std::mem::take(&mut self.unwritten);
        let length = block.len();
        // Dropped at this await the rows are gone from memory; the lane only abandons the writer then.
        let (mut block, result) = file.write_at(block, self.written).await;
        match result {
            Ok(()) => {
                self.written += length as u64;
                block.clear();
                block.shrink_to(Pending::KEEP_MAX);
                self.unwritten = block;
                Ok(())
            }
            // The task that wrote is gone, and the rows with it.
            Err(error) if block.len() != length => Err(StageError::fatal("spill", error)),
            Err(error) => {
                self.unwritten = block;
                Err(StageError::spool("spill", error))
            }
        }
    }

    async fn file(&mut self) -> io::Result<ScratchFile> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let Some(scratch) = self.scratch.clone() else {
            return Err(io::Error::other("the segment was abandoned"));
        };
        let created = scratch.offload().run(move || scratch.create()).await.map_err(io::Error::other)??;
        self.file = Some(created.clone());
        Ok(created)
    }

    /// Reads the rows of `table` from `cursor` on.
    pub(super) fn reader(&self, table: u32, cursor: Cursor) -> Reader {
        Reader { file: self.file.clone(), end: self.written, table, cursor, block: None }
    }

    /// Gives files and disk back.
    pub(super) async fn discard(&mut self) {
        let (file, scratch) = (self.file.take(), self.scratch.take());
        self.unwritten = Vec::new();
        if let Some(offload) = scratch.as_ref().map(Scratch::offload) {
            offload.run(move || drop((file, scratch))).await.ok();
        }
    }
}

/// A place between two rows of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The block's.
    position: u64,
    /// Within its rows.
    within: usize,
}

/// See [`Spool::reader`].
#[derive(Debug)]
pub(super) struct Reader {
    file: Option<ScratchFile>,
    end: u64,
    table: u32,
    cursor: Cursor,
    /// The rows of the block at the cursor.
    block: Option<Vec<u8>>,
}

/// Rows that go into one request.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Their records' offsets.
    pub(super) offsets: Vec<i64>,
    pub(super) rows: Vec<Vec<u8>>,
    /// Where the next one begins.
    pub(super) next: Cursor,
}

impl Reader {
    /// The next rows, about `bytes` of them and at least one; `None` at the end. Where a chunk ends depends on the rows alone, so a
    /// request that is repeated has the rows it had.
    pub(super) async fn next(&mut self, bytes: usize) -> Result<Option<Chunk>, StageError> {
        let mut chunk = Chunk::default();
        let mut total = 0;
        while total < bytes {
            if !self.find_block().await? {
                break;
            }
            let block = self.block.as_deref().unwrap_or_default();
            let Some((offset, row, next)) = row_at(block, self.cursor.within) else {
                return Err(StageError::new(
                    "read back",
                    Damaged { problem: "a row does not end in its block" },
                ));
            };
            // What a row costs in a request beside its bytes is below ten.
            if !chunk.rows.is_empty() && total + row.len() + 10 > bytes {
                break;
            }
            total += row.len() + 10;
            chunk.offsets.push(offset);
            chunk.rows.push(row.to_vec());
            self.cursor.within = next;
        }
        chunk.next = self.cursor;
        Ok((!chunk.rows.is_empty()).then_some(chunk))
    }

    /// Moves the cursor over blocks that are read or another table's; answers whether it is in one then.
    async fn find_block(&mut self) -> Result<bool, StageError> {
        let Some(file) = self.file.clone() else { return Ok(false) };
        loop {
            if let Some(block) = &self.block {
                if self.cursor.within < block.len() {
                    return Ok(true);
                }
                self.cursor =
                    Cursor { position: self.cursor.position + (HEAD + block.len()) as u64, within: 0 };
                self.block = None;
            }
            if self.cursor.position >= self.end {
                return Ok(false);
            }
            let (table, end, from) = (self.table, self.end, self.cursor.position);
            let reading = file.clone();
            let read = file.offload().run(move || read_block(&reading, table, from, end));
            let read = read.await.map_err(|error| StageError::fatal("read back", error))?;
            match read.map_err(|error| StageError::spool("read back", error))? {
                Found::Block { position, body } => {
                    self.cursor.position = position;
                    self.block = Some(body);
                }
                Found::Nothing => {
                    self.cursor.position = end;
                    return Ok(false);
                }
                Found::Damaged(problem) => return Err(StageError::new("read back", Damaged { problem })),
            }
        }
    }
}

enum Found {
    Block { position: u64, body: Vec<u8> },
    Nothing,
    Damaged(&'static str),
}

/// The first block of `table` at or behind `position`. Blocks.
fn read_block(file: &ScratchFile, table: u32, mut position: u64, end: u64) -> io::Result<Found> {
    while position < end {
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, position)?;
        let part = |from: usize, to: usize| {
            let bytes = head.get(from..to).unwrap_or_default();
            bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let length = part(8, 16);
        let behind = position.saturating_add(HEAD as u64).saturating_add(length);
        if length == 0 || behind > end {
            return Ok(Found::Damaged("a block does not end in the file"));
        }
        if part(0, 4) == u64::from(table) {
            let mut body = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut body, position + HEAD as u64)?;
            if xxh3_64(&body) != part(16, 24) {
                return Ok(Found::Damaged("the checksum of a block differs"));
            }
            return Ok(Found::Block { position, body });
        }
        position = behind;
    }
    Ok(Found::Nothing)
}

fn row_at(block: &[u8], at: usize) -> Option<(i64, &[u8], usize)> {
    let length = u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?);
    let offset = i64::from_le_bytes(block.get(at + 4..at + ROW_HEAD)?.try_into().ok()?);
    let start = at + ROW_HEAD;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    Some((offset, block.get(start..end)?, end))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aqueduct_core::{LocalDisk, Pool};
    use proptest::prelude::*;

    use super::*;

    fn scratch(directory: &tempfile::TempDir) -> Scratch {
        let spool =
            aqueduct_core::Spool::open(directory.path(), "t", Arc::new(LocalDisk), Pool::new(1 << 30));
        spool.unwrap().scratch()
    }

    fn push(pending: &mut Pending, offset: i64, row: &[u8]) {
        let (start, out) = pending.begin_row();
        out.extend_from_slice(row);
        pending.end_row(start, offset);
    }

    async fn read_all(spool: &Spool, table: u32, bytes: usize) -> Vec<(i64, Vec<u8>)> {
        let mut reader = spool.reader(table, Cursor::default());
        let mut rows = Vec::new();
        while let Some(chunk) = reader.next(bytes).await.unwrap() {
            // Reading again from where a chunk began gives the same.
            rows.extend(chunk.offsets.into_iter().zip(chunk.rows));
            reader = spool.reader(table, chunk.next);
        }
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn rows_come_back_as_they_went(
            batches in prop::collection::vec(prop::collection::vec((0..3_u32, 0..300_usize), 0..20), 1..6),
            bytes in 1..2000_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let directory = tempfile::tempdir().unwrap();
                let mut spool = Spool::new(scratch(&directory));
                let mut expected = vec![Vec::new(); 3];
                let mut offset = 0;
                for batch in batches {
                    let mut pending: Vec<Pending> = (0..3).map(|_| Pending::default()).collect();
                    for (table, length) in batch {
                        let row = vec![u8::try_from(offset % 251).unwrap(); length];
                        push(&mut pending[table as usize], offset, &row);
                        expected[table as usize].push((offset, row));
                        offset += 1;
                    }
                    let (refused, out) = pending[0].begin_row();
                    out.extend_from_slice(b"refused");
                    pending[0].give_up_row(refused);
                    spool.write((0..).zip(&mut pending)).await.unwrap();
                }
                for (table, expected) in (0..).zip(&expected) {
                    assert_eq!(&read_all(&spool, table, bytes).await, expected);
                }
            });
        }
    }

    #[tokio::test]
    async fn a_large_batch_is_several_blocks_and_damage_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(scratch(&directory));
        let mut pending = Pending::default();
        for offset in 0..5 {
            push(&mut pending, offset, &vec![1; BLOCK_BYTES / 2]);
        }
        spool.write([(7, &mut pending)].into_iter()).await.unwrap();
        let mut reader = spool.reader(7, Cursor::default());
        let first = reader.next(1).await.unwrap().unwrap();
        assert_eq!((first.offsets, first.next.position), (vec![0], 0));
        assert_eq!(read_all(&spool, 7, 1 << 22).await.len(), 5);
        let (_, result) = spool.file().await.unwrap().write_at(vec![2], 100).await;
        result.unwrap();
        let error = spool.reader(7, Cursor::default()).next(1).await.unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
    }
}
