//! The lane's inbox: what is pushed arrives, once and in order, and a lane that waits is woken.

use std::sync::Arc;

use aqueduct_core::{Batch, BatchBuilder, Offset, Permit, Timestamp, TopicPartition};

use crate::inbox::{Inbox, LaneEvent};
use crate::sync::explore::{explore, spawn};

fn batch(offset: i64) -> Batch {
    let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 16);
    batch.push(Offset::new(offset), Timestamp::default(), None, Some(b"x"), []);
    batch.build(Permit::unlimited())
}

/// The positions a lane has come to, in the order it learned of them.
async fn receive(inbox: Arc<Inbox>) -> Vec<i64> {
    let mut seen = Vec::new();
    while let Some(event) = inbox.recv().await {
        seen.push(match event {
            LaneEvent::Batch(batch) => batch.iter().next().unwrap().offset().get(),
            LaneEvent::Reached(next) => next.get(),
        });
    }
    seen
}

#[test]
fn what_is_pushed_arrives_in_order_and_the_end_after_it() {
    explore(async || {
        let inbox = Inbox::new();
        let lane = spawn(receive(Arc::clone(&inbox)));
        inbox.push(LaneEvent::Batch(batch(0)));
        inbox.push(LaneEvent::Reached(Offset::new(4)));
        inbox.push(LaneEvent::Reached(Offset::new(7)));
        inbox.push(LaneEvent::Batch(batch(8)));
        inbox.close();
        let mut seen = lane.await.unwrap();
        // Positions in a row are merged if the lane was not faster.
        seen.retain(|position| *position != 4);
        assert_eq!(seen, [0, 7, 8]);
    });
}

#[test]
fn a_queue_that_is_discarded_ends_its_lane_and_its_pushes() {
    explore(async || {
        let inbox = Inbox::new();
        let lane = spawn(receive(Arc::clone(&inbox)));
        let pushes = spawn({
            let inbox = Arc::clone(&inbox);
            async move { (0..3).for_each(|offset| inbox.push(LaneEvent::Batch(batch(offset)))) }
        });
        let discards = spawn({
            let inbox = Arc::clone(&inbox);
            async move { inbox.discard() }
        });
        let seen = lane.await.unwrap();
        assert!(seen.iter().copied().eq((0..).take(seen.len())), "a beginning of what was pushed");
        pushes.await.unwrap();
        discards.await.unwrap();
        assert!(inbox.recv().await.is_none());
    });
}
