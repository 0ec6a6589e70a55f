//! The audit: reads every object back and counts, with a decoder that is not ours.
//!
//! Amazon's client lists and gets, `flate2` inflates, `serde_json` parses. Nothing here knows how the pipeline works;
//! it knows which events were produced and in which directory each belongs.

use std::io::{BufRead as _, BufReader};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::Client;
use flate2::read::MultiGzDecoder;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::tz::TimeZone;

use crate::events::{Events, Identity};
use crate::progress::Progress;

/// What was found in the bucket.
#[derive(Debug, Default)]
pub struct Audit {
    /// Objects.
    pub objects: u64,
    /// Rows in them.
    pub records: u64,
    /// Bytes of the rows, uncompressed, with their line ends.
    pub row_bytes: u64,
    /// Bytes as stored.
    pub stored_bytes: u64,
    /// Produced events that are in no object.
    pub lost: u64,
    /// Rows beyond the first for their event.
    pub duplicated: u64,
    /// Rows in another directory, or in an object of another Kafka partition, than they belong.
    pub misrouted: u64,
    /// Rows that are not byte for byte an event that was produced.
    pub altered: u64,
    /// The first key in the order of keys.
    pub first_key: Option<String>,
}

impl Audit {
    /// Whether everything is there once, unchanged, in its place.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.misrouted == 0 && self.altered == 0
    }
}

/// What the objects should hold, and where.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What was produced.
    pub events: Events,
    /// The topic it was produced to.
    pub topic: String,
    /// Above the topic in every key.
    pub prefix: String,
    /// Whose hours the directories are.
    pub zone: TimeZone,
}

/// Reads every object of `bucket` and holds it against what is expected.
pub async fn audit(client: &Client, bucket: &str, expected: &Expected) -> Result<Audit> {
    let listed = list(client, bucket).await?;
    let mut audit = Audit { first_key: listed.first().cloned(), ..Audit::default() };
    let mut seen = Seen::new(&expected.events);
    let mut progress = Progress::new("auditing", Some(expected.events.total()));

    let reads = futures::stream::iter(listed).map(|key| read(client, bucket, key, expected));
    let mut reads = std::pin::pin!(reads.buffer_unordered(CONCURRENT_READS));
    while let Some(object) = reads.try_next().await? {
        audit.objects += 1;
        audit.records += object.rows;
        audit.row_bytes += object.row_bytes;
        audit.stored_bytes += object.stored_bytes;
        audit.misrouted += object.misrouted;
        audit.altered += object.altered;
        object.intact.into_iter().for_each(|id| seen.count(id));
        progress.update(audit.records, format_args!("rows in {} objects", audit.objects));
    }
    progress.finish(audit.records, format_args!("rows in {} objects", audit.objects));
    (audit.lost, audit.duplicated) = seen.lost_and_duplicated();
    Ok(audit)
}

/// All keys of the bucket, in their order.
async fn list(client: &Client, bucket: &str) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    let mut pages = client.list_objects_v2().bucket(bucket).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.with_context(|| format!("cannot list the bucket {bucket}"))?;
        keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
    }
    keys.sort_unstable();
    Ok(keys)
}

/// What one object held.
#[derive(Debug, Default)]
struct Object {
    rows: u64,
    row_bytes: u64,
    stored_bytes: u64,
    misrouted: u64,
    altered: u64,
    /// The events whose rows are as they were produced.
    intact: Vec<Identity>,
}

async fn read(client: &Client, bucket: &str, key: String, expected: &Expected) -> Result<Object> {
    let get = client.get_object().bucket(bucket).key(&key).send().await;
    let body = get.with_context(|| format!("cannot read {key}"))?.body;
    let stored = body.collect().await.with_context(|| format!("{key} broke off"))?.into_bytes();
    let expected = expected.clone();
    // Inflating and parsing is work for a CPU, not for the threads that wait for the network.
    tokio::task::spawn_blocking(move || decode(&key, &stored, &expected)).await?
}

fn decode(key: &str, stored: &[u8], expected: &Expected) -> Result<Object> {
    let place = Place::of(key, expected)?;
    let mut object = Object { stored_bytes: stored.len() as u64, ..Object::default() };
    let mut rows = BufReader::new(MultiGzDecoder::new(stored));
    let (mut row, mut original) = (Vec::new(), Vec::new());
    loop {
        row.clear();
        let length = rows.read_until(b'\n', &mut row).with_context(|| format!("{key} cannot be inflated"))?;
        if length == 0 {
            return Ok(object);
        }
        object.rows += 1;
        object.row_bytes += length as u64;
        let id = serde_json::from_slice::<Identity>(&row).ok().filter(|id| expected.events.contains(*id));
        let Some(id) = id else {
            object.altered += 1;
            continue;
        };
        let event = expected.events.event(id);
        event.write_to(&mut original)?;
        original.push(b'\n');
        if row == original {
            object.intact.push(id);
        } else {
            object.altered += 1;
        }
        let belongs = event.route(&expected.zone).is_some_and(|route| route == place.route);
        if !belongs || place.partition != id.partition {
            object.misrouted += 1;
        }
    }
}

/// Where an object is, by its key: `prefix/topic/route/topic+partition+offset.json.gz`.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    route: &'a str,
    partition: u32,
}

impl<'a> Place<'a> {
    fn of(key: &'a str, expected: &Expected) -> Result<Self> {
        let Expected { topic, prefix, .. } = expected;
        let below = key.strip_prefix(&format!("{prefix}/{topic}/")).and_then(|rest| rest.rsplit_once('/'));
        let place = below.and_then(|(route, name)| {
            let partition = name.strip_prefix(&format!("{topic}+"))?.split('+').next()?.parse().ok()?;
            Some(Self { route, partition })
        });
        ensure!(
            place.is_some(),
            "the object {key} has no name of the form {prefix}/{topic}/…/{topic}+P+N.json.gz"
        );
        place.context("checked above")
    }
}

/// How often each event was seen.
#[derive(Debug)]
struct Seen {
    counts: Vec<u8>,
    per_partition: usize,
}

impl Seen {
    fn new(events: &Events) -> Self {
        let per_partition = events.per_partition as usize;
        Self { counts: vec![0; per_partition * events.partitions as usize], per_partition }
    }

    fn count(&mut self, id: Identity) {
        let slot = id.partition as usize * self.per_partition + id.seq as usize;
        if let Some(count) = self.counts.get_mut(slot) {
            *count = count.saturating_add(1);
        }
    }

    fn lost_and_duplicated(&self) -> (u64, u64) {
        let lost = self.counts.iter().filter(|count| **count == 0).count() as u64;
        let duplicated = self.counts.iter().map(|count| u64::from(count.saturating_sub(1))).sum();
        (lost, duplicated)
    }
}

const CONCURRENT_READS: usize = 8;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn expected() -> Expected {
        let (topic, prefix) = ("logs".to_owned(), "topics".to_owned());
        Expected { events: Events::at_least(8, 2), topic, prefix, zone: TimeZone::get("Asia/Seoul").unwrap() }
    }

    /// The right key of an event's object, and its row.
    fn stored(expected: &Expected, partition: u32, seq: u32) -> (String, Vec<u8>) {
        let event = expected.events.event(Identity { partition, seq });
        let mut row = Vec::new();
        event.write_to(&mut row).unwrap();
        row.push(b'\n');
        let route = event.route(&expected.zone).unwrap();
        (format!("topics/logs/{route}/logs+{partition}+{seq:010}.json.gz"), row)
    }

    fn gzip(members: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for member in members {
            let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
            encoder.write_all(member).unwrap();
            encoder.finish().unwrap();
        }
        out
    }

    #[test]
    fn a_row_in_its_place_is_counted_and_nothing_else() {
        let expected = expected();
        let (key, row) = stored(&expected, 1, 3);
        let object = decode(&key, &gzip(&[&row]), &expected).unwrap();
        assert_eq!((object.rows, object.misrouted, object.altered), (1, 0, 0));
        assert_eq!(object.intact, [Identity { partition: 1, seq: 3 }]);
    }

    #[test]
    fn a_row_of_another_place_or_with_another_byte_is_reported() {
        let expected = expected();
        let (key, row) = stored(&expected, 1, 3);
        let (elsewhere, _) = stored(&expected, 0, 3);
        let object = decode(&elsewhere, &gzip(&[&row]), &expected).unwrap();
        assert_eq!((object.misrouted, object.altered), (1, 0));

        let changed = String::from_utf8(row).unwrap().replace("2025", "2024").into_bytes();
        let object = decode(&key, &gzip(&[&changed, b"not json\n"]), &expected).unwrap();
        assert_eq!((object.rows, object.altered), (2, 2));
        assert!(object.intact.is_empty());
    }

    #[test]
    fn a_truncated_object_and_a_stranger_are_errors() {
        let expected = expected();
        let (key, row) = stored(&expected, 0, 0);
        let whole = gzip(&[&row]);
        assert!(decode(&key, &whole[..whole.len() - 9], &expected).is_err());
        assert!(decode("topics/logs/readme.txt", &whole, &expected).is_err());
    }

    #[test]
    fn a_missing_and_a_repeated_event_are_counted() {
        let expected = expected();
        let mut seen = Seen::new(&expected.events);
        let ids = [(0, 0), (0, 1), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 2), (1, 2)];
        ids.into_iter().for_each(|(partition, seq)| seen.count(Identity { partition, seq }));
        assert_eq!(seen.lost_and_duplicated(), (1, 3));
    }

    /// A bucket of the embedded server with these objects, audited.
    async fn audited(expected: &Expected, objects: &[(String, Vec<u8>)]) -> Result<Audit> {
        let root = tempfile::tempdir()?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let client = crate::storage::client(&format!("http://{}", listener.local_addr()?));
        let server = tokio::spawn(crate::storage::accept(listener, root.path(), "bucket")?);
        for (key, body) in objects {
            client.put_object().bucket("bucket").key(key).body(body.clone().into()).send().await?;
        }
        let audit = audit(&client, "bucket", expected).await;
        server.abort();
        audit
    }

    #[tokio::test]
    async fn a_clean_bucket_passes_and_every_damage_is_seen() {
        let expected = expected();
        let ids = (0..2).flat_map(|partition| (0..4).map(move |seq| (partition, seq)));
        let mut objects: Vec<_> = ids
            .map(|(partition, seq)| stored(&expected, partition, seq))
            .map(|(key, row)| (key, gzip(&[&row])))
            .collect();
        let clean = audited(&expected, &objects).await.unwrap();
        assert!(clean.is_clean(), "{clean:?}");
        assert_eq!((clean.objects, clean.records), (8, 8));

        let lost = audited(&expected, &objects[1..]).await.unwrap();
        assert_eq!((lost.lost, lost.duplicated, lost.is_clean()), (1, 0, false));

        let (_, body) = objects[0].clone();
        objects.push(("topics/logs/service=none/logs+0+0000000000.json.gz".to_owned(), body));
        let twice = audited(&expected, &objects).await.unwrap();
        assert_eq!((twice.lost, twice.duplicated, twice.misrouted, twice.is_clean()), (0, 1, 1, false));
    }
}
