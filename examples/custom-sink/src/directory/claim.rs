//! Giving rows a name, unless it is taken.
//!
//! Nothing is ever overwritten: not by a process that was stopped and comes back, not by an offset that was set back, not
//! by a second pipeline below the same root. A name that is taken is compared. The same bytes are our own work, from an
//! attempt whose answer was lost; anything else needs a human.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aqueduct::ScratchFile;

use super::error::DirectoryError;
use super::segment::FileRows;

/// What a claim has in memory: two buffers.
pub(super) const BUFFER_BYTES: u64 = 2 * COPY_BYTES as u64;
const COPY_BYTES: usize = 64 << 10;

/// Makes sure that `rows.path` holds the rows. Blocks. When it returns, the contents are on disk; [`sync_directories`] does
/// the same for the name.
pub(super) fn claim(rows: &FileRows, scratch: &ScratchFile, parts: &Path) -> Result<(), DirectoryError> {
    let path = &rows.path;
    match File::open(path) {
        Ok(there) => return compare(rows, scratch, there),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(DirectoryError::at("open", path)(error)),
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(DirectoryError::at("create", directory))?;
    }
    // A name of this attempt alone: another process, or a call that was given up, may be at the same rows right now. The
    // file goes when it is dropped, unless it is given its name below; only a process that is killed leaves it there.
    let part = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(parts)
        .map_err(DirectoryError::at("create a file in", parts))?;
    let written =
        write(rows, scratch, part.as_file()).map_err(DirectoryError::at("write to", part.path()))?;
    if !written {
        return Err(DirectoryError::Damaged { path: path.clone() });
    }
    // `renameat2` with `RENAME_NOREPLACE`, or `link` where that is unknown: it fails if the name is taken.
    match part.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => {
            let there = File::open(path).map_err(DirectoryError::at("open", path))?;
            compare(rows, scratch, there)
        }
        Err(failed) => Err(DirectoryError::at("create", path)(failed.error)),
    }
}

/// Puts the names of files below `topmost` on disk: syncs their directories, and those above up to `topmost`. Blocks.
pub(super) fn sync_directories<'a>(
    parents: impl Iterator<Item = &'a Path>,
    topmost: &Path,
) -> Result<(), DirectoryError> {
    let all: BTreeSet<_> = parents
        .flat_map(|parent| parent.ancestors().take_while(|ancestor| ancestor.starts_with(topmost)))
        .collect();
    for directory in all {
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(DirectoryError::at("sync", directory))?;
    }
    Ok(())
}

/// Writes and syncs; whether what was written is what was once appended.
fn write(rows: &FileRows, scratch: &ScratchFile, part: &File) -> io::Result<bool> {
    let mut spooled = SpooledRows::new(rows, scratch);
    let mut written = BufWriter::with_capacity(COPY_BYTES, part);
    io::copy(&mut spooled, &mut written)?;
    written.flush()?;
    part.sync_all()?;
    Ok(spooled.are_intact())
}

/// The name is taken: by us?
fn compare(rows: &FileRows, scratch: &ScratchFile, there: File) -> Result<(), DirectoryError> {
    let path = &rows.path;
    let found = there.metadata().map_err(DirectoryError::at("look at", path))?.len();
    let mut spooled = BufReader::with_capacity(COPY_BYTES, SpooledRows::new(rows, scratch));
    let mut there = BufReader::with_capacity(COPY_BYTES, there);
    let equal = same(&mut spooled, &mut there).map_err(DirectoryError::at("compare", path))?;
    if equal {
        return Ok(());
    }
    io::copy(&mut spooled, &mut io::sink()).map_err(DirectoryError::at("compare", path))?;
    match rows.range() {
        Some(range) if spooled.get_ref().are_intact() => Err(DirectoryError::Conflict {
            path: path.clone(),
            found,
            range,
            rows: rows.rows,
            bytes: rows.bytes,
        }),
        _ => Err(DirectoryError::Damaged { path: path.clone() }),
    }
}

fn same(one: &mut impl BufRead, other: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if length == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
        one.consume(length);
        other.consume(length);
    }
}

/// Reads a file's rows back from scratch, and checks them on the way.
struct SpooledRows<'a> {
    rows: &'a FileRows,
    scratch: &'a ScratchFile,
    /// The run that is read, and how much of it was.
    run: usize,
    done: usize,
    checksum: crc32fast::Hasher,
}

impl<'a> SpooledRows<'a> {
    fn new(rows: &'a FileRows, scratch: &'a ScratchFile) -> Self {
        Self { rows, scratch, run: 0, done: 0, checksum: crc32fast::Hasher::new() }
    }

    /// Whether what was read is what was appended; asked at the end.
    fn are_intact(&self) -> bool {
        self.checksum.clone().finalize() == self.rows.checksum.clone().finalize()
    }
}

impl Read for SpooledRows<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(&(position, length)) = self.rows.runs.get(self.run) else {
            return Ok(0);
        };
        let take = into.len().min(length - self.done);
        let into = &mut into[..take];
        self.scratch.read_exact_at(into, position + self.done as u64)?;
        self.checksum.update(into);
        self.done += take;
        if self.done == length {
            self.run += 1;
            self.done = 0;
        }
        Ok(take)
    }
}
