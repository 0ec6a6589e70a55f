//! The sinks of the testkit pass the conformance suite, and the suite catches every sink that is broken on purpose.

#[cfg(test)]
mod conformance {
    pub(crate) mod harness;
    pub(crate) mod shelf;
}

use aqueduct_core::Class;
use aqueduct_core::testkit::{Fault, MemorySink, Step, sink_suite};
use futures::future::join_all;

use conformance::harness::{Memory, Simple, verdict};
use conformance::shelf::{Flaw, Refuses, Shelf};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_sink_passes_however_it_recovers() {
    let redo = sink_suite(Memory::new(|sink| sink)).await;
    assert_eq!(redo.left_out, [("redo_loses_nothing", "the sink works under intents")], "{redo}");
    sink_suite(Memory::new(|sink| sink.object_rows(4))).await;
    let forward = sink_suite(Memory::new(MemorySink::rolling_forward)).await;
    assert!(
        forward.left_out.contains(&("second_cut_never_duplicates", "the sink rolls forward")),
        "{forward}"
    );
    let simple = sink_suite(Memory::new(MemorySink::after_durable)).await;
    assert!(simple.ran.contains(&"redo_loses_nothing"), "{simple}");
    sink_suite(Memory::new(MemorySink::idempotent)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_by_itself_is_called_again() {
    let memory = Memory::new(|sink| sink);
    memory.faults.on(Step::Publish, 1, Fault::FailAfterWrite(Class::RETRY));
    memory.faults.on(Step::Stage, 2, Fault::FailAfterWrite(Class::RETRY));
    memory.faults.on(Step::Spill, 3, Fault::FailAfterWrite(Class::RETRY));
    memory.faults.on(Step::Begin, 4, Fault::FailAfterWrite(Class::RETRY));
    memory.store.faults().on(Step::Create, 5, Fault::FailAfterWrite(Class::RETRY));
    sink_suite(memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_of_one_method_passes() {
    let report = sink_suite(Simple::default()).await;
    assert!(report.ran.contains(&"append_poison_keeps_neighbours"), "{report}");
    assert!(!report.ran.contains(&"publish_is_invisible_before_call"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_catches_every_broken_sink() {
    verdict(Shelf::new(None)).await.expect("the sink that is not broken passes");
    for late in [Refuses::Stage, Refuses::Publish] {
        verdict(Shelf::refusing(late)).await.expect("a sink may refuse rows late");
    }
    // The case that has to catch each.
    let expected = [
        (Flaw::UnstableFingerprint, "fingerprint_is_stable_and_nonempty"),
        (Flaw::NoFingerprint, "fingerprint_is_stable_and_nonempty"),
        (Flaw::LosesTheLastRow, "single_record"),
        (Flaw::AnswersBeforeItIsThere, "single_record"),
        (Flaw::ReversesRows, "gaps_are_fine"),
        (Flaw::ForgetsRoutesPastTheHundredth, "many_routes"),
        (Flaw::KeepsHalfAPoison, "append_poison_keeps_neighbours"),
        (Flaw::KeepsTheRouteOfAPoison, "append_poison_keeps_neighbours"),
        (Flaw::RefusesLateWithoutSayingSo, "append_poison_keeps_neighbours"),
        (Flaw::ForgetsALateRefusal, "append_poison_keeps_neighbours"),
        (Flaw::HoldsTheBatch, "spill_returns_memory"),
        (Flaw::MixesLanes, "parallel_lanes_do_not_interfere"),
        (Flaw::CountsOneRowLess, "stats_match_reality"),
        (Flaw::CountsNoBytes, "stats_match_reality"),
        (Flaw::PublishesAgain, "publish_twice_is_once"),
        (Flaw::PublishesAtSpill, "gaps_are_fine"),
        (Flaw::PublishesAtStage, "publish_is_invisible_before_call"),
        (Flaw::PublishesAtAbandon, "abandon_leaves_nothing_visible"),
        (Flaw::DeletesAtAbandon, "abandon_is_idempotent"),
        (Flaw::StagesTwice, "stage_twice_is_once"),
        (Flaw::NamesByInstance, "publish_by_second_process_from_intent"),
        (Flaw::TakesThePinnedSegmentForPublished, "publish_by_second_process_from_intent"),
        (Flaw::NamesByBatch, "publish_after_lost_response"),
        (Flaw::Overwrites, "second_cut_never_duplicates"),
        (Flaw::WritesInTwoSteps, "cancel_at_every_await_of_publish"),
    ];
    // They wait more than they work: all at once.
    let verdicts = expected.map(|(flaw, _)| verdict(Shelf::new(Some(flaw))));
    let mut wrong = Vec::new();
    for ((flaw, cases), verdict) in expected.into_iter().zip(join_all(verdicts).await) {
        match verdict {
            Ok(_) => wrong.push(format!("{flaw:?} was not caught")),
            Err(message) if message.starts_with(cases) => {}
            Err(message) => wrong.push(format!("{flaw:?} was caught by: {message}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
