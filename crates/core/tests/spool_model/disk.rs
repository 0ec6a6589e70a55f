//! The machine's file system, with a script for what it refuses.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use aqueduct_core::{Disk, DiskFile, LocalDisk};

/// Shared by all who hold it.
#[derive(Clone, Debug)]
pub(crate) struct ScriptedDisk(Arc<Script>);

#[derive(Debug)]
struct Script {
    room: AtomicU64,
    full: AtomicBool,
}

impl ScriptedDisk {
    pub(crate) fn new(room: u64) -> Self {
        Self(Arc::new(Script { room: AtomicU64::new(room), full: AtomicBool::new(false) }))
    }

    /// What it says when it is asked for the room there is.
    pub(crate) fn set_room(&self, bytes: u64) {
        self.0.room.store(bytes, SeqCst);
    }

    /// Whether it refuses to write and to create.
    pub(crate) fn set_full(&self, full: bool) {
        self.0.full.store(full, SeqCst);
    }

    fn refused(&self) -> io::Result<()> {
        if self.0.full.load(SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for ScriptedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.refused()?;
        Ok(Arc::new(ScriptedFile { file: LocalDisk.create(path)?, disk: self.clone() }))
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
        Ok(self.0.room.load(SeqCst))
    }

    fn lock(&self, path: &Path, content: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        LocalDisk.lock(path, content)
    }
}

#[derive(Debug)]
struct ScriptedFile {
    file: Arc<dyn DiskFile>,
    disk: ScriptedDisk,
}

impl DiskFile for ScriptedFile {
    /// A full disk takes the first half, as real ones do.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(full) = self.disk.refused() {
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(full);
        }
        self.file.write_all_at(bytes, offset)
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }
}
