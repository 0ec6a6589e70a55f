//! The layout reads a field of bytes.

mod stages;

use aqueduct_core::Pipeline;
use aqueduct_core::testkit::ScriptedBroker;
use stages::{ByService, Raw};

fn main() {
    let _ = Pipeline::from(ScriptedBroker::new().source()).convert(Raw).partition(ByService);
}
