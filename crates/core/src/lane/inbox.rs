//! From the supervisor to a lane.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use crate::batch::Batch;
use crate::record::Offset;
use crate::sync::{Mutex, Notify};

/// What the supervisor hands to a lane, in order.
#[derive(Debug)]
pub(crate) enum LaneEvent {
    Batch(Batch),
    Reached(Offset),
}

/// A lane's queue. It has no bound of its own, because its content has one: every batch holds a permit of the memory
/// pool, and positions are merged. So the supervisor never waits for a slow lane, and other lanes never wait for it.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<LaneEvent>,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Appends an event; drops it if the lane has ended.
    pub(crate) fn push(&self, event: LaneEvent) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed {
            return;
        }
        if let (LaneEvent::Reached(next), Some(LaneEvent::Reached(last))) = (&event, queue.events.back_mut())
        {
            *last = *next;
        } else {
            queue.events.push_back(event);
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// There will be no more events; those inside are still delivered.
    pub(crate) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_one();
    }

    /// Closes the queue and drops what is inside, with its permits.
    pub(crate) fn discard(&self) {
        let dropped = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.closed = true;
            std::mem::take(&mut queue.events)
        };
        drop(dropped);
        self.changed.notify_one();
    }

    /// The next event; `None` when the queue is closed and empty. Cancel safe. For one receiver.
    pub(crate) async fn recv(&self) -> Option<LaneEvent> {
        loop {
            {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(event) = queue.events.pop_front() {
                    return Some(event);
                }
                if queue.closed {
                    return None;
                }
            }
            // `notify_one` leaves a permit when nobody waits, so a push in between is not missed.
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::explore::{explore, spawn, yield_now};

    #[test]
    fn a_closed_inbox_still_delivers_what_is_inside() {
        explore(async || {
            let inbox = Inbox::new();
            inbox.push(LaneEvent::Reached(Offset::new(1)));
            inbox.push(LaneEvent::Reached(Offset::new(4)));
            inbox.close();
            inbox.push(LaneEvent::Reached(Offset::new(9)));
            assert!(matches!(inbox.recv().await, Some(LaneEvent::Reached(next)) if next == Offset::new(4)));
            assert!(inbox.recv().await.is_none());
        });
    }

    #[test]
    fn a_waiting_lane_wakes_up() {
        explore(async || {
            let inbox = Inbox::new();
            let waiting = spawn({
                let inbox = Arc::clone(&inbox);
                async move { inbox.recv().await }
            });
            yield_now().await;
            inbox.push(LaneEvent::Reached(Offset::ZERO));
            assert!(waiting.await.unwrap().is_some());
            inbox.discard();
            assert!(inbox.recv().await.is_none());
        });
    }
}
