//! Reading objects back from the spool, and proving that they are what was written.

use std::io;
use std::sync::Arc;

use aqueduct_core::{Class, Classify, ScratchFile, StageError};
use bytes::Bytes;

use super::buffers::Buffers;
use super::index::{IndexReader, Run};
use super::rows::Object;
use crate::checksum::Crc;
use crate::compress::{Compression, Compressor, PIECE};

/// The files of one segment.
#[derive(Debug)]
pub(super) struct Spooled {
    pub(super) rows: Option<ScratchFile>,
    pub(super) index: Option<ScratchFile>,
    pub(super) index_length: u64,
}

/// What cannot be read back must not be published.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The bytes are not the ones written.
    #[error("the spool holds other bytes than were written for object {object} of the segment: {problem}")]
    Damaged { object: u32, problem: &'static str },
    /// The file system's own.
    #[error("the spool cannot be read")]
    Io(#[from] io::Error),
}

impl Classify for ReadError {
    fn class(&self) -> Class {
        match self {
            Self::Damaged { .. } => Class::Fatal,
            // A place that the file does not have, or no file could have: the index is damaged.
            Self::Io(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput) =>
            {
                Class::Fatal
            }
            Self::Io(_) => Class::Unknown,
        }
    }

    fn hint(&self) -> Option<String> {
        match self.class() {
            Class::Fatal => Some(
                "it was not published; check the disk and restart: the records are read from Kafka again"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Runs with less than this between them are read in one go, in bytes.
const GAP_MAX: u64 = 8 << 10;
/// The longest such read, in bytes.
const STRETCH_MAX: u64 = 256 << 10;

/// An object ready to be sent in one request.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) object: u32,
    pub(super) bytes: Bytes,
    pub(super) crc32c: u32,
}

/// The objects of a group, all in one buffer.
#[derive(Debug)]
pub(super) struct Bodies {
    pub(super) bodies: Vec<Body>,
    pub(super) whole: Bytes,
}

/// What reading a group needs beside its rows, in bytes.
pub(super) const GROUP_OVERHEAD: usize = IndexReader::CHUNK + 256 * 1024;

/// Reads several objects (numbers ascending) in one pass over the index, verifies and compresses them. Blocks.
pub(super) fn read_group(
    spooled: &Spooled,
    objects: &[(u32, Object)],
    codec: Compression,
    level: i32,
    buffers: &Buffers,
) -> Result<Bodies, ReadError> {
    let mut group = Group::new(objects, buffers);
    let mut index = IndexReader::new(spooled.index.clone(), spooled.index_length);
    while let Some(run) = index.next()? {
        group.add(run, spooled)?;
    }
    group.read_stretch(spooled)?;
    let Group { members, buffer, .. } = group;
    let whole = Bytes::from(buffer);
    let mut verified = Vec::with_capacity(members.len());
    for (member, (id, object)) in members.iter().zip(objects) {
        if member.filled != member.end {
            return Err(ReadError::Damaged { object: *id, problem: "rows are missing" });
        }
        let bytes = whole.slice(member.start..member.end);
        if Crc::of(&bytes) != object.crc {
            return Err(ReadError::Damaged { object: *id, problem: "the checksum differs" });
        }
        verified.push(Body { object: *id, bytes, crc32c: object.crc.get() });
    }
    match Compressor::new(codec, level)? {
        None => Ok(Bodies { bodies: verified, whole }),
        Some(compressor) => {
            let packed = compress_group(compressor, codec, verified, buffers)?;
            buffers.reclaim(whole);
            Ok(packed)
        }
    }
}

fn compress_group(
    mut compressor: Compressor,
    codec: Compression,
    verified: Vec<Body>,
    buffers: &Buffers,
) -> io::Result<Bodies> {
    let mut packed = buffers.take(verified.iter().map(|body| codec.bound(body.bytes.len())).sum());
    let mut ends = Vec::with_capacity(verified.len());
    let mut filled = 0;
    for body in &verified {
        let start = filled;
        let mut rest: &[u8] = &body.bytes;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(PIECE));
            filled += compressor.piece(piece, packed.get_mut(filled..).unwrap_or_default())?;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        ends.push((body.object, start, filled));
    }
    drop(verified);
    let whole = Bytes::from(packed);
    let bodies = ends.into_iter().map(|(object, start, end)| {
        let bytes = whole.slice(start..end);
        let crc32c = Crc::of(&bytes).get();
        Body { object, bytes, crc32c }
    });
    Ok(Bodies { bodies: bodies.collect(), whole })
}

/// Objects being gathered into one buffer.
struct Group {
    members: Vec<Member>,
    buffer: Vec<u8>,
    /// Runs that lie close together and are read in one go: (member, run).
    stretch: Vec<(usize, Run)>,
    bounce: Vec<u8>,
}

/// Where one object's rows go.
struct Member {
    object: u32,
    start: usize,
    filled: usize,
    end: usize,
}

impl Group {
    fn new(objects: &[(u32, Object)], buffers: &Buffers) -> Self {
        let mut members = Vec::with_capacity(objects.len());
        let mut start = 0;
        for (id, object) in objects {
            let end = start + usize::try_from(object.bytes).unwrap_or(usize::MAX);
            members.push(Member { object: *id, start, filled: start, end });
            start = end;
        }
        Self { members, buffer: buffers.take(start), stretch: Vec::new(), bounce: Vec::new() }
    }

    fn add(&mut self, run: Run, spooled: &Spooled) -> Result<(), ReadError> {
        let outside = |member: Option<&Member>, above: bool| {
            member.is_none_or(
                |member| {
                    if above { run.object > member.object } else { run.object < member.object }
                },
            )
        };
        // Most runs of a large index belong to other groups.
        if outside(self.members.first(), false) || outside(self.members.last(), true) {
            return Ok(());
        }
        let Ok(member) = self.members.binary_search_by_key(&run.object, |member| member.object) else {
            return Ok(());
        };
        let near = match (self.stretch.first(), self.stretch.last()) {
            (Some((_, first)), Some((_, last))) => {
                run.position >= last.end()
                    && run.position - last.end() <= GAP_MAX
                    && run.end() - first.position <= STRETCH_MAX
            }
            _ => true,
        };
        if !near {
            self.read_stretch(spooled)?;
        }
        self.stretch.push((member, run));
        Ok(())
    }

    fn read_stretch(&mut self, spooled: &Spooled) -> Result<(), ReadError> {
        let Self { members, buffer, stretch, bounce } = self;
        let (Some(file), Some((_, first)), Some((_, last))) =
            (&spooled.rows, stretch.first(), stretch.last())
        else {
            return Ok(());
        };
        let (start, alone) = (first.position, stretch.len() == 1);
        if !alone {
            bounce.resize(usize::try_from(last.end() - start).unwrap_or(usize::MAX), 0);
            file.read_exact_at(bounce, start)?;
        }
        for (member, run) in stretch.drain(..) {
            let Some(member) = members.get_mut(member) else {
                continue;
            };
            let end = member.filled + run.length as usize;
            let room = if end <= member.end { buffer.get_mut(member.filled..end) } else { None };
            let Some(room) = room else {
                return Err(ReadError::Damaged {
                    object: run.object,
                    problem: "there are more rows than were written",
                });
            };
            if alone {
                file.read_exact_at(room, run.position)?;
            } else {
                let from = usize::try_from(run.position - start).unwrap_or(usize::MAX);
                if let Some(rows) = bounce.get(from..from + run.length as usize) {
                    room.copy_from_slice(rows);
                }
            }
            member.filled = end;
        }
        Ok(())
    }
}

/// Reads one large object part by part.
pub(super) struct ObjectReader {
    spooled: Arc<Spooled>,
    id: u32,
    object: Object,
    index: IndexReader,
    /// What is left of the run at hand.
    run: Option<Run>,
    read: u64,
    crc: Crc,
    compressor: Option<Compressor>,
    piece: Vec<u8>,
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
        codec: Compression,
        level: i32,
    ) -> Result<Self, ReadError> {
        let compressor = Compressor::new(codec, level)?;
        let index = IndexReader::new(spooled.index.clone(), spooled.index_length);
        let piece = if compressor.is_some() { vec![0; PIECE] } else { Vec::new() };
        Ok(Self { spooled, id, object, index, run: None, read: 0, crc: Crc::EMPTY, compressor, piece })
    }

    /// Fills `out` with the next part of about `part` bytes; with compression it may be larger by one piece. Blocks.
    pub(super) fn fill(&mut self, out: &mut [u8], part: usize) -> Result<PartFilled, ReadError> {
        let mut length = 0;
        let crc32c;
        if let Some(mut compressor) = self.compressor.take() {
            let mut piece = std::mem::take(&mut self.piece);
            loop {
                let rows = self.read_rows(&mut piece)?;
                let rows = piece.get(..rows).unwrap_or_default();
                self.crc.update(rows);
                length += compressor.piece(rows, out.get_mut(length..).unwrap_or_default())?;
                if length >= part || self.read == self.object.bytes {
                    break;
                }
            }
            (self.compressor, self.piece) = (Some(compressor), piece);
            crc32c = Crc::of(out.get(..length).unwrap_or_default());
        } else {
            length = self.read_rows(out.get_mut(..part).unwrap_or_default())?;
            crc32c = Crc::of(out.get(..length).unwrap_or_default());
            self.crc = self.crc.followed_by(crc32c, length as u64);
        }
        let last = self.read == self.object.bytes;
        if last && self.crc != self.object.crc {
            return Err(ReadError::Damaged { object: self.id, problem: "the checksum differs" });
        }
        Ok(PartFilled { length, crc32c: crc32c.get(), last })
    }

    /// Reads rows until `out` is full or the object ends; answers how many bytes.
    fn read_rows(&mut self, out: &mut [u8]) -> Result<usize, ReadError> {
        let Some(file) = self.spooled.rows.clone() else {
            return Ok(0);
        };
        let mut filled = 0;
        while filled < out.len() && self.read < self.object.bytes {
            let run = match self.run.take() {
                Some(run) => run,
                None => self.next_run()?,
            };
            let room = out.get_mut(filled..).unwrap_or_default();
            let take = room.len().min(run.length as usize);
            file.read_exact_at(room.get_mut(..take).unwrap_or_default(), run.position)?;
            filled += take;
            self.read += take as u64;
            let taken = u32::try_from(take).unwrap_or(u32::MAX);
            if taken < run.length {
                self.run = Some(Run {
                    length: run.length - taken,
                    position: run.position.saturating_add(u64::from(taken)),
                    ..run
                });
            }
        }
        if self.read > self.object.bytes {
            return Err(ReadError::Damaged {
                object: self.id,
                problem: "there are more rows than were written",
            });
        }
        Ok(filled)
    }

    fn next_run(&mut self) -> Result<Run, ReadError> {
        while let Some(run) = self.index.next()? {
            if run.object == self.id {
                return Ok(run);
            }
        }
        Err(ReadError::Damaged { object: self.id, problem: "rows are missing" })
    }
}

/// Wraps an error for the lane.
pub(super) fn failed(error: ReadError) -> StageError {
    StageError::new("read back", error)
}
