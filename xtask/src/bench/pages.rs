//! Memory that is there before it is asked for.
//!
//! The host of a virtual machine may take memory back that the guest has freed, seconds later ("free page reporting"). Whoever
//! uses such a page next waits for the host, and that counts as the CPU time of its process: measured here, 2 µs for each KiB of a
//! file that is written, where 0.16 are usual. A run that meets such pages costs up to a third more than one that does not. On a
//! machine that has run for a while, memory is full of cached files and hardly any page is free for so long.
//!
//! So a run has pages of files read before it, and those files are closed one by one while it goes on: what it takes has
//! just been let go. They are sparse, so that nothing is on the disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use xtask::process::available_memory;

/// Bytes of a file; as each is open, they are not small.
const PIECE: u64 = 64 << 20;
/// Bytes that are free when a run begins.
const AHEAD: u64 = 512 << 20;
/// Bytes a record that is read takes, at the most: in the spool, and in the store that it goes to.
const PER_RECORD: u64 = 3 << 10;

/// Pages held for a run.
#[derive(Debug)]
pub(super) struct Pages {
    /// Without names: each is gone when it is closed.
    held: VecDeque<File>,
    /// Bytes that were let go.
    free: u64,
}

impl Pages {
    /// For a run of so many records: as much as it may take, or half of what the machine has left.
    pub(super) fn bring_in(dir: &Path, records: u64) -> Result<Self> {
        let bytes = (AHEAD + records * PER_RECORD).min(available_memory() / 2);
        let mut held = VecDeque::new();
        for _ in 0..bytes / PIECE {
            let mut file = tempfile::tempfile_in(dir).context("no file to hold pages with")?;
            file.set_len(PIECE)?;
            io::copy(&mut file, &mut io::sink())?;
            held.push_back(file);
        }
        Ok(Self { held, free: 0 })
    }

    /// Lets pages go, before records were read.
    pub(super) fn begin(&mut self) {
        self.let_go(self.free + AHEAD);
    }

    /// Lets pages go as a run goes on.
    pub(super) fn follow(&mut self, read: u64) {
        self.let_go(AHEAD + read * PER_RECORD);
    }

    fn let_go(&mut self, bytes: u64) {
        while self.free < bytes && self.held.pop_front().is_some() {
            self.free += PIECE;
        }
    }
}
