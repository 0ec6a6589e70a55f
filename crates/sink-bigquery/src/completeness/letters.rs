//! Which offsets have letters, in memory.

use std::collections::BTreeMap;

use aqueduct_core::{Offset, TopicPartition};

/// Most runs of consecutive offsets, over all partitions.
pub(super) const RUNS_MAX: usize = 4_000_000;

/// Offsets of each partition, as runs: first → the one behind the last.
#[derive(Debug, Default)]
pub(super) struct LetterOffsets {
    lanes: BTreeMap<TopicPartition, BTreeMap<i64, i64>>,
    runs: usize,
}

impl LetterOffsets {
    /// Adds an offset; one that is there stays once.
    pub(super) fn add(&mut self, lane: &TopicPartition, offset: Offset) -> Result<(), String> {
        let offset = offset.get();
        if !self.lanes.contains_key(lane) {
            self.lanes.insert(lane.clone(), BTreeMap::new());
        }
        let Some(runs) = self.lanes.get_mut(lane) else { return Ok(()) };
        let before = runs.range(..=offset).next_back().map(|(first, end)| (*first, *end));
        if before.is_some_and(|(_, end)| offset < end) {
            return Ok(());
        }
        let next = offset.saturating_add(1);
        let behind = runs.get(&next).copied();
        let first = before.filter(|(_, end)| *end == offset).map_or(offset, |(first, _)| first);
        if behind.is_some() {
            runs.remove(&next);
            self.runs -= 1;
        }
        if runs.insert(first, behind.unwrap_or(next)).is_none() {
            self.runs += 1;
        }
        if self.runs > RUNS_MAX {
            return Err(format!(
                "there are letters in more than {RUNS_MAX} runs of offsets: ask for fewer partitions, or shorter ranges, at a time"
            ));
        }
        Ok(())
    }

    /// How many letters' records a partition has.
    pub(super) fn count(&self, lane: &TopicPartition) -> u64 {
        self.of(lane).map(|(first, end)| end.abs_diff(first)).sum()
    }

    /// A partition's runs, ascending.
    pub(super) fn of(&self, lane: &TopicPartition) -> impl Iterator<Item = (i64, i64)> + use<'_> {
        self.lanes.get(lane).into_iter().flatten().map(|(first, end)| (*first, *end))
    }

    /// All offsets.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, i64)> {
        self.lanes.iter().flat_map(|(lane, runs)| {
            runs.iter().flat_map(move |(first, end)| (*first..*end).map(move |offset| (lane, offset)))
        })
    }
}
