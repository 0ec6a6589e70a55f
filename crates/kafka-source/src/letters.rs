//! Dead letters out of a Kafka topic.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use aqueduct_core::{
    LetterSource, Offset, OwnedRecord, StageError, StoredLetter, Timestamp, TopicPartition, UnreadableLetter,
};
use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::LastError;
use crate::connect;
use crate::connection::{Connection, connection_methods};
use crate::dead_letter::{FIRST, LetterContext, topic_problem};
use crate::error::KafkaSourceError;
use crate::properties::{ConfigError, Owned};

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
        problems.extend(topic_problem(&self.topic));
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
    open: Open,
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
        let mut reader = Self { consumer, brokers, topic, open: Open::default() };
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
        self.open.0.clear();
        for partition in topic.partitions() {
            let (low, high) = match self.consumer.fetch_watermarks(&self.topic, partition.id(), timeout) {
                Ok(ends) => ends,
                Err(error) => return Ok(Err(error)),
            };
            if low < high {
                self.open.0.insert(partition.id(), high);
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
        while !self.open.is_done() && ready.len() < READ_LETTERS && bytes < READ_BYTES {
            let silence = match self.consumer.poll(POLL) {
                Some(Ok(message)) => match self.open.reached(message.partition(), message.offset()) {
                    Reached::Letter => {
                        bytes += message.payload_len();
                        ready.push_back(letter(&message));
                        None
                    }
                    Reached::End => None,
                    Reached::Beyond => Some("no record came".to_owned()),
                },
                // What is behind the last record of the topic may be markers of transactions.
                Some(Err(KafkaError::PartitionEOF(partition))) if self.open.ended(partition) => None,
                Some(Err(error)) => Some(error.to_string()),
                None => Some("no record came".to_owned()),
            };
            let Some(detail) = silence else {
                silent_since = Instant::now();
                continue;
            };
            if silent_since.elapsed() >= PATIENCE {
                let (brokers, waited) = (self.brokers.clone(), PATIENCE);
                return Err(KafkaSourceError::Unreachable { brokers, waited, detail });
            }
            // Nobody waits for more while there is something to do.
            if !ready.is_empty() {
                break;
            }
        }
        Ok(ready)
    }
}

/// Partitions that are not read to their end yet, with the end.
#[derive(Default)]
struct Open(BTreeMap<i32, i64>);

/// What a record is to a partition.
#[derive(Debug, PartialEq, Eq)]
enum Reached {
    /// One of those to be read.
    Letter,
    /// None, but all before it have been read.
    End,
    /// None, and that was known: it came since. It says nothing of the partitions that are waited for.
    Beyond,
}

impl Open {
    fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    fn reached(&mut self, partition: i32, offset: i64) -> Reached {
        let Some(end) = self.0.get(&partition).copied() else { return Reached::Beyond };
        if offset + 1 >= end {
            self.0.remove(&partition);
        }
        if offset < end { Reached::Letter } else { Reached::End }
    }

    /// Whether it was waited for.
    fn ended(&mut self, partition: i32) -> bool {
        self.0.remove(&partition).is_some()
    }
}

/// What a message holds, if it is a letter of ours.
fn letter(message: &BorrowedMessage<'_>) -> Found {
    letter_of(message.headers(), message.key(), message.payload()).map_err(|detail| {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        UnreadableLetter { place: format!("{topic}[{partition}]@{offset}"), detail }
    })
}

fn letter_of<H: Headers>(
    headers: Option<&H>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<StoredLetter, String> {
    let headers = match headers {
        // The binding panics on names that are not UTF-8, and anybody may write to the topic.
        Some(headers) => catch_unwind(AssertUnwindSafe(|| {
            headers.iter().map(|header| (header.key, header.value)).collect::<Vec<_>>()
        }))
        .map_err(|_| "the name of a header is not UTF-8".to_owned())?,
        None => Vec::new(),
    };
    read_letter(&headers, key, value)
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

    /// Headers as the binding gives them if a name is not UTF-8.
    struct Damaged;

    impl Headers for Damaged {
        fn count(&self) -> usize {
            1
        }

        fn try_get(&self, _: usize) -> Option<rdkafka::message::Header<'_, &[u8]>> {
            panic!("Utf8Error")
        }
    }

    #[test]
    fn a_header_whose_name_is_no_text_makes_no_letter() {
        let why = letter_of(Some(&Damaged), None, Some(b"v")).unwrap_err();
        assert_eq!(why, "the name of a header is not UTF-8");
        let why = letter_of(None::<&Damaged>, None, Some(b"v")).unwrap_err();
        assert_eq!(why, format!("it has no header {FIRST}"));
    }

    #[test]
    fn what_comes_since_is_no_progress() {
        let mut open = Open([(0, 2), (1, 5)].into());
        assert_eq!(open.reached(0, 0), Reached::Letter);
        assert_eq!((open.reached(0, 1), open.is_done()), (Reached::Letter, false));
        // The first partition is done, and written to; the second has not begun.
        assert_eq!((open.reached(0, 2), open.ended(0)), (Reached::Beyond, false));
        // Compacted away up to its end.
        assert_eq!((open.reached(1, 7), open.is_done()), (Reached::End, true));
        let mut open = Open([(1, 5)].into());
        assert_eq!((open.ended(1), open.ended(1), open.is_done()), (true, false, true));
    }

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
