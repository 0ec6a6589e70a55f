//! Looking into the target, and saying what is wrong there.

use std::fmt::{self, Display};

use super::SinkHarness;
use super::bench::Case;
use super::row::{SuiteRow, is_under_its_route};
use crate::record::TopicPartition;

impl<H: SinkHarness> Case<'_, H> {
    /// The rows of `lane` that can be seen, with their objects.
    pub(super) async fn stored(&self, lane: &TopicPartition) -> Vec<(String, SuiteRow)> {
        let mut rows = Vec::new();
        for stored in self.harness.stored().await {
            match stored.of_topic(&self.topic) {
                Some(Ok((object, row))) if row.lane == *lane => {
                    let (offset, route) = (row.offset, row.route);
                    let astray = format_args!("offset {offset} of route-{route} is in {object}");
                    self.check(is_under_its_route(&object, &row), astray);
                    rows.push((object, row));
                }
                Some(Err(object)) => {
                    self.fail(format_args!("{object} holds a row that nobody wrote or that is damaged"));
                }
                // Left by another case, or by another lane of this one.
                _ => {}
            }
        }
        rows
    }

    /// Every one of `rows` is there once, and no other row of the lane; within an object offsets ascend.
    pub(super) async fn expect(&self, lane: &TopicPartition, rows: &[SuiteRow], when: &str) {
        let stored = self.stored(lane).await;
        self.compare(rows, stored.iter().map(|(_, row)| row).collect(), when);
        for pair in stored.windows(2) {
            if let [(one, before), (two, after)] = pair
                && one == two
            {
                let (before, after) = (before.offset, after.offset);
                self.check(
                    before < after,
                    format_args!("{when}: in {one} offset {after} stands behind {before}"),
                );
            }
        }
    }

    /// Every one of `rows` is there at least once, and no row that nobody wrote.
    pub(super) async fn expect_at_least(&self, lane: &TopicPartition, rows: &[SuiteRow], when: &str) {
        let stored = self.stored(lane).await;
        let mut found: Vec<_> = stored.iter().map(|(_, row)| row).collect();
        found.sort();
        found.dedup();
        self.compare(rows, found, when);
    }

    fn compare(&self, expected: &[SuiteRow], mut found: Vec<&SuiteRow>, when: &str) {
        found.sort();
        let expected: Vec<_> = expected.iter().collect();
        if found != expected {
            self.fail(Difference { when, expected: &expected, found: &found });
        }
    }

    /// [`expect`](Self::expect) where the sink can do it after a replay, else [`expect_at_least`](Self::expect_at_least).
    pub(super) async fn expect_replayed(&self, lane: &TopicPartition, rows: &[SuiteRow], when: &str) {
        if super::with_intents(&self.capabilities).is_none() || self.capabilities.idempotent {
            self.expect(lane, rows, when).await;
        } else {
            self.expect_at_least(lane, rows, when).await;
        }
    }
}

/// What is missing, there twice and there without having been written.
struct Difference<'a> {
    when: &'a str,
    expected: &'a [&'a SuiteRow],
    found: &'a [&'a SuiteRow],
}

impl Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { when, expected, found } = self;
        let offsets = |rows: Vec<&SuiteRow>| rows.iter().map(|row| row.offset.get()).collect::<Vec<_>>();
        let missing = expected.iter().filter(|row| !found.contains(row)).copied().collect();
        let unknown = found.iter().filter(|row| !expected.contains(row)).copied().collect();
        let repeated = found.windows(2).filter_map(|pair| match pair {
            [one, two] if one == two => Some(*one),
            _ => None,
        });
        write!(f, "{when}: expected {} rows and found {}", expected.len(), found.len())?;
        for (what, rows) in [
            ("missing", offsets(missing)),
            ("more than once", offsets(repeated.collect())),
            ("not written", offsets(unknown)),
        ] {
            if !rows.is_empty() {
                let more = rows.len().saturating_sub(SHOWN_MAX);
                let shown = rows.get(..SHOWN_MAX).unwrap_or(&rows);
                write!(f, "; {what}: offsets {shown:?}")?;
                if more > 0 {
                    write!(f, " and {more} more")?;
                }
            }
        }
        Ok(())
    }
}

const SHOWN_MAX: usize = 12;
