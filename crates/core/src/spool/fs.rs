//! The file system, injected.

use std::fmt::Debug;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The part of a file system the spool uses. Its calls block, and so the spool runs them off the async threads; one that
/// never does says so ([`blocks`](Self::blocks)).
pub trait Disk: Send + Sync + Debug + 'static {
    /// Whether calls may wait for a device; constant over its life. One in memory answers `false` and is called where the
    /// lane runs: then a whole pipeline runs in one thread, and a simulation of it comes out the same each time.
    fn blocks(&self) -> bool {
        true
    }

    /// Creates a new file for reading and writing; fails if it exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and its parents, readable by us only; an existing one is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Bytes that can still be written below `path`.
    fn available(&self, path: &Path) -> io::Result<u64>;

    /// Creates or opens the marker at `path`, holding `content`, and locks it for as long as the answer lives.
    /// `Ok(None)` if another process holds it.
    fn lock(&self, path: &Path, content: &str) -> io::Result<Option<Arc<dyn DiskFile>>>;
}

/// An open file.
pub trait DiskFile: Send + Sync + Debug + 'static {
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills `into` from `offset`; a file that ends earlier is an error.
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;
}

/// Where work on scratch files is done: the one place that decides it.
#[derive(Clone, Copy, Debug)]
pub struct Offload {
    blocks: bool,
}

impl Offload {
    /// For work on this disk.
    pub(crate) fn of(disk: &dyn Disk) -> Self {
        Self { blocks: disk.blocks() }
    }

    /// Does `work`, which may take long: off the async threads, unless the [`Disk`] says that it never blocks.
    ///
    /// # Errors
    /// It panicked, or the runtime is shutting down.
    pub async fn run<R: Send + 'static>(
        self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, tokio::task::JoinError> {
        if self.blocks { tokio::task::spawn_blocking(work).await } else { Ok(work()) }
    }
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(LocalFile(file)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        let stats = rustix::fs::statvfs(path)?;
        Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
    }

    fn lock(&self, path: &Path, content: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        // A link planted at our name must not make us write elsewhere.
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        let held = LocalFile(file);
        held.write_all_at(content.as_bytes(), 0)?;
        Ok(Some(Arc::new(held)))
    }
}

#[derive(Debug)]
struct LocalFile(std::fs::File);

impl DiskFile for LocalFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }
}
