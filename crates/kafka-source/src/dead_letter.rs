//! Dead letters into a Kafka topic.

use std::fmt;
use std::time::{Duration, Instant};

use aqueduct_core::{DeadLetter, DeadLetterSink, PoisonStage, StageError, Timestamp};
use async_trait::async_trait;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::util::Timeout;

use crate::client::{LastError, log_line};
use crate::config::is_topic_name;
use crate::connect;
use crate::connection::{Connection, connection_methods};
use crate::error::KafkaSourceError;
use crate::properties::{ConfigError, ConfigProblem, Owned};

/// Stores dead letters in a topic.
///
/// A letter is the record as it was (key, value, timestamp, headers) with two sets of headers behind its own:
/// `__connect.errors.*` as Kafka Connect's sinks write them, so that existing tools read them, and
/// `aqueduct.*`, the record's identity and why it is here:
///
/// | header | |
/// | --- | --- |
/// | `aqueduct.topic`, `.partition`, `.offset` | where the record was read |
/// | `aqueduct.timestamp`, `.timestamp.type` | milliseconds since 1970, and whose clock: `create` or `log-append`; null without |
/// | `aqueduct.stage`, `.reason`, `.detail` | where it failed and why |
/// | `aqueduct.pipeline`, `.pipeline.version` | who could not process it; the version is your own text |
/// | `aqueduct.preview` | the first bytes of the value in [printable form](DeadLetter::preview); null for a tombstone |
///
/// No header holds configuration. A timestamp that the topic refuses is replaced by the time of sending; the header keeps it.
///
/// # Durability
/// `send` returns once all in-sync replicas have every letter. A crash before the lane's commit sends letters again:
/// (topic, partition, offset) identifies them.
///
/// ```no_run
/// # fn main() -> Result<(), aqueduct_kafka_source::ConfigError> {
/// let letters = aqueduct_kafka_source::KafkaDeadLetters::builder()
///     .brokers("localhost:9092")
///     .topic("orders.dead-letters")
///     .build()?;
/// # drop(letters);
/// # Ok(())
/// # }
/// ```
pub struct KafkaDeadLetters {
    topic: String,
    brokers: String,
    pipeline: String,
    pipeline_version: String,
    producer: FutureProducer<LetterContext>,
    last_error: LastError,
    connection: Connection,
}

impl KafkaDeadLetters {
    /// Starts a configuration; brokers and topic have no default.
    pub fn builder() -> KafkaDeadLettersBuilder {
        KafkaDeadLettersBuilder {
            connection: Connection::default(),
            topic: String::new(),
            pipeline: "aqueduct".to_owned(),
            pipeline_version: String::new(),
        }
    }

    pub(crate) fn headers(&self, letter: &DeadLetter) -> OwnedHeaders {
        let record = &letter.record;
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + OURS);
        for (name, value) in &record.headers {
            headers = headers.insert(Header { key: name, value: value.as_deref() });
        }
        let partition = record.lane.partition().to_string();
        let offset = record.offset.to_string();
        let timestamp = record.timestamp.millis().map(|ms| ms.to_string());
        let reason = letter.poison.reason().as_str();
        let exception = format!("aqueduct.{reason}");
        let clock = match record.timestamp {
            Timestamp::None => None,
            Timestamp::Create(_) => Some("create"),
            Timestamp::LogAppend(_) => Some("log-append"),
        };
        let preview = letter.preview();
        let ours: [(&str, Option<&str>); OURS] = [
            (FIRST, Some(record.lane.topic())),
            ("__connect.errors.partition", Some(&partition)),
            ("__connect.errors.offset", Some(&offset)),
            ("__connect.errors.connector.name", Some(&self.pipeline)),
            ("__connect.errors.task.id", Some("0")),
            ("__connect.errors.stage", Some(connect_stage(letter.stage))),
            ("__connect.errors.class.name", Some(letter.stage.as_str())),
            ("__connect.errors.exception.class.name", Some(&exception)),
            ("__connect.errors.exception.message", Some(letter.poison.detail())),
            ("aqueduct.topic", Some(record.lane.topic())),
            ("aqueduct.partition", Some(&partition)),
            ("aqueduct.offset", Some(&offset)),
            ("aqueduct.timestamp", timestamp.as_deref()),
            ("aqueduct.timestamp.type", clock),
            ("aqueduct.stage", Some(letter.stage.as_str())),
            ("aqueduct.reason", Some(reason)),
            ("aqueduct.detail", Some(letter.poison.detail())),
            ("aqueduct.pipeline", Some(&self.pipeline)),
            ("aqueduct.pipeline.version", Some(&self.pipeline_version)),
            ("aqueduct.preview", preview.as_deref()),
        ];
        for (key, value) in ours {
            headers = headers.insert(Header { key, value });
        }
        headers
    }

    async fn send_one(&self, letter: &DeadLetter) -> Result<(), KafkaSourceError> {
        let timestamp = letter.record.timestamp.millis().filter(|ms| *ms >= 0);
        let sent = match self.produce(letter, timestamp).await {
            // By default a broker takes no time that is an hour ahead (`message.timestamp.after.max.ms`), and refuses
            // whatever came in one batch with it. The record's own time is in the headers.
            Err(RDKafkaErrorCode::InvalidTimestamp) => self.produce(letter, None).await,
            sent => sent,
        };
        sent.map_err(|code| KafkaSourceError::Produce {
            topic: self.topic.clone(),
            lane: letter.record.lane.clone(),
            offset: letter.record.offset,
            code,
        })
    }

    /// Resolves when the letter is stored; without a timestamp, it gets the time of now.
    async fn produce(&self, letter: &DeadLetter, timestamp: Option<i64>) -> Result<(), RDKafkaErrorCode> {
        let record = FutureRecord::<[u8], [u8]> {
            topic: &self.topic,
            partition: None,
            payload: letter.record.value.as_deref(),
            key: letter.record.key.as_deref(),
            timestamp,
            headers: Some(self.headers(letter)),
        };
        let sent = self.producer.send(record, Timeout::Never).await;
        sent.map(drop).map_err(|(error, _)| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))
    }
}

impl fmt::Debug for KafkaDeadLetters {
    /// Never prints credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaDeadLetters")
            .field("topic", &self.topic)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl DeadLetterSink for KafkaDeadLetters {
    async fn check(&self) -> Result<(), StageError> {
        let probe = Probe {
            producer: self.producer.clone(),
            last_error: self.last_error.clone(),
            topic: self.topic.clone(),
            brokers: self.brokers.clone(),
        };
        let checked = tokio::task::spawn_blocking(move || probe.run()).await;
        checked
            .map_err(|error| StageError::fatal("dead-letter check", error))?
            .map_err(|error| StageError::new("dead-letter check", error))
    }

    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StageError> {
        // All are handed to the producer in order before the first answer is awaited.
        let sends = letters.iter().map(|letter| self.send_one(letter));
        let outcomes = futures::future::join_all(sends).await;
        for outcome in outcomes {
            outcome.map_err(|error| StageError::new("dead-letter send", error))?;
        }
        Ok(())
    }
}

/// How long brokers may take to answer the check: less than the 8 s the pipeline gives it, which would only say that the
/// time was over.
const PATIENCE: Duration = Duration::from_secs(7);

/// Looks for the topic, on a thread that may block.
struct Probe {
    producer: FutureProducer<LetterContext>,
    last_error: LastError,
    topic: String,
    brokers: String,
}

impl Probe {
    fn run(&self) -> Result<(), KafkaSourceError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // All topics, because asking for one by name may create it.
            let error = match self.producer.client().fetch_metadata(None, connect::attempt(deadline)) {
                Ok(metadata) if metadata.topics().iter().any(|topic| topic.name() == self.topic) => {
                    return Ok(());
                }
                Ok(_) => {
                    return Err(KafkaSourceError::UnknownTopic {
                        topic: self.topic.clone(),
                        brokers: self.brokers.clone(),
                    });
                }
                Err(error) => error,
            };
            let reason = self.last_error.get();
            if let Some(refused) =
                reason.as_ref().and_then(|reason| connect::refusal(&self.brokers, "", reason))
            {
                return Err(refused);
            }
            if Instant::now() >= deadline {
                return Err(KafkaSourceError::Unreachable {
                    brokers: self.brokers.clone(),
                    waited: PATIENCE,
                    detail: reason.map_or_else(|| error.to_string(), |reason| reason.detail),
                });
            }
        }
    }
}

/// Where log lines and error events of letters' clients go.
pub(crate) struct LetterContext {
    last_error: LastError,
    #[cfg(feature = "oauthbearer")]
    tokens: Option<std::sync::Arc<dyn crate::oauth::OAuthTokens>>,
}

impl LetterContext {
    pub(crate) fn new(last_error: LastError, connection: &Connection) -> Self {
        #[cfg(not(feature = "oauthbearer"))]
        let _ = connection;
        Self {
            last_error,
            #[cfg(feature = "oauthbearer")]
            tokens: connection.tokens(),
        }
    }
}

impl ConsumerContext for LetterContext {}

impl ClientContext for LetterContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = cfg!(feature = "oauthbearer");

    #[cfg(feature = "oauthbearer")]
    fn generate_oauth_token(
        &self,
        _config: Option<&str>,
    ) -> Result<rdkafka::client::OAuthToken, Box<dyn std::error::Error>> {
        crate::oauth::ask(self.tokens.as_deref())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.last_error.note(&error, reason);
        tracing::warn!(%error, "{reason}");
    }
}

/// Builds [`KafkaDeadLetters`].
#[derive(Clone, Debug)]
#[must_use]
pub struct KafkaDeadLettersBuilder {
    connection: Connection,
    topic: String,
    pipeline: String,
    pipeline_version: String,
}

impl KafkaDeadLettersBuilder {
    connection_methods!();

    /// The topic letters go to. It must exist.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// The name written as `aqueduct.pipeline` and as Connect's `connector.name`. Default: `aqueduct`.
    pub fn pipeline(mut self, name: impl Into<String>) -> Self {
        self.pipeline = name.into();
        self
    }

    /// The version of the pipeline, as you call it: a tag, a commit. Default: empty.
    pub fn pipeline_version(mut self, version: impl Into<String>) -> Self {
        self.pipeline_version = version.into();
        self
    }

    /// Checks the configuration; [`check`](DeadLetterSink::check) connects.
    ///
    /// # Errors
    /// All problems at once: what is missing, properties the producer owns, properties librdkafka refuses.
    pub fn build(mut self) -> Result<KafkaDeadLetters, ConfigError> {
        let mut problems = self.connection.settle(OWNED);
        problems.extend(topic_problem(&self.topic));
        ConfigError::check(problems)?;
        self.connection.warn("dead letters");
        let mut config = self.connection.client_config(DEFAULTS);
        config.set("enable.idempotence", "true").set("acks", "all");
        let last_error = LastError::default();
        let created = config.create_with_context(LetterContext::new(last_error.clone(), &self.connection));
        let producer = created.map_err(|error| {
            ConfigError::single(ConfigProblem::Refused {
                name: "combination".to_owned(),
                detail: error.to_string(),
            })
        })?;
        Ok(KafkaDeadLetters {
            topic: self.topic,
            brokers: self.connection.brokers().to_owned(),
            pipeline: self.pipeline,
            pipeline_version: self.pipeline_version,
            producer,
            last_error,
            connection: self.connection,
        })
    }
}

/// What is wrong with the name of the topic that letters go to, or are read from.
pub(crate) fn topic_problem(topic: &str) -> Option<ConfigProblem> {
    let what = "the dead-letter topic";
    if topic.is_empty() {
        return Some(ConfigProblem::Missing { what, call: "topic(\"name\")" });
    }
    (!is_topic_name(topic)).then(|| ConfigProblem::Invalid {
        what,
        found: format!("{topic:?}"),
        expected: "a name has 1 to 249 of the characters a-z A-Z 0-9 . _ -",
    })
}

/// The stage names Kafka Connect uses.
fn connect_stage(stage: PoisonStage) -> &'static str {
    match stage {
        PoisonStage::Convert => "VALUE_CONVERTER",
        PoisonStage::ConvertKey => "KEY_CONVERTER",
        PoisonStage::ConvertHeader => "HEADER_CONVERTER",
        PoisonStage::Partition => "TRANSFORMATION",
        _ => "TASK_PUT",
    }
}

/// Our headers, behind the record's own.
const OURS: usize = 20;
/// The first of them.
pub(crate) const FIRST: &str = "__connect.errors.topic";

const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "aqueduct-dead-letters"),
    // A target that is down is an error the lane retries; letters do not wait longer in here.
    ("message.timeout.ms", "30000"),
    ("queue.buffering.max.kbytes", "8192"),
    ("linger.ms", "5"),
];

const OWNED: &[Owned] = &[
    Owned {
        name: "acks",
        reason: "a record is passed only when its letter is on all in-sync replicas; remove it",
    },
    Owned {
        name: "request.required.acks",
        reason: "a record is passed only when its letter is on all in-sync replicas; remove it",
    },
    Owned { name: "enable.idempotence", reason: "letters keep their order and are not repeated; remove it" },
    Owned { name: "transactional.id", reason: "letters are not sent in transactions; remove it" },
];

#[cfg(test)]
mod tests {
    use aqueduct_core::{Offset, OwnedRecord, Poison, PoisonReason, TopicPartition};
    use bytes::Bytes;
    use proptest::prelude::*;
    use rdkafka::message::Headers as _;

    use super::*;

    fn letters() -> KafkaDeadLetters {
        KafkaDeadLetters::builder().brokers("127.0.0.1:1").topic("dead").build().unwrap()
    }

    #[test]
    fn a_topic_no_broker_would_have_is_refused_by_name() {
        for topic in ["^all", "a b", "a\0", "\u{e9}", &"x".repeat(250)] {
            let error = KafkaDeadLetters::builder().brokers("b:1").topic(topic).build().unwrap_err();
            assert!(matches!(error.problems(), [ConfigProblem::Invalid { .. }]), "{error}");
        }
    }

    #[test]
    fn stages_have_the_names_that_connect_gives_them() {
        let names = [
            (PoisonStage::Convert, "VALUE_CONVERTER"),
            (PoisonStage::ConvertKey, "KEY_CONVERTER"),
            (PoisonStage::ConvertHeader, "HEADER_CONVERTER"),
            (PoisonStage::Partition, "TRANSFORMATION"),
            (PoisonStage::Encode, "TASK_PUT"),
            (PoisonStage::Target, "TASK_PUT"),
        ];
        for (stage, name) in names {
            assert_eq!(connect_stage(stage), name);
        }
    }

    #[test]
    fn the_headers_of_any_record_come_first_and_unchanged() {
        let letters = letters();
        let header = ("[^\0]{0,20}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)));
        let input = (
            proptest::collection::vec(header, 0..6),
            any::<String>(),
            any::<String>(),
            any::<i64>(),
            any::<i32>(),
        );
        proptest!(|((headers, topic, detail, offset, partition) in input)| {
            let value = |bytes: &Vec<u8>| Bytes::copy_from_slice(bytes);
            let record = OwnedRecord {
                lane: TopicPartition::new(topic.clone(), partition),
                offset: Offset::new(offset),
                timestamp: Timestamp::Create(offset),
                key: None,
                value: None,
                headers: headers.iter().map(|(name, bytes)| (name.clone(), bytes.as_ref().map(value))).collect(),
            };
            let poison = Poison::new(PoisonReason::Malformed, detail);
            let written = letters.headers(&DeadLetter { record, stage: PoisonStage::Convert, poison: poison.clone() });
            let read: Vec<(String, Option<Vec<u8>>)> =
                written.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect();
            let (theirs, ours) = read.split_at(headers.len());
            prop_assert_eq!(theirs, &headers[..]);
            let one = |name: &str| {
                let found: Vec<_> = ours.iter().filter(|(known, _)| known == name).collect();
                prop_assert_eq!(found.len(), 1, "{}", name);
                Ok(String::from_utf8(found[0].1.clone().unwrap()).unwrap())
            };
            // What identifies the record is behind whatever the record says of itself.
            prop_assert_eq!(one("aqueduct.topic")?, topic);
            prop_assert_eq!(one("aqueduct.offset")?, offset.to_string());
            prop_assert_eq!(one("aqueduct.partition")?, partition.to_string());
            prop_assert_eq!(one("aqueduct.detail")?, poison.detail());
        });
        // A name with a zero byte reaches no reader whole; it ends nothing.
        let name = "a\0b".to_owned();
        let record = OwnedRecord {
            lane: TopicPartition::new("t", 0),
            offset: Offset::ZERO,
            timestamp: Timestamp::None,
            key: None,
            value: None,
            headers: vec![(name, None)],
        };
        let poison = Poison::new(PoisonReason::Malformed, "");
        assert_eq!(
            letters.headers(&DeadLetter { record, stage: PoisonStage::Convert, poison }).count(),
            OURS + 1
        );
    }
}
