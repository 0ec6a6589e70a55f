//! From the rows of an object to its bytes: built into a file, compressed, both or neither.
//!
//! ```text
//! rows ─ [FileEncoder] ─▶ file ─ [Compressor] ─▶ body
//! ```
//!
//! Large objects go this way part by part, see `stream.rs`; here are the small ones, whose rows are all in memory. How
//! large a file gets is not known before it is built. So the buffer for the files of a group has a size of its own: when it
//! is full, what is in it is sent, and the rest of the group follows in the next round. A file that does not fit into it alone
//! is left to be sent as a large object is.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use aqueduct_core::Pool;
use bytes::Bytes;

use super::buffers::Buffers;
use super::excerpt::Excerpt;
use super::read::{self, Bodies, Body, GROUP_OVERHEAD, ReadError, Spooled, range_of};
use super::rows::Object;
use crate::checksum::Crc;
use crate::compress::{Compression, Compressor, PIECE};
use crate::format::{BuildError, FileBuilder, FileEncoder, FileOutline, Rows, whole_rows};
use crate::sink::ObjectOptions;

/// What happens to the rows of a segment's objects on their way to the target.
#[derive(Clone)]
pub(super) struct Assembly {
    /// Of each stream.
    builders: Arc<[Option<Arc<dyn FileBuilder>>]>,
    codec: Compression,
    level: i32,
    /// What a file should make do with, in bytes.
    memory: usize,
}

impl fmt::Debug for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assembly").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl Assembly {
    pub(super) fn new(
        builders: Vec<Option<Arc<dyn FileBuilder>>>,
        options: &ObjectOptions,
        memory: &Pool,
    ) -> Self {
        // Two files at a time, with room for what is sent.
        let memory = usize::try_from(memory.capacity() / 4).unwrap_or(usize::MAX);
        let (codec, level) = (options.compression, options.compression_level);
        Self { builders: builders.into(), codec, level, memory }
    }

    fn outline(&self, object: &Object) -> FileOutline {
        object.outline().with_memory(self.memory)
    }

    fn builder(&self, id: u32) -> Option<&Arc<dyn FileBuilder>> {
        let stream = (id as usize).checked_rem(self.builders.len())?;
        self.builders.get(stream)?.as_ref()
    }

    /// Whether the object's file is more than its rows, one after the other.
    pub(super) fn builds(&self, id: u32) -> bool {
        self.builder(id).is_some()
    }

    fn builds_any(&self) -> bool {
        self.builders.iter().any(Option::is_some)
    }

    /// Whether the rows themselves are what is sent.
    pub(super) fn is_plain(&self) -> bool {
        !self.builds_any() && self.codec == Compression::None
    }

    pub(super) fn codec(&self) -> Compression {
        self.codec
    }

    pub(super) fn compressor(&self) -> io::Result<Option<Compressor>> {
        Compressor::new(self.codec, self.level)
    }

    /// Begins the object's file, if it is one that is built.
    pub(super) fn open(&self, id: u32, object: &Object) -> Result<Option<BuiltFile>, BuildError> {
        let Some(builder) = self.builder(id) else {
            return Ok(None);
        };
        let file = self.outline(object);
        let ready = Vec::with_capacity(file.chunk_bytes());
        Ok(Some(BuiltFile { encoder: Some(builder.open(&file)?), ready, taken: 0 }))
    }

    /// Memory of a compressor, in bytes, with its input.
    pub(super) fn codec_bytes(&self) -> usize {
        if self.codec == Compression::None { 0 } else { self.codec.workspace(self.level) + PIECE }
    }

    /// Memory of the object's file while it is built, in bytes: the encoder's, and the rows and the output of a call.
    pub(super) fn build_bytes(&self, id: u32, object: &Object) -> usize {
        let Some(builder) = self.builder(id) else { return 0 };
        let file = self.outline(object);
        builder.workspace(&file).saturating_add(2 * file.chunk_bytes())
    }

    /// The most bytes the object's rows can become, as far as that is known: a guess where files are built.
    pub(super) fn bound(&self, id: u32, row_bytes: usize) -> usize {
        if self.builds(id) {
            self.codec.bound(row_bytes.saturating_mul(2))
        } else {
            self.codec.bound(row_bytes)
        }
    }
}

/// A file that is being built, and what of it is ready.
pub(super) struct BuiltFile {
    /// Gone once the file is whole.
    encoder: Option<Box<dyn FileEncoder>>,
    ready: Vec<u8>,
    taken: usize,
}

impl BuiltFile {
    /// Gives the next rows, whole ones, to the file. What was ready has been taken.
    pub(super) fn write(&mut self, rows: &[u8]) -> Result<(), BuildError> {
        self.clear();
        match &mut self.encoder {
            Some(encoder) => encoder.write(Rows::new(rows), &mut self.ready),
            None => Ok(()),
        }
    }

    /// Ends the file. What was ready has been taken.
    pub(super) fn finish(&mut self) -> Result<(), BuildError> {
        self.clear();
        match self.encoder.take() {
            Some(encoder) => encoder.finish(&mut self.ready),
            None => Ok(()),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.encoder.is_none()
    }

    /// Bytes of the file that are final and not taken yet.
    pub(super) fn ready(&self) -> &[u8] {
        self.ready.get(self.taken..).unwrap_or_default()
    }

    /// Moves what is ready to `out`, as far as it fits; answers how many bytes.
    pub(super) fn take(&mut self, out: &mut [u8]) -> usize {
        let length = self.ready().len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..length), self.ready().get(..length)) {
            to.copy_from_slice(from);
        }
        self.taken += length;
        length
    }

    fn clear(&mut self) {
        self.ready.clear();
        self.taken = 0;
    }
}

/// Small objects that are read together, and become bodies in one round or in several.
pub(super) struct Group {
    /// Numbers ascending.
    objects: Vec<(u32, Object)>,
    assembly: Assembly,
    /// Objects whose runs are looked for together with theirs, if nobody has done so.
    reach: Range<u32>,
    /// Held until the end, so that the next group finds it.
    excerpt: Option<Arc<Excerpt>>,
    /// Their rows, once they are read.
    rows: Option<Bodies>,
    /// Objects that are bodies already, or outgrown.
    done: usize,
    outgrown: Vec<u32>,
}

impl Group {
    pub(super) fn new(objects: Vec<(u32, Object)>, assembly: Assembly, reach: Range<u32>) -> Self {
        Self { objects, assembly, reach, excerpt: None, rows: None, done: 0, outgrown: Vec::new() }
    }

    /// What all of it takes, in bytes, until the last body has been sent.
    pub(super) fn bytes(&self) -> usize {
        let Assembly { codec, .. } = self.assembly;
        let bodies = match codec {
            _ if self.assembly.builds_any() => self.built_bytes(),
            Compression::None => 0,
            codec => codec.bound(self.row_bytes()) + 1024 * self.objects.len(),
        };
        let building = self.objects.iter().map(|(id, object)| self.assembly.build_bytes(*id, object)).max();
        [self.row_bytes(), bodies, building.unwrap_or(0), self.assembly.codec_bytes(), GROUP_OVERHEAD]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    fn row_bytes(&self) -> usize {
        self.objects.iter().map(|(_, object)| usize::try_from(object.bytes).unwrap_or(usize::MAX)).sum()
    }

    /// The buffer for the built files of one round.
    fn built_bytes(&self) -> usize {
        self.assembly.codec.bound(self.row_bytes()) + (64 << 10)
    }

    /// Whether there are no more bodies to come.
    pub(super) fn is_done(&self) -> bool {
        self.done == self.objects.len()
    }

    /// Objects whose file was larger than everything that was paid for; they are to be sent as large ones are.
    pub(super) fn into_outgrown(self) -> Vec<u32> {
        self.outgrown
    }

    /// The next bodies: all there are, or as many built files as fit into the buffer. The bodies of the round before are
    /// gone. Blocks.
    pub(super) fn next_round(&mut self, spooled: &Spooled, buffers: &Buffers) -> Result<Bodies, ReadError> {
        let rows = if let Some(rows) = self.rows.take() {
            rows
        } else {
            self.excerpt = spooled.excerpt(&range_of(&self.objects), &self.reach)?;
            read::gather(spooled, &self.objects, self.excerpt.as_deref(), buffers)?
        };
        if self.assembly.is_plain() {
            self.done = self.objects.len();
            return Ok(rows);
        }
        let packed = if self.assembly.builds_any() {
            let packed = self.build_round(&rows, buffers)?;
            if !self.is_done() {
                self.rows = Some(rows);
                return Ok(packed);
            }
            packed
        } else {
            self.done = self.objects.len();
            self.compress(&rows, buffers)?
        };
        let Bodies { bodies, whole } = rows;
        drop(bodies);
        buffers.reclaim(whole);
        Ok(packed)
    }

    fn compress(&self, rows: &Bodies, buffers: &Buffers) -> Result<Bodies, ReadError> {
        let codec = self.assembly.codec;
        let room = rows.bodies.iter().map(|body| codec.bound(body.bytes.len())).sum();
        let mut packer = Packer::new(&self.assembly, buffers.take(room))?;
        let mut ends = Vec::with_capacity(rows.bodies.len());
        for body in &rows.bodies {
            if !packer.end(&body.bytes)? {
                return Err(io::Error::other("a body is larger than its bound").into());
            }
            ends.push((body.object, packer.filled));
        }
        Ok(packer.bodies(ends))
    }

    fn build_round(&mut self, rows: &Bodies, buffers: &Buffers) -> Result<Bodies, ReadError> {
        let mut packer = Packer::new(&self.assembly, buffers.take(self.built_bytes()))?;
        let mut ends = Vec::new();
        while let (Some((id, object)), Some(body)) = (self.objects.get(self.done), rows.bodies.get(self.done))
        {
            let start = packer.filled;
            if self.build(*id, object, &body.bytes, &mut packer)? {
                ends.push((*id, packer.filled));
            } else if start == 0 {
                self.outgrown.push(*id);
                packer.rewind(0);
            } else {
                packer.rewind(start);
                break;
            }
            self.done += 1;
        }
        Ok(packer.bodies(ends))
    }

    /// Builds one file, if it is one that is built; answers whether it fits.
    fn build(&self, id: u32, object: &Object, rows: &[u8], to: &mut Packer) -> Result<bool, ReadError> {
        let failed = |error| ReadError::Build { object: id, error };
        let Some(mut file) = self.assembly.open(id, object).map_err(failed)? else {
            return Ok(to.end(rows)?);
        };
        let most = object.outline().chunk_bytes();
        let mut rest = rows;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(whole_rows(rest, most));
            if chunk.is_empty() {
                return Err(ReadError::Damaged { object: id, problem: "a row is not whole" });
            }
            file.write(chunk).map_err(failed)?;
            if !to.put(file.ready())? {
                return Ok(false);
            }
            rest = after;
        }
        file.finish().map_err(failed)?;
        Ok(to.end(file.ready())?)
    }
}

/// A buffer of bodies, one after the other.
struct Packer {
    buffer: Vec<u8>,
    filled: usize,
    codec: Compression,
    compressor: Option<Compressor>,
    /// What of a body is not compressed yet.
    piece: Vec<u8>,
    /// The body has bytes in the buffer.
    begun: bool,
}

impl Packer {
    fn new(assembly: &Assembly, buffer: Vec<u8>) -> io::Result<Self> {
        let (codec, compressor) = (assembly.codec, assembly.compressor()?);
        Ok(Self { buffer, filled: 0, codec, compressor, piece: Vec::new(), begun: false })
    }

    /// Appends to the body at hand; answers whether there was room.
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        if self.compressor.is_none() {
            let end = self.filled + bytes.len();
            let Some(room) = self.buffer.get_mut(self.filled..end) else {
                return Ok(false);
            };
            room.copy_from_slice(bytes);
            self.filled = end;
            return Ok(true);
        }
        while !bytes.is_empty() {
            let (now, after) = bytes.split_at(bytes.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            if self.piece.len() == PIECE && !self.compress_rest()? {
                return Ok(false);
            }
            bytes = after;
        }
        Ok(true)
    }

    /// Ends the body at hand with its last bytes; answers whether there was room.
    fn end(&mut self, last: &[u8]) -> io::Result<bool> {
        let fits = self.put_last(last)?;
        self.begun = false;
        Ok(fits)
    }

    fn put_last(&mut self, last: &[u8]) -> io::Result<bool> {
        if self.compressor.is_none() {
            return self.put(last);
        }
        if !self.piece.is_empty() {
            return Ok(self.put(last)? && (self.piece.is_empty() || self.compress_rest()?));
        }
        // Nothing waits, so nothing has to be copied. A body without bytes is a file of its codec too.
        if last.is_empty() && !self.begun {
            return self.compress(last);
        }
        for piece in last.chunks(PIECE) {
            if !self.compress(piece)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Forgets the body at hand.
    fn rewind(&mut self, to: usize) {
        self.filled = to;
        self.piece.clear();
        self.begun = false;
    }

    fn compress_rest(&mut self) -> io::Result<bool> {
        let mut piece = std::mem::take(&mut self.piece);
        let fits = self.compress(&piece)?;
        piece.clear();
        self.piece = piece;
        Ok(fits)
    }

    fn compress(&mut self, piece: &[u8]) -> io::Result<bool> {
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let Some(compressor) = &mut self.compressor else { return Ok(false) };
        if room.len() < self.codec.bound(piece.len()) {
            return Ok(false);
        }
        self.filled += compressor.piece(piece, room)?;
        self.begun = true;
        Ok(true)
    }

    /// What was put, by object and where it ends.
    fn bodies(self, ends: Vec<(u32, usize)>) -> Bodies {
        let whole = Bytes::from(self.buffer);
        let mut start = 0;
        let bodies = ends.into_iter().map(|(object, end)| {
            let bytes = whole.slice(start..end);
            start = end;
            let crc32c = Crc::of(&bytes).get();
            Body { object, bytes, crc32c }
        });
        Bodies { bodies: bodies.collect(), whole }
    }
}
