//! What pipelines emit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::testkit::{
    Fault, Faults, Faulty, Gate, MemoryDeadLetters, MemorySink, ScriptedRecord, Step,
};
use aqueduct_core::{
    Class, CutReason, MaxRecords, Offset, OnPoison, PipelineError, PoisonReason, PoisonStage, Report,
    SkipReason, TopicPartition, metrics_reference,
};
use bytes::Bytes;
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use crate::stages::{many, never, pipeline, pipeline_into, values, world};

/// Emits everything there is, in several pipelines of one process; one test, because a process has one recorder and a
/// snapshot empties it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_emitted_is_the_reference_and_adds_up() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();

    let clean = everything_ends_well().await;
    let interrupted = a_segment_is_given_up_and_finished_by_the_next().await;
    a_foreign_mark_is_adopted().await;
    a_record_stops_its_lane().await;
    few_routes_and_many().await;

    let emitted: Vec<Series> = snapshotter.snapshot().into_vec().into_iter().map(Series::from).collect();
    only_the_reference_is_emitted(&emitted);
    labels_are_bounded(&emitted);

    let of = |pipeline: &str, name: &str| {
        let series =
            emitted.iter().filter(|series| series.label("pipeline") == pipeline && series.name == name);
        series.map(|series| series.value).collect::<Vec<u64>>()
    };
    let sum = |pipeline: &str, name: &str| of(pipeline, name).iter().sum::<u64>();
    // What was due is durable, lane by lane.
    let due = of("clean", "aqueduct_records_due_total");
    assert_eq!(due, of("clean", "aqueduct_records_durable_total"));
    assert_eq!(due, [600, 600]);
    for (name, reported) in [
        ("aqueduct_records_due_total", clean.records),
        ("aqueduct_records_durable_total", clean.durable),
        ("aqueduct_rows_published_total", clean.rows),
        ("aqueduct_records_skipped_total", clean.skipped),
        ("aqueduct_dead_letters_total", clean.dead_letters),
        ("aqueduct_objects_total", clean.objects),
        ("aqueduct_object_bytes_total", clean.bytes),
        ("aqueduct_retries_total", clean.retries),
        // One observation a segment.
        ("aqueduct_publish_seconds", clean.segments),
        ("aqueduct_exactly_once", 1),
    ] {
        assert_eq!(sum("clean", name), reported, "{name}: {clean}");
    }
    assert!(clean.skipped > 0 && clean.dead_letters > 0 && clean.retries > 0, "{clean}");
    assert_eq!(sum("given-up", "aqueduct_segments_abandoned_total"), 1);
    assert_eq!(sum("interrupted", "aqueduct_intents_recovered_total"), 1, "{interrupted}");
    assert_eq!(sum("foreign", "aqueduct_foreign_marks_total"), 1);
    assert_eq!(sum("stopped", "aqueduct_lane_failures_total"), 1);
    // Nothing is open, pending or taken once a pipeline has ended, also where it was given up.
    for pipeline in ["clean", "given-up", "interrupted"] {
        for gauge in ["aqueduct_pending_intents", "aqueduct_segment_age_seconds"] {
            let values = of(pipeline, gauge);
            assert!(
                !values.is_empty() && values.iter().all(|value| *value == 0),
                "{pipeline} {gauge}: {values:?}"
            );
        }
    }
}

/// Two lanes with tombstones, poison, a lost answer, and a second in which somebody looks.
async fn everything_ends_well() -> Report {
    let (broker, store, lane) = world([]);
    for lane in [lane, TopicPartition::new("orders", 1)] {
        broker.extend(&lane, values(498).into_iter().map(Bytes::from));
        broker.extend(&lane, vec![ScriptedRecord::tombstone(); 51]);
        broker.extend(&lane, vec![Bytes::from_static(b"bad"); 51]);
    }
    let faults = Faults::new();
    faults.next(Step::Publish, Fault::FailAfterWrite(Class::RETRY));
    // Longer than the gauges' and the lanes' ticks.
    faults.next(Step::Publish, Fault::Slow(Duration::from_millis(1_500)));
    let letters = Arc::new(MemoryDeadLetters::new());
    let sink = Faulty::new(MemorySink::<Bytes>::bytes(&store), &faults);
    pipeline_into(broker.source().until_end().batch_records(64), sink)
        .name("clean")
        .rotate(MaxRecords(200))
        .on_poison(OnPoison::DeadLetter(letters))
        .build()
        .unwrap()
        .run(never())
        .await
        .unwrap()
}

/// Aborted while a segment is on its way, then started again.
async fn a_segment_is_given_up_and_finished_by_the_next() -> Report {
    let (broker, store, lane) = many(100);
    let faults = Faults::new();
    let gate = Gate::new();
    faults.next(Step::Publish, Fault::Hold(gate.clone()));
    let sink = Faulty::new(MemorySink::<Bytes>::bytes(&store), &faults);
    let first = pipeline_into(broker.source().until_end(), sink)
        .name("given-up")
        .rotate(MaxRecords(100))
        .build()
        .unwrap();
    let handle = first.handle();
    let (given_up, ()) = tokio::join!(first.run(never()), async {
        gate.arrived().await;
        handle.abort().await;
    });
    assert_eq!(given_up.unwrap().abandoned, 1, "a lane that was already finishing says what it gave up");
    assert!(broker.mark(&lane).unwrap().intent.is_some());
    let second = pipeline(broker.source().until_end(), &store).name("interrupted").build().unwrap();
    second.run(never()).await.unwrap()
}

async fn a_foreign_mark_is_adopted() {
    let (broker, store, lane) = many(10);
    broker.commit_from_outside(&lane, Offset::new(5), "");
    let built =
        pipeline(broker.source().until_end(), &store).name("foreign").adopt_foreign_marks(true).build();
    built.unwrap().run(never()).await.unwrap();
}

async fn a_record_stops_its_lane() {
    let (broker, store, _) = world(["a", "bad"]);
    let built = pipeline(broker.source().until_end(), &store).name("stopped").build().unwrap();
    assert!(matches!(built.run(never()).await, Err(PipelineError::Lane { .. })));
}

/// The same number of records over one route and over two hundred, with as many keys.
async fn few_routes_and_many() {
    for (name, routes) in [("one-route", 1), ("many-routes", 200)] {
        let texts: Vec<_> =
            (0..200_u32).map(|index| char::from_u32(0x4E00 + index % routes).unwrap()).collect();
        let (broker, store, _) = world([]);
        let lane = TopicPartition::new("orders", 0);
        for text in &texts {
            let record = ScriptedRecord::new(text.to_string());
            broker.append(&lane, record.key(text.to_string()));
        }
        let built = pipeline(broker.source().until_end(), &store).name(name).build().unwrap();
        built.run(never()).await.unwrap();
    }
}

/// One series of the snapshot.
#[derive(Debug)]
struct Series {
    name: String,
    kind: &'static str,
    labels: BTreeMap<String, String>,
    /// A histogram's number of observations; gauges are whole numbers here.
    value: u64,
}

impl Series {
    fn from(
        (key, _, _, value): (
            metrics_util::CompositeKey,
            Option<metrics::Unit>,
            Option<metrics::SharedString>,
            DebugValue,
        ),
    ) -> Self {
        let kind = match key.kind() {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let (_, key) = key.into_parts();
        Self {
            name: key.name().to_owned(),
            kind,
            labels: key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect(),
            value: match value {
                DebugValue::Counter(count) => count,
                DebugValue::Gauge(value) => format!("{value:.0}").parse().unwrap(),
                DebugValue::Histogram(values) => values.len() as u64,
            },
        }
    }

    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

fn only_the_reference_is_emitted(emitted: &[Series]) {
    for series in emitted {
        let Some(listed) = metrics_reference().iter().find(|listed| listed.name == series.name) else {
            panic!("{} is emitted and not in the reference", series.name);
        };
        assert_eq!(series.kind, listed.kind, "{}", series.name);
        let labels: BTreeSet<&str> = series.labels.keys().map(String::as_str).collect();
        let promised =
            listed.labels.split(", ").filter(|label| !label.is_empty()).chain(["pipeline"]).collect();
        assert_eq!(labels, promised, "the labels of {}", series.name);
    }
    let names: BTreeSet<&str> = emitted.iter().map(|series| series.name.as_str()).collect();
    let silent: Vec<_> =
        metrics_reference().iter().map(|listed| listed.name).filter(|name| !names.contains(name)).collect();
    assert!(silent.is_empty(), "in the reference and never emitted: {silent:?}");
}

/// Values of labels come from the configuration and from closed sets.
fn labels_are_bounded(emitted: &[Series]) {
    let stages = [PoisonStage::Convert, PoisonStage::Partition, PoisonStage::Encode, PoisonStage::Target];
    for series in emitted {
        let allowed: Vec<&str> = match series.name.as_str() {
            "aqueduct_records_skipped_total" => {
                vec![
                    SkipReason::Tombstone.as_str(),
                    SkipReason::Filtered.as_str(),
                    SkipReason::Poison.as_str(),
                ]
            }
            "aqueduct_segments_total" => {
                vec![
                    CutReason::Records.as_str(),
                    CutReason::Drain.as_str(),
                    CutReason::Pinned.as_str(),
                    CutReason::Stop.as_str(),
                ]
            }
            "aqueduct_dead_letters_total" => {
                assert!(stages.iter().any(|stage| stage.as_str() == series.label("stage")), "{series:?}");
                vec![PoisonReason::Malformed.as_str()]
            }
            _ => continue,
        };
        assert!(allowed.contains(&series.label("reason")), "{series:?}");
    }
    // Those of the process come with the clock, if a run takes long enough.
    let of_lanes = |series: &&Series| !series.label("topic").is_empty();
    let count = |pipeline: &str| {
        emitted.iter().filter(of_lanes).filter(|series| series.label("pipeline") == pipeline).count()
    };
    assert_eq!(count("one-route"), count("many-routes"), "the number of series depends on data");
}
