//! A sink that has to ask before it can encode rows of a route.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aqueduct_core::testkit::{Fault, Faults, Faulty, MemoryDeadLetters, MemorySink, MemoryStore, Step};
use aqueduct_core::{
    Begun, Class, Envelope, Fingerprint, MaxRecords, OffsetRange, OnPoison, Partitioner, Pipeline, Poison,
    PoisonBreaker, PoisonReason, Published, Record, Rejected, Replay, RoutePath, SegmentStart, SegmentWriter,
    Sink, SinkCapabilities, StageError, Staged,
};
use async_trait::async_trait;
use bytes::Bytes;

use crate::stages::{Raw, all, many, never, pipeline_into, scratch, world};

/// Notes what it is told, and takes rows of open routes only. Rows of the route `first=z` are refused.
#[derive(Clone, Debug)]
struct Asking {
    inner: MemorySink<Bytes>,
    opens_routes: bool,
    /// Routes that were opened, segment by segment.
    told: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Asking {
    fn new(store: &MemoryStore) -> Self {
        Self { inner: MemorySink::bytes(store), opens_routes: true, told: Arc::default() }
    }

    fn told(&self) -> Vec<Vec<String>> {
        self.told.lock().unwrap().clone()
    }
}

struct AskingWriter {
    inner: Box<dyn SegmentWriter<Bytes>>,
    sink: Asking,
    segment: usize,
    open: HashSet<String>,
}

#[async_trait]
impl Sink<Bytes> for Asking {
    async fn begin(&self, at: SegmentStart) -> Result<Begun<Bytes>, StageError> {
        Ok(match self.inner.begin(at).await? {
            Begun::Fill(inner) => {
                let mut told = self.told.lock().unwrap();
                told.push(Vec::new());
                let (segment, open) = (told.len() - 1, HashSet::new());
                Begun::Fill(Box::new(AskingWriter { inner, sink: self.clone(), segment, open }))
            }
            published @ Begun::AlreadyPublished(_) => published,
        })
    }

    fn capabilities(&self) -> SinkCapabilities {
        let mut capabilities = Sink::<Bytes>::capabilities(&self.inner);
        capabilities.opens_routes = self.opens_routes;
        capabilities
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        Sink::<Bytes>::fingerprint(&self.inner, parts);
    }
}

#[async_trait]
impl SegmentWriter<Bytes> for AskingWriter {
    async fn open_route(&mut self, path: &RoutePath) -> Result<(), StageError> {
        tokio::task::yield_now().await;
        self.sink.told.lock().unwrap()[self.segment].push(path.as_str().to_owned());
        self.open.insert(path.as_str().to_owned());
        Ok(())
    }

    fn append(&mut self, envelope: Envelope<'_, Bytes>) -> Result<(), Poison> {
        let path = envelope.path.as_str();
        assert_eq!(self.open.contains(path), self.sink.opens_routes, "{path}");
        if path == "first=z" {
            return Err(Poison::new(PoisonReason::InvalidRoute, "there is no such table"));
        }
        self.inner.append(envelope)
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        self.inner.spill().await
    }

    async fn stage(&mut self, range: OffsetRange) -> Result<Staged, StageError> {
        self.inner.stage(range).await
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        self.inner.publish().await
    }

    async fn abandon(&mut self) {
        self.inner.abandon().await;
    }

    fn encoded_bytes(&self) -> u64 {
        self.inner.encoded_bytes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_opened_once_a_segment_before_its_first_record() {
    for opens_routes in [true, false] {
        let (broker, store, lane) = many(250);
        let sink = Asking { opens_routes, ..Asking::new(&store) };
        let built = pipeline_into(broker.source().until_end().batch_records(40), sink.clone())
            .rotate(MaxRecords(100))
            .build();
        let report = built.unwrap().run(never()).await.unwrap();
        assert_eq!(store.offsets(&lane), all(250));
        assert_eq!((report.records, report.rows, report.segments), (250, 250, 3), "none is counted twice");
        let routes = ["a", "b", "c", "d", "e"].map(|first| format!("first={first}"));
        let expected = if opens_routes { vec![routes.to_vec(); 3] } else { vec![Vec::new(); 3] };
        assert_eq!(sink.told(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_waited_for_at_the_record_that_met_it() {
    for fault in
        [Fault::Reject(Class::RETRY), Fault::FailAfterWrite(Class::RETRY), Fault::Reject(Class::Unknown)]
    {
        let (broker, store, lane) = many(250);
        let faults = Faults::new();
        faults.on(Step::OpenRoute, 1, fault.clone()).on(Step::OpenRoute, 8, fault.clone());
        let sink = Faulty::new(Asking::new(&store), &faults);
        let built = pipeline_into(broker.source().until_end().batch_records(40), sink)
            .rotate(MaxRecords(100))
            .build();
        let report = built.unwrap().run(never()).await.unwrap();
        assert_eq!(store.offsets(&lane), all(250), "{fault:?}");
        assert_eq!((report.records, report.retries), (250, 2), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_repetition_mends_stops_the_lane_and_stores_nothing_of_the_segment() {
    let (broker, store, lane) = many(250);
    let faults = Faults::new();
    faults.on(Step::OpenRoute, 7, Fault::Reject(Class::Fatal));
    let sink = Faulty::new(Asking::new(&store), &faults);
    let built =
        pipeline_into(broker.source().until_end().batch_records(40), sink).rotate(MaxRecords(100)).build();
    built.unwrap().run(never()).await.unwrap_err();
    assert_eq!(store.offsets(&lane), all(100), "the segment before it is published");
}

/// Routes whose records are all refused are remembered, so that they are not opened for each of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_refused_records_is_no_route() {
    let values: Vec<String> = (0..90).map(|n| format!("{}-{n}", ["z", "a", "b"][n % 3])).collect();
    let (broker, store, lane) = world(values.iter().map(String::as_str));
    let (letters, sink) = (MemoryDeadLetters::new(), Asking::new(&store));
    let report = pipeline_into(broker.source().until_end().batch_records(40), sink.clone())
        .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
        .poison_breaker(PoisonBreaker::more_than(30, 90))
        .rotate(MaxRecords(1_000))
        .build()
        .unwrap()
        .run(never())
        .await
        .unwrap();
    assert_eq!((report.records, report.rows, report.dead_letters), (90, 60, 30));
    assert_eq!(
        store.offsets(&lane),
        all(90).into_iter().filter(|offset| offset % 3 != 0).collect::<Vec<_>>()
    );
    assert_eq!(sink.told(), [["first=z", "first=a", "first=b"]]);
}

/// A clock of its own: it gives another route whenever it is asked, as it may, for it says so.
#[derive(Debug, Default)]
struct ByClock(AtomicU64);

impl Partitioner<Bytes> for ByClock {
    fn route(&self, _: &Record<'_>, _: &Bytes, path: &mut RoutePath) -> Result<(), Poison> {
        path.push_field("at", &self.0.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn replay(&self) -> Replay {
        Replay::WallClock
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "by-clock/1");
    }
}

/// A lane that asked for the route again would open one after the other, and never store the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_goes_to_the_route_that_was_opened_for_it() {
    let (broker, store, lane) = many(5);
    let sink = Asking::new(&store);
    let report = Pipeline::from(broker.source().until_end().batch_records(2))
        .convert(Raw)
        .partition(ByClock::default())
        .sink(sink.clone())
        .spool_dir(scratch())
        .build()
        .unwrap()
        .run(never())
        .await
        .unwrap();
    assert_eq!((report.records, store.offsets(&lane)), (5, all(5)));
    assert_eq!(sink.told(), [["at=0", "at=1", "at=2", "at=3", "at=4"]]);
}
