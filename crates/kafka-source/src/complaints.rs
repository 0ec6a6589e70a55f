//! Error events of the client: what passes by itself, what ends the membership, what stops the pipeline.

use std::time::{Duration, Instant};

use aqueduct_core::{Offset, TopicPartition};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::client::Consumer;
use crate::connect;
use crate::error::KafkaSourceError;
use crate::marks;
use crate::poll::{Ended, Poller};

/// How long a static member's name may stay taken: twice the longest session a broker grants by default.
const NAME_TAKEN: Duration = Duration::from_mins(2);

impl Poller {
    /// An error event of the client.
    pub(crate) fn error(&mut self, consumer: &Consumer, error: &KafkaError) -> Option<Ended> {
        use RDKafkaErrorCode as Code;
        let (code, fatal) = match error {
            KafkaError::PartitionEOF(partition) => {
                self.mark_end(*partition);
                return None;
            }
            KafkaError::MessageConsumptionFatal(code) => (*code, true),
            other => (other.rdkafka_error_code().unwrap_or(Code::Unknown), false),
        };
        let event = consumer.context().last_error().filter(|event| event.code == code || fatal);
        let detail = event.as_ref().map_or_else(|| error.to_string(), |event| event.detail.clone());
        if code == Code::FencedInstanceId {
            return Some(self.fenced());
        }
        if code == Code::UnreleasedInstanceId {
            return self.name_is_taken(detail);
        }
        match code {
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed => {
                let refused = event
                    .and_then(|event| connect::refusal(&self.settings.brokers, &self.settings.group, &event));
                self.fail("kafka read", refused.unwrap_or(KafkaSourceError::Unreadable { detail }));
            }
            Code::InconsistentGroupProtocol
            | Code::InvalidGroupId
            | Code::InvalidSessionTimeout
            | Code::GroupMaxSizeReached
            | Code::UnsupportedAssignor
            | Code::UnsupportedVersion => {
                let group = self.settings.group.clone();
                self.fail("kafka join", KafkaSourceError::Group { group, detail });
            }
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                let gone = self.out_of_range(consumer);
                if is_overtaken(consumer, &gone) {
                    return Some(Ended::Lost("others have gone on where we were"));
                }
                let gone: String = gone.into_iter().map(|(_, _, place)| place).collect();
                let detail = format!("{gone}{detail}");
                self.fail("kafka read", KafkaSourceError::OffsetGone { detail });
            }
            // The client goes on behind a batch it cannot read: going on with it would lose the batch.
            Code::BadMessage
            | Code::BadCompression
            | Code::NotImplemented
            | Code::Underflow
            | Code::InvalidMessage
            | Code::UnsupportedCompressionType
            | Code::MessageSizeTooLarge => {
                self.fail("kafka read", KafkaSourceError::Unreadable { detail });
            }
            _ if fatal => {
                tracing::error!(%code, "the kafka client has given up: {detail}");
                return Some(Ended::Lost("the client has given up"));
            }
            _ => tracing::warn!(%code, "{detail}"),
        }
        None
    }

    /// Another process goes by our name. Joining again would take the name back from it, and so on for ever.
    pub(crate) fn fenced(&mut self) -> Ended {
        let (group, instance) = (self.settings.group.clone(), self.settings.static_member.clone());
        let instance = instance.unwrap_or_default();
        self.fail("kafka join", KafkaSourceError::InstanceFenced { group, instance });
        Ended::Lost("another process uses the same group.instance.id")
    }

    /// Under KIP-848 a name is taken until its last bearer has left or timed out; a killed one has not left.
    fn name_is_taken(&mut self, detail: String) -> Option<Ended> {
        let since = *self.name_taken_since.get_or_insert_with(Instant::now);
        if since.elapsed() < NAME_TAKEN {
            return Some(Ended::Lost("the static member's name is still taken"));
        }
        let group = self.settings.group.clone();
        self.fail("kafka join", KafkaSourceError::Group { group, detail });
        None
    }

    /// The lanes whose next offset is outside their partition, and where that is.
    fn out_of_range(&self, consumer: &Consumer) -> Vec<(TopicPartition, Offset, String)> {
        let mut found = Vec::new();
        for lane in self.lanes.iter() {
            let ends =
                consumer.fetch_watermarks(lane.name.topic(), lane.name.partition(), Duration::from_secs(1));
            if let Ok((low, high)) = ends
                && !(low..=high).contains(&lane.next.get())
            {
                let place = format!("{} at {} of [{low}, {high}); ", lane.name, lane.next);
                found.push((lane.name.clone(), lane.next, place));
            }
        }
        found
    }
}

/// Whether the group has committed more of one of the lanes than we have read: it was taken from us while we were frozen, its
/// new owner went on and retention followed, and we have not been told yet. That is the end of a membership, not of a
/// pipeline.
fn is_overtaken(consumer: &Consumer, lanes: &[(TopicPartition, Offset, String)]) -> bool {
    let names: Vec<_> = lanes.iter().map(|(name, ..)| name.clone()).collect();
    let Ok(committed) = marks::committed(consumer, &names) else { return false };
    committed.iter().zip(lanes).any(|((_, committed), (_, next, _))| {
        committed.as_ref().is_some_and(|(committed, _)| committed > next)
    })
}
