//! Which offsets have neither a row nor a letter.
//!
//! Sorting all offsets of a partition in one place is what a query engine is worst at. So they are counted in windows first, and
//! only windows that lack something are looked into, until enough is found.

use std::collections::BTreeMap;

use aqueduct_core::{Offset, OffsetRange, TopicPartition};

use super::Ask;
use crate::error::BigQueryError;
use crate::query::number_in;

/// Windows of a partition.
const WINDOWS: i64 = 1_000;
/// The least width of one.
const WIDTH_MIN: i64 = 100_000;
/// Gaps that one statement gives.
const GAPS: usize = 1_000;
/// Statements for the gaps of one partition. What is behind them is not named: a great many letters alone, one by one.
const STATEMENTS_MAX: usize = 20;

impl Ask<'_> {
    /// The first ranges without rows and letters, at most `most`, and whether there may be more.
    pub(super) async fn gaps(
        &self,
        lane: &TopicPartition,
        range: OffsetRange,
        letters: impl Iterator<Item = (i64, i64)>,
        most: usize,
    ) -> Result<(Vec<OffsetRange>, bool), BigQueryError> {
        let (first, end) = (range.start().get(), range.end().get());
        let mut found = Found { letters: letters.collect(), ranges: Vec::new() };
        let width = (end.saturating_sub(first) / WINDOWS + 1).max(WIDTH_MIN);
        let Some(statement) = self.statements.windows(lane, range, width) else {
            found.add(first, end);
            return Ok(found.first(most, false));
        };
        let mut full: BTreeMap<i64, i64> = BTreeMap::new();
        for row in self.rows(statement).await? {
            full.insert(number_in(&row, 0)?, number_in(&row, 1)?);
        }
        let (mut start, mut statements) = (first, 0);
        while start < end {
            let behind = start.saturating_add(width).min(end);
            let has = full.get(&((start - first) / width)).copied().unwrap_or_default();
            if has == 0 {
                found.add(start, behind);
            } else if has < behind - start {
                let mut from = start;
                // One more than are wanted, to know whether there are more.
                while from < behind && found.settled(from) <= most {
                    if statements == STATEMENTS_MAX {
                        return Ok(found.first(most, true));
                    }
                    statements += 1;
                    from = self.gaps_of_window(lane, (from, behind), &mut found).await?;
                }
            }
            if found.settled(behind) > most {
                return Ok(found.first(most, true));
            }
            start = behind;
        }
        Ok(found.first(most, false))
    }

    /// Answers where to go on.
    async fn gaps_of_window(
        &self,
        lane: &TopicPartition,
        (from, behind): (i64, i64),
        found: &mut Found,
    ) -> Result<i64, BigQueryError> {
        let Some(range) = OffsetRange::new(Offset::new(from), Offset::new(behind)) else { return Ok(behind) };
        let Some(statement) = self.statements.gaps(lane, range, GAPS) else { return Ok(behind) };
        let rows = self.rows(statement).await?;
        let mut last = behind;
        for row in &rows {
            last = number_in(row, 1)?;
            found.add(number_in(row, 0)?, last);
        }
        Ok(if rows.len() < GAPS { behind } else { last })
    }
}

/// Ranges without rows, less those with letters.
struct Found {
    /// Runs of letters' offsets.
    letters: BTreeMap<i64, i64>,
    ranges: Vec<(i64, i64)>,
}

impl Found {
    /// Adds a range without rows, behind those before it.
    fn add(&mut self, first: i64, end: i64) {
        let before = self.letters.range(..=first).next_back();
        let mut from = before.map_or(first, |(_, letters_end)| first.max(*letters_end));
        if from >= end {
            return;
        }
        for (letter, letters_end) in self.letters.range(from..end) {
            push(&mut self.ranges, from, *letter);
            from = *letters_end;
        }
        push(&mut self.ranges, from, end);
    }

    /// How many there are; one that ends at `at` may still grow.
    fn settled(&self, at: i64) -> usize {
        self.ranges.len() - usize::from(self.ranges.last().is_some_and(|(_, end)| *end == at))
    }

    fn first(mut self, most: usize, more: bool) -> (Vec<OffsetRange>, bool) {
        let more = more || self.ranges.len() > most;
        self.ranges.truncate(most);
        let range = |(first, end): &(i64, i64)| OffsetRange::new(Offset::new(*first), Offset::new(*end));
        (self.ranges.iter().filter_map(range).collect(), more)
    }
}

fn push(ranges: &mut Vec<(i64, i64)>, first: i64, end: i64) {
    if first >= end {
        return;
    }
    match ranges.last_mut() {
        Some((_, last)) if *last == first => *last = end,
        _ => ranges.push((first, end)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the same, offset by offset.
        #[test]
        fn what_is_found_has_neither_row_nor_letter(
            rows in prop::collection::btree_set(0..60_i64, 0..60),
            letters in prop::collection::btree_set(0..60_i64, 0..30),
            cut in 1..59_i64,
        ) {
            let lane = TopicPartition::new("t", 0);
            let mut runs = super::super::letters::LetterOffsets::default();
            for offset in &letters {
                runs.add(&lane, Offset::new(*offset)).unwrap();
            }
            prop_assert_eq!(runs.count(&lane), letters.len() as u64);
            prop_assert_eq!(runs.iter().map(|(_, offset)| offset).collect::<Vec<_>>(), letters.iter().copied().collect::<Vec<_>>());
            let mut found = Found { letters: runs.of(&lane).collect(), ranges: Vec::new() };
            // Gaps of the rows, cut where a window ends.
            let mut from = 0;
            for offset in 0..=60 {
                if offset == 60 || offset == cut || rows.contains(&offset) {
                    if from < offset {
                        found.add(from, offset);
                    }
                    from = offset + i64::from(rows.contains(&offset));
                }
            }
            let (ranges, more) = found.first(100, false);
            prop_assert!(!more);
            let expected: Vec<i64> = (0..60).filter(|it| !rows.contains(it) && !letters.contains(it)).collect();
            let listed: Vec<i64> = ranges.iter().flat_map(|range| range.start().get()..range.end().get()).collect();
            prop_assert_eq!(&listed, &expected);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].start()), "neighbours are one: {:?}", ranges);
        }
    }
}
