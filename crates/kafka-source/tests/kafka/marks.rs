use std::time::Duration;

use aqueduct_core::{Class, Fingerprint, Intent, Mark, MarkOrigin, Offset, OffsetRange, Source as _};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::support::{Cluster, Driver, lane};

fn intent(start: i64, end: i64) -> Mark {
    let mut fingerprint = Fingerprint::new();
    fingerprint.put("converter", "json/1");
    Mark {
        next: Offset::new(start),
        intent: Some(Intent {
            range: OffsetRange::new(Offset::new(start), Offset::new(end)).unwrap(),
            fingerprint,
            rows: 42,
            offsets_hash: 7,
            opened_at_ms: 1_700_000_000_000,
            token: vec![0xAB; Intent::TOKEN_MAX].into(),
        }),
    }
}

/// Commits as another tool would.
fn commit_foreign(cluster: &Cluster, group: &str, offset: i64, metadata: &str) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.brokers())
        .set("group.id", group)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    let mut element = list.add_partition("orders", 0);
    element.set_offset(rdkafka::Offset::Offset(offset)).unwrap();
    element.set_metadata(metadata);
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_finds_the_intent_and_starts_where_it_says() {
    let cluster = Cluster::new(&[("orders", 2)]);
    cluster.number("orders", 0, 0, 100).await;
    cluster.number("orders", 1, 0, 100).await;
    let mut driver = Driver::open(cluster.source("g", "orders")).await;
    driver.until("all records", |driver| driver.count() == 200).await;
    let (with_intent, plain) = (intent(30, 80), Mark::at(Offset::new(55)));
    // Both at once: commits of several lanes share a request.
    let lanes = [lane("orders", 0), lane("orders", 1)];
    let (first, second) = tokio::join!(
        driver.control.commit(&lanes[0], with_intent.clone()),
        driver.control.commit(&lanes[1], plain.clone()),
    );
    first.unwrap();
    second.unwrap();
    driver.source.close().await.unwrap();

    let mut driver = Driver::open(cluster.source("g", "orders")).await;
    driver.until("the rest", |driver| driver.count() == 70 + 45).await;
    for assignment in &driver.assigned {
        let expected = if assignment.lane.partition() == 0 { &with_intent } else { &plain };
        assert_eq!((&assignment.mark, assignment.origin), (expected, MarkOrigin::Committed));
    }
    assert_eq!(driver.records[&lane("orders", 0)][0].0, 30);
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_others_are_foreign_and_unreadable_ones_stop() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 10).await;
    commit_foreign(&cluster, "foreign", 4, "reset by ops");
    commit_foreign(&cluster, "newer", 4, "aq9 x=1");
    commit_foreign(&cluster, "past", 400, "aq1");

    let mut driver = Driver::open(cluster.source("foreign", "orders")).await;
    driver.until("the assignment", |driver| !driver.assigned.is_empty()).await;
    assert_eq!(driver.assigned[0].origin, MarkOrigin::Foreign);
    assert_eq!(driver.assigned[0].mark, Mark::at(Offset::new(4)));
    driver.source.close().await.unwrap();

    for (group, part) in [("newer", "aq9"), ("past", "recreated")] {
        let mut driver = Driver::open(cluster.source(group, "orders")).await;
        driver.until("an error", |driver| !driver.errors.is_empty()).await;
        let text = aqueduct_core::ErrorChain(&driver.errors[0]).to_string();
        assert!(text.contains(part) && text.contains("orders[0]"), "{text}");
        assert_eq!(driver.errors[0].class(), Class::Fatal);
        assert!(driver.assigned.is_empty());
        driver.source.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_read_of_marks_is_not_taken_for_no_mark() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 10).await;
    commit_foreign(&cluster, "g", 6, "aq1");
    let failure = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN;
    cluster.mock.request_errors(RDKafkaApiKey::OffsetFetch, &[failure, failure]);
    let mut driver = Driver::open(cluster.source("g", "orders")).await;
    driver.until("the records", |driver| driver.count() == 4).await;
    assert_eq!(driver.assigned[0].mark, Mark::at(Offset::new(6)));
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_meets_a_rebalance_is_repeated() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 10).await;
    let mut driver = Driver::open(cluster.source("g", "orders")).await;
    driver.until("the records", |driver| driver.count() == 10).await;
    let rebalancing = RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
    cluster.mock.request_errors(RDKafkaApiKey::OffsetCommit, &[rebalancing, rebalancing]);
    driver.control.commit(&lane("orders", 0), Mark::at(Offset::new(10))).await.unwrap();
    assert!(driver.lost.is_empty());
    driver.source.close().await.unwrap();

    let mut driver = Driver::open(cluster.source("g", "orders")).await;
    driver.until("the assignment", |driver| !driver.assigned.is_empty()).await;
    assert_eq!(driver.assigned[0].mark, Mark::at(Offset::new(10)));
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_the_group_does_not_know_loses_everything_and_joins_again() {
    let cluster = Cluster::new(&[("orders", 2)]);
    cluster.number("orders", 0, 0, 10).await;
    cluster.number("orders", 1, 0, 10).await;
    let mut driver = Driver::open(cluster.source("g", "orders")).await;
    driver.until("the records", |driver| driver.count() == 20).await;
    let stranger = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID;
    cluster.mock.request_errors(RDKafkaApiKey::OffsetCommit, &[stranger]);
    let refused = driver.control.commit(&lane("orders", 0), Mark::at(Offset::new(10))).await.unwrap_err();
    assert_eq!(refused.class(), Class::Fenced);
    driver.until("the loss", |driver| driver.lost.len() == 2).await;
    assert!(driver.owned.is_empty());
    // A commit between two memberships is nobody's.
    let refused = driver.control.commit(&lane("orders", 1), Mark::at(Offset::new(10))).await.unwrap_err();
    assert_eq!(refused.class(), Class::Fenced);
    driver.records.clear();
    driver.until("the new membership", |driver| driver.owned.len() == 2 && driver.count() == 20).await;
    driver.commit_read(&lane("orders", 0)).await;
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_too_low_for_intents_is_found_at_start() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 10).await;
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE;
    cluster.mock.request_errors(RDKafkaApiKey::OffsetCommit, &[too_large]);
    let mut driver = Driver::open(cluster.source("g", "orders")).await;
    driver.until("an error", |driver| !driver.errors.is_empty()).await;
    assert_eq!(driver.errors[0].class(), Class::Fatal);
    assert!(driver.errors[0].to_string().contains("offset.metadata.max.bytes"), "{}", driver.errors[0]);
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_commit_ends_the_membership() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 10).await;
    let source = cluster.source("g", "orders").commit_timeout(Duration::from_secs(1));
    let mut driver = Driver::open(source).await;
    driver.until("the records", |driver| driver.count() == 10).await;
    driver.drive(Duration::from_millis(500)).await;
    // The broker stays, its answers take longer than we wait.
    cluster.mock.broker_round_trip_time(-1, Duration::from_secs(4)).unwrap();
    let refused = driver.control.commit(&lane("orders", 0), Mark::at(Offset::new(10))).await.unwrap_err();
    assert_eq!(refused.class(), Class::Fenced);
    driver.until("the loss", |driver| driver.lost.len() == 1).await;
    cluster.mock.broker_round_trip_time(-1, Duration::ZERO).unwrap();
    driver.until("the new membership", |driver| driver.owned.len() == 1).await;
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_has_one_commit_under_way_and_strangers_have_none() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 10).await;
    let mut driver = Driver::open(cluster.source("g", "orders")).await;
    driver.until("the records", |driver| driver.count() == 10).await;
    driver.drive(Duration::from_millis(500)).await;
    let refused = driver.control.commit(&lane("orders", 9), Mark::at(Offset::ZERO)).await.unwrap_err();
    assert_eq!(refused.class(), Class::Fenced);
    cluster.mock.broker_round_trip_time(-1, Duration::from_millis(300)).unwrap();
    let name = lane("orders", 0);
    let (first, second) = tokio::join!(
        driver.control.commit(&name, Mark::at(Offset::new(5))),
        driver.control.commit(&name, Mark::at(Offset::new(6))),
    );
    first.unwrap();
    assert_eq!(second.unwrap_err().class(), Class::Unknown);
    // A task of an earlier assignment cannot move the mark back.
    let refused = driver.control.commit(&name, Mark::at(Offset::new(4))).await.unwrap_err();
    assert_eq!(refused.class(), Class::Fenced);
    cluster.mock.broker_round_trip_time(-1, Duration::ZERO).unwrap();
    driver.source.close().await.unwrap();
}
