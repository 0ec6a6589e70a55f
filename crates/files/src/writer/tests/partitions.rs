//! A catalogue is told of routes once their objects are visible; and names that hold the end offset.

use std::sync::Mutex;

use super::*;
use crate::{PartitionRegistry, StoredPartition};

/// What a catalogue was told, in order.
pub(super) type Notes = Arc<Mutex<Vec<String>>>;
/// What it is to answer, the next one last.
pub(super) type Answers = Arc<Mutex<Vec<Option<StageError>>>>;

/// Notes what it is told, and whether an object was visible there; refuses as often as it is asked to.
pub(super) struct Catalogue {
    pub(super) target: Arc<MemoryTarget>,
    pub(super) told: Notes,
    pub(super) refusals: Answers,
}

#[async_trait]
impl PartitionRegistry for Catalogue {
    async fn register(&self, partitions: &[StoredPartition]) -> Result<(), StageError> {
        assert!((1..=StoredPartition::BATCH_MAX).contains(&partitions.len()));
        let prefix = format!("{}/", self.target.location());
        let below: Vec<_> =
            partitions.iter().map(|one| one.location.strip_prefix(&prefix).unwrap()).collect();
        for below in &below {
            assert!(self.target.objects().keys().any(|key| key.starts_with(below)), "{below} is not visible");
        }
        if let Some(refusal) = self.refusals.lock().unwrap().pop().flatten() {
            return Err(refusal);
        }
        assert!(partitions.iter().all(|one| one.fields().len() == 1));
        self.told.lock().unwrap().extend(below.into_iter().map(str::to_owned));
        Ok(())
    }
}

/// A process with a catalogue, its notes, and what it is to answer.
fn process(target: &Arc<MemoryTarget>) -> (TestSink, Notes, Answers) {
    let (told, refusals) = (Arc::default(), Arc::default());
    let catalogue =
        Catalogue { target: Arc::clone(target), told: Arc::clone(&told), refusals: Arc::clone(&refusals) };
    (sink(target, options().with_partition_registry(catalogue)), told, refusals)
}

async fn staged(sink: &TestSink, rig: &Rig, first: i64, rows: &[Spec]) -> Box<dyn SegmentWriter<Value>> {
    let mut writer = begin(sink, rig.start(0, first)).await;
    fill(&mut *writer, 0, first, rows, &[10]).await;
    stage(&mut *writer, first, rows).await;
    writer
}

fn taken(told: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *told.lock().unwrap())
}

fn down() -> StageError {
    StageError::retry("register", "the catalogue is down")
}

const ROWS: [Spec; 3] = [(1, 20), (2, 20), (1, 20)];

#[tokio::test]
async fn a_process_tells_of_each_route_once_it_is_visible_and_the_next_process_again() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let (first, told, _) = process(&target);
    let mut writer = staged(&first, &rig, 0, &ROWS).await;
    assert!(taken(&told).is_empty(), "nothing is visible yet");
    writer.publish().await.unwrap();
    assert_eq!(taken(&told), ["topics/t/r=1/", "topics/t/r=2/"]);
    staged(&first, &rig, 3, &[(2, 20), (3, 20)]).await.publish().await.unwrap();
    assert_eq!(taken(&told), ["topics/t/r=3/"], "only what is new");
    // The process dies before the end is committed: its successor publishes the segment again.
    let objects = target.objects();
    let (second, told, _) = process(&target);
    staged(&second, &rig, 3, &[(2, 20), (3, 20)]).await.publish().await.unwrap();
    assert_eq!(taken(&told), ["topics/t/r=2/", "topics/t/r=3/"]);
    assert_eq!(target.objects(), objects);
}

#[tokio::test]
async fn a_catalogue_that_is_down_delays_and_loses_nothing() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let (sink, told, refusals) = process(&target);
    *refusals.lock().unwrap() = vec![Some(down()), Some(down())];
    let mut writer = staged(&sink, &rig, 0, &ROWS).await;
    for _ in 0..2 {
        assert_eq!(writer.publish().await.unwrap_err().class(), Class::RETRY);
        assert!(taken(&told).is_empty());
    }
    let calls = target.calls();
    let published = writer.publish().await.unwrap();
    assert_eq!(taken(&told).len(), 2);
    assert_eq!((target.calls(), published.objects.len()), (calls, 2), "objects are not sent again");
    assert!(rig.scratch_files().is_empty() && rig.pool.used() == 0);
}

/// The lane stops, and the intent stays pending: what is started next publishes the segment again.
#[tokio::test]
async fn a_catalogue_that_refuses_for_good_stops_the_lane_and_loses_nothing() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let (first, told, refusals) = process(&target);
    refusals.lock().unwrap().push(Some(StageError::fatal("register", "no such table")));
    let mut writer = staged(&first, &rig, 0, &ROWS).await;
    assert_eq!(writer.publish().await.unwrap_err().class(), Class::Fatal);
    writer.abandon().await;
    assert!(taken(&told).is_empty());
    let objects = target.objects();
    assert_eq!(objects.len(), 2, "what is visible stays so");
    let (second, told, _) = process(&target);
    let published = staged(&second, &rig, 0, &ROWS).await.publish().await.unwrap();
    assert_eq!((published.objects.len(), taken(&told).len()), (2, 2));
    assert_eq!(target.objects(), objects);
}

#[tokio::test]
async fn many_routes_are_told_of_in_batches_and_only_those_left_after_an_error() {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let (sink, told, refusals) = process(&target);
    let rows: Vec<Spec> = (0..230).map(|route| (route, 20)).collect();
    let mut writer = staged(&sink, &rig, 0, &rows).await;
    // The last is asked for first.
    *refusals.lock().unwrap() = vec![Some(down()), None];
    writer.publish().await.unwrap_err();
    assert_eq!(told.lock().unwrap().len(), StoredPartition::BATCH_MAX, "the first call, not the second");
    writer.publish().await.unwrap();
    let told = taken(&told);
    let distinct: std::collections::HashSet<_> = told.iter().collect();
    assert_eq!((told.len(), distinct.len()), (rows.len(), rows.len()), "each once");
}

#[tokio::test]
async fn what_is_not_visible_is_not_told_of() {
    for fault in [Fault::Reject, Fault::Forbid] {
        let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
        let (sink, told, _) = process(&target);
        let mut writer = staged(&sink, &rig, 0, &ROWS).await;
        target.fail(1, fault);
        writer.publish().await.unwrap_err();
        assert!(taken(&told).is_empty(), "the second object is missing");
    }
}

/// A mark that went back is read again with other cuts. With names of the start the claim meets what is there; names with
/// the end differ, and that is what the capabilities say.
#[tokio::test]
async fn names_with_the_end_claim_nothing_where_a_mark_goes_back() {
    for (file, claims) in
        [("{topic}+{partition}+{start}", true), ("{topic}+{partition}+{start}-{end}", false)]
    {
        let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
        let keys = KeyTemplate::new("topics").with_file_name(file);
        let sink = sink(&target, options().with_keys(keys));
        assert_eq!(Sink::<Value>::capabilities(&sink).weakness.is_none(), claims);
        staged(&sink, &rig, 0, &[(1, 20); 4]).await.publish().await.unwrap();
        let again = staged(&sink, &rig, 0, &[(1, 20); 4]).await.publish().await;
        assert_eq!(again.unwrap().objects.len(), 1, "the same cut is recognised under either name");
        let elsewhere = staged(&sink, &rig, 0, &[(1, 20); 3]).await.publish().await;
        assert_eq!(elsewhere.as_ref().is_err_and(|error| error.class() == Class::Fatal), claims);
        assert_eq!(target.objects().len(), if claims { 1 } else { 2 });
    }
}
