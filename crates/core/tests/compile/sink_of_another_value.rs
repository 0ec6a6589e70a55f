//! The sink stores bytes and is given numbers.

mod stages;

use aqueduct_core::Pipeline;
use aqueduct_core::testkit::{MemorySink, MemoryStore, ScriptedBroker};
use bytes::Bytes;
use stages::{Length, OneRoute};

fn main() {
    let _ = Pipeline::from(ScriptedBroker::new().source())
        .convert(Length)
        .partition(OneRoute)
        .sink(MemorySink::<Bytes>::bytes(&MemoryStore::new()));
}
