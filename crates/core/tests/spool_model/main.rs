//! The spool against a model of it: any sequence of what lanes, other processes, operators and disks do to it.
//!
//! After each step the budget, the promises, the files in the directory and their lengths are what the model says, and
//! what is read is what was written; at the end nothing is left but the marker. A failure is shrunk to the shortest
//! sequence of steps (`proptest-state-machine`). `PROPTEST_CASES` tries more sequences.
//!
//! Seen to catch, each put in by hand: a file that is kept and not paid for, or not for what a failed write has left in it; one
//! kept beyond a quarter of the budget, or too small; a reused file whose blocks are not the segment's; kept files that are
//! not given up when the budget is short; a reservation that forgets what was reserved before, or what was written; a
//! promise that is kept when it was refused, settled or its segment gone; left-over files that stay, or are wiped before
//! the lock is held; strangers' files that are wiped; no lock; a failed write that counts as written; a write at a wrong
//! place; files that are not removed; names used twice; a directory that is restored without its marker.

#[cfg(test)]
mod disk;
#[cfg(test)]
mod model;
#[cfg(test)]
mod real;

#[cfg(test)]
mod tests {
    use proptest::test_runner::Config;
    use proptest_state_machine::prop_state_machine;

    use crate::real::RealSpool;

    fn config() -> Config {
        let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
        Config {
            cases: asked.unwrap_or(128),
            max_local_rejects: u32::MAX,
            failure_persistence: None,
            ..Config::default()
        }
    }

    prop_state_machine! {
        #![proptest_config(config())]

        #[test]
        fn the_spool_does_what_its_model_says(sequential 1..60 => RealSpool);
    }
}
