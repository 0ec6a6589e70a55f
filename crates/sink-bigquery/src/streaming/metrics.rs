//! The metrics of appends, names and labels in one place.

use aqueduct_core::MetricInfo;
use metrics::{Counter, Gauge, Histogram, Label};

macro_rules! metrics_table {
    ($($variant:ident $name:literal $kind:ident [$labels:literal] $help:literal;)*) => {
        /// A metric of the sink.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Metric { $($variant),* }

        impl Metric {
            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        const REFERENCE: &[MetricInfo] =
            &[$(MetricInfo::new($name, stringify!($kind), $labels, $help)),*];
    };
}

metrics_table! {
    RowsAppended "aqueduct_bigquery_rows_appended_total" counter ["dataset, topic, partition"]
        "Rows the service has acknowledged by a default stream, repetitions included.";
    RowsRefused "aqueduct_bigquery_rows_refused_total" counter ["dataset, topic, partition"]
        "Rows the service has refused one by one; they become letters.";
    InFlightBytes "aqueduct_bigquery_in_flight_bytes" gauge ["dataset, topic, partition"]
        "Bytes of rows that were handed over to a connection and are not acknowledged.";
    LastAckAge "aqueduct_bigquery_last_ack_age_seconds" gauge ["dataset, topic, partition"]
        "Time since the last acknowledgement while rows wait for one, 0 while none does.";
    AppendRetries "aqueduct_bigquery_append_retries_total" counter ["dataset, reason"]
        "Times that appends of a connection had to be tried again, by what went wrong.";
    AppendSeconds "aqueduct_bigquery_append_seconds" histogram ["dataset"]
        "Time from sending a request to its acknowledgement.";
}

/// The metrics that this sink has beside the pipeline's own, for documentation and dashboards.
///
/// The label `dataset` is the configured `project.dataset`; what records decide is in no label.
pub fn metrics_reference() -> &'static [MetricInfo] {
    REFERENCE
}

impl Metric {
    pub(super) fn counter(self, labels: Vec<Label>) -> Counter {
        metrics::counter!(self.name(), labels)
    }

    pub(super) fn gauge(self, labels: Vec<Label>) -> Gauge {
        metrics::gauge!(self.name(), labels)
    }

    pub(super) fn histogram(self, labels: Vec<Label>) -> Histogram {
        metrics::histogram!(self.name(), labels)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_document_shows_the_reference() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        let document = std::fs::read_to_string(path).unwrap();
        for MetricInfo { name, kind, labels, help, .. } in metrics_reference() {
            let line = format!("- `{name}` ({kind}; {labels}): {help}\n");
            assert!(document.contains(&line), "docs/metrics.md lacks:\n{line}");
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name}");
        }
    }
}
