//! The result, for people and as JSON.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::super::table::{cost, median};
use super::super::worker::Measured;
use super::{PEAK_MIB_MAX, limit};

/// One conversion at one number of paths; medians over its triples.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    case: String,
    records: u64,
    /// CPU of the whole process.
    ns_per_record: f64,
    /// CPU of a loop that reads records and does nothing with them.
    floor_ns_per_record: f64,
    /// CPU of a loop that only converts them.
    bare_ns_per_record: f64,
    limit_ns_per_record: f64,
    /// Whether CPU and memory are within their limits.
    within: bool,
    records_per_s: f64,
    /// The worst of all runs.
    peak_rss_mib: f64,
    peak_limit_mib: f64,
    /// Objects of a run, and files of a bare loop.
    objects: u64,
    /// CPU of one bare request of the SDK for an object of the mean size, where there are many.
    ns_per_bare_put: Option<f64>,
    /// CPU less that of as many bare requests as there are objects.
    net_ns_per_record: Option<f64>,
    /// Each run was audited: one that has lost or duplicated a record has no row.
    audited: usize,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
impl Row {
    pub(super) fn new(
        case: String,
        floors: &[Measured],
        runs: &[Measured],
        bares: &[Measured],
    ) -> Result<Self> {
        let last = runs.last().context("a case without a run")?;
        let of = |measured: &[Measured]| median(measured.iter().map(cost));
        let (floor, bare, ns) = (of(floors), of(bares), of(runs));
        let peak = runs.iter().map(|run| run.peak_rss_bytes).max().unwrap_or_default();
        let peak_rss_mib = peak as f64 / f64::from(1 << 20);
        let limit = limit(bare, floor);
        Ok(Self {
            case,
            records: last.records,
            ns_per_record: ns,
            floor_ns_per_record: floor,
            bare_ns_per_record: bare,
            limit_ns_per_record: limit,
            within: ns <= limit && peak_rss_mib <= PEAK_MIB_MAX,
            records_per_s: median(runs.iter().map(|run| run.records as f64 / run.elapsed.as_secs_f64())),
            peak_rss_mib,
            peak_limit_mib: PEAK_MIB_MAX,
            objects: last.objects,
            ns_per_bare_put: None,
            net_ns_per_record: None,
            audited: runs.len(),
        })
    }

    pub(super) fn objects(&self) -> u64 {
        self.objects
    }

    /// Takes off what `put` says that as many objects cost. For people: the limit knows nothing of it.
    pub(super) fn without_objects(&mut self, put: &Measured) {
        let put = put.cpu.as_nanos() as f64 / put.objects.max(1) as f64;
        self.ns_per_bare_put = Some(put);
        self.net_ns_per_record =
            Some(self.ns_per_record - put * self.objects as f64 / self.records.max(1) as f64);
    }

    pub(super) fn case(&self) -> &str {
        &self.case
    }

    pub(super) fn is_within(&self) -> bool {
        self.within
    }
}

#[expect(clippy::print_stdout, reason = "the result goes to standard output")]
pub(super) fn print(rows: &[Row]) {
    println!(
        "{:<24} {:>9} {:>9} {:>6} {:>6} {:>6} {:>7} {:>10} {:>8} {:>8} {:>7} {:>7}",
        "case",
        "records",
        "ns/record",
        "floor",
        "bare",
        "limit",
        "verdict",
        "records/s",
        "peak MiB",
        "objects",
        "PUT µs",
        "net ns"
    );
    let figure = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.0}"));
    for row in rows {
        println!(
            "{:<24} {:>9} {:>9.0} {:>6.0} {:>6.0} {:>6.0} {:>7} {:>10.0} {:>8.1} {:>8} {:>7} {:>7}",
            row.case,
            row.records,
            row.ns_per_record,
            row.floor_ns_per_record,
            row.bare_ns_per_record,
            row.limit_ns_per_record,
            if row.within { "within" } else { "OVER" },
            row.records_per_s,
            row.peak_rss_mib,
            row.objects,
            figure(row.ns_per_bare_put.map(|put| put / 1_000.0)),
            figure(row.net_ns_per_record)
        );
    }
    println!(
        "limit: 1.2 × bare + 2.5 × floor, and {PEAK_MIB_MAX:.0} MiB; bare: as many files of as many rows, one after the other"
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_limits_count_and_what_is_at_them_is_within() {
        let measured = |ns, mib: u64| Measured {
            records: 1,
            cpu: Duration::from_nanos(ns),
            elapsed: Duration::from_nanos(ns),
            peak_rss_bytes: mib << 20,
            ..Measured::default()
        };
        // 1.2 × 1 000 + 2.5 × 400 = 2 200.
        for (ns, mib, within) in [(2_200, 192, true), (2_201, 192, false), (2_200, 193, false)] {
            let row =
                Row::new(String::new(), &[measured(400, 1)], &[measured(ns, mib)], &[measured(1_000, 1)]);
            assert_eq!(row.unwrap().is_within(), within, "{ns} ns, {mib} MiB");
        }
    }
}
