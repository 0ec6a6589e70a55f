//! A sink that keeps rows where the program can look at them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct::{BatchSink, JsonRow as _, Rejected, RowBatch, StageError};
use async_trait::async_trait;
use custom_converter::fixed_width::Line;

use crate::broker::Reading;

/// Rows by route. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    rows: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

#[async_trait]
impl BatchSink<Line> for Shelf {
    fn name(&self) -> &'static str {
        "shelf/1"
    }

    async fn write(&self, batch: RowBatch<'_, Line>) -> Result<Vec<Rejected>, StageError> {
        let mut refused = Vec::new();
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for row in batch.rows {
            let mut json = Vec::new();
            match row.value.write_json(&mut json) {
                Ok(()) => {
                    let text = String::from_utf8_lossy(&json).into_owned();
                    rows.entry(row.route.to_string()).or_default().push(text);
                }
                Err(poison) => refused.push(Rejected { offset: row.offset, poison }),
            }
        }
        Ok(refused)
    }
}

impl Shelf {
    /// How many rows there are, and how many of them are not what they should be or not where they should be.
    pub(crate) fn compare(&self, expected: impl Iterator<Item = Reading>) -> (u64, u64) {
        let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for reading in expected {
            // A slash in a value makes no level of its own.
            let route = format!("sensor={}", reading.sensor().replace('/', "%2F"));
            wanted.entry(route).or_default().push(reading.row());
        }
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut count, mut wrong) = (0, 0);
        for (route, found) in rows.iter() {
            let mut found = found.clone();
            let mut wanted = wanted.remove(route).unwrap_or_default();
            found.sort_unstable();
            wanted.sort_unstable();
            count += found.len() as u64;
            wrong += found.iter().filter(|row| wanted.binary_search(row).is_err()).count() as u64;
            found.dedup();
            wrong += (found.len() as u64).abs_diff(wanted.len() as u64);
        }
        (count, wrong)
    }

    /// The first row of the first route.
    pub(crate) fn example(&self) -> Option<(String, String)> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().next().and_then(|(route, rows)| Some((route.clone(), rows.first()?.clone())))
    }
}
