//! What a case works with: processes with a sink and scratch each, segments to write, and a look at the target.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::script::Script;
use super::{Ran, SinkHarness};
use crate::batch::Batch;
use crate::budget::Pool;
use crate::clock::{Clock, SystemClock, unix_millis};
use crate::error::{Class, ErrorChain, Poison, StageError};
use crate::fingerprint::Fingerprint;
use crate::intent::{Intent, OffsetsHash};
use crate::partition::{RoutePath, RouteTable};
use crate::record::{Offset, Record, TopicPartition};
use crate::sink::{Begun, Envelope, Published, SegmentStart, SegmentWriter, Sink, SinkCapabilities};
use crate::spool::{LocalDisk, Scratch, Spool};

/// Retries a call that may pass by itself, as a lane does. Anything else fails the case.
macro_rules! settle {
    ($case:expr, $what:literal, $call:expr) => {{
        let mut attempts = 0_u32;
        loop {
            match $call {
                Ok(value) => break value,
                Err(error) => $case.back_off($what, &mut attempts, error).await,
            }
        }
    }};
}
pub(super) use settle;

/// A directory for the suite's spools, removed in the end.
pub(super) struct Directory {
    path: PathBuf,
    spools: AtomicU64,
}

impl Directory {
    pub(super) fn create() -> Self {
        let path = std::env::temp_dir().join(format!("aqueduct-{}", topic("spools")));
        Self { path, spools: AtomicU64::new(0) }
    }

    fn spool(&self) -> Spool {
        let number = self.spools.fetch_add(1, Ordering::Relaxed);
        let opened =
            Spool::open(Path::new(&self.path), &number.to_string(), Arc::new(LocalDisk), Pool::new(1 << 30));
        match opened {
            Ok(spool) => spool,
            Err(error) => panic!("the suite needs scratch space: {}", ErrorChain(&error)),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "could not remove the suite's directory");
        }
    }
}

/// A topic name nobody has used before.
pub(super) fn topic(case: &str) -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let (now, process) = (unix_millis(SystemClock.now()), std::process::id());
    format!("suite-{now:x}-{process:x}-{made:x}-{}", case.replace('_', "-"))
}

/// One case of the suite.
pub(super) struct Case<'a, H> {
    pub(super) harness: &'a H,
    pub(super) capabilities: SinkCapabilities,
    directory: &'a Directory,
    pub(super) name: &'static str,
    pub(super) topic: Arc<str>,
}

/// A process of the pipeline: an instance of the sink, and scratch that no other process sees.
pub(super) struct Process<S> {
    pub(super) sink: S,
    pub(super) fingerprint: Fingerprint,
    spool: Spool,
    memory: Pool,
}

/// A segment between `begin` and its end.
pub(super) struct Segment<T: Send + 'static> {
    pub(super) writer: Box<dyn SegmentWriter<T>>,
    /// Offsets of rows that were refused, in whichever call.
    pub(super) refused: Vec<Offset>,
    routes: RouteTable,
    /// Those the writer was told of.
    opened: RouteTable,
    rows: u64,
    hash: OffsetsHash,
    opened_at_ms: i64,
    _scratch: Scratch,
}

impl<T: Send + 'static> Segment<T> {
    /// Appends one record as the lane does: a route gets its number for good when its first record was taken.
    pub(super) fn append(&mut self, script: &Script, record: &Record<'_>, value: T) -> Result<(), Poison> {
        let mut path = RoutePath::new(self.opened_at_ms);
        script.route(record, &mut path);
        let known = self.routes.get(&path);
        let route = known.unwrap_or_else(|| self.routes.next_id());
        self.writer.append(Envelope { record, route, path: &path, value })?;
        if known.is_none() {
            self.routes.intern(&path);
        }
        self.rows += 1;
        self.hash.push(record.offset());
        Ok(())
    }
}

impl<'a, H: SinkHarness> Case<'a, H> {
    pub(super) fn new(
        harness: &'a H,
        directory: &'a Directory,
        name: &'static str,
        topic: String,
        capabilities: SinkCapabilities,
    ) -> Self {
        Self { harness, capabilities, directory, name, topic: topic.into() }
    }

    /// Ends the suite.
    pub(super) fn fail(&self, what: impl Display) -> ! {
        panic!("{} ({}): {what}", self.name, self.topic)
    }

    /// Ends the suite unless `holds`.
    pub(super) fn check(&self, holds: bool, what: impl Display) {
        if !holds {
            self.fail(what);
        }
    }

    pub(super) fn lane(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.topic), partition)
    }

    /// Starts a process.
    pub(super) async fn process(&self) -> Process<H::Sink> {
        let sink = self.harness.sink().await;
        let mut fingerprint = Fingerprint::new();
        fingerprint.put("converter", "suite/1");
        fingerprint.put("partitioner", "suite/1");
        sink.fingerprint(&mut fingerprint);
        Process { sink, fingerprint, spool: self.directory.spool(), memory: Pool::new(64 << 20) }
    }

    pub(super) async fn begin(
        &self,
        process: &Process<H::Sink>,
        script: &Script,
        pinned: Option<&Intent>,
    ) -> Result<Segment<H::Value>, Published> {
        let opened_at_ms =
            pinned.map_or_else(|| unix_millis(SystemClock.now()), |intent| intent.opened_at_ms);
        let scratch = process.spool.scratch();
        // As a lane does it: disk is paid for before a writer needs it.
        scratch.reserve(1 << 20).await;
        let begun = settle!(
            self,
            "begin",
            process
                .sink
                .begin(SegmentStart {
                    lane: script.lane.clone(),
                    start: script.range.start(),
                    pinned: pinned.cloned(),
                    opened_at_ms,
                    layout: process.fingerprint.digest(),
                    scratch: scratch.clone(),
                    memory: process.memory.clone(),
                })
                .await
        );
        match begun {
            Begun::Fill(writer) => Ok(Segment {
                writer,
                refused: Vec::new(),
                routes: RouteTable::new(),
                opened: RouteTable::new(),
                rows: 0,
                hash: OffsetsHash::default(),
                opened_at_ms,
                _scratch: scratch,
            }),
            Begun::AlreadyPublished(published) => {
                self.check(pinned.is_some(), "begin without an intent answered AlreadyPublished");
                Err(published)
            }
        }
    }

    /// Begins a segment that nobody has cut before.
    pub(super) async fn open(&self, process: &Process<H::Sink>, script: &Script) -> Segment<H::Value> {
        match self.begin(process, script, None).await {
            Ok(segment) => segment,
            Err(_) => self.fail("begin without an intent answered AlreadyPublished"),
        }
    }

    /// Tells the writer of the routes of a batch that are new to it, as the lane does before it appends their first records.
    pub(super) async fn open_routes(&self, segment: &mut Segment<H::Value>, script: &Script, batch: &Batch) {
        if !self.capabilities.opens_routes {
            return;
        }
        for record in batch.iter() {
            let mut path = RoutePath::new(segment.opened_at_ms);
            script.route(&record, &mut path);
            if segment.opened.get(&path).is_none() {
                settle!(self, "open_route", segment.writer.open_route(&path).await);
                segment.opened.intern(&path);
            }
        }
    }

    /// Appends every record of a batch, none of which the sink may refuse.
    pub(super) async fn append_all(&self, segment: &mut Segment<H::Value>, script: &Script, batch: &Batch) {
        self.open_routes(segment, script, batch).await;
        for record in batch.iter() {
            let value = self.harness.value(&record);
            if let Err(poison) = segment.append(script, &record, value) {
                self.fail(format_args!("append refused offset {}: {poison}", record.offset()));
            }
        }
    }

    /// Appends and spills the whole script.
    pub(super) async fn fill(&self, segment: &mut Segment<H::Value>, script: &Script) {
        for batch in script.batches() {
            self.append_all(segment, script, &batch).await;
            self.spill(segment).await;
        }
    }

    pub(super) async fn spill(&self, segment: &mut Segment<H::Value>) {
        let rejected = settle!(self, "spill", segment.writer.spill().await);
        segment.refused.extend(rejected.into_iter().map(|rejected| rejected.offset));
    }

    /// Stages, and gives the intent a lane would commit.
    pub(super) async fn stage(
        &self,
        process: &Process<H::Sink>,
        segment: &mut Segment<H::Value>,
        script: &Script,
    ) -> Intent {
        let staged = settle!(self, "stage", segment.writer.stage(script.range).await);
        self.check(
            staged.token.len() <= Intent::TOKEN_MAX,
            format_args!("a token of {} bytes, the limit is {}", staged.token.len(), Intent::TOKEN_MAX),
        );
        self.check(
            staged.rejected.is_empty() || self.capabilities.rejects_late,
            "stage refused rows, and the capabilities do not say rejects_late",
        );
        segment.refused.extend(staged.rejected.into_iter().map(|rejected| rejected.offset));
        Intent {
            range: script.range,
            fingerprint: process.fingerprint.clone(),
            rows: segment.rows,
            offsets_hash: segment.hash.finish(),
            opened_at_ms: segment.opened_at_ms,
            token: staged.token,
        }
    }

    pub(super) async fn publish(&self, segment: &mut Segment<H::Value>) -> Published {
        let published = settle!(self, "publish", segment.writer.publish().await);
        self.check(
            published.rejected.is_empty() || self.capabilities.rejects_late,
            "publish refused rows, and the capabilities do not say rejects_late",
        );
        segment.refused.extend(published.rejected.iter().map(|rejected| rejected.offset));
        published
    }

    /// Fills, stages: a segment as it is when its intent is committed.
    pub(super) async fn cut(
        &self,
        process: &Process<H::Sink>,
        script: &Script,
    ) -> (Segment<H::Value>, Intent) {
        let mut segment = self.open(process, script).await;
        self.fill(&mut segment, script).await;
        let intent = self.stage(process, &mut segment, script).await;
        (segment, intent)
    }

    /// Writes a segment from `begin` to `publish`.
    pub(super) async fn write(
        &self,
        process: &Process<H::Sink>,
        script: &Script,
    ) -> (Segment<H::Value>, Published) {
        let (mut segment, _) = self.cut(process, script).await;
        let published = self.publish(&mut segment).await;
        (segment, published)
    }

    /// Finishes what `intent` says, as a new owner does.
    pub(super) async fn recover(
        &self,
        process: &Process<H::Sink>,
        script: &Script,
        intent: &Intent,
    ) -> Published {
        let mut segment = match self.begin(process, script, Some(intent)).await {
            Ok(segment) => segment,
            Err(published) => return published,
        };
        self.fill(&mut segment, script).await;
        let again = self.stage(process, &mut segment, script).await;
        self.check(
            (again.rows, again.offsets_hash) == (intent.rows, intent.offsets_hash),
            "the suite itself has replayed other rows",
        );
        self.publish(&mut segment).await
    }

    /// Waits before the next attempt, or fails the case.
    pub(super) async fn back_off(&self, what: &str, attempts: &mut u32, error: StageError) {
        *attempts += 1;
        match error.class() {
            Class::Retry { .. } | Class::Unknown if *attempts < ATTEMPTS_MAX => {
                tokio::time::sleep(Duration::from_millis(20) * *attempts).await;
            }
            class => {
                self.fail(format_args!("{what}: {} ({class:?}, attempt {attempts})", ErrorChain(&error)))
            }
        }
    }
}

const ATTEMPTS_MAX: u32 = 10;

/// The end of a case.
pub(super) const PASSED: Ran = Ran::Yes;
