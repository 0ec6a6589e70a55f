//! What one object holds, against what its key and metadata claim.

use std::collections::{BTreeMap, HashMap};

use super::decode::Plain;
use super::event::{Defect, Identity};
use super::ledger::{Ledger, Mark};

/// The count of one object's rows.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    ledger: &'a Ledger,
    /// Rows, whatever they are.
    pub(super) rows: u64,
    /// What they came to, if the object could be read to its end.
    pub(super) plain: Option<Plain>,
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

/// What an object says of itself: by its key, and by its metadata if it has any.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    key: Vec<(&'static str, String)>,
    metadata: Option<HashMap<String, String>>,
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
            plain: None,
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
        match Identity::of(row) {
            Err(Defect::Shape) => self.defect("is no event"),
            Err(Defect::Checksum) => self.defect("has another checksum than its bytes"),
            Ok(event) => self.event(event),
        }
    }

    /// Counts a stream that broke off, or could not be decoded.
    pub(super) fn broken(&mut self, why: &impl std::fmt::Display) {
        self.corrupt += 1;
        self.first_defect.get_or_insert_with(|| format!("after row {}: {why}", self.rows));
    }

    /// Enters what the rows came to once all have been read.
    pub(super) fn complete(&mut self, plain: Plain) {
        self.plain = Some(plain);
    }

    /// In what the object is not what it says of itself; none if all is as claimed. An object that broke off is defect enough.
    pub(super) fn contradiction(&self, claims: &Claims, topic: &str) -> Option<String> {
        let plain = self.plain?;
        let mut extents = self.extents.iter();
        let Some((partition, extent)) = extents.next() else {
            return Some("holds no event of the topic".to_owned());
        };
        if let Some((other, _)) = extents.next() {
            return Some(format!("holds events of partitions {partition} and {other}"));
        }
        let found = [
            (TOPIC, topic.to_owned()),
            (PARTITION, partition.to_string()),
            (START, extent.first_offset.to_string()),
            (END, extent.last_offset.saturating_add(1).to_string()),
            (ROWS, self.rows.to_string()),
            (ROW_BYTES, plain.bytes.to_string()),
            (ROWS_CRC32C, format!("{:08x}", plain.crc32c)),
        ];
        claims.contradiction(&found)
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
        self.first_defect.get_or_insert_with(|| format!("row {} {what}", self.rows));
    }
}

impl Claims {
    /// What the key `…/{topic}+{partition}+{first offset}{extension}` and the metadata of an object say. A key of another
    /// form claims nothing.
    pub(super) fn of(key: &str, metadata: &HashMap<String, String>) -> Self {
        let fields = |text: &String| {
            let fields = text.split(' ').filter_map(|field| field.split_once('='));
            fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        Self { key: Self::of_key(key).unwrap_or_default(), metadata: metadata.get(OURS).map(fields) }
    }

    /// Whether there is any metadata of ours.
    pub(super) fn has_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    fn of_key(key: &str) -> Option<Vec<(&'static str, String)>> {
        let name = key.rsplit('/').next()?;
        let mut parts = name.rsplitn(3, '+');
        let (offset, partition, topic) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = offset.find(|it: char| !it.is_ascii_digit()).unwrap_or(offset.len());
        let offset: i64 = offset.get(..digits)?.parse().ok()?;
        let partition: u32 = partition.parse().ok()?;
        Some(vec![(TOPIC, topic.to_owned()), (PARTITION, partition.to_string()), (START, offset.to_string())])
    }

    fn contradiction(&self, found: &[(&str, String)]) -> Option<String> {
        for (name, found) in found {
            let of_key = self.key.iter().find(|(claimed, _)| claimed == name).map(|(_, value)| value);
            if let Some(claimed) = of_key.filter(|claimed| *claimed != found) {
                return Some(format!("is named {name}={claimed} and holds {found}"));
            }
            let Some(metadata) = &self.metadata else {
                continue;
            };
            match metadata.get(*name) {
                Some(claimed) if claimed == found => {}
                Some(claimed) => return Some(format!("claims {name}={claimed} and holds {found}")),
                None => return Some(format!("claims no {name}")),
            }
        }
        None
    }
}

// The names are written down here again: a sink that renames its metadata breaks whoever reads it, and this audit.
const OURS: &str = "aqueduct";
const TOPIC: &str = "topic";
const PARTITION: &str = "partition";
const START: &str = "start";
const END: &str = "end";
const ROWS: &str = "rows";
const ROW_BYTES: &str = "row-bytes";
const ROWS_CRC32C: &str = "rows-crc32c";

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
        assert_eq!(clean.first_defect, None);
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
        assert_eq!(tally.first_defect.as_deref(), Some("row 2 is an event that the topic does not hold"));
    }

    fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let fields: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        HashMap::from([(OURS.to_owned(), fields.join(" "))])
    }

    #[test]
    fn claims_are_checked_one_by_one() {
        let ledger = ledger();
        let right = [
            (TOPIC, "logs"),
            (PARTITION, "1"),
            (START, "1"),
            (END, "4"),
            (ROWS, "3"),
            (ROW_BYTES, "1503"),
            (ROWS_CRC32C, "0000abcd"),
        ];
        let mut tally = tally(&ledger, &[5, 9, 13]);
        let claims =
            |pairs: &[(&str, &str)]| Claims::of("p/logs/h=1/logs+1+0000000001.json.gz", &metadata(pairs));
        assert_eq!(
            tally.contradiction(&claims(&[]), "other"),
            None,
            "nothing is said of an object that broke off"
        );
        tally.complete(Plain { bytes: 1_503, crc32c: 0xabcd });
        assert_eq!(tally.contradiction(&claims(&right), "logs"), None);
        for index in 0..right.len() {
            let mut changed = right;
            changed[index].1 = "7";
            assert!(tally.contradiction(&claims(&changed), "logs").is_some(), "{changed:?}");
            changed[index].0 = "something-else";
            assert!(tally.contradiction(&claims(&changed), "logs").is_some(), "{changed:?}");
        }
    }

    #[test]
    fn a_key_claims_topic_partition_and_first_offset() {
        let ledger = ledger();
        let mut tally = tally(&ledger, &[5, 9, 13]);
        tally.complete(Plain::default());
        let contradiction = |key: &str| tally.contradiction(&Claims::of(key, &HashMap::new()), "logs");
        assert_eq!(contradiction("some/other-name.json"), None);
        assert_eq!(contradiction("logs+1+0000000001.json"), None);
        for key in ["logs+1+0000000000.json", "logs+2+0000000001.json", "sgol+1+0000000001.json"] {
            assert!(contradiction(key).is_some(), "{key}");
        }
    }

    #[test]
    fn an_object_of_two_partitions_or_of_nothing_contradicts_itself() {
        let ledger = ledger();
        for seqs in [[0, 1].as_slice(), &[]] {
            let mut tally = tally(&ledger, seqs);
            tally.complete(Plain::default());
            assert!(tally.contradiction(&Claims::default(), "logs").is_some());
        }
    }

    #[test]
    fn a_key_is_read_from_its_end() {
        let claims = Claims::of_key("prefix/a+b/we+ird+topic+7+0000000042.json.gz").unwrap();
        let claimed: Vec<&str> = claims.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(claimed, ["we+ird+topic", "7", "42"]);
        assert_eq!(Claims::of_key("no-plus.json"), None);
        assert_eq!(Claims::of_key("t+x+1.json"), None);
    }
}
