//! One segment: rows to scratch while it fills, from scratch into files when it is published.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use aqueduct::{
    Envelope, JsonRow, Offset, OffsetRange, Poison, Pool, Published, PublishedObject, Rejected, RoutePath,
    ScratchFile, SegmentStart, SegmentWriter, StageError, Staged, TopicPartition,
};
use async_trait::async_trait;

use super::{Places, blocking, claim};

/// The writer of a segment.
///
/// Memory holds the rows of one batch, and for each route about two hundred bytes and 16 more for each batch it has rows
/// in. A sink for days of records in one segment keeps that index on scratch as well.
pub(super) struct SegmentFiles {
    places: Arc<Places>,
    lane: TopicPartition,
    memory: Pool,
    scratch: ScratchFile,
    /// Bytes on scratch.
    spilled: u64,
    /// The rows of this batch, in order of arrival.
    buffer: Vec<u8>,
    /// The place of each of them in the buffer, and the number of its file.
    rows: Vec<(usize, Range<usize>)>,
    /// What is written to scratch, kept for its capacity.
    grouped: Vec<u8>,
    /// The file of each route, by the route's number; these come in order of first rows.
    files: Vec<FileRows>,
    /// The same once the segment is cut, so that other threads can have them.
    cut: Option<Arc<[FileRows]>>,
}

/// What becomes one file.
pub(super) struct FileRows {
    pub(super) path: PathBuf,
    first: Offset,
    last: Offset,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Of all bytes, in order.
    pub(super) checksum: crc32fast::Hasher,
    /// Where they lie on scratch: position and length, in order.
    pub(super) runs: Vec<(u64, usize)>,
}

impl SegmentFiles {
    pub(super) fn begin(places: &Arc<Places>, at: SegmentStart) -> Result<Self, StageError> {
        let scratch =
            at.scratch.create().map_err(|error| StageError::spool("create a scratch file", error))?;
        Ok(Self {
            places: Arc::clone(places),
            lane: at.lane,
            memory: at.memory,
            scratch,
            spilled: 0,
            buffer: Vec::new(),
            rows: Vec::new(),
            grouped: Vec::new(),
            files: Vec::new(),
            cut: None,
        })
    }

    /// Puts the rows of each file together, so that they are read back in few pieces. Gives the pieces' lengths.
    fn group(&mut self) -> Vec<(usize, usize)> {
        // Stable: a file's rows stay in order.
        self.rows.sort_by_key(|(file, _)| *file);
        self.grouped.clear();
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (file, row) in &self.rows {
            self.grouped.extend_from_slice(&self.buffer[row.clone()]);
            match runs.last_mut() {
                Some((last, length)) if last == file => *length += row.len(),
                _ => runs.push((*file, row.len())),
            }
        }
        runs
    }

    /// Names a route's file by its first row.
    fn file(&self, first: Offset, route: &RoutePath) -> Result<FileRows, Poison> {
        let mut path = RoutePath::default();
        // Escaped like every level of a route, so that no topic leads elsewhere.
        path.push(self.lane.topic())?;
        path.push_escaped(route)?;
        let name = format!("{}+{:020}.jsonl", self.lane.partition(), first.get());
        Ok(FileRows {
            path: self.places.topics.join(path.as_str()).join(name),
            first,
            last: first,
            rows: 0,
            bytes: 0,
            checksum: crc32fast::Hasher::new(),
            runs: Vec::new(),
        })
    }
}

#[async_trait]
impl<T: JsonRow + Send + 'static> SegmentWriter<T> for SegmentFiles {
    /// Into the buffer; nothing that can be seen from outside this writer, and nothing at all if it fails.
    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        let (start, number) = (self.buffer.len(), envelope.route.index());
        let offset = envelope.record.offset();
        let new = match self.files.get(number) {
            Some(_) => None,
            None => Some(self.file(offset, envelope.path)?),
        };
        if let Err(poison) = envelope.value.write_json(&mut self.buffer) {
            self.buffer.truncate(start);
            return Err(poison);
        }
        self.buffer.push(b'\n');
        // Only now: a route whose first row is refused has no number yet.
        self.files.extend(new);
        let row = &self.buffer[start..];
        if let Some(file) = self.files.get_mut(number) {
            file.last = offset;
            file.rows += 1;
            file.bytes += row.len() as u64;
            file.checksum.update(row);
        }
        self.rows.push((number, start..self.buffer.len()));
        Ok(())
    }

    /// From the buffer to scratch. On failure the buffer is as before, and so a second call does the same again.
    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let runs = self.group();
        let grouped = std::mem::take(&mut self.grouped);
        let (grouped, written) = self.scratch.write_at(grouped, self.spilled).await;
        self.grouped = grouped;
        written.map_err(|error| StageError::spool("write to scratch", error))?;
        for (file, length) in runs {
            self.files[file].push_run(self.spilled, length);
            self.spilled += length as u64;
        }
        self.buffer.clear();
        self.rows.clear();
        Ok(Vec::new())
    }

    /// Everything needed is on scratch, and what a successor needs is in Kafka: the token stays empty.
    async fn stage(&mut self, _range: OffsetRange) -> Result<Staged, StageError> {
        if self.cut.is_none() {
            self.cut = Some(std::mem::take(&mut self.files).into());
        }
        Ok(Staged::default())
    }

    /// One file after the other, the one with the segment's first row first: if that name is taken by other rows, nothing
    /// of the segment gets visible. A second call finds the files of the first and compares them.
    async fn publish(&mut self) -> Result<Published, StageError> {
        let files = self.cut.clone();
        let files = files.ok_or_else(|| StageError::fatal("publish", "publish was called before stage"))?;
        for number in 0..files.len() {
            let buffers = self.memory.acquire(claim::BUFFER_BYTES).await;
            let (files, scratch, places) =
                (Arc::clone(&files), self.scratch.clone(), Arc::clone(&self.places));
            blocking("publish a file", move || {
                claim::claim(&files[number], &scratch, &places.parts)?;
                // Until here, also if nobody waits any more.
                drop(buffers);
                Ok(())
            })
            .await?;
        }
        let (named, places) = (Arc::clone(&files), Arc::clone(&self.places));
        blocking("sync the directories", move || {
            let parents = named.iter().filter_map(|file| file.path.parent());
            claim::sync_directories(parents, &places.topics)
        })
        .await?;
        Ok(Published { objects: files.iter().filter_map(FileRows::object).collect(), rejected: Vec::new() })
    }

    /// Scratch goes when it is dropped, and what is below `parts` with the call that made it.
    async fn abandon(&mut self) {}

    fn encoded_bytes(&self) -> u64 {
        self.spilled + self.buffer.len() as u64
    }
}

impl FileRows {
    fn push_run(&mut self, position: u64, length: usize) {
        match self.runs.last_mut() {
            // A segment with one route is one run, however many batches it has.
            Some((start, run)) if *start + *run as u64 == position => *run += length,
            _ => self.runs.push((position, length)),
        }
    }

    /// From the first row's offset to the one after the last row's; a file has at least one row.
    pub(super) fn range(&self) -> Option<OffsetRange> {
        OffsetRange::new(self.first, self.last.next())
    }

    fn object(&self) -> Option<PublishedObject> {
        Some(PublishedObject {
            key: self.path.display().to_string(),
            range: self.range()?,
            rows: self.rows,
            bytes: self.bytes,
        })
    }
}
