//! A slice of the simulation for every `cargo test`; `cargo xtask sim` runs more.

use aqueduct_sim::{Scenario, simulate, sweep};

#[test]
fn a_dozen_seeds_keep_every_promise() {
    let summary = sweep(0..12, 2);
    assert!(summary.failed.is_none(), "{:?}", summary.failed.map(|it| (it.scenario.seed, it.violation)));
    assert!(summary.rows > 0 && summary.injected.contains_key("crashes"));
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in [3, 140] {
        let runs = [(); 2].map(|()| simulate(Scenario::from_seed(seed), true));
        let [first, second] = &runs;
        let differs = first.trace.iter().zip(&second.trace).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((first.trace_hash, first.events), (second.trace_hash, second.events), "seed {seed}");
        assert!(first.events > 100);
    }
}
