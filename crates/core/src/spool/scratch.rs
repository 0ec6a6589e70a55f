//! The spool's directory, and what one segment may use of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::file::ScratchFile;
use super::fs::{Disk, DiskFile, Offload};
use crate::budget::{Permit, Pool, Waiting};
use crate::failpoint::Failpoint;
use crate::sync::{AtomicU64, Mutex, sleep};

const MARKER: &str = "aqueduct-spool";
const MARKER_CONTENT: &str =
    "Scratch files of a running Aqueduct pipeline. Safe to delete when no process holds this file.\n";
/// Room left on the file system for others, in bytes.
pub(crate) const HEADROOM: u64 = 8 << 20;
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
    /// Bytes that lanes were told to have room for and have not written yet.
    promised: AtomicU64,
    /// Held for its lock.
    marker: Mutex<Arc<dyn DiskFile>>,
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

    pub(super) fn offload(&self) -> Offload {
        Offload::of(&*self.disk)
    }

    /// An idle file, the largest first, or a new one.
    fn open(&self, account: &Account) -> io::Result<(Arc<dyn DiskFile>, PathBuf, u64)> {
        let reused = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(IdleFile { file, path, length, permit }) = reused {
            // What it holds on disk is already paid for; it counts for the segment that writes over it.
            account.add(permit, length);
            account.kept.store(true, Ordering::Relaxed);
            return Ok((file, path, length));
        }
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{number:016x}"));
        let file = match self.disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.restore(&path)?,
            created => created?,
        };
        Ok((file, path, 0))
    }

    /// Makes the directory again that somebody has removed, as programs that tidy up temporary files do, and in it the file
    /// at `path`. Files that are open are not affected: they have no name any more and go when they are closed.
    fn restore(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut marker = self.marker.lock().unwrap_or_else(PoisonError::into_inner);
        match self.disk.create(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Another lane was faster.
            created => return created,
        }
        self.disk.create_dir(&self.path)?;
        let Some(locked) = self.disk.lock(&self.path.join(MARKER), MARKER_CONTENT)? else {
            return Err(io::Error::other(SpoolError::InUse { path: self.path.clone() }));
        };
        *marker = locked;
        tracing::warn!(path = %self.path.display(), "the spool directory was removed under us and is made again; keep programs that tidy up away from it");
        self.disk.create(path)
    }

    /// Keeps a file of `length` bytes, unless somebody waits for disk or enough is kept; then it is removed.
    pub(super) fn close(&self, file: Arc<dyn DiskFile>, path: PathBuf, length: u64) {
        if length >= Self::IDLE_MIN {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let kept: u64 = idle.iter().map(|idle| idle.length).sum();
            // Asked under the lock: who waits counts as waiting before it purges, so either we see it here, or its purge
            // sees our file. A file that is kept behind the back of the last one who waits is never given up.
            if self.pool.waiting() == 0
                && kept + length <= self.pool.capacity() / Self::IDLE_PART
                && let Some(permit) = self.pool.try_acquire(length)
            {
                let place = idle.partition_point(|idle| idle.length < length);
                idle.insert(place, IdleFile { file, path, length, permit });
                return;
            }
        }
        drop(file);
        self.remove(&path);
        Failpoint::CleanMid.reach();
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
            Failpoint::CleanLeftOvers.reach();
            disk.remove(left_over).map_err(io)?;
        }
        let (next_file, promised, idle) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::default());
        let marker = Mutex::new(marker);
        Ok(Self(Arc::new(Directory { path, disk, pool, next_file, idle, promised, marker })))
    }

    /// Room for one segment.
    pub fn scratch(&self) -> Scratch {
        let directory = Arc::clone(&self.0);
        let account = Account {
            directory: Arc::clone(&directory),
            permit: Mutex::default(),
            reserved: AtomicU64::new(0),
            written: AtomicU64::new(0),
            promised: AtomicU64::new(0),
            kept: AtomicBool::new(false),
        };
        Scratch { directory, account: Arc::new(account) }
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
#[derive(Debug)]
pub(super) struct Account {
    directory: Arc<Directory>,
    permit: Mutex<Option<Permit>>,
    reserved: AtomicU64,
    written: AtomicU64,
    /// This segment's part of what the directory has promised.
    promised: AtomicU64,
    /// Whether it writes over a file of a segment before it.
    kept: AtomicBool,
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

    /// Promises the file system's room for `bytes` to this segment, in place of what it was promised before. Without that,
    /// lanes that ask at the same time would all be shown the same room, and find it full in the middle of a write.
    fn promise(&self, bytes: u64) {
        let before = self.promised.swap(bytes, Ordering::Relaxed);
        self.directory.promised.fetch_add(bytes, Ordering::Relaxed);
        self.directory.promised.fetch_sub(before, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.promise(0);
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

    /// Where to do what takes long with these files: creating and dropping them.
    pub fn offload(&self) -> Offload {
        self.directory.offload()
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

    /// Gives back the room that the last reservation was promised: what was to be written is written, and the file system
    /// counts it by itself. What was paid of the budget stays paid.
    pub fn settle(&self) {
        self.account.promise(0);
    }

    /// Whether one of the files is written over, and holds blocks from before.
    pub(crate) fn has_kept_files(&self) -> bool {
        self.account.kept.load(Ordering::Relaxed)
    }

    /// Removes files that are kept to be written over. None is kept until the answer is dropped, so that a segment that begins
    /// meanwhile begins with new ones.
    pub(crate) fn give_up_kept_files(&self) -> Waiting {
        // In this order; see `Directory::close`.
        let waiting = self.directory.pool.wait();
        self.directory.purge();
        waiting
    }

    /// What [`reserve`](Self::reserve) would wait for.
    pub(crate) fn shortage(&self, bytes: u64) -> &'static str {
        let pool = &self.directory.pool;
        if self.account.missing(bytes) > pool.capacity().saturating_sub(pool.used()) {
            "the disk budget is used up by segments that are not published yet"
        } else {
            "the spool's file system is full: make room there, or give it more than the disk budget"
        }
    }

    /// Makes sure that `bytes` more can be written, waiting for other segments to be published if the budget is used
    /// up, and for somebody to make room if the file system is full. A caller that holds an open segment publishes it
    /// first, or it may wait for itself.
    ///
    /// Cancel safe: what was reserved stays reserved.
    pub async fn reserve(&self, bytes: u64) {
        if self.try_reserve(bytes) {
            return;
        }
        let waiting = self.give_up_kept_files();
        let missing = self.account.missing(bytes);
        if missing > 0 {
            let permit = self.directory.pool.acquire_as(&waiting, missing).await;
            self.account.add(permit, missing);
        }
        if self.has_room(bytes) {
            return;
        }
        tracing::warn!(path = %self.directory.path.display(), "the spool's file system is full; waiting for room");
        while !self.has_room(bytes) {
            sleep(FULL_DISK_POLL).await;
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.account.written.load(Ordering::Relaxed)
    }

    /// An error of asking counts as room: writing will meet the same error and name it.
    fn has_room(&self, bytes: u64) -> bool {
        self.account.promise(bytes);
        // Before the file system is asked: what another lane writes and settles in between counts twice then, and never not
        // at all.
        let promised = self.directory.promised.load(Ordering::Relaxed);
        let Ok(available) = self.directory.disk.available(&self.directory.path) else { return true };
        let fits = available >= promised + HEADROOM;
        if !fits {
            self.account.promise(0);
        }
        fits
    }
}
