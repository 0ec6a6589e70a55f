//! Records that cannot be processed, among others that can.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::spawn_blocking;

use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};
use crate::worker::{Layout, Letters, OnPoison};

/// One bad value: its name, its bytes, and why it is refused.
pub(crate) struct Bad {
    pub(crate) name: &'static str,
    pub(crate) value: fn() -> Option<Vec<u8>>,
    pub(crate) timestamp: i64,
    pub(crate) stage: &'static str,
    pub(crate) reason: &'static str,
}

const BAD: &[Bad] = &[
    Bad {
        name: "no json",
        value: || Some(b"GET / HTTP/1.1".to_vec()),
        timestamp: TIMESTAMP,
        stage: "convert",
        reason: "malformed",
    },
    Bad {
        name: "cut short",
        value: || Some(br#"{"service":"pay"#.to_vec()),
        timestamp: TIMESTAMP,
        stage: "convert",
        reason: "malformed",
    },
    Bad {
        name: "no utf-8",
        value: || Some(b"{\"service\":\"\xff\xfe\"}".to_vec()),
        timestamp: TIMESTAMP,
        stage: "convert",
        reason: "malformed",
    },
    Bad {
        name: "nested 10 000 deep",
        value: || Some(b"[".repeat(10_000)),
        timestamp: TIMESTAMP,
        stage: "convert",
        reason: "malformed",
    },
    Bad {
        name: "no field",
        value: || Some(br#"{"level":"INFO"}"#.to_vec()),
        timestamp: TIMESTAMP,
        stage: "partition",
        reason: "missing-field",
    },
    Bad {
        name: "the year 10 000",
        value: || Some(br#"{"service":"pay"}"#.to_vec()),
        timestamp: 253_402_300_800_000,
        stage: "partition",
        reason: "invalid-timestamp",
    },
    Bad { name: "a tombstone", value: || None, timestamp: TIMESTAMP, stage: "convert", reason: "null-value" },
];

/// Bad records in all partitions: dead-lettered with headers that say which and why, their neighbours stored. Then the same topic by
/// the default policy: it stops at the first, names it, and everything before it is stored.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let case = Case::new(site, "poison", site.pick(200_000, 40_000)).await?;
    // Brokers refuse timestamps of the far future by default; not all brokers do.
    let far_future = [("message.timestamp.after.max.ms", "9223372036854775807")];
    case.topics().recreate(&case.topic, case.partitions(), &far_future).await?;
    let letters_topic = format!("{}-letters", case.topic);
    case.topics().recreate(&letters_topic, 1, &[]).await?;
    let half = case.spec.records / 2 / 4 * 4;
    case.produce_range(0..half).await?;
    let bad = produce_bad(&case, BAD).await?;
    case.produce_range(half..case.spec.records).await?;

    stops_by_default(&case, &bad).await?;
    let mut options = case.options("worker");
    options.until_end = true;
    options.layout = layout();
    options.on_poison = OnPoison::DeadLetter(Letters::Topic(letters_topic.clone()));
    let mut worker = case.start(&options)?;
    let summary = worker.finish(Duration::from_mins(2)).await?;
    ensure!(
        summary.dead_letters == bad.len() as u64,
        "{} records are bad and {} letters were sent",
        bad.len(),
        summary.dead_letters
    );
    let letters = read_letters(&case, &letters_topic).await?;
    check_letters(&case, &bad, &letters)?;
    let audit = case.audit(site).await?;
    case.topics().delete(&letters_topic).await?;
    let detail = format!("{} letters with their headers", letters.len());
    Ok(Outcome::of("records that cannot be processed", letters.len() as u64, audit, detail))
}

fn layout() -> Vec<Layout> {
    vec![Layout::Field("service".to_owned()), Layout::Hourly("Asia/Seoul".to_owned())]
}

/// Where a bad record is.
pub(crate) type Place = (i32, i64);

async fn stops_by_default(case: &Case, bad: &BTreeMap<Place, &'static Bad>) -> Result<()> {
    let mut options = case.options("stopping");
    options.layout = layout();
    let mut worker = case.start(&options)?;
    let message = worker.failure(Duration::from_mins(1)).await?;
    let first = |partition| bad.keys().filter(move |(it, _)| *it == partition).min().copied();
    let named = (0..i32::try_from(case.partitions())?).filter_map(first).find(|(partition, offset)| {
        message.contains(&format!("{}[{partition}]", case.topic))
            && message.contains(&format!("offset {offset} "))
    });
    let (partition, offset) =
        named.with_context(|| format!("the error names none of the first bad records: {message}"))?;
    ensure!(
        message.contains("OnPoison::DeadLetter") && message.contains("convert"),
        "the error names no stage or no remedy: {message}"
    );
    let places = case.marks().await?;
    let stopped = places.iter().find(|place| place.partition == partition);
    ensure!(
        stopped.is_some_and(|place| place.mark == offset && place.intent.is_none()),
        "the records before offset {offset} of partition {partition} are not committed: {places:?}"
    );
    Ok(())
}

/// Produces every bad value to every partition and answers where they are.
pub(crate) async fn produce_bad(
    case: &Case,
    values: &'static [Bad],
) -> Result<BTreeMap<Place, &'static Bad>> {
    let (brokers, topic, partitions) = (case.brokers.clone(), case.topic.clone(), case.partitions());
    spawn_blocking(move || {
        let mut bad = BTreeMap::new();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("enable.idempotence", "true")
            .create()?;
        for partition in 0..i32::try_from(partitions)? {
            let (_, mut offset) = producer.client().fetch_watermarks(&topic, partition, TIMEOUT)?;
            for it in values {
                let value = (it.value)();
                let mut record =
                    BaseRecord::to(&topic).partition(partition).key(it.name).timestamp(it.timestamp).headers(
                        OwnedHeaders::new().insert(Header { key: "origin", value: Some("elsewhere") }),
                    );
                record.payload = value.as_deref();
                producer.send(record).map_err(|(error, _)| error)?;
                bad.insert((partition, offset), it);
                offset += 1;
            }
        }
        producer.flush(TIMEOUT)?;
        Ok(bad)
    })
    .await?
}

/// A letter as it stands in its topic.
#[derive(Debug)]
pub(crate) struct Letter {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
}

impl Letter {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| {
                    let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                    (header.key.to_owned(), value.into_owned())
                })
                .collect()
        });
        Self {
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }

    /// The value of that header.
    pub(crate) fn header(&self, name: &str) -> Result<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        let (_, value) = found.with_context(|| format!("a letter has no header {name}: {self:?}"))?;
        Ok(value)
    }
}

/// Everything in a topic of one partition.
pub(crate) async fn read_letters(case: &Case, topic: &str) -> Result<Vec<Letter>> {
    let (brokers, topic) = (case.brokers.clone(), topic.to_owned());
    spawn_blocking(move || read_letters_blocking(&brokers, &topic)).await?
}

pub(crate) fn read_letters_blocking(brokers: &str, topic: &str) -> Result<Vec<Letter>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "aqueduct-letters")
        .set("enable.auto.commit", "false")
        .create()?;
    let (_, end) = consumer.fetch_watermarks(topic, 0, TIMEOUT)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    let deadline = Instant::now() + TIMEOUT;
    let mut letters = Vec::new();
    while i64::try_from(letters.len())? < end {
        ensure!(Instant::now() < deadline, "{} of {end} letters arrived", letters.len());
        if let Some(message) = consumer.poll(Duration::from_millis(200)) {
            letters.push(Letter::of(&message?));
        }
    }
    Ok(letters)
}

/// Each of the `bad` records has one letter that is the record and says which it is and why; nothing else has.
pub(super) fn check_letters(
    case: &Case,
    bad: &BTreeMap<Place, &'static Bad>,
    letters: &[Letter],
) -> Result<()> {
    let mut found = BTreeSet::new();
    for letter in letters {
        let place: Place =
            (letter.header("aqueduct.partition")?.parse()?, letter.header("aqueduct.offset")?.parse()?);
        let it =
            bad.get(&place).with_context(|| format!("a letter of a record that is not bad: {letter:?}"))?;
        let same = letter.key == it.name.as_bytes() && letter.value == (it.value)();
        ensure!(same, "the letter of {place:?} ({}) is not the record", it.name);
        let timestamp = it.timestamp.to_string();
        let partition = place.0.to_string();
        let offset = place.1.to_string();
        let wanted = [
            ("origin", "elsewhere"),
            ("aqueduct.topic", &case.topic),
            // The letters' topic refuses the far future: its own timestamps are another matter.
            ("aqueduct.timestamp", &timestamp),
            ("aqueduct.stage", it.stage),
            ("aqueduct.reason", it.reason),
            ("__connect.errors.topic", &case.topic),
            ("__connect.errors.partition", &partition),
            ("__connect.errors.offset", &offset),
            ("__connect.errors.connector.name", "worker"),
        ];
        for (name, value) in wanted {
            let header = letter.header(name)?;
            ensure!(
                header == value,
                "header {name} of the letter of {place:?} ({}) is {header:?}, not {value:?}",
                it.name
            );
        }
        letter.header("__connect.errors.exception.message")?;
        ensure!(found.insert(place), "two letters of {place:?} without a crash");
    }
    ensure!(found.len() == bad.len(), "{} of {} bad records have a letter", found.len(), bad.len());
    Ok(())
}

const TIMEOUT: Duration = Duration::from_secs(20);
/// 2026-01-01T00:30:00Z.
pub(crate) const TIMESTAMP: i64 = 1_767_227_400_000;
