//! A sink of one method becomes a sink by `Batched`.

mod stages;

use aqueduct_core::testkit::ScriptedBroker;
use aqueduct_core::{BatchSink, Pipeline, Rejected, RowBatch, StageError};
use bytes::Bytes;
use stages::{OneRoute, Raw};

struct Print;

#[async_trait::async_trait]
impl BatchSink<Bytes> for Print {
    fn name(&self) -> &'static str {
        "print/1"
    }

    async fn write(&self, _batch: RowBatch<'_, Bytes>) -> Result<Vec<Rejected>, StageError> {
        Ok(Vec::new())
    }
}

fn main() {
    let _ = Pipeline::from(ScriptedBroker::new().source()).convert(Raw).partition(OneRoute).sink(Print);
}
