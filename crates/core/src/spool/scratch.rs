//! The spool's directory, and what one segment may use of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::file::ScratchFile;
use super::fs::{Disk, DiskFile};
use crate::budget::{Permit, Pool};

const MARKER: &str = "aqueduct-spool";
const MARKER_CONTENT: &str =
    "Scratch files of a running Aqueduct pipeline. Safe to delete when no process holds this file.\n";
/// Room left on the file system for others, in bytes.
const HEADROOM: u64 = 8 << 20;
/// How often a full file system is looked at again.
const FULL_DISK_POLL: Duration = Duration::from_millis(500);

/// A spool directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// Another process uses it.
    #[error("the spool directory {} is in use by another process; give each process a directory or a pipeline name of its own", .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It holds something we did not make.
    #[error("the spool directory {} holds {}, which is not a scratch file of ours; nothing was deleted: move it away or choose another directory", .path.display(), .found.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What was found in it.
        found: PathBuf,
    },
    /// The file system refused.
    #[error("the spool directory {} cannot be used; it must be on a local disk we may write to", .path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
}

/// A process's scratch directory.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Directory>);

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    pool: Pool,
    next_file: AtomicU64,
    idle: Mutex<Vec<IdleFile>>,
    /// Held for its lock.
    _marker: Arc<dyn DiskFile>,
}

/// A file whose segment is done. Writing over blocks that a file already has costs the kernel less than half of what
/// new ones cost: no page to find, to clear and to charge, and none to give back.
#[derive(Debug)]
struct IdleFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Bytes on disk, paid by `permit`.
    length: u64,
    permit: Permit,
}

impl Directory {
    /// Idle files keep at most this part of the disk budget.
    const IDLE_PART: u64 = 4;
    /// Smaller files are not worth keeping.
    const IDLE_MIN: u64 = 1 << 20;

    /// An idle file, the largest first, or a new one.
    fn open(&self, account: &Account) -> io::Result<(Arc<dyn DiskFile>, PathBuf, u64)> {
        let reused = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(IdleFile { file, path, length, permit }) = reused {
            // What it holds on disk is already paid for; it counts for the segment that writes over it.
            account.add(permit, length);
            return Ok((file, path, length));
        }
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{number:016x}"));
        Ok((self.disk.create(&path)?, path, 0))
    }

    /// Keeps a file of `length` bytes, unless somebody waits for disk or enough is kept; then it is removed.
    pub(super) fn close(&self, file: Arc<dyn DiskFile>, path: PathBuf, length: u64) {
        if length >= Self::IDLE_MIN && self.pool.waiting() == 0 {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let kept: u64 = idle.iter().map(|idle| idle.length).sum();
            if kept + length <= self.pool.capacity() / Self::IDLE_PART
                && let Some(permit) = self.pool.try_acquire(length)
            {
                let place = idle.partition_point(|idle| idle.length < length);
                idle.insert(place, IdleFile { file, path, length, permit });
                return;
            }
        }
        drop(file);
        self.remove(&path);
    }

    /// Removes what is idle: somebody needs the room.
    fn purge(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for IdleFile { file, path, .. } in idle {
            drop(file);
            self.remove(&path);
        }
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = self.disk.remove(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "could not remove a scratch file; its space stays used until the next start");
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.purge();
    }
}

impl Spool {
    /// Creates or takes over `<directory>/aqueduct-spool-<pipeline>/` and removes what a former process of ours left
    /// there. Blocks.
    ///
    /// # Errors
    /// [`SpoolError`]: in use, not ours, or the file system refused.
    pub fn open(
        directory: &Path,
        pipeline: &str,
        disk: Arc<dyn Disk>,
        pool: Pool,
    ) -> Result<Self, SpoolError> {
        let path = directory.join(format!("aqueduct-spool-{pipeline}"));
        let io = |source| SpoolError::Io { path: path.clone(), source };
        disk.create_dir(&path).map_err(io)?;
        let found = disk.list(&path).map_err(io)?;
        if let Some(stranger) = found.iter().find(|found| !is_ours(found)) {
            return Err(SpoolError::NotOurs { path: path.clone(), found: stranger.clone() });
        }
        let marker = disk.lock(&path.join(MARKER), MARKER_CONTENT).map_err(io)?;
        let Some(marker) = marker else { return Err(SpoolError::InUse { path }) };
        for left_over in found.iter().filter(|found| !found.ends_with(MARKER)) {
            disk.remove(left_over).map_err(io)?;
        }
        let (next_file, idle) = (AtomicU64::new(0), Mutex::default());
        Ok(Self(Arc::new(Directory { path, disk, pool, next_file, idle, _marker: marker })))
    }

    /// Room for one segment.
    pub fn scratch(&self) -> Scratch {
        Scratch { directory: Arc::clone(&self.0), account: Arc::new(Account::default()) }
    }
}

fn is_ours(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        name == MARKER || (name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

/// What one segment uses of the spool. Clones share the account; the disk permits come back when the last one, and
/// the last file, is dropped.
#[derive(Clone, Debug)]
pub struct Scratch {
    directory: Arc<Directory>,
    account: Arc<Account>,
}

/// Bytes paid and bytes written.
#[derive(Debug, Default)]
pub(super) struct Account {
    permit: Mutex<Option<Permit>>,
    reserved: AtomicU64,
    written: AtomicU64,
}

impl Account {
    pub(super) fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    fn missing(&self, bytes: u64) -> u64 {
        let wanted = self.written.load(Ordering::Relaxed) + bytes;
        wanted.saturating_sub(self.reserved.load(Ordering::Relaxed))
    }

    fn add(&self, permit: Permit, bytes: u64) {
        let mut held = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut() {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Scratch {
    /// A file of the segment's own. What it holds is undefined until it is written. Blocks for as long as creating a
    /// file takes.
    ///
    /// # Errors
    /// The file system's own.
    pub fn create(&self) -> io::Result<ScratchFile> {
        let (file, path, length) = self.directory.open(&self.account)?;
        Ok(ScratchFile::new(file, path, length, &self.directory, &self.account))
    }

    /// Makes sure that `bytes` more can be written, if that is possible without waiting.
    pub fn try_reserve(&self, bytes: u64) -> bool {
        let missing = self.account.missing(bytes);
        if missing > 0 {
            let permit = self.directory.pool.try_acquire(missing).or_else(|| {
                self.directory.purge();
                self.directory.pool.try_acquire(missing)
            });
            let Some(permit) = permit else { return false };
            self.account.add(permit, missing);
        }
        self.has_room(bytes)
    }

    /// Makes sure that `bytes` more can be written, waiting for other segments to be published if the budget is used
    /// up, and for somebody to make room if the file system is full. A caller that holds an open segment publishes it
    /// first, or it may wait for itself.
    ///
    /// Cancel safe: what was reserved stays reserved.
    pub async fn reserve(&self, bytes: u64) {
        let missing = self.account.missing(bytes);
        if missing > 0 {
            self.directory.purge();
            let permit = self.directory.pool.acquire(missing).await;
            self.account.add(permit, missing);
        }
        if self.has_room(bytes) {
            return;
        }
        tracing::warn!(path = %self.directory.path.display(), "the spool's file system is full; waiting for room");
        let _waiting = self.directory.pool.wait();
        self.directory.purge();
        while !self.has_room(bytes) {
            tokio::time::sleep(FULL_DISK_POLL).await;
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.account.written.load(Ordering::Relaxed)
    }

    /// An error of asking counts as room: writing will meet the same error and name it.
    fn has_room(&self, bytes: u64) -> bool {
        match self.directory.disk.available(&self.directory.path) {
            Ok(available) => available >= bytes + HEADROOM,
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::LocalDisk;

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
}
