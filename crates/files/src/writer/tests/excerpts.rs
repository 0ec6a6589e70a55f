//! Runs of several groups, found in one pass.

use tokio::sync::Semaphore;

use super::excerpt::Excerpt;
use super::index::{IndexTail, Run};
use super::read::Spooled;
use super::*;

/// An index of so many batches, each with a run of five bytes for every object.
async fn spooled(rig: &Rig, batches: u64, objects: u32) -> Spooled {
    let mut tail = IndexTail::default();
    for position in 0..batches * u64::from(objects) {
        tail.push(u32::try_from(position % u64::from(objects)).unwrap(), position * 5, 5);
    }
    let file = rig.start(0, 0).scratch.create().unwrap();
    let (bytes, at) = tail.take(true).unwrap();
    let (bytes, written) = file.write_at(bytes, at).await;
    written.unwrap();
    tail.wrote(bytes);
    Spooled::new(None, Some(file), tail.written())
}

#[tokio::test]
async fn groups_share_an_excerpt_as_long_as_one_of_them_holds_it() {
    let rig = Rig::new(1 << 20);
    let spooled = spooled(&rig, 3, 10).await;
    let first = spooled.excerpt(&(2..4), &(2..8)).unwrap().unwrap();
    let run =
        |batch: u64, object: u32| Run { object, length: 5, position: (batch * 10 + u64::from(object)) * 5 };
    let runs: Vec<Run> = first.runs_of(&(2..4)).collect();
    assert_eq!(runs, [run(0, 2), run(0, 3), run(1, 2), run(1, 3), run(2, 2), run(2, 3)]);
    let second = spooled.excerpt(&(4..8), &(4..10)).unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let third = spooled.excerpt(&(7..9), &(7..10)).unwrap().unwrap();
    let runs: Vec<Run> = third.runs_of(&(8..9)).collect();
    assert_eq!(runs, [run(0, 8), run(1, 8), run(2, 8)], "another one, with what the first has not");
    drop((first, second, third));
    assert!(
        spooled.excerpt(&(7..9), &(0..0)).unwrap().is_none(),
        "nobody holds one, and it would be too large"
    );
}

#[tokio::test]
async fn a_publication_keeps_its_last_excerpt_if_there_is_a_place() {
    let rig = Rig::new(1 << 20);
    let (spooled, other) = (spooled(&rig, 3, 10).await, spooled(&rig, 3, 10).await);
    let place = Arc::new(Semaphore::new(1));
    let keeping = spooled.keep_excerpts(&place);
    assert!(other.keep_excerpts(&place).is_none(), "there is no other place");
    let shared = |spooled: &Spooled| {
        let first = Arc::downgrade(&spooled.excerpt(&(2..4), &(2..8)).unwrap().unwrap());
        let second = spooled.excerpt(&(4..6), &(4..9)).unwrap().unwrap();
        first.upgrade().is_some_and(|first| Arc::ptr_eq(&first, &second))
    };
    assert!(shared(&spooled));
    assert!(!shared(&other));
    let replaced = Arc::downgrade(&spooled.excerpt(&(4..6), &(4..9)).unwrap().unwrap());
    drop(spooled.excerpt(&(8..9), &(8..10)).unwrap());
    assert!(replaced.upgrade().is_none(), "one is kept, not two");
    drop(keeping);
    assert!(spooled.excerpt(&(8..9), &(0..0)).unwrap().is_none(), "nor is that after the publication");
    assert!(other.keep_excerpts(&place).is_some());
}

#[tokio::test]
async fn an_excerpt_has_no_more_runs_than_were_paid_for() {
    let rig = Rig::new(1 << 20);
    let most = u64::try_from(Excerpt::RUNS_MAX).unwrap();
    let full = spooled(&rig, most / 2, 3).await;
    assert_eq!(full.excerpt(&(0..2), &(0..2)).unwrap().unwrap().runs_of(&(0..2)).count() as u64, most);
    // The index has more runs than the objects were thought to have.
    assert!(full.excerpt(&(1..3), &(0..3)).unwrap().is_none());
}
