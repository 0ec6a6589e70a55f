//! Which events exist and which have been found: two bits an event, whatever the load's size.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};

use super::event::{Identity, Spec};

/// The events a topic holds, and those found so far. Filled first, by `&mut`; then rows are marked from many threads.
#[derive(Debug)]
pub struct Ledger {
    partitions: Vec<Partition>,
}

/// What a row means to the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Found for the first time.
    First,
    /// Found before.
    Again,
    /// No such event is in the topic.
    Unknown,
}

#[derive(Debug, Default)]
struct Partition {
    /// Bit `n`: event number `n` of this partition exists.
    expected: Vec<u64>,
    found: Vec<AtomicU64>,
    /// Where offsets and event numbers shift against each other: one entry for a topic that holds nothing but the load.
    shifts: Vec<Shift>,
    /// The lowest ordinal the next event may have.
    next: u64,
}

/// From event `ordinal` of the partition on, an event's offset is its ordinal plus `offset - ordinal`.
#[derive(Clone, Copy, Debug)]
struct Shift {
    ordinal: u64,
    offset: i64,
}

impl Ledger {
    /// A ledger of a topic with `partitions` partitions and nothing in it.
    pub fn new(partitions: NonZeroU32) -> Self {
        let mut list = Vec::new();
        list.resize_with(partitions.get() as usize, Partition::default);
        Self { partitions: list }
    }

    /// A ledger of events `range` of `spec`, each partition beginning at offset 0: what the generator wrote to a fresh topic.
    pub fn generated(spec: &Spec, range: Range<u64>) -> Result<Self> {
        let mut ledger = Self::new(spec.partitions);
        let mut next = vec![0_i64; ledger.partitions.len()];
        for seq in range {
            let partition = spec.partition_of(seq);
            let offset = next.get_mut(partition as usize).context("a partition beyond the spec's")?;
            ledger.expect(Identity { seq, partition }, *offset)?;
            *offset += 1;
        }
        Ok(ledger)
    }

    /// Enters an event that the topic holds at `offset`. Events of a partition come in the order of their offsets.
    ///
    /// # Errors
    /// An event that was entered before, is older than the one before it, or is not of its partition: the load itself is not
    /// what an audit can judge by.
    pub fn expect(&mut self, event: Identity, offset: i64) -> Result<()> {
        let ordinal = self.ordinal(event).with_context(|| format!("{event:?} is of another partitioning"))?;
        ensure!(
            ordinal < ORDINAL_LIMIT,
            "{event:?} is beyond the {ORDINAL_LIMIT} events a partition may have"
        );
        let partition = self.partitions.get_mut(event.partition as usize).context("no such partition")?;
        let (word, bit) = place(ordinal);
        if partition.expected.len() <= word {
            partition.expected.resize(word + 1, 0);
            partition.found.resize_with(word + 1, AtomicU64::default);
        }
        let bits = partition.expected.get_mut(word).context("no such word")?;
        ensure!(
            *bits & bit == 0,
            "the topic holds {event:?} twice, at offset {offset} again: produce to an empty topic"
        );
        ensure!(ordinal >= partition.next, "the topic holds {event:?} at offset {offset}, after a later one");
        *bits |= bit;
        partition.next = ordinal + 1;
        if partition.offset_of(ordinal) != Some(offset) {
            partition.shifts.push(Shift { ordinal, offset });
        }
        Ok(())
    }

    /// Marks an event as found.
    pub fn mark(&self, event: Identity) -> Mark {
        let partition = self.partitions.get(event.partition as usize);
        let (Some(ordinal), Some(partition)) = (self.ordinal(event), partition) else {
            return Mark::Unknown;
        };
        let (word, bit) = place(ordinal);
        let (Some(expected), Some(found)) = (partition.expected.get(word), partition.found.get(word)) else {
            return Mark::Unknown;
        };
        if expected & bit == 0 {
            return Mark::Unknown;
        }
        // Marks are only counted, after the threads that set them have been waited for.
        if found.fetch_or(bit, Ordering::Relaxed) & bit == 0 { Mark::First } else { Mark::Again }
    }

    /// The offset at which the topic holds `event`.
    pub fn offset_of(&self, event: Identity) -> Option<i64> {
        self.partitions.get(event.partition as usize)?.offset_of(self.ordinal(event)?)
    }

    /// How many events the topic holds.
    pub fn expected(&self) -> u64 {
        self.partitions
            .iter()
            .flat_map(|partition| &partition.expected)
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// How many of them have been found.
    pub fn found(&self) -> u64 {
        let words = self.partitions.iter().flat_map(|partition| &partition.found);
        words.map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    /// Some events that have not been found, to say where to look.
    pub fn missing(&self, limit: usize) -> Vec<Identity> {
        let count = self.partitions.len() as u64;
        let partitions = (0_u32..).zip(&self.partitions);
        let missing = partitions.flat_map(|(number, partition)| {
            let ordinals = partition.missing();
            ordinals
                .map(move |ordinal| Identity { seq: ordinal * count + u64::from(number), partition: number })
        });
        missing.take(limit).collect()
    }

    /// The event's number among those of its partition.
    fn ordinal(&self, event: Identity) -> Option<u64> {
        let count = self.partitions.len() as u64;
        (event.seq.checked_rem(count)? == u64::from(event.partition)).then(|| event.seq / count)
    }
}

impl Partition {
    fn offset_of(&self, ordinal: u64) -> Option<i64> {
        let after = self.shifts.partition_point(|shift| shift.ordinal <= ordinal);
        let shift = self.shifts.get(after.checked_sub(1)?)?;
        shift.offset.checked_add_unsigned(ordinal - shift.ordinal)
    }

    fn missing(&self) -> impl Iterator<Item = u64> {
        let words = (0_u64..).zip(self.expected.iter().zip(&self.found));
        words.flat_map(|(index, (expected, found))| {
            let missing = expected & !found.load(Ordering::Relaxed);
            (0..64).filter(move |bit| missing >> bit & 1 == 1).map(move |bit| index * 64 + bit)
        })
    }
}

/// 64 MiB of bits a partition at most, whatever a row claims to be.
const ORDINAL_LIMIT: u64 = 1 << 28;

fn place(ordinal: u64) -> (usize, u64) {
    (usize::try_from(ordinal / 64).unwrap_or(usize::MAX), 1 << (ordinal % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: NonZeroU32 = NonZeroU32::new(4).unwrap();

    fn event(seq: u64) -> Identity {
        Identity { seq, partition: u32::try_from(seq % 4).unwrap() }
    }

    fn generated(range: Range<u64>) -> Ledger {
        Ledger::generated(&Spec { partitions: FOUR, ..Spec::default() }, range).unwrap()
    }

    #[test]
    fn each_event_is_found_first_once_and_then_again() {
        let ledger = generated(0..1_000);
        assert_eq!((ledger.expected(), ledger.found()), (1_000, 0));
        for seq in 0..1_000 {
            assert_eq!(ledger.mark(event(seq)), Mark::First);
        }
        assert_eq!(ledger.mark(event(0)), Mark::Again);
        assert_eq!(ledger.mark(event(999)), Mark::Again);
        assert_eq!((ledger.expected(), ledger.found()), (1_000, 1_000));
        assert!(ledger.missing(10).is_empty());
    }

    #[test]
    fn what_the_topic_does_not_hold_is_unknown() {
        let ledger = generated(100..200);
        for seq in [0, 99, 200, 264, u64::MAX] {
            assert_eq!(ledger.mark(event(seq)), Mark::Unknown, "{seq}");
        }
        assert_eq!(ledger.mark(Identity { seq: 101, partition: 0 }), Mark::Unknown, "another partition's");
        assert_eq!(ledger.mark(Identity { seq: 101, partition: 9 }), Mark::Unknown);
        assert_eq!(ledger.found(), 0);
    }

    #[test]
    fn missing_events_are_named() {
        let ledger = generated(0..400);
        for seq in (0..400).filter(|seq| ![6, 130, 399].contains(seq)) {
            ledger.mark(event(seq));
        }
        assert_eq!(ledger.expected() - ledger.found(), 3);
        let mut missing: Vec<u64> = ledger.missing(10).into_iter().map(|event| event.seq).collect();
        missing.sort_unstable();
        assert_eq!(missing, [6, 130, 399]);
        assert_eq!(ledger.missing(2).len(), 2);
    }

    #[test]
    fn offsets_are_known_across_gaps() {
        let mut ledger = Ledger::new(FOUR);
        // Two control records after the second event, and the third event was never written.
        for (seq, offset) in [(0, 10), (4, 11), (12, 14), (16, 15)] {
            ledger.expect(event(seq), offset).unwrap();
        }
        let offset = |seq| ledger.offset_of(event(seq));
        assert_eq!([offset(0), offset(4), offset(12), offset(16)], [Some(10), Some(11), Some(14), Some(15)]);
        assert_eq!(ledger.partitions[0].shifts.len(), 2);
        assert_eq!(ledger.mark(event(8)), Mark::Unknown);
    }

    #[test]
    fn a_topic_that_proves_nothing_is_refused() {
        let mut ledger = Ledger::new(FOUR);
        ledger.expect(event(4), 0).unwrap();
        assert!(ledger.expect(event(4), 1).unwrap_err().to_string().contains("twice"));
        ledger.expect(event(4_000), 1).unwrap();
        for older in [0, 8, 3_996] {
            let error = ledger.expect(event(older), 2).unwrap_err().to_string();
            assert!(error.contains("after a later one"), "{error}");
        }
        assert!(ledger.expect(Identity { seq: 5, partition: 0 }, 1).is_err());
        assert!(ledger.expect(event(ORDINAL_LIMIT * 4), 1).is_err());
    }
}
