//! The last stage is missing.

mod stages;

use aqueduct_core::Pipeline;
use aqueduct_core::testkit::ScriptedBroker;
use stages::{OneRoute, Raw};

fn main() {
    let _ = Pipeline::from(ScriptedBroker::new().source()).convert(Raw).partition(OneRoute).build();
}
