//! From a staged segment to visible objects.
//!
//! The object with the segment's first row is created first and alone: if its key is taken by something else, the
//! whole segment meets that before anything of it is visible. The others follow, a few units at once. A unit is one
//! large object, or a group of small ones that are read in one pass and sent in one request each.
//!
//! What is created is remembered, so publishing again after an outage goes on where it stopped; what was created
//! without our knowing (a lost answer, a former owner) is met and verified.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct_core::{
    Class, Failpoint, Offload, OffsetRange, Pool, Published, PublishedObject, StageError, TopicPartition,
};
use futures::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;

use super::ObjectStyle;
use super::assemble::{Assembly, Group};
use super::buffers::Buffers;
use super::excerpt::Excerpt;
use super::index::IndexReader;
use super::read::{Bodies, ReadError, Spooled};
use super::rows::{Object, Route};
use super::upload::joined;
use crate::claim::ObjectIdentity;
use crate::compress::{Compression, PIECE};
use crate::format::BuildError;
use crate::registry::StoredPartition;
use crate::sink::{ObjectOptions, SinkParts};
use crate::target::{ObjectMeta, ObjectTarget, TargetLimits, Upload};

/// Units under way at once in one lane.
const UNITS: usize = 4;
/// Not created yet, as far as we know.
const ABSENT: u64 = u64::MAX;

/// What a segment's objects have in common.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) lane: TopicPartition,
    pub(super) layout: u64,
    pub(super) pinned: bool,
    /// Of each stream.
    pub(super) styles: Vec<ObjectStyle>,
    pub(super) assembly: Assembly,
    pub(super) memory: Pool,
    pub(super) offload: Offload,
}

impl Segment {
    /// The stream an object is of.
    fn stream(&self, id: u32) -> usize {
        (id as usize).checked_rem(self.styles.len()).unwrap_or_default()
    }

    fn style(&self, id: u32) -> Option<&ObjectStyle> {
        self.styles.get(self.stream(id))
    }
}

/// A staged segment.
pub(super) struct Plan<O> {
    pub(super) target: Arc<O>,
    pub(super) limits: TargetLimits,
    pub(super) segment: Segment,
    pub(super) spooled: Arc<Spooled>,
    options: Arc<ObjectOptions>,
    requests: Arc<Semaphore>,
    pub(super) buffers: Arc<Buffers>,
    kept_excerpts: Arc<Semaphore>,
    routes: Vec<Option<Route>>,
    objects: Vec<Object>,
    /// Bytes stored, per object.
    stored: Vec<AtomicU64>,
    uploads: Mutex<Vec<Upload>>,
    /// An attempt to publish has failed: what it began may have had its effect.
    repeated: AtomicBool,
}

/// What is read and sent together.
enum Unit {
    Large(u32),
    Group(Vec<u32>),
}

impl<O: ObjectTarget> Plan<O> {
    pub(super) fn new(
        sink: &SinkParts<O>,
        segment: Segment,
        spooled: Spooled,
        routes: Vec<Option<Route>>,
        objects: Vec<Object>,
    ) -> Self {
        Self {
            target: Arc::clone(&sink.target),
            limits: sink.target.limits(),
            segment,
            spooled: Arc::new(spooled),
            options: Arc::clone(&sink.options),
            requests: Arc::clone(&sink.requests),
            buffers: Arc::clone(&sink.buffers),
            kept_excerpts: Arc::clone(&sink.kept_excerpts),
            routes,
            stored: objects.iter().map(|_| AtomicU64::new(ABSENT)).collect(),
            objects,
            uploads: Mutex::new(Vec::new()),
            repeated: AtomicBool::new(false),
        }
    }

    /// Creates what is not created yet.
    pub(super) async fn publish(self: &Arc<Self>) -> Result<Published, StageError> {
        let published = self.publish_absent().await;
        match published {
            Err(error) => {
                self.repeated.store(true, Ordering::Relaxed);
                Err(error)
            }
            // Only now: everything that is told of is visible. And before the end is committed, so a crash repeats it.
            Ok(published) => self.tell().await.map(|()| published),
        }
    }

    /// Tells the registry, if there is one, of the routes.
    async fn tell(&self) -> Result<(), StageError> {
        let Some(registration) = &self.options.registration else {
            return Ok(());
        };
        let (topic, location) = (self.segment.lane.topic(), self.target.location());
        // A route is only noted with its first row, so each has objects.
        let partitions = self.routes.iter().flatten().map(|route| {
            let folder = self.options.keys.folder(topic, &route.path);
            StoredPartition {
                topic: topic.to_owned(),
                route: route.path.to_string(),
                location: format!("{location}/{folder}"),
            }
        });
        registration.tell(partitions).await
    }

    async fn publish_absent(self: &Arc<Self>) -> Result<Published, StageError> {
        let _buffers = self.buffers.in_use();
        let _excerpts = self.spooled.keep_excerpts(&self.kept_excerpts);
        let mut units = self.units().into_iter();
        if self.is_absent(0)
            && let Some(first) = units.next()
        {
            self.run(vec![first].into_iter(), 1).await?;
            Failpoint::PublishFirst.check()?;
        }
        self.run(units, UNITS).await?;
        let mut objects = Vec::with_capacity(self.objects.len());
        for (id, stored) in (0..).zip(&self.stored) {
            let (key, identity) = self.named(id)?;
            let bytes = stored.load(Ordering::Relaxed);
            // Lines beside a row are no rows.
            let rows = if self.segment.stream(id) == 0 { identity.rows } else { 0 };
            objects.push(PublishedObject { key, range: identity.range, rows, bytes });
        }
        Ok(Published { objects, rejected: Vec::new() })
    }

    /// Works units off, `at_once` at a time. After a failure no further one is begun, those under way end, and the
    /// worst error is the answer.
    async fn run(
        self: &Arc<Self>,
        mut units: std::vec::IntoIter<Unit>,
        at_once: usize,
    ) -> Result<(), StageError> {
        let mut tasks = JoinSet::new();
        let mut failure: Option<StageError> = None;
        loop {
            while failure.is_none() && tasks.len() < at_once {
                match units.next() {
                    Some(Unit::Large(id)) => tasks.spawn(Arc::clone(self).publish_large(id)),
                    Some(Unit::Group(ids)) => tasks.spawn(Arc::clone(self).publish_group(ids)),
                    None => break,
                };
            }
            let Some(ended) = tasks.join_next().await else {
                break;
            };
            keep_worst(&mut failure, joined(ended));
        }
        failure.map_or(Ok(()), Err)
    }

    /// What is left to do, the segment's first object alone in front.
    fn units(&self) -> Vec<Unit> {
        let group_bytes = self.group_bytes();
        let mut units = Vec::new();
        let (mut group, mut bytes) = (Vec::new(), 0_u64);
        for (id, object) in (0..).zip(&self.objects) {
            if !self.is_absent(id) {
                continue;
            }
            if object.bytes > group_bytes {
                units.push(Unit::Large(id));
                continue;
            }
            if id == 0 {
                units.push(Unit::Group(vec![id]));
                continue;
            }
            if bytes + object.bytes > group_bytes {
                units.push(Unit::Group(std::mem::take(&mut group)));
                bytes = 0;
            }
            group.push(id);
            bytes += object.bytes;
        }
        if !group.is_empty() {
            units.push(Unit::Group(group));
        }
        units
    }

    async fn publish_group(self: Arc<Self>, ids: Vec<u32>) -> Result<(), StageError> {
        let reach = self.reach(&ids);
        let mut objects = Vec::with_capacity(ids.len());
        for id in ids {
            objects.push((id, self.object(id)?.clone()));
        }
        let mut group = Group::new(objects, self.segment.assembly.clone(), reach);
        let permit = self.segment.memory.acquire(group.bytes() as u64).await;
        loop {
            let (spooled, buffers) = (Arc::clone(&self.spooled), Arc::clone(&self.buffers));
            let read = self.segment.offload.run(move || {
                let bodies = group.next_round(&spooled, &buffers)?;
                Ok((group, bodies))
            });
            let (rest, bodies) = joined(read.await.map(|read| read.map_err(|error| self.failed(error))))?;
            self.send(bodies).await?;
            group = rest;
            if group.is_done() {
                break;
            }
        }
        let outgrown = group.into_outgrown();
        drop(permit);
        for id in outgrown {
            Box::pin(Arc::clone(&self).publish_large(id)).await?;
        }
        Ok(())
    }

    /// From the first object of a group on, as many as have few enough runs to be looked for together. For an object alone it
    /// is none: nobody comes after the segment's first.
    fn reach(&self, ids: &[u32]) -> Range<u32> {
        let (Some(&first), true) = (ids.first(), ids.len() > 1) else { return 0..0 };
        let mut runs = 0_usize;
        let behind = self.objects.get(first as usize..).unwrap_or_default().iter().take_while(|object| {
            runs = runs.saturating_add(usize::try_from(object.runs).unwrap_or(usize::MAX));
            runs <= Excerpt::RUNS_MAX
        });
        first..first.saturating_add(u32::try_from(behind.count()).unwrap_or(0))
    }

    /// Sends bodies, several at once.
    async fn send(&self, Bodies { bodies, whole }: Bodies) -> Result<(), StageError> {
        // Bodies are slices of one buffer, so the group's permit stays until the last one has been sent.
        let failed = AtomicBool::new(false);
        let mut sends = futures::stream::iter(bodies)
            .map(async |body| {
                if failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let result = self.put(body.object, body.bytes, body.crc32c).await;
                match result {
                    Ok(stored) => self.stored(body.object, stored),
                    Err(_) => failed.store(true, Ordering::Relaxed),
                }
                result.map(drop)
            })
            .buffer_unordered(self.options.requests);
        let mut failure = None;
        while let Some(result) = sends.next().await {
            keep_worst(&mut failure, result);
        }
        drop(sends);
        self.buffers.reclaim(whole);
        failure.map_or(Ok(()), Err)
    }

    /// Says what went wrong between the spool and a body.
    pub(super) fn failed(&self, error: ReadError) -> StageError {
        match error {
            ReadError::Build { object, error } => match self.named(object) {
                Ok((key, _)) => StageError::fatal("build file", BuildFailed { key, error })
                    .with_hint("the format has a defect; nothing of this object is visible"),
                Err(lost) => lost,
            },
            error => StageError::new("read back", error),
        }
    }

    /// Key and identity of an object.
    pub(super) fn named(&self, id: u32) -> Result<(String, ObjectIdentity), StageError> {
        let object = self.object(id)?;
        let route = self.routes.get(object.route as usize).and_then(Option::as_ref);
        let range = OffsetRange::new(object.first, object.last.next());
        let (Some(route), Some(range)) = (route, range) else {
            return Err(lost(id));
        };
        let Some(style) = self.segment.style(id) else { return Err(lost(id)) };
        let Segment { lane, layout, .. } = &self.segment;
        let key = self.options.keys.render(lane, &route.path, range, &style.extension);
        let identity = ObjectIdentity {
            lane: lane.clone(),
            range,
            rows: object.rows,
            row_bytes: object.bytes,
            rows_crc32c: object.crc.get(),
            layout: *layout,
        };
        Ok((key, identity))
    }

    pub(super) fn meta(&self, id: u32, identity: &ObjectIdentity) -> ObjectMeta {
        let content_type = self.segment.style(id).map(|style| style.content_type.clone());
        ObjectMeta { content_type: content_type.unwrap_or_default(), user: vec![identity.to_metadata()] }
    }

    pub(super) fn object(&self, id: u32) -> Result<&Object, StageError> {
        self.objects.get(id as usize).ok_or_else(|| lost(id))
    }

    pub(super) fn stored(&self, id: u32, bytes: u64) {
        if let Some(stored) = self.stored.get(id as usize) {
            stored.store(bytes, Ordering::Relaxed);
        }
    }

    /// Whether an attempt to publish has failed before.
    pub(super) fn is_repeated(&self) -> bool {
        self.repeated.load(Ordering::Relaxed)
    }

    fn is_absent(&self, id: u32) -> bool {
        self.stored.get(id as usize).is_some_and(|stored| stored.load(Ordering::Relaxed) == ABSENT)
    }

    /// A place among the requests under way; of all lanes of the sink. Held while sending only, so never waited for
    /// by somebody who holds one.
    pub(super) async fn request(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed: an absent permit would only under-count.
        self.requests.acquire().await.ok()
    }

    pub(super) fn parts_in_flight(&self) -> usize {
        self.options.requests
    }

    /// Rows that are read and sent as one group, in bytes: an eighth of the pool. What is made of them may take as much again, and
    /// several groups, of several lanes, are to move. Where a segment has many objects the rows of one are all over it, a few from
    /// each batch, and a group reads those of its objects in one piece: the larger it is, the fewer pieces there are.
    fn group_bytes(&self) -> u64 {
        (self.segment.memory.capacity() / 8).max(64 << 10).min(self.options.part_bytes as u64)
    }

    /// The size of the parts of an object: the option's, or less in a small pool, so that four parts fit into it; and
    /// never so small that the store has too many of them.
    pub(super) fn part_bytes(&self, id: u32, object: &Object) -> usize {
        let assembly = &self.segment.assembly;
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let pool = self.segment.memory.capacity().saturating_sub(assembly.build_bytes(id, object) as u64);
        let share = bytes(pool / 4).saturating_sub(bytes(self.slot_bytes(0)));
        let whole = assembly.bound(id, bytes(object.bytes));
        // A file that is built may turn out larger than it was thought to be, and have parts after all.
        let least = if assembly.builds(id) { self.limits.part_bytes_min } else { 0 };
        let parts = usize::try_from(self.limits.parts_max).unwrap_or(usize::MAX);
        let size = self.options.part_bytes.min(share).max(self.limits.part_bytes_min);
        size.max(whole.div_ceil(parts)).min(whole.max(least))
    }

    /// The buffer of a part: with compression the last piece may pass the part's size.
    pub(super) fn buffer_bytes(&self, part: usize) -> usize {
        match self.segment.assembly.codec() {
            Compression::None => part,
            codec => part + codec.bound(PIECE),
        }
    }

    /// What a part costs, in bytes, with its share of the reader.
    pub(super) fn slot_bytes(&self, part: usize) -> u64 {
        (self.buffer_bytes(part) + IndexReader::CHUNK + self.segment.assembly.codec_bytes()) as u64
    }

    pub(super) fn open_upload(&self, upload: &Upload) {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner).push(upload.clone());
    }

    pub(super) fn close_upload(&self, upload: &Upload) {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner).retain(|open| open != upload);
    }

    pub(super) fn open_uploads(&self) -> Vec<Upload> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An object whose rows are whole and whose file cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("the file of {key} cannot be built")]
struct BuildFailed {
    key: String,
    #[source]
    error: BuildError,
}

fn keep_worst(failure: &mut Option<StageError>, result: Result<(), StageError>) {
    if let Err(error) = result
        && failure.as_ref().is_none_or(|known| known.class() != Class::Fatal)
    {
        *failure = Some(error);
    }
}

fn lost(id: u32) -> StageError {
    StageError::fatal(
        "publish",
        format!("object {id} of the segment has no description; this is a defect, report it"),
    )
}
