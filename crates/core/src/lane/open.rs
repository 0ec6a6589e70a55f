//! The open segment.

use crate::clock::{from_unix_millis, unix_millis};
use crate::convert::SkipReason;
use crate::dead_letter::{DeadLetter, Rejected};
use crate::error::StageError;
use crate::intent::{Intent, OffsetsHash};
use crate::partition::{RoutePath, RouteTable};
use crate::record::Offset;
use crate::rotate::SegmentStats;
use crate::sink::{Begun, Published, SegmentStart, SegmentWriter, Sink};
use crate::spool::Scratch;

use super::backoff::persist;
use super::context::LaneContext;
use super::error::LaneError;
use super::originals::Originals;

use tokio::sync::OwnedSemaphorePermit;

/// A segment that takes records in.
pub(super) struct Open<T: Send + 'static> {
    pub(super) writer: Box<dyn SegmentWriter<T>>,
    pub(super) start: Offset,
    /// The intent to reproduce, when a former owner has cut this segment.
    pub(super) pinned: Option<Intent>,
    pub(super) opened_at_ms: i64,
    pub(super) stats: SegmentStats,
    pub(super) routes: RouteTable,
    /// Routes the writer was told of, those without a row among them.
    pub(super) opened: RouteTable,
    pub(super) path: RoutePath,
    /// The record whose route is in `path` already: it comes again, once the writer knows the route.
    pub(super) routed: Option<Offset>,
    pub(super) hash: OffsetsHash,
    pub(super) skips: Skips,
    pub(super) letters: Vec<DeadLetter>,
    pub(super) letter_bytes: usize,
    /// Kept only for a sink that rejects late.
    pub(super) originals: Option<Originals>,
    pub(super) scratch: Scratch,
    /// One of the two segments a lane may have at a time; given back when the segment is done.
    pub(super) slot: OwnedSemaphorePermit,
}

/// What beginning a segment gave.
pub(super) enum Opened<T: Send + 'static> {
    Filling(Box<Open<T>>),
    AlreadyPublished(Published),
}

impl<T: Send + 'static> Open<T> {
    /// Begins the segment at `start`, asking the sink for as long as it takes.
    pub(super) async fn begin<K: Sink<T>>(
        context: &LaneContext,
        sink: &K,
        start: Offset,
        pinned: Option<Intent>,
        slot: OwnedSemaphorePermit,
    ) -> Result<Opened<T>, LaneError> {
        let opened_at_ms =
            pinned.as_ref().map_or_else(|| unix_millis(context.clock.now()), |intent| intent.opened_at_ms);
        // Of a segment without rows, and of one whose token is not written down yet, the sink knows nothing.
        let redoes = context.capabilities.redoes;
        let known =
            pinned.clone().filter(|intent| if redoes { intent.rows > 0 } else { !intent.token.is_empty() });
        let scratch = context.spool.scratch();
        let layout = context.fingerprint.digest();
        let begun = persist!(
            context,
            sink.begin(SegmentStart {
                lane: context.lane.clone(),
                start,
                pinned: known.clone(),
                opened_at_ms,
                layout,
                scratch: scratch.clone(),
                memory: context.budget.publish().clone(),
            })
            .await
        )?;
        let writer = match begun {
            Begun::Fill(writer) => writer,
            Begun::AlreadyPublished(published) if known.is_some() => {
                return Ok(Opened::AlreadyPublished(published));
            }
            Begun::AlreadyPublished(_) => {
                return Err(LaneError::SinkContract {
                    what: "only a pinned segment can be published already",
                });
            }
        };
        let originals = if context.capabilities.rejects_late {
            let created = persist!(
                context,
                Originals::create(&scratch).map_err(|error| StageError::spool("spool create", error))
            )?;
            Some(created)
        } else {
            None
        };
        Ok(Opened::Filling(Box::new(Self {
            writer,
            start,
            pinned,
            opened_at_ms,
            stats: SegmentStats::opened(from_unix_millis(opened_at_ms)),
            routes: RouteTable::new(),
            opened: RouteTable::new(),
            path: RoutePath::new(opened_at_ms),
            routed: None,
            hash: OffsetsHash::default(),
            skips: Skips::default(),
            letters: Vec::new(),
            letter_bytes: 0,
            originals,
            scratch,
            slot,
        })))
    }

    /// Tells the writer of the route in `path`, for as long as it takes.
    pub(super) async fn open_route(&mut self, context: &LaneContext) -> Result<(), LaneError> {
        persist!(context, self.writer.open_route(&self.path).await)?;
        if self.opened.len() >= context.capabilities.routes_max {
            // All of their records were refused. Data decides how many such there are; the writer can be told again.
            self.opened = RouteTable::new();
        }
        self.opened.intern(&self.path);
        Ok(())
    }

    /// Takes rows out again that the sink has refused; in order.
    pub(super) fn refused(&mut self, rejected: &[Rejected]) {
        for Rejected { offset, .. } in rejected {
            self.stats.rows = self.stats.rows.saturating_sub(1);
            self.hash.refuse(*offset);
        }
    }
}

/// Records that were not stored by intention.
#[derive(Debug, Default)]
pub(super) struct Skips {
    total: u64,
    unreported: [u64; SkipReason::ALL.len()],
}

impl Skips {
    pub(super) fn add(&mut self, reason: SkipReason) {
        self.total += 1;
        for (known, count) in SkipReason::ALL.iter().zip(&mut self.unreported) {
            *count += u64::from(*known == reason);
        }
    }

    /// All of the segment's.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// What was added since the last call, by reason.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (SkipReason, u64)> + use<> {
        let counts = std::mem::take(&mut self.unreported);
        SkipReason::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }
}
