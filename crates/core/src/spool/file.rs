//! One append-only scratch file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::fs::{Disk, DiskFile};
use super::scratch::Account;

/// An append-only file of one segment, readable at any position. Removed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct ScratchFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: Arc<dyn DiskFile>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    account: Arc<Account>,
}

impl ScratchFile {
    pub(super) fn create(disk: &Arc<dyn Disk>, path: PathBuf, account: &Arc<Account>) -> io::Result<Self> {
        let file = disk.create(&path)?;
        let inner = Inner { file, disk: Arc::clone(disk), path, account: Arc::clone(account) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Writes `bytes` at `offset`, off the async threads, and gives the buffer back. Writing the same place again
    /// after an error is fine: that is how an append is retried.
    ///
    /// # Errors
    /// The file system's own.
    pub async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> (Vec<u8>, io::Result<()>) {
        let file = Arc::clone(&self.inner.file);
        let length = bytes.len() as u64;
        let task = tokio::task::spawn_blocking(move || {
            let result = file.write_all_at(&bytes, offset);
            (bytes, result)
        });
        match task.await {
            Ok((bytes, Ok(()))) => {
                self.inner.account.wrote(length);
                (bytes, Ok(()))
            }
            Ok(failed) => failed,
            Err(error) => (Vec::new(), Err(io::Error::other(error))),
        }
    }

    /// Fills `into` from `offset`. Blocks: call it inside `spawn_blocking`.
    ///
    /// # Errors
    /// The file system's own; a file that ends earlier is one.
    pub fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.file.read_exact_at(into, offset)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.disk.remove(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "could not remove a scratch file; its space stays used until the next start");
        }
    }
}
