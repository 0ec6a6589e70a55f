//! What a pipeline promises, computed.

use std::fmt;

use crate::partition::Replay;
use crate::sink::{CommitStyle, SinkCapabilities};

/// What happens to every record that is read.
///
/// Computed from the stages: a claim nobody can make by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Guarantee {
    /// It is stored once, whatever crashes, whichever rotation.
    ExactlyOnce,
    /// It is stored, and after a crash perhaps again, because of the reason given.
    AtLeastOnce(&'static str),
}

impl Guarantee {
    pub(crate) fn compute(converter: Replay, partitioner: Replay, sink: &SinkCapabilities) -> Self {
        if let Some(weakness) = sink.weakness {
            return Self::AtLeastOnce(weakness);
        }
        match (sink.redoes, converter.and(partitioner)) {
            (true, Replay::WallClock) if converter == Replay::WallClock => {
                Self::AtLeastOnce("the converter reads a clock, so a replay gives other values")
            }
            (true, Replay::WallClock) => {
                Self::AtLeastOnce("the partitioner reads a clock, so a replay gives other routes")
            }
            _ if sink.commit == CommitStyle::AfterDurable && !sink.idempotent => {
                Self::AtLeastOnce("the sink writes before the cut is recorded")
            }
            _ => Self::ExactlyOnce,
        }
    }

    /// Whether this is enough where `required` is asked for.
    pub fn meets(self, required: Self) -> bool {
        matches!((self, required), (Self::ExactlyOnce, _) | (_, Self::AtLeastOnce(_)))
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExactlyOnce => f.write_str("exactly once"),
            Self::AtLeastOnce(reason) => write!(f, "at least once: {reason}"),
        }
    }
}
