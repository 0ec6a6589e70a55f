//! Dead letters in files of a local directory.
//!
//! ```text
//! <directory>/1764000000000-4711-0.jsonl     time of creation, process, number: never another process's file
//! {"version":1,"pipeline":"orders","pipeline_version":"7f3c2","topic":"orders","partition":3,"offset":95403,
//!  "timestamp":{"create":1764000000000},"stage":"convert","reason":"malformed","detail":"…","preview":"{","key":null,
//!  "value":{"text":"{"},"headers":[["h",{"base64":"/w=="}]]}
//! ```

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct_core::{
    Class, Classify, Clock as _, DeadLetter, DeadLetterSink, StageError, SystemClock, unix_millis,
};
use async_trait::async_trait;

mod line;
mod object;
mod read;

pub use object::{ObjectDeadLetters, ObjectLetters};
pub use read::{DirectoryLetters, Letters, read_letters};

const EXTENSION: &str = "jsonl";

/// Stores dead letters in files of a local directory, a line of JSON each, for one machine or where Kafka is not to be written
/// to. [`read_letters`] reads them back.
///
/// A line holds the whole record: topic, partition, offset, timestamp, key, value and headers (as text where they are UTF-8,
/// else as base64), the pipeline with its version, stage, reason and detail, and the first bytes of the value in printable form. Files are for their owner alone, as records may be
/// confidential.
///
/// # Durability
/// `send` returns once the lines, and the name of a new file, are synced. A crash before the lane's commit sends letters again:
/// (topic, partition, offset) identifies them. A crash in the middle of a line leaves it torn at the end of a file that nobody
/// appends to any more. Processes may share a directory.
///
/// # Limits
/// A file ends at 64 MiB. All files together take 4 GiB at most; beyond that, as on a full disk, lanes with letters wait and say
/// so until somebody has read and removed files. Removing one that is written to loses what is written to it afterwards:
/// remove files of processes that have ended, or ones that others of the same process are younger than.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aqueduct_files::{DirectoryDeadLetters, read_letters};
///
/// # let directory = tempfile::tempdir()?;
/// let letters = DirectoryDeadLetters::new(directory.path()).with_pipeline("orders");
/// # drop(letters);
/// for letter in read_letters(directory.path())? {
///     let letter = letter?;
///     println!("{} at {}: {}", letter.record.lane, letter.record.offset, letter.reason);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DirectoryDeadLetters {
    options: Arc<Options>,
    current: Arc<Mutex<Option<Current>>>,
}

#[derive(Clone, Debug)]
struct Options {
    directory: PathBuf,
    by: line::Writer,
    file_bytes: u64,
    directory_bytes: u64,
}

/// The file that is written to.
#[derive(Debug)]
struct Current {
    file: File,
    path: PathBuf,
    bytes: u64,
}

/// Why letters cannot be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LetterError {
    /// The file system.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The letters have reached their limit.
    #[error("the dead letters in {} take {bytes} bytes, the limit is {limit}", .path.display())]
    Full {
        /// The directory.
        path: PathBuf,
        /// What its letters would take.
        bytes: u64,
        /// What they may take.
        limit: u64,
    },
    /// A line in the middle of a file is no letter.
    #[error("line {line} of {} is no letter: {detail}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong.
        detail: String,
    },
}

impl LetterError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl Classify for LetterError {
    /// A lane waits rather than lose a letter: somebody will make room, or give the permission.
    fn class(&self) -> Class {
        match self {
            Self::Io { .. } | Self::Full { .. } => Class::RETRY,
            Self::Damaged { .. } => Class::Fatal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { .. } => "see that the directory is there, writable and has room".to_owned(),
            Self::Full { .. } => "read and remove files, or raise with_directory_bytes".to_owned(),
            Self::Damaged { .. } => "move the file away, or the line out of it".to_owned(),
        })
    }
}

impl DirectoryDeadLetters {
    /// Letters in this directory, which is made if it is not there.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let options = Options {
            directory: directory.into(),
            by: line::Writer::default(),
            file_bytes: 64 << 20,
            directory_bytes: 4 << 30,
        };
        Self { options: Arc::new(options), current: Arc::default() }
    }

    /// The name of the pipeline that letters carry.
    #[must_use]
    pub fn with_pipeline(mut self, name: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.options).by.pipeline = name.into();
        self
    }

    /// The version of the pipeline that letters carry, as you call it: a tag, a commit. Empty by default.
    #[must_use]
    pub fn with_pipeline_version(mut self, version: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.options).by.version = version.into();
        self
    }

    /// After how many bytes a file ends; one send is never split.
    #[must_use]
    pub fn with_file_bytes(mut self, bytes: u64) -> Self {
        Arc::make_mut(&mut self.options).file_bytes = bytes;
        self
    }

    /// The most bytes that all letters in the directory may take, those of other processes included.
    #[must_use]
    pub fn with_directory_bytes(mut self, bytes: u64) -> Self {
        Arc::make_mut(&mut self.options).directory_bytes = bytes;
        self
    }

    /// Appends whole lines and syncs them. Blocks.
    fn append(&self, lines: &[u8]) -> Result<(), LetterError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let length = lines.len() as u64;
        self.options.make_room(length)?;
        // A file that somebody has removed takes nothing more that anybody would find.
        let usable = |it: &Current| it.bytes + length <= self.options.file_bytes && it.path.exists();
        let mut open = match current.take().filter(usable) {
            Some(open) => open,
            None => self.options.create()?,
        };
        let written = open.file.write_all(lines).and_then(|()| open.file.sync_data());
        match written {
            Ok(()) => {
                open.bytes += length;
                *current = Some(open);
                Ok(())
            }
            Err(error) => {
                // What was written of these lines is sent again. If it cannot be taken back, nothing is ever put behind it: the
                // next send begins another file.
                let taken_back = open.file.set_len(open.bytes).and_then(|()| open.file.sync_data());
                let failed = LetterError::io("write dead letters to", &open.path)(error);
                if taken_back.is_ok() && open.bytes == 0 {
                    fs::remove_file(&open.path).ok();
                }
                Err(failed)
            }
        }
    }
}

impl Options {
    fn make_room(&self, length: u64) -> Result<(), LetterError> {
        let mut bytes = length;
        for path in letter_files(&self.directory)? {
            // One that was removed meanwhile takes no room.
            bytes += fs::metadata(&path).map_or(0, |found| found.len());
        }
        let limit = self.directory_bytes;
        if bytes <= limit {
            return Ok(());
        }
        Err(LetterError::Full { path: self.directory.clone(), bytes, limit })
    }

    /// A file that did not exist before, whose name is durable.
    fn create(&self) -> Result<Current, LetterError> {
        self.make_directory()?;
        let (now, process) = (unix_millis(SystemClock.now()), std::process::id());
        let mut number = 0_u64;
        loop {
            // Containers that share a directory may all be process 1.
            let path = self.directory.join(format!("{now:013}-{process}-{number}.{EXTENSION}"));
            match private(&mut OpenOptions::new()).append(true).create_new(true).open(&path) {
                Ok(file) => {
                    sync_directory(&self.directory)?;
                    return Ok(Current { file, path, bytes: 0 });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(LetterError::io("create", &path)(error)),
            }
        }
    }

    fn make_directory(&self) -> Result<(), LetterError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.directory).map_err(LetterError::io("make the directory", &self.directory))
    }
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Makes names durable; only Unix knows how.
fn sync_directory(directory: &Path) -> Result<(), LetterError> {
    if cfg!(unix) {
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(LetterError::io("sync", directory))?;
    }
    Ok(())
}

/// The files of a directory that hold letters, oldest first; none if it is not there.
fn letter_files(directory: &Path) -> Result<Vec<PathBuf>, LetterError> {
    let failed = |error| LetterError::io("list", directory)(error);
    let mut files = Vec::new();
    match fs::read_dir(directory) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(failed)?.path();
                if path.extension().is_some_and(|extension| extension == EXTENSION) {
                    files.push(path);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    files.sort();
    Ok(files)
}

#[async_trait]
impl DeadLetterSink for DirectoryDeadLetters {
    /// Makes the directory and a file in it, which it removes.
    async fn check(&self) -> Result<(), StageError> {
        const STAGE: &str = "dead-letter check";
        let options = Arc::clone(&self.options);
        let checked = tokio::task::spawn_blocking(move || {
            let probe = options.create()?;
            fs::remove_file(&probe.path).map_err(LetterError::io("remove", &probe.path))?;
            options.make_room(0)
        });
        let checked = checked.await.map_err(|error| StageError::fatal(STAGE, error))?;
        // Whoever starts a program is there to correct it.
        checked.map_err(|error| {
            let hint = error.hint().unwrap_or_default();
            StageError::fatal(STAGE, error).with_hint(hint)
        })
    }

    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StageError> {
        const STAGE: &str = "dead letters";
        let target = self.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let mut lines = Vec::new();
            for letter in &letters {
                line::write(letter, &target.options.by, &mut lines)
                    .map_err(|error| StageError::fatal(STAGE, error))?;
            }
            target.append(&lines).map_err(|error| StageError::new(STAGE, error))
        });
        stored.await.map_err(|error| StageError::fatal(STAGE, error))?
    }
}

impl fmt::Debug for DirectoryDeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

#[cfg(test)]
mod tests;
