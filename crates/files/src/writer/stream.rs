//! One large object, part by part.

use std::sync::Arc;

use super::assemble::{Assembly, BuiltFile};
use super::read::{ReadError, RowReader, Spooled};
use super::rows::Object;
use crate::checksum::Crc;
use crate::compress::{Compressor, PIECE};
use crate::format::whole_rows;

/// Reads an object from the spool, builds its file and compresses it, as much as a part takes at a time.
pub(super) struct ObjectReader {
    id: u32,
    rows: RowReader,
    built: Option<Built>,
    compressor: Option<Compressor>,
    piece: Vec<u8>,
}

/// A file that is built, and the rows on their way into it.
struct Built {
    file: BuiltFile,
    /// Rows; the last one may not be whole yet.
    chunk: Vec<u8>,
    filled: usize,
}

/// One part of an object, at the start of the buffer.
#[derive(Debug)]
pub(super) struct PartFilled {
    pub(super) length: usize,
    pub(super) crc32c: u32,
    /// Whether it is the last one; all rows are verified then.
    pub(super) last: bool,
}

impl ObjectReader {
    pub(super) fn new(
        spooled: Arc<Spooled>,
        id: u32,
        object: Object,
        assembly: &Assembly,
    ) -> Result<Self, ReadError> {
        let compressor = assembly.compressor()?;
        let piece = if compressor.is_some() { vec![0; PIECE] } else { Vec::new() };
        let file = assembly.open(id, &object).map_err(|error| ReadError::Build { object: id, error })?;
        let chunk = object.outline().chunk_bytes();
        let built = file.map(|file| Built { file, chunk: vec![0; chunk], filled: 0 });
        Ok(Self { id, rows: RowReader::new(spooled, id, object), built, compressor, piece })
    }

    /// Fills `out` with the next part of about `part` bytes; with compression it may be larger by one piece. Blocks.
    pub(super) fn fill(&mut self, out: &mut [u8], part: usize) -> Result<PartFilled, ReadError> {
        let mut length = 0;
        let crc32c;
        if let Some(mut compressor) = self.compressor.take() {
            let mut piece = std::mem::take(&mut self.piece);
            loop {
                let filled = self.read(&mut piece)?;
                let bytes = piece.get(..filled).unwrap_or_default();
                if self.built.is_none() {
                    self.rows.note(Crc::of(bytes), bytes.len());
                }
                length += compressor.piece(bytes, out.get_mut(length..).unwrap_or_default())?;
                if length >= part || self.is_ended() {
                    break;
                }
            }
            (self.compressor, self.piece) = (Some(compressor), piece);
            crc32c = Crc::of(out.get(..length).unwrap_or_default());
        } else {
            length = self.read(out.get_mut(..part).unwrap_or_default())?;
            crc32c = Crc::of(out.get(..length).unwrap_or_default());
            if self.built.is_none() {
                self.rows.note(crc32c, length);
            }
        }
        let last = self.is_ended();
        if last {
            self.rows.verify()?;
        }
        Ok(PartFilled { length, crc32c: crc32c.get(), last })
    }

    fn is_ended(&self) -> bool {
        match &self.built {
            Some(built) => built.file.is_whole() && built.file.ready().is_empty(),
            None => self.rows.is_ended(),
        }
    }

    /// Reads bytes of the object, not compressed, until `out` is full or the object ends; answers how many. Rows that are not
    /// built into a file are still to be [noted](RowReader::note).
    fn read(&mut self, out: &mut [u8]) -> Result<usize, ReadError> {
        let Some(built) = &mut self.built else {
            return self.rows.read(out);
        };
        let mut filled = 0;
        loop {
            // Also when `out` is full: whether this is the last part depends on what comes after it.
            built.advance(self.id, &mut self.rows)?;
            let taken = built.file.take(out.get_mut(filled..).unwrap_or_default());
            filled += taken;
            if taken == 0 {
                return Ok(filled);
            }
        }
    }
}

impl Built {
    /// Moves rows into the file until it has bytes ready or is whole.
    fn advance(&mut self, id: u32, rows: &mut RowReader) -> Result<(), ReadError> {
        while self.file.ready().is_empty() && !self.file.is_whole() {
            if rows.is_ended() && self.filled == 0 {
                rows.verify()?;
                self.file.finish().map_err(|error| ReadError::Build { object: id, error })?;
                continue;
            }
            self.filled += rows.read_noted(self.chunk.get_mut(self.filled..).unwrap_or_default())?;
            let whole = whole_rows(self.chunk.get(..self.filled).unwrap_or_default(), usize::MAX);
            let given = self.chunk.get(..whole).filter(|chunk| !chunk.is_empty());
            // The rows are verified when they have all been read, so a defect may be damage: the rest of them tells.
            let Some(given) = given else {
                rows.verify_rest(&mut self.chunk)?;
                return Err(ReadError::Damaged { object: id, problem: "a row is not whole" });
            };
            if let Err(error) = self.file.write(given) {
                rows.verify_rest(&mut self.chunk)?;
                return Err(ReadError::Build { object: id, error });
            }
            self.chunk.copy_within(whole..self.filled, 0);
            self.filled -= whole;
        }
        Ok(())
    }
}
