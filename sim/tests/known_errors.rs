//! Seeds that failed once: each with how it happened and what was changed.

use aqueduct_sim::{Scenario, simulate};

/// An intent ended behind transaction markers; its replay was ended by a later record, and the lane began its next segment
/// at the last record it had read, inside the one just published. The source refused a mark that went back, and the lane was
/// gone without a word. Since then a replay's end is where the lane goes on (`lane/cut.rs`).
#[test]
fn seeds_32_and_140_a_replay_that_ends_in_a_gap() {
    for seed in [32, 140] {
        assert_eq!(simulate(Scenario::from_seed(seed), false).violation, None, "seed {seed}");
    }
}
