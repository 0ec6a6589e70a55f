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
//! Seen to catch, each put in by hand, within the cases of an ordinary run: no intent; the end committed before the
//! publication; an intent taken for committed that was not; a commit that failed and is taken for done; letters sent before
//! the intent, behind the rows, or never, or those of refused rows never; a pinned segment that is cut by rotation or at a shutdown, that
//! ends a record early or goes on past its end; an intent that a new owner does not look at; a shutdown or a flush that
//! leaves the open segment; a publisher that drops what it took out early; scratch that is not paid back; an intent that
//! counts a row too many. Within 600 or 800 cases: a segment that begins inside of the recovered one before it; a filler or
//! a publisher that outlives its lease.
//!
//! Not seen to catch: a commit that does not hold the lease. The scripted coordinator binds a commit to its assignment by
//! itself; the lease's own promise is tried in `tests/schedules`. A source never delivers twice here, and the sink never
//! rolls forward: `chaos` has that.

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
    fn any_sequence_of_steps_stores_every_record_once(sequential 5..60 => World);
}
