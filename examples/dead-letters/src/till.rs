//! A sink that takes no order of less than nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct::convert::JsonValue;
use aqueduct::{
    BatchSink, FieldPath, FieldValue, Fields as _, JsonRow as _, Poison, PoisonReason, Rejected, RowBatch,
    StageError,
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
            let cents = row.value.field(&self.cents);
            let number = row.value.field(&self.order);
            let (Some(FieldValue::I64(0..)), Some(FieldValue::I64(number))) = (cents, number) else {
                let poison =
                    Poison::new(PoisonReason::Rejected, "an order has a number, and no less than 0 cents");
                refused.push(Rejected { offset: row.offset, poison });
                continue;
            };
            let mut json = Vec::new();
            match row.value.write_json(&mut json) {
                Ok(()) => {
                    rows.insert(number.unsigned_abs(), String::from_utf8_lossy(&json).into_owned());
                }
                Err(poison) => refused.push(Rejected { offset: row.offset, poison }),
            }
        }
        Ok(refused)
    }
}
