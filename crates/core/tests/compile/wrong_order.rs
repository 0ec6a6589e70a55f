//! A partitioner cannot be checked against a converter that is not there yet.

mod stages;

use aqueduct_core::Pipeline;
use aqueduct_core::testkit::ScriptedBroker;
use stages::{OneRoute, Raw};

fn main() {
    let _ = Pipeline::from(ScriptedBroker::new().source()).partition(OneRoute).convert(Raw);
}
