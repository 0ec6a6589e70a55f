//! The result, for people and as JSON.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::super::table::{cost, median};
use super::super::worker::Measured;
use super::{PEAK_MIB_MAX, RATIO_MAX, ROWS_PER_S_MIN};

/// One case; medians over its pairs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    case: String,
    records: u64,
    /// CPU of the whole process.
    ns_per_record: f64,
    /// CPU of a loop that reads records and does nothing with them.
    floor_ns_per_record: f64,
    /// Median of the pairs' own ratios.
    ratio: f64,
    ratio_limit: f64,
    records_per_s: f64,
    /// The worst of all runs.
    peak_rss_mib: f64,
    peak_limit_mib: f64,
    /// CPU of the BigQuery that was written to, which is none of ours.
    fake_ns_per_record: f64,
    /// How many cores it was busy with.
    fake_cores: f64,
    /// Whether CPU and memory are within their limits.
    within: bool,
    /// In each run every record was visible once, or there would be no row.
    pairs: usize,
}

/// From events in memory to rows in memory; medians over its runs.
#[derive(Debug, Serialize)]
pub(super) struct Encoding {
    records: u64,
    /// Of one thread.
    ns_per_row: f64,
    rows_per_s: f64,
    rows_per_s_limit: f64,
    within: bool,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
impl Row {
    pub(super) fn new(
        case: String,
        floors: &[Measured],
        runs: &[Measured],
        fakes: &[Measured],
    ) -> Result<Self> {
        let last = runs.last().context("a case without a run")?;
        let ratio = median(floors.iter().zip(runs).map(|(floor, run)| cost(run) / cost(floor)));
        let peak = runs.iter().map(|run| run.peak_rss_bytes).max().unwrap_or_default();
        let peak_rss_mib = peak as f64 / f64::from(1 << 20);
        let cores =
            fakes.iter().zip(runs).map(|(fake, run)| fake.cpu.as_secs_f64() / run.elapsed.as_secs_f64());
        Ok(Self {
            case,
            records: last.records,
            ns_per_record: median(runs.iter().map(cost)),
            floor_ns_per_record: median(floors.iter().map(cost)),
            ratio,
            ratio_limit: RATIO_MAX,
            records_per_s: median(runs.iter().map(|run| run.records as f64 / run.elapsed.as_secs_f64())),
            peak_rss_mib,
            peak_limit_mib: PEAK_MIB_MAX,
            fake_ns_per_record: median(fakes.iter().map(cost)),
            fake_cores: median(cores),
            within: ratio <= RATIO_MAX && peak_rss_mib <= PEAK_MIB_MAX,
            pairs: runs.len(),
        })
    }

    pub(super) fn case(&self) -> &str {
        &self.case
    }

    pub(super) fn is_within(&self) -> bool {
        self.within
    }
}

impl Encoding {
    pub(super) fn new(runs: &[Measured]) -> Result<Self> {
        let records = runs.last().context("no run")?.records;
        let ns_per_row = median(runs.iter().map(cost));
        let rows_per_s = 1e9 / ns_per_row;
        let (rows_per_s_limit, within) = (ROWS_PER_S_MIN, rows_per_s >= ROWS_PER_S_MIN);
        Ok(Self { records, ns_per_row, rows_per_s, rows_per_s_limit, within })
    }

    pub(super) fn is_within(&self) -> bool {
        self.within
    }
}

#[expect(clippy::print_stdout, reason = "the result goes to standard output")]
pub(super) fn print(rows: &[Row], encoding: &Encoding) {
    println!(
        "{:<28} {:>9} {:>9} {:>6} {:>6} {:>6} {:>10} {:>8} {:>6} {:>8} {:>6} {:>7}",
        "case",
        "records",
        "ns/record",
        "floor",
        "ratio",
        "limit",
        "records/s",
        "peak MiB",
        "limit",
        "fake ns",
        "cores",
        "verdict",
    );
    for row in rows {
        println!(
            "{:<28} {:>9} {:>9.0} {:>6.0} {:>6.2} {:>6.1} {:>10.0} {:>8.1} {:>6.0} {:>8.0} {:>6.2} {:>7}",
            row.case,
            row.records,
            row.ns_per_record,
            row.floor_ns_per_record,
            row.ratio,
            row.ratio_limit,
            row.records_per_s,
            row.peak_rss_mib,
            row.peak_limit_mib,
            row.fake_ns_per_record,
            row.fake_cores,
            verdict(row.within),
        );
    }
    println!(
        "encoding on one thread: {:.0} ns a row, {:.0} rows/s, at least {:.0}: {}",
        encoding.ns_per_row,
        encoding.rows_per_s,
        encoding.rows_per_s_limit,
        verdict(encoding.within),
    );
    println!(
        "fake: the CPU of the BigQuery in a process of its own, a record and in cores; it is in no other figure"
    );
}

fn verdict(within: bool) -> &'static str {
    if within { "within" } else { "OVER" }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn measured(ns: u64, mib: u64) -> Measured {
        Measured {
            records: 1,
            cpu: Duration::from_nanos(ns),
            elapsed: Duration::from_nanos(ns),
            peak_rss_bytes: mib << 20,
            ..Measured::default()
        }
    }

    #[test]
    fn both_limits_count_and_what_is_at_them_is_within() {
        for (ns, mib, within) in [(6_000, 192, true), (6_001, 192, false), (6_000, 193, false)] {
            let row = Row::new(String::new(), &[measured(1_000, 1)], &[measured(ns, mib)], &[measured(9, 1)]);
            assert_eq!(row.unwrap().is_within(), within, "{ns} ns, {mib} MiB");
        }
    }

    #[test]
    fn a_row_may_take_four_microseconds() {
        for (ns, within) in [(4_000, true), (4_001, false)] {
            assert_eq!(Encoding::new(&[measured(ns, 1)]).unwrap().is_within(), within, "{ns}");
        }
    }
}
