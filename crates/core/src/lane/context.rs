//! What a lane is given.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::dead_letter::{OnPoison, PoisonBreaker};
use crate::fingerprint::Fingerprint;
use crate::lease::Lease;
use crate::observe::{LaneCell, LaneScope, Totals};
use crate::pipeline::PublishedHook;
use crate::record::TopicPartition;
use crate::rotate::RotationPolicy;
use crate::sink::SinkCapabilities;
use crate::source::SourceControl;
use crate::spool::Spool;

/// The user's three stages.
#[derive(Debug)]
pub(crate) struct Stages<C, P, K> {
    pub(crate) converter: C,
    pub(crate) partitioner: P,
    pub(crate) sink: K,
}

/// Everything else, shared by a lane's two tasks.
pub(crate) struct LaneContext {
    pub(crate) lane: TopicPartition,
    pub(crate) lease: Lease,
    pub(crate) control: Arc<dyn SourceControl>,
    pub(crate) spool: Spool,
    pub(crate) budget: Budget,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rotation: Arc<dyn RotationPolicy>,
    pub(crate) on_poison: OnPoison,
    pub(crate) poison_breaker: Option<PoisonBreaker>,
    pub(crate) on_published: Option<Arc<PublishedHook>>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) capabilities: SinkCapabilities,
    pub(crate) record_bytes_max: u64,
    pub(crate) adopt_foreign_marks: bool,
    pub(crate) exactly_once_required: bool,
    /// Lanes assigned at the moment, to share the disk fairly.
    pub(crate) lanes_assigned: Arc<std::sync::atomic::AtomicUsize>,
    pub(crate) started: Instant,
    pub(crate) totals: Arc<Totals>,
    pub(crate) cell: Arc<LaneCell>,
    pub(crate) scope: LaneScope,
}

impl fmt::Debug for LaneContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneContext").field("lane", &self.lane).finish_non_exhaustive()
    }
}
