//! A sink that takes no order of less than nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct::convert::JsonValue;
use aqueduct::{
    BatchSink, FieldPath, FieldValue, Fields as _, Fingerprint, JsonRow as _, Poison, PoisonReason, Rejected,
    RepairBatch, RepairSink, Repaired, RowBatch, StageError,
};
use async_trait::async_trait;

/// Rows by the order's number. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Till {
    cents: FieldPath,
    order: FieldPath,
    rows: Arc<Mutex<BTreeMap<u64, String>>>,
}

impl Till {
    pub(crate) fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let (cents, order) = (FieldPath::parse("cents")?, FieldPath::parse("order")?);
        Ok(Self { cents, order, rows: Arc::default() })
    }

    /// An order's number and row, if the till takes it.
    fn read(&self, order: &JsonValue) -> Result<(u64, String), Poison> {
        let (cents, number) = (order.field(&self.cents), order.field(&self.order));
        let (Some(FieldValue::I64(0..)), Some(FieldValue::I64(number))) = (cents, number) else {
            return Err(Poison::new(
                PoisonReason::Rejected,
                "an order has a number, and no less than 0 cents",
            ));
        };
        let mut json = Vec::new();
        order.write_json(&mut json)?;
        Ok((number.unsigned_abs(), String::from_utf8_lossy(&json).into_owned()))
    }

    /// The numbers of the orders that are here.
    pub(crate) fn orders(&self) -> Vec<u64> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

#[async_trait]
impl BatchSink<JsonValue> for Till {
    fn name(&self) -> &'static str {
        "till/1"
    }

    // Whoever writes the same order again changes nothing.
    fn idempotent_by_offset(&self) -> bool {
        true
    }

    async fn write(&self, batch: RowBatch<'_, JsonValue>) -> Result<Vec<Rejected>, StageError> {
        let mut refused = Vec::new();
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for row in batch.rows {
            match self.read(&row.value) {
                Ok((number, json)) => drop(rows.insert(number, json)),
                Err(poison) => refused.push(Rejected { offset: row.offset, poison }),
            }
        }
        Ok(refused)
    }
}

/// The till knows an order by its number, so it decides by itself what is there: like a table with a key.
#[async_trait]
impl RepairSink<JsonValue> for Till {
    async fn repair(&self, batch: RepairBatch<'_, JsonValue>) -> Result<Repaired, StageError> {
        let mut repaired = Repaired::default();
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for row in batch.rows {
            match self.read(&row.value) {
                Ok((number, _)) if rows.contains_key(&number) => repaired.before += 1,
                Ok((number, json)) => {
                    rows.insert(number, json);
                    repaired.stored += 1;
                }
                Err(poison) => repaired.refused.push(Rejected { offset: row.record.offset(), poison }),
            }
        }
        Ok(repaired)
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("sink", BatchSink::name(self));
    }
}
