//! One append-only scratch file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fs::{DiskFile, Offload};
use super::scratch::{Account, Directory};
use crate::failpoint::Failpoint;
use crate::sync::AtomicU64;

/// An append-only file of one segment, readable at any position below what was written. When the last clone is
/// dropped it is removed, or kept to be written over by a later segment.
#[derive(Clone, Debug)]
pub struct ScratchFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Bytes the file has on disk.
    length: AtomicU64,
    directory: Arc<Directory>,
    account: Arc<Account>,
}

impl ScratchFile {
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        path: PathBuf,
        length: u64,
        directory: &Arc<Directory>,
        account: &Arc<Account>,
    ) -> Self {
        let (directory, account) = (Arc::clone(directory), Arc::clone(account));
        Self { inner: Arc::new(Inner { file, path, length: AtomicU64::new(length), directory, account }) }
    }

    /// Writes `bytes` at `offset`, off the async threads, and gives the buffer back. Writing the same place again
    /// after an error is fine: that is how an append is retried.
    ///
    /// # Errors
    /// The file system's own.
    pub async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> (Vec<u8>, io::Result<()>) {
        let file = Arc::clone(&self.inner.file);
        let length = bytes.len() as u64;
        let written = self.offload().run(move || {
            if Failpoint::SpillTorn.is_armed() {
                tear(&*file, &bytes, offset);
            }
            let result = file.write_all_at(&bytes, offset);
            (bytes, result)
        });
        let written = written.await;
        // Also after an error: a part of it may be on disk, and a file that is kept pays for what it may have.
        self.inner.length.fetch_max(offset + length, Ordering::Relaxed);
        match written {
            Ok((bytes, Ok(()))) => {
                self.inner.account.wrote(length);
                (bytes, Ok(()))
            }
            Ok(failed) => failed,
            Err(error) => (Vec::new(), Err(io::Error::other(error))),
        }
    }

    /// Where to do what takes long with this file, such as reading it.
    pub fn offload(&self) -> Offload {
        self.inner.directory.offload()
    }

    /// Fills `into` from `offset`. Blocks: call it inside [`offload`](Self::offload).
    ///
    /// # Errors
    /// The file system's own; a file that ends earlier is one.
    pub fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.file.read_exact_at(into, offset)
    }
}

/// Writes half of `bytes`, and is interrupted. Going on writes all of it, to the same place.
fn tear(file: &dyn DiskFile, bytes: &[u8], offset: u64) {
    let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
    if file.write_all_at(half, offset).is_ok() {
        Failpoint::SpillTorn.reach();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let length = self.length.load(Ordering::Relaxed);
        self.directory.close(Arc::clone(&self.file), std::mem::take(&mut self.path), length);
    }
}
