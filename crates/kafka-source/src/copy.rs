//! The one copy of a record: out of the client's buffer, into its batch's arena.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use aqueduct_core::{Arenas, Batch, BatchBuilder, InFlight, Offset, Permit, Timestamp, TopicPartition};
use rdkafka::Message;
use rdkafka::message::Headers as _;
use std::sync::Arc;

/// The size of a quiet partition's arenas, in bytes.
pub(crate) const ARENA_MIN: usize = 64 << 10;

/// What a record costs beside its bytes: its entry in the batch.
const ENTRY: usize = 72;

/// A batch being filled, and the permit that pays for it.
#[derive(Debug)]
pub(crate) struct Arena {
    builder: BatchBuilder,
    permit: Permit,
    room: usize,
    opened: Instant,
}

impl Arena {
    /// `permit` pays for `bytes` bytes of records and their entries.
    pub(crate) fn new(
        arenas: &Arc<Arenas>,
        lane: TopicPartition,
        bytes: usize,
        permit: Permit,
        now: Instant,
    ) -> Self {
        Self { builder: BatchBuilder::reusing(arenas, lane, bytes), permit, room: bytes, opened: now }
    }

    /// Whether a record of this [`cost`](Copied::cost) fits.
    pub(crate) fn fits(&self, cost: usize) -> bool {
        cost <= self.room
    }

    /// When the first record came.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    pub(crate) fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    /// Copies the record in.
    pub(crate) fn push<M: Message>(&mut self, record: &Copied<'_, M>) {
        let message = record.message;
        let offset = Offset::new(message.offset());
        let timestamp = match message.timestamp() {
            rdkafka::Timestamp::NotAvailable => Timestamp::None,
            rdkafka::Timestamp::CreateTime(ms) => Timestamp::Create(ms),
            rdkafka::Timestamp::LogAppendTime(ms) => Timestamp::LogAppend(ms),
        };
        match record.headers {
            None => self.builder.push(offset, timestamp, message.key(), message.payload(), []),
            Some(headers) => {
                let headers = headers.iter().map(|header| (header.key, header.value));
                self.builder.push(offset, timestamp, message.key(), message.payload(), headers);
            }
        }
        self.room = self.room.saturating_sub(record.cost);
    }

    /// Ends the batch and counts it in `gauge` until it is spooled.
    pub(crate) fn finish(self, gauge: &Arc<InFlight>) -> Batch {
        let bytes = self.builder.bytes() as u64;
        self.builder.build(self.permit.counted_in(gauge, bytes))
    }
}

/// A message, looked through once for what it costs.
pub(crate) struct Copied<'a, M: Message> {
    message: &'a M,
    headers: Option<&'a M::Headers>,
    cost: usize,
}

impl<'a, M: Message> Copied<'a, M> {
    /// `with_headers` says whether those belong to the record.
    pub(crate) fn of(message: &'a M, with_headers: bool) -> Self {
        let mut cost =
            ENTRY + message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len);
        // librdkafka decodes the block of headers to tell, also an empty one: about an eighth of what it takes to read a record at all.
        let mut headers = if with_headers { message.headers() } else { None };
        if let Some(found) = headers {
            if let Some(bytes) = header_cost(found) {
                cost += bytes;
            } else {
                let before = HEADERS_DROPPED.fetch_add(1, Ordering::Relaxed);
                // A producer can send any number of them: one line for the first, the second, the fourth and so on.
                if (before + 1).is_power_of_two() {
                    tracing::warn!(
                        topic = message.topic(),
                        partition = message.partition(),
                        offset = message.offset(),
                        so_far = before + 1,
                        "a record's headers are dropped: a header name is not UTF-8"
                    );
                }
                headers = None;
            }
        }
        Self { message, headers, cost }
    }

    /// Bytes of memory the record takes in an arena.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }
}

/// Records of this process whose headers could not be read.
static HEADERS_DROPPED: AtomicU64 = AtomicU64::new(0);

/// The bytes the headers take, or `None` if they cannot be read: the binding panics on names that are not UTF-8, and
/// a producer may send any bytes.
fn header_cost<H: rdkafka::message::Headers>(headers: &H) -> Option<usize> {
    const LENGTHS: usize = 9;
    catch_unwind(AssertUnwindSafe(|| {
        headers.iter().map(|header| LENGTHS + header.key.len() + header.value.map_or(0, <[u8]>::len)).sum()
    }))
    .ok()
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;

    fn message(headers: Option<OwnedHeaders>) -> OwnedMessage {
        OwnedMessage::new(
            Some(b"value".to_vec()),
            Some(b"key".to_vec()),
            "t".to_owned(),
            rdkafka::Timestamp::CreateTime(5),
            3,
            7,
            headers,
        )
    }

    #[test]
    fn everything_of_a_record_is_copied_and_paid_for() {
        let headers =
            OwnedHeaders::new()
                .insert(Header { key: "a", value: Some("1") })
                .insert(Header::<&str> { key: "none", value: None });
        let message = message(Some(headers));
        let record = Copied::of(&message, true);
        let mut arena = Arena::new(
            &Arenas::new(),
            TopicPartition::new("t", 3),
            record.cost(),
            Permit::unlimited(),
            Instant::now(),
        );
        assert!(arena.fits(record.cost()));
        arena.push(&record);
        assert!(!arena.fits(1), "the room is used up");
        assert!(arena.bytes() + ENTRY <= record.cost(), "a record never takes more than it is charged");
        let gauge = Arc::default();
        let batch = arena.finish(&gauge);
        let copied = batch.get(0).unwrap().to_owned();
        assert_eq!(copied.offset, Offset::new(7));
        assert_eq!(copied.timestamp, Timestamp::Create(5));
        assert_eq!((copied.key.unwrap(), copied.value.unwrap()), ("key".into(), "value".into()));
        assert_eq!(copied.headers, [("a".to_owned(), Some("1".into())), ("none".to_owned(), None)]);
        assert_eq!((gauge.batches(), gauge.bytes()), (1, batch.bytes() as u64));
    }
}
