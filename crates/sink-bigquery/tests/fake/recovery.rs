//! What a new owner makes of an intent.

use aqueduct_core::{Class, Intent};
use aqueduct_sink_bigquery::testkit::{FakeBigQuery, FakeCall, FakeFault};

use crate::support::{Process, builder, fake, one_table, table, told, visible};

/// Two tables and the default one, by turns.
fn three_tables(offset: i64) -> String {
    ["", "big", "d.small"][usize::try_from(offset % 3).unwrap()].to_owned()
}

async fn staged(fake: &FakeBigQuery, route: fn(i64) -> String) -> (Process, Intent) {
    let process = Process::start(builder(fake)).await;
    let mut segment = process.fill(0, 12, None, route).await;
    let intent = segment.stage().await.unwrap();
    (process, intent)
}

fn everything(fake: &FakeBigQuery) -> Vec<i64> {
    let mut all: Vec<i64> = ["orders", "big", "small"].iter().flat_map(|name| visible(fake, name)).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn streams_that_are_there_are_committed_without_the_records() {
    let fake = fake().await;
    let (_, intent) = staged(&fake, three_tables).await;
    let heir = Process::start(builder(&fake)).await;
    assert!(heir.recover(&intent, three_tables).await.unwrap().is_none());
    assert_eq!(everything(&fake), (0..12).collect::<Vec<_>>());
    // Once more, as after a death before the end was committed.
    assert!(heir.recover(&intent, three_tables).await.unwrap().is_none());
    assert_eq!(everything(&fake), (0..12).collect::<Vec<_>>());
    assert_eq!(fake.calls(FakeCall::CreateWriteStream), 3);
}

#[tokio::test]
async fn rows_of_streams_that_are_gone_are_asked_for_and_found() {
    let fake = fake().await;
    let process = Process::start(builder(&fake)).await;
    let mut segment = process.fill(0, 12, None, three_tables).await;
    let intent = segment.stage().await.unwrap();
    segment.publish().await.unwrap();
    for name in ["orders", "big", "small"] {
        fake.forget_streams(&table(name));
    }
    let heir = Process::start(builder(&fake)).await;
    assert!(heir.recover(&intent, three_tables).await.unwrap().is_none());
    assert_eq!(fake.calls(FakeCall::Query), 3);
    assert_eq!(everything(&fake), (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn rows_that_are_nowhere_are_written_again_under_a_new_token() {
    let fake = fake().await;
    let (_, intent) = staged(&fake, three_tables).await;
    // Two of the three are gone; the third can still be committed.
    fake.forget_streams(&table("orders"));
    fake.forget_streams(&table("small"));
    let heir = Process::start(builder(&fake)).await;
    let again = heir.recover(&intent, three_tables).await.unwrap().expect("it is filled again");
    assert_ne!(again.token, intent.token, "the new streams have other names");
    assert_eq!(everything(&fake), (0..12).collect::<Vec<_>>());
    // The new intent was committed before it was published: whoever comes next finds that one.
    assert!(heir.recover(&again, three_tables).await.unwrap().is_none());
    assert_eq!(everything(&fake), (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_heir_that_dies_half_way_leaves_an_intent_that_can_be_finished() {
    // Before the second intent was committed, the first still holds; after it, the second.
    for committed in [false, true] {
        let fake = fake().await;
        let (_, intent) = staged(&fake, three_tables).await;
        fake.forget_streams(&table("small"));
        let heir = Process::start(builder(&fake)).await;
        let mut segment = heir.begin(0, 12, Some(&intent)).await.unwrap().expect("one stream is gone");
        segment.fill(0..12, three_tables).await;
        let second = segment.stage().await.unwrap();
        drop(segment);
        let next = Process::start(builder(&fake)).await;
        let recovered = next.recover(if committed { &second } else { &intent }, three_tables).await.unwrap();
        assert_eq!(recovered.is_none(), committed, "with the second intent there are streams to commit");
        assert_eq!(everything(&fake), (0..12).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_segment_of_which_some_tables_are_visible_is_finished() {
    for visible_tables in 0..3 {
        let fake = fake().await;
        let process = Process::start(builder(&fake)).await;
        let mut segment = process.fill(0, 12, None, three_tables).await;
        let intent = segment.stage().await.unwrap();
        fake.inject(FakeCall::BatchCommitWriteStreams, FakeFault::Pass, visible_tables);
        fake.inject(FakeCall::BatchCommitWriteStreams, FakeFault::Denied, 1);
        segment.publish().await.unwrap_err();
        assert_eq!(everything(&fake).len(), visible_tables * 4);
        let heir = Process::start(builder(&fake)).await;
        assert!(heir.recover(&intent, three_tables).await.unwrap().is_none());
        assert_eq!(everything(&fake), (0..12).collect::<Vec<_>>());
        // The first one is let in again and goes on where it was.
        segment.publish().await.unwrap();
        assert_eq!(everything(&fake), (0..12).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_table_that_is_gone_is_made_again_with_its_rows() {
    let fake = fake().await;
    let (_, intent) = staged(&fake, three_tables).await;
    fake.delete_table(&table("big"));
    let heir = Process::start(builder(&fake)).await;
    heir.recover(&intent, three_tables).await.unwrap().expect("it is filled again");
    assert_eq!(everything(&fake), (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn some_of_the_rows_are_nothing_to_guess_about() {
    let fake = fake().await;
    let process = Process::start(builder(&fake)).await;
    let mut segment = process.fill(0, 12, None, one_table).await;
    let intent = segment.stage().await.unwrap();
    segment.publish().await.unwrap();
    fake.forget_streams(&table("orders"));
    fake.delete_rows(&table("orders"), |row| row["n"] == 5);
    let heir = Process::start(builder(&fake)).await;
    let error = heir.recover(&intent, one_table).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(
        told(&error).contains("of the 12 rows of offsets [0, 12) table p.d.orders has 11"),
        "{}",
        told(&error)
    );
    assert_eq!(visible(&fake, "orders").len(), 11, "nothing was written");
    // What the error says to do.
    fake.delete_rows(&table("orders"), |_| true);
    heir.recover(&intent, one_table).await.unwrap().expect("it is filled again");
    assert_eq!(visible(&fake, "orders"), (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn other_rows_than_the_intents_are_not_published() {
    fn two_tables(offset: i64) -> String {
        ["big", "d.small"][usize::try_from(offset % 2).unwrap()].to_owned()
    }
    let fake = fake().await;
    let (_, intent) = staged(&fake, three_tables).await;
    fake.forget_streams(&table("orders"));
    let heir = Process::start(builder(&fake)).await;
    let error = heir.recover(&intent, two_tables).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(told(&error).contains("other rows"), "{}", told(&error));
    assert!(visible(&fake, "orders").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_recovery_survives_every_fault() {
    for call in [FakeCall::GetWriteStream, FakeCall::BatchCommitWriteStreams, FakeCall::Query] {
        for fault in FakeFault::PASSING {
            let fake = fake().await;
            let (_, intent) = staged(&fake, one_table).await;
            if call == FakeCall::Query {
                fake.forget_streams(&table("orders"));
            }
            let times = if matches!(fault, FakeFault::LoseAnswer | FakeFault::Stall) { 1 } else { 2 };
            fake.inject(call, fault, times);
            let heir = Process::start(builder(&fake)).await;
            let recovered = heir.recover(&intent, one_table).await;
            recovered.unwrap_or_else(|error| panic!("{call:?} {fault:?}: {}", told(&error)));
            assert_eq!(fake.pending_faults(), 0, "{call:?} {fault:?} was not met");
            assert_eq!(visible(&fake, "orders"), (0..12).collect::<Vec<_>>(), "{call:?} {fault:?}");
        }
    }
}

/// The letters of rows refused at first were sent; of others none was.
#[tokio::test]
async fn rows_that_are_refused_anew_are_letters_again_and_others_are_not() {
    for (refused_later, letters) in [(vec![3, 7], vec![]), (vec![3], vec![3]), (vec![3, 7, 8], vec![3, 7, 8])]
    {
        let fake = fake().await;
        fake.refuse_rows(|row| row["n"] == 3 || row["n"] == 7);
        let (_, intent) = staged(&fake, one_table).await;
        fake.forget_streams(&table("orders"));
        let later = refused_later.clone();
        fake.refuse_rows(move |row| later.contains(&row["n"].as_i64().unwrap()));
        let heir = Process::start(builder(&fake)).await;
        let mut segment = heir.begin(0, 12, Some(&intent)).await.unwrap().expect("it is filled again");
        segment.fill(0..12, one_table).await;
        segment.stage().await.unwrap();
        let published = segment.publish().await.unwrap();
        let sent: Vec<i64> = published.rejected.iter().map(|rejected| rejected.offset.get()).collect();
        assert_eq!(sent, letters, "{refused_later:?}");
        let good: Vec<_> = (0..12).filter(|offset| !refused_later.contains(offset)).collect();
        assert_eq!(visible(&fake, "orders"), good);
    }
}

#[tokio::test]
async fn a_process_that_wakes_up_late_changes_nothing() {
    let fake = fake().await;
    let process = Process::start(builder(&fake)).await;
    let mut zombie = process.fill(0, 12, None, one_table).await;
    let intent = zombie.stage().await.unwrap();
    fake.forget_streams(&table("orders"));
    let heir = Process::start(builder(&fake)).await;
    heir.recover(&intent, one_table).await.unwrap().expect("it is filled again");
    let error = zombie.publish().await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(told(&error).contains("restart"), "{}", told(&error));
    assert_eq!(visible(&fake, "orders"), (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_token_that_cannot_be_read_is_not_guessed_at() {
    let fake = fake().await;
    let (process, mut intent) = staged(&fake, one_table).await;
    for token in [&b"\x02\x00"[..], b"", b"\x01\x00\x07"] {
        intent.token = bytes::Bytes::copy_from_slice(token);
        let error = process.recover(&intent, one_table).await.unwrap_err();
        assert_eq!(error.class(), Class::Fatal, "{token:?}: {}", told(&error));
    }
    assert!(visible(&fake, "orders").is_empty());
    let capabilities = aqueduct_core::Sink::<aqueduct_converters::JsonValue>::capabilities(&process.sink);
    assert!(capabilities.rejects_late && capabilities.weakness.is_none());
}
