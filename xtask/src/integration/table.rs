//! What runs have shown, scenario by scenario and fault by fault: printed, and as JSON.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::proof::{Outcome, Proof, bound_at_95_percent};

/// The whole of it.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    /// Smaller counts than a whole run's.
    slice: bool,
    scenarios: Vec<ScenarioRow>,
    /// In the order in which they were met first.
    faults: Vec<FaultRow>,
}

/// A scenario, run with one seed.
#[derive(Debug, Serialize)]
struct ScenarioRow {
    scenario: String,
    seed: u64,
    seconds: f64,
    passed: bool,
    error: Option<String>,
}

/// A kind of fault, in all runs.
#[derive(Debug, Default, Serialize)]
struct FaultRow {
    fault: String,
    /// How often it was met.
    runs: u64,
    /// How often everything was stored once, in order and unchanged after it.
    survived: u64,
    records: u64,
    /// Records that the topic had removed before they were stored.
    gone: u64,
    lost: u64,
    duplicated: u64,
    /// The longest time from the end of a fault until work went on, where that was measured.
    worst_recovery_seconds: Option<f64>,
    /// The most often this fault may still do harm, at 95 % confidence; none if it has.
    failures_per_run_below: Option<f64>,
}

impl Table {
    pub(crate) fn new(slice: bool) -> Self {
        Self { slice, scenarios: Vec::new(), faults: Vec::new() }
    }

    /// Enters how a scenario came out.
    pub(crate) fn add(&mut self, seed: u64, scenario: &str, took: Duration, outcome: &Result<Outcome>) {
        if let Ok(outcome) = outcome {
            outcome.proofs.iter().for_each(|proof| self.enter(FaultRow::of(proof)));
        } else {
            let fault = format!("{scenario}: did not come to its end");
            self.enter(FaultRow { fault, runs: 1, ..FaultRow::default() });
        }
        self.scenarios.push(ScenarioRow {
            scenario: scenario.to_owned(),
            seed,
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
            passed: outcome.as_ref().is_ok_and(Outcome::is_clean),
            error: outcome.as_ref().err().map(|error| format!("{error:#}")),
        });
    }

    fn enter(&mut self, row: FaultRow) {
        match self.faults.iter_mut().find(|known| known.fault == row.fault) {
            Some(known) => known.join(&row),
            None => self.faults.push(row),
        }
    }

    /// Whether every scenario came to its end and every audit was clean.
    pub(crate) fn is_clean(&self) -> bool {
        !self.scenarios.is_empty() && self.scenarios.iter().all(|row| row.passed)
    }

    fn total(&self) -> FaultRow {
        let mut total = FaultRow { fault: "all of them".to_owned(), ..FaultRow::default() };
        self.faults.iter().for_each(|row| total.join(row));
        total
    }
}

impl FaultRow {
    fn of(proof: &Proof) -> Self {
        let Proof { fault, runs, audit, recovery, .. } = proof;
        let mut row = Self {
            fault: fault.clone(),
            runs: *runs,
            survived: if proof.is_clean() { *runs } else { 0 },
            records: audit.records,
            gone: audit.excused,
            lost: audit.lost,
            duplicated: audit.duplicated,
            worst_recovery_seconds: recovery.map(|it| (it.as_secs_f64() * 10.0).round() / 10.0),
            failures_per_run_below: None,
        };
        row.judge();
        row
    }

    fn join(&mut self, other: &Self) {
        self.runs += other.runs;
        self.survived += other.survived;
        self.records += other.records;
        self.gone += other.gone;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        let worst = [self.worst_recovery_seconds, other.worst_recovery_seconds];
        self.worst_recovery_seconds = worst.into_iter().flatten().reduce(f64::max);
        self.judge();
    }

    fn judge(&mut self) {
        let clean = self.survived == self.runs;
        self.failures_per_run_below = clean.then(|| bound_at_95_percent(self.runs));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.faults.iter().map(|row| row.fault.chars().count()).max().unwrap_or(0).max(12);
        writeln!(f, "{:<22} {:>7}  verdict", "scenario", "seconds")?;
        for row in &self.scenarios {
            writeln!(f, "{row}")?;
        }
        let passed = self.scenarios.iter().filter(|row| row.passed).count();
        writeln!(f, "{passed} passed, {} failed\n", self.scenarios.len() - passed)?;
        writeln!(
            f,
            "{:<width$} {:>6} {:>9} {:>5} {:>5} {:>5} {:>9}  failures per run, at 95 %",
            "fault", "runs", "records", "gone", "lost", "dupl.", "worst [s]"
        )?;
        // Trials within one scenario share a topic and count as its trials: the bound is for one kind of fault.
        for row in &self.faults {
            writeln!(f, "{row:width$}")?;
        }
        let total = self.total();
        writeln!(f, "{total:width$}")?;
        write!(f, "{} faults injected, {} survived", total.runs, total.survived)
    }
}

impl fmt::Display for ScenarioRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seconds, passed, error, .. } = self;
        let verdict = if *passed { "passed" } else { "FAILED" };
        write!(f, "{scenario:<22} {seconds:>7.1}  {verdict}")?;
        // The rest of it was printed when it happened.
        let line = error.as_deref().and_then(|error| error.lines().next());
        line.map_or(Ok(()), |line| write!(f, "  {}", line.chars().take(160).collect::<String>()))
    }
}

/// One line, with the width given for its first column.
impl fmt::Display for FaultRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, runs, records, gone, lost, duplicated, worst_recovery_seconds, .. } = self;
        let (width, worst) = (f.width().unwrap_or(0), worst_recovery_seconds);
        let worst = worst.map_or_else(|| "-".to_owned(), |it| format!("{it:.1}"));
        write!(f, "{fault:<width$} {runs:>6} {records:>9} {gone:>5} {lost:>5} {duplicated:>5} {worst:>9}  ")?;
        match self.failures_per_run_below {
            Some(bound) => write!(f, "< 3/{runs} = {bound:.3}"),
            None => f.write_str("FAILED"),
        }
    }
}

#[cfg(test)]
mod tests {
    use xtask::load::audit::Audit;

    use super::*;

    fn outcome(runs: u64, lost: u64) -> Outcome {
        let audit = Audit { records: 12_345, lost, ..Audit::default() };
        Outcome::of("power cut", runs, audit, "").recovered_within(Duration::from_millis(1_250 * runs))
    }

    #[test]
    fn seeds_add_up_and_the_worst_counts() {
        let mut table = Table::new(false);
        table.add(1, "kill", Duration::from_secs(3), &Ok(outcome(4, 0)));
        table.add(2, "kill", Duration::from_secs(3), &Ok(outcome(2, 0)));
        assert!(table.is_clean());
        let text = table.to_string();
        assert!(
            text.contains("power cut         6     24690     0     0     0       5.0  < 3/6 = 0.500"),
            "{text}"
        );
        assert!(text.ends_with("6 faults injected, 6 survived"), "{text}");
        let json = serde_json::to_value(&table).unwrap();
        assert_eq!(json["faults"][0]["worst_recovery_seconds"], 5.0);
        assert_eq!(json["scenarios"][1]["seed"], 2);
    }

    #[test]
    fn what_fails_once_or_does_not_end_is_no_proof() {
        let mut table = Table::new(true);
        assert!(!table.is_clean(), "nothing was done");
        table.add(1, "kill", Duration::ZERO, &Ok(outcome(4, 0)));
        table.add(2, "kill", Duration::ZERO, &Ok(outcome(4, 1)));
        assert!(!table.is_clean());
        table.add(
            2,
            "storm",
            Duration::ZERO,
            &Err(anyhow::anyhow!("worker one is gone\nand its log\nhas lines")),
        );
        let text = table.to_string();
        assert!(text.contains("storm                      0.0  FAILED  worker one is gone\n"), "{text}");
        assert!(
            text.contains("1 passed, 2 failed") && text.contains("9 faults injected, 4 survived"),
            "{text}"
        );
    }
}
