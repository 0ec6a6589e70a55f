//! The writer of one segment.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;

use super::{MemorySink, Recovery, Refuses};
use crate::dead_letter::Rejected;
use crate::error::{Poison, PoisonReason, StageError};
use crate::record::{Offset, OffsetRange};
use crate::sink::{Envelope, Published, SegmentStart, SegmentWriter, Staged};
use crate::spool::ScratchFile;
use crate::testkit::store::{MemoryObject, MemoryRow};

/// Where a row lies in the scratch file.
#[derive(Clone, Copy)]
struct RowAt {
    route: usize,
    offset: Offset,
    start: u64,
    length: usize,
}

pub(super) struct MemoryWriter<T> {
    sink: MemorySink<T>,
    at: SegmentStart,
    file: ScratchFile,
    /// Bytes that are safe in the file.
    written: u64,
    /// Rows since then.
    buffer: Vec<u8>,
    rows: Vec<RowAt>,
    /// What an after-durable sink still has to make visible.
    unwritten: Vec<(String, Vec<RowAt>)>,
    /// What it still has to report as refused.
    rejected: Vec<Rejected>,
    routes: BTreeMap<usize, String>,
    encoded: u64,
    staged: Option<Stage>,
    published: Published,
}

/// What `stage` left for `publish`.
struct Stage {
    objects: Vec<(String, Vec<RowAt>)>,
    rejected: Vec<Rejected>,
    token: Option<u64>,
}

impl<T> MemoryWriter<T> {
    pub(super) fn new(sink: MemorySink<T>, at: SegmentStart, file: ScratchFile) -> Self {
        Self {
            sink,
            at,
            file,
            written: 0,
            buffer: Vec::new(),
            rows: Vec::new(),
            unwritten: Vec::new(),
            rejected: Vec::new(),
            routes: BTreeMap::new(),
            encoded: 0,
            staged: None,
            published: Published::default(),
        }
    }
}

impl<T: Send + 'static> MemoryWriter<T> {
    /// The rows nobody refuses, grouped into objects, in order of their first rows.
    fn group(&self) -> Vec<(String, Vec<RowAt>)> {
        let options = &self.sink.options;
        let refusals = [&options.refused_at_stage, &options.refused_at_publish];
        let refused = |row: &&RowAt| refusals.into_iter().flatten().any(|refuses| refuses(row.offset));
        let mut open: BTreeMap<usize, usize> = BTreeMap::new();
        let mut objects: Vec<(String, Vec<RowAt>)> = Vec::new();
        for row in self.rows.iter().filter(|row| !refused(row)) {
            let index = *open.entry(row.route).or_insert(objects.len());
            match objects.get_mut(index) {
                Some((_, rows)) if rows.len() < options.object_rows => rows.push(*row),
                _ => {
                    open.insert(row.route, objects.len());
                    let route = self.routes.get(&row.route).cloned().unwrap_or_default();
                    objects.push((route, vec![*row]));
                }
            }
        }
        objects
    }

    fn rejections(&self, refuses: Option<&Refuses>) -> Vec<Rejected> {
        let Some(refuses) = refuses else { return Vec::new() };
        let rows = self.rows.iter().filter(|row| refuses(row.offset));
        let poison = || Poison::new(PoisonReason::Rejected, "refused by the script");
        rows.map(|row| Rejected { offset: row.offset, poison: poison() }).collect()
    }

    /// Reads one object's rows back from scratch, paid from the publish pool.
    async fn load(&self, route: &str, rows: &[RowAt]) -> Result<Option<MemoryObject>, StageError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(None);
        };
        let Some(range) = OffsetRange::new(first.offset, last.offset.next()) else {
            return Ok(None);
        };
        let _permit = self.at.memory.acquire(rows.iter().map(|row| row.length as u64).sum()).await;
        let (file, places) = (self.file.clone(), rows.to_vec());
        let read = self.file.offload().run(move || {
            let mut read = Vec::with_capacity(places.len());
            for place in places {
                let mut value = vec![0; place.length];
                file.read_exact_at(&mut value, place.start)?;
                read.push(MemoryRow { offset: place.offset, value: Bytes::from(value) });
            }
            Ok::<_, std::io::Error>(read)
        });
        let rows = read.await.map_err(std::io::Error::other).flatten();
        let rows = rows.map_err(|error| StageError::retry("read scratch file", error))?;
        let lane = &self.at.lane;
        let (topic, partition) = (lane.topic(), lane.partition());
        let slash = if route.is_empty() { "" } else { "/" };
        Ok(Some(MemoryObject {
            key: format!("{topic}/{route}{slash}{topic}+{partition}+{:010}", first.offset.get()),
            lane: lane.clone(),
            route: route.to_owned(),
            range,
            layout: self.at.layout,
            rows,
        }))
    }

    /// An after-durable sink makes the rows of each spill visible, under names that never meet, and forgets them.
    async fn write_through(&mut self) -> Result<Vec<Rejected>, StageError> {
        let options = &self.sink.options;
        let refused = [&options.refused_at_stage, &options.refused_at_publish];
        let rejected: Vec<_> =
            refused.into_iter().flat_map(|refuses| self.rejections(refuses.as_ref())).collect();
        self.rejected.extend(rejected);
        self.unwritten.extend(self.group());
        self.rows.clear();
        while let Some((route, rows)) = self.unwritten.first() {
            let known = if options.idempotent { self.sink.store.offsets(&self.at.lane) } else { Vec::new() };
            let rows: Vec<_> =
                rows.iter().filter(|row| !known.contains(&row.offset.get())).copied().collect();
            if let Some(mut object) = self.load(route, &rows).await? {
                object.key = format!("{}~{}", object.key, self.sink.store.serial());
                self.published.objects.push(self.sink.store.create(object).await?);
            }
            self.unwritten.remove(0);
        }
        Ok(std::mem::take(&mut self.rejected))
    }
}

#[async_trait]
impl<T: Send + 'static> SegmentWriter<T> for MemoryWriter<T> {
    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        let before = self.buffer.len();
        let encoded = (self.sink.encode)(&envelope.value, &mut self.buffer);
        let length = self.buffer.len() - before;
        let row_max = self.sink.options.row_max;
        let checked = encoded.and_then(|()| {
            let limit = || {
                Poison::new(
                    PoisonReason::TooLarge,
                    format!("a row of {length} bytes, the limit is {row_max}"),
                )
            };
            if length > row_max { Err(limit()) } else { Ok(()) }
        });
        if let Err(poison) = checked {
            self.buffer.truncate(before);
            return Err(poison);
        }
        let route = envelope.route.index();
        self.routes.entry(route).or_insert_with(|| envelope.path.as_str().to_owned());
        let start = self.written + before as u64;
        self.rows.push(RowAt { route, offset: envelope.record.offset(), start, length });
        self.encoded += length as u64;
        Ok(())
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        if !self.buffer.is_empty() {
            let length = self.buffer.len() as u64;
            // Paid for already: the lane reserves disk before it takes a batch in.
            // Given away as a copy: a caller that drops this future finds the buffer as it was.
            let (_, result) = self.file.write_at(self.buffer.clone(), self.written).await;
            result.map_err(|error| StageError::retry("write scratch file", error))?;
            self.written += length;
            self.buffer.clear();
        }
        match self.sink.options.recovery {
            Recovery::AfterDurable => self.write_through().await,
            Recovery::Redo | Recovery::RollForward => Ok(Vec::new()),
        }
    }

    async fn stage(&mut self, _range: OffsetRange) -> Result<Staged, StageError> {
        let rejected = self.spill().await?;
        let options = &self.sink.options;
        if options.recovery == Recovery::AfterDurable {
            return Ok(Staged { token: Bytes::new(), rejected });
        }
        let rejected = self.rejections(options.refused_at_stage.as_ref());
        let late = self.rejections(options.refused_at_publish.as_ref());
        let objects = self.group();
        let mut token = None;
        if options.recovery == Recovery::RollForward {
            let mut uploads = Vec::new();
            for (route, rows) in &objects {
                uploads.extend(self.load(route, rows).await?);
            }
            if let Some(before) = self.staged.take().and_then(|staged| staged.token) {
                self.sink.store.drop_staged(before);
            }
            token = Some(self.sink.store.stage(uploads));
        }
        self.staged = Some(Stage { objects, rejected: late, token });
        let token = token.map_or_else(Bytes::new, |token| Bytes::copy_from_slice(&token.to_le_bytes()));
        Ok(Staged { token, rejected })
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        if self.sink.options.recovery == Recovery::AfterDurable {
            let rejected = self.write_through().await?;
            return Ok(Published { rejected, ..self.published.clone() });
        }
        let Some(staged) = &self.staged else {
            return Err(StageError::fatal("publish", "the segment was not staged"));
        };
        let mut published = Published { objects: Vec::new(), rejected: staged.rejected.clone() };
        for (route, rows) in &staged.objects {
            if let Some(object) = self.load(route, rows).await? {
                published.objects.push(self.sink.store.create(object).await?);
            }
        }
        if let Some(token) = staged.token {
            self.sink.store.drop_staged(token);
        }
        Ok(published)
    }

    async fn abandon(&mut self) {
        if let Some(token) = self.staged.take().and_then(|staged| staged.token) {
            self.sink.store.drop_staged(token);
        }
        self.buffer.clear();
        self.rows.clear();
    }

    fn encoded_bytes(&self) -> u64 {
        self.encoded
    }
}
