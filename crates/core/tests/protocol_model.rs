//! The commit protocol, checked: a model small enough to visit every state it can get into.
//!
//! Aqueduct promises that every record of a partition ends up in exactly one visible object, whatever dies, stalls
//! or is evicted, and wherever a clock, a shutdown or a rebalance happens to cut. This file states the protocol
//! behind that promise as a transition system, lets [`stateright`] try **every interleaving** of it, and then takes
//! out one rule after the other to show which promise each of them carries. Read it to learn the protocol; run it
//! with `cargo test -p aqueduct-core --test protocol_model -- --nocapture` to see the state counts and, for every
//! rule taken out, a shortest story of how things go wrong.
//!
//! # The protocol
//!
//! A *lane* is the worker of one partition. It reads records into a *segment*, *cuts* it somewhere, and publishes
//! it as several objects, one for each *route*. The only durable memory besides the objects is the *mark*, the
//! group's committed offset, which has room for a note in its metadata.
//!
//! ```text
//! recover   read the mark (next, intent?)      an intent: the segment [next, intent) has been cut before
//! fill      read from next                     scratch only: a crash costs a re-read
//! cut       [start, end)                       anywhere; at the intent's end if there is one
//! phase 1   commit (start, intent: end)        the cut is written down, the offset has not moved; then letters go out
//! phase 2   create the objects                 If-None-Match, the one with the first record first
//!           412? HEAD: the same range is ours  anything else stops the lane
//! phase 3   commit (end)                       or (end, intent: next end): also phase 1 of the next segment
//! ```
//!
//! The group coordinator checks the member id and the generation of a commit and **not who owns the partition**. A
//! member that was evicted and has joined again passes that check. Hence two rules about leases: one lease per
//! assignment, and nothing that was queued in the client library outlives the lease it was queued under. A commit
//! without an answer, and any lost assignment, ends the whole client instance.
//!
//! # What the model has, and where it is in the code
//!
//! | transition | in the protocol's words | in the code |
//! |---|---|---|
//! | `Join`, `Sync`, `Evict`, `Move` | generations: new member, news of it, session timeout, cooperative move | the broker; the Kafka source's rebalance callback and poll thread |
//! | `Start` | a new owner reads the mark | `SourceEvent::Assigned`, lane recovery |
//! | `Recognise` | the pinned segment is visible already | `Begun::AlreadyPublished` |
//! | `Cut` | the segment ends here | `RotationPolicy`, revoke, shutdown, `flush`; `SegmentWriter::stage` |
//! | `Defer`, `Send`, `Apply`, `Receive` | a commit kept back in the client, on the wire, written, answered | `SourceControl::commit` and the commit callback |
//! | `Create` | one conditional PUT with its answer | `SegmentWriter::publish`, `ObjectTarget` |
//! | `Delay`, `Arrive` | a PUT that lands after its sender gave up, moved on or died | S3 |
//! | `Release` | the lane is revoked and given up | `SourceEvent::Revoked`, its reply, `Lease` |
//! | `Learn` | the member hears that it was evicted | `SourceEvent::Lost`, end of the client instance |
//! | `Crash` | kill -9; or the instance ends itself over an unanswered commit | |
//! | `Regress`, `Reset` | an old mark of ours is back; a foreign one is there | `MarkOrigin::Foreign`, `adopt_foreign_marks` |
//!
//! Two members work on one lane, or on two with one *retained* while the other moves. Records, cuts and objects:
//! a log of up to six records, a cut after any of them, even offsets on one route and odd offsets on the other,
//! so that a segment is one object or two and a member can die between them.
//!
//! **Faults have no budget** unless a configuration sets one: members crash, are evicted and come back any number of
//! times. That is possible because nothing counts up. Generations are only ever compared with the current one, so
//! the model keeps the answer instead of the number; a pause is a member that is not scheduled for a while, so it
//! has no state at all; a lost answer is one that is never received.
//!
//! # What is abstracted away
//!
//! - *Contents.* Converter, partitioner and format are deterministic (that is checked elsewhere, and a replay that
//!   stores other offsets stops before it publishes), so an object is its name and its segment's range. Equal range
//!   stands for equal row count and checksum in the HEAD. Splitting a route into several objects by size is a
//!   function of the rows and adds nothing.
//! - *Filling.* What is on scratch dies with its lane; only where the cut falls matters. That the next segment fills
//!   while this one publishes is covered by cutting it when its turn to commit comes.
//! - *The intent's token.* The model re-does a segment; a sink that rolls forward ends in the same objects.
//! - *Rounds of a rebalance.* A generation begins in one step. What a member may still do with the old one is in:
//!   a commit on the wire is either written before that step or refused.
//! - *Dead letters.* They go out between phase 1 and phase 2, so what holds of a segment's first object holds of its first
//!   letter: no one but the owner of a committed intent sends it, and everybody who comes after finds the intent. That a
//!   replay makes the same ones is what its comparison with the intent is for (`tests/pipeline/letters.rs`, the lane model).
//! - *Retention, compaction, transactions, layout changes:* they stop a lane or shift offsets, they do not change the order
//!   of the commits.
//! - At most one PUT at a time is late, and refusals for the network's sake are not told from slow answers.
//!
//! # What it says
//!
//! With all rules in force every promise in `properties.rs` holds in every state, and from every state the lane can
//! still be finished. The promises that break when one rule is taken out, exactly as the tests below demand it:
//!
//! | taken out | marks untouched | an old mark re-appears |
//! |---|---|---|
//! | intent | *unblocked*: the claim turns a duplicate into a lane that waits for a human | |
//! | intent and claim | **loss, duplicate**, tiling, commit after publish | |
//! | intent, and 412 is believed without a HEAD | **loss, duplicate**, tiling, commit after publish | |
//! | claim | nothing: the intent is enough | **loss, duplicate**, tiling, commit after publish |
//! | conditional create (HEAD, then PUT) | nothing | **loss, duplicate**, tiling, commit after publish |
//! | first record first | nothing | tiling: a conflict is met with a part of the segment visible |
//! | the replay's pinned end | pinned, unblocked | |
//! | publish before the end is committed | **loss**, tiling, commit after publish | |
//! | end of the client with its lease | fence, pinned, unblocked; without the claim **loss, duplicate** as well | |
//! | one lease per assignment | fence, pinned, unblocked; without the claim **loss, duplicate** as well | |
//!
//! One limit is worth knowing: the claim is on names, and a name is a first offset. A mark of ours always lies on a
//! segment's edge, where the names of its layout are. An operator's reset *into* a segment meets no name, and
//! reading again from there duplicates the rest of that segment. That is why a foreign mark stops a lane that must
//! be exactly-once, and why adopting one is a decision with a name (`adopt_foreign_marks`).

// The model is test code as a whole; the lints on indexing and printing know that from `cfg(test)`.
#[cfg(test)]
#[path = "protocol_model/check.rs"]
mod check;
#[cfg(test)]
#[path = "protocol_model/commit.rs"]
mod commit;
#[cfg(test)]
#[path = "protocol_model/group.rs"]
mod group;
#[cfg(test)]
#[path = "protocol_model/lane.rs"]
mod lane;
#[cfg(test)]
#[path = "protocol_model/outside.rs"]
mod outside;
#[cfg(test)]
#[path = "protocol_model/properties.rs"]
mod properties;
#[cfg(test)]
#[path = "protocol_model/protocol.rs"]
mod protocol;
#[cfg(test)]
#[path = "protocol_model/state.rs"]
mod state;

use check::{breaks, can_always_drain, holds};
use properties::{COMMIT_AFTER_PUBLISH, FENCE, NO_DUP, NO_LOSS, PINNED, TILING, UNBLOCKED};
use protocol::{Claim, Protocol};
use state::Allowance;

/// Records are lost and duplicated, and marks are ahead of what is visible.
const DAMAGED: [&str; 4] = [NO_LOSS, NO_DUP, TILING, COMMIT_AFTER_PUBLISH];
/// Marks are moved by a member whose lease is over; the claim keeps records safe and stops the lane.
const FORGED: [&str; 3] = [FENCE, PINNED, UNBLOCKED];
/// The same without the claim.
const FORGED_AND_DAMAGED: [&str; 6] = [NO_DUP, NO_LOSS, TILING, COMMIT_AFTER_PUBLISH, FENCE, PINNED];

// With every rule in force.

#[test]
fn every_promise_holds() {
    holds("all rules, 4 records", Protocol::one_lane(4));
    holds("all rules, 5 records, prompt PUTs", Protocol::one_lane(5).prompt());
}

#[test]
fn members_that_stop_failing_finish_the_job() {
    can_always_drain("all rules, 3 records", Protocol::one_lane(3));
}

#[test]
fn an_old_mark_that_reappears_does_no_harm() {
    holds("an old mark, 2 records", Protocol::one_lane(2).with_old_mark());
    holds("an old mark, 3 records, prompt PUTs", Protocol::one_lane(3).prompt().with_old_mark());
}

#[test]
fn a_foreign_mark_stops_the_lane_before_it_does_harm() {
    holds("a foreign mark", Protocol::one_lane(3).with_reset());
}

/// Lane 0 stays with its owner while lane 1 is asked for, given up and taken: it publishes on, and a commit that the
/// new generation refuses is repeated under the lease it had all along.
#[test]
fn a_retained_lane_publishes_through_a_rebalance() {
    holds("two lanes, moved twice", Protocol::two_lanes([2, 2], 0, 2));
    holds("two lanes, moved once, one fault", Protocol::two_lanes([2, 1], 1, 1));
}

#[test]
#[ignore = "minutes in a debug build: for the nightly run"]
fn every_promise_holds_further_out() {
    holds("all rules, 6 records", Protocol::one_lane(6));
    holds("an old mark, 4 records", Protocol::one_lane(4).with_old_mark());
    holds("two lanes of two records, one fault", Protocol::two_lanes([2, 2], 1, 1));
    can_always_drain("all rules, 5 records", Protocol::one_lane(5));
}

// With one rule taken out.

/// Another owner cuts elsewhere than the one before it, whose objects may be visible. If the claim is all there is,
/// it prevents the damage and leaves a lane that nobody but a human can start again.
#[test]
fn without_the_intent_a_lane_blocks() {
    breaks("no intent", Protocol { intent: false, ..Protocol::one_lane(3) }, &[UNBLOCKED]);
}

/// What start-offset names and a nondeterministic cut come to by themselves.
#[test]
fn without_intent_and_claim_records_are_lost_and_duplicated() {
    let protocol = Protocol { intent: false, ..Protocol::one_lane(3).prompt() };
    breaks("no intent, no claim", Protocol { claim: Claim::Absent, ..protocol }, &DAMAGED);
    breaks("no intent, 412 believed", Protocol { claim: Claim::Assumed, ..protocol }, &DAMAGED);
}

/// As long as marks only go forward, two members that publish one segment publish the same objects.
#[test]
fn without_the_claim_the_intent_is_enough_while_marks_are_ours() {
    for claim in [Claim::Absent, Claim::Assumed, Claim::HeadFirst] {
        holds(&format!("claim {claim:?}"), Protocol { claim, ..Protocol::one_lane(3) });
    }
}

#[test]
fn without_the_claim_an_old_mark_loses_and_duplicates_records() {
    let protocol = Protocol { claim: Claim::Absent, ..Protocol::one_lane(3).prompt().unmoved(Some(1)) };
    breaks("no claim, an old mark", protocol.with_old_mark(), &DAMAGED);
}

/// Stores without conditional writes: a PUT that lands after somebody else's HEAD and PUT replaces their object. The
/// guarantee computed for such a store says so.
#[test]
fn a_head_before_a_plain_put_is_not_a_claim() {
    let protocol = Protocol { claim: Claim::HeadFirst, ..Protocol::one_lane(3).unmoved(Some(1)) };
    breaks("HEAD first, an old mark", protocol.with_old_mark(), &DAMAGED);
}

#[test]
fn unless_the_first_record_goes_first_a_conflict_comes_too_late() {
    let protocol = Protocol { first_record_first: false, ..Protocol::one_lane(3).prompt() };
    holds("last record first", protocol);
    breaks("last record first, an old mark", protocol.unmoved(Some(1)).with_old_mark(), &[TILING]);
}

#[test]
fn an_intent_that_is_not_replayed_pins_nothing() {
    let protocol = Protocol { replay_pinned: false, ..Protocol::one_lane(3).prompt() };
    breaks("intent not replayed", protocol, &[PINNED, UNBLOCKED]);
}

/// "Commit the end, then complete the uploads": until they are complete, the mark is past data nobody can see, and
/// whoever reads it then will never read them.
#[test]
fn a_commit_before_the_objects_loses_records() {
    let protocol = Protocol { publish_first: false, ..Protocol::one_lane(3).prompt() };
    breaks("end committed first", protocol, &[NO_LOSS, TILING, COMMIT_AFTER_PUBLISH]);
}

/// An evicted member joins again, and its client library sends what it had kept back, with the new generation.
#[test]
fn a_commit_that_outlives_an_eviction_moves_the_mark_of_another() {
    let protocol =
        Protocol { commits_die_with_lease: false, ..Protocol::one_lane(3).prompt().unmoved(Some(2)) };
    breaks("commits outlive an eviction", protocol, &FORGED);
    breaks(
        "commits outlive an eviction, no claim",
        Protocol { claim: Claim::Absent, ..protocol },
        &FORGED_AND_DAMAGED,
    );
}

/// No failure is needed: a lane given up in good order does it, if its commit was not waited for.
#[test]
fn a_commit_that_outlives_a_revocation_moves_the_mark_of_another() {
    let protocol = Protocol {
        commits_die_with_lease: false,
        allow: Allowance { faults: Some(0), moves: Some(2), regressions: 0, resets: 0 },
        ..Protocol::one_lane(3).prompt()
    };
    breaks("commits outlive a revocation", protocol, &[FENCE, PINNED, UNBLOCKED]);
    let retained = Protocol { commits_die_with_lease: false, ..Protocol::two_lanes([2, 1], 0, 1) };
    breaks("commits outlive a revocation, two lanes", retained, &[FENCE, PINNED]);
}

/// The member that comes back goes on where it was, and the coordinator has no reason to refuse it.
#[test]
fn a_lease_that_outlives_its_assignment_is_no_fence() {
    let protocol =
        Protocol { lease_per_assignment: false, ..Protocol::one_lane(3).prompt().unmoved(Some(1)) };
    breaks("a lease per process", protocol, &FORGED);
    breaks(
        "a lease per process, no claim",
        Protocol { claim: Claim::Absent, ..protocol },
        &FORGED_AND_DAMAGED,
    );
}

/// The claim is on first offsets, and inside a segment there is none to meet.
#[test]
fn a_foreign_mark_adopted_inside_a_segment_duplicates_its_rest() {
    let protocol = Protocol { adopt_foreign: true, ..Protocol::one_lane(3).prompt().unmoved(Some(1)) };
    breaks("a foreign mark adopted", protocol.with_reset(), &[NO_DUP, TILING]);
}
