//! A file system that is smaller than the disk budget, or takes fewer files than there are lanes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::testkit::{MemoryStore, ScriptedBroker};
use aqueduct_core::{Disk, DiskFile, LocalDisk, MaxRecords, Offset};
use bytes::Bytes;

use crate::stages::{all, pipeline};

/// A file system of so many bytes, of which the scratch files take what they have, and so many files.
#[derive(Debug)]
struct Small {
    bytes: u64,
    /// With the marker.
    files: usize,
}

impl Disk for Small {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let directory = path.parent().unwrap();
        if LocalDisk.list(directory)?.len() >= self.files {
            return Err(io::ErrorKind::StorageFull.into());
        }
        LocalDisk.create(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        LocalDisk.list(path)
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        let length = |path: &PathBuf| std::fs::metadata(path).map_or(0, |found| found.len());
        Ok(self.bytes.saturating_sub(LocalDisk.list(path)?.iter().map(length).sum()))
    }

    fn lock(&self, path: &Path, content: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        LocalDisk.lock(path, content)
    }
}

/// One lane has filled the file system with a segment that no rotation will end, and no more records come for it. The other
/// lane needs room: the first must give its own up, although it is far below its share of the budget.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_holds_the_disk_gives_it_up_for_another() {
    const HEADROOM: u64 = 8 << 20;
    one_after_the_other(Small { bytes: HEADROOM + (1 << 20), files: 1_000 }).await;
}

/// The same with files: there is one for both.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_holds_the_only_file_gives_it_up_for_another() {
    one_after_the_other(Small { bytes: 1 << 30, files: 2 }).await;
}

/// The lane's last segment has left its file to be written over, and the file system has no room beside it. The next one begins
/// with that file, and must not wait for room that only its own file takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_begins_with_a_kept_file_does_not_wait_for_it() {
    const HEADROOM: u64 = 8 << 20;
    let broker = ScriptedBroker::new();
    let lane = broker.create("orders", 1).remove(0);
    let row = |index: usize| Bytes::from(format!("{index:01000}"));
    broker.extend(&lane, (0..1_100).map(row));
    let store = MemoryStore::new();
    // Room for the first segment, and less than a batch more.
    let disk = Small { bytes: HEADROOM + 1_130_000, files: 1_000 };
    let built = pipeline(broker.source().batch_records(50), &store)
        .rotate(MaxRecords(1_100))
        .disk(Arc::new(disk))
        .build()
        .unwrap();
    let handle = built.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(built.run(async { drop(stopped.await) }));
    broker.wait_durable(&lane, Offset::new(1_100)).await;
    while handle.status().totals.segments == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(handle.status().disk.0 >= 1_100_000, "the file is kept");
    broker.extend(&lane, (1_100..2_200).map(row));
    let taken_in = async {
        while handle.status().lanes.iter().all(|it| it.position < Offset::new(2_200)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(20), taken_in).await;
    assert!(done.is_ok(), "the lane waits for its own file: {:?}", handle.status());
    drop(stop);
    running.await.unwrap().unwrap();
    assert_eq!(store.offsets(&lane), all(2_200));
}

async fn one_after_the_other(disk: Small) {
    let broker = ScriptedBroker::new();
    let [first, second] = &broker.create("orders", 2)[..] else { panic!("two lanes") };
    let row = |index: usize| Bytes::from(format!("{index:01000}"));
    broker.extend(first, (0..1_000).map(row));
    let store = MemoryStore::new();
    let built = pipeline(broker.source().batch_records(50), &store)
        .rotate(MaxRecords(1_000_000))
        .disk(Arc::new(disk))
        .build()
        .unwrap();
    let handle = built.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(built.run(async { drop(stopped.await) }));
    let taken_in = |lane, offset| {
        let (handle, lane) = (handle.clone(), aqueduct_core::TopicPartition::clone(lane));
        async move {
            let there = || handle.status().lanes.iter().any(|it| it.lane == lane && it.position >= offset);
            while !there() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    taken_in(first, Offset::new(1_000)).await;
    assert_eq!(store.offsets(first), [] as [i64; 0], "nothing has ended the first lane's segment");
    broker.extend(second, (0..1_000).map(row));
    let done = tokio::time::timeout(Duration::from_secs(20), taken_in(second, Offset::new(1_000))).await;
    assert!(done.is_ok(), "the second lane waits for what the first never gives back: {:?}", handle.status());
    assert_eq!(store.offsets(first), all(1_000));
    drop(stop);
    running.await.unwrap().unwrap();
    assert_eq!(store.offsets(second), all(1_000));
}
