//! The failpoint table: every place of the data path at which a test can end, stop or fail the process.
//!
//! A run that kills at random finds the moments that last long. What lies between two of them, an answer that has arrived and
//! was not acted on, lasts microseconds and is what a commit protocol is about; here each of them has a name. The table is
//! one macro, so that a runner which goes through [`Failpoint::ALL`] cannot leave a new point out, and a point that nothing
//! reaches is found by its count.
//!
//! Points are reached once per batch, object, segment, request or commit, never per record. Without the feature `failpoints`
//! reaching one is an empty inlined function. With it, what a point does is said by [`configure`] in the syntax of the `fail`
//! crate's `FAILPOINTS`: `object.created=2*off->1*return(abort)` ends the process at the third hit.

#[cfg(feature = "failpoints")]
pub use self::live::{FailpointError, configure};

use crate::error::StageError;

macro_rules! table {
    ($($(#[doc = $meaning:literal])+ $point:ident = $name:literal,)+) => {
        /// A place of the data path, by what has just happened there and what has not.
        ///
        /// `name=return(abort)` ends the process as a crash does, without unwinding or flushing; `panic`, `sleep(ms)` and
        /// `pause` are the `fail` crate's; `return(retry)` makes a point that [can fail](Self::check) fail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Failpoint {
            $($(#[doc = $meaning])+ $point,)+
        }

        impl Failpoint {
            /// All there are, in the order of a record's way.
            pub const ALL: &'static [Self] = &[$(Self::$point),+];

            /// The stable name, as it is configured.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)+ }
            }

            /// What has happened there and what has not, in one line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$point => concat!($($meaning),+).trim_ascii(),)+ }
            }
        }
    };
}

table! {
    /// The client is connected and about to join its group.
    SourceOpened = "source.opened",
    /// The marks of new partitions are read; the lanes do not know of them.
    SourceMarksRead = "source.marks_read",
    /// The lanes have said where they start; the client is not told.
    SourceBeforeAssign = "source.before_assign",
    /// The client is told where to read.
    SourceAssigned = "source.assigned",
    /// A batch is copied; no lane has it.
    SourceBeforeBatch = "source.before_batch",
    /// A batch is on its way to its lane.
    SourceBatchSent = "source.batch_sent",
    /// The group wants partitions back; their lanes do not know.
    SourceBeforeRevoke = "source.before_revoke",
    /// The lanes of revoked partitions are done; the group is not told.
    SourceBeforeUnassign = "source.before_unassign",
    /// Revoked partitions are given back.
    SourceUnassigned = "source.unassigned",
    /// The membership was lost with all partitions; their lanes do not know.
    SourceLost = "source.lost",
    /// A lane has a batch and nothing of it is converted.
    FillBatch = "fill.batch",
    /// A segment is to be begun.
    FillBeforeBegin = "fill.before_begin",
    /// Rows are in memory, not in scratch.
    SpillBefore = "spill.before",
    /// Half of a block is in scratch.
    SpillTorn = "spill.torn",
    /// A batch's rows are in scratch.
    SpillAfter = "spill.after",
    /// The cut is decided; nothing is staged.
    CutBeforeStage = "cut.before_stage",
    /// All rows are in scratch, and not all of their index.
    CutMidStage = "cut.mid_stage",
    /// The segment is staged.
    CutStaged = "cut.staged",
    /// The segment is staged; the publisher does not have it.
    CutBeforeHandOver = "cut.before_hand_over",
    /// The intent is not written down.
    IntentBeforeCommit = "intent.before_commit",
    /// The intent is written down; nothing is visible and no letter sent.
    IntentCommitted = "intent.committed",
    /// The intent is written down; its letters are to be sent.
    LettersBeforeSend = "letters.before_send",
    /// Letters are stored; the lane does not know.
    LettersSent = "letters.sent",
    /// An object that fits into one request is not sent.
    ObjectBeforeCreate = "object.before_create",
    /// An object is visible; nothing has noted it.
    ObjectCreated = "object.created",
    /// An upload in parts is not begun.
    UploadBeforeCreate = "upload.before_create",
    /// An upload in parts is begun; nothing has noted it.
    UploadCreated = "upload.created",
    /// A part is not sent.
    PartBeforeSend = "part.before_send",
    /// A part is stored; nothing has noted it.
    PartSent = "part.sent",
    /// All parts are stored; the object is not visible.
    UploadBeforeComplete = "upload.before_complete",
    /// An object of parts is visible; nothing has noted it.
    UploadCompleted = "upload.completed",
    /// The segment's first object is visible, its others are not.
    PublishFirst = "publish.first",
    /// All objects of the segment are visible; scratch still holds them.
    PublishAll = "publish.all",
    /// The segment is visible and its scratch given back.
    PublishAfter = "publish.after",
    /// The end of a visible segment is not committed.
    CommitBefore = "commit.before",
    /// Marks are to be sent to the coordinator.
    CommitBeforeSend = "commit.before_send",
    /// The coordinator has stored marks; the process has not acted on its answer.
    CommitStored = "commit.stored",
    /// The end of a segment is committed; nothing has counted it.
    CommitAfter = "commit.after",
    /// A mark without a segment, such as the very first, is not committed.
    MarkBeforeCommit = "mark.before_commit",
    /// A mark without a segment is committed.
    MarkCommitted = "mark.committed",
    /// Scratch of a visible segment is to be removed.
    CleanBefore = "clean.before",
    /// One scratch file of a segment is removed.
    CleanMid = "clean.mid",
    /// A former process's scratch is found and not removed.
    CleanLeftOvers = "clean.left_overs",
    /// A former owner's intent is read; its segment is not begun.
    RecoverBeforeBegin = "recover.before_begin",
    /// A part of a former owner's segment is read again.
    RecoverMidReplay = "recover.mid_replay",
    /// A former owner's segment is complete again; nothing of it is published by us.
    RecoverBeforePublish = "recover.before_publish",
    /// A former owner's segment is visible; its end is not committed.
    RecoverBeforeCommit = "recover.before_commit",
    /// A lane takes nothing in any more and is about to cut what it has.
    ShutdownDraining = "shutdown.draining",
}

impl Failpoint {
    /// Marks the place; does what is configured for it. Call it once per batch, object, segment or commit.
    ///
    /// # Panics
    /// If it is configured to.
    #[inline]
    pub fn reach(self) {
        #[cfg(feature = "failpoints")]
        self.reach_live();
    }

    /// As [`reach`](Self::reach), at a place where an operation can fail.
    ///
    /// # Errors
    /// A retryable one that names the point, if it is configured to `return(retry)`.
    ///
    /// # Panics
    /// If it is configured to.
    #[inline]
    pub fn check(self) -> Result<(), StageError> {
        #[cfg(feature = "failpoints")]
        self.check_live()?;
        Ok(())
    }

    /// Whether anything is configured here, for a place that has to prepare what the point stands for.
    #[inline]
    pub fn is_armed(self) -> bool {
        #[cfg(feature = "failpoints")]
        return self.is_armed_live();
        #[cfg(not(feature = "failpoints"))]
        false
    }
}

#[cfg(feature = "failpoints")]
mod live {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Failpoint;
    use crate::error::StageError;

    static HITS: [AtomicU64; Failpoint::ALL.len()] = [const { AtomicU64::new(0) }; Failpoint::ALL.len()];

    /// A configuration of failpoints that cannot be used.
    #[derive(Debug, thiserror::Error)]
    #[non_exhaustive]
    pub enum FailpointError {
        /// A name that is not in the table, or no `name=actions`.
        #[error(
            "{text:?} configures no failpoint; write name=actions with a name of the table, several joined by ;"
        )]
        Unknown {
            /// What stands there.
            text: String,
        },
        /// Actions the `fail` crate does not understand.
        #[error("the actions of failpoint {name} cannot be read: {detail}")]
        Actions {
            /// The point.
            name: &'static str,
            /// What is wrong.
            detail: String,
        },
    }

    /// Says what points do, in the syntax of `FAILPOINTS`: `name=actions;name=actions`. For the whole process.
    ///
    /// # Errors
    /// A name that is not in the table, or actions that cannot be read. What stands before it is in force.
    pub fn configure(text: &str) -> Result<(), FailpointError> {
        for one in text.split(';').map(str::trim).filter(|one| !one.is_empty()) {
            let unknown = || FailpointError::Unknown { text: one.to_owned() };
            let (name, actions) = one.split_once('=').ok_or_else(unknown)?;
            let point = Failpoint::named(name.trim()).ok_or_else(unknown)?;
            let read = fail::cfg(point.name(), actions);
            read.map_err(|detail| FailpointError::Actions { name: point.name(), detail })?;
        }
        Ok(())
    }

    impl Failpoint {
        /// The point of that name.
        pub fn named(name: &str) -> Option<Self> {
            Self::ALL.iter().copied().find(|point| point.name() == name)
        }

        /// How often the process has come here.
        pub fn hits(self) -> u64 {
            HITS.get(self as usize).map_or(0, |hits| hits.load(Ordering::Relaxed))
        }

        pub(super) fn reach_live(self) {
            if let Some(action) = self.hit() {
                self.act(&action);
            }
        }

        pub(super) fn check_live(self) -> Result<(), StageError> {
            match self.hit().as_deref() {
                Some("retry") => Err(StageError::retry("failpoint", self.name())),
                Some(action) => {
                    self.act(action);
                    Ok(())
                }
                None => Ok(()),
            }
        }

        pub(super) fn is_armed_live(self) -> bool {
            fail::list().iter().any(|(name, _)| name == self.name())
        }

        /// Counts, does what the `fail` crate does by itself, and answers what it wants returned.
        fn hit(self) -> Option<String> {
            if let Some(hits) = HITS.get(self as usize) {
                hits.fetch_add(1, Ordering::Relaxed);
            }
            fail::fail_point!(self.name(), |action| Some(action.unwrap_or_default()));
            None
        }

        fn act(self, action: &str) {
            if action == "abort" {
                tracing::error!(failpoint = self.name(), "aborting");
                std::process::abort();
            }
            panic!("failpoint {} cannot return {action:?}", self.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_dotted_and_have_a_meaning() {
        let names: BTreeSet<&str> = Failpoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Failpoint::ALL.len());
        for point in Failpoint::ALL {
            let dotted = point
                .name()
                .split_once('.')
                .is_some_and(|(stage, place)| !stage.is_empty() && !place.is_empty());
            assert!(dotted && point.meaning().ends_with('.'), "{point:?}");
        }
    }

    #[test]
    #[cfg(feature = "failpoints")]
    fn a_configured_point_counts_fails_and_panics() {
        // A point that no other test of this process reaches: the registry is the process's.
        let point = Failpoint::PartSent;
        configure("part.sent=1*off->1*return(retry)->1*panic").unwrap();
        assert!(point.is_armed() && point.check().is_ok());
        assert_eq!(point.check().unwrap_err().class(), crate::error::Class::RETRY);
        assert!(std::panic::catch_unwind(|| point.reach()).is_err());
        assert_eq!(point.hits(), 3);
        point.reach();
        assert!(matches!(configure("no.such=off"), Err(FailpointError::Unknown { .. })));
        assert!(matches!(configure("part.sent=nonsense"), Err(FailpointError::Actions { .. })));
    }
}
