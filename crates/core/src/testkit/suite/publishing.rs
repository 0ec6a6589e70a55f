//! Cases of one process: the two phases, and giving up.

use futures::future::join;

use super::bench::{Case, PASSED, settle};
use super::script::Script;
use super::{Ran, SinkHarness};

/// The lane calls again when it does not know whether the first call got through.
pub(super) async fn publish_twice_is_once<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script::dense(&case.lane(0), 30, 3);
    let (mut segment, first) = case.write(&case.process().await, &script).await;
    let second = case.publish(&mut segment).await;
    case.expect(&script.lane, &script.rows, "after a second publish").await;
    case.check(
        first.objects == second.objects,
        format_args!("the second publish reports {:?}, the first {:?}", second.objects, first.objects),
    );
    PASSED
}

/// Two segments of one lane are open at once: one publishing, the next filling.
pub(super) async fn next_segment_fills_while_one_publishes<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let lane = case.lane(0);
    let process = case.process().await;
    let first = Script::dense(&lane, 40, 2);
    let second = Script::at(&lane, 40..70, 40, 70, 2);
    let (mut publishing, _) = case.cut(&process, &first).await;
    let (_, (mut filled, _)) = join(case.publish(&mut publishing), case.cut(&process, &second)).await;
    drop(publishing);
    case.publish(&mut filled).await;
    case.expect(&lane, &[first.rows, second.rows].concat(), "after both segments").await;
    PASSED
}

/// Nothing may be seen before the cut is written down.
pub(super) async fn publish_is_invisible_before_call<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script::dense(&case.lane(0), 30, 3);
    let process = case.process().await;
    let mut segment = case.open(&process, &script).await;
    case.fill(&mut segment, &script).await;
    case.expect(&script.lane, &[], "after spill").await;
    case.stage(&process, &mut segment, &script).await;
    case.expect(&script.lane, &[], "after stage, before publish").await;
    case.publish(&mut segment).await;
    case.expect(&script.lane, &script.rows, "after publish").await;
    PASSED
}

/// Given up after each step, a segment leaves nothing, and its offsets can be cut in another way.
pub(super) async fn abandon_leaves_nothing_visible<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let process = case.process().await;
    for (partition, after) in (0..).zip(["append", "spill", "stage"]) {
        let script = Script::dense(&case.lane(partition), 20, 2);
        let mut segment = case.open(&process, &script).await;
        match after {
            "append" => {
                for batch in script.batches().take(1) {
                    case.append_all(&mut segment, &script, &batch).await;
                }
            }
            _ => case.fill(&mut segment, &script).await,
        }
        if after == "stage" {
            case.stage(&process, &mut segment, &script).await;
        }
        segment.writer.abandon().await;
        drop(segment);
        case.expect(&script.lane, &[], &format!("abandoned after {after}")).await;
        let shorter = script.until(7);
        case.write(&process, &shorter).await;
        case.expect(&script.lane, &shorter.rows, &format!("cut again after abandon after {after}")).await;
    }
    PASSED
}

/// A lane gives up whatever state a writer is in, and may do so twice.
pub(super) async fn abandon_is_idempotent<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let process = case.process().await;
    let script = Script::dense(&case.lane(0), 20, 2);
    let (mut segment, _) = case.cut(&process, &script).await;
    segment.writer.abandon().await;
    segment.writer.abandon().await;
    drop(segment);
    // What is published stays published.
    let script = Script::dense(&case.lane(1), 20, 2);
    let (mut segment, _) = case.write(&process, &script).await;
    segment.writer.abandon().await;
    segment.writer.abandon().await;
    drop(segment);
    case.expect(&script.lane, &script.rows, "abandoned after publish").await;
    PASSED
}

/// `spill` and `stage` are called again when their answer was an error.
pub(super) async fn stage_twice_is_once<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script::dense(&case.lane(0), 30, 3);
    let process = case.process().await;
    let mut segment = case.open(&process, &script).await;
    for batch in script.batches() {
        case.append_all(&mut segment, &script, &batch).await;
        case.spill(&mut segment).await;
        case.spill(&mut segment).await;
    }
    drop(settle!(case, "stage", segment.writer.stage(script.range).await));
    let intent = case.stage(&process, &mut segment, &script).await;
    case.expect(&script.lane, &[], "after a second stage").await;
    case.publish(&mut segment).await;
    case.expect(&script.lane, &script.rows, "after publish").await;
    // The second token is the one that was committed.
    drop(segment);
    case.recover(&case.process().await, &script, &intent).await;
    case.expect(&script.lane, &script.rows, "after a recovery by the second stage's token").await;
    PASSED
}
