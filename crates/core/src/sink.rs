//! Where records go: write, stage, publish.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::budget::Pool;
use crate::dead_letter::Rejected;
use crate::error::{Poison, StageError};
use crate::fingerprint::Fingerprint;
use crate::intent::Intent;
use crate::partition::{RouteId, RoutePath};
use crate::record::{Offset, OffsetRange, Record, TopicPartition};
use crate::spool::Scratch;

/// A target that makes the records of a segment visible, all of them exactly once.
///
/// # Contract
/// A segment is a range of offsets of one partition. Its life, driven by the lane:
///
/// ```text
/// begin → [append… → spill]… → stage → (intent is committed, letters are durable) → publish → (end is committed)
///                 any time: abandon
/// ```
///
/// A sink that [has to ask](SinkCapabilities::opens_routes) before it can encode rows of a route is told of each route before
/// its first record: [`open_route`](SegmentWriter::open_route).
///
/// - **Ordering.** One lane's segments follow each other; two may be open at once (one publishing, the next filling).
///   Lanes are independent and run at the same time.
/// - **Durability.** Nothing may be visible before [`publish`](SegmentWriter::publish). When it has returned `Ok`,
///   everything is durable and visible. `publish` is idempotent: it is called again after a failure, and another
///   process may run it for the same [`Intent`].
/// - **Redo or roll forward.** After a crash the new owner calls `begin` with the intent as `pinned`. A sink that
///   redoes answers [`Begun::Fill`]: the lane replays exactly the range, and `publish` finds what is already there. A
///   sink that rolls forward finishes what the intent's token names and answers [`Begun::AlreadyPublished`]. It is not
///   told of an intent without a token: that segment is read again.
/// - **Cancellation.** The lane may drop a future of `open_route`, `spill`, `stage` or `publish` at any await; the writer is
///   then only abandoned.
///
/// # Errors
/// [`StageError`] with its class: an outage is `Retry`, wrong credentials or a missing bucket are `Fatal`.
///
/// # Back-pressure
/// Take [`SegmentStart::memory`] permits for every buffer in `publish`, and disk only through
/// [`SegmentStart::scratch`].
///
/// A simple sink implements [`BatchSink`](crate::BatchSink) instead. To test yours, call `testkit::sink_suite`.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not store values of type `{T}`",
    label = "not a sink of what the converter gives",
    note = "choose a format that encodes `{T}`, or `map` the converter's output; a `BatchSink` is put into `Batched::new`",
    note = "stages come in the order `convert`, `partition`, `sink`, `build`; `Unset` is one that was left out"
)]
pub trait Sink<T: Send + 'static>: Send + Sync + 'static {
    /// Checks the target once, before any record is read: does the bucket exist, are we let in? An error ends the
    /// pipeline and says what to do. The default does nothing.
    async fn check(&self) -> Result<(), StageError> {
        Ok(())
    }

    /// Opens a writer for the segment starting at `at.start`. When `at.pinned` is `Some`, a former owner wrote its
    /// cut down: the sink says what became of it.
    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError>;

    /// What the sink can do; constant over its life.
    fn capabilities(&self) -> SinkCapabilities;

    /// Adds what decides names and contents to the layout's identity.
    fn fingerprint(&self, parts: &mut Fingerprint);

    /// What the target cannot carry of what the pipeline is going to ask of it, in words, each with its remedy; reported by
    /// `build()` together with all other problems. For limits on how often something is done, which only the pipeline knows. The
    /// default finds none.
    fn plan_problems(&self, plan: &PipelinePlan) -> Vec<String> {
        let _ = plan;
        Vec::new()
    }
}

macro_rules! forward_sink {
    ($($pointer:ident)*) => { $(
        // The compiler would propose a pointer for every type that does not fit.
        #[diagnostic::do_not_recommend]
        #[async_trait]
        impl<T: Send + 'static, S: Sink<T> + ?Sized> Sink<T> for $pointer<S> {
            async fn check(&self) -> Result<(), StageError> {
                (**self).check().await
            }

            async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
                (**self).begin(at).await
            }

            fn capabilities(&self) -> SinkCapabilities {
                (**self).capabilities()
            }

            fn fingerprint(&self, parts: &mut Fingerprint) {
                (**self).fingerprint(parts);
            }

            fn plan_problems(&self, plan: &PipelinePlan) -> Vec<String> {
                (**self).plan_problems(plan)
            }
        }
    )* };
}
forward_sink!(Arc Box);

/// What a pipeline is going to ask of its sink, as far as its configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipelinePlan {
    /// After about how long the rotation ends the segment of a lane that always has records, if nothing else ends it earlier;
    /// `None` if only records or bytes do. See [`RotationPolicy::interval`](crate::RotationPolicy::interval).
    pub segment_interval: Option<Duration>,
}

impl PipelinePlan {
    /// With [`segment_interval`](Self::segment_interval).
    #[must_use]
    pub fn with_segment_interval(mut self, interval: Option<Duration>) -> Self {
        self.segment_interval = interval;
        self
    }
}

/// Where a segment starts and what its writer may use.
#[derive(Debug)]
pub struct SegmentStart {
    /// The partition.
    pub lane: TopicPartition,
    /// The first offset of the segment.
    pub start: Offset,
    /// The intent a former owner left, with the same start, if something of it may be visible.
    pub pinned: Option<Intent>,
    /// When the segment was opened, in ms since the Unix epoch; a pinned intent's own if there is one.
    pub opened_at_ms: i64,
    /// The layout's identity (see [`Fingerprint::digest`]), for object metadata.
    pub layout: u64,
    /// Scratch files on local disk, with their permits. Dropping it removes them.
    /// [`StageError::spool`] says what their errors mean.
    pub scratch: Scratch,
    /// The pool for buffers on their way to the target.
    pub memory: Pool,
}

/// What [`Sink::begin`] found.
pub enum Begun<T: Send + 'static> {
    /// Fill it. With a pinned intent the lane cuts exactly at the intent's end.
    Fill(Box<dyn SegmentWriter<T>>),
    /// The pinned segment is already visible; the lane commits its end and moves on.
    AlreadyPublished(Published),
}

impl<T: Send + 'static> std::fmt::Debug for Begun<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fill(_) => f.write_str("Fill"),
            Self::AlreadyPublished(published) => f.debug_tuple("AlreadyPublished").field(published).finish(),
        }
    }
}

/// Writes one segment. See [`Sink`] for the order of calls.
#[async_trait]
pub trait SegmentWriter<T: Send + 'static>: Send {
    /// Per route that is new to the segment, before its first record is [appended](Self::append): the place to ask the target
    /// what encoding needs to know, such as the columns of a table that exists. Only for a sink that
    /// [`opens_routes`](SinkCapabilities::opens_routes); never per record. The default does nothing.
    ///
    /// What comes first of a route may be refused, so a route that was opened may be without rows, or be opened once more. May
    /// be called again after an error.
    ///
    /// # Errors
    /// As for every operation: while it is `Retry`, the lane waits at this record and takes nothing in. A route that is none for
    /// this target is no error here but the [`Poison`] of the record, when it is appended.
    async fn open_route(&mut self, path: &RoutePath) -> Result<(), StageError> {
        let _ = path;
        Ok(())
    }

    /// Per record: encodes it into the writer's buffer. No I/O, never blocks. On `Err` the writer is as if the call
    /// had not happened: no half row, no new route.
    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison>;

    /// Per batch: moves the buffer to the spool. After `Ok` the writer holds no slice of the batch any more. May be
    /// called again after an error and then continues. Returns the rows of this batch that the target has refused,
    /// for a sink that already writes here; others return an empty list.
    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError>;

    /// About five times a second while the segment is open and nothing else is asked of the writer. A sink that writes in the
    /// background says here what went wrong there, so that a lane without records hears of it too. The default does nothing.
    async fn tick(&mut self) -> Result<(), StageError> {
        Ok(())
    }

    /// Phase 1, at the cut: everything needed to publish is on scratch or staged remotely, nothing is visible.
    /// Returns the sink's token for the intent. May be called again after an error.
    async fn stage(&mut self, range: OffsetRange) -> Result<Staged, StageError>;

    /// Phase 2: makes it visible. Idempotent.
    async fn publish(&mut self) -> Result<Published, StageError>;

    /// Gives up: frees scratch, aborts uploads. Best effort, cannot fail; may follow any other call.
    async fn abandon(&mut self);

    /// Bytes encoded so far, for rotation by size.
    fn encoded_bytes(&self) -> u64;
}

/// A converted record on its way to the sink, with the original beside it.
///
/// Borrowed: nothing that outlives the batch may hold its arena.
#[derive(Debug)]
pub struct Envelope<'a, T> {
    /// The record as it was read.
    pub record: &'a Record<'a>,
    /// The route's number in this segment, from 0 in order of first use.
    pub route: RouteId,
    /// The route itself; a writer keeps it when it sees its number for the first time.
    pub path: &'a RoutePath,
    /// The converted value.
    pub value: T,
}

/// What [`SegmentWriter::stage`] gives.
#[derive(Debug, Default)]
pub struct Staged {
    /// The sink's own words in the intent; at most [`Intent::TOKEN_MAX`] bytes, empty for a sink that redoes.
    pub token: Bytes,
    /// Records the encoder found to be impossible at the cut, the same ones whenever the segment is staged; they are no
    /// rows in the intent, and their letters go out behind it.
    pub rejected: Vec<Rejected>,
}

/// What [`SegmentWriter::publish`] made visible.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The objects, in order of their first record.
    pub objects: Vec<PublishedObject>,
    /// Records the target refused; their letters go out before the end is committed.
    pub rejected: Vec<Rejected>,
}

/// One object (file, load, request) that is now visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedObject {
    /// Its full name in the target.
    pub key: String,
    /// From its first record's offset to the one after its last record's.
    pub range: OffsetRange,
    /// Number of rows; 0 for an object beside others that has none of its own.
    pub rows: u64,
    /// Bytes as stored.
    pub bytes: u64,
}

/// What a sink can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any combination may be one sink's"
)]
pub struct SinkCapabilities {
    /// When the lane commits.
    pub commit: CommitStyle,
    /// Whether recovery reads records again and so needs the same routes a second time.
    pub redoes: bool,
    /// Whether [`stage`](SegmentWriter::stage) or [`publish`](SegmentWriter::publish) may refuse rows, so that the
    /// lane keeps the original records on scratch for their letters.
    pub rejects_late: bool,
    /// Most routes a segment may have; more cut it.
    pub routes_max: usize,
    /// Whether [`open_route`](SegmentWriter::open_route) is to be called. The record at which a route begins is then converted
    /// a second time, once the route is open.
    pub opens_routes: bool,
    /// Whether writing the same record again changes nothing in the target, as it knows topic, partition and offset.
    pub idempotent: bool,
    /// Why the target cannot be written exactly once, if so.
    pub weakness: Option<&'static str>,
}

impl SinkCapabilities {
    /// A sink that redoes under an intent: exactly once.
    pub fn redo() -> Self {
        Self {
            commit: CommitStyle::Intent,
            redoes: true,
            rejects_late: false,
            routes_max: Self::ROUTES_MAX,
            opens_routes: false,
            idempotent: false,
            weakness: None,
        }
    }

    /// A sink without phases: `spill` may already write to the target, `publish` returns when all is acknowledged. At
    /// least once, unless it is [`idempotent`](Self::idempotent).
    pub fn after_durable() -> Self {
        Self {
            commit: CommitStyle::AfterDurable,
            redoes: true,
            rejects_late: false,
            routes_max: Self::ROUTES_MAX,
            opens_routes: false,
            idempotent: false,
            weakness: None,
        }
    }

    /// The default of [`routes_max`](Self::routes_max).
    pub const ROUTES_MAX: usize = 20_000;
}

/// When a lane commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitStyle {
    /// The cut first, as an intent; the end after publication.
    Intent,
    /// Only the end, after publication.
    AfterDurable,
}
