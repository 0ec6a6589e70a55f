//! What one object holds, against what its key and metadata claim.

use std::collections::{BTreeMap, HashMap};

use super::event::{Defect, Identity};
use super::ledger::{Ledger, Mark};

/// The count of one object's rows.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    ledger: &'a Ledger,
    /// Rows, whatever they are.
    pub(super) rows: u64,
    /// Bytes of the rows, line ends not counted.
    pub(super) bytes: u64,
    /// Rows whose event was found before, here or in another object.
    pub(super) duplicated: u64,
    /// Rows that follow a later event of their partition.
    pub(super) reordered: u64,
    /// Rows that are no event of the topic, whole and unchanged.
    pub(super) corrupt: u64,
    /// What the first defect was.
    pub(super) first_defect: Option<String>,
    extents: BTreeMap<u32, Extent>,
}

/// What an object says of itself. Each claim is checked if it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    topic: Option<String>,
    partition: Option<u32>,
    first_offset: Vec<i64>,
    last_offset: Option<i64>,
    rows: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    last_seq: u64,
    first_offset: i64,
    last_offset: i64,
}

impl<'a> Tally<'a> {
    /// The count of an object of which no row has been seen.
    pub(super) fn new(ledger: &'a Ledger) -> Self {
        Self {
            ledger,
            rows: 0,
            bytes: 0,
            duplicated: 0,
            reordered: 0,
            corrupt: 0,
            first_defect: None,
            extents: BTreeMap::new(),
        }
    }

    /// Counts the next row.
    pub(super) fn row(&mut self, row: &[u8]) {
        self.rows += 1;
        self.bytes += row.len() as u64;
        match Identity::of(row) {
            Err(Defect::Shape) => self.defect("is no event"),
            Err(Defect::Checksum) => self.defect("has another checksum than its bytes"),
            Ok(event) => self.event(event),
        }
    }

    /// Counts a stream that broke off, or could not be decoded.
    pub(super) fn broken(&mut self, why: &impl std::fmt::Display) {
        self.corrupt += 1;
        self.first_defect
            .get_or_insert_with(|| format!("after row {}: {why}", self.rows));
    }

    /// In what the object is not what it claims to be; none if all is as claimed.
    pub(super) fn contradiction(&self, claims: &Claims, topic: &str) -> Option<String> {
        let mut extents = self.extents.iter();
        let Some((partition, extent)) = extents.next() else {
            return Some("holds no event of the topic".to_owned());
        };
        if let Some((other, _)) = extents.next() {
            return Some(format!("holds events of partitions {partition} and {other}"));
        }
        let differs = |what: &str, claimed: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
            Some(format!("claims {what} {claimed} and holds {found}"))
        };
        if let Some(claimed) = claims.topic.as_ref().filter(|claimed| *claimed != topic) {
            return differs("topic", claimed, &topic);
        }
        if let Some(claimed) = claims.partition.filter(|claimed| claimed != partition) {
            return differs("partition", &claimed, partition);
        }
        if let Some(claimed) = claims
            .first_offset
            .iter()
            .find(|claimed| **claimed != extent.first_offset)
        {
            return differs("first offset", claimed, &extent.first_offset);
        }
        if let Some(claimed) = claims
            .last_offset
            .filter(|claimed| *claimed != extent.last_offset)
        {
            return differs("last offset", &claimed, &extent.last_offset);
        }
        if let Some(claimed) = claims.rows.filter(|claimed| *claimed != self.rows) {
            return differs("row count", &claimed, &self.rows);
        }
        None
    }

    fn event(&mut self, event: Identity) {
        match self.ledger.mark(event) {
            Mark::First => {}
            Mark::Again => {
                self.duplicated += 1;
                self.first_defect
                    .get_or_insert_with(|| format!("row {} is a duplicate: {event:?}", self.rows));
            }
            Mark::Unknown => return self.defect("is an event that the topic does not hold"),
        }
        let Some(offset) = self.ledger.offset_of(event) else {
            return;
        };
        let extent = self.extents.entry(event.partition).or_insert(Extent {
            last_seq: event.seq,
            first_offset: offset,
            last_offset: offset,
        });
        // The same event twice in a row is a duplicate; it is out of order only when something later came before it.
        if event.seq < extent.last_seq {
            self.reordered += 1;
            self.first_defect
                .get_or_insert_with(|| format!("row {} follows a later event: {event:?}", self.rows));
        }
        extent.last_seq = event.seq;
        extent.first_offset = extent.first_offset.min(offset);
        extent.last_offset = extent.last_offset.max(offset);
    }

    fn defect(&mut self, what: &str) {
        self.corrupt += 1;
        self.first_defect
            .get_or_insert_with(|| format!("row {} {what}", self.rows));
    }
}

impl Claims {
    /// What the key `…/{topic}+{partition}+{first offset}{extension}` and the metadata of an object say. A key of another
    /// form claims nothing.
    pub(super) fn of(key: &str, metadata: &HashMap<String, String>) -> Self {
        let mut claims = Self::of_key(key).unwrap_or_default();
        let number = |name: &str| metadata.get(name).and_then(|value| value.parse().ok());
        claims.first_offset.extend(number(FIRST_OFFSET));
        claims.last_offset = number(LAST_OFFSET);
        claims.rows = metadata.get(ROWS).and_then(|value| value.parse().ok());
        claims
    }

    fn of_key(key: &str) -> Option<Self> {
        let name = key.rsplit('/').next()?;
        let mut parts = name.rsplitn(3, '+');
        let (offset, partition, topic) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = offset
            .find(|it: char| !it.is_ascii_digit())
            .unwrap_or(offset.len());
        Some(Self {
            topic: Some(topic.to_owned()),
            partition: Some(partition.parse().ok()?),
            first_offset: vec![offset.get(..digits)?.parse().ok()?],
            ..Self::default()
        })
    }
}

const FIRST_OFFSET: &str = "aqueduct-first-offset";
const LAST_OFFSET: &str = "aqueduct-last-offset";
const ROWS: &str = "aqueduct-records";

#[cfg(test)]
mod tests {
    use super::super::event::Spec;
    use super::*;

    fn row(seq: u64) -> Vec<u8> {
        let mut row = Vec::new();
        Spec::default().write(seq, &mut row);
        row
    }

    fn ledger() -> Ledger {
        Ledger::generated(&Spec::default(), 0..400).unwrap()
    }

    fn tally<'a>(ledger: &'a Ledger, seqs: &[u64]) -> Tally<'a> {
        let mut tally = Tally::new(ledger);
        for seq in seqs {
            tally.row(&row(*seq));
        }
        tally
    }

    /// Rows, duplicated, reordered, corrupt.
    fn counts(tally: &Tally<'_>) -> [u64; 4] {
        [tally.rows, tally.duplicated, tally.reordered, tally.corrupt]
    }

    #[test]
    fn ascending_rows_of_one_partition_are_clean_with_gaps_or_without() {
        let ledger = ledger();
        let clean = tally(&ledger, &[8, 12, 20, 100]);
        assert_eq!(counts(&clean), [4, 0, 0, 0]);
        assert_eq!((clean.bytes, clean.first_defect), (2_000, None));
    }

    #[test]
    fn a_duplicate_is_counted_in_one_object_and_across_two() {
        let ledger = ledger();
        assert_eq!(counts(&tally(&ledger, &[0, 4, 4, 8])), [4, 1, 0, 0]);
        assert_eq!(counts(&tally(&ledger, &[8, 12])), [2, 1, 0, 0]);
        assert_eq!(counts(&tally(&ledger, &[12])), [1, 1, 0, 0]);
    }

    #[test]
    fn every_step_back_is_a_reordered_row() {
        assert_eq!(counts(&tally(&ledger(), &[0, 8, 4, 12])), [4, 0, 1, 0]);
        assert_eq!(counts(&tally(&ledger(), &[12, 8, 4])), [3, 0, 2, 0]);
        // Another partition has an order of its own.
        assert_eq!(counts(&tally(&ledger(), &[8, 1, 12, 5])), [4, 0, 0, 0]);
    }

    #[test]
    fn what_is_no_event_of_the_topic_is_corrupt() {
        let ledger = ledger();
        let mut tally = tally(&ledger, &[0, 400]);
        tally.row(b"");
        tally.row(&row(4)[..300]);
        let mut changed = row(8);
        changed[250] ^= 4;
        tally.row(&changed);
        assert_eq!(counts(&tally), [5, 0, 0, 4]);
        tally.broken(&"unexpected end");
        assert_eq!(counts(&tally), [5, 0, 0, 5]);
        assert_eq!(ledger.found(), 1);
        assert_eq!(
            tally.first_defect.as_deref(),
            Some("row 2 is an event that the topic does not hold")
        );
    }

    #[test]
    fn claims_are_checked_one_by_one() {
        let ledger = ledger();
        // Partition 1, offsets 1 to 3.
        let tally = tally(&ledger, &[5, 9, 13]);
        let metadata = |first: &str, last: &str, rows: &str| -> HashMap<String, String> {
            let pairs = [(FIRST_OFFSET, first), (LAST_OFFSET, last), (ROWS, rows)];
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        };
        let contradiction = |key: &str, metadata: &HashMap<String, String>| {
            tally.contradiction(&Claims::of(key, metadata), "logs")
        };
        let right = metadata("1", "3", "3");
        assert_eq!(
            contradiction("p/logs/h=1/logs+1+0000000001.json.gz", &right),
            None
        );
        assert_eq!(contradiction("p/some-other-name.json", &HashMap::new()), None);
        for key in [
            "logs+1+0000000000.json",
            "logs+2+0000000001.json",
            "sgol+1+0000000001.json",
        ] {
            assert!(contradiction(key, &right).is_some(), "{key}");
        }
        for wrong in [
            metadata("0", "3", "3"),
            metadata("1", "4", "3"),
            metadata("1", "3", "2"),
        ] {
            assert!(
                contradiction("logs+1+0000000001.json", &wrong).is_some(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn an_object_of_two_partitions_or_of_nothing_contradicts_itself() {
        let ledger = ledger();
        assert!(
            tally(&ledger, &[0, 1])
                .contradiction(&Claims::default(), "logs")
                .is_some()
        );
        assert!(
            tally(&ledger, &[])
                .contradiction(&Claims::default(), "logs")
                .is_some()
        );
    }

    #[test]
    fn a_key_is_read_from_its_end() {
        let claims = Claims::of_key("prefix/a+b/we+ird+topic+7+0000000042.json.gz").unwrap();
        assert_eq!(claims.topic.as_deref(), Some("we+ird+topic"));
        assert_eq!((claims.partition, claims.first_offset), (Some(7), vec![42]));
        assert_eq!(Claims::of_key("no-plus.json"), None);
        assert_eq!(Claims::of_key("t+x+1.json"), None);
    }
}
