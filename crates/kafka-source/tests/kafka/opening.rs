use std::time::{Duration, Instant};

use aqueduct_core::{Class, ErrorChain, Pool, Source as _, SourceContext, StageError};
use aqueduct_kafka_source::{KafkaSource, KafkaSourceBuilder};
use rdkafka::types::RDKafkaRespErr;

use crate::support::Cluster;

async fn refused(builder: KafkaSourceBuilder) -> (String, Duration) {
    let mut source = builder.build().unwrap();
    let started = Instant::now();
    let context = SourceContext { memory: Pool::new(1 << 20), adopt_foreign_marks: false };
    let error: StageError = source.open(context).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    source.close().await.unwrap();
    (ErrorChain(&error).to_string(), started.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_broker_is_an_error_within_ten_seconds() {
    // Nothing listens on port 1.
    let source = KafkaSource::builder().brokers("127.0.0.1:1").group("g").topics(["orders"]);
    let (text, took) = refused(source).await;
    assert!(text.contains("127.0.0.1:1") && text.contains("brokers"), "{text}");
    assert!(took < Duration::from_secs(11), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_of_another_protocol_is_an_error_within_ten_seconds() {
    let cluster = Cluster::new(&[("orders", 1)]);
    let (text, took) = refused(cluster.source("g", "orders").property("security.protocol", "ssl")).await;
    assert!(text.contains("security.protocol"), "{text}");
    assert!(took < Duration::from_secs(11), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_named() {
    let cluster = Cluster::new(&[("orders", 1)]);
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.mock.topic_error("ordres", unknown).unwrap();
    let (text, took) = refused(cluster.source("g", "orders").topics(["ordres"])).await;
    assert!(text.contains("topic ordres does not exist"), "{text}");
    assert!(took < Duration::from_secs(11), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_may_not_be_read_is_named() {
    let cluster = Cluster::new(&[("orders", 1)]);
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.mock.topic_error("orders", denied).unwrap();
    let (text, _) = refused(cluster.source("g", "orders")).await;
    assert!(text.contains("do not allow") && text.contains("topic orders"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_that_contradict_each_other_fail_at_open() {
    let source = KafkaSource::builder()
        .brokers("127.0.0.1:1")
        .group("g")
        .topics(["orders"])
        .property("session.timeout.ms", "60000")
        .property("max.poll.interval.ms", "10000");
    let (text, took) = refused(source).await;
    assert!(text.contains("max.poll.interval.ms"), "{text}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_source_prints_no_secret() {
    let source = KafkaSource::builder()
        .brokers("b:1")
        .group("g")
        .topics(["orders"])
        .property("sasl.password", "canary-1")
        .property("ssl.key.pem", "canary-2")
        .build()
        .unwrap();
    let text = format!("{source:?}");
    assert!(!text.contains("canary") && text.contains("sasl.password"), "{text}");
}
