//! What was produced against what is there, read by other means than the sinks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::broker::Identity;

/// What a target holds.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    seen: BTreeMap<Identity, u64>,
    /// Rows that are not, byte for byte, one of the records.
    pub(crate) foreign: u64,
    /// Rows behind a later one of their partition in the same file, or in another service's directory.
    pub(crate) misplaced: u64,
}

#[derive(Deserialize)]
struct Row {
    partition: u32,
    number: u32,
}

impl Audit {
    /// Counts a row; gives its identity if it is a record.
    pub(crate) fn row(&mut self, text: &str) -> Option<Identity> {
        let identity = serde_json::from_str::<Row>(text)
            .ok()
            .map(|row| Identity { partition: row.partition, number: row.number });
        let identity = identity.filter(|identity| identity.value() == text);
        match identity {
            Some(identity) => *self.seen.entry(identity).or_default() += 1,
            None => self.foreign += 1,
        }
        identity
    }

    /// Counts every row of every file below `directory`; gives the number of files.
    pub(crate) fn directory(&mut self, directory: &Path) -> Result<u64> {
        let reading = || format!("cannot read {}", directory.display());
        let mut files = 0;
        for entry in fs::read_dir(directory).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            if path.is_dir() {
                files += self.directory(&path)?;
                continue;
            }
            files += 1;
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut last = BTreeMap::new();
            for line in text.lines() {
                let Some(identity) = self.row(line) else { continue };
                let place = format!("service={}", identity.service());
                let behind = last.insert(identity.partition, identity.number) >= Some(identity.number);
                self.misplaced += u64::from(behind || !directory.ends_with(place));
            }
        }
        Ok(files)
    }

    /// How many of `records` records are there, and how often too often.
    pub(crate) fn verdict(&self, records: u32) -> Verdict {
        let lost = Identity::all(records).filter(|identity| !self.seen.contains_key(identity)).count();
        Verdict {
            rows: self.seen.values().sum::<u64>() + self.foreign,
            lost: lost as u64,
            duplicated: self.seen.values().map(|times| times - 1).sum(),
            wrong: self.foreign + self.misplaced,
        }
    }
}

/// The figures of one sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) rows: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) wrong: u64,
}

impl Verdict {
    pub(crate) fn is_clean(self) -> bool {
        (self.lost, self.duplicated, self.wrong) == (0, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_damage_is_counted() {
        let mut audit = Audit::default();
        for identity in Identity::all(10).skip(1) {
            audit.row(&identity.value());
        }
        audit.row(&Identity::all(2).last().unwrap().value());
        audit.row(&Identity::all(1).last().unwrap().value().replace("amount\":0", "amount\":1"));
        audit.row("no JSON");
        let verdict = audit.verdict(10);
        let expected = Verdict { rows: 12, lost: 1, duplicated: 1, wrong: 2 };
        assert_eq!(verdict, expected);
        assert!(!verdict.is_clean());
    }

    #[test]
    fn files_are_read_in_all_depths_and_their_order_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let records: Vec<_> = Identity::all(40).filter(|identity| identity.partition == 1).collect();
        for service in crate::broker::SERVICES {
            let directory = root.path().join("orders").join(format!("service={service}"));
            fs::create_dir_all(&directory).unwrap();
            let own = records.iter().filter(|identity| identity.service() == service);
            let text: String = own.map(|identity| identity.value() + "\n").collect();
            fs::write(directory.join("1+0.jsonl"), text).unwrap();
        }
        let mut audit = Audit::default();
        assert_eq!(audit.directory(root.path()).unwrap(), 3);
        assert_eq!((audit.seen.len(), audit.misplaced, audit.foreign), (10, 0, 0));
        let wrong = root.path().join("orders/service=cart/1+9.jsonl");
        let backwards: String = records.iter().rev().map(|identity| identity.value() + "\n").collect();
        fs::write(wrong, backwards).unwrap();
        let mut audit = Audit::default();
        audit.directory(root.path()).unwrap();
        // All but the first are behind; the first belongs to another service or not.
        assert!(audit.misplaced >= 9, "{audit:?}");
    }
}
