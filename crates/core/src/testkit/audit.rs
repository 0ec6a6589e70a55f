//! The auditor: what was produced against what is there.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::record::TopicPartition;

/// Compares the records that were produced with the rows that are in the target.
///
/// A record's identity is its partition and its *position* there: its offset, or a sequence number the producer gave,
/// as long as both sides mean the same and it ascends. What was expected and what was found may come in any order,
/// only the rows of one object come in the order they are stored in.
///
/// | word | meaning |
/// |---|---|
/// | records | identities expected |
/// | lost | expected, and neither in a row nor in a dead letter |
/// | duplicated | rows of an identity beyond its first, and rows of an identity that is also a dead letter |
/// | reordered | rows behind a row of the same partition with a higher position, within one object |
/// | poison | expected identities found as dead letters (a letter that is there twice counts once) |
/// | orphans | rows and letters of identities nobody expected |
///
/// ```
/// use aqueduct_core::TopicPartition;
/// use aqueduct_core::testkit::Auditor;
///
/// let lane = TopicPartition::new("orders", 0);
/// let mut auditor = Auditor::new();
/// auditor.expect_all(&lane, 0..5);
/// for position in [0, 1, 3, 3] {
///     auditor.found("orders/orders+0+0000000000.json", &lane, position);
/// }
/// auditor.letter(&lane, 4);
/// let audit = auditor.finish();
/// assert_eq!(audit.to_string(), "records=5 lost=1 duplicated=1 reordered=0 orphans=0");
/// assert_eq!(audit.examples, ["lost: orders[0]@2", "duplicated: orders[0]@3 in orders/orders+0+0000000000.json"]);
/// assert!(!audit.is_clean());
/// ```
///
/// It takes about 30 bytes per record.
#[derive(Clone, Debug, Default)]
pub struct Auditor {
    lanes: BTreeMap<TopicPartition, HashMap<i64, Seen>>,
    /// The object that was read last, and the highest position of each partition in it.
    object: Option<(String, HashMap<TopicPartition, i64>)>,
    objects: u64,
    rows: u64,
    duplicated: u64,
    reordered: u64,
    examples: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    expected: bool,
    letter: bool,
    rows: u32,
}

/// What an [`Auditor`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// Identities expected.
    pub records: u64,
    /// Expected, and not there.
    pub lost: u64,
    /// There too often.
    pub duplicated: u64,
    /// There, in the wrong order.
    pub reordered: u64,
    /// There as dead letters.
    pub poison: u64,
    /// There, and not expected.
    pub orphans: u64,
    /// Objects read.
    pub objects: u64,
    /// Rows read.
    pub rows: u64,
    /// The first few of everything that is wrong.
    pub examples: Vec<String>,
}

impl Auditor {
    /// Most of [`Audit::examples`].
    pub const EXAMPLES_MAX: usize = 20;

    /// Nothing expected, nothing found.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record at `position` of `lane` was produced. Telling it twice changes nothing.
    pub fn expect(&mut self, lane: &TopicPartition, position: i64) {
        self.seen(lane, position).expected = true;
    }

    /// Several records were produced.
    pub fn expect_all(&mut self, lane: &TopicPartition, positions: impl IntoIterator<Item = i64>) {
        positions.into_iter().for_each(|position| self.expect(lane, position));
    }

    /// The next row of `object` is the record at `position` of `lane`. Objects are read one after the other.
    pub fn found(&mut self, object: &str, lane: &TopicPartition, position: i64) {
        self.rows += 1;
        if self.object.as_ref().is_none_or(|(name, _)| name != object) {
            self.objects += 1;
            self.object = Some((object.to_owned(), HashMap::new()));
        }
        if self.is_behind(lane, position) {
            self.reordered += 1;
            self.example(|| format!("reordered: {lane}@{position} in {object}"));
        }
        let seen = self.seen(lane, position);
        seen.rows += 1;
        // What nobody expected is an orphan as often as it is there, and not a duplicate.
        if seen.rows > 1 && seen.expected {
            self.duplicated += 1;
            self.example(|| format!("duplicated: {lane}@{position} in {object}"));
        }
    }

    /// The record at `position` of `lane` is among the dead letters.
    pub fn letter(&mut self, lane: &TopicPartition, position: i64) {
        self.seen(lane, position).letter = true;
    }

    /// The verdict.
    pub fn finish(mut self) -> Audit {
        let mut audit = Audit {
            duplicated: self.duplicated,
            reordered: self.reordered,
            objects: self.objects,
            rows: self.rows,
            ..Audit::default()
        };
        for (lane, positions) in std::mem::take(&mut self.lanes) {
            let mut positions: Vec<_> = positions.into_iter().collect();
            positions.sort_unstable_by_key(|(position, _)| *position);
            for (position, seen) in positions {
                audit.records += u64::from(seen.expected);
                if !seen.expected {
                    audit.orphans += u64::from(seen.rows) + u64::from(seen.letter);
                    self.example(|| format!("orphan: {lane}@{position}"));
                } else if seen.rows == 0 && !seen.letter {
                    audit.lost += 1;
                    self.example(|| format!("lost: {lane}@{position}"));
                } else if seen.letter {
                    audit.poison += 1;
                    if seen.rows > 0 {
                        audit.duplicated += 1;
                        self.example(|| {
                            format!("duplicated: {lane}@{position} in a row and in a dead letter")
                        });
                    }
                }
            }
        }
        self.examples.sort_by_key(|example| !example.starts_with("lost"));
        audit.examples = self.examples;
        audit
    }

    fn seen(&mut self, lane: &TopicPartition, position: i64) -> &mut Seen {
        if !self.lanes.contains_key(lane) {
            self.lanes.insert(lane.clone(), HashMap::new());
        }
        self.lanes.entry(lane.clone()).or_default().entry(position).or_default()
    }

    fn is_behind(&mut self, lane: &TopicPartition, position: i64) -> bool {
        let Some((_, highest)) = &mut self.object else {
            return false;
        };
        match highest.entry(lane.clone()) {
            Entry::Occupied(highest) if *highest.get() > position => true,
            entry => {
                entry.insert_entry(position);
                false
            }
        }
    }

    fn example(&mut self, example: impl FnOnce() -> String) {
        if self.examples.len() < Self::EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

impl Audit {
    /// Whether every record is there once, in order, and nothing else.
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.orphans == 0
    }
}

impl fmt::Display for Audit {
    /// One line, to be printed and to be searched for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, lost, duplicated, reordered, orphans, .. } = self;
        write!(
            f,
            "records={records} lost={lost} duplicated={duplicated} reordered={reordered} orphans={orphans}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    #[test]
    fn a_clean_run_is_clean_whatever_comes_first() {
        let mut auditor = Auditor::new();
        auditor.found("a", &lane(0), 0);
        auditor.found("a", &lane(0), 7);
        auditor.found("b", &lane(0), 3);
        auditor.expect_all(&lane(0), [0, 3, 7]);
        auditor.expect(&lane(1), 0);
        auditor.letter(&lane(1), 0);
        auditor.letter(&lane(1), 0);
        let audit = auditor.finish();
        assert!(audit.is_clean(), "{:?}", audit.examples);
        assert_eq!((audit.records, audit.poison, audit.objects, audit.rows), (4, 1, 2, 3));
        assert_eq!(audit.to_string(), "records=4 lost=0 duplicated=0 reordered=0 orphans=0");
    }

    #[test]
    fn everything_wrong_is_counted_once_under_its_name() {
        let mut auditor = Auditor::new();
        auditor.expect_all(&lane(0), 0..10);
        for position in [0, 2, 1, 3] {
            auditor.found("a", &lane(0), position);
        }
        auditor.found("b", &lane(0), 3);
        auditor.found("b", &lane(0), 99);
        auditor.found("b", &lane(5), 0);
        auditor.letter(&lane(0), 0);
        auditor.letter(&lane(6), 1);
        let audit = auditor.finish();
        assert_eq!(audit.lost, 6, "4 to 9");
        assert_eq!(audit.duplicated, 2, "3 is there twice, 0 also as a letter");
        assert_eq!(audit.reordered, 1, "1 behind 2");
        assert_eq!(audit.orphans, 3, "99, another partition, a stray letter");
        assert!(!audit.is_clean());
    }

    #[test]
    fn order_is_a_matter_of_one_object_and_one_partition() {
        let mut auditor = Auditor::new();
        auditor.expect_all(&lane(0), 0..4);
        auditor.expect_all(&lane(1), 0..4);
        for (object, partition, position) in [("a", 0, 2), ("a", 1, 0), ("a", 0, 3), ("a", 1, 1), ("b", 0, 0)]
        {
            auditor.found(object, &lane(partition), position);
        }
        assert_eq!(auditor.finish().reordered, 0);
    }

    #[test]
    fn examples_are_few() {
        let mut auditor = Auditor::new();
        auditor.expect_all(&lane(0), 0..1_000);
        let audit = auditor.finish();
        assert_eq!((audit.lost, audit.examples.len()), (1_000, Auditor::EXAMPLES_MAX));
    }
}
