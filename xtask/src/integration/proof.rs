//! What a run has shown, fault by fault: the rows of the table.

use std::time::Duration;

use xtask::load::audit::Audit;

/// What a scenario found: a row of the table for each kind of fault.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) proofs: Vec<Proof>,
}

/// One kind of fault, how often it was met, and what became of the records.
#[derive(Debug)]
pub(crate) struct Proof {
    /// What was done, in a few words.
    pub(crate) fault: String,
    /// How often.
    pub(crate) runs: u64,
    /// What is in the bucket afterwards.
    pub(crate) audit: Audit,
    /// The longest time from the end of a fault until work went on, where that was measured.
    pub(crate) recovery: Option<Duration>,
    /// What else is worth a line.
    pub(crate) detail: String,
}

impl Outcome {
    /// One kind of fault, met `runs` times.
    pub(crate) fn of(fault: impl Into<String>, runs: u64, audit: Audit, detail: impl Into<String>) -> Self {
        Self::default().and(Proof::of(fault, runs, audit, detail))
    }

    /// One more kind of fault.
    pub(crate) fn and(mut self, proof: Proof) -> Self {
        self.proofs.push(proof);
        self
    }

    /// The longest recovery of the last kind of fault.
    pub(crate) fn recovered_within(mut self, recovery: Duration) -> Self {
        if let Some(proof) = self.proofs.last_mut() {
            proof.recovery = Some(recovery);
        }
        self
    }

    /// Whether every audit is clean; one without records has proven nothing.
    pub(crate) fn is_clean(&self) -> bool {
        !self.proofs.is_empty() && self.proofs.iter().all(Proof::is_clean)
    }
}

impl Proof {
    /// One kind of fault, met `runs` times, after which everything is to be stored.
    pub(crate) fn of(fault: impl Into<String>, runs: u64, audit: Audit, detail: impl Into<String>) -> Self {
        Self { fault: fault.into(), runs, audit, recovery: None, detail: detail.into() }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.audit.is_clean() && self.audit.records > 0
    }
}

/// The most often a run of `runs` independent trials without a failure still fails, at 95 % confidence: the rule of three
/// (1 − 0.05^(1/n) ≈ 3/n).
pub(crate) fn bound_at_95_percent(runs: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of runs are small")]
    let runs = runs.max(1) as f64;
    (3.0 / runs).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(records: u64, lost: u64) -> Outcome {
        Outcome::of("a fault", 7, Audit { records, lost, ..Audit::default() }, "")
    }

    #[test]
    fn only_clean_audits_of_something_count() {
        assert!(found(5, 0).is_clean());
        assert!(!found(5, 1).is_clean());
        assert!(!found(0, 0).is_clean(), "nothing was audited");
        assert!(!Outcome::default().is_clean(), "nothing was done");
        let mixed = found(5, 0).and(found(5, 1).proofs.remove(0));
        assert!(!mixed.is_clean());
    }

    #[test]
    fn the_bound_is_the_rule_of_three() {
        assert!((bound_at_95_percent(300) - 0.01).abs() < 1e-12);
        assert!((bound_at_95_percent(1) - 1.0).abs() < f64::EPSILON);
    }
}
