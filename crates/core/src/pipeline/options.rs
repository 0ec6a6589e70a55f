//! What can be set beside the four stages.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::Budget;
use crate::clock::{Clock, SystemClock};
use crate::dead_letter::{OnPoison, PoisonBreaker};
use crate::rotate::{MaxAge, MaxBytes, RotationPolicy, any};
use crate::spool::{Disk, LocalDisk};

use super::{Guarantee, PublishedHook};

/// Memory, disk and record size.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub(crate) budget: Budget,
    pub(crate) record_max: Option<u64>,
}

impl Limits {
    /// A memory budget of this pipeline alone, in bytes: records between source and spool and buffers between spool
    /// and target. The process needs this plus what the client libraries hold (about 64 MiB).
    #[must_use]
    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.budget = Budget::new(bytes, self.budget.disk_bytes());
        self
    }

    /// A disk budget of this pipeline alone, in bytes of spool.
    #[must_use]
    pub fn with_disk(mut self, bytes: u64) -> Self {
        self.budget = Budget::new(self.budget.memory_bytes(), bytes);
        self
    }

    /// A budget shared with other pipelines of the process.
    #[must_use]
    pub fn with_budget(mut self, budget: &Budget) -> Self {
        self.budget = budget.clone();
        self
    }

    /// The largest record taken, in bytes of key, value and headers; larger ones are poison. The default is a quarter
    /// of the memory budget.
    #[must_use]
    pub fn with_record_max(mut self, bytes: u64) -> Self {
        self.record_max = Some(bytes);
        self
    }

    pub(crate) fn record_max(&self) -> u64 {
        self.record_max.unwrap_or(self.budget.memory_bytes() / 4)
    }
}

/// What a lane's failure means for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLaneFailure {
    /// The pipeline drains the other lanes and ends with the error, so that whoever runs the process sees it.
    #[default]
    Stop,
    /// The other lanes go on; the failed one is shown by the status and the metrics, and by the error of `run` at the
    /// end.
    KeepOthers,
}

/// Everything optional.
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) spool_dir: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) rotation: Arc<dyn RotationPolicy>,
    pub(crate) on_poison: OnPoison,
    pub(crate) poison_breaker: Option<PoisonBreaker>,
    pub(crate) on_lane_failure: OnLaneFailure,
    pub(crate) on_published: Option<Arc<PublishedHook>>,
    pub(crate) require: Option<Guarantee>,
    pub(crate) adopt_foreign_marks: bool,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            spool_dir: std::env::temp_dir(),
            limits: Limits::default(),
            rotation: Arc::new(any((MaxBytes::mib(128), MaxAge::minutes(5)))),
            on_poison: OnPoison::default(),
            poison_breaker: None,
            on_lane_failure: OnLaneFailure::default(),
            on_published: None,
            require: None,
            adopt_foreign_marks: false,
            // Within Kubernetes' 30 s between SIGTERM and SIGKILL.
            shutdown_timeout: Duration::from_secs(25),
            clock: Arc::new(SystemClock),
            disk: Arc::new(LocalDisk),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("name", &self.name)
            .field("spool_dir", &self.spool_dir)
            .field("limits", &self.limits)
            .field("rotation", &self.rotation)
            .field("on_poison", &self.on_poison)
            .finish_non_exhaustive()
    }
}
