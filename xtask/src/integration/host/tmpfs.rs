//! A file system of a worker's own: a tmpfs in a mount namespace that only this worker sees and that ends with it, so that nothing
//! stays mounted whatever becomes of the run.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

/// A small disk, made anew for each process.
#[derive(Clone, Debug)]
pub(crate) struct SmallDisk {
    options: String,
}

impl SmallDisk {
    /// One with such options of `mount -t tmpfs`, such as `size=32m`.
    ///
    /// # Errors
    /// If such a disk cannot be had here, with what is needed for it.
    pub(crate) async fn new(options: &str) -> Result<Self> {
        let disk = Self { options: options.to_owned() };
        let place = tempfile::tempdir()?;
        let tried = disk.command(place.path()).arg("true").output().await;
        let tried = tried.context("this scenario needs the program `unshare` (util-linux)")?;
        ensure!(
            tried.status.success(),
            "this scenario needs a small disk and cannot mount a tmpfs: run it as root with CAP_SYS_ADMIN, or as a user on a \
             machine that allows user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone): {}",
            String::from_utf8_lossy(&tried.stderr).trim()
        );
        Ok(disk)
    }

    /// What begins a command line whose program is to have the disk at `place`. The process keeps its id.
    pub(crate) fn command(&self, place: &Path) -> Command {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--mount", "sh", "-c", SCRIPT, &self.options]).arg(place);
        command
    }
}

const SCRIPT: &str = r#"mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@""#;
