use std::time::Duration;

use aqueduct_core::{Pool, Source as _};

use crate::support::{Cluster, Driver, lane};

#[tokio::test(flavor = "multi_thread")]
async fn a_small_pool_bounds_what_is_in_flight_and_nothing_is_lost() {
    let cluster = Cluster::new(&[("orders", 3)]);
    let filler = "x".repeat(500);
    for partition in 0..3 {
        let values = (0..2_000).map(|number| format!("{partition}-{number}-{filler}"));
        cluster.produce("orders", partition, values).await;
    }
    let memory = Pool::new(256 << 10);
    let mut driver = Driver::open_with(cluster.source("g", "orders"), memory.clone()).await;
    driver.hold = true;
    driver.until("the first batches", |driver| driver.count() > 100).await;
    // Nothing is given back for longer than the source waits before it pauses everything.
    driver.drive(Duration::from_secs(1)).await;
    let stopped_at = driver.count();
    assert!(stopped_at < 600, "{stopped_at} records of 500 bytes in a pool of 256 KiB");
    assert!(memory.used() <= memory.capacity());
    driver.drive(Duration::from_secs(1)).await;
    assert_eq!(driver.count(), stopped_at, "no permit, no record");
    // Commits are answered all the same.
    driver.commit_read(&lane("orders", 0)).await;

    for _ in 0..3 {
        driver.held.clear();
        let before = driver.count();
        driver.until("more", |driver| driver.count() > before).await;
        driver.drive(Duration::from_millis(400)).await;
    }
    driver.hold = false;
    driver.held.clear();
    driver.until("all records", |driver| driver.count() == 6_000).await;
    for partition in 0..3 {
        let records = &driver.records[&lane("orders", partition)];
        for (number, (offset, value)) in records.iter().enumerate() {
            assert_eq!(usize::try_from(*offset).unwrap(), number);
            assert!(value.starts_with(format!("{partition}-{number}-").as_bytes()));
        }
    }
    driver.drive(Duration::from_millis(200)).await;
    assert_eq!(memory.used(), 0, "every permit came back");
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_the_pool_passes_alone() {
    let cluster = Cluster::new(&[("orders", 1)]);
    let large = vec![b'x'; 400 << 10];
    cluster.produce("orders", 0, [b"a".to_vec(), large.clone(), b"b".to_vec()]).await;
    let mut driver = Driver::open_with(cluster.source("g", "orders"), Pool::new(64 << 10)).await;
    driver.until("all records", |driver| driver.count() == 3).await;
    assert_eq!(driver.records[&lane("orders", 0)][1].1.len(), large.len());
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lane_that_lags_does_not_stop_the_others() {
    let cluster = Cluster::new(&[("orders", 2)]);
    let filler = "x".repeat(1_000);
    for partition in 0..2 {
        let values = (0..4_900).map(|number| format!("{partition}-{number}-{filler}"));
        cluster.produce("orders", partition, values).await;
    }
    // Room enough for both, were it not for the bound of each.
    let mut driver = Driver::open_with(cluster.source("g", "orders"), Pool::new(64 << 20)).await;
    driver.hold = true;
    let slow = lane("orders", 0);
    let fast = lane("orders", 1);
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while driver.records.get(&fast).map_or(0, Vec::len) < 4_900 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", driver.counts());
        driver.drive(Duration::from_millis(20)).await;
        // Only the fast lane gives its memory back.
        driver.held.retain(|batch| *batch.lane() == slow);
    }
    let held: usize = driver.held.iter().map(aqueduct_core::Batch::bytes).sum();
    assert!((3 << 20..6 << 20).contains(&held), "{held} bytes of one lane in flight");
    driver.held.clear();
    driver.hold = false;
    driver.until("the rest", |driver| driver.count() == 9_800).await;
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_lanes_get_nothing_until_they_are_resumed() {
    let cluster = Cluster::new(&[("orders", 2)]);
    cluster.number("orders", 0, 0, 10).await;
    cluster.number("orders", 1, 0, 10).await;
    let mut driver = Driver::open(cluster.source("g", "orders")).await;
    // Asked for before the partition is ours.
    driver.control.pause(&[lane("orders", 0)]);
    driver.until("the other lane", |driver| driver.count() == 10).await;
    driver.drive(Duration::from_secs(1)).await;
    assert_eq!(driver.counts(), [("orders[1]".to_owned(), 10)].into());
    driver.control.resume(&[lane("orders", 0)]);
    driver.until("the paused lane", |driver| driver.count() == 20).await;
    driver.control.pause(&[lane("orders", 0), lane("orders", 1)]);
    driver.drive(Duration::from_millis(300)).await;
    cluster.number("orders", 1, 10, 5).await;
    driver.drive(Duration::from_secs(1)).await;
    assert_eq!(driver.count(), 20);
    driver.control.resume(&[lane("orders", 0), lane("orders", 1)]);
    driver.until("the late records", |driver| driver.count() == 25).await;
    driver.assert_complete("orders", 1, 10);
    driver.source.close().await.unwrap();
}
