//! A lane that loses its partition drops the future it waits for, at any await.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::bench::{Case, PASSED};
use super::script::Script;
use super::{Ran, SinkHarness};

/// How a future ends early.
#[derive(Clone, Copy, Debug)]
enum Dropped {
    /// Right after a poll that found nothing: what it waits for has hardly begun.
    AtOnce,
    /// When it is woken, instead of the next poll: what it waited for is done, and nobody will know.
    WhenWoken,
}

pub(super) async fn cancel_at_every_await_of_spill<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let mut lanes = 0..;
    for dropped in [Dropped::AtOnce, Dropped::WhenWoken] {
        for polls in POLLS {
            let Some(partition) = lanes.next() else {
                return PASSED;
            };
            let script = Script::dense(&case.lane(partition), 16, 2);
            let mut segment = case.open(&case.process().await, &script).await;
            let mut ended = true;
            for batch in script.batches().take(2) {
                case.append_all(&mut segment, &script, &batch).await;
                ended = poll_at_most(segment.writer.spill(), polls, dropped).await.is_some();
                if !ended {
                    break;
                }
            }
            give_up(segment.writer, polls).await;
            case.write(&case.process().await, &script).await;
            let when = format!("spill was dropped {dropped:?} after {polls} polls, then redone");
            case.expect_replayed(&script.lane, &script.rows, &when).await;
            if ended {
                break;
            }
        }
    }
    PASSED
}

pub(super) async fn cancel_at_every_await_of_stage<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let mut lanes = 0..;
    for dropped in [Dropped::AtOnce, Dropped::WhenWoken] {
        for polls in POLLS {
            let Some(partition) = lanes.next() else {
                return PASSED;
            };
            let script = Script::dense(&case.lane(partition), 16, 2);
            let mut segment = case.open(&case.process().await, &script).await;
            case.fill(&mut segment, &script).await;
            let ended = poll_at_most(segment.writer.stage(script.range), polls, dropped).await.is_some();
            give_up(segment.writer, polls).await;
            case.write(&case.process().await, &script).await;
            let when = format!("stage was dropped {dropped:?} after {polls} polls, then redone");
            case.expect_replayed(&script.lane, &script.rows, &when).await;
            if ended {
                break;
            }
        }
    }
    PASSED
}

pub(super) async fn cancel_at_every_await_of_publish<H: SinkHarness>(case: &Case<'_, H>) -> Ran {
    let mut lanes = 0..;
    for dropped in [Dropped::AtOnce, Dropped::WhenWoken] {
        for polls in POLLS {
            let Some(partition) = lanes.next() else {
                return PASSED;
            };
            let script = Script::dense(&case.lane(partition), 16, 2);
            let (mut segment, intent) = case.cut(&case.process().await, &script).await;
            let ended = poll_at_most(segment.writer.publish(), polls, dropped).await.is_some();
            give_up(segment.writer, polls).await;
            case.recover(&case.process().await, &script, &intent).await;
            let when = format!("publish was dropped {dropped:?} after {polls} polls, then recovered");
            case.expect(&script.lane, &script.rows, &when).await;
            if ended {
                break;
            }
        }
    }
    PASSED
}

/// After how many polls a future is dropped: each of the first, then ever fewer, for targets that need many.
const POLLS: [u32; 28] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 24, 28, 32, 40, 48, 64, 96, 128, 256];

/// By turns as a lane that was told to, and as a process that dies.
async fn give_up<T: Send + 'static>(mut writer: Box<dyn crate::sink::SegmentWriter<T>>, polls: u32) {
    if polls.is_multiple_of(2) {
        writer.abandon().await;
    }
}

/// `None` if the future was dropped first.
async fn poll_at_most<F: Future>(future: F, polls: u32, dropped: Dropped) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match (future.as_mut().poll(context), dropped) {
            (Poll::Ready(output), _) => Poll::Ready(Some(output)),
            (Poll::Pending, Dropped::AtOnce) if left == 0 => Poll::Ready(None),
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await
}
