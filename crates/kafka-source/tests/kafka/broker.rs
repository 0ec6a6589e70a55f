//! What only a real broker can show. `AQUEDUCT_TEST_BROKERS=host:port cargo test -p aqueduct-kafka-source -- --ignored`
//!
//! `AQUEDUCT_TEST_SASL_BROKERS` names a listener that speaks `SASL_PLAINTEXT` with `PLAIN`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aqueduct_core::{
    Class, DeadLetterSink as _, ErrorChain, Fingerprint, Intent, Mark, MarkOrigin, Offset, OffsetRange, Pool,
    Source as _, SourceContext, SourceEvent,
};
use aqueduct_kafka_source::{KafkaDeadLetters, KafkaSource, KafkaSourceBuilder};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer as _};

use crate::support::{Driver, lane};

pub(crate) fn brokers() -> String {
    std::env::var("AQUEDUCT_TEST_BROKERS").expect("AQUEDUCT_TEST_BROKERS names a broker")
}

pub(crate) fn unique(name: &str) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    format!("{name}-{}-{}", std::process::id(), now.as_nanos() % 1_000_000_000)
}

pub(crate) async fn topic(name: &str, partitions: i32) -> String {
    let name = unique(name);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    for created in admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
        created.unwrap();
    }
    name
}

async fn number(topic: &str, partition: i32, from: usize, count: usize) {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let mut sent = Vec::new();
    for number in from..from + count {
        let value = format!("{partition}-{number}");
        let record = FutureRecord::<[u8], _>::to(topic).partition(partition).payload(&value);
        sent.push(producer.send_result(record).map_err(|(error, _)| error).unwrap());
    }
    for sent in sent {
        sent.await.unwrap().unwrap();
    }
}

pub(crate) fn source(group: &str, topic: &str) -> KafkaSourceBuilder {
    KafkaSource::builder()
        .brokers(brokers())
        .group(group)
        .topics([topic])
        .property("session.timeout.ms", "6000")
        .property("heartbeat.interval.ms", "500")
}

/// The property everything else stands on: librdkafka waits for the confirmation of a revocation, while commits of
/// lanes that leave and of lanes that stay are answered.
async fn a_slow_handover_commits_to_the_last_moment(
    configure: impl Fn(KafkaSourceBuilder) -> KafkaSourceBuilder,
) {
    let topic = topic("handover", 4).await;
    for partition in 0..4 {
        number(&topic, partition, 0, 100).await;
    }
    let group = unique("handover");
    let open = || configure(KafkaSource::builder().brokers(brokers()).group(&group).topics([&topic]));
    let mut first = Driver::open(open()).await;
    first.until("the records", |driver| driver.count() == 400).await;
    let mut second = Driver::open(open()).await;

    // The first member takes four seconds to hand over; the second has nothing until then.
    let second_had = tokio::spawn(async move {
        second.until("a share", |driver| !driver.owned.is_empty()).await;
        (Instant::now(), second)
    });
    let (moving, done) = loop {
        if let SourceEvent::Revoked { lanes, done, .. } = first.source.next().await.unwrap() {
            break (lanes, done);
        }
    };
    let asked = Instant::now();
    let staying: Vec<_> = first.owned.iter().filter(|name| !moving.contains(name)).cloned().collect();
    for (round, name) in moving.iter().chain(&staying).enumerate() {
        let mark = Mark::at(Offset::new(10 + i64::try_from(round).unwrap()));
        first.control.commit(name, mark).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!second_had.is_finished(), "the partitions have moved before they were handed over");
    for name in &moving {
        first.control.commit(name, Mark::at(Offset::new(100))).await.unwrap();
        first.owned.remove(name);
    }
    done.send(());
    first.drive(Duration::from_secs(1)).await;
    let (had, mut second) = second_had.await.unwrap();
    assert!(had.duration_since(asked) >= Duration::from_secs(4));
    let refused = first.control.commit(&moving[0], Mark::at(Offset::new(100))).await.unwrap_err();
    assert_eq!(refused.class(), Class::Fenced, "a partition that was handed over takes no commit");
    second.drive(Duration::from_secs(1)).await;
    for assignment in &second.assigned {
        assert_eq!((assignment.mark.next, assignment.origin), (Offset::new(100), MarkOrigin::Committed));
    }
    assert_eq!(second.count(), 0, "nothing is read twice");
    assert!(first.lost.is_empty() && second.lost.is_empty());
    first.source.close().await.unwrap();
    second.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn a_handover_waits_for_the_lanes_incremental() {
    a_slow_handover_commits_to_the_last_moment(|source| source).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn a_handover_waits_for_the_lanes_eager() {
    a_slow_handover_commits_to_the_last_moment(|source| {
        source.property("partition.assignment.strategy", "range")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn a_handover_waits_for_the_lanes_in_the_next_generation_protocol() {
    a_slow_handover_commits_to_the_last_moment(|source| source.property("group.protocol", "consumer")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn an_unknown_topic_is_not_created() {
    let mut source = source("g", &unique("missing")).build().unwrap();
    let context = SourceContext { memory: Pool::new(1 << 20), adopt_foreign_marks: false };
    let started = Instant::now();
    let error = source.open(context).await.unwrap_err();
    assert!(ErrorChain(&error).to_string().contains("does not exist"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn aborted_transactions_and_control_records_are_passed() {
    let topic = topic("transactions", 1).await;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .set("transactional.id", unique("tx"))
        .create()
        .unwrap();
    let timeout = Duration::from_secs(30);
    producer.init_transactions(timeout).unwrap();
    for (count, commit) in [(10, true), (20, false), (5, true), (7, false)] {
        producer.begin_transaction().unwrap();
        for number in 0..count {
            let value = number.to_string();
            producer
                .send(BaseRecord::<[u8], _>::to(&topic).payload(&value))
                .map_err(|(error, _)| error)
                .unwrap();
        }
        producer.flush(timeout).unwrap();
        if commit {
            producer.commit_transaction(timeout).unwrap();
        } else {
            producer.abort_transaction(timeout).unwrap();
        }
    }
    // 42 records and 4 control records; the last 7 + 1 are no records.
    let mut driver = Driver::open(source(&unique("g"), &topic).until_end()).await;
    driver.until("the end", |driver| driver.finished == 1).await;
    assert_eq!(driver.count(), 15);
    assert_eq!(driver.reached[&lane(&topic, 0)], Offset::new(46));
    driver.source.close().await.unwrap();

    let mut driver = Driver::open(source(&unique("g"), &topic)).await;
    driver.until("the end", |driver| driver.reached.get(&lane(&topic, 0)) == Some(&Offset::new(46))).await;
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn one_lane_s_refused_commit_does_not_hide_another_s() {
    let topic = topic("partial", 2).await;
    number(&topic, 0, 0, 10).await;
    number(&topic, 1, 0, 10).await;
    let group = unique("partial");
    let mut driver = Driver::open(source(&group, &topic)).await;
    driver.until("the records", |driver| driver.count() == 20).await;
    driver.drive(Duration::from_millis(300)).await;
    // Over the broker's 4096 characters.
    let mut fingerprint = Fingerprint::new();
    for part in ["converter", "partitioner", "format", "key", "prefix", "zone"] {
        for copy in 0..30 {
            fingerprint.put(&format!("{part}{copy}"), "x");
        }
    }
    let large = Mark {
        next: Offset::ZERO,
        intent: Some(Intent {
            range: OffsetRange::new(Offset::ZERO, Offset::new(10)).unwrap(),
            fingerprint,
            rows: 10,
            offsets_hash: 1,
            opened_at_ms: 1,
            token: vec![1; Intent::TOKEN_MAX].into(),
        }),
    };
    let lanes = [lane(&topic, 0), lane(&topic, 1)];
    let (refused, stored) = tokio::join!(
        driver.control.commit(&lanes[0], large),
        driver.control.commit(&lanes[1], Mark::at(Offset::new(10))),
    );
    stored.unwrap();
    let refused = refused.unwrap_err();
    assert_eq!(refused.class(), Class::Fatal);
    assert!(ErrorChain(&refused).to_string().contains("offset.metadata.max.bytes"), "{refused}");
    driver.source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker with SASL"]
async fn wrong_credentials_are_an_error_within_ten_seconds_and_not_shown() {
    let brokers = std::env::var("AQUEDUCT_TEST_SASL_BROKERS").unwrap();
    let properties = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "nobody"),
        ("sasl.password", "canary-51c"),
    ];
    let source = KafkaSource::builder().brokers(&brokers).group("g").topics(["t"]).properties(properties);
    let mut source = source.build().unwrap();
    let context = SourceContext { memory: Pool::new(1 << 20), adopt_foreign_marks: false };
    let started = Instant::now();
    let error = source.open(context).await.unwrap_err();
    let text = format!("{} {error:?} {source:?}", ErrorChain(&error));
    assert!(text.contains("refused the credentials") && text.contains("`sasl.password`"), "{text}");
    assert!(!text.contains("canary-51c"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(10));

    let letters = KafkaDeadLetters::builder().brokers(&brokers).topic("t").properties(properties);
    let started = Instant::now();
    let error = letters.build().unwrap().check().await.unwrap_err();
    let text = format!("{} {error:?}", ErrorChain(&error));
    assert!(text.contains("refused the credentials") && !text.contains("canary-51c"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// Deleting records behind a mark moves the start of the log past it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn records_gone_before_they_were_read_stop_the_pipeline() {
    let topic = topic("retention", 1).await;
    number(&topic, 0, 0, 100).await;
    let group = unique("retention");
    let mut driver = Driver::open(source(&group, &topic)).await;
    driver.until("the records", |driver| driver.count() == 100).await;
    driver.control.commit(&lane(&topic, 0), Mark::at(Offset::new(10))).await.unwrap();
    driver.source.close().await.unwrap();

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, rdkafka::Offset::Offset(50)).unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();

    let mut driver = Driver::open(source(&group, &topic)).await;
    driver.until("an error", |driver| !driver.errors.is_empty()).await;
    assert_eq!(driver.assigned[0].log_start, Offset::new(50));
    let text = ErrorChain(&driver.errors[0]).to_string();
    assert!(text.contains(&format!("{topic}[0] at 10 of [50, 100)")), "{text}");
    assert_eq!(driver.count(), 0);
    driver.source.close().await.unwrap();
}

/// The other process of the zombie test; does nothing unless that test starts it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test"]
async fn zombie() {
    let (Ok(topic), Ok(group)) = (std::env::var("ZOMBIE_TOPIC"), std::env::var("ZOMBIE_GROUP")) else {
        return;
    };
    let protocol = std::env::var("ZOMBIE_PROTOCOL").unwrap();
    let mut driver = Driver::open(zombie_source(&group, &topic, &protocol)).await;
    driver.until("the records", |driver| driver.count() == 100).await;
    let name = lane(&topic, 0);
    driver.control.commit(&name, Mark::at(Offset::new(20))).await.unwrap();
    println!("\nzombie: ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    // The process was stopped while it waited for that line: all of this is a member of the past.
    let class = driver.control.commit(&name, Mark::at(Offset::new(30))).await.map_err(|error| error.class());
    println!("\nzombie: {class:?}");
    driver.until("the loss", |driver| !driver.lost.is_empty()).await;
    println!("\nzombie: lost");
    driver.until("a membership", |driver| driver.assigned.len() >= 2).await;
    println!("\nzombie: {}", driver.assigned[1].mark.next);
    driver.source.close().await.unwrap();
}

fn zombie_source(group: &str, topic: &str, protocol: &str) -> KafkaSourceBuilder {
    let source = KafkaSource::builder().brokers(brokers()).group(group).topics([topic]);
    match protocol {
        // The broker sets this protocol's session timeout, 45 s by default.
        "consumer" => source.property("group.protocol", "consumer"),
        _ => source.property("session.timeout.ms", "6000").property("heartbeat.interval.ms", "500"),
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

async fn a_stopped_member_changes_no_mark(protocol: &str) {
    let topic = topic("zombie", 1).await;
    let group = unique("zombie");
    number(&topic, 0, 0, 100).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["broker::zombie", "--exact", "--ignored", "--nocapture"])
        .envs([("ZOMBIE_TOPIC", &*topic), ("ZOMBIE_GROUP", &*group), ("ZOMBIE_PROTOCOL", protocol)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("zombie: ").map(str::to_owned));
    assert_eq!(lines.next().as_deref(), Some("ready"));
    signal(&child, "-STOP");

    let mut heir = Driver::open(zombie_source(&group, &topic, protocol)).await;
    heir.until("the inheritance", |driver| driver.count() == 80).await;
    assert_eq!(heir.assigned[0].mark.next, Offset::new(20));
    heir.control.commit(&lane(&topic, 0), Mark::at(Offset::new(60))).await.unwrap();

    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    signal(&child, "-CONT");
    assert_eq!(lines.next().as_deref(), Some("Err(Fenced)"));
    assert_eq!(lines.next().as_deref(), Some("lost"));
    heir.drive(Duration::from_secs(2)).await;
    heir.source.close().await.unwrap();
    // Back as a new member, it finds what its heir has committed.
    assert_eq!(lines.next().as_deref(), Some("60"));
    assert!(child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn a_stopped_member_changes_no_mark_classic() {
    a_stopped_member_changes_no_mark("classic").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn a_stopped_member_changes_no_mark_in_the_next_generation_protocol() {
    a_stopped_member_changes_no_mark("consumer").await;
}

/// Two processes under one name: the second one gets the partitions, the first one ends and says why.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn a_second_bearer_of_a_static_members_name_ends_the_first() {
    let topic = topic("fenced", 1).await;
    number(&topic, 0, 0, 10).await;
    let group = unique("fenced");
    let mut first = Driver::open(source(&group, &topic).static_member("pod-0")).await;
    first.until("the records", |driver| driver.count() == 10).await;
    let mut second = Driver::open(source(&group, &topic).static_member("pod-0")).await;
    second.until("the records", |driver| driver.count() == 10).await;
    first.until("an error", |driver| !driver.errors.is_empty()).await;
    assert_eq!(first.errors[0].class(), Class::Fatal);
    let text = ErrorChain(&first.errors[0]).to_string();
    assert!(text.contains("static member pod-0") && text.contains(&group), "{text}");
    second.drive(Duration::from_secs(2)).await;
    assert!(second.lost.is_empty() && second.errors.is_empty(), "{:?}", second.errors);
    second.source.close().await.unwrap();
    first.source.close().await.unwrap();
}

/// A static member that closes and comes back keeps its partitions: no other member gets them in between.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker"]
async fn a_static_member_comes_back_to_its_partitions_without_a_rebalance() {
    let topic = topic("static", 4).await;
    let group = unique("static");
    let member = |name: &str| {
        let source = KafkaSource::builder().brokers(brokers()).group(&group).topics([&topic]);
        source.property("session.timeout.ms", "30000").static_member(name)
    };
    let mut first = Driver::open(member("pod-0")).await;
    first.until("all partitions", |driver| driver.owned.len() == 4).await;
    let mut second = Driver::open(member("pod-1")).await;
    let deadline = Instant::now() + crate::support::PATIENCE;
    while first.owned.len() != 2 || second.owned.len() != 2 {
        assert!(Instant::now() < deadline, "{:?} {:?}", first.owned, second.owned);
        first.drive(Duration::from_millis(50)).await;
        second.drive(Duration::from_millis(50)).await;
    }
    let owned = second.owned.clone();
    second.source.close().await.unwrap();
    first.drive(Duration::from_secs(3)).await;
    let started = Instant::now();
    let mut second = Driver::open(member("pod-1")).await;
    second.until("its partitions", |driver| driver.owned.len() == 2).await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(second.owned, owned);
    first.drive(Duration::from_secs(1)).await;
    assert_eq!(first.owned.len(), 2);
    assert_eq!(first.revoked.len(), 2, "once, when the second came first");
    second.source.close().await.unwrap();
    first.source.close().await.unwrap();
}
