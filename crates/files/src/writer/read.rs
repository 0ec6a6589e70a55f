//! Reading objects back from the spool, and proving that they are what was written.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use aqueduct_core::{Class, Classify, ScratchFile};
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::buffers::Buffers;
use super::excerpt::{Excerpt, Excerpts, Keeping};
use super::index::{IndexReader, Run};
use super::rows::Object;
use crate::checksum::Crc;
use crate::format::BuildError;

/// The files of one segment.
#[derive(Debug)]
pub(super) struct Spooled {
    pub(super) rows: Option<ScratchFile>,
    pub(super) index: Option<ScratchFile>,
    pub(super) index_length: u64,
    excerpts: Excerpts,
}

impl Spooled {
    pub(super) fn new(rows: Option<ScratchFile>, index: Option<ScratchFile>, index_length: u64) -> Self {
        Self { rows, index, index_length, excerpts: Excerpts::default() }
    }

    /// Looks for runs, from the front.
    pub(super) fn runs(&self) -> IndexReader {
        IndexReader::new(self.index.clone(), self.index_length)
    }

    /// See [`Excerpts::keep`].
    pub(super) fn keep_excerpts(&self, places: &Arc<Semaphore>) -> Option<Keeping<'_>> {
        self.excerpts.keep(places)
    }

    /// See [`Excerpts::of`].
    pub(super) fn excerpt(
        &self,
        group: &Range<u32>,
        reach: &Range<u32>,
    ) -> Result<Option<Arc<Excerpt>>, ReadError> {
        self.excerpts.of(self, group, reach)
    }
}

/// What cannot be read back must not be published.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The bytes are not the ones written.
    #[error("the spool holds other bytes than were written for object {object} of the segment: {problem}")]
    Damaged { object: u32, problem: &'static str },
    /// The rows are those written, and their own format cannot make a file of them.
    #[error("the file of object {object} of the segment cannot be built")]
    Build {
        object: u32,
        #[source]
        error: BuildError,
    },
    /// The file system's own.
    #[error("the spool cannot be read")]
    Io(#[from] io::Error),
}

impl Classify for ReadError {
    fn class(&self) -> Class {
        match self {
            Self::Damaged { .. } | Self::Build { .. } => Class::Fatal,
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
pub(super) const GROUP_OVERHEAD: usize = IndexReader::CHUNK + Excerpt::BYTES + 256 * 1024;

/// Reads the rows of several objects (numbers ascending), whose runs `excerpt` has if it is given, and verifies them. Blocks.
pub(super) fn gather(
    spooled: &Spooled,
    objects: &[(u32, Object)],
    excerpt: Option<&Excerpt>,
    buffers: &Buffers,
) -> Result<Bodies, ReadError> {
    let mut gathering = Gathering::new(objects, buffers);
    let group = range_of(objects);
    if let Some(excerpt) = excerpt {
        for run in excerpt.runs_of(&group) {
            gathering.add(run, spooled)?;
        }
    } else {
        let mut index = spooled.runs();
        while let Some(run) = index.next_of(&group)? {
            gathering.add(run, spooled)?;
        }
    }
    gathering.read_stretch(spooled)?;
    let Gathering { members, buffer, .. } = gathering;
    let whole = Bytes::from(buffer);
    let mut bodies = Vec::with_capacity(members.len());
    for (member, (id, object)) in members.iter().zip(objects) {
        if member.filled != member.end {
            return Err(ReadError::Damaged { object: *id, problem: "rows are missing" });
        }
        let bytes = whole.slice(member.start..member.end);
        if Crc::of(&bytes) != object.crc {
            return Err(ReadError::Damaged { object: *id, problem: "the checksum differs" });
        }
        bodies.push(Body { object: *id, bytes, crc32c: object.crc.get() });
    }
    Ok(Bodies { bodies, whole })
}

/// From the first to the last of them, those between that are none of them included.
pub(super) fn range_of(objects: &[(u32, Object)]) -> Range<u32> {
    match (objects.first(), objects.last()) {
        (Some((first, _)), Some((last, _))) => *first..last.saturating_add(1),
        _ => 0..0,
    }
}

/// Objects being gathered into one buffer.
struct Gathering {
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

impl Gathering {
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

/// Reads the rows of one object, as many bytes at a time as are asked for.
pub(super) struct RowReader {
    spooled: Arc<Spooled>,
    id: u32,
    object: Object,
    index: IndexReader,
    /// What is left of the run at hand.
    run: Option<Run>,
    read: u64,
    crc: Crc,
}

impl RowReader {
    pub(super) fn new(spooled: Arc<Spooled>, id: u32, object: Object) -> Self {
        let index = spooled.runs();
        Self { spooled, id, object, index, run: None, read: 0, crc: Crc::EMPTY }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.read == self.object.bytes
    }

    /// Whether the rows are those that were appended, once all have been read and noted.
    pub(super) fn verify(&self) -> Result<(), ReadError> {
        if self.crc == self.object.crc {
            return Ok(());
        }
        Err(ReadError::Damaged { object: self.id, problem: "the checksum differs" })
    }

    /// Reads what is left of the rows and verifies all of them.
    pub(super) fn verify_rest(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        while !self.is_ended() {
            self.read_noted(buffer)?;
        }
        self.verify()
    }

    /// Counts the checksum of the rows that were read last.
    pub(super) fn note(&mut self, crc: Crc, length: usize) {
        self.crc = self.crc.followed_by(crc, length as u64);
    }

    /// [Reads](Self::read) and notes.
    pub(super) fn read_noted(&mut self, out: &mut [u8]) -> Result<usize, ReadError> {
        let filled = self.read(out)?;
        self.crc.update(out.get(..filled).unwrap_or_default());
        Ok(filled)
    }

    /// Reads rows until `out` is full or the object ends; answers how many bytes.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, ReadError> {
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
        let next = self.index.next_of(&(self.id..self.id.saturating_add(1)))?;
        next.ok_or(ReadError::Damaged { object: self.id, problem: "rows are missing" })
    }
}
