//! A topic of one encoding, and what stands at each of its offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use xtask::readers::Cell;

use super::encode::{Encoding, Spoilt};
use super::truth::Place;

/// What stands at an offset.
pub(super) enum Sent {
    /// A record, by the number in its value.
    Good { place: Place, value: Cell },
    /// A record without a value.
    Tombstone,
    /// One that cannot be converted.
    Spoilt(Spoilt),
}

/// A topic: partition and offset to record.
pub(super) type Topic = BTreeMap<(i32, i64), Sent>;

pub(super) const PARTITIONS: i32 = 2;
/// A tombstone and a record that cannot be converted follow after so many good ones.
const BAD_EVERY: i64 = 45;

/// What a topic of `encoding` holds: `records` good ones a partition, and bad ones among them.
pub(super) fn plan(encoding: &Encoding, seed: u64, records: i64) -> Topic {
    let mut topic = Topic::new();
    for partition in 0..PARTITIONS {
        let mut offset = 0;
        let mut put = |sent| {
            topic.insert((partition, offset), sent);
            offset += 1;
        };
        let mut poisons = encoding.poisons.iter().cycle();
        for seq in 0..records {
            // The partition is part of the number, so that no two records of a topic are alike.
            let place = Place { seed, partition, seq: seq * i64::from(PARTITIONS) + i64::from(partition) };
            put(Sent::Good { place, value: place.value() });
            if seq % BAD_EVERY == BAD_EVERY / 2 {
                put(Sent::Tombstone);
                if let Some(poison) = poisons.next() {
                    put(Sent::Spoilt(*poison));
                }
            }
        }
    }
    topic
}

/// Produces it to an empty topic; `id` is what the registry calls its schema. Blocks.
pub(super) fn produce(brokers: &str, name: &str, encoding: &Encoding, id: u32, topic: &Topic) -> Result<()> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("enable.idempotence", "true").create()?;
    for ((partition, _), sent) in topic {
        let value = match sent {
            Sent::Good { value, .. } => Some(encoding.bytes(value, id)?),
            Sent::Spoilt(spoilt) => Some(spoilt.bytes(id)),
            Sent::Tombstone => None,
        };
        let (key, headers) = match (encoding.beside, sent) {
            (Some(spelling), Sent::Good { place, .. }) => (spelling.key(*place), spelling.headers(*place)),
            _ => (None, Vec::new()),
        };
        let timestamp = match sent {
            Sent::Good { place, .. } => place.timestamp(),
            // Never routed: it only must not be refused by the broker.
            _ => Place { seed: 0, partition: 0, seq: 0 }.timestamp(),
        };
        let mut record = BaseRecord::<[u8], [u8]>::to(name).partition(*partition).timestamp(timestamp);
        (record.payload, record.key) = (value.as_deref(), key.as_deref());
        let insert = |all: OwnedHeaders, (key, value): &(&str, Option<Vec<u8>>)| {
            all.insert(Header { key, value: value.as_deref() })
        };
        record.headers = Some(headers.iter().fold(OwnedHeaders::new(), insert));
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_secs(30))?;
    Ok(())
}
