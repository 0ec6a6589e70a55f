use std::time::{Duration, UNIX_EPOCH};

use aqueduct_core::{ErrorChain, MarkOrigin, Offset, Source as _};
use aqueduct_kafka_source::StartAt;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::support::{Cluster, Driver, lane};

/// The in-process broker answers a question for a time like one for the end, which is the case that needs a pin.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_after_the_last_record_is_the_end_and_stays_it() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 100).await;
    let never = StartAt::Timestamp(UNIX_EPOCH + Duration::from_millis(9_999_999_999_999));
    let mut driver = Driver::open(cluster.source("g", "orders").start(never.clone())).await;
    driver.until("the partition", |driver| driver.owned.len() == 1).await;
    assert_eq!(
        (driver.assigned[0].mark.next, driver.assigned[0].origin),
        (Offset::new(100), MarkOrigin::Initial)
    );
    // Time for the pin; the process then ends without a segment.
    driver.drive(Duration::from_secs(1)).await;
    driver.source.close().await.unwrap();

    cluster.number("orders", 0, 100, 20).await;
    let mut driver = Driver::open(cluster.source("g", "orders").start(never)).await;
    driver.until("what came meanwhile", |driver| driver.count() == 20).await;
    assert_eq!(driver.assigned[0].origin, MarkOrigin::Committed);
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_taken_once_and_the_rest_starts_at_its_first_record() {
    let cluster = Cluster::new(&[("orders", 3)]);
    for partition in 0..3 {
        cluster.number("orders", partition, 0, 50).await;
    }
    // The end of a partition is a start, too.
    let starts = StartAt::offsets([("orders", 0, 30), ("orders", 1, 50)]);
    let mut driver = Driver::open(cluster.source("g", "orders").start(starts.clone())).await;
    driver.until("the records", |driver| driver.count() == 20 + 50).await;
    assert_eq!(driver.records[&lane("orders", 0)][0].0, 30);
    assert!(!driver.records.contains_key(&lane("orders", 1)));
    driver.commit_read(&lane("orders", 0)).await;
    driver.source.close().await.unwrap();

    // A mark wins over the policy.
    cluster.number("orders", 0, 50, 5).await;
    let mut driver = Driver::open(cluster.source("g", "orders").start(starts)).await;
    driver
        .until("what is new", |driver| driver.records.get(&lane("orders", 0)).is_some_and(|it| it.len() == 5))
        .await;
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_outside_of_the_partition_stops_the_pipeline_and_is_named() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 50).await;
    let starts = StartAt::offsets([("orders", 0, 51)]);
    let mut driver = Driver::open(cluster.source("g", "orders").start(starts)).await;
    driver.until("an error", |driver| !driver.errors.is_empty()).await;
    let text = ErrorChain(&driver.errors[0]).to_string();
    assert!(text.contains("orders[0] cannot start at 51: it holds [0, 50)"), "{text}");
    assert_eq!(driver.count(), 0);
    driver.source.close().await.unwrap();
}

/// A group lets nobody in before a dead member's session is over. Waiting for that is not the quiet of a group with more
/// members than partitions, after which a bounded run without a partition ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_run_that_waits_to_be_let_in_does_not_end_without_records() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 10).await;
    let wait = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
    cluster.mock.request_errors(RDKafkaApiKey::JoinGroup, &[wait; 200]);
    let mut driver = Driver::open(cluster.source("g", "orders").until_end()).await;
    // Longer than the 10 s of quiet.
    driver.drive(Duration::from_millis(11_500)).await;
    assert_eq!((driver.finished, driver.assigned.len(), driver.errors.len()), (0, 0, 0));
    driver.source.close().await.unwrap();
}

/// Times of records, as only a real broker looks them up.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn a_time_is_the_first_record_of_that_time_or_later() {
    let topic = crate::broker::topic("times", 1).await;
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", crate::broker::brokers()).create().unwrap();
    for number in 0..100 {
        let record = FutureRecord::<[u8], [u8]>::to(&topic)
            .partition(0)
            .payload(b"x")
            .timestamp(1_700_000_000_000 + number * 1_000);
        producer.send(record, Duration::from_secs(10)).await.unwrap();
    }
    for (millis, first) in [(1_700_000_041_500, 42), (1_700_000_042_000, 42), (1_600_000_000_000, 0)] {
        let start = StartAt::Timestamp(UNIX_EPOCH + Duration::from_millis(millis));
        let group = crate::broker::unique("times");
        let mut driver = Driver::open(crate::broker::source(&group, &topic).start(start)).await;
        driver.until("the records", |driver| driver.count() == 100 - first).await;
        assert_eq!(driver.assigned[0].mark.next.get(), i64::try_from(first).unwrap());
        driver.source.close().await.unwrap();
    }
}
