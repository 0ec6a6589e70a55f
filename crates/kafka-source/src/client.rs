//! The librdkafka client: what its callbacks record, how it is made and taken down.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use aqueduct_core::{Offset, TopicPartition};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;

use crate::config::Settings;
use crate::error::KafkaSourceError;

/// The consumer of one group membership.
pub(crate) type Consumer = BaseConsumer<Context>;

/// What librdkafka's callbacks leave for the poll thread.
///
/// The callbacks run inside `poll`. They only write down what happened: the thread answers a rebalance later, with
/// `incremental_assign` or `incremental_unassign`, and librdkafka waits for that call. In between the thread keeps
/// polling, so that commits are answered and the membership stays alive.
#[derive(Default)]
pub(crate) struct Context {
    waiting: AtomicBool,
    closing: AtomicBool,
    signals: Mutex<Signals>,
    last_error: LastError,
    #[cfg(feature = "oauthbearer")]
    tokens: Option<Arc<dyn crate::oauth::OAuthTokens>>,
}

/// What happened since the thread looked last.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) rebalances: VecDeque<Rebalance>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// A change of the assignment that waits for its answer.
#[derive(Debug)]
pub(crate) enum Rebalance {
    Assign(Vec<TopicPartition>),
    Revoke {
        lanes: Vec<TopicPartition>,
        /// Somebody else may own the partitions already.
        lost: bool,
    },
}

/// The coordinator's answer for one partition of one commit.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) lane: TopicPartition,
    pub(crate) offset: Offset,
    pub(crate) metadata: String,
    pub(crate) refused: Option<RDKafkaErrorCode>,
}

/// An error event with the client's words.
#[derive(Clone, Debug)]
pub(crate) struct ClientError {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) detail: String,
}

impl Context {
    /// Whether there is anything to [`take`](Self::take); cheap enough to ask per record.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Signals {
        let mut signals = lock(&self.signals);
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut signals)
    }

    /// The client's last error event; the poll that returns an error event has just recorded it here.
    pub(crate) fn last_error(&self) -> Option<ClientError> {
        self.last_error.get()
    }

    /// Leaves the coordinator's answers for the poll thread.
    pub(crate) fn answer(&self, verdicts: Vec<Verdict>) {
        self.record(|signals| signals.verdicts.extend(verdicts));
    }

    fn record(&self, change: impl FnOnce(&mut Signals)) {
        change(&mut lock(&self.signals));
        self.waiting.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

impl ClientContext for Context {
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
    }

    /// Statistics are off unless the user asks for them, and then go to the log as they are.
    fn stats_raw(&self, statistics: &[u8]) {
        tracing::info!(target: "librdkafka", statistics = %String::from_utf8_lossy(statistics));
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assign = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            // Nobody is left to answer later, and closing waits for the answer.
            let answered =
                if assign { give(consumer, &TopicPartitionList::new()) } else { take_back(consumer, list) };
            if let Err(error) = answered {
                tracing::warn!(%error, "a rebalance while leaving the group could not be answered");
            }
            return;
        }
        let lanes = list.elements().iter().map(lane_of).collect();
        self.record(|signals| {
            signals.rebalances.push_back(if assign {
                Rebalance::Assign(lanes)
            } else {
                Rebalance::Revoke { lanes, lost: consumer.assignment_lost() }
            });
        });
    }
}

/// The last error event of a client. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastError(Arc<Mutex<Option<ClientError>>>);

impl LastError {
    pub(crate) fn note(&self, error: &KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let mut last = lock(&self.0);
        let keep = match code {
            // Reaching the end of a partition comes as an error, once per catching up.
            Code::PartitionEOF => true,
            // What follows from another error does not hide it.
            Code::AllBrokersDown => last.is_some(),
            Code::BrokerTransportFailure => {
                last.as_ref().is_some_and(|last| matches!(last.code, Code::Authentication | Code::SSL))
            }
            _ => false,
        };
        if !keep {
            *last = Some(ClientError { code, detail: reason.to_owned() });
        }
    }

    pub(crate) fn get(&self) -> Option<ClientError> {
        lock(&self.0).clone()
    }
}

/// Passes a line of librdkafka's log on to `tracing`.
pub(crate) fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// Makes a consumer that is not subscribed yet.
pub(crate) fn connect(settings: &Settings) -> Result<Arc<Consumer>, KafkaSourceError> {
    let context = Context {
        #[cfg(feature = "oauthbearer")]
        tokens: settings.connection.tokens(),
        ..Context::default()
    };
    let consumer: Consumer =
        settings.client_config().create_with_context(context).map_err(KafkaSourceError::Client)?;
    // The first token is asked for by an event; without one, the first connections would fail.
    #[cfg(feature = "oauthbearer")]
    if consumer.context().tokens.is_some() {
        drop(consumer.poll(FIRST_TOKEN));
    }
    Ok(Arc::new(consumer))
}

/// Adds partitions in the way the group's protocol wants it.
pub(crate) fn give(consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list),
    }
}

/// Takes partitions away in the way the group's protocol wants it.
pub(crate) fn take_back(consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

/// Leaves the group and destroys the consumer, without any further commit. Gives up waiting after `bound`: the
/// client then finishes on a thread of its own.
pub(crate) fn retire(consumer: Arc<Consumer>, bound: Duration) {
    consumer.context().closing.store(true, Ordering::Release);
    let (done, gone) = mpsc::sync_channel::<()>(1);
    let reaper = std::thread::Builder::new().name("aqueduct-kafka-leave".to_owned()).spawn(move || {
        leave(consumer);
        drop(done);
    });
    if reaper.is_ok() && gone.recv_timeout(bound) == Err(mpsc::RecvTimeoutError::Timeout) {
        tracing::warn!(?bound, "the kafka consumer is still leaving its group; it goes on in the background");
    }
}

fn leave(mut consumer: Arc<Consumer>) {
    // Threads that read marks or commit let go of the client soon, if the coordinator answers at all.
    for _ in 0..50 {
        match Arc::try_unwrap(consumer) {
            // Destroying it leaves the group.
            Ok(owned) => return drop(owned),
            Err(shared) => consumer = shared,
        }
        std::thread::sleep(STEP);
    }
    // One is stuck in a call; closing makes librdkafka answer it.
    if let Err(error) = consumer.close_queue() {
        tracing::warn!(%error, "the kafka consumer could not be closed");
    }
    while !consumer.closed() && Arc::strong_count(&consumer) > 1 {
        drop(consumer.poll(STEP));
    }
}

/// How long the event that asks for the first token is waited for; it is there at once.
#[cfg(feature = "oauthbearer")]
const FIRST_TOKEN: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_millis(20);

pub(crate) fn list_of<'a>(lanes: impl IntoIterator<Item = &'a TopicPartition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for lane in lanes {
        list.add_partition(lane.topic(), lane.partition());
    }
    list
}

fn lane_of(element: &TopicPartitionListElem<'_>) -> TopicPartition {
    TopicPartition::new(element.topic(), element.partition())
}

/// The element's metadata; `None` if it is not text.
///
/// The binding panics on metadata that is not UTF-8, which another tool may have committed.
pub(crate) fn metadata_of(element: &TopicPartitionListElem<'_>) -> Option<String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| element.metadata().to_owned())).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
