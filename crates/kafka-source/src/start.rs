//! Where a partition starts that has no committed mark.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aqueduct_core::{Offset, TopicPartition};

use crate::properties::ConfigProblem;

/// Where a partition starts that has no committed mark; a mark always wins.
///
/// Whatever the policy finds is committed at once, except by [`Earliest`](Self::Earliest): a restart before the first
/// segment goes on from there, and does not find another start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartAt {
    /// At the first record the partition still holds.
    #[default]
    Earliest,
    /// At the end: only records that arrive from now on.
    Latest,
    /// At the first record whose timestamp is this or later, as the broker finds it (KIP-79). Where there is none, at
    /// the end. Timestamps of records need not ascend: earlier ones may follow, and later ones may be skipped before.
    Timestamp(SystemTime),
    /// At these offsets, each between the partition's first and its end (which is allowed): anything else stops the
    /// pipeline and names both. A partition that is not named starts at its first record, so that none that is added
    /// to a topic later is missed; the log says so.
    Offsets(BTreeMap<TopicPartition, Offset>),
}

impl StartAt {
    /// [`Offsets`](Self::Offsets) from `(topic, partition, offset)`.
    pub fn offsets<'a>(starts: impl IntoIterator<Item = (&'a str, i32, i64)>) -> Self {
        let lane = |(topic, partition, offset)| (TopicPartition::new(topic, partition), Offset::new(offset));
        Self::Offsets(starts.into_iter().map(lane).collect())
    }

    /// Whether the same question would be answered otherwise later.
    pub(crate) fn must_be_pinned(&self) -> bool {
        *self != Self::Earliest
    }

    /// Milliseconds since 1970; `None` before.
    pub(crate) fn millis(at: SystemTime) -> Option<i64> {
        at.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_millis()).ok())
    }

    /// What is wrong with it; `is_read` says whether a topic is read, as far as that is known.
    pub(crate) fn problems(&self, is_read: impl Fn(&str) -> bool) -> Vec<ConfigProblem> {
        let invalid = |found: String, expected| ConfigProblem::Invalid { what: "the start", found, expected };
        match self {
            Self::Timestamp(at) if Self::millis(*at).is_none() => {
                vec![invalid(format!("{at:?}"), "choose a time after 1970, or `StartAt::Earliest`")]
            }
            Self::Offsets(starts) if starts.is_empty() => {
                vec![invalid(
                    "a list of no offsets".to_owned(),
                    "name partitions, or use `StartAt::Earliest`",
                )]
            }
            Self::Offsets(starts) => {
                let mut problems = Vec::new();
                for (lane, start) in starts {
                    if !is_read(lane.topic()) {
                        problems
                            .push(invalid(format!("{lane} at {start}"), "name only topics that are read"));
                    }
                    if start.get() < 0 || lane.partition() < 0 {
                        problems.push(invalid(
                            format!("{lane} at {start}"),
                            "partitions and offsets are 0 or more",
                        ));
                    }
                }
                problems
            }
            Self::Earliest | Self::Latest | Self::Timestamp(_) => Vec::new(),
        }
    }
}
