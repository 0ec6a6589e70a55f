use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scratch::HEADROOM;
use super::{Disk, DiskFile, LocalDisk, Spool, SpoolError};
use crate::budget::Pool;

/// A file system with so much room.
#[derive(Debug)]
struct Small(u64);

impl Disk for Small {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
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

    fn available(&self, _: &Path) -> io::Result<u64> {
        Ok(self.0)
    }

    fn lock(&self, path: &Path, content: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        LocalDisk.lock(path, content)
    }
}

#[test]
fn room_on_the_file_system_is_promised_once() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(Small(HEADROOM + 100));
    let spool = Spool::open(directory.path(), "test", disk, Pool::new(1 << 30)).unwrap();
    let (first, second) = (spool.scratch(), spool.scratch());
    assert!(!first.try_reserve(101), "beyond what there is");
    assert!(first.try_reserve(60));
    assert!(first.try_reserve(60), "the same room, asked for again");
    assert!(!second.try_reserve(60), "promised to the first");
    assert!(second.shortage(60).contains("file system"));
    assert!(second.try_reserve(40));
    first.settle();
    assert!(second.try_reserve(60));
    drop(second);
    assert!(first.try_reserve(100), "a segment that is gone keeps no promise");
}

#[tokio::test]
async fn a_directory_that_was_removed_is_made_again_and_is_ours() {
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::new(1 << 20);
    let spool = open(directory.path(), &pool).unwrap();
    let before = spool.scratch();
    let open_file = before.create().unwrap();
    std::fs::remove_dir_all(directory.path().join("aqueduct-spool-test")).unwrap();
    open_file.write_at(b"still here".to_vec(), 0).await.1.unwrap();
    let after = spool.scratch();
    let (one, two) = (after.create().unwrap(), after.create().unwrap());
    one.write_at(b"x".to_vec(), 0).await.1.unwrap();
    let mut read = [0; 10];
    open_file.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"still here");
    assert!(matches!(open(directory.path(), &pool), Err(SpoolError::InUse { .. })), "the lock is held again");
    drop((one, two, open_file));
    // Removed again, and this time somebody else moves in.
    std::fs::remove_dir_all(directory.path().join("aqueduct-spool-test")).unwrap();
    let other = open(directory.path(), &pool).unwrap();
    let kept = other.scratch().create().unwrap();
    std::fs::remove_file(directory.path().join("aqueduct-spool-test/0000000000000000")).unwrap();
    drop(kept);
    assert!(after.create().is_ok(), "names differ or are free: no file of another is ever opened");
}

fn open(directory: &Path, pool: &Pool) -> Result<Spool, SpoolError> {
    Spool::open(directory, "test", Arc::new(LocalDisk), pool.clone())
}

#[tokio::test]
async fn what_is_written_is_read_back_and_goes_with_its_segment() {
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::new(1 << 20);
    let scratch = open(directory.path(), &pool).unwrap().scratch();
    scratch.reserve(5).await;
    assert!(pool.used() > 0);
    let file = scratch.create().unwrap();
    let (buffer, result) = file.write_at(b"hello".to_vec(), 0).await;
    result.unwrap();
    assert_eq!(buffer, b"hello");
    let mut read = [0; 3];
    file.read_exact_at(&mut read, 2).unwrap();
    assert_eq!(&read, b"llo");
    assert!(file.read_exact_at(&mut read, 3).is_err(), "past the end");
    assert_eq!(scratch.written(), 5);
    drop((scratch, file));
    assert_eq!(pool.used(), 0);
    let left = std::fs::read_dir(directory.path().join("aqueduct-spool-test")).unwrap().count();
    assert_eq!(left, 1, "only the marker");
}

#[tokio::test]
async fn reservations_cover_what_is_still_to_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::new(8 << 10);
    let scratch = open(directory.path(), &pool).unwrap().scratch();
    assert!(scratch.try_reserve(6 << 10));
    assert!(scratch.try_reserve(6 << 10), "nothing was written in between");
    let file = scratch.create().unwrap();
    file.write_at(vec![0; 6 << 10], 0).await.1.unwrap();
    assert!(!scratch.try_reserve(6 << 10));
    assert!(scratch.try_reserve(2 << 10));
}

#[tokio::test]
async fn a_large_file_is_used_again_and_given_up_when_the_room_is_needed() {
    const LENGTH: usize = 2 << 20;
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::new(16 << 20);
    let spool = open(directory.path(), &pool).unwrap();
    let names = || {
        let entries = std::fs::read_dir(directory.path().join("aqueduct-spool-test")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    for _ in 0..2 {
        let scratch = spool.scratch();
        scratch.reserve(LENGTH as u64).await;
        let file = scratch.create().unwrap();
        file.write_at(vec![7; LENGTH], 0).await.1.unwrap();
        drop((scratch, file));
        assert_eq!(names().len(), 2, "the marker and one file, the same each time: {:?}", names());
        assert_eq!(pool.used(), LENGTH as u64, "kept on disk, and paid for");
    }
    let second = spool.scratch();
    let reused = second.create().unwrap();
    assert!(second.try_reserve(LENGTH as u64), "its blocks are the segment's");
    assert_eq!(pool.used(), LENGTH as u64);
    drop((second, reused));
    let large = spool.scratch();
    assert!(large.try_reserve(16 << 20), "idle files make room");
    assert_eq!(names().len(), 1);
    drop((large, spool));
    assert_eq!(pool.used(), 0);
}

#[test]
fn a_second_process_is_refused_and_strangers_are_not_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let pool = Pool::new(1 << 20);
    let held = open(directory.path(), &pool).unwrap();
    assert!(matches!(open(directory.path(), &pool), Err(SpoolError::InUse { .. })));
    let ours = directory.path().join("aqueduct-spool-test");
    std::fs::write(ours.join("00000000000000ff"), "left by a crash").unwrap();
    drop(held);
    let held = open(directory.path(), &pool).unwrap();
    assert!(!ours.join("00000000000000ff").exists());
    drop(held);
    std::fs::write(ours.join("thesis.doc"), "precious").unwrap();
    assert!(matches!(open(directory.path(), &pool), Err(SpoolError::NotOurs { .. })));
    assert!(ours.join("thesis.doc").exists());
}
