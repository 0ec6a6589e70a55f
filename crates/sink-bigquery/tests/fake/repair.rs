//! Letters driven again into tables, by whomever, however often, and wherever they die.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_converters::JsonValue;
use aqueduct_core::{
    Converted, Converter, ErrorChain, Fingerprint, LetterFilter, LetterSource, Offset, OffsetRange,
    OwnedRecord, Partitioner, Poison, PoisonReason, Record, Redrive, RedriveError, RedriveReport, RoutePath,
    SkipReason, StageError, StoredLetter, Timestamp, TopicPartition, UnreadableLetter,
};
use aqueduct_sink_bigquery::testkit::{FakeBigQuery, FakeCall, FakeFault};
use aqueduct_sink_bigquery::{
    BigQueryRepairs, BigQuerySinkBuilder, Changes, Completeness, Credentials, Delivery, DueRecords, Field,
    FieldType, TableName, TableOptions, TableSchema,
};
use async_trait::async_trait;
use futures::StreamExt as _;
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Process, builder, fake, one_table, table};

/// What the pipeline refused and this takes, with its version in the text; `bad` is never taken.
#[derive(Clone, Copy)]
struct Corrected(&'static str);

impl Converter for Corrected {
    type Output = JsonValue;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<JsonValue>, Poison> {
        match record.value() {
            None => Ok(Converted::Skip(SkipReason::Tombstone)),
            Some(b"bad") => Err(Poison::new(PoisonReason::Malformed, "still bad")),
            Some(_) => {
                let text = format!(r#"{{"n": {}, "text": "{}"}}"#, record.offset(), self.0);
                Ok(Converted::Emit(JsonValue::parse(text.into()).unwrap()))
            }
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "corrected/1");
    }
}

/// To one of so many tables by the offset; none is the topic's own.
#[derive(Clone, Copy)]
struct Over(i64);

impl Partitioner<JsonValue> for Over {
    fn route(&self, record: &Record<'_>, _: &JsonValue, path: &mut RoutePath) -> Result<(), Poison> {
        match record.offset().get() % self.0 {
            0 => Ok(()),
            rest => path.push(&format!("t{rest}")),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "over/1");
    }
}

fn lane(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn letter(partition: i32, offset: i64, value: &str) -> StoredLetter {
    StoredLetter {
        record: OwnedRecord {
            lane: lane(partition),
            offset: Offset::new(offset),
            timestamp: Timestamp::Create(offset),
            key: None,
            value: Some(value.as_bytes().to_vec().into()),
            headers: Vec::new(),
        },
        pipeline: "orders".to_owned(),
        pipeline_version: String::new(),
        stage: "convert".to_owned(),
        reason: "malformed".to_owned(),
        detail: String::new(),
    }
}

fn letters(count: i64) -> Vec<StoredLetter> {
    (0..count).map(|offset| letter(0, offset, "good")).collect()
}

struct Letters(std::vec::IntoIter<StoredLetter>);

#[async_trait]
impl LetterSource for Letters {
    async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError> {
        Ok(self.0.next().map(Ok))
    }
}

async fn repairs(builder: BigQuerySinkBuilder) -> BigQueryRepairs {
    builder.build_repairs().await.unwrap()
}

async fn drive(
    repairs: BigQueryRepairs,
    (version, over): (&'static str, i64),
    letters: &[StoredLetter],
) -> Result<RedriveReport, RedriveError> {
    let redrive = Redrive::new(Corrected(version), Over(over), repairs);
    redrive.run(&mut Letters(Vec::from(letters).into_iter())).await
}

async fn run(fake: &FakeBigQuery, letters: &[StoredLetter]) -> RedriveReport {
    drive(repairs(builder(fake)).await, ("", 3), letters).await.unwrap()
}

const TABLES: [&str; 3] = ["orders", "t1", "t2"];

/// Every row, by partition and offset, with its text; each once, and each with a claim if `claimed`.
fn audit(fake: &FakeBigQuery) -> BTreeMap<(i64, i64), String> {
    let claims: BTreeMap<(i64, i64), String> = fake
        .rows(&table("aqueduct_repairs"))
        .into_iter()
        .filter_map(|row| {
            let of = |column: &str| row.columns.get(column).cloned().unwrap_or_default();
            Some(((of("partition").as_i64()?, of("offset").as_i64()?), of("table").as_str()?.to_owned()))
        })
        .collect();
    let mut all = BTreeMap::new();
    for name in TABLES {
        for row in fake.rows(&table(name)).into_iter().filter(|row| row.visible) {
            let of = |column: &str| row.columns[column].as_i64().unwrap();
            let place = (of("_kafka_partition"), of("_kafka_offset"));
            assert_eq!((&row.columns["_kafka_topic"], of("n")), (&"orders".into(), place.1));
            let text = row.columns["text"].as_str().unwrap_or_default().to_owned();
            if text != "live" {
                assert_eq!(claims.get(&place), Some(&table(name).to_string()), "{place:?} is in {name}");
            }
            let twice = all.insert(place, text);
            assert_eq!(twice, None, "{place:?} is stored twice, also in {name}");
        }
    }
    all
}

fn offsets(fake: &FakeBigQuery) -> Vec<i64> {
    audit(fake).into_keys().map(|(_, offset)| offset).collect()
}

fn staging(fake: &FakeBigQuery) -> Vec<TableName> {
    fake.tables().into_iter().filter(|name| name.table().starts_with("aqueduct_repair_")).collect()
}

#[tokio::test]
async fn letters_are_stored_in_their_tables_and_only_once() {
    let fake = fake().await;
    let report = run(&fake, &letters(7)).await;
    assert_eq!((report.read, report.selected, report.repaired, report.objects), (7, 7, 7, 3));
    assert_eq!(offsets(&fake), (0..7).collect::<Vec<_>>());
    assert_eq!(fake.rows(&table("t1")).len(), 2);
    assert_eq!(staging(&fake), [], "nothing is left of the way");
    let creates = fake.calls(FakeCall::CreateWriteStream);
    let report = run(&fake, &letters(7)).await;
    assert_eq!((report.selected, report.repaired, report.before, report.objects), (7, 0, 7, 0));
    assert_eq!(fake.calls(FakeCall::CreateWriteStream), creates, "what is claimed is not even written");
    let more: Vec<_> = letters(12).into_iter().chain(letters(12)).collect();
    let report = run(&fake, &more).await;
    assert_eq!((report.read, report.repeated, report.repaired, report.before), (24, 12, 5, 7));
    assert_eq!(offsets(&fake), (0..12).collect::<Vec<_>>());
    // A claim says by which job, and where.
    let claims = fake.rows(&table("aqueduct_repairs"));
    assert_eq!(claims.len(), 13, "a turn and twelve records");
    let ninth = claims.iter().find(|row| row.columns["offset"] == 8).unwrap();
    assert_eq!(ninth.columns["table"], "p.d.t2");
    assert!(ninth.columns["claim"].as_str().unwrap().starts_with("aqueduct_repair_"), "{ninth:?}");
}

#[tokio::test]
async fn what_is_still_bad_or_refused_is_reported_and_can_be_repaired_later() {
    let fake = fake().await;
    let mut all = letters(6);
    all[1].record.value = Some("bad".into());
    all[2].record.value = None;
    let fake = {
        fake.refuse_rows(|row| row["n"] == 4);
        fake
    };
    let report = run(&fake, &all).await;
    assert_eq!((report.repaired, report.skipped, report.poisoned(), report.selected), (3, 1, 2, 6));
    assert_eq!(report.still_poison[&("convert", "malformed")].offset, Offset::new(1));
    let refused = &report.still_poison[&("encode", "rejected")];
    assert_eq!((refused.offset, refused.count), (Offset::new(4), 1));
    fake.refuse_rows(|_| false);
    let report = run(&fake, &letters(6)).await;
    assert_eq!((report.repaired, report.before), (3, 3));
    assert_eq!(offsets(&fake), (0..6).collect::<Vec<_>>());
    assert_eq!(staging(&fake), []);
}

/// Another version of the correction has other tables: what the first one has stored stays where it is.
#[tokio::test]
async fn another_correction_with_other_tables_stores_nothing_again() {
    let fake = fake().await;
    run(&fake, &letters(4)).await;
    let report = drive(repairs(builder(&fake)).await, ("new", 2), &letters(8)).await.unwrap();
    assert_eq!((report.repaired, report.before), (4, 4));
    assert_eq!(offsets(&fake), (0..8).collect::<Vec<_>>());
    let table = |name: &str| fake.rows(&table(name)).len();
    assert_eq!((table("orders"), table("t1"), table("t2")), (4, 3, 1));
}

/// A record with a letter that the pipeline has stored all the same, once its letter was sent.
#[tokio::test]
async fn a_row_of_the_pipeline_is_met_unless_nobody_looks() {
    for looks in [true, false] {
        let fake = fake().await;
        fake.create_table(&table("orders"), &columns());
        let row = json!({ "n": 3, "text": "live", "_kafka_topic": "orders", "_kafka_partition": 0, "_kafka_offset": 3 });
        fake.add_row(&table("orders"), row);
        let repairs = repairs(builder(&fake)).await.look_at_rows(looks);
        let report = drive(repairs, ("", 1), &letters(5)).await.unwrap();
        assert_eq!((report.repaired, report.before), if looks { (4, 1) } else { (5, 0) });
        if looks {
            assert_eq!(audit(&fake)[&(0, 3)], "live");
            assert_eq!(run(&fake, &letters(5)).await.repaired, 0);
        }
        assert_eq!(fake.rows(&table("orders")).len(), if looks { 5 } else { 6 });
    }
}

fn columns() -> TableSchema {
    TableSchema::new([
        Field::nullable("n", FieldType::Int64),
        Field::nullable("text", FieldType::String),
        Field::nullable("_kafka_topic", FieldType::String),
        Field::nullable("_kafka_partition", FieldType::Int64),
        Field::nullable("_kafka_offset", FieldType::Int64),
    ])
}

#[tokio::test]
async fn many_letters_and_many_tables_are_repaired_in_parts() {
    let fake = fake().await;
    let builder =
        builder(&fake).call_timeout(Duration::from_secs(20)).append_timeout(Duration::from_secs(20));
    let report = drive(repairs(builder.clone()).await, ("", 3), &letters(2_100)).await.unwrap();
    assert_eq!(report.repaired, 2_100);
    assert_eq!(fake.calls(FakeCall::InsertJob), 3, "a thousand at a time");
    assert_eq!(audit(&fake).len(), 2_100);
    let many: Vec<_> = (3_000..3_060).map(|offset| letter(1, offset, "good")).collect();
    assert_eq!(drive(repairs(builder).await, ("", 60), &many).await.unwrap().repaired, 60);
    assert_eq!(fake.calls(FakeCall::InsertJob), 5, "forty tables at a time");
}

/// Every kind of call fails in every way, at its first and at its third.
#[tokio::test]
async fn lost_answers_and_refusals_anywhere_cost_nothing() {
    let cases = FakeCall::ALL.into_iter().flat_map(|call| {
        FakeFault::PASSING.into_iter().flat_map(move |fault| [0, 2].map(|before| (call, fault, before)))
    });
    together(cases, async |(call, fault, before)| {
        let fake = fake().await;
        fake.slow_queries(1);
        fake.inject(call, FakeFault::Pass, before);
        fake.inject(call, fault, 1);
        let report = run(&fake, &letters(4)).await;
        let found = (report.repaired, offsets(&fake));
        assert_eq!(found, (4, (0..4).collect()), "{fault:?} of {call:?} {before}");
    })
    .await;
}

/// Tries cases, most of which wait most of the time, some at a time.
async fn together<C>(cases: impl Iterator<Item = C>, test: impl AsyncFn(C)) {
    futures::stream::iter(cases).for_each_concurrent(12, |case| test(case)).await;
}

/// A job whose fate is not known, because nobody could ask for long enough, has happened once.
#[tokio::test]
async fn a_job_that_nobody_hears_of_is_found_by_its_claims() {
    let fake = fake().await;
    fake.inject(FakeCall::GetJob, FakeFault::Internal, 8);
    let report = run(&fake, &letters(4)).await;
    assert_eq!((report.repaired, report.before), (4, 0));
    assert_eq!((fake.calls(FakeCall::InsertJob), offsets(&fake)), (1, vec![0, 1, 2, 3]));
}

/// Nothing needs a job to run only once.
#[tokio::test]
async fn a_job_that_runs_twice_stores_once() {
    let fake = fake().await;
    fake.repeat_jobs();
    run(&fake, &letters(5)).await;
    assert_eq!(offsets(&fake), (0..5).collect::<Vec<_>>());
    let turns: BTreeSet<_> =
        fake.rows(&table("aqueduct_repairs")).iter().map(|row| row.columns["turn"].as_i64()).collect();
    assert_eq!(turns, [Some(1), Some(2)].into(), "the claims are of the first turn, and there was a second");
}

/// Dies at every call: before its effect, and behind it without having noticed.
#[tokio::test]
async fn a_crash_at_any_call_is_made_good_by_the_next_run() {
    let all = letters(4);
    for held in [false, true] {
        let calls = {
            let fake = fake().await;
            fake.hold_jobs(held);
            drive(repairs(builder(&fake)).await, ("first", 2), &all).await.unwrap();
            fake.all_calls()
        };
        assert!(calls > 20, "{calls} calls");
        let cases = (1..=calls).flat_map(|at| [false, true].map(|applied| (at, applied)));
        together(cases, async |(at, applied)| {
            let fake = fake().await;
            fake.hold_jobs(held);
            let met = fake.die_at(at, applied);
            let first = drive(repairs(builder(&fake)).await, ("first", 2), &all);
            tokio::select! {
                result = first => panic!("call {at} of {calls} was not made: {result:?}"),
                () = met.notified() => {}
            }
            audit(&fake);
            let report = drive(repairs(builder(&fake)).await, ("second", 2), &all).await.unwrap();
            assert_eq!(report.repaired + report.before, 4, "call {at}, applied {applied}, held {held}");
            assert_eq!(offsets(&fake), [0, 1, 2, 3], "call {at}, applied {applied}, held {held}");
            let texts: BTreeSet<_> = audit(&fake).into_values().collect();
            assert_eq!(texts.len(), 1, "the four are stored together: {texts:?}");
            assert_eq!(run(&fake, &all).await.repaired, 0);
        })
        .await;
    }
}

/// Two runs over the same letters, whose REST calls come in any order while their jobs run a statement at a time; either may die.
async fn race(
    schedule: Vec<usize>,
    over: [i64; 2],
    die: Option<(usize, usize)>,
    conflicts: bool,
) -> Arc<FakeBigQuery> {
    let fake = Arc::new(fake().await);
    fake.hold_jobs(true);
    if !conflicts {
        fake.ignore_conflicts();
    }
    let tokens = ["one", "two"];
    fake.order_calls(tokens, schedule);
    let mut runs = Vec::new();
    for (client, token) in tokens.into_iter().enumerate() {
        let fake = Arc::clone(&fake);
        let all: Vec<_> = letters(5).into_iter().skip(client).collect();
        runs.push(tokio::spawn(async move {
            let builder = builder(&fake)
                .credentials(Credentials::Token(token.into()))
                .call_timeout(Duration::from_secs(6))
                .append_timeout(Duration::from_secs(6));
            let work = drive(repairs(builder).await, (token, over[client]), &all);
            let report = match die {
                Some((who, calls)) if who == client => {
                    // Polls of the run stand for its steps.
                    let mut left = calls;
                    let mut work = Box::pin(work);
                    std::future::poll_fn(|context| {
                        left = left.saturating_sub(1);
                        if left == 0 {
                            return std::task::Poll::Ready(None);
                        }
                        work.as_mut().poll(context).map(Some)
                    })
                    .await
                }
                _ => Some(work.await),
            };
            fake.client_ended(client);
            report.map(Result::unwrap)
        }));
    }
    let mut repaired = 0;
    for run in runs {
        repaired += run.await.unwrap().map_or(0, |report| report.repaired);
    }
    if die.is_none() && conflicts {
        assert_eq!(repaired, 5, "each is counted by who stored it");
    }
    fake
}

#[tokio::test]
async fn two_at_a_time_conflict_and_without_that_they_would_both_store() {
    let alternating = || (0..200).map(|step| step % 2).collect();
    let fake = race(alternating(), [3, 3], None, true).await;
    assert_eq!(offsets(&fake), [0, 1, 2, 3, 4]);
    assert!(fake.calls(FakeCall::InsertJob) > 2, "one of them was cancelled and tried again");
    let fake = race(alternating(), [3, 3], None, false).await;
    let rows: usize = TABLES.iter().map(|name| fake.rows(&table(name)).len()).sum();
    assert!(rows > 5, "it is the conflict that keeps them apart");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn races_and_crashes_store_each_record_once(
        schedule in prop::collection::vec(0..2_usize, 0..80),
        die in prop::option::of((0..2_usize, 1..60_usize)),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let fake = race(schedule, [3, 2], die, true).await;
            audit(&fake);
            run(&fake, &letters(5)).await;
            assert_eq!(offsets(&fake), [0, 1, 2, 3, 4]);
            assert_eq!(run(&fake, &letters(5)).await.repaired, 0);
        });
    }

    /// Any letters in any order and number, some bad, any filters, a crash anywhere in each run, beside rows of the pipeline.
    #[test]
    fn any_runs_over_any_letters_store_each_record_once(
        found in prop::collection::vec((0..2_i32, 0..30_i64, prop::bool::weighted(0.1)), 1..50),
        runs in prop::collection::vec((prop::option::of((0..30_i64, 1..30_i64)), prop::option::of(1..60_u64), any::<bool>()), 0..4),
        held: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bad: BTreeSet<_> = found.iter().filter(|it| it.2).map(|it| (it.0, it.1)).collect();
        let value = |partition, offset| if bad.contains(&(partition, offset)) { "bad" } else { "good" };
        let all: Vec<_> = found.iter().map(|(partition, offset, _)| letter(*partition, *offset, value(*partition, *offset))).collect();
        let lost: BTreeSet<_> = found.iter().map(|it| (it.0, it.1)).collect();
        runtime.block_on(async {
            let fake = fake().await;
            fake.hold_jobs(held);
            fake.create_table(&table("orders"), &columns());
            for (partition, offset) in (0..2).flat_map(|partition| (0..30).map(move |offset| (partition, offset))) {
                if !lost.contains(&(partition, offset)) {
                    fake.add_row(&table("orders"), json!({
                        "n": offset, "text": "live", "_kafka_topic": "orders", "_kafka_partition": partition, "_kafka_offset": offset,
                    }));
                }
            }
            for (range, die, applied) in runs {
                let filter = range.map_or_else(LetterFilter::all, |(from, length)| {
                    let range = OffsetRange::new(Offset::new(from), Offset::new(from + length)).unwrap();
                    (0..2).fold(LetterFilter::all(), |filter, partition| filter.offsets(lane(partition), range))
                });
                let met = die.map(|calls| fake.die_at(fake.all_calls() + calls, applied));
                let redrive = Redrive::new(Corrected(""), Over(3), repairs(builder(&fake)).await).select(filter);
                let mut letters = Letters(all.clone().into_iter());
                let death = async {
                    match met {
                        Some(met) => met.notified().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    result = redrive.run(&mut letters) => drop(result.unwrap()),
                    () = death => {}
                }
                audit(&fake);
            }
            let last = run(&fake, &all).await;
            let expected: BTreeSet<_> = (0..2_i64).flat_map(|partition| (0..30_i64).map(move |offset| (partition, offset)))
                .filter(|(partition, offset)| !bad.contains(&(i32::try_from(*partition).unwrap(), *offset))).collect();
            assert_eq!(audit(&fake).into_keys().collect::<BTreeSet<_>>(), expected);
            assert_eq!(last.poisoned(), bad.len() as u64);
            assert_eq!(last.repaired + last.before + last.poisoned(), lost.len() as u64);
        });
    }
}

#[tokio::test]
async fn tables_that_want_a_filter_are_not_looked_at() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &columns());
    fake.demand_filter(&table("orders"));
    let report = drive(repairs(builder(&fake)).await, ("", 1), &letters(3)).await.unwrap();
    assert_eq!((report.repaired, offsets(&fake)), (3, vec![0, 1, 2]));
    assert_eq!(run(&fake, &letters(3)).await.before, 3);
}

#[tokio::test]
async fn what_cannot_work_is_said() {
    let fake = fake().await;
    let changes = builder(&fake)
        .delivery(Delivery::AtLeastOnce)
        .tables(TableOptions::new().primary_key(["n"]))
        .changes(Changes::new())
        .build_repairs()
        .await;
    assert!(changes.unwrap_err().to_string().contains("a row that is inserted is no change"));
    assert!(repairs(builder(&fake)).await.claims_table("a/b").is_err());
    let told = async |repairs| {
        let error = drive(repairs, ("", 1), &letters(1)).await.unwrap_err();
        ErrorChain(&error).to_string()
    };
    let nowhere = told(repairs(builder(&fake)).await.claims_table("nowhere.claims").unwrap()).await;
    assert!(nowhere.contains("the dataset does not exist"), "{nowhere}");
    fake.inject(FakeCall::InsertJob, FakeFault::Denied, 1);
    let denied = told(repairs(builder(&fake)).await).await;
    assert!(denied.contains("access is denied"), "{denied}");
    assert_eq!(staging(&fake), []);
    // Another claims table that two share.
    for expected in [2, 0] {
        let repairs = repairs(builder(&fake)).await.claims_table("d.shared").unwrap();
        assert_eq!(drive(repairs, ("", 1), &letters(2)).await.unwrap().repaired, expected);
    }
    assert_eq!(fake.rows(&table("shared")).len(), 3);
}

/// A pipeline's rows, letters driven again beside them, and the sums of it all.
#[tokio::test]
async fn repaired_letters_are_rows_to_the_completeness_check() {
    let fake = fake().await;
    let process = Process::start(builder(&fake)).await;
    let mut segment = process.fill(0, 10, None, one_table).await;
    segment.stage().await.unwrap();
    segment.publish().await.unwrap();
    let all: Vec<_> =
        [10, 11, 12].map(|offset| letter(3, offset, if offset == 11 { "bad" } else { "good" })).into();
    let sum = async || {
        let range = OffsetRange::new(Offset::ZERO, Offset::new(13)).unwrap();
        let due = [DueRecords::counted(lane(3), range, 13)];
        let check = Completeness::of(&process.sink).due(due);
        check.letters(&mut Letters(all.clone().into_iter())).await.unwrap().check().await.unwrap()
    };
    let before = sum().await;
    assert_eq!((before.total().loaded, before.total().dead_lettered, before.is_complete()), (10, 3, true));
    let report = drive(repairs(builder(&fake)).await, ("", 1), &all).await.unwrap();
    assert_eq!((report.repaired, report.poisoned()), (2, 1));
    let after = sum().await;
    assert_eq!((after.total().loaded, after.total().dead_lettered, after.lanes[0].repaired), (12, 1, 2));
    assert!(after.to_string().contains("loaded 12 of 13 records due, 92.3076 %"), "{after}");
}
