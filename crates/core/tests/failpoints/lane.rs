//! Panics and failed operations of a lane.

use aqueduct_core::testkit::{MemoryStore, ScriptedBroker};
use aqueduct_core::{Failpoint, LaneError, MaxRecords, PipelineError, Report, configure_failpoints};

use crate::stages::{all, many, never, pipeline};

/// Those in the lane's own code: what sinks and sources reach is theirs to show.
const PANICS: &[Failpoint] = &[
    Failpoint::FillBatch,
    Failpoint::FillBeforeBegin,
    Failpoint::SpillBefore,
    Failpoint::SpillAfter,
    Failpoint::CutBeforeStage,
    Failpoint::CutStaged,
    Failpoint::CutBeforeHandOver,
    Failpoint::IntentBeforeCommit,
    Failpoint::IntentCommitted,
    Failpoint::PublishAfter,
    Failpoint::CommitBefore,
    Failpoint::CommitAfter,
    Failpoint::MarkBeforeCommit,
    Failpoint::MarkCommitted,
    Failpoint::ShutdownDraining,
];

async fn finish(broker: &ScriptedBroker, store: &MemoryStore) -> Result<Report, PipelineError> {
    let pipeline = pipeline(broker.source().until_end(), store).rotate(MaxRecords(70)).build().unwrap();
    pipeline.run(never()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_panics_or_fails_at_a_failpoint_stores_everything_once() {
    for point in PANICS {
        let (broker, store, lane) = many(250);
        configure_failpoints(&format!("{}=1*panic", point.name())).unwrap();
        let error = finish(&broker, &store).await.expect_err(point.name());
        let PipelineError::Lane { source, .. } = error else { panic!("{}: {error}", point.name()) };
        assert!(matches!(*source, LaneError::Panicked { .. }), "{}: {source}", point.name());
        let report = finish(&broker, &store).await.unwrap();
        assert_eq!(store.offsets(&lane), all(250), "{}", point.name());
        assert_eq!(report.pending_intents, 0, "{}", point.name());
    }
    for point in [Failpoint::SpillBefore, Failpoint::CutBeforeStage] {
        let (broker, store, lane) = many(250);
        configure_failpoints(&format!("{}=2*return(retry)", point.name())).unwrap();
        let report = finish(&broker, &store).await.unwrap();
        assert_eq!((store.offsets(&lane), report.retries), (all(250), 2), "{}", point.name());
    }
}
