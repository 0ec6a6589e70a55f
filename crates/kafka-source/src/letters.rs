//! Dead letters out of a Kafka topic.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use aqueduct_core::{
    LetterSource, Offset, OwnedRecord, StageError, StoredLetter, Timestamp, TopicPartition, UnreadableLetter,
};
use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::LastError;
use crate::config::is_topic_name;
use crate::connect;
use crate::connection::{Connection, connection_methods};
use crate::dead_letter::{FIRST, LetterContext};
use crate::error::KafkaSourceError;
use crate::properties::{ConfigError, ConfigProblem, Owned};

/// How long brokers may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one poll waits.
const POLL: Duration = Duration::from_millis(200);
/// Letters, and about how many bytes of them, that are read in one go.
const READ_LETTERS: usize = 256;
const READ_BYTES: usize = 4 << 20;
const STAGE: &str = "read dead letters";

type Found = Result<StoredLetter, UnreadableLetter>;

/// Reads the letters that [`KafkaDeadLetters`](crate::KafkaDeadLetters) has stored in a topic, of all its partitions, from the
/// start to the end that was there when it began.
///
/// It joins no group and commits nothing: whoever reads again reads everything again, and others are not disturbed. What is
/// in the topic without our headers is named and left out.
///
/// # Errors
/// Of [`next`](LetterSource::next): [`KafkaSourceError`]'s, after eight seconds at the start, or after brokers have been silent
/// for thirty.
///
/// ```no_run
/// # async fn read() -> Result<(), Box<dyn std::error::Error>> {
/// use aqueduct_core::LetterSource;
///
/// let mut letters = aqueduct_kafka_source::KafkaLetters::builder()
///     .brokers("localhost:9092")
///     .topic("orders.dead-letters")
///     .build()?;
/// while let Some(letter) = letters.next().await? {
///     println!("{}", letter.map_or_else(|error| error.to_string(), |letter| letter.reason));
/// }
/// # Ok(())
/// # }
/// ```
pub struct KafkaLetters {
    topic: String,
    connection: Connection,
    reader: Option<Box<Reader>>,
    ready: VecDeque<Found>,
}

impl KafkaLetters {
    /// Starts a configuration; brokers and topic have no default.
    pub fn builder() -> KafkaLettersBuilder {
        KafkaLettersBuilder { connection: Connection::default(), topic: String::new() }
    }
}

impl fmt::Debug for KafkaLetters {
    /// Never prints credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLetters")
            .field("topic", &self.topic)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl LetterSource for KafkaLetters {
    async fn next(&mut self) -> Result<Option<Found>, StageError> {
        if self.ready.is_empty() {
            // Taken out: a call that is dropped, or fails, begins anew.
            let (reader, topic, connection) =
                (self.reader.take(), self.topic.clone(), self.connection.clone());
            let read = tokio::task::spawn_blocking(move || {
                let mut reader = match reader {
                    Some(reader) => reader,
                    None => Box::new(Reader::open(topic, &connection)?),
                };
                let ready = reader.read()?;
                Ok((reader, ready))
            });
            let read = read.await.map_err(|error| StageError::fatal(STAGE, error))?;
            let (reader, ready) = read.map_err(|error: KafkaSourceError| StageError::new(STAGE, error))?;
            (self.reader, self.ready) = (Some(reader), ready);
        }
        Ok(self.ready.pop_front())
    }
}

/// Builds [`KafkaLetters`].
#[derive(Clone, Debug)]
#[must_use]
pub struct KafkaLettersBuilder {
    connection: Connection,
    topic: String,
}

impl KafkaLettersBuilder {
    connection_methods!();

    /// The topic letters are in.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Checks the configuration; the first letter connects.
    ///
    /// # Errors
    /// All problems at once: what is missing, properties the reader owns, properties librdkafka refuses.
    pub fn build(mut self) -> Result<KafkaLetters, ConfigError> {
        let mut problems = self.connection.settle(OWNED);
        if self.topic.is_empty() {
            problems.push(ConfigProblem::Missing { what: "the dead-letter topic", call: "topic(\"name\")" });
        } else if !is_topic_name(&self.topic) {
            problems.push(ConfigProblem::Invalid {
                what: "the dead-letter topic",
                found: format!("{:?}", self.topic),
                expected: "a name has 1 to 249 of the characters a-z A-Z 0-9 . _ -",
            });
        }
        ConfigError::check(problems)?;
        let Self { topic, connection } = self;
        Ok(KafkaLetters { topic, connection, reader: None, ready: VecDeque::new() })
    }
}

/// A consumer on its way through the topic. Its methods block.
struct Reader {
    consumer: BaseConsumer<LetterContext>,
    brokers: String,
    topic: String,
    /// Partitions that are not read to their end yet, with the end.
    open: BTreeMap<i32, i64>,
}

impl Reader {
    fn open(topic: String, connection: &Connection) -> Result<Self, KafkaSourceError> {
        connection.warn("letters");
        let mut config = connection.client_config(DEFAULTS);
        // Assignments by hand ask for a name; nobody joins a group of it.
        config.set("group.id", "aqueduct-letters").set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false").set("enable.partition.eof", "true");
        let last_error = LastError::default();
        let context = LetterContext::new(last_error.clone(), connection);
        let consumer: BaseConsumer<LetterContext> =
            config.create_with_context(context).map_err(KafkaSourceError::Client)?;
        let brokers = connection.brokers().to_owned();
        let deadline = Instant::now() + connect::PATIENCE;
        let mut reader = Self { consumer, brokers, topic, open: BTreeMap::new() };
        loop {
            let Err(error) = reader.find_ends(connect::attempt(deadline))? else { return Ok(reader) };
            // Errors come as events, which somebody has to take. Nothing is assigned, so no letter is among them.
            let event = reader.consumer.poll(Duration::from_millis(50)).and_then(Result::err);
            let reason = last_error.get();
            if let Some(refused) =
                reason.as_ref().and_then(|reason| connect::refusal(&reader.brokers, "", reason))
            {
                return Err(refused);
            }
            if Instant::now() >= deadline {
                let detail =
                    reason.map(|reason| reason.detail).or_else(|| event.map(|event| event.to_string()));
                let detail = detail.unwrap_or_else(|| error.to_string());
                let (brokers, waited) = (reader.brokers, connect::PATIENCE);
                return Err(KafkaSourceError::Unreachable { brokers, waited, detail });
            }
        }
    }

    /// Looks where every partition begins and ends, and assigns those with something in them. The inner error may pass.
    fn find_ends(&mut self, timeout: Duration) -> Result<Result<(), KafkaError>, KafkaSourceError> {
        // All topics, because asking for one by name may create it.
        let metadata = match self.consumer.fetch_metadata(None, timeout) {
            Ok(metadata) => metadata,
            Err(error) => return Ok(Err(error)),
        };
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == self.topic) else {
            let (topic, brokers) = (self.topic.clone(), self.brokers.clone());
            return Err(KafkaSourceError::UnknownTopic { topic, brokers });
        };
        let mut assignment = TopicPartitionList::new();
        self.open.clear();
        for partition in topic.partitions() {
            let (low, high) = match self.consumer.fetch_watermarks(&self.topic, partition.id(), timeout) {
                Ok(ends) => ends,
                Err(error) => return Ok(Err(error)),
            };
            if low < high {
                self.open.insert(partition.id(), high);
                let added = assignment.add_partition_offset(
                    &self.topic,
                    partition.id(),
                    rdkafka::Offset::Offset(low),
                );
                added.map_err(KafkaSourceError::Client)?;
            }
        }
        Ok(self.consumer.assign(&assignment))
    }

    /// Some more letters; none at the end.
    fn read(&mut self) -> Result<VecDeque<Found>, KafkaSourceError> {
        let (mut ready, mut bytes) = (VecDeque::new(), 0);
        let mut silent_since = Instant::now();
        while !self.open.is_empty() && ready.len() < READ_LETTERS && bytes < READ_BYTES {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    silent_since = Instant::now();
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(end) = self.open.get(&partition).copied() else { continue };
                    if offset < end {
                        bytes += message.payload_len();
                        ready.push_back(letter(&message));
                    }
                    if offset + 1 >= end {
                        self.open.remove(&partition);
                    }
                }
                // What is behind the last record of the topic may be markers of transactions.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    silent_since = Instant::now();
                    self.open.remove(&partition);
                }
                Some(Err(_)) | None if silent_since.elapsed() < PATIENCE => {
                    // Nobody waits for more while there is something to do.
                    if !ready.is_empty() {
                        break;
                    }
                }
                silence => {
                    let detail = match silence {
                        Some(Err(error)) => error.to_string(),
                        _ => "no record came".to_owned(),
                    };
                    let (brokers, waited) = (self.brokers.clone(), PATIENCE);
                    return Err(KafkaSourceError::Unreachable { brokers, waited, detail });
                }
            }
        }
        Ok(ready)
    }
}

/// What a message holds, if it is a letter of ours.
fn letter(message: &BorrowedMessage<'_>) -> Found {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key, header.value)).collect::<Vec<_>>()
    });
    let (key, value) = (message.key(), message.payload());
    read_letter(&headers, key, value).map_err(|detail| {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        UnreadableLetter { place: format!("{topic}[{partition}]@{offset}"), detail }
    })
}

/// The record's own headers come first, as they were; a record that was a letter itself has an older set of ours among them.
fn read_letter(
    headers: &[(&str, Option<&[u8]>)],
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<StoredLetter, String> {
    let first = headers.iter().rposition(|(name, _)| *name == FIRST);
    let (own, ours) = headers.split_at(first.ok_or_else(|| format!("it has no header {FIRST}"))?);
    let text = |name: &str| {
        let found = ours.iter().find(|(known, _)| *known == name).and_then(|(_, value)| *value);
        found.map(String::from_utf8_lossy)
    };
    let needed = |name: &str| text(name).ok_or_else(|| format!("it has no header {name}"));
    let number =
        |name: &str| needed(name)?.parse::<i64>().map_err(|_| format!("its header {name} is no number"));
    let partition = i32::try_from(number("aqueduct.partition")?);
    let partition = partition.map_err(|_| "its header aqueduct.partition is no partition".to_owned())?;
    let timestamp = if text("aqueduct.timestamp").is_none() {
        Timestamp::None
    } else {
        let ms = number("aqueduct.timestamp")?;
        // Letters of before say only when.
        let of_the_broker = text("aqueduct.timestamp.type").as_deref() == Some("log-append");
        if of_the_broker { Timestamp::LogAppend(ms) } else { Timestamp::Create(ms) }
    };
    let pipeline = text("aqueduct.pipeline").or_else(|| text("__connect.errors.connector.name"));
    Ok(StoredLetter {
        record: OwnedRecord {
            lane: TopicPartition::new(needed("aqueduct.topic")?, partition),
            offset: Offset::new(number("aqueduct.offset")?),
            timestamp,
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            headers: (own.iter())
                .map(|(name, value)| ((*name).to_owned(), value.map(Bytes::copy_from_slice)))
                .collect(),
        },
        pipeline: pipeline.unwrap_or_default().into_owned(),
        pipeline_version: text("aqueduct.pipeline.version").unwrap_or_default().into_owned(),
        stage: needed("aqueduct.stage")?.into_owned(),
        reason: needed("aqueduct.reason")?.into_owned(),
        detail: text("aqueduct.detail").unwrap_or_default().into_owned(),
    })
}

const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "aqueduct-letters"),
    ("queued.max.messages.kbytes", "8192"),
    // An end that retention passes meanwhile is an error event, and the partition's end comes all the same.
    ("auto.offset.reset", "earliest"),
];

const OWNED: &[Owned] = &[
    Owned { name: "group.id", reason: "reading letters joins no group; remove it" },
    Owned { name: "enable.auto.commit", reason: "reading letters commits nothing; remove it" },
    Owned { name: "enable.partition.eof", reason: "it tells where the letters end; remove it" },
];

#[cfg(test)]
mod tests {
    use aqueduct_core::{DeadLetter, Poison, PoisonReason, PoisonStage};
    use proptest::prelude::*;

    use super::*;
    use crate::dead_letter::KafkaDeadLetters;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_letter_reads_back(
            headers in proptest::collection::vec(("[^\0]{0,20}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40))), 0..6),
            topic: String, partition: i32, offset: i64, time in proptest::option::of((any::<bool>(), any::<i64>())),
            key: Option<Vec<u8>>, value: Option<Vec<u8>>, detail: String, again: bool,
        ) {
            let sink = KafkaDeadLetters::builder()
                .brokers("127.0.0.1:1").topic("dead").pipeline("orders").pipeline_version("7").build().unwrap();
            let mut record = OwnedRecord {
                lane: TopicPartition::new(topic, partition),
                offset: Offset::new(offset),
                timestamp: time.map_or(Timestamp::None, |(created, ms)| {
                    if created { Timestamp::Create(ms) } else { Timestamp::LogAppend(ms) }
                }),
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers: headers.into_iter().map(|(name, value)| (name, value.map(Bytes::from))).collect(),
            };
            let poison = Poison::new(PoisonReason::Malformed, detail);
            // A letter whose record was a letter.
            for _ in 0..=usize::from(again) {
                let letter = DeadLetter { record: record.clone(), stage: PoisonStage::ConvertKey, poison: poison.clone() };
                let written = sink.headers(&letter);
                let written: Vec<_> = written.iter().map(|it| (it.key, it.value)).collect();
                let read = read_letter(&written, record.key.as_deref(), record.value.as_deref()).unwrap();
                prop_assert_eq!(&read.record, &record);
                prop_assert_eq!((read.pipeline.as_str(), read.pipeline_version.as_str()), ("orders", "7"));
                prop_assert_eq!((read.stage.as_str(), read.reason.as_str()), ("convert-key", "malformed"));
                prop_assert_eq!(read.detail.as_str(), poison.detail());
                record.headers = written.iter().map(|(name, value)| {
                    ((*name).to_owned(), value.map(Bytes::copy_from_slice))
                }).collect();
            }
        }

        #[test]
        fn any_headers_are_a_letter_or_an_error(
            headers in proptest::collection::vec((
                proptest::sample::select(vec![FIRST, "aqueduct.topic", "aqueduct.partition", "aqueduct.offset", "aqueduct.stage", "aqueduct.timestamp", "x"]),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
            ), 0..12),
        ) {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_deref())).collect();
            read_letter(&headers, None, None).ok();
        }
    }
}
