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

/// A member froze while its partitions were revoked, and its session ended. The revocation had already taken the lane out of
/// the list whose leases end with a session, so that when the partition came back the lane of old still committed, with the
/// new generation, a segment that another member had finished long ago: the mark moved back. Since then a lane that leaves
/// keeps its lease where it can be ended (`pipeline/supervise.rs`).
#[test]
fn seed_815_a_session_that_ends_during_a_revocation() {
    assert_eq!(simulate(Scenario::from_seed(815), false).violation, None);
}
