//! The others are this, with one thing wrong.

mod stages;

use aqueduct_core::Pipeline;
use aqueduct_core::testkit::{MemorySink, MemoryStore, ScriptedBroker};
use bytes::Bytes;
use stages::{OneRoute, Raw};

fn main() {
    let built = Pipeline::from(ScriptedBroker::new().source())
        .convert(Raw)
        .partition(OneRoute)
        .sink(MemorySink::<Bytes>::bytes(&MemoryStore::new()))
        .build();
    assert!(built.is_ok());
}
