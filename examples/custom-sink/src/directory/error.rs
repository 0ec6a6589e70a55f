//! What can go wrong, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use aqueduct::{Class, Classify, OffsetRange};

/// An error of the [`DirectorySink`](super::DirectorySink).
///
/// | error | class | what the operator does |
/// | --- | --- | --- |
/// | no right, read-only, not a directory | `Fatal` | makes the directory writable for the process |
/// | full, over quota, interrupted | `Retry` | makes room; the pipeline waits and goes on by itself |
/// | any other of the file system | `Unknown` | looks at the path if a few tries do not help |
/// | a name is taken by other rows | `Fatal` | finds out who wrote them; nothing was touched |
/// | scratch gives back other rows than were written | `Fatal` | checks the spool's disk; a restart reads from Kafka again |
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The file system refused.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// A file we must create is there, and it is not ours.
    #[error("{} exists with other contents: {found} bytes, expected the {rows} rows of {range} in {bytes} bytes", .path.display())]
    Conflict {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// From our first row's offset to the one after our last row's.
        range: OffsetRange,
        /// How many rows we have.
        rows: u64,
        /// Their length.
        bytes: u64,
    },
    /// What was read back from the spool is not what was written to it.
    #[error("the spool gives back other rows for {} than were written to it", .path.display())]
    Damaged {
        /// The file that was to be made of them.
        path: PathBuf,
    },
}

impl DirectoryError {
    /// Names an operation and a path, for `map_err`.
    pub(super) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}

impl Classify for DirectoryError {
    fn class(&self) -> Class {
        let Self::Io { source, .. } = self else {
            return Class::Fatal;
        };
        match source.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory => Class::Fatal,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::Interrupted => {
                Class::RETRY
            }
            _ => Class::Unknown,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { .. } if self.class() == Class::Fatal => "make it writable for this process",
            Self::Io { .. } => return None,
            Self::Conflict { .. } => {
                "nothing was overwritten; was the topic recreated or the group's offset reset? move the old files \
                 away or choose another directory"
            }
            Self::Damaged { .. } => "nothing was published; check the spool's disk and start again",
        };
        Some(hint.to_owned())
    }
}
