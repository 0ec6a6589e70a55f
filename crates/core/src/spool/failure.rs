//! What a failed access to scratch means.

use std::io;

use crate::error::StageError;

impl StageError {
    /// An access to scratch files that failed, with the class and the remedy that fit: what a sink makes of an error of
    /// [`ScratchFile`](crate::ScratchFile) and [`Scratch`](crate::Scratch).
    ///
    /// | the file system says | class | because |
    /// | --- | --- | --- |
    /// | no space, no quota, no file handles | `Retry` | others give some back, and the lane goes on by itself |
    /// | not permitted, read-only, no directory | `Fatal` | nobody but an operator can change that |
    /// | anything else | `Unknown` | retried a few times |
    pub fn spool(stage: &'static str, error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) {
            return Self::retry(stage, error)
                .with_hint("raise the limit of open files (`ulimit -n`); the lane goes on by itself");
        }
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => Self::retry(stage, error)
                .with_hint("make room on the spool's disk, for bytes and for files; the lane goes on by itself"),
            Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::NotADirectory
            | Kind::NotFound
            | Kind::IsADirectory => Self::fatal(stage, error).with_hint(
                "the spool directory must stay a directory we may write to; repair it and restart: what is not \
                 published is read from Kafka again",
            ),
            _ => Self::unknown(stage, error)
                .with_hint("check the spool's disk; after a restart, what is not published is read from Kafka again"),
        }
    }

    /// Whether others could help by giving disk or file handles back.
    pub(crate) fn lacks_disk(&self) -> bool {
        let source = std::error::Error::source(self).and_then(|source| source.downcast_ref::<io::Error>());
        source.is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
                || matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
        })
    }
}

const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
const ENFILE: i32 = rustix::io::Errno::NFILE.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    #[test]
    fn what_passes_is_waited_for_and_what_does_not_is_an_end() {
        let class = |errno: rustix::io::Errno| StageError::spool("spill", errno.into()).class();
        for passes in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT, rustix::io::Errno::MFILE] {
            assert_eq!(class(passes), Class::RETRY, "{passes}");
            assert!(StageError::spool("spill", passes.into()).lacks_disk(), "{passes}");
        }
        for stays in [rustix::io::Errno::ACCESS, rustix::io::Errno::ROFS, rustix::io::Errno::NOTDIR] {
            assert_eq!(class(stays), Class::Fatal, "{stays}");
        }
        assert_eq!(class(rustix::io::Errno::IO), Class::Unknown);
        assert!(!StageError::spool("spill", rustix::io::Errno::IO.into()).lacks_disk());
    }
}
