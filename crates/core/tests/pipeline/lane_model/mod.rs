//! One lane and two processes that may own it, in any sequence of what can happen to them, held against what must be in the
//! store.
//!
//! `chaos` draws a few lives with a fault each. Here every step is drawn: what is produced, what fails and how, who owns the
//! partition, who is frozen, killed, stopped, paused, and how the clocks go; and a failure is shrunk to the shortest
//! sequence of steps (`proptest-state-machine`). Each process is a thread of its own that runs only when a step says so: a
//! process that is not run is frozen where it stands, and its time with it. Scratch is in memory, waiting takes no time, so
//! a sequence comes out the same each time.
//!
//! What must hold at every commit and publication is looked at by [`watch`], at the instant a lane asks for it; what must
//! hold of the store and the marks after every step, and at the end, by [`world`]. `PROPTEST_CASES` tries more sequences.
//!
//! Seen to catch, each put in by hand: no intent; the end committed before the publication; an intent taken for committed
//! that was not; a commit that failed and is taken for done; letters sent after the intent, or never, or those of refused
//! rows never; a pinned segment that is cut by rotation or at a shutdown, that ends a record early or goes on past its end;
//! an intent that a new owner does not look at; a segment that begins inside of the recovered one before it; a shutdown
//! or a flush that leaves the open segment; a publisher that drops what it took out early; a lane that outlives its lease;
//! scratch that is not paid back; a row counted that is none.

mod disk;
mod steps;
mod watch;
mod world;

use proptest::test_runner::Config;
use proptest_state_machine::prop_state_machine;

use world::World;

fn config() -> Config {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    Config {
        cases: asked.unwrap_or(96),
        max_local_rejects: u32::MAX,
        failure_persistence: None,
        ..Config::default()
    }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn any_sequence_of_steps_stores_every_record_once(sequential 1..50 => World);
}
