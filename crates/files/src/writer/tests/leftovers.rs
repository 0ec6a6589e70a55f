//! Uploads that others have left behind, or are still working on.

use super::*;
use crate::target::ObjectTarget;

/// One object of six parts.
fn large() -> Vec<Spec> {
    vec![(0, 100); 200]
}

const KEY: &str = "topics/t/r=0/t+0+0000000000.json";

fn pinned(rig: &Rig, rows: &[Spec]) -> SegmentStart {
    let mut at = rig.start(0, 0);
    at.pinned = Some(Intent {
        range: OffsetRange::new(Offset::ZERO, Offset::new(count(rows.len()))).unwrap(),
        fingerprint: Fingerprint::new(),
        rows: rows.len() as u64,
        offsets_hash: 0,
        opened_at_ms: 0,
        token: Bytes::new(),
    });
    at
}

async fn staged(target: &Arc<MemoryTarget>, at: SegmentStart) -> Box<dyn SegmentWriter<Value>> {
    let rows = large();
    let mut writer = begin(&sink(target, options()), at).await;
    fill(&mut *writer, 0, 0, &rows, &[50]).await;
    stage(&mut *writer, 0, &rows).await;
    writer
}

#[tokio::test]
async fn a_successor_removes_what_a_killed_process_has_left() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    for key in [KEY, "topics/t/r=0/t+0+0000000000.json.gz", "topics/t/r=1/t+0+0000000001.json"] {
        target.create_multipart(key, &ObjectMeta::default()).await.unwrap();
    }
    staged(&target, pinned(&rig, &large())).await.publish().await.unwrap();
    assert_eq!(target.open_uploads(), 2, "only those of the key it has published");
    assert_same(&decoded(&target, Compression::None), &model(0, 0, &large(), 40 << 10, ""));

    // Killed once more, between the object and its commit: the object is recognised, and what is left is removed as well.
    target.create_multipart(KEY, &ObjectMeta::default()).await.unwrap();
    let calls = target.calls().len();
    staged(&target, pinned(&rig, &large())).await.publish().await.unwrap();
    assert_eq!(target.open_uploads(), 2);
    let calls: Vec<Call> = target.calls().split_off(calls).into_iter().map(|(call, _)| call).collect();
    assert_eq!(calls, [Call::Head, Call::ListUploads, Call::Abort]);
}

/// Two processes take themselves for the owner and send the same object at the same time. Whoever is second is told that its
/// upload is gone, in the middle of its parts or at their end, and goes on as soon as it has looked.
#[tokio::test]
async fn two_owners_who_remove_each_others_uploads_both_get_through() {
    let expected = model(0, 0, &large(), 40 << 10, "");
    for begun in 1..=8 {
        let target = Arc::new(MemoryTarget::with_limits(limits()));
        let (one, other) = (Rig::new(1 << 20), Rig::new(1 << 20));
        let (mut slow, mut fast) =
            (staged(&target, one.start(0, 0)).await, staged(&target, pinned(&other, &large())).await);
        // The slow one stands still in one of its calls, with an upload of its own under way.
        target.slow(Duration::from_millis(5));
        let wait = async {
            while target.calls().len() < begun {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            target.slow(Duration::ZERO);
            through(&mut *fast).await
        };
        // Either may be second: nothing keeps the one that stood still from overtaking the other.
        let (first, second) = tokio::join!(through(&mut *slow), wait);
        assert_eq!(first.objects, second.objects);
        assert_same(&decoded(&target, Compression::None), &expected);
        assert_eq!(target.open_uploads(), 0, "after {begun} calls");
    }
}

/// Publishes, and again if the other's upload was first: the object is there by then.
async fn through(writer: &mut dyn SegmentWriter<Value>) -> Published {
    match writer.publish().await {
        Ok(published) => published,
        Err(error) => {
            assert_eq!(error.class(), Class::RETRY, "{}", ErrorChain(&error));
            writer.publish().await.unwrap()
        }
    }
}

#[tokio::test]
async fn an_attempt_after_a_failure_looks_before_it_sends_everything_again() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let mut writer = staged(&target, rig.start(0, 0)).await;
    // Completed, the answer lost, and no answer either to the question what is there.
    let complete = {
        let probe = Arc::new(MemoryTarget::with_limits(limits()));
        staged(&probe, rig.start(0, 0)).await.publish().await.unwrap();
        probe.calls().iter().position(|(call, _)| *call == Call::Complete).unwrap()
    };
    target.fail(complete, Fault::LoseAnswer);
    target.fail(complete + 1, Fault::Reject);
    assert_eq!(writer.publish().await.unwrap_err().class(), Class::RETRY);
    let calls = target.calls().len();
    writer.publish().await.unwrap();
    let calls: Vec<Call> = target.calls().split_off(calls).into_iter().map(|(call, _)| call).collect();
    assert_eq!(calls, [Call::Head, Call::ListUploads], "nothing is sent a second time");
}
