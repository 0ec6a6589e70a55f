//! A sink that notes where rows were put, and a check of the places.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct::{BatchSink, JsonRow, Offset, Rejected, RowBatch, StageError, TopicPartition};
use async_trait::async_trait;

use crate::broker::{Event, Owner};

/// Rows and their routes. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    rows: Arc<Mutex<BTreeMap<(TopicPartition, Offset), Placed>>>,
}

/// A row, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) row: String,
    pub(crate) route: Arc<str>,
}

#[async_trait]
impl<T: JsonRow + Send + Sync + 'static> BatchSink<T> for Shelf {
    fn name(&self) -> &'static str {
        "shelf/1"
    }

    async fn write(&self, batch: RowBatch<'_, T>) -> Result<Vec<Rejected>, StageError> {
        let mut refused = Vec::new();
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for row in batch.rows {
            let mut json = Vec::new();
            if let Err(poison) = row.value.write_json(&mut json) {
                refused.push(Rejected { offset: row.offset, poison });
                continue;
            }
            let text = String::from_utf8_lossy(&json).into_owned();
            rows.insert(
                (batch.lane.clone(), row.offset),
                Placed { row: text, route: Arc::clone(&row.route) },
            );
        }
        Ok(refused)
    }

    /// A row is known by its offset, and writing it again changes nothing.
    fn idempotent_by_offset(&self) -> bool {
        true
    }
}

impl Shelf {
    /// What it holds now.
    pub(crate) fn rows(&self) -> BTreeMap<(TopicPartition, Offset), Placed> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is known of a number of rows by looking at them, and not at the code that routed them.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    seen: BTreeSet<u32>,
    /// Rows in a place that is not theirs, or that nobody produced.
    pub(crate) misplaced: u64,
    pub(crate) routes: BTreeSet<Arc<str>>,
    /// Per first level: shards, and rows.
    pub(crate) tenants: BTreeMap<String, (BTreeSet<String>, u64)>,
    /// Where whatever has to stay together has been seen.
    together: BTreeMap<String, String>,
}

impl Audit {
    pub(crate) fn row(&mut self, placed: &Placed, own: &[(&str, u32)]) {
        self.routes.insert(Arc::clone(&placed.route));
        let number = placed.row.strip_prefix(r#"{"number":"#).and_then(|rest| rest.split([',', '}']).next());
        let event = number.and_then(|number| number.parse().ok()).map(|number| Event { number });
        let is_right =
            event.is_some_and(|event| event.value() == placed.row && self.place(event, placed, own));
        self.misplaced += u64::from(!is_right);
    }

    /// Whether the event is where it belongs, seen for the first time.
    fn place(&mut self, event: Event, placed: &Placed, own: &[(&str, u32)]) -> bool {
        let levels: Vec<_> = placed.route.split('/').filter_map(|level| level.split_once('=')).collect();
        let [("tenant", level), ("shard", shard), ("day", day)] = levels[..] else {
            return false;
        };
        let (expected, group) = match event.owner() {
            Owner::Disputed => return false,
            Owner::Nobody => ("_none", Some(String::new())),
            Owner::Tenant(tenant) => match own.iter().find(|(own, _)| *own == tenant) {
                Some((own, _)) => (*own, event.key().map(|key| format!("{own} {key}"))),
                None => ("_shared", Some(tenant)),
            },
        };
        let (shards, rows) = self.tenants.entry(level.to_owned()).or_default();
        shards.insert(shard.to_owned());
        *rows += 1;
        // One shard for a tenant that shares, and one for a key of a tenant that does not.
        let is_together =
            group.is_none_or(|group| self.together.entry(group).or_insert_with(|| shard.to_owned()) == shard);
        self.seen.insert(event.number) && level == expected && day == event.day() && is_together
    }

    /// How many of the events that should be there are not.
    pub(crate) fn lost(&self, records: u32) -> u64 {
        let expected = Event::all(records).filter(|event| event.owner() != Owner::Disputed);
        expected.filter(|event| !self.seen.contains(&event.number)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [(&str, u32); 1] = [("acme", 2)];

    fn placed(event: Event, tenant: &str, shard: &str) -> Placed {
        let route = format!("tenant={tenant}/shard={shard}/day={}", event.day()).into();
        Placed { row: event.value(), route }
    }

    #[test]
    fn every_wrong_place_is_counted() {
        let mut audit = Audit::default();
        let mut misplaced = |placed: &Placed| {
            let before = audit.misplaced;
            audit.row(placed, &OWN);
            audit.misplaced > before
        };
        let [acme, again, small] = [1, 501, 10].map(|number| Event { number });
        assert_eq!(acme.key(), again.key());
        assert!(!misplaced(&placed(acme, "acme", "01")));
        assert!(misplaced(&placed(acme, "acme", "01")), "twice");
        assert!(misplaced(&placed(again, "acme", "00")), "one key in two shards");
        assert!(misplaced(&placed(small, "acme", "00")), "another tenant's");
        assert!(
            misplaced(&Placed {
                route: "tenant=acme/shard=01/day=2026-11-21".into(),
                ..placed(Event { number: 2 }, "", "")
            }),
            "another day"
        );
        assert!(misplaced(&placed(Event { number: 96 }, "acme", "01")), "should have been refused");
        assert!(misplaced(&Placed { row: "{}".to_owned(), ..placed(acme, "acme", "01") }), "nobody's");
        assert_eq!(audit.lost(3), 1, "number 0");
    }
}
