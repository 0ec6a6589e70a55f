//! What a worker says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use aqueduct::{Failpoint, PublishedSegment, RedriveReport, Report};
use serde::{Deserialize, Serialize};

/// One line of a worker's standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The pipeline is built and begins to run.
    Started {
        /// What it guarantees.
        guarantee: String,
    },
    /// The lanes it works on now.
    Assigned {
        /// Their names.
        lanes: BTreeSet<String>,
    },
    /// The lanes whose cut is written down and not yet published, now.
    Pending {
        /// Their names.
        lanes: BTreeSet<String>,
    },
    /// What is being tried again, now.
    Retrying {
        /// The last failure; none once it has passed.
        error: Option<String>,
    },
    /// A lane waits; said again while it does.
    Waiting {
        /// For what.
        reason: String,
    },
    /// A segment is visible and committed.
    Published {
        /// The lane.
        lane: String,
        /// Its first offset.
        start: i64,
        /// The offset behind its last.
        end: i64,
        /// Its rows.
        rows: u64,
        /// The keys of its objects.
        keys: Vec<String>,
    },
    /// How often it has come to each failpoint, at its end.
    Failpoints {
        /// Those it has come to, by name.
        hits: BTreeMap<String, u64>,
    },
    /// The pipeline has ended as it should; the last line.
    Done(Summary),
    /// Letters were driven again to their end; the last line.
    Redriven(Redriven),
    /// The pipeline has ended with an error, or could not be built; the last line.
    Failed {
        /// The error and its causes.
        message: String,
    },
}

/// What a worker has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) records: u64,
    pub(crate) durable: u64,
    pub(crate) rows: u64,
    pub(crate) dead_letters: u64,
    pub(crate) segments: u64,
    pub(crate) objects: u64,
    pub(crate) recovered: u64,
    pub(crate) abandoned: u64,
    pub(crate) retries: u64,
    pub(crate) pending_intents: u64,
    pub(crate) peak_rss_bytes: u64,
}

/// What a re-drive has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Redriven {
    pub(crate) read: u64,
    pub(crate) repeated: u64,
    pub(crate) selected: u64,
    pub(crate) repaired: u64,
    pub(crate) before: u64,
    pub(crate) under_way: u64,
    pub(crate) finished: u64,
    pub(crate) poisoned: u64,
    pub(crate) unreadable: u64,
}

impl Redriven {
    pub(super) fn of(report: &RedriveReport) -> Self {
        Self {
            read: report.read,
            repeated: report.repeated,
            selected: report.selected,
            repaired: report.repaired,
            before: report.before,
            under_way: report.under_way,
            finished: report.finished,
            poisoned: report.poisoned(),
            unreadable: report.unreadable,
        }
    }
}

impl Event {
    /// Prints it and makes sure that it is out.
    pub(crate) fn say(&self) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        out.write_all(&line)?;
        out.flush()
    }

    /// What this process has come to.
    pub(super) fn failpoints() -> Self {
        let hits = Failpoint::ALL.iter().map(|point| (point.name().to_owned(), point.hits()));
        Self::Failpoints { hits: hits.filter(|(_, hits)| *hits > 0).collect() }
    }

    pub(super) fn published(segment: &PublishedSegment) -> Self {
        Self::Published {
            lane: segment.lane.to_string(),
            start: segment.range.start().get(),
            end: segment.range.end().get(),
            rows: segment.rows,
            keys: segment.objects.iter().map(|object| object.key.clone()).collect(),
        }
    }
}

impl Summary {
    pub(super) fn of(report: &Report, peak_rss_bytes: u64) -> Self {
        Self {
            records: report.records,
            durable: report.durable,
            rows: report.rows,
            dead_letters: report.dead_letters,
            segments: report.segments,
            objects: report.objects,
            recovered: report.recovered,
            abandoned: report.abandoned,
            retries: report.retries,
            pending_intents: report.pending_intents,
            peak_rss_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_flat_and_read_back() {
        let done = Event::Done(Summary { records: 3, ..Summary::default() });
        let line = serde_json::to_string(&done).unwrap();
        assert!(line.starts_with(r#"{"event":"done","records":3,"#), "{line}");
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), done);
        let failed = r#"{"event":"failed","message":"no"}"#;
        let expected = Event::Failed { message: "no".to_owned() };
        assert_eq!(serde_json::from_str::<Event>(failed).unwrap(), expected);
    }
}
