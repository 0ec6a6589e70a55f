//! A function is no converter: it has no name that a replay could be checked against.

use aqueduct_core::testkit::ScriptedBroker;
use aqueduct_core::{Pipeline, Record};

fn main() {
    let _ = Pipeline::from(ScriptedBroker::new().source()).convert(|record: &Record<'_>| record.size());
}
