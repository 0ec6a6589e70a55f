//! Without a partitioner there is no sink to choose.

mod stages;

use aqueduct_core::Pipeline;
use aqueduct_core::testkit::{MemorySink, MemoryStore, ScriptedBroker};
use bytes::Bytes;
use stages::Raw;

fn main() {
    let _ = Pipeline::from(ScriptedBroker::new().source())
        .convert(Raw)
        .sink(MemorySink::<Bytes>::bytes(&MemoryStore::new()));
}
