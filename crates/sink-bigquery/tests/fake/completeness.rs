//! Counting what is in tables, with planted losses, duplicates and letters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aqueduct_core::{
    ErrorChain, LetterSource, Offset, OffsetRange, OwnedRecord, StageError, StoredLetter, Timestamp,
    TopicPartition, UnreadableLetter,
};
use aqueduct_sink_bigquery::testkit::{FakeBigQuery, FakeCall, FakeFault, FakeLimits};
use aqueduct_sink_bigquery::{
    BigQuerySink, Completeness, CompletenessReport, DueRecords, Field, FieldType, MetadataColumns,
    TableSchema,
};
use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Process, builder, fake, one_table, table};

fn lane(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn range(from: i64, to: i64) -> OffsetRange {
    OffsetRange::new(Offset::new(from), Offset::new(to)).unwrap()
}

fn with_metadata() -> TableSchema {
    TableSchema::new([
        Field::nullable("_kafka_topic", FieldType::String),
        Field::nullable("_kafka_partition", FieldType::Int64),
        Field::nullable("_kafka_offset", FieldType::Int64),
    ])
}

fn add(fake: &FakeBigQuery, name: &str, partition: i32, offsets: impl IntoIterator<Item = i64>) {
    for offset in offsets {
        let row = json!({ "_kafka_topic": "orders", "_kafka_partition": partition, "_kafka_offset": offset });
        fake.add_row(&table(name), row);
    }
}

struct Letters(Vec<(i32, i64)>);

#[async_trait]
impl LetterSource for Letters {
    async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError> {
        let Some((partition, offset)) = self.0.pop() else { return Ok(None) };
        Ok(Some(Ok(StoredLetter {
            record: OwnedRecord {
                lane: lane(partition),
                offset: Offset::new(offset),
                timestamp: Timestamp::None,
                key: None,
                value: None,
                headers: Vec::new(),
            },
            pipeline: String::new(),
            pipeline_version: String::new(),
            stage: "convert".to_owned(),
            reason: "malformed".to_owned(),
            detail: String::new(),
        })))
    }
}

async fn sink(fake: &FakeBigQuery) -> BigQuerySink {
    builder(fake).build().await.unwrap()
}

async fn check(completeness: Completeness) -> CompletenessReport {
    completeness.check().await.unwrap()
}

/// A table may be older than a column that was asked for later.
#[tokio::test]
async fn only_the_columns_that_rows_are_counted_by_are_needed() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &with_metadata());
    add(&fake, "orders", 0, 0..5);
    let columns = MetadataColumns::default().with_timestamp("_at").with_load_time("_loaded_at");
    let sink = builder(&fake).metadata_columns(columns).build().await.unwrap();
    let report = check(Completeness::of(&sink).due([DueRecords::counted(lane(0), range(0, 5), 5)])).await;
    assert!(report.is_complete(), "{report}");
}

#[tokio::test]
async fn what_the_pipeline_has_stored_is_complete() {
    let fake = fake().await;
    let process = Process::start(builder(&fake)).await;
    let mut segment = process.fill(0, 50, None, one_table).await;
    segment.stage().await.unwrap();
    let due = || [DueRecords::counted(TopicPartition::new("orders", 3), range(0, 50), 50)];
    // Nothing of it is visible yet.
    let report = check(Completeness::of(&process.sink).due(due())).await;
    assert_eq!((report.total().missing, report.total().loaded), (50, 0));
    assert_eq!(report.lanes[0].missing_ranges, [range(0, 50)]);
    segment.publish().await.unwrap();
    let report = check(Completeness::of(&process.sink).due(due())).await;
    assert!(report.is_complete(), "{report}");
    let found = &report.lanes[0];
    assert_eq!((found.first, found.last), (Some(Offset::ZERO), Some(Offset::new(49))));
    assert!(report.to_string().contains("loaded 50 of 50 records due, 100.0000 %"), "{report}");
}

/// Two tables, two partitions: a loss, records in two rows of one table and of two, letters of which one was driven again, one
/// that was skipped, and rows of others that count nothing.
#[tokio::test]
async fn losses_duplicates_and_letters_are_told_apart() {
    let fake = fake().await;
    for name in ["orders", "more"] {
        fake.create_table(&table(name), &with_metadata());
    }
    add(&fake, "orders", 0, (0..100).filter(|it| ![7, 8, 40, 41, 42, 60].contains(it)));
    add(&fake, "orders", 0, [12, 12]);
    add(&fake, "more", 0, [40, 13]);
    add(&fake, "more", 1, 1_000..1_010);
    add(&fake, "orders", 0, [100, 5_000]);
    fake.add_row(
        &table("orders"),
        json!({ "_kafka_topic": "other", "_kafka_partition": 0, "_kafka_offset": 8 }),
    );
    fake.add_row(
        &table("orders"),
        json!({ "_kafka_topic": null, "_kafka_partition": null, "_kafka_offset": null }),
    );
    let sink = sink(&fake).await;
    // 8 has a letter, 40 was driven again; 41 is a letter that comes twice. 60 is a tombstone.
    let mut letters = Letters(vec![(0, 8), (0, 40), (0, 41), (0, 41), (0, 900), (2, 8)]);
    let due =
        [DueRecords::counted(lane(0), range(0, 100), 100), DueRecords::offsets(lane(1), range(1_000, 1_012))];
    let checked = Completeness::of(&sink).tables(["orders", "d.more", "p.d.absent"]).unwrap().due(due);
    let report = check(checked.letters(&mut letters).await.unwrap().skipped(lane(0), 1)).await;
    assert_eq!(report.tables, [table("more"), table("orders")]);
    assert_eq!(report.absent, [table("absent")]);
    let [first, second] = &report.lanes[..] else { panic!("{report}") };
    assert_eq!((first.due, first.rows, first.loaded, first.of_tables.clone()), (100, 98, 95, vec![2, 96]));
    assert_eq!((first.dead_lettered, first.repaired, first.skipped), (2, 1, 1));
    assert_eq!((first.missing(), first.duplicated(), first.surplus()), (2, 3, 0));
    assert_eq!(first.missing_ranges, [range(7, 8), range(42, 43), range(60, 61)]);
    let twice: Vec<_> = first.duplicated_offsets.iter().map(|it| (it.offset.get(), it.rows)).collect();
    assert_eq!(twice, [(12, 3), (13, 2)]);
    assert_eq!((second.loaded, second.missing(), second.is_counted), (10, 2, false));
    assert_eq!(second.missing_ranges, [range(1_010, 1_012)]);
    assert!(!report.is_complete());
    let shown = report.to_string();
    for part in [
        "orders[0]  [0, 100)       100      95             2        1        2           3      95.9595 %",
        "orders[1]  [1000, 1012)   ≤12      10             0        0       ≤2           0      83.3333 %",
        "table p.d.orders: 96 rows",
        "table p.d.absent: does not exist",
        "loaded 105 of at most 111 records due, 94.5945 % (1 skipped ones not counted); at most 4 missing, 3 rows too many",
        "orders[0]: neither row nor letter at [7, 8), [42, 43), [60, 61)\n",
        "orders[0]: more than one row at 12 (3 rows), 13 (2 rows) (3 rows too many in all)",
    ] {
        assert!(shown.contains(part), "{part}\nin\n{shown}");
    }
}

#[tokio::test]
async fn what_is_named_is_bounded_and_says_so() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &with_metadata());
    add(&fake, "orders", 0, (0..200).filter(|it| it % 2 == 0));
    add(&fake, "orders", 0, 0..30);
    let sink = sink(&fake).await;
    let due = || [DueRecords::counted(lane(0), range(0, 200), 200)];
    let report = check(Completeness::of(&sink).due(due()).examples(3)).await;
    let found = &report.lanes[0];
    assert_eq!((found.missing(), found.duplicated()), (85, 15));
    assert_eq!(found.missing_ranges, [range(31, 32), range(33, 34), range(35, 36)]);
    assert!(found.more_missing && report.to_string().contains("[35, 36) and more"), "{report}");
    assert_eq!(found.duplicated_offsets.len(), 3);
    let report = check(Completeness::of(&sink).due(due()).examples(85)).await;
    assert_eq!((report.lanes[0].missing_ranges.len(), report.lanes[0].more_missing), (85, false));
    let report = check(Completeness::of(&sink).due(due()).examples(0)).await;
    assert!(report.lanes[0].missing_ranges.is_empty() && report.lanes[0].duplicated_offsets.is_empty());
}

/// Letters everywhere in front of the one loss: they are gaps in the rows, page after page of them.
#[tokio::test]
async fn a_loss_behind_many_letters_is_found() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &with_metadata());
    add(&fake, "orders", 0, (0..3_000).filter(|it| it % 2 == 0 && *it != 2_222));
    // As many rows as these take the fake a moment.
    let sink = builder(&fake).call_timeout(Duration::from_secs(10)).build().await.unwrap();
    let mut letters = Letters((0..3_000).filter(|it| it % 2 == 1).map(|offset| (0, offset)).collect());
    let due = [DueRecords::counted(lane(0), range(0, 3_000), 3_000)];
    let checked = Completeness::of(&sink).due(due).letters(&mut letters).await.unwrap();
    let report = check(checked).await;
    let found = &report.lanes[0];
    assert_eq!((found.missing(), found.dead_lettered), (1, 1_500));
    assert_eq!((found.missing_ranges.clone(), found.more_missing), (vec![range(2_222, 2_223)], false));
}

#[tokio::test]
async fn answers_that_are_late_lost_or_in_pages_cost_nothing() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &with_metadata());
    fake.set_limits(FakeLimits::default().without_quotas().with_query_page_rows(2));
    fake.slow_queries(2);
    for partition in 0..7 {
        add(&fake, "orders", partition, 0..3);
    }
    for (call, fault) in [FakeCall::Query, FakeCall::GetQueryResults, FakeCall::GetTable]
        .into_iter()
        .flat_map(|call| FakeFault::PASSING.map(|fault| (call, fault)))
    {
        fake.inject(call, fault, 1);
        let sink = sink(&fake).await;
        let due = (0..7).map(|partition| DueRecords::counted(lane(partition), range(0, 3), 3));
        let report = check(Completeness::of(&sink).due(due)).await;
        assert_eq!((report.total().loaded, report.lanes.len()), (21, 7), "{call:?} {fault:?}: {report}");
        assert_eq!(fake.pending_faults(), 0, "{call:?} {fault:?}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_words() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &TableSchema::new([Field::nullable("n", FieldType::Int64)]));
    let sink = sink(&fake).await;
    let problem = async |due: Vec<DueRecords>| {
        let error = Completeness::of(&sink).due(due).check().await.unwrap_err();
        ErrorChain(&error).to_string()
    };
    let one = DueRecords::offsets(lane(0), range(0, 5));
    assert!(problem(vec![one.clone(), one.clone()]).await.contains("orders[0] is due twice"));
    let many = DueRecords::counted(lane(0), range(0, 5), 6);
    assert!(
        problem(vec![many]).await.contains("6 records are due of orders[0], whose offsets [0, 5) are fewer")
    );
    let lacking = problem(vec![one]).await;
    assert!(lacking.contains("it lacks the column _kafka_topic"), "{lacking}");
    assert!(Completeness::of(&sink).tables(["a/b"]).is_err());
    let nothing = check(Completeness::of(&sink)).await;
    assert!(nothing.is_complete() && nothing.lanes.is_empty(), "{nothing}");
}

#[tokio::test]
async fn more_than_was_due_is_a_number_that_is_wrong() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &with_metadata());
    add(&fake, "orders", 0, 0..10);
    let sink = sink(&fake).await;
    let due = [DueRecords::counted(lane(0), range(0, 10), 8)];
    let report = check(Completeness::of(&sink).due(due)).await;
    assert_eq!((report.total().surplus, report.total().missing, report.is_complete()), (2, 0, false));
    assert!(
        report.to_string().contains("2 more rows, letters and skipped records than were due"),
        "{report}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any rows and letters, against sets.
    #[test]
    fn counts_are_those_of_sets(
        rows in prop::collection::vec((any::<bool>(), 0..2_i32, 0..40_i64), 0..100),
        letters in prop::collection::vec((0..2_i32, 0..40_i64), 0..30),
        from in 0..10_i64, length in 1..30_i64,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let report = runtime.block_on(async {
            let fake = fake().await;
            for name in ["orders", "more"] {
                fake.create_table(&table(name), &with_metadata());
            }
            for (more, partition, offset) in &rows {
                add(&fake, if *more { "more" } else { "orders" }, *partition, [*offset]);
            }
            let sink = sink(&fake).await;
            let due = (0..2).map(|partition| DueRecords::offsets(lane(partition), range(from, from + length)));
            let checked = Completeness::of(&sink).tables(["orders", "more"]).unwrap().due(due).examples(100);
            check(checked.letters(&mut Letters(letters.clone())).await.unwrap()).await
        });
        for (partition, found) in (0..2).zip(&report.lanes) {
            let due = from..from + length;
            let mut loaded: BTreeMap<i64, u64> = BTreeMap::new();
            for (_, _, offset) in rows.iter().filter(|it| it.1 == partition && due.contains(&it.2)) {
                *loaded.entry(*offset).or_default() += 1;
            }
            let lettered: BTreeSet<i64> = letters.iter().filter(|it| it.0 == partition && due.contains(&it.1)).map(|it| it.1).collect();
            let dead = lettered.iter().filter(|it| !loaded.contains_key(it)).count() as u64;
            prop_assert_eq!((found.loaded, found.dead_lettered), (loaded.len() as u64, dead));
            prop_assert_eq!(found.repaired, lettered.len() as u64 - dead);
            let missing: Vec<i64> = due.filter(|it| !loaded.contains_key(it) && !lettered.contains(it)).collect();
            prop_assert_eq!(found.missing(), missing.len() as u64);
            let named: Vec<i64> = found.missing_ranges.iter().flat_map(|it| it.start().get()..it.end().get()).collect();
            prop_assert_eq!(named, missing);
            let several: Vec<_> = loaded.into_iter().filter(|it| it.1 > 1).collect();
            prop_assert_eq!(found.duplicated_offsets.iter().map(|it| (it.offset.get(), it.rows)).collect::<Vec<_>>(), several);
        }
    }
}
