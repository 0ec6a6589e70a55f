//! The invariants, looked at whenever something becomes visible or committed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use aqueduct_core::{Mark, Offset};
use bytes::Bytes;

use crate::log::{Kind, Log};
use crate::scenario::PoisonPolicy;

/// What is visible, and what was written down.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Partition → offset → the object its row is in.
    rows: BTreeMap<i32, BTreeMap<i64, String>>,
    pub(crate) letters: BTreeSet<(i32, i64)>,
    /// Every intent that was ever committed.
    intents: BTreeMap<i32, Vec<(i64, i64)>>,
    pub(crate) commits: u64,
    /// The first promise that was broken.
    pub(crate) violation: Option<String>,
}

impl Ledger {
    pub(crate) fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// An object has become visible.
    pub(crate) fn created(&mut self, logs: &BTreeMap<i32, Log>, key: &str, body: &Bytes) {
        if let Err(problem) = self.look_at(logs, key, body) {
            self.violate(format!("{key}: {problem}"));
        }
    }

    fn look_at(&mut self, logs: &BTreeMap<i32, Log>, key: &str, body: &Bytes) -> Result<(), String> {
        let mut text = String::new();
        if body.starts_with(&[0x1f, 0x8b]) {
            let mut decoder = flate2::read::MultiGzDecoder::new(&body[..]);
            decoder.read_to_string(&mut text).map_err(|error| format!("not gzip: {error}"))?;
        } else {
            text.push_str(std::str::from_utf8(body).map_err(|error| error.to_string())?);
        }
        let mut found: Vec<(i32, i64)> = Vec::new();
        for line in text.lines() {
            let mut parts = line.get(1..).unwrap_or_default().split(':');
            let mut number = || parts.next().and_then(|part| part.parse::<i64>().ok());
            let (Some(partition), Some(offset)) = (number(), number()) else {
                return Err(format!("row {line:?} is nobody's"));
            };
            let partition = i32::try_from(partition).map_err(|error| error.to_string())?;
            let expected = logs.get(&partition).and_then(|log| log.entries.get(&offset));
            if expected.is_none_or(|it| it.kind != Kind::Good || it.value.as_deref() != Some(line.as_bytes()))
            {
                return Err(format!("the row of {partition}@{offset} is not what was produced"));
            }
            if found.last().is_some_and(|last| last.0 != partition || last.1 >= offset) {
                return Err(format!("I3: {partition}@{offset} is out of order"));
            }
            if let Some(other) = self.rows.entry(partition).or_default().insert(offset, key.to_owned()) {
                return Err(format!("I2: {partition}@{offset} is visible twice, also in {other}"));
            }
            found.push((partition, offset));
        }
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return Err("empty".into()) };
        let pinned = |(start, end): &(i64, i64)| *start <= first.1 && last.1 < *end;
        if !self.intents.get(&first.0).is_some_and(|intents| intents.iter().any(pinned)) {
            return Err(format!("I6: offsets {} to {} are visible and in no intent", first.1, last.1));
        }
        Ok(())
    }

    pub(crate) fn letter(&mut self, log: Option<&Log>, partition: i32, offset: i64) {
        let kind = log.and_then(|log| log.entries.get(&offset)).map(|entry| entry.kind);
        if kind != Some(Kind::Poison) {
            self.violate(format!("I10: a letter of {partition}@{offset}, which is {kind:?}"));
        }
        let pinned = |(start, end): &(i64, i64)| *start <= offset && offset < *end;
        if !self.intents.get(&partition).is_some_and(|intents| intents.iter().any(pinned)) {
            self.violate(format!("I6: a letter of {partition}@{offset}, which is in no intent"));
        }
        self.letters.insert((partition, offset));
    }

    /// A commit of ours was taken.
    pub(crate) fn committed(
        &mut self,
        log: &Log,
        policy: PoisonPolicy,
        partition: i32,
        before: Option<&(i64, String)>,
        (next, metadata): (i64, &str),
    ) {
        self.commits += 1;
        if let Err(problem) = self.look_at_mark(log, policy, partition, before, next, metadata) {
            self.violate(format!("commit of {partition} at {next} ({metadata}): {problem}"));
        }
    }

    fn look_at_mark(
        &mut self,
        log: &Log,
        policy: PoisonPolicy,
        partition: i32,
        before: Option<&(i64, String)>,
        next: i64,
        metadata: &str,
    ) -> Result<(), String> {
        let mark = Mark::decode(Offset::new(next), metadata).map_err(|error| error.to_string())?;
        let intent = mark.intent.map(|intent| (intent.range.start().get(), intent.range.end().get()));
        let known = before.and_then(|(at, text)| Mark::decode(Offset::new(*at), text).ok());
        if let Some(before) = known {
            let at = before.next.get();
            if next < at {
                return Err(format!("I4: the mark moves back from {at}"));
            }
            let pinned = before.intent.map(|intent| intent.range.end().get());
            match pinned {
                Some(end) if next == at && intent != Some((at, end)) => {
                    return Err(format!(
                        "I6: the intent of {at} to {end} is gone, and nothing of it is done"
                    ));
                }
                Some(end) if next != at && next != end => {
                    return Err(format!("I6: the intent says {at} to {end}"));
                }
                _ => {}
            }
            self.is_durable(log, policy, partition, at, next)?;
        }
        if let Some(intent) = intent {
            self.intents.entry(partition).or_default().push(intent);
        }
        Ok(())
    }

    /// Everything in `from..to` is where it has to be.
    fn is_durable(
        &self,
        log: &Log,
        policy: PoisonPolicy,
        partition: i32,
        from: i64,
        to: i64,
    ) -> Result<(), String> {
        let rows = self.rows.get(&partition);
        for (offset, entry) in log.entries.range(from..to.max(from)) {
            let stored = match entry.kind {
                Kind::Good => rows.is_some_and(|rows| rows.contains_key(offset)),
                Kind::Poison => {
                    policy != PoisonPolicy::DeadLetter || self.letters.contains(&(partition, *offset))
                }
                Kind::Tombstone => true,
            };
            if !stored {
                return Err(format!("I5: {partition}@{offset} is a {:?} and nowhere yet", entry.kind));
            }
        }
        Ok(())
    }

    /// The end: every record is where it has to be, once.
    pub(crate) fn audit(&self, logs: &BTreeMap<i32, Log>, policy: PoisonPolicy) -> Result<u64, String> {
        let mut rows = 0;
        for (partition, log) in logs.iter().filter(|(_, log)| !log.passed) {
            self.is_durable(log, policy, *partition, 0, log.end)
                .map_err(|problem| problem.replace("I5", "I1, lost"))?;
            rows += self.rows.get(partition).map_or(0, BTreeMap::len) as u64;
        }
        Ok(rows)
    }
}
