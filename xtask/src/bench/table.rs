//! The result: a table for people, the same rows as JSON for later runs.

use anyhow::{Context as _, Result};
use serde::Serialize;
use xtask::load::audit::Audit;

use super::millis;
use super::worker::Measured;

/// One case; medians over its pairs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    case: String,
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
    /// CPU of one bare request of the SDK for an object of the mean size.
    ns_per_bare_put: Option<f64>,
    /// CPU less that of as many bare requests as there are objects.
    net_ns_per_record: Option<f64>,
    /// The same over the cost at few paths.
    net_over_few_paths: Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
impl Row {
    pub(super) fn new(case: String, floors: &[Measured], runs: &[Measured], audits: &Audit) -> Result<Self> {
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
            ns_per_bare_put: None,
            net_ns_per_record: None,
            net_over_few_paths: None,
        })
    }

    pub(super) fn is(&self, case: &str) -> bool {
        self.case == case
    }

    /// CPU a record.
    pub(super) fn cost(&self) -> f64 {
        self.ns_per_record
    }

    /// Takes off what `put` says that as many objects cost; `few` is the cost of a record at few paths, if it was measured.
    pub(super) fn without_objects(&mut self, put: &Measured, few: Option<f64>) {
        let put = put.cpu.as_nanos() as f64 / put.objects.max(1) as f64;
        let net = self.ns_per_record - put * self.objects as f64 / self.records.max(1) as f64;
        self.ns_per_bare_put = Some(put);
        self.net_ns_per_record = Some(net);
        self.net_over_few_paths = few.map(|few| net / few);
    }
}

/// Where the CPU of a case goes; medians over its pairs.
#[derive(Debug, Serialize)]
pub(super) struct Breakdown {
    case: String,
    /// What each step adds, in ns a record; below 0 is noise.
    steps: Vec<Step>,
    #[serde(skip)]
    last: f64,
}

#[derive(Debug, Serialize)]
struct Step {
    name: &'static str,
    ns_per_record: f64,
    #[serde(skip)]
    samples: Vec<f64>,
}

impl Breakdown {
    pub(super) fn new(case: String) -> Self {
        Self { case, steps: Vec::new(), last: 0.0 }
    }

    /// The first step of a pair: reading at all.
    pub(super) fn consume(&mut self, measured: &Measured) {
        self.last = 0.0;
        self.add("consume", measured);
    }

    /// One step more than before.
    pub(super) fn add(&mut self, step: &'static str, measured: &Measured) {
        let cost = cost(measured);
        let added = cost - std::mem::replace(&mut self.last, cost);
        if !self.steps.iter().any(|known| known.name == step) {
            self.steps.push(Step { name: step, ns_per_record: 0.0, samples: Vec::new() });
        }
        if let Some(known) = self.steps.iter_mut().find(|known| known.name == step) {
            known.samples.push(added);
            known.ns_per_record = median(known.samples.iter().copied());
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn cost(measured: &Measured) -> f64 {
    measured.cpu.as_nanos() as f64 / measured.records.max(1) as f64
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
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
pub(super) fn print(rows: &[Row], breakdowns: &[Breakdown]) {
    println!(
        "{:<22} {:>9} {:>9} {:>6} {:>6} {:>10} {:>8} {:>8} {:>4} {:>4} {:>8} {:>8} {:>9} {:>7} {:>8} {:>6}",
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
        "replayed",
        "PUT µs",
        "net ns",
        "net x"
    );
    for row in rows {
        let maybe = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let fraction = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        println!(
            "{:<22} {:>9} {:>9.0} {:>6.0} {:>6.2} {:>10.0} {:>8.1} {:>8} {:>4} {:>4} {:>8} {:>8} {:>9} {:>7} {:>8} {:>6}",
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
            maybe(row.replayed_records),
            fraction(row.ns_per_bare_put.map(|ns| ns / 1_000.0), 0),
            fraction(row.net_ns_per_record, 0),
            fraction(row.net_over_few_paths, 2)
        );
    }
    for Breakdown { case, steps, .. } in breakdowns {
        let steps: Vec<String> =
            steps.iter().map(|it| format!("{} {:.0}", it.name, it.ns_per_record)).collect();
        println!("{case}, ns a record: {}", steps.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(cpu_ns: u64) -> Measured {
        Measured { records: 1, cpu: std::time::Duration::from_nanos(cpu_ns), ..Measured::default() }
    }

    #[test]
    fn a_step_costs_what_it_adds_and_pairs_start_anew() {
        let mut breakdown = Breakdown::new("case".to_owned());
        for (floor, lane) in [(100, 150), (200, 290), (300, 330)] {
            breakdown.consume(&measured(floor));
            breakdown.add("batch", &measured(lane));
        }
        let steps: Vec<_> = breakdown.steps.iter().map(|it| (it.name, it.ns_per_record)).collect();
        assert_eq!(steps, [("consume", 200.0), ("batch", 50.0)]);
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0].into_iter()) - 2.5).abs() < 1e-9);
    }
}
