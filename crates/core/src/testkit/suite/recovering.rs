//! Cases of several processes: one dies or is thought dead, another finishes what it has written down.

use futures::future::join;

use super::bench::{Case, PASSED};
use super::script::Script;
use super::{Ran, SinkHarness};

/// A sink without phases is called again for what may already be there.
pub(super) async fn redo_loses_nothing<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script::dense(&case.lane(0), 30, 2);
    let mut dies = case.open(&case.process().await, &script).await;
    case.fill(&mut dies, &script.until(20)).await;
    drop(dies);
    case.write(&case.process().await, &script).await;
    case.expect_replayed(&script.lane, &script.rows, "after a second process wrote everything again").await;
    PASSED
}

/// The process dies before its intent is committed: nobody knows of the cut, and the next one is another.
pub(super) async fn stage_then_drop_then_recover<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script::dense(&case.lane(0), 30, 3);
    drop(case.cut(&case.process().await, &script).await);
    case.expect(&script.lane, &[], "after the first process died").await;
    let heir = case.process().await;
    let shorter = script.until(11);
    case.write(&heir, &shorter).await;
    case.expect(&script.lane, &shorter.rows, "after the second process cut earlier").await;
    case.write(&heir, &Script::at(&script.lane, 11..30, 11, 30, 3)).await;
    case.expect(&script.lane, &script.rows, "after the second process went on").await;
    PASSED
}

/// The process dies between its intent and its publication.
pub(super) async fn publish_by_second_process_from_intent<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script::dense(&case.lane(0), 30, 3);
    let (dead, intent) = case.cut(&case.process().await, &script).await;
    drop(dead);
    case.recover(&case.process().await, &script, &intent).await;
    case.expect(&script.lane, &script.rows, "after the second process").await;
    // It may die as well, before it commits the end.
    case.recover(&case.process().await, &script, &intent).await;
    case.expect(&script.lane, &script.rows, "after a third process with the first one's intent").await;
    let next = Script::at(&script.lane, 30..40, 30, 40, 3);
    case.write(&case.process().await, &next).await;
    case.expect(&script.lane, &[script.rows, next.rows].concat(), "after the next segment").await;
    PASSED
}

/// Everything got through, and nobody lived to say so. The new owner batches in another way.
pub(super) async fn publish_after_lost_response<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script::dense(&case.lane(0), 30, 3);
    let (mut dead, intent) = case.cut(&case.process().await, &script).await;
    let first = case.publish(&mut dead).await;
    drop(dead);
    let replayed = Script { batch: 13, ..script.clone() };
    let second = case.recover(&case.process().await, &replayed, &intent).await;
    case.expect(&script.lane, &script.rows, "after the second process").await;
    case.check(
        second.objects.is_empty() || first.objects == second.objects,
        format_args!("the second process reports {:?}, the first {:?}", second.objects, first.objects),
    );
    PASSED
}

/// The first process was only stopped: it wakes up and publishes what another one has published since.
pub(super) async fn already_published_is_recognised<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let script = Script::dense(&case.lane(0), 30, 3);
    let (mut zombie, intent) = case.cut(&case.process().await, &script).await;
    case.recover(&case.process().await, &script, &intent).await;
    case.expect(&script.lane, &script.rows, "after the second process").await;
    // Whether it succeeds or finds that there is nothing left to do: nothing may change.
    drop(zombie.writer.publish().await);
    case.expect(&script.lane, &script.rows, "after the stopped process published late").await;
    zombie.writer.abandon().await;
    drop(zombie);
    case.expect(&script.lane, &script.rows, "after the stopped process gave up").await;
    PASSED
}

/// Both believe that the segment is theirs, at the same time.
pub(super) async fn two_processes_publish_at_once<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    for partition in 0..8 {
        let script = Script::dense(&case.lane(partition), 30, 3);
        let (mut zombie, intent) = case.cut(&case.process().await, &script).await;
        let heir = case.process().await;
        let late = async {
            drop(zombie.writer.publish().await);
            zombie.writer.abandon().await;
        };
        join(late, case.recover(&heir, &script, &intent)).await;
        drop(zombie);
        case.expect(&script.lane, &script.rows, "after two processes published at once").await;
    }
    PASSED
}

/// The mark was set back and the range is cut in another way: whatever `publish` answers, no row is there twice and
/// none is gone.
pub(super) async fn second_cut_never_duplicates<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    for (partition, end) in (0..).zip([10, 30, 45]) {
        let script = Script::dense(&case.lane(partition), 30, 3);
        case.write(&case.process().await, &script).await;
        let other = Script::dense(&script.lane, end, 3);
        let (mut again, _) = case.cut(&case.process().await, &other).await;
        let written = match again.writer.publish().await {
            // A target that knows rows by their offsets takes them, once.
            Ok(_) if other.rows.len() > script.rows.len() => &other,
            Ok(_) | Err(_) => &script,
        };
        case.expect(&script.lane, &written.rows, &format!("[0, 30) was published, then cut at {end}")).await;
        again.writer.abandon().await;
        drop(again);
        case.expect(&script.lane, &written.rows, &format!("the cut at {end} was abandoned")).await;
    }
    PASSED
}
