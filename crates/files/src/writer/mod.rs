//! The writer of one segment: rows to scratch while it fills, objects out of scratch when it is published.
//!
//! ```text
//! append   encode; note row and object                      rows.rs     no copy
//! spill    group by object into one block, write it         index.rs    the one copy in memory
//! stage    write the rest of the index                                  nothing is visible
//! publish  read each object's runs, verify,                 excerpt.rs, read.rs    buffers paid before they exist
//!          (build its file, compress it),                   assemble.rs
//!          create the objects                               publish.rs, upload.rs
//! ```

mod assemble;
mod buffers;
mod excerpt;
mod index;
mod publish;
mod read;
mod rows;
mod stream;
mod upload;

use std::io;
use std::sync::Arc;

use aqueduct_core::{
    Envelope, Failpoint, Offload, OffsetRange, Poison, PoisonReason, Pool, Published, Rejected, Scratch,
    ScratchFile, SegmentStart, SegmentWriter, StageError, Staged, TopicPartition,
};
use async_trait::async_trait;

use self::assemble::Assembly;
use self::index::IndexTail;
use self::publish::Plan;
use self::rows::{Framing, Objects, PendingBytes, Workspace};
use crate::format::{Encoded, Encoder, ROW_MAX, Row};
use crate::sink::SinkParts;
use crate::target::ObjectTarget;

pub(crate) use self::buffers::Buffers;
pub(crate) use self::excerpt::KEPT_EXCERPTS_MAX;
pub(crate) use self::rows::Workspaces;

/// How the objects of a stream present themselves.
#[derive(Clone, Debug)]
pub(crate) struct ObjectStyle {
    /// With the compression's own.
    pub(crate) extension: String,
    pub(crate) content_type: String,
}

/// What is made of each record: the row of its value and, beside it, those of its key and its headers. The objects of a stream
/// hold the same records as those of another.
pub(crate) struct Stream<T> {
    encoder: Encoder<T>,
    framing: Framing,
    style: ObjectStyle,
}

impl<T> Stream<T> {
    pub(crate) fn new(encoder: Encoder<T>, style: ObjectStyle) -> Self {
        let framing = match &encoder {
            Encoder::Joined { terminator, .. } => Framing::Terminator(terminator.clone()),
            Encoder::Built(_) => Framing::Length,
        };
        Self { encoder, framing, style }
    }

    /// Adds the record's row to the workspace; answers its shape. After a poison the workspace may hold a part of it.
    fn encode(&mut self, envelope: &Envelope<'_, T>, workspace: &mut Workspace) -> Result<u32, Poison> {
        let start = workspace.scratch.len();
        let Encoded { row, shape } = self.encoder.rows().encode(envelope, &mut workspace.scratch)?;
        let (row, length) = match row {
            Row::Shared(bytes) => {
                let length = bytes.len();
                (PendingBytes::Shared(bytes), length)
            }
            Row::Written => {
                let end = workspace.scratch.len();
                (PendingBytes::Scratch { start, end }, end - start)
            }
        };
        if length > ROW_MAX {
            let detail = format!("a row of {length} bytes, {ROW_MAX} is the most");
            return Err(Poison::new(PoisonReason::TooLarge, detail));
        }
        if shape >= Encoded::SHAPES_MAX {
            let detail = format!("a row of shape {shape}; a segment has {} at most", Encoded::SHAPES_MAX);
            return Err(Poison::new(PoisonReason::TooLarge, detail));
        }
        workspace.push(row, length + self.framing.length());
        Ok(shape)
    }
}

/// See the module.
pub(crate) struct ObjectWriter<T, O> {
    sink: Arc<SinkParts<O>>,
    lane: TopicPartition,
    layout: u64,
    pinned: bool,
    /// That of the values first.
    streams: Vec<Stream<T>>,
    memory: Pool,
    offload: Offload,
    /// Dropped with everything in it once the objects are visible.
    scratch: Option<Scratch>,
    objects: Objects,
    workspace: Option<Workspace>,
    /// A block that is built but not written.
    unwritten: Option<Vec<u8>>,
    rows: Option<ScratchFile>,
    rows_written: u64,
    index_tail: IndexTail,
    index: Option<ScratchFile>,
    plan: Option<Arc<Plan<O>>>,
    published: Option<Published>,
}

impl<T, O> ObjectWriter<T, O> {
    pub(crate) fn new(sink: Arc<SinkParts<O>>, streams: Vec<Stream<T>>, at: SegmentStart) -> Self {
        let objects = Objects::new(streams.len(), sink.options.target_object_bytes);
        Self {
            sink,
            lane: at.lane,
            layout: at.layout,
            pinned: at.pinned.is_some(),
            streams,
            memory: at.memory,
            offload: at.scratch.offload(),
            scratch: Some(at.scratch),
            objects,
            workspace: None,
            unwritten: None,
            rows: None,
            rows_written: 0,
            index_tail: IndexTail::default(),
            index: None,
            plan: None,
            published: None,
        }
    }

    /// Moves what is in memory to the row file. Continues where a failed call stopped.
    async fn flush_rows(&mut self) -> Result<(), StageError> {
        loop {
            if let Some(block) = self.unwritten.take() {
                let block = self.write_block(block).await?;
                if let Some(mut workspace) = self.workspace.take() {
                    workspace.block = block;
                    if workspace.is_empty() {
                        self.sink.workspaces.give_back(workspace);
                    } else {
                        workspace.block.clear();
                        self.workspace = Some(workspace);
                    }
                }
            }
            match &mut self.workspace {
                Some(workspace) if !workspace.is_empty() => {
                    let framing =
                        |stream: u32| self.streams.get(stream as usize).map(|stream| &stream.framing);
                    self.objects.build_block(workspace, framing, self.rows_written, &mut self.index_tail);
                    self.unwritten = Some(std::mem::take(&mut workspace.block));
                }
                _ => return Ok(()),
            }
        }
    }

    async fn write_block(&mut self, block: Vec<u8>) -> Result<Vec<u8>, StageError> {
        let length = block.len();
        let (file, _) = match self.files().await {
            Ok(files) => files,
            Err(error) => {
                self.unwritten = Some(block);
                return Err(StageError::spool("spill", error));
            }
        };
        let (block, result) = file.write_at(block, self.rows_written).await;
        match result {
            Ok(()) => {
                self.rows_written += length as u64;
                Ok(block)
            }
            // The task that wrote is gone, and the rows with it.
            Err(error) if block.len() != length => Err(StageError::fatal("spill", error)),
            Err(error) => {
                self.unwritten = Some(block);
                Err(StageError::spool("spill", error))
            }
        }
    }

    /// Moves the end of the index to its file, all of it at the `end`.
    async fn flush_index(&mut self, end: bool) -> Result<(), StageError> {
        let Some((bytes, position)) = self.index_tail.take(end) else {
            return Ok(());
        };
        let length = bytes.len();
        let (_, file) = match self.files().await {
            Ok(files) => files,
            Err(error) => {
                self.index_tail.put_back(bytes);
                return Err(StageError::spool("spill", error));
            }
        };
        let (bytes, result) = file.write_at(bytes, position).await;
        match result {
            Ok(()) => {
                self.index_tail.wrote(bytes);
                Ok(())
            }
            Err(error) if bytes.len() != length => Err(StageError::fatal("spill", error)),
            Err(error) => {
                self.index_tail.put_back(bytes);
                Err(StageError::spool("spill", error))
            }
        }
    }

    /// The files for rows and for the index. Both or none: where there are too few files or handles for all lanes, lanes that
    /// hold one and wait for the other would wait for each other.
    async fn files(&mut self) -> io::Result<(ScratchFile, ScratchFile)> {
        if let (Some(rows), Some(index)) = (&self.rows, &self.index) {
            return Ok((rows.clone(), index.clone()));
        }
        let Some(scratch) = self.scratch.clone() else {
            return Err(io::Error::other("the segment was abandoned"));
        };
        let created = self.offload.run(move || io::Result::Ok((scratch.create()?, scratch.create()?)));
        let (rows, index) = created.await.map_err(io::Error::other)??;
        (self.rows, self.index) = (Some(rows.clone()), Some(index.clone()));
        Ok((rows, index))
    }
}

/// Drops files off the async threads: removing a large one takes milliseconds.
async fn discard(offload: Offload, files: impl Send + 'static) {
    offload.run(move || drop(files)).await.ok();
}

#[async_trait]
impl<T, O> SegmentWriter<T> for ObjectWriter<T, O>
where
    T: Send + 'static,
    O: ObjectTarget,
{
    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        let workspace = self.workspace.get_or_insert_with(|| self.sink.workspaces.take());
        let mark = workspace.mark();
        let mut encode = || {
            if !self.objects.knows(envelope.route) {
                let (keys, route) = (&self.sink.options.keys, envelope.path.as_str());
                for stream in &self.streams {
                    keys.check_route(&self.lane, route, &stream.style.extension)
                        .map_err(|error| Poison::new(PoisonReason::InvalidRoute, error.to_string()))?;
                }
            }
            let Some((values, beside)) = self.streams.split_first_mut() else { return Ok(0) };
            for beside in beside {
                beside.encode(&envelope, workspace)?;
            }
            // Last, when nothing else can refuse the record: its encoder learns from each value it takes.
            let shape = values.encode(&envelope, workspace)?;
            workspace.last_first(mark);
            Ok(shape)
        };
        match encode() {
            Ok(shape) => {
                if !self.objects.knows(envelope.route) {
                    self.objects.add_route(envelope.route, envelope.path.as_str());
                }
                self.objects.push((envelope.route, shape), envelope.record.offset(), mark.rows, workspace);
                Ok(())
            }
            Err(poison) => {
                workspace.rewind(mark);
                Err(poison)
            }
        }
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        self.flush_rows().await?;
        self.flush_index(false).await?;
        Ok(Vec::new())
    }

    async fn stage(&mut self, _range: OffsetRange) -> Result<Staged, StageError> {
        if self.plan.is_none() && self.published.is_none() {
            self.flush_rows().await?;
            Failpoint::CutMidStage.check()?;
            self.flush_index(true).await?;
            self.workspace = None;
            let (routes, objects) = self.objects.take();
            let (sink, rows, index) = (&self.sink, self.rows.take(), self.index.take());
            let builders = self.streams.iter_mut().map(|stream| match &mut stream.encoder {
                Encoder::Joined { .. } => None,
                Encoder::Built(rows) => Some(rows.finish()),
            });
            let assembly = Assembly::new(builders.collect(), &self.sink.options, &self.memory);
            let spooled = read::Spooled::new(rows, index, self.index_tail.written());
            let segment = publish::Segment {
                lane: self.lane.clone(),
                layout: self.layout,
                pinned: self.pinned,
                styles: self.streams.iter().map(|stream| stream.style.clone()).collect(),
                assembly,
                memory: self.memory.clone(),
                offload: self.offload,
            };
            self.plan = Some(Arc::new(Plan::new(sink, segment, spooled, routes, objects)));
        }
        Ok(Staged::default())
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        if let Some(published) = &self.published {
            return Ok(published.clone());
        }
        let Some(plan) = self.plan.clone() else {
            return Err(StageError::fatal("publish", "the segment was not staged, or was abandoned"));
        };
        let published = plan.publish().await?;
        Failpoint::PublishAll.check()?;
        self.published = Some(published.clone());
        Failpoint::CleanBefore.reach();
        discard(self.offload, (plan, self.plan.take(), self.scratch.take())).await;
        Ok(published)
    }

    async fn abandon(&mut self) {
        self.workspace = None;
        self.unwritten = None;
        let plan = self.plan.take();
        if let Some(plan) = &plan {
            plan.abort_uploads().await;
        }
        discard(self.offload, (plan, self.rows.take(), self.index.take(), self.scratch.take())).await;
    }

    fn encoded_bytes(&self) -> u64 {
        self.objects.bytes()
    }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
