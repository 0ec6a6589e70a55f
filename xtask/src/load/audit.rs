//! The audit: every object under a prefix against what the topic holds, and one line of counts.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use futures::stream::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::decode::{Body, for_each_row};
use super::ledger::Ledger;
use super::tally::{Claims, Tally};
pub use super::topic::{Scan, scan};
use crate::services::{Bucket, Listed};

/// What an audit reads.
#[derive(Clone, Debug)]
pub struct Options {
    /// The topic the objects must come from.
    pub topic: String,
    /// Only objects whose keys begin with this.
    pub prefix: String,
    /// Whether an object without our metadata is an orphan. For the work of another program, only keys are judged.
    pub require_metadata: bool,
    /// How many objects are read at once.
    pub concurrency: usize,
}

/// What an audit has found. Displayed, it is one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Events of the topic that are in at least one object.
    pub records: u64,
    /// Events of the topic that are in no object.
    pub lost: u64,
    /// Events that rightly are in no object, and not among the lost ones: the topic had removed them before they were stored.
    #[serde(default)]
    pub excused: u64,
    /// Rows beyond the first of their event.
    pub duplicated: u64,
    /// Rows that follow, in their object, a later event of their partition.
    pub reordered: u64,
    /// Rows that are no whole, unchanged event of the topic, and objects that cannot be decoded to their end.
    pub corrupt: u64,
    /// Objects that were read.
    pub objects: u64,
    /// Objects that are not what their key and metadata claim, and multipart uploads that were left behind.
    pub orphans: u64,
    /// Multipart uploads among the orphans.
    pub uploads: u64,
    /// Rows that were read.
    pub rows: u64,
    /// Bytes of those rows with their line ends, of objects that could be read to their end.
    pub row_bytes: u64,
    /// Bytes of the objects as they are stored.
    pub stored_bytes: u64,
    /// Where to look: some of what is lost and the first defect of some objects.
    pub findings: Vec<String>,
}

impl Audit {
    /// Whether every event is there exactly once, in order and unchanged, and nothing else is.
    pub fn is_clean(&self) -> bool {
        let Self { lost, duplicated, reordered, corrupt, orphans, .. } = *self;
        [lost, duplicated, reordered, corrupt, orphans] == [0; 5]
    }

    /// Counts the uploads that are `on_disk` of a server beyond those it has listed: it forgets them when it restarts.
    pub fn add_forgotten_uploads(&mut self, on_disk: u64) {
        let forgotten = on_disk.saturating_sub(self.uploads);
        self.orphans += forgotten;
        self.uploads += forgotten;
    }

    /// Both together: of several audits of the same topic, each of another prefix.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let (records, lost) = (self.records + other.records, self.lost + other.lost);
        let uploads = self.uploads + other.uploads;
        Self { records, lost, uploads, ..self.merge(other) }
    }

    /// Says that exactly `events` of those that are in no object are rightly missing. If others are, the difference is lost.
    #[must_use]
    pub fn excusing(mut self, events: u64) -> Self {
        self.lost = self.lost.abs_diff(events);
        self.excused = events;
        if self.is_clean() {
            self.findings.clear();
        }
        self
    }

    fn add(&mut self, key: &str, stored_bytes: u64, tally: &Tally<'_>, contradiction: Option<&str>) {
        self.duplicated += tally.duplicated;
        self.reordered += tally.reordered;
        self.corrupt += tally.corrupt;
        self.objects += 1;
        self.orphans += u64::from(contradiction.is_some());
        self.rows += tally.rows;
        self.row_bytes += tally.plain.map_or(0, |plain| plain.bytes);
        self.stored_bytes += stored_bytes;
        for what in tally.first_defect.as_deref().into_iter().chain(contradiction) {
            self.find(|| format!("{key}: {what}"));
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.objects += other.objects;
        self.orphans += other.orphans;
        self.rows += other.rows;
        self.row_bytes += other.row_bytes;
        self.stored_bytes += other.stored_bytes;
        other.findings.into_iter().for_each(|finding| self.find(|| finding));
        self
    }

    /// Takes the totals over all objects out of `ledger`.
    fn settle(&mut self, ledger: &Ledger) {
        self.records = ledger.found();
        self.lost = ledger.expected() - self.records;
        for event in ledger.missing(5) {
            let offset = ledger.offset_of(event).unwrap_or(-1);
            self.find(|| format!("lost: {event:?} at offset {offset}"));
        }
    }

    fn find(&mut self, finding: impl FnOnce() -> String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding());
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, lost, duplicated, reordered, corrupt, objects, orphans, .. } = self;
        write!(f, "records={records} lost={lost} duplicated={duplicated} reordered={reordered} ")?;
        write!(f, "corrupt={corrupt} objects={objects} orphans={orphans}")
    }
}

/// Reads every object that `options` names and counts it against `ledger`, which is used up: an event found by an earlier audit
/// would be a duplicate. Memory does not grow with the objects' sizes.
///
/// # Errors
/// A bucket that cannot be listed or an object that cannot be read. What can be read but is wrong is counted.
pub async fn audit(bucket: &Bucket, options: &Options, ledger: Ledger) -> Result<Audit> {
    let ledger = Arc::new(ledger);
    let options = Arc::new(options.clone());
    let objects = bucket.objects(&options.prefix).await?;
    let read =
        objects.into_iter().map(|object| read(bucket, object, Arc::clone(&options), Arc::clone(&ledger)));
    let mut audit = futures::stream::iter(read)
        .buffer_unordered(options.concurrency.max(1))
        .try_fold(Audit::default(), async |sum, one| Ok(sum.merge(one)))
        .await?;
    for upload in bucket.uploads(&options.prefix).await? {
        audit.orphans += 1;
        audit.uploads += 1;
        audit.find(|| format!("{}: upload {} was left behind", upload.key, upload.id));
    }
    audit.settle(&ledger);
    Ok(audit)
}

async fn read(bucket: &Bucket, listed: Listed, options: Arc<Options>, ledger: Arc<Ledger>) -> Result<Audit> {
    let Listed { key, bytes } = listed;
    let mut object = bucket.open(&key).await?;
    let claims = Claims::of(&key, &object.metadata.take().unwrap_or_default());
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let of_key = key.clone();
    let count = spawn_blocking(move || {
        let mut tally = Tally::new(&ledger);
        match Body::new(receiver).decode().and_then(|body| for_each_row(body, |row| tally.row(row))) {
            Ok(plain) => tally.complete(plain),
            Err(error) => tally.broken(&error),
        }
        let contradiction = if options.require_metadata && !claims.has_metadata() {
            Some("has none of our metadata".to_owned())
        } else {
            tally.contradiction(&claims, &options.topic)
        };
        let mut audit = Audit::default();
        audit.add(&of_key, bytes, &tally, contradiction.as_deref());
        audit
    });
    let mut arrived = 0_u64;
    while let Some(chunk) = object.body.try_next().await.with_context(|| format!("{key} broke off"))? {
        arrived += chunk.len() as u64;
        if sender.send(chunk).await.is_err() {
            // Undecodable: the count ended early, and the rest says nothing new.
            return count.await.context("the count of an object failed");
        }
    }
    drop(sender);
    if arrived != bytes {
        bail!("{key} has {arrived} bytes and is listed with {bytes}: is it being replaced?");
    }
    count.await.context("the count of an object failed")
}

const CHUNKS_AHEAD: usize = 8;
const FINDINGS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::decode::Plain;
    use super::super::event::Spec;
    use super::*;

    fn object(ledger: &Ledger, key: &str, seqs: &[u64]) -> Audit {
        let mut tally = Tally::new(ledger);
        let mut row = Vec::new();
        for seq in seqs {
            Spec::default().write(*seq, &mut row);
            tally.row(&row);
        }
        tally.complete(Plain { bytes: 501 * tally.rows, crc32c: 0 });
        let contradiction = tally.contradiction(&Claims::of(key, &HashMap::new()), "logs");
        let mut audit = Audit::default();
        audit.add(key, 100, &tally, contradiction.as_deref());
        audit
    }

    #[test]
    fn counts_of_objects_add_up_to_one_line() {
        let ledger = Ledger::generated(&Spec::default(), 0..12).unwrap();
        let objects = [
            object(&ledger, "logs+0+0000000000.json", &[0, 4, 8]),
            object(&ledger, "logs+1+0000000000.json", &[5, 1]),
            object(&ledger, "logs+2+0000000000.json", &[2, 6, 12]),
            object(&ledger, "logs+2+0000000002.json", &[6, 10]),
        ];
        let mut audit = objects.into_iter().fold(Audit::default(), Audit::merge);
        audit.settle(&ledger);
        // Lost: 3, 7, 9 and 11. Event 6 is there twice, and the object that repeats it begins with it, one offset too early;
        // 1 comes after 5; 12 does not exist.
        let line = "records=8 lost=4 duplicated=1 reordered=1 corrupt=1 objects=4 orphans=1";
        assert_eq!(audit.to_string(), line);
        assert_eq!((audit.rows, audit.row_bytes, audit.stored_bytes), (10, 5_010, 400));
        assert!(!audit.is_clean());
        assert!(audit.findings.iter().any(|finding| finding.contains("seq: 11")), "{:?}", audit.findings);
    }

    #[test]
    fn uploads_on_disk_are_counted_once() {
        let mut audit = Audit { orphans: 3, uploads: 1, ..Audit::default() };
        audit.add_forgotten_uploads(1);
        assert_eq!((audit.orphans, audit.uploads), (3, 1));
        audit.add_forgotten_uploads(4);
        audit.add_forgotten_uploads(4);
        assert_eq!((audit.orphans, audit.uploads), (6, 4));
    }

    #[test]
    fn what_is_rightly_missing_is_not_lost_and_must_be_missing() {
        let found = |lost| Audit { records: 5, lost, ..Audit::default() };
        assert!(found(3).excusing(3).is_clean());
        assert!(!found(3).excusing(2).is_clean(), "one too many is missing");
        assert!(!found(2).excusing(3).is_clean(), "one was stored that was not there to be stored");
    }

    #[test]
    fn each_count_alone_spoils_an_audit() {
        assert!(Audit { records: 5, objects: 2, rows: 5, ..Audit::default() }.is_clean());
        let spoilt = [
            Audit { lost: 1, ..Audit::default() },
            Audit { duplicated: 1, ..Audit::default() },
            Audit { reordered: 1, ..Audit::default() },
            Audit { corrupt: 1, ..Audit::default() },
            Audit { orphans: 1, ..Audit::default() },
        ];
        assert!(spoilt.iter().all(|audit| !audit.is_clean()));
    }
}
