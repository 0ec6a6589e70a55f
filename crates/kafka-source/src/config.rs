//! The source's settings.

use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;

use crate::connection::{Connection, connection_methods};
use crate::properties::{ConfigError, ConfigProblem, Owned};
use crate::source::KafkaSource;
use crate::start::StartAt;

/// How the members of the group agree on who reads what.
///
/// # Changing it
/// A group is of one protocol at a time. Brokers from 4.0 convert it while members change one by one
/// (`group.consumer.migration.policy=bidirectional`, their default); where the policy forbids it, the first member of
/// the other protocol is refused, and all members must stop before the first new one starts. Marks stay in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// Members agree among themselves (`JoinGroup`); handed over incrementally (`cooperative-sticky`) unless
    /// `partition.assignment.strategy` says otherwise. The default: every broker speaks it, and changing the protocol
    /// of a group that runs is an operator's decision.
    #[default]
    Classic,
    /// The broker decides (KIP-848): no pause of the whole group while one member comes or goes. Brokers from 4.0.
    /// The broker sets the session timeout (`group.consumer.session.timeout.ms`), so `session.timeout.ms` and
    /// `heartbeat.interval.ms` are refused. A broker that has the protocol switched off is an error that says so; for
    /// one that is too old to know it, the log says every 30 s that the group cannot be joined.
    Consumer,
}

/// Builds a [`KafkaSource`].
///
/// Brokers, group and topics have no default. Every librdkafka property can be set with
/// [`property`](Self::property), except the few that decide whether records are lost or duplicated
/// (`enable.auto.commit`, `enable.auto.offset.store`, `auto.offset.reset`, `enable.partition.eof`):
/// [`build`](Self::build) refuses those by name.
#[derive(Clone, Debug)]
#[must_use]
pub struct KafkaSourceBuilder {
    connection: Connection,
    topics: Vec<String>,
    start: StartAt,
    static_member: Option<String>,
    until_end: bool,
    batch_bytes: usize,
    linger: Duration,
    commit_timeout: Duration,
    revoke_timeout: Option<Duration>,
    headers: bool,
}

impl KafkaSourceBuilder {
    /// The default of [`batch_bytes`](Self::batch_bytes).
    pub const DEFAULT_BATCH_BYTES: usize = 1 << 20;
    /// The default of [`linger`](Self::linger).
    pub const DEFAULT_LINGER: Duration = Duration::from_millis(20);
    /// The default of [`commit_timeout`](Self::commit_timeout).
    pub const DEFAULT_COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
    /// The upper bound of the default [`revoke_timeout`](Self::revoke_timeout).
    pub const MAX_DEFAULT_REVOKE_TIMEOUT: Duration = Duration::from_secs(30);

    pub(crate) fn new() -> Self {
        Self {
            connection: Connection::default(),
            topics: Vec::new(),
            start: StartAt::default(),
            static_member: None,
            until_end: false,
            batch_bytes: Self::DEFAULT_BATCH_BYTES,
            linger: Self::DEFAULT_LINGER,
            commit_timeout: Self::DEFAULT_COMMIT_TIMEOUT,
            revoke_timeout: None,
            headers: true,
        }
    }

    connection_methods!();

    /// The consumer group (`group.id`): members of one group share the partitions and the marks.
    pub fn group(self, group: impl Into<String>) -> Self {
        self.property("group.id", group)
    }

    /// How the group agrees on who reads what (`group.protocol`). Default: [`GroupProtocol::Classic`].
    pub fn group_protocol(self, protocol: GroupProtocol) -> Self {
        let name = match protocol {
            GroupProtocol::Classic => "classic",
            GroupProtocol::Consumer => "consumer",
        };
        self.property("group.protocol", name)
    }

    /// Makes this process a static member of the group (`group.instance.id`, KIP-345): one that comes back under the
    /// same name within the session timeout gets its partitions again, at once and without a rebalance, also after a
    /// kill. The name must be this process's own, such as the name of its pod in a stateful set.
    ///
    /// - Closing the source does not leave the group: the partitions wait for the name to come back until the session
    ///   times out, and only then go to others. Choose `session.timeout.ms` as long as a restart takes.
    /// - A second process of the same name is a mistake that ends the first one, with an error that names it.
    /// - Under [`GroupProtocol::Consumer`] the name is free when its last bearer has closed; after a kill it is taken
    ///   until the session has timed out, and the source waits for that.
    pub fn static_member(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.static_member = Some(name.clone());
        self.property("group.instance.id", name)
    }

    /// Adds topics to read.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Adds all topics whose name matches; the expression starts with `^`. Topics that appear later are found at
    /// the next metadata refresh (`topic.metadata.refresh.interval.ms`).
    pub fn topic_regex(self, regex: impl Into<String>) -> Self {
        self.topics([regex.into()])
    }

    /// Where partitions start that have no mark. Default: [`StartAt::Earliest`].
    pub fn start(mut self, start: StartAt) -> Self {
        self.start = start;
        self
    }

    /// Ends the run at the end each partition has when it is first assigned: records that arrive later are left
    /// to the next run. The source reports `Finished` when every partition it holds has reached its end, also when
    /// it holds none because the group has more members than partitions.
    ///
    /// It speaks for the partitions of this member only. A member that was killed still holds its own until its session is
    /// over (`session.timeout.ms`, 45 s unless set otherwise): a run that is started again at once may be given the others,
    /// end with them, and leave those of the dead member to the run after it. Nothing is lost, the group's lag says so. With
    /// [`static_member`](Self::static_member) the new process is the old member and takes over what it held.
    pub fn until_end(mut self) -> Self {
        self.until_end = true;
        self
    }

    /// The most memory one batch takes, in bytes; batches of quiet partitions take less. Default: 1 MiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// How long a record waits for its batch to fill. Default: 20 ms.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// How long the coordinator may take to answer a commit. After it, nobody knows what an answer that still comes
    /// would mean: the source gives up all its partitions and joins again. Default: 30 s.
    pub fn commit_timeout(mut self, timeout: Duration) -> Self {
        self.commit_timeout = timeout;
        self
    }

    /// How long partitions that move to another member may take to publish and commit what they have read.
    /// Default: a third of `max.poll.interval.ms`, at most 30 s. More than a day counts as a day.
    pub fn revoke_timeout(mut self, timeout: Duration) -> Self {
        // Added to the time of a revocation, it must not pass the end of all times.
        self.revoke_timeout = Some(timeout.min(Duration::from_hours(24)));
        self
    }

    /// Leaves the headers of records behind: for topics that have none, or none that anybody wants. Default: they are kept. To ask
    /// librdkafka for them costs 60 to 80 ns of CPU a record, also where it has none, which nothing but asking tells.
    ///
    /// Whatever reads headers finds none: a converter that takes the id of a schema from them, columns and objects of headers,
    /// a partitioner by header. Dead letters are stored without the headers the record had, and a re-drive cannot bring them
    /// back. Change it only where rows do not depend on headers: a segment that was pinned before a restart is read again
    /// after it, and has to come out the same.
    pub fn without_headers(mut self) -> Self {
        self.headers = false;
        self
    }

    /// Checks the configuration without connecting.
    ///
    /// # Errors
    /// All problems at once: what is missing, properties the source owns, properties librdkafka refuses, certificates
    /// that cannot be read.
    pub fn build(mut self) -> Result<KafkaSource, ConfigError> {
        let mut problems = self.connection.settle(OWNED);
        if self.connection.properties.get("group.id").is_none_or(str::is_empty) {
            problems.push(ConfigProblem::Missing { what: "the consumer group", call: "group(\"name\")" });
        }
        if self.topics.is_empty() {
            problems.push(ConfigProblem::Missing { what: "the topic list", call: "topics([\"name\"])" });
        }
        for topic in &self.topics {
            if !is_pattern(topic) && !is_topic_name(topic) {
                problems.push(ConfigProblem::Invalid {
                    what: "a topic",
                    found: format!("{topic:?}"),
                    expected: "a name has 1 to 249 of the characters a-z A-Z 0-9 . _ -, an expression starts with ^",
                });
            }
        }
        if !(MIN_BATCH_BYTES..=MAX_BATCH_BYTES).contains(&self.batch_bytes) {
            problems.push(ConfigProblem::Invalid {
                what: "batch_bytes",
                found: self.batch_bytes.to_string(),
                expected: "choose 64 KiB to 64 MiB",
            });
        }
        for (what, timeout) in [
            ("commit_timeout", self.commit_timeout),
            ("revoke_timeout", self.revoke_timeout.unwrap_or(Duration::from_secs(1))),
        ] {
            if timeout.is_zero() {
                problems.push(ConfigProblem::Invalid {
                    what,
                    found: "0".to_owned(),
                    expected: "choose a few seconds",
                });
            }
        }
        let any_topic = self.topics.iter().any(|topic| is_pattern(topic));
        problems
            .extend(self.start.problems(|topic| any_topic || self.topics.iter().any(|read| read == topic)));
        if self.static_member.as_ref().is_some_and(String::is_empty) {
            problems.push(ConfigProblem::Invalid {
                what: "static_member",
                found: "empty".to_owned(),
                expected: "give a name that is this process's own",
            });
        }
        ConfigError::check(problems)?;
        Ok(KafkaSource::new(self.settings()))
    }

    fn settings(self) -> Settings {
        let properties = &self.connection.properties;
        let max_poll: u64 =
            properties.get("max.poll.interval.ms").and_then(|ms| ms.parse().ok()).unwrap_or(300_000);
        let revoke_timeout = self
            .revoke_timeout
            .unwrap_or(Duration::from_millis(max_poll / 3).min(Self::MAX_DEFAULT_REVOKE_TIMEOUT));
        Settings {
            brokers: self.connection.brokers().to_owned(),
            consumer_protocol: properties.get("group.protocol") == Some("consumer"),
            static_member: properties.get("group.instance.id").map(str::to_owned),
            group: properties.get("group.id").unwrap_or_default().to_owned(),
            topics: self.topics,
            start: self.start,
            until_end: self.until_end,
            batch_bytes: self.batch_bytes,
            linger: self.linger,
            commit_timeout: self.commit_timeout,
            revoke_timeout,
            headers: self.headers,
            connection: self.connection,
        }
    }
}

/// What the poll thread needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) brokers: String,
    pub(crate) group: String,
    pub(crate) topics: Vec<String>,
    pub(crate) start: StartAt,
    pub(crate) until_end: bool,
    pub(crate) batch_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) commit_timeout: Duration,
    pub(crate) revoke_timeout: Duration,
    /// Records keep their headers.
    pub(crate) headers: bool,
    /// The next generation of the group protocol.
    pub(crate) consumer_protocol: bool,
    pub(crate) static_member: Option<String>,
    pub(crate) connection: Connection,
}

impl Settings {
    /// The client configuration: our defaults, the user's properties over them, and what the protocol owns.
    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut config = self.connection.client_config(DEFAULTS);
        if !self.consumer_protocol
            && self.connection.properties.get("partition.assignment.strategy").is_none()
        {
            // Only what moves is revoked; the other lanes go on.
            config.set("partition.assignment.strategy", "cooperative-sticky");
        }
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true");
        config
    }

    /// Whether every end-of-partition event is unambiguous: the event names a partition, not its topic.
    pub(crate) fn single_topic(&self) -> bool {
        matches!(self.topics.as_slice(), [topic] if !is_pattern(topic))
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {} on {}", self.group, self.brokers)
    }
}

/// Whether librdkafka takes a topic for an expression.
pub(crate) fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}

/// Whether a broker could have a topic of that name.
pub(crate) fn is_topic_name(topic: &str) -> bool {
    (1..=249).contains(&topic.len())
        && topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

const MIN_BATCH_BYTES: usize = 64 << 10;
const MAX_BATCH_BYTES: usize = 64 << 20;

/// Replaced by whatever the user sets.
///
/// librdkafka's own defaults prefetch 64 MiB and up to 100 000 records, each with a few hundred bytes of bookkeeping.
/// Lower limits need a shorter back-off (its default is a second), or a full queue starves the consumer.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "aqueduct"),
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "30000"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.max.bytes", "8388608"),
    ("isolation.level", "read_committed"),
];

const OWNED: &[Owned] = &[
    Owned {
        name: "enable.auto.commit",
        reason: "an offset is committed when its objects are visible, never by a timer; remove it",
    },
    Owned {
        name: "enable.auto.offset.store",
        reason: "an offset is committed when its objects are visible, not when a record was read; remove it",
    },
    Owned {
        name: "auto.offset.reset",
        reason: "an offset that is gone must stop the pipeline instead of skipping records; where partitions \
                 without a mark start is set with `start(StartAt::…)`",
    },
    Owned {
        name: "enable.partition.eof",
        reason: "replays and bounded runs on quiet partitions end by it; remove it",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> KafkaSourceBuilder {
        KafkaSourceBuilder::new().brokers("localhost:9092").group("g").topics(["orders"])
    }

    #[test]
    fn what_is_missing_is_named_at_once() {
        let error = KafkaSourceBuilder::new().batch_bytes(1).build().unwrap_err();
        let text = error.to_string();
        for part in ["broker list", "consumer group", "topic list", "batch_bytes is 1"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn owned_properties_are_refused_by_name_with_the_reason() {
        for owned in OWNED {
            let error = complete().property(owned.name, "false").build().unwrap_err();
            assert_eq!(
                error.problems(),
                [ConfigProblem::Owned { name: owned.name.to_owned(), reason: owned.reason }]
            );
        }
    }

    #[test]
    fn the_users_properties_win_over_defaults_and_ours_over_theirs() {
        let settings = complete().property("queued.max.messages.kbytes", "1024").settings();
        let config = settings.client_config();
        assert_eq!(config.get("queued.max.messages.kbytes"), Some("1024"));
        assert_eq!(config.get("auto.offset.reset"), Some("error"));
        assert_eq!(config.get("partition.assignment.strategy"), Some("cooperative-sticky"));
        let settings = complete().property("group.protocol", "consumer").settings();
        assert_eq!(settings.client_config().get("partition.assignment.strategy"), None);
    }

    #[test]
    fn a_second_group_or_broker_list_is_a_problem() {
        let text = complete().property("group.id", "other").build().unwrap_err().to_string();
        assert!(text.contains("group.id is set twice"), "{text}");
        let text = complete().property("bootstrap.servers", "other:1").build().unwrap_err().to_string();
        assert!(text.contains("bootstrap.servers is set twice"), "{text}");
    }

    #[test]
    fn names_that_cannot_be_topics_are_refused() {
        for topic in ["", "a b", "orders-.*", &"x".repeat(250)] {
            let error = complete().topics([topic]).build().unwrap_err();
            assert!(matches!(error.problems(), [ConfigProblem::Invalid { what: "a topic", .. }]), "{topic}");
        }
        assert!(complete().topic_regex("^orders-.*").topics([&"x".repeat(249)]).build().is_ok());
    }

    #[test]
    fn a_start_is_checked_against_the_topics() {
        let text = complete().start(StartAt::offsets([("ordres", 0, 5), ("orders", 1, -1)])).build();
        let text = text.unwrap_err().to_string();
        assert!(
            text.contains("ordres[0] at 5: name only topics") && text.contains("orders[1] at -1"),
            "{text}"
        );
        assert!(complete().start(StartAt::offsets([])).build().is_err());
        let before = std::time::UNIX_EPOCH - Duration::from_secs(1);
        assert!(complete().start(StartAt::Timestamp(before)).build().is_err());
        let pattern = complete().topic_regex("^.*").start(StartAt::offsets([("ordres", 0, 5)]));
        assert!(pattern.build().is_ok());
    }

    #[test]
    fn membership_is_said_to_the_client() {
        let settings = complete().group_protocol(GroupProtocol::Consumer).static_member("pod-3").settings();
        let config = settings.client_config();
        assert_eq!(config.get("group.protocol"), Some("consumer"));
        assert_eq!(config.get("group.instance.id"), Some("pod-3"));
        assert_eq!(settings.static_member.as_deref(), Some("pod-3"));
        assert!(complete().static_member("").build().unwrap_err().to_string().contains("static_member"));
    }

    #[test]
    fn the_revoke_timeout_follows_the_poll_interval() {
        assert_eq!(complete().settings().revoke_timeout, Duration::from_secs(30));
        let settings = complete().property("max.poll.interval.ms", "9000").settings();
        assert_eq!(settings.revoke_timeout, Duration::from_secs(3));
    }
}
