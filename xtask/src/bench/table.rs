//! The result: a table for people, the same rows as JSON for later runs.

use anyhow::{Context as _, Result};
use serde::Serialize;
use xtask::load::audit::Audit;

use super::millis;
use super::worker::Measured;

/// One case; medians over its pairs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    case: &'static str,
    records: u64,
    /// CPU of the whole process.
    ns_per_record: f64,
    floor_ns_per_record: f64,
    /// Median of the pairs' own ratios.
    ratio: f64,
    records_per_s: f64,
    /// The worst of all runs.
    peak_rss_mib: f64,
    objects: u64,
    pub(super) lost: u64,
    /// Everything else an audit holds against a run counts here too: reordered, corrupt, orphaned.
    pub(super) duplicated: u64,
    pairs: usize,
    ratios: Vec<f64>,
    time_to_first_object_ms: Option<u64>,
    pub(super) shutdown_ms: Option<u64>,
    pub(super) replayed_records: Option<u64>,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
impl Row {
    pub(super) fn new(
        case: &'static str,
        floors: &[Measured],
        runs: &[Measured],
        audits: &Audit,
    ) -> Result<Self> {
        let cost = |measured: &Measured| measured.cpu.as_nanos() as f64 / measured.records.max(1) as f64;
        let last = runs.last().context("a case without a run")?;
        let ratios: Vec<f64> = floors.iter().zip(runs).map(|(floor, run)| cost(run) / cost(floor)).collect();
        let peak = runs.iter().map(|run| run.peak_rss_bytes).max().unwrap_or_default();
        Ok(Self {
            case,
            records: last.records,
            ns_per_record: median(runs.iter().map(cost)),
            floor_ns_per_record: median(floors.iter().map(cost)),
            ratio: median(ratios.iter().copied()),
            records_per_s: median(runs.iter().map(|run| run.records as f64 / run.elapsed.as_secs_f64())),
            peak_rss_mib: peak as f64 / f64::from(1 << 20),
            objects: last.objects,
            lost: audits.lost,
            duplicated: audits.duplicated,
            pairs: runs.len(),
            ratios,
            time_to_first_object_ms: last.first_object.map(millis),
            shutdown_ms: None,
            replayed_records: None,
        })
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(upper), 0) => {
            f64::midpoint(*upper, values.get(middle.saturating_sub(1)).copied().unwrap_or(*upper))
        }
        (Some(value), _) => *value,
        (None, _) => f64::NAN,
    }
}

#[expect(clippy::print_stdout, reason = "the result goes to standard output")]
pub(super) fn print(rows: &[Row]) {
    println!(
        "{:<18} {:>9} {:>10} {:>9} {:>6} {:>11} {:>9} {:>8} {:>5} {:>5} {:>9} {:>9} {:>9}",
        "case",
        "records",
        "ns/record",
        "floor",
        "ratio",
        "records/s",
        "peak MiB",
        "objects",
        "lost",
        "dup",
        "first ms",
        "stop ms",
        "replayed"
    );
    for row in rows {
        let maybe = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        println!(
            "{:<18} {:>9} {:>10.0} {:>9.0} {:>6.2} {:>11.0} {:>9.1} {:>8} {:>5} {:>5} {:>9} {:>9} {:>9}",
            row.case,
            row.records,
            row.ns_per_record,
            row.floor_ns_per_record,
            row.ratio,
            row.records_per_s,
            row.peak_rss_mib,
            row.objects,
            row.lost,
            row.duplicated,
            maybe(row.time_to_first_object_ms),
            maybe(row.shutdown_ms),
            maybe(row.replayed_records)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0].into_iter()) - 2.5).abs() < 1e-9);
    }
}
