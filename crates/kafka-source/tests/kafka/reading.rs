use std::time::Duration;

use aqueduct_core::{Mark, MarkOrigin, Offset, Source as _};
use aqueduct_kafka_source::StartAt;

use crate::support::{Cluster, Driver, lane};

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_arrives_whole_and_in_order() {
    let cluster = Cluster::new(&[("orders", 4)]);
    for partition in 0..4 {
        cluster.number("orders", partition, 0, 3_000).await;
    }
    let mut driver = Driver::open(cluster.source("g", "orders")).await;
    driver.until("all records", |driver| driver.count() == 12_000).await;
    driver.assert_complete("orders", 4, 3_000);
    for assignment in &driver.assigned {
        assert_eq!(assignment.origin, MarkOrigin::Initial);
        assert_eq!((assignment.mark.next, assignment.log_start), (Offset::ZERO, Offset::ZERO));
    }

    // The ends are told, and records that come later arrive by themselves.
    driver.until("ends", |driver| driver.reached.len() == 4).await;
    cluster.number("orders", 2, 3_000, 1).await;
    driver
        .until("the late record", |driver| {
            driver.records[&lane("orders", 2)].len() == 3_001
                && driver.reached[&lane("orders", 2)] == Offset::new(3_001)
        })
        .await;
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_subscribe_to_all_topics_that_match() {
    let cluster = Cluster::new(&[("orders-eu", 1), ("orders-us", 1), ("other", 1)]);
    for topic in ["orders-eu", "orders-us", "other"] {
        cluster.number(topic, 0, 0, 10).await;
    }
    let source = cluster.source("g", "^orders-.*");
    let mut driver = Driver::open(source).await;
    driver.until("both topics", |driver| driver.count() == 20).await;
    driver.drive(Duration::from_millis(500)).await;
    assert_eq!(driver.counts(), [("orders-eu[0]".to_owned(), 10), ("orders-us[0]".to_owned(), 10)].into());
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_starts_at_the_end_and_stays_there_over_a_restart() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 10).await;
    let mut driver = Driver::open(cluster.source("g", "orders").start(StartAt::Latest)).await;
    driver.until("the end", |driver| !driver.reached.is_empty()).await;
    assert_eq!(driver.assigned[0].mark.next, Offset::new(10));
    // Nothing was committed by the pipeline; the source has pinned the start.
    driver.drive(Duration::from_millis(300)).await;
    driver.source.close().await.unwrap();

    cluster.number("orders", 0, 10, 5).await;
    let mut driver = Driver::open(cluster.source("g", "orders").start(StartAt::Latest)).await;
    driver.until("what came in between", |driver| driver.count() == 5).await;
    assert_eq!(driver.assigned[0].origin, MarkOrigin::Committed);
    assert_eq!(driver.records[&lane("orders", 0)][0].0, 10);
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_run_ends_at_the_end_as_of_start() {
    let cluster = Cluster::new(&[("orders", 3)]);
    cluster.number("orders", 0, 0, 500).await;
    cluster.number("orders", 1, 0, 7).await;
    // Partition 2 is empty.
    let mut driver = Driver::open(cluster.source("g", "orders").until_end()).await;
    driver.until("the assignment", |driver| driver.owned.len() == 3).await;
    cluster.number("orders", 0, 500, 100).await;
    driver.until("the end", |driver| driver.finished == 1).await;
    assert_eq!(driver.counts(), [("orders[0]".to_owned(), 500), ("orders[1]".to_owned(), 7)].into());
    assert_eq!(
        driver.reached,
        [
            (lane("orders", 0), Offset::new(500)),
            (lane("orders", 1), Offset::new(7)),
            (lane("orders", 2), Offset::ZERO)
        ]
        .into()
    );
    driver.drive(Duration::from_secs(1)).await;
    assert_eq!((driver.count(), driver.finished), (507, 1), "nothing comes after the end");
    driver.source.close().await.unwrap();
}

/// The pipeline takes what it was told before for void once a membership is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_run_that_is_let_in_again_says_again_that_it_has_finished() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 10).await;
    let source = cluster.source("g", "orders").until_end().commit_timeout(Duration::from_secs(1));
    let mut driver = Driver::open(source).await;
    driver.until("the end", |driver| driver.finished == 1).await;
    let (lane, end) = (lane("orders", 0), Mark::at(Offset::new(10)));
    driver.control.commit(&lane, end.clone()).await.unwrap();
    // An answer that does not come ends the membership, and nothing is left to read for the next one.
    cluster.mock.broker_round_trip_time(-1, Duration::from_secs(4)).unwrap();
    driver.control.commit(&lane, end).await.unwrap_err();
    driver.until("the loss", |driver| driver.lost.len() == 1).await;
    cluster.mock.broker_round_trip_time(-1, Duration::ZERO).unwrap();
    driver.until("the end, again", |driver| driver.finished == 2).await;
    assert_eq!(driver.count(), 10);
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_headers_timestamps_and_tombstones_are_kept() {
    use aqueduct_core::{SourceEvent, Timestamp};
    use rdkafka::message::{Header, OwnedHeaders};
    use rdkafka::producer::{FutureProducer, FutureRecord};

    let cluster = Cluster::new(&[("orders", 1)]);
    let producer: FutureProducer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", cluster.brokers()).create().unwrap();
    let headers =
        OwnedHeaders::new()
            .insert(Header { key: "trace", value: Some("abc") })
            .insert(Header::<&str> { key: "absent", value: None });
    let record =
        FutureRecord::<str, str>::to("orders").key("k").timestamp(1_700_000_000_000).headers(headers);
    producer.send(record, Duration::from_secs(10)).await.unwrap();

    for (group, with_headers) in [("with", true), ("without", false)] {
        let source = cluster.source(group, "orders");
        let mut driver = Driver::open(if with_headers { source } else { source.without_headers() }).await;
        driver.until("the assignment", |driver| !driver.owned.is_empty()).await;
        let batch = loop {
            if let SourceEvent::Batch(batch) = driver.source.next().await.unwrap() {
                break batch;
            }
        };
        let record = batch.get(0).unwrap();
        assert_eq!((record.key(), record.value()), (Some(&b"k"[..]), None));
        assert_eq!(record.timestamp(), Timestamp::Create(1_700_000_000_000));
        let headers: Vec<_> = record.headers().collect();
        let expected = [("trace", Some(&b"abc"[..])), ("absent", None)];
        assert_eq!(headers, if with_headers { &expected[..] } else { &[] }, "{group}");
        drop(batch);
        driver.source.close().await.unwrap();
    }
}

/// The lag that is shown needs the end of a partition, also of one that is not fetched.
#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_also_of_paused_partitions() {
    let cluster = Cluster::new(&[("orders", 2)]);
    cluster.number("orders", 0, 0, 10).await;
    let mut driver = Driver::open(cluster.source("g", "orders")).await;
    driver.until("the records", |driver| driver.count() == 10).await;
    assert_eq!(driver.assigned.iter().map(|it| it.log_end.get()).max(), Some(10));
    driver.control.pause(&[lane("orders", 0), lane("orders", 1)]);
    driver.drive(Duration::from_millis(200)).await;
    cluster.number("orders", 0, 10, 7).await;
    driver.until("the end", |driver| driver.ends.get(&lane("orders", 0)) == Some(&Offset::new(17))).await;
    assert_eq!((driver.count(), driver.ends[&lane("orders", 1)]), (10, Offset::new(0)));
    driver.source.close().await.unwrap();
}
