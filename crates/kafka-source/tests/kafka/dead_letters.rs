use std::time::Duration;

use aqueduct_core::{
    Class, DeadLetter, DeadLetterSink as _, LetterSource as _, Offset, OwnedRecord, Poison, PoisonReason,
    PoisonStage, Timestamp,
};
use aqueduct_kafka_source::{ConfigProblem, KafkaDeadLetters, KafkaLetters};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::support::{Cluster, lane};

fn letter(offset: i64, value: Option<&'static str>) -> DeadLetter {
    DeadLetter {
        record: OwnedRecord {
            lane: lane("orders", 3),
            offset: Offset::new(offset),
            timestamp: Timestamp::Create(1_700_000_000_000),
            key: Some("key".into()),
            value: value.map(Into::into),
            headers: vec![("trace".to_owned(), Some("abc".into())), ("absent".to_owned(), None)],
        },
        stage: PoisonStage::Convert,
        poison: Poison::new(PoisonReason::Malformed, "expected a value at byte 3"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_the_record_with_its_identity_and_the_reason() {
    let cluster = Cluster::new(&[("letters", 1)]);
    let letters = KafkaDeadLetters::builder()
        .brokers(cluster.brokers())
        .topic("letters")
        .pipeline("p")
        .build()
        .unwrap();
    letters.check().await.unwrap();
    letters.send(vec![letter(41, Some("{")), letter(42, None)]).await.unwrap();

    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", cluster.brokers())
        .set("group.id", "reader")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("letters", 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut read = Vec::new();
    while read.len() < 2 {
        read.push(consumer.poll(Duration::from_secs(20)).expect("a letter in time").unwrap().detach());
    }
    assert_eq!(read[0].payload(), Some(&b"{"[..]));
    assert_eq!(read[1].payload(), None, "a tombstone stays one");
    for (message, offset) in read.iter().zip(["41", "42"]) {
        assert_eq!(message.key(), Some(&b"key"[..]));
        assert_eq!(message.timestamp().to_millis(), Some(1_700_000_000_000));
        let headers: Vec<_> = message
            .headers()
            .unwrap()
            .iter()
            .map(|it| (it.key.to_owned(), it.value.map(|value| String::from_utf8(value.to_vec()).unwrap())))
            .collect();
        assert_eq!(headers[0], ("trace".to_owned(), Some("abc".to_owned())), "its own headers come first");
        assert_eq!(headers[1], ("absent".to_owned(), None));
        for (name, value) in [
            ("__connect.errors.topic", "orders"),
            ("__connect.errors.partition", "3"),
            ("__connect.errors.offset", offset),
            ("__connect.errors.connector.name", "p"),
            ("__connect.errors.task.id", "0"),
            ("__connect.errors.stage", "VALUE_CONVERTER"),
            ("__connect.errors.class.name", "convert"),
            ("__connect.errors.exception.class.name", "aqueduct.malformed"),
            ("__connect.errors.exception.message", "expected a value at byte 3"),
            ("aqueduct.topic", "orders"),
            ("aqueduct.partition", "3"),
            ("aqueduct.offset", offset),
            ("aqueduct.timestamp", "1700000000000"),
            ("aqueduct.stage", "convert"),
            ("aqueduct.reason", "malformed"),
            ("aqueduct.detail", "expected a value at byte 3"),
        ] {
            let expected = (name.to_owned(), Some(value.to_owned()));
            assert!(headers.contains(&expected), "{expected:?} in {headers:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_cannot_be_stored_is_an_error_of_its_record() {
    let cluster = Cluster::new(&[("letters", 1)]);
    let letters = KafkaDeadLetters::builder().brokers(cluster.brokers()).topic("letters").build().unwrap();
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.mock.request_errors(RDKafkaApiKey::Produce, &[denied]);
    let error = letters.send(vec![letter(41, Some("{"))]).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    let text = aqueduct_core::ErrorChain(&error).to_string();
    assert!(text.contains("orders[3] at offset 41") && text.contains("letters"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_the_topic_refuses_does_not_keep_a_letter_out() {
    let cluster = Cluster::new(&[("letters", 1)]);
    let letters = KafkaDeadLetters::builder().brokers(cluster.brokers()).topic("letters").build().unwrap();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP;
    cluster.mock.request_errors(RDKafkaApiKey::Produce, &[refused]);
    letters.send(vec![letter(41, Some("{"))]).await.unwrap();
    // A topic that goes on refusing is an error, not a loop.
    cluster.mock.request_errors(RDKafkaApiKey::Produce, &[refused, refused]);
    letters.send(vec![letter(42, Some("{"))]).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_and_a_missing_broker_are_found_before_anything_is_read() {
    let cluster = Cluster::new(&[("letters", 1)]);
    let letters = KafkaDeadLetters::builder().brokers(cluster.brokers()).topic("leters").build().unwrap();
    let error = letters.check().await.unwrap_err();
    let text = aqueduct_core::ErrorChain(&error).to_string();
    assert!(text.contains("topic leters does not exist"), "{text}");

    let letters = KafkaDeadLetters::builder().brokers("127.0.0.1:1").topic("letters").build().unwrap();
    let started = std::time::Instant::now();
    assert_eq!(letters.check().await.unwrap_err().class(), Class::Fatal);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_durability_needs_cannot_be_changed() {
    let error = KafkaDeadLetters::builder()
        .property("acks", "1")
        .property("enable.idempotence", "false")
        .property("sasl.password", "canary")
        .build()
        .unwrap_err();
    let owned: Vec<_> =
        error.problems().iter().filter(|it| matches!(it, ConfigProblem::Owned { .. })).collect();
    assert_eq!((owned.len(), error.problems().len()), (2, 4), "{error}");
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_read_from_the_start_to_the_end_that_was_there_as_often_as_one_likes() {
    let cluster = Cluster::new(&[("letters", 3), ("empty", 2)]);
    let sink = KafkaDeadLetters::builder().brokers(cluster.brokers()).topic("letters").pipeline_version("7");
    let sink = sink.build().unwrap();
    let keyed = |offset: i64| {
        let mut letter = letter(offset, Some("{"));
        letter.record.key = Some(offset.to_string().into());
        letter
    };
    sink.send((0..600).map(keyed).collect()).await.unwrap();
    cluster.produce("letters", 1, ["no letter"]).await;
    let reader =
        |topic: &str| KafkaLetters::builder().brokers(cluster.brokers()).topic(topic).build().unwrap();
    for _ in 0..2 {
        let mut letters = reader("letters");
        let (mut offsets, mut unreadable) = (Vec::new(), Vec::new());
        while let Some(found) = letters.next().await.unwrap() {
            if offsets.is_empty() {
                // Behind the end that was there.
                cluster.produce("letters", 1, ["later"]).await;
            }
            match found {
                Ok(read) => {
                    assert_eq!(read.record, keyed(read.record.offset.get()).record);
                    assert_eq!(read.pipeline_version, "7");
                    offsets.push(read.record.offset.get());
                }
                Err(error) => unreadable.push(error),
            }
        }
        offsets.sort_unstable();
        assert_eq!(offsets, (0..600).collect::<Vec<_>>());
        assert!(unreadable.iter().all(|it| it.place.starts_with("letters[1]@")), "{unreadable:?}");
    }
    assert!(reader("empty").next().await.unwrap().is_none());
    let error = reader("nowhere").next().await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(aqueduct_core::ErrorChain(&error).to_string().contains("nowhere"), "{error:?}");
}
