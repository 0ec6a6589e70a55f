use std::time::Duration;

use aqueduct_core::Source as _;

use crate::support::{Cluster, Driver};

/// Two members share the partitions, one leaves, and nothing is lost, read twice or out of order.
async fn members_come_and_go(strategy: &str, incremental: bool) {
    let cluster = Cluster::new(&[("orders", 4)]);
    for partition in 0..4 {
        cluster.number("orders", partition, 0, 200).await;
    }
    let source = || cluster.source("g", "orders").property("partition.assignment.strategy", strategy);
    let mut first = Driver::open(source()).await;
    first.until("the records", |driver| driver.count() == 800).await;
    // Not while handing over: the in-process broker, unlike a real one, refuses commits in that time.
    for name in &first.owned {
        first.commit_read(name).await;
    }

    let mut second = Driver::open(source()).await;
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while first.owned.len() != 2 || second.owned.len() != 2 {
        assert!(tokio::time::Instant::now() < deadline, "{:?} {:?}", first.owned, second.owned);
        first.drive(Duration::from_millis(50)).await;
        second.drive(Duration::from_millis(50)).await;
    }
    // The eager protocol takes everything, each time the group changes.
    let expected = if incremental { 2..=2 } else { 4..=usize::MAX };
    assert!(expected.contains(&first.revoked.len()), "{:?}", first.revoked);
    assert!(first.lost.is_empty() && second.lost.is_empty());
    // What the first has committed is not read again.
    second.drive(Duration::from_millis(500)).await;
    assert_eq!(second.count(), 0);

    for partition in 0..4 {
        cluster.number("orders", partition, 200, 100).await;
    }
    first.until("new records", |driver| driver.count() == 800 + 200).await;
    second.until("new records", |driver| driver.count() == 200).await;
    for member in [&first, &second] {
        for name in &member.owned {
            member.commit_read(name).await;
        }
    }
    second.source.close().await.unwrap();
    first.until("all partitions again", |driver| driver.owned.len() == 4).await;
    for partition in 0..4 {
        cluster.number("orders", partition, 300, 10).await;
    }
    first.until("the rest", |driver| driver.count() == 1000 + 40).await;
    let mut all = first.records.clone();
    for (name, records) in &second.records {
        all.entry(name.clone()).or_default().extend(records.iter().cloned());
    }
    for records in all.values_mut() {
        records.sort();
    }
    first.records = all;
    first.assert_complete("orders", 4, 310);
    first.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_and_hand_over_incrementally() {
    members_come_and_go("cooperative-sticky", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_and_hand_over_eagerly() {
    members_come_and_go("range,roundrobin", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_members_than_partitions_end_a_bounded_run() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 10).await;
    let mut first = Driver::open(cluster.source("g", "orders").until_end()).await;
    let mut second = Driver::open(cluster.source("g", "orders").until_end()).await;
    tokio::join!(
        first.until("the end", |driver| driver.finished == 1),
        second.until("the end", |driver| driver.finished == 1),
    );
    assert_eq!(first.count() + second.count(), 10);
    first.source.close().await.unwrap();
    second.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_only_dropped_leaves_its_group() {
    let cluster = Cluster::new(&[("orders", 1)]);
    cluster.number("orders", 0, 0, 10).await;
    let mut first = Driver::open(cluster.source("g", "orders")).await;
    first.until("the records", |driver| driver.count() == 10).await;
    drop(first);
    let mut second = Driver::open(cluster.source("g", "orders")).await;
    second.until("the records", |driver| driver.count() == 10).await;
    // Dropped while an assignment waits for its answer: the thread must not wait for it for ever.
    drop(second);
    let mut third = cluster.source("g", "orders").build().unwrap();
    let memory = aqueduct_core::Pool::new(1 << 20);
    let context = aqueduct_core::SourceContext { memory, adopt_foreign_marks: false };
    third.open(context).await.unwrap();
    let assigned = tokio::time::timeout(crate::support::PATIENCE, third.next()).await.unwrap().unwrap();
    assert!(matches!(assigned, aqueduct_core::SourceEvent::Assigned(..)));
    let started = std::time::Instant::now();
    third.close().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop(assigned);
}
