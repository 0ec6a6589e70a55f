//! The spool itself, on a directory of its own.

use std::path::PathBuf;
use std::sync::Arc;

use aqueduct_core::{Pool, Scratch, ScratchFile, Spool, SpoolError};
use proptest_state_machine::StateMachineTest;
use tempfile::TempDir;

use crate::disk::ScriptedDisk;
use crate::model::{BUDGET, Do, Model, PLENTY, place};

const MARKER: &str = "aqueduct-spool";

pub(crate) struct RealSpool {
    runtime: tokio::runtime::Runtime,
    segments: Vec<RealSegment>,
    spool: Option<Spool>,
    pool: Pool,
    disk: ScriptedDisk,
    directory: TempDir,
}

struct RealSegment {
    files: Vec<ScratchFile>,
    scratch: Scratch,
}

impl RealSpool {
    fn path(&self) -> PathBuf {
        self.directory.path().join("aqueduct-spool-test")
    }

    fn open(&self) -> Result<Spool, SpoolError> {
        Spool::open(self.directory.path(), "test", Arc::new(self.disk.clone()), self.pool.clone())
    }

    /// The lengths of the scratch files, ascending, and whether the marker is there.
    fn found(&self) -> (Vec<u64>, bool) {
        let Ok(entries) = std::fs::read_dir(self.path()) else { return (Vec::new(), false) };
        let mut marked = false;
        let mut lengths = Vec::new();
        for entry in entries.map(Result::unwrap) {
            if entry.file_name() == MARKER {
                marked = true;
            } else {
                lengths.push(entry.metadata().unwrap().len());
            }
        }
        lengths.sort_unstable();
        (lengths, marked)
    }

    /// The path of a scratch file: there is no other way to it from outside than its length.
    fn path_of(&self, length: u64) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.path()).unwrap().map(Result::unwrap);
        let mut of_length = entries
            .filter(|entry| entry.file_name() != MARKER && entry.metadata().unwrap().len() == length)
            .map(|entry| entry.path());
        let first = of_length.next();
        first.filter(|_| of_length.next().is_none())
    }

    /// Lets everything go, as the end of a process does, but for the files it leaves.
    fn crash(&mut self, stranger: bool) {
        let left: Vec<_> = std::fs::read_dir(self.path())
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default();
        self.segments.clear();
        self.spool = None;
        assert_eq!((self.pool.used(), self.found().0), (0, Vec::new()), "an orderly end leaves nothing");
        std::fs::create_dir_all(self.path()).unwrap();
        for left in left.iter().filter(|left| !left.ends_with(MARKER)) {
            std::fs::write(left, "left by a crash").unwrap();
        }
        self.disk.set_full(false);
        if stranger {
            let thesis = self.path().join("thesis.doc");
            std::fs::write(&thesis, "precious").unwrap();
            let before = self.found();
            assert!(matches!(self.open(), Err(SpoolError::NotOurs { found, .. }) if found == thesis));
            assert_eq!(self.found(), before, "nothing was deleted");
            std::fs::remove_file(thesis).unwrap();
        }
        self.spool = Some(self.open().unwrap());
    }

    /// What stands in a file from one place to another.
    fn read(&self, segment: usize, file: usize, from: u64, to: u64) -> std::io::Result<Vec<u8>> {
        let mut read = vec![0; usize::try_from(to - from).unwrap()];
        self.segments[segment].files[file].read_exact_at(&mut read, from)?;
        Ok(read)
    }
}

/// What stands in a file from one place to another: no two files hold the same, and none the same at places that are less
/// than `PERIOD` apart.
fn bytes(segment: u64, file: usize, from: u64, to: u64) -> Vec<u8> {
    const PERIOD: u64 = 4093;
    let seed = segment.wrapping_mul(31).wrapping_add(file as u64);
    let once: Vec<u8> =
        (0..PERIOD).map(|at| (at.wrapping_mul(7) ^ (at >> 8) ^ seed).to_le_bytes()[0]).collect();
    let size = |bytes: u64| usize::try_from(bytes).unwrap();
    let mut all = once.repeat(size((to - from) / PERIOD + 2));
    all.drain(..size(from % PERIOD));
    all.truncate(size(to - from));
    all
}

impl StateMachineTest for RealSpool {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_: &Model) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (directory, pool, disk) =
            (tempfile::tempdir().unwrap(), Pool::new(BUDGET), ScriptedDisk::new(PLENTY));
        let mut new = Self { runtime, segments: Vec::new(), spool: None, pool, disk, directory };
        new.spool = Some(new.open().unwrap());
        new
    }

    fn apply(mut real: Self, model: &Model, step: Do) -> Self {
        match step {
            Do::Begin => {
                let scratch = real.spool.as_ref().unwrap().scratch();
                real.segments.push(RealSegment { files: Vec::new(), scratch });
            }
            Do::Create { segment } => {
                let created = real.segments[segment].scratch.create();
                assert_eq!(created.is_ok(), model.answer, "{created:?}");
                real.segments[segment].files.extend(created);
            }
            Do::Reserve { segment, bytes } => {
                assert_eq!(real.segments[segment].scratch.try_reserve(bytes), model.answer);
            }
            Do::Settle { segment } => real.segments[segment].scratch.settle(),
            Do::Append { segment, file, bytes: length } => {
                let of = &model.segments[segment];
                let start = of.files[file].written - if model.answer { length } else { 0 };
                let content = bytes(of.id, file, start, start + length);
                let write = real.segments[segment].files[file].write_at(content.clone(), start);
                let (given_back, result) = real.runtime.block_on(write);
                assert_eq!(result.is_ok(), model.answer, "{result:?}");
                assert!(given_back == content, "the buffer comes back as it was");
            }
            Do::Read { segment, file, from, to } => {
                let of = &model.segments[segment];
                let written = of.files[file].written;
                let (from, to) = (place(written, from), place(written, to));
                let found = real.read(segment, file, from, to);
                assert_eq!(found.is_ok(), model.answer, "{from}..{to}: {:?}", found.err());
                if let Ok(found) = found {
                    let expected = bytes(of.id, file, from, to.min(written).max(from));
                    assert!(found.starts_with(&expected), "{from}..{to} of file {file} of segment {segment}");
                }
            }
            Do::Truncate { segment, file } => {
                let path = real.path_of(model.cut_from).unwrap();
                let file = &model.segments[segment].files[file];
                std::fs::File::options().write(true).open(path).unwrap().set_len(file.on_disk).unwrap();
            }
            Do::End { segment } => drop(real.segments.remove(segment)),
            Do::Room { bytes } => real.disk.set_room(bytes),
            Do::Full(full) => real.disk.set_full(full),
            Do::Intrude => {
                // What it would wipe is there before and after.
                let before = real.found();
                assert!(matches!(real.open(), Err(SpoolError::InUse { .. })));
                assert_eq!(real.found(), before);
            }
            Do::TidyAway => drop(std::fs::remove_dir_all(real.path())),
            Do::Crash { stranger } => real.crash(stranger),
        }
        real
    }

    fn check_invariants(real: &Self, model: &Model) {
        assert_eq!(real.pool.used(), model.used(), "the budget");
        assert_eq!(real.pool.waiting(), 0);
        assert_eq!(real.found(), (model.on_disk(), model.marked), "the directory");
        for (real, model) in real.segments.iter().zip(&model.segments) {
            assert_eq!(real.scratch.written(), model.written);
        }
    }

    /// Everything can be read to its end, and everything goes.
    fn teardown(mut real: Self, model: Model) {
        for (at, segment) in model.segments.iter().enumerate() {
            for (place, file) in segment.files.iter().enumerate() {
                let end = file.written.min(file.on_disk);
                let found = real.read(at, place, 0, end).unwrap();
                assert!(found == bytes(segment.id, place, 0, end), "file {place} of segment {at}");
            }
        }
        real.segments.clear();
        real.spool = None;
        assert_eq!(real.pool.used(), 0);
        assert_eq!(real.found(), (Vec::new(), model.marked));
    }
}
