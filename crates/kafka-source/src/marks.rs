//! Committed offsets and log ends → where each partition stands.
//!
//! The reads block, so they run on a thread of their own: the poll thread goes on answering commits and keeping the
//! membership alive. A read that fails is repeated until it succeeds or the assignment is over; a failure never
//! counts as "no mark", which would start the partition from the beginning.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aqueduct_core::{Assignment, Mark, MarkError, MarkOrigin, Offset, TopicPartition};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::oneshot;

use crate::client::{Consumer, list_of, metadata_of};
use crate::config::Settings;
use crate::error::KafkaSourceError;
use crate::start::StartAt;

/// One attempt of a read; short, so that an assignment that ended is noticed.
const ATTEMPT: Duration = Duration::from_secs(2);
const BACK_OFF: Duration = Duration::from_millis(200);
/// For how long a mark behind the end is read again: the end may lag for a moment after a change of leader.
const END_MAY_LAG: Duration = Duration::from_secs(10);

/// A partition's assignment and its end.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) assignment: Assignment,
    /// The first offset a reader of committed records cannot read yet.
    pub(crate) end: Offset,
}

/// Reading under way; dropping it tells the thread to stop.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) answer: oneshot::Receiver<Result<Vec<Found>, KafkaSourceError>>,
    cancelled: Arc<AtomicBool>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

/// Starts to read the marks and ends of `lanes`.
pub(crate) fn read(
    consumer: &Arc<Consumer>,
    settings: &Arc<Settings>,
    lanes: Vec<TopicPartition>,
) -> Reading {
    let (sender, answer) = oneshot::channel();
    let cancelled = Arc::new(AtomicBool::new(false));
    let reader = Reader {
        consumer: Arc::clone(consumer),
        settings: Arc::clone(settings),
        cancelled: Arc::clone(&cancelled),
    };
    let spawned = std::thread::Builder::new().name("aqueduct-kafka-marks".to_owned()).spawn(move || {
        if let Some(found) = reader.read_all(&lanes).transpose() {
            // The consumer is let go first: whoever gets the answer may want to destroy it.
            drop(reader);
            drop(sender.send(found));
        }
    });
    if let Err(error) = spawned {
        // The receiver sees a closed channel and the poll thread asks again.
        tracing::warn!(%error, "no thread to read the marks");
    }
    Reading { answer, cancelled }
}

struct Reader {
    consumer: Arc<Consumer>,
    settings: Arc<Settings>,
    cancelled: Arc<AtomicBool>,
}

impl Reader {
    /// `Ok(None)` if nobody wants the answer any more.
    fn read_all(&self, lanes: &[TopicPartition]) -> Result<Option<Vec<Found>>, KafkaSourceError> {
        let Some(committed) = self.retry(|| committed(&self.consumer, lanes))? else {
            return Ok(None);
        };
        let mut found = Vec::with_capacity(committed.len());
        for (lane, committed) in committed {
            match self.locate(lane, committed.as_ref())? {
                Some(located) => found.push(located),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    fn locate(
        &self,
        lane: TopicPartition,
        committed: Option<&(Offset, Result<Mark, MarkError>)>,
    ) -> Result<Option<Found>, KafkaSourceError> {
        let lag_until = Instant::now() + END_MAY_LAG;
        loop {
            let Some((start, end)) = self.retry(|| self.ends(&lane))? else {
                return Ok(None);
            };
            let (mark, origin) = match committed {
                None => {
                    let Some(at) = self.first(&lane, start, end)? else { return Ok(None) };
                    (Mark::at(at), MarkOrigin::Initial)
                }
                Some((_, Ok(mark))) => (mark.clone(), MarkOrigin::Committed),
                Some((next, Err(MarkError::Foreign))) => (Mark::at(*next), MarkOrigin::Foreign),
                Some((_, Err(error))) => {
                    return Err(KafkaSourceError::Mark { lane, source: error.clone() });
                }
            };
            let past = mark.intent.as_ref().map_or(mark.next, |intent| intent.range.end());
            if past <= end {
                let assignment = Assignment { lane, mark, origin, log_start: start, log_end: end };
                return Ok(Some(Found { assignment, end }));
            }
            if Instant::now() >= lag_until {
                return Err(KafkaSourceError::MarkPastEnd { lane, mark: past, end });
            }
            if self.cancelled.load(Ordering::Acquire) {
                return Ok(None);
            }
            std::thread::sleep(BACK_OFF);
        }
    }

    /// Where the start policy begins a partition that nothing was committed for.
    fn first(
        &self,
        lane: &TopicPartition,
        start: Offset,
        end: Offset,
    ) -> Result<Option<Offset>, KafkaSourceError> {
        match &self.settings.start {
            StartAt::Earliest => Ok(Some(start)),
            StartAt::Latest => Ok(Some(end)),
            StartAt::Timestamp(at) => {
                let millis = StartAt::millis(*at).unwrap_or_default();
                // A record of an open transaction may be found, behind what can be read yet.
                let found = self.retry(|| self.at_time(lane, millis))?;
                Ok(found.map(|found| found.unwrap_or(end).clamp(start, end)))
            }
            StartAt::Offsets(starts) => match starts.get(lane) {
                Some(&at) if (start..=end).contains(&at) => Ok(Some(at)),
                Some(&at) => Err(KafkaSourceError::StartOutside { lane: lane.clone(), at, start, end }),
                None => {
                    tracing::warn!(%lane, %start, "no start offset is given: it starts at its first record");
                    Ok(Some(start))
                }
            },
        }
    }

    /// The offset of the first record of this time or later, if there is one.
    fn at_time(&self, lane: &TopicPartition, millis: i64) -> Result<Option<Offset>, RDKafkaErrorCode> {
        let code =
            |error: rdkafka::error::KafkaError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let mut asked = list_of([lane]);
        asked.set_all_offsets(rdkafka::Offset::Offset(millis)).map_err(code)?;
        let answer = self.consumer.offsets_for_times(asked, ATTEMPT).map_err(code)?;
        let found = answer.find_partition(lane.topic(), lane.partition()).ok_or(RDKafkaErrorCode::Fail)?;
        found.error().map_err(code)?;
        match found.offset() {
            rdkafka::Offset::Offset(offset) => Ok(Some(Offset::new(offset))),
            rdkafka::Offset::End => Ok(None),
            _ => Err(RDKafkaErrorCode::Fail),
        }
    }

    fn ends(&self, lane: &TopicPartition) -> Result<(Offset, Offset), RDKafkaErrorCode> {
        self.consumer
            .fetch_watermarks(lane.topic(), lane.partition(), ATTEMPT)
            .map(|(low, high)| (Offset::new(low), Offset::new(high)))
            .map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))
    }

    /// Repeats `read` until it succeeds, nobody wants it, or no repetition can help.
    fn retry<T>(
        &self,
        mut read: impl FnMut() -> Result<T, RDKafkaErrorCode>,
    ) -> Result<Option<T>, KafkaSourceError> {
        let mut told = Instant::now();
        loop {
            if self.cancelled.load(Ordering::Acquire) {
                return Ok(None);
            }
            let code = match read() {
                Ok(read) => return Ok(Some(read)),
                Err(code) => code,
            };
            match code {
                RDKafkaErrorCode::GroupAuthorizationFailed => {
                    return Err(KafkaSourceError::Unauthorized {
                        action: "reading the marks of",
                        resource: format!("group {}", self.settings.group),
                    });
                }
                RDKafkaErrorCode::TopicAuthorizationFailed => {
                    return Err(KafkaSourceError::Unauthorized {
                        action: "reading",
                        resource: format!("the topics of {}", self.settings),
                    });
                }
                _ if told.elapsed() > Duration::from_secs(10) => {
                    told = Instant::now();
                    tracing::warn!(%code, "the marks cannot be read yet");
                }
                _ => tracing::debug!(%code, "reading the marks is repeated"),
            }
            std::thread::sleep(BACK_OFF);
        }
    }
}

/// A committed offset and what the text beside it says; `None` if nothing was committed.
type Committed = Option<(Offset, Result<Mark, MarkError>)>;

/// What the coordinator has of each lane; blocks for a moment.
pub(crate) fn committed(
    consumer: &Consumer,
    lanes: &[TopicPartition],
) -> Result<Vec<(TopicPartition, Committed)>, RDKafkaErrorCode> {
    let code =
        |error: rdkafka::error::KafkaError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
    let list = consumer.committed_offsets(list_of(lanes), ATTEMPT).map_err(code)?;
    let mut committed = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let element = list.find_partition(lane.topic(), lane.partition()).ok_or(RDKafkaErrorCode::Fail)?;
        element.error().map_err(code)?;
        let mark = match element.offset() {
            rdkafka::Offset::Offset(next) => {
                let next = Offset::new(next);
                let decoded = metadata_of(&element)
                    .map_or(Err(MarkError::Foreign), |metadata| Mark::decode(next, &metadata));
                Some((next, decoded))
            }
            rdkafka::Offset::Invalid => None,
            // Not an answer this call gives; whatever it means, it is not "no mark".
            _ => return Err(RDKafkaErrorCode::Fail),
        };
        committed.push((lane.clone(), mark));
    }
    Ok(committed)
}
