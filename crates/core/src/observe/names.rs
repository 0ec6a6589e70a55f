//! Every metric there is: names, units and labels in one place.
//!
//! Labels are bounded: pipeline, topic, partition, reason, stage, class. Never a route or a key.

use crate::record::TopicPartition;

/// One metric of the closed set, for documentation and dashboards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricInfo {
    /// The name given to the `metrics` crate.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The labels beside `pipeline`.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

impl MetricInfo {
    /// For a stage that has metrics of its own and a reference of them.
    pub const fn new(
        name: &'static str,
        kind: &'static str,
        labels: &'static str,
        help: &'static str,
    ) -> Self {
        Self { name, kind, labels, help }
    }
}

macro_rules! metrics_table {
    ($($variant:ident $name:literal $kind:ident [$labels:literal] $help:literal;)*) => {
        /// A metric of the pipeline.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Metric { $($variant),* }

        impl Metric {
            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        /// The closed set of metrics, in the order of a record's way.
        pub fn metrics_reference() -> &'static [MetricInfo] {
            &[$(MetricInfo { name: $name, kind: stringify!($kind), labels: $labels, help: $help }),*]
        }
    };
}

metrics_table! {
    RecordsDue "aqueduct_records_due_total" counter ["topic, partition"]
        "Records read by a lane: what has to become durable.";
    RecordsDurable "aqueduct_records_durable_total" counter ["topic, partition"]
        "Records below the committed mark: stored, dead-lettered or skipped by policy. Due minus durable is what a crash reads again.";
    RowsPublished "aqueduct_rows_published_total" counter ["topic, partition"]
        "Rows in visible objects.";
    RecordsSkipped "aqueduct_records_skipped_total" counter ["topic, partition, reason"]
        "Records not stored by intention: tombstones, filtered, poison by policy.";
    DeadLetters "aqueduct_dead_letters_total" counter ["topic, partition, stage, reason"]
        "Records handed to the dead letters.";
    Segments "aqueduct_segments_total" counter ["topic, partition, reason"]
        "Segments cut, by why.";
    Objects "aqueduct_objects_total" counter ["topic, partition"]
        "Objects made visible.";
    ObjectBytes "aqueduct_object_bytes_total" counter ["topic, partition"]
        "Bytes of visible objects, as stored.";
    PublishSeconds "aqueduct_publish_seconds" histogram ["topic, partition"]
        "Time from a segment's cut to its commit.";
    Retries "aqueduct_retries_total" counter ["topic, partition, stage"]
        "Failed operations that are tried again.";
    Abandoned "aqueduct_segments_abandoned_total" counter ["topic, partition"]
        "Segments given up because their partition went away; their new owner redoes them.";
    Recovered "aqueduct_intents_recovered_total" counter ["topic, partition"]
        "Segments of former owners that were finished here.";
    ForeignMarks "aqueduct_foreign_marks_total" counter ["topic, partition"]
        "Assignments whose committed offset was set by another program.";
    LaneFailures "aqueduct_lane_failures_total" counter ["topic, partition"]
        "Lanes stopped by an error that needs a human.";
    SegmentAge "aqueduct_segment_age_seconds" gauge ["topic, partition"]
        "Age of the open segment, 0 without one: how old the oldest record not yet durable may be.";
    Lag "aqueduct_lag_records" gauge ["topic, partition"]
        "Offsets from the committed mark to the end of the partition, as the source saw it a few seconds ago: all that is not durable yet.";
    PendingIntents "aqueduct_pending_intents" gauge ["topic, partition"]
        "1 while a cut is written down and not yet published.";
    MemoryUsed "aqueduct_memory_used_bytes" gauge [""]
        "Bytes taken from the memory budget.";
    DiskUsed "aqueduct_disk_used_bytes" gauge [""]
        "Bytes taken from the disk budget.";
    Lanes "aqueduct_lanes" gauge [""]
        "Partitions assigned to this process.";
    ExactlyOnce "aqueduct_exactly_once" gauge [""]
        "1 if the pipeline's computed guarantee is exactly once.";
}

impl Metric {
    /// Adds to a counter of a lane, with at most two more labels.
    pub(crate) fn add(self, scope: &LaneScope, labels: &[(&'static str, &'static str)], by: u64) {
        metrics::counter!(self.name(), scope.labels(labels)).increment(by);
    }

    /// Sets a gauge of a lane.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    pub(crate) fn set(self, scope: &LaneScope, value: u64) {
        metrics::gauge!(self.name(), scope.labels(&[])).set(value as f64);
    }

    /// Records a duration of a lane.
    pub(crate) fn record(self, scope: &LaneScope, seconds: f64) {
        metrics::histogram!(self.name(), scope.labels(&[])).record(seconds);
    }

    /// Sets a gauge of the pipeline.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    pub(crate) fn set_pipeline(self, pipeline: &str, value: u64) {
        metrics::gauge!(self.name(), "pipeline" => pipeline.to_owned()).set(value as f64);
    }
}

/// The labels of one lane's metrics.
#[derive(Clone, Debug)]
pub(crate) struct LaneScope {
    base: Vec<metrics::Label>,
}

impl LaneScope {
    pub(crate) fn new(pipeline: &str, lane: &TopicPartition) -> Self {
        Self {
            base: vec![
                metrics::Label::new("pipeline", pipeline.to_owned()),
                metrics::Label::new("topic", lane.topic().to_owned()),
                metrics::Label::new("partition", lane.partition().to_string()),
            ],
        }
    }

    fn labels(&self, more: &[(&'static str, &'static str)]) -> Vec<metrics::Label> {
        let more = more.iter().map(|(name, value)| metrics::Label::new(*name, *value));
        self.base.iter().cloned().chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_convention() {
        let mut names: Vec<_> = metrics_reference().iter().map(|metric| metric.name).collect();
        for metric in metrics_reference() {
            assert!(metric.name.starts_with("aqueduct_"), "{}", metric.name);
            assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{}", metric.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), metrics_reference().len());
    }
}
