//! The fence: who holds a lease is waited for, and nobody holds one that has been revoked.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};

use crate::lease::{Lease, LeaseEnded};
use crate::sync::explore::{explore, spawn, yield_now};

/// Commits of several tasks against the end of their assignment: when `revoke` has answered, none is under way and none
/// can start. (What counts here are plain counters, which are no places to go on with another task.)
#[test]
fn nothing_is_held_once_a_revocation_has_answered() {
    explore(async || {
        let lease = Lease::new();
        let (held, superseded) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (lease, held, superseded) = (lease.clone(), Arc::clone(&held), Arc::clone(&superseded));
                spawn(async move {
                    for _ in 0..2 {
                        let Ok(guard) = lease.enter() else {
                            assert!(lease.has_ended());
                            return;
                        };
                        held.fetch_add(1, SeqCst);
                        yield_now().await;
                        assert_eq!(superseded.load(SeqCst), 0, "held, and already somebody else's");
                        held.fetch_sub(1, SeqCst);
                        drop(guard);
                    }
                })
            })
            .collect();
        lease.revoke().await;
        superseded.fetch_add(1, SeqCst);
        assert_eq!(held.load(SeqCst), 0);
        assert_eq!(lease.enter().unwrap_err(), LeaseEnded);
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// One partition goes and comes back to the same process, again and again, and the work of each assignment goes on behind
/// its back: a mark is only ever moved by the newest assignment, so that marks never mix.
#[test]
fn an_old_assignment_never_moves_the_mark_of_a_newer_one() {
    explore(async || {
        let newest = Arc::new(AtomicUsize::new(0));
        let mut work = Vec::new();
        for assignment in 1..=3 {
            newest.store(assignment, SeqCst);
            let lease = Lease::new();
            work.push(spawn({
                let (lease, newest) = (lease.clone(), Arc::clone(&newest));
                async move {
                    while let Ok(held) = lease.enter() {
                        assert_eq!(newest.load(SeqCst), assignment);
                        yield_now().await;
                        assert_eq!(newest.load(SeqCst), assignment);
                        drop(held);
                        yield_now().await;
                    }
                }
            }));
            yield_now().await;
            lease.revoke().await;
        }
        for work in work {
            work.await.unwrap();
        }
    });
}

/// Everybody who waits for the end hears of it, and everybody who waits for the holders, whoever ends it first.
#[test]
fn every_waiter_hears_of_the_end() {
    explore(async || {
        let lease = Lease::new();
        let guards = [lease.enter().unwrap(), lease.enter().unwrap()];
        let mut tasks = Vec::new();
        for _ in 0..2 {
            let lease = lease.clone();
            tasks.push(spawn(async move { lease.ended().await }));
        }
        for _ in 0..2 {
            let lease = lease.clone();
            tasks.push(spawn(async move { lease.revoke().await }));
        }
        let ends = lease.clone();
        tasks.push(spawn(async move { ends.end() }));
        tasks.extend(guards.map(|guard| spawn(async move { drop(guard) })));
        for task in tasks {
            task.await.unwrap();
        }
        assert!(lease.has_ended());
    });
}

/// A lane is two tasks whose work is raced against the end, as `lane::run` and the publisher do it: whatever each is at,
/// both come to their end, and no guard is left behind in work that was dropped half-way.
#[test]
fn work_that_is_dropped_with_the_lease_holds_nothing() {
    explore(async || {
        let lease = Lease::new();
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let lease = lease.clone();
                spawn(async move {
                    let works = async {
                        loop {
                            let held = lease.enter();
                            yield_now().await;
                            drop(held);
                        }
                    };
                    let ended = std::pin::pin!(lease.ended());
                    futures::future::select(ended, std::pin::pin!(works)).await;
                })
            })
            .collect();
        yield_now().await;
        lease.revoke().await;
        for task in tasks {
            task.await.unwrap();
        }
    });
}
