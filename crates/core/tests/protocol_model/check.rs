//! Runs the checker and says what it saw.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use crate::properties;
use crate::protocol::Protocol;
use crate::state::State;

/// Visits every reachable state; each promise must hold in all of them, and each waypoint be among them.
pub(super) fn holds(title: &str, protocol: Protocol) {
    let broken = explore(title, protocol);
    assert!(broken.is_empty(), "{title}: broken: {broken:?}");
}

/// Visits every reachable state; exactly these promises must break, and all others hold.
pub(super) fn breaks(title: &str, protocol: Protocol, expected: &[&'static str]) {
    let broken = explore(title, protocol);
    assert_eq!(broken, expected.iter().copied().collect(), "{title}");
    if let Some(promise) = expected.first() {
        tell(title, protocol, promise);
    }
}

/// The promises some reachable state breaks.
fn explore(title: &str, protocol: Protocol) -> BTreeSet<&'static str> {
    let begun = Instant::now();
    let checker = protocol.checker().spawn_bfs().join();
    let found: BTreeSet<_> = checker.discoveries().into_keys().collect();
    let (waypoints, promises): (Vec<_>, Vec<_>) = protocol
        .properties()
        .into_iter()
        .partition(|property| property.expectation == Expectation::Sometimes);
    let broken: BTreeSet<_> =
        promises.iter().map(|property| property.name).filter(|name| found.contains(name)).collect();
    println!(
        "{title}: {} states, {} transitions, depth {}, {:.1?}: {broken:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begun.elapsed(),
    );
    for waypoint in waypoints {
        assert!(found.contains(waypoint.name), "{title}: never reached: {}", waypoint.name);
    }
    broken
}

/// Prints a short way to break `promise`.
fn tell(title: &str, protocol: Protocol, promise: &'static str) {
    let protocol = Protocol { twins: false, ..protocol };
    let until = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let checker = protocol.checker().finish_when(until).spawn_bfs().join();
    println!("{title}: how `{promise}` breaks");
    for action in checker.discovery(promise).into_iter().flat_map(Path::into_actions) {
        println!("    {action}");
    }
}

/// From every reachable state a drained one can still be reached: whatever has happened, members that stop failing
/// finish the job.
pub(super) fn can_always_drain(title: &str, protocol: Protocol) {
    let mut index: HashMap<State, usize> = HashMap::new();
    let mut states = protocol.init_states();
    let mut came_from: Vec<Vec<usize>> = Vec::new();
    for (number, state) in states.iter().enumerate() {
        index.insert(*state, number);
        came_from.push(Vec::new());
    }
    let mut at = 0;
    while at < states.len() {
        for (_, next) in protocol.next_steps(&states[at].clone()) {
            let number = *index.entry(next).or_insert_with(|| {
                states.push(next);
                came_from.push(Vec::new());
                states.len() - 1
            });
            came_from[number].push(at);
        }
        at += 1;
    }
    let mut hopeful = vec![false; states.len()];
    let mut queue: VecDeque<usize> =
        (0..states.len()).filter(|number| properties::drained(&protocol, &states[*number])).collect();
    while let Some(number) = queue.pop_front() {
        if !std::mem::replace(&mut hopeful[number], true) {
            queue.extend(&came_from[number]);
        }
    }
    let stuck = hopeful.iter().position(|hope| !hope);
    println!("{title}: a drained state is ahead of each of {} states", states.len());
    assert!(stuck.is_none(), "{title}: stuck: {:?}", stuck.map(|number| states[number]));
}
