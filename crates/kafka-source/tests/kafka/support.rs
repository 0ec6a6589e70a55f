//! A broker, a producer, and a driver that plays the pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::{
    Assignment, Batch, Mark, Offset, Pool, Source as _, SourceContext, SourceControl, SourceEvent,
    StageError, TopicPartition,
};
use aqueduct_kafka_source::{KafkaSource, KafkaSourceBuilder};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};

/// Long enough for the mock broker's 3 s before a group's first assignment, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Cluster {
    pub(crate) mock: MockCluster<'static, DefaultProducerContext>,
    producer: FutureProducer,
}

impl Cluster {
    /// One broker with the topics `(name, partitions)`.
    pub(crate) fn new(topics: &[(&str, i32)]) -> Self {
        let mock = MockCluster::new(1).unwrap();
        for (topic, partitions) in topics {
            mock.create_topic(topic, *partitions, 1).unwrap();
        }
        let producer =
            ClientConfig::new().set("bootstrap.servers", mock.bootstrap_servers()).create().unwrap();
        Self { mock, producer }
    }

    pub(crate) fn brokers(&self) -> String {
        self.mock.bootstrap_servers()
    }

    /// Stores `values` in order.
    pub(crate) async fn produce<V: AsRef<[u8]>>(
        &self,
        topic: &str,
        partition: i32,
        values: impl IntoIterator<Item = V>,
    ) {
        let mut sent = Vec::new();
        for value in values {
            let record = FutureRecord::<[u8], [u8]>::to(topic).partition(partition).payload(value.as_ref());
            sent.push(self.producer.send_result(record).map_err(|(error, _)| error).unwrap());
        }
        for sent in sent {
            sent.await.unwrap().unwrap();
        }
    }

    pub(crate) async fn number(&self, topic: &str, partition: i32, from: usize, count: usize) {
        let values = (from..from + count).map(|number| format!("{partition}-{number}"));
        self.produce(topic, partition, values).await;
    }

    pub(crate) fn source(&self, group: &str, topic: &str) -> KafkaSourceBuilder {
        KafkaSource::builder()
            .brokers(self.brokers())
            .group(group)
            .topics([topic])
            .property("session.timeout.ms", "6000")
            .property("heartbeat.interval.ms", "500")
    }
}

pub(crate) fn lane(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

/// Plays the pipeline: answers every question at once and writes down what it was given.
pub(crate) struct Driver {
    pub(crate) source: KafkaSource,
    pub(crate) control: Arc<dyn SourceControl>,
    pub(crate) owned: BTreeSet<TopicPartition>,
    pub(crate) assigned: Vec<Assignment>,
    pub(crate) records: BTreeMap<TopicPartition, Vec<(i64, Vec<u8>)>>,
    pub(crate) reached: BTreeMap<TopicPartition, Offset>,
    pub(crate) lost: Vec<TopicPartition>,
    pub(crate) revoked: Vec<TopicPartition>,
    pub(crate) finished: usize,
    pub(crate) ends: BTreeMap<TopicPartition, Offset>,
    pub(crate) errors: Vec<StageError>,
    /// Batches are kept, with their memory, while this is set.
    pub(crate) hold: bool,
    pub(crate) held: Vec<Batch>,
}

impl Driver {
    pub(crate) async fn open(builder: KafkaSourceBuilder) -> Self {
        Self::open_with(builder, Pool::new(24 << 20)).await
    }

    pub(crate) async fn open_with(builder: KafkaSourceBuilder, memory: Pool) -> Self {
        let mut source = builder.build().unwrap();
        source.open(SourceContext { memory, adopt_foreign_marks: false }).await.unwrap();
        let control = source.control();
        Self {
            source,
            control,
            owned: BTreeSet::new(),
            assigned: Vec::new(),
            records: BTreeMap::new(),
            reached: BTreeMap::new(),
            lost: Vec::new(),
            revoked: Vec::new(),
            finished: 0,
            ends: BTreeMap::new(),
            errors: Vec::new(),
            hold: false,
            held: Vec::new(),
        }
    }

    /// Handles one event.
    pub(crate) async fn step(&mut self) {
        match self.source.next().await {
            Ok(SourceEvent::Batch(batch)) => {
                assert!(self.owned.contains(batch.lane()), "{} is not owned", batch.lane());
                let records = self.records.entry(batch.lane().clone()).or_default();
                records.extend(
                    batch.iter().map(|it| (it.offset().get(), it.value().unwrap_or_default().to_vec())),
                );
                if self.hold {
                    self.held.push(batch);
                }
            }
            Ok(SourceEvent::Assigned(assignments, reply)) => {
                for assignment in &assignments {
                    assert!(self.owned.insert(assignment.lane.clone()), "assigned twice");
                }
                let starts = assignments.iter().map(|it| (it.lane.clone(), it.mark.next)).collect();
                self.assigned.extend(assignments);
                reply.send(starts);
            }
            Ok(SourceEvent::Revoked { lanes, done, .. }) => {
                for lane in lanes {
                    assert!(self.owned.remove(&lane), "{lane} is revoked but not owned");
                    self.reached.remove(&lane);
                    self.revoked.push(lane);
                }
                done.send(());
            }
            Ok(SourceEvent::Lost(lanes)) => {
                for lane in lanes {
                    assert!(self.owned.remove(&lane), "{lane} is lost but not owned");
                    self.reached.remove(&lane);
                    self.lost.push(lane);
                }
            }
            Ok(SourceEvent::Reached { lane, next }) => {
                let before = self.reached.insert(lane.clone(), next);
                assert!(before.is_none_or(|before| before < next), "{lane} reached {next} after {before:?}");
            }
            Ok(SourceEvent::Ends(ends)) => self.ends.extend(ends),
            Ok(SourceEvent::Finished) => self.finished += 1,
            Ok(other) => panic!("unknown event {other:?}"),
            Err(error) => self.errors.push(error),
        }
    }

    /// Handles events until `done` says so.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !done(self) {
            let timely = tokio::time::timeout_at(deadline, self.step()).await.is_ok();
            assert!(
                timely,
                "not in time: {what}; owned {:?}, records {:?}, reached {:?}, lost {:?}, errors {:?}",
                self.owned,
                self.counts(),
                self.reached,
                self.lost,
                self.errors
            );
        }
    }

    /// Handles events for a while.
    pub(crate) async fn drive(&mut self, duration: Duration) {
        let deadline = tokio::time::Instant::now() + duration;
        while tokio::time::timeout_at(deadline, self.step()).await.is_ok() {}
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        self.records.iter().map(|(lane, records)| (lane.to_string(), records.len())).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.records.values().map(Vec::len).sum()
    }

    /// Commits everything read of the lane.
    pub(crate) async fn commit_read(&self, lane: &TopicPartition) {
        if let Some((offset, _)) = self.records.get(lane).and_then(|records| records.last()) {
            self.control.commit(lane, Mark::at(Offset::new(offset + 1))).await.unwrap();
        }
    }

    /// Every lane has the numbered records `0..count`, each once and in order.
    pub(crate) fn assert_complete(&self, topic: &str, partitions: i32, count: usize) {
        for partition in 0..partitions {
            let records = &self.records[&lane(topic, partition)];
            let expected: Vec<_> = (0..count)
                .map(|number| (i64::try_from(number).unwrap(), format!("{partition}-{number}").into_bytes()))
                .collect();
            assert!(*records == expected, "partition {partition}: {} of {count} records", records.len());
        }
    }
}
