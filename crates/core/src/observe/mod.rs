//! What a running pipeline shows: metrics, spans and status.

mod names;
mod status;

pub(crate) use names::{LaneScope, Metric};
pub use names::{MetricInfo, metrics_reference};
pub(crate) use status::{LaneCell, Totals};
pub use status::{LaneState, LaneStatus, PipelineStatus, Report};
