//! The spool's accounts: lanes that take and give back scratch at the same time.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::budget::Pool;
use crate::spool::fs::{Disk, DiskFile};
use crate::spool::scratch::{HEADROOM, Spool};
use crate::sync::explore::{explore, spawn, yield_now};

const MIB: u64 = 1 << 20;

/// A file system in memory that only knows how long its files are. Plain locks: what it does is one step.
#[derive(Clone, Debug)]
struct Lengths {
    capacity: u64,
    files: Arc<Mutex<BTreeMap<PathBuf, u64>>>,
}

impl Lengths {
    fn of(capacity: u64) -> Self {
        Self { capacity, files: Arc::default() }
    }

    fn used(&self) -> u64 {
        self.files.lock().unwrap().values().sum()
    }
}

#[derive(Debug)]
struct File {
    disk: Lengths,
    path: PathBuf,
}

impl Disk for Lengths {
    fn blocks(&self) -> bool {
        false
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.files.lock().unwrap().insert(path.to_owned(), 0);
        Ok(Arc::new(File { disk: self.clone(), path: path.to_owned() }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.lock().unwrap().remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.files.lock().unwrap().keys().cloned().collect())
    }

    fn available(&self, _: &Path) -> io::Result<u64> {
        Ok(self.capacity.saturating_sub(self.used()))
    }

    fn lock(&self, path: &Path, _: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        Ok(Some(Arc::new(File { disk: self.clone(), path: path.to_owned() })))
    }
}

impl DiskFile for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let mut files = self.disk.files.lock().unwrap();
        let length =
            files.get_mut(&self.path).map_or(0, |length| std::mem::replace(length, end.max(*length)));
        if files.values().sum::<u64>() + HEADROOM > self.disk.capacity && length < end {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// A segment of `bytes`: reserved, written, done.
async fn segment(spool: Spool, bytes: u64) {
    let scratch = spool.scratch();
    scratch.reserve(bytes).await;
    let file = scratch.create().unwrap();
    file.write_at(vec![0; usize::try_from(bytes).unwrap()], 0).await.1.unwrap();
    scratch.settle();
    yield_now().await;
    drop((scratch, file));
}

fn lanes_take_turns(room: u64, budget: u64, segments: &'static [u64]) {
    explore(move || {
        let (disk, pool) = (Lengths::of(room), Pool::new(budget));
        async move {
            let spool = Spool::open(Path::new("/"), "test", Arc::new(disk.clone()), pool.clone()).unwrap();
            let lanes: Vec<_> = segments.iter().map(|bytes| spawn(segment(spool.clone(), *bytes))).collect();
            for lane in lanes {
                lane.await.unwrap();
            }
            // What is left are the files that are kept, and they are paid for.
            assert_eq!(pool.used(), disk.used());
            assert!(pool.used() <= pool.capacity() / 4);
            drop(spool);
            assert_eq!((pool.used(), pool.waiting(), disk.used()), (0, 0, 0));
        }
    });
}

/// Segments that do not fit beside one another, one of them the whole budget: whoever waits is served, although files that
/// are done are kept.
#[test]
fn a_lane_that_waits_for_the_budget_is_not_kept_waiting_by_files_that_are_kept() {
    lanes_take_turns(1 << 40, 8 * MIB, &[2 * MIB, 2 * MIB, 8 * MIB]);
    lanes_take_turns(1 << 40, 8 * MIB, &[2 * MIB, 8 * MIB]);
}

/// The same with a file system that is smaller than the budget.
#[test]
fn a_lane_that_waits_for_the_file_system_is_not_kept_waiting_by_files_that_are_kept() {
    lanes_take_turns(HEADROOM + 3 * MIB, 64 * MIB, &[2 * MIB, 2 * MIB, 3 * MIB]);
}
