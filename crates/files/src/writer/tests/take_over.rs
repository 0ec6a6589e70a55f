//! Whole pipelines, one after the other: a registry that refuses for good stops the first one with everything visible and
//! nothing committed.

use aqueduct_core::testkit::ScriptedBroker;
use aqueduct_core::{
    Converted, Converter, Fingerprint, Guarantee, MaxRecords, Partitioner, Pipeline, Record, TopicPartition,
};

use super::partitions::{Answers, Catalogue, Notes};
use super::*;

/// Values as they are.
struct Raw;

impl Converter for Raw {
    type Output = Bytes;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Bytes>, Poison> {
        Ok(Converted::Emit(record.value_bytes().unwrap()))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "raw/1");
    }
}

/// Three routes.
struct ByOffset;

impl Partitioner<Bytes> for ByOffset {
    fn route(&self, record: &Record<'_>, _: &Bytes, path: &mut RoutePath) -> Result<(), Poison> {
        path.push_field("r", &(record.offset().get() % 3).to_string())
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "by-offset/1");
    }
}

/// Names hold both ends, which is where a take-over with another cut would show.
fn pipeline(
    broker: &ScriptedBroker,
    target: &Arc<MemoryTarget>,
    spool: &Path,
    records: u64,
    answers: &Answers,
) -> (Pipeline, Notes) {
    let told = Notes::default();
    let catalogue =
        Catalogue { target: Arc::clone(target), told: Arc::clone(&told), refusals: Arc::clone(answers) };
    let keys =
        KeyTemplate::new("topics").with_file_name("{topic}+{partition}+{start}-{end}").with_pad_width(3);
    let options = ObjectOptions::default().with_keys(keys).with_partition_registry(catalogue);
    let pipeline = Pipeline::from(broker.source().until_end())
        .convert(Raw)
        .partition(ByOffset)
        .sink(ObjectSink::new(Delimited::lines(), Arc::clone(target), options).unwrap())
        .rotate(MaxRecords(records))
        .spool_dir(spool)
        .build()
        .unwrap();
    (pipeline, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_visible_when_a_registry_refused_keeps_its_names_and_is_told_of_by_the_next_process() {
    let (scratch, broker) = (tempfile::tempdir().unwrap(), ScriptedBroker::new());
    let lane = TopicPartition::new("t", 0);
    broker.extend(&lane, (0..250).map(|number| number.to_string()));
    let target = Arc::new(MemoryTarget::new());
    let answers = Answers::default();
    answers.lock().unwrap().push(Some(StageError::fatal("register", "no such table")));
    let (first, told) = pipeline(&broker, &target, scratch.path(), 100, &answers);
    assert!(matches!(first.guarantee(), Guarantee::AtLeastOnce(why) if why.contains("end offset")));
    let error = first.run(std::future::pending()).await.unwrap_err();
    assert!(ErrorChain(&error).to_string().contains("no such table"), "{}", ErrorChain(&error));
    assert!(told.lock().unwrap().is_empty());
    let visible = target.objects();
    assert_eq!(visible.keys().next().unwrap(), "topics/t/r=0/t+0+000-099.bin");
    assert_eq!(visible.len(), 3);
    let mark = broker.mark(&lane).unwrap();
    assert_eq!((mark.next, mark.intent.unwrap().range.end()), (Offset::ZERO, Offset::new(100)));

    // It would cut at 70; the intent says 100.
    let (second, told) = pipeline(&broker, &target, scratch.path(), 70, &answers);
    let report = second.run(std::future::pending()).await.unwrap();
    assert_eq!((report.recovered, report.pending_intents), (1, 0));
    assert_eq!(broker.mark(&lane).unwrap().next, Offset::new(250));
    let objects = target.objects();
    assert!(visible.iter().all(|(key, object)| objects.get(key) == Some(object)));
    let told: Vec<_> = told.lock().unwrap().clone();
    assert_eq!(told, ["topics/t/r=0/", "topics/t/r=1/", "topics/t/r=2/"]);
    let rows = objects.values().flat_map(|object| {
        String::from_utf8(object.bytes.to_vec())
            .unwrap()
            .lines()
            .map(|line| line.parse::<i64>().unwrap())
            .collect::<Vec<_>>()
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..250).collect::<Vec<_>>(), "each once");
}
