//! Are converters and partitioners the pure functions a replay takes them for?

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::batch::{Batch, BatchBuilder};
use crate::budget::Permit;
use crate::convert::Converter;
use crate::error::{ErrorChain, Poison};
use crate::fingerprint::Fingerprint;
use crate::partition::{Partitioner, Replay, RoutePath};
use crate::record::{Offset, OwnedRecord, Record, Timestamp, TopicPartition};

use super::broker::{ScriptedBroker, ScriptedRecord};

/// Checks what [`Converter`] promises.
///
/// Every record of `records`, and every one of [`hostile_records`], is converted four times: forwards, backwards, after
/// its neighbours were converted by another thread, and alone in a batch. All answers must be equal (a converter that
/// says [`Replay::WallClock`] is excused), none may panic, and the fingerprint must be the same before and after and
/// have something in it.
///
/// Give it records of the kind the converter is for: of the hostile ones most are refused before they get far.
///
/// ```
/// use aqueduct_core::testkit::{ScriptedRecord, check_converter, record};
/// # use aqueduct_core::{Converted, Converter, Fingerprint, Poison, Record};
/// # struct Length;
/// # impl Converter for Length {
/// #     type Output = usize;
/// #     fn convert(&self, record: &Record<'_>) -> Result<Converted<usize>, Poison> {
/// #         Ok(Converted::Emit(record.size()))
/// #     }
/// #     fn fingerprint(&self, parts: &mut Fingerprint) {
/// #         parts.put("converter", "length/1");
/// #     }
/// # }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// check_converter(&Length, &[record(ScriptedRecord::new(r#"{"status":200}"#).key("k"))]).await;
/// # });
/// ```
///
/// # Panics
/// If the converter breaks its contract, with the record and both answers. This is a test helper.
pub async fn check_converter<C>(converter: &C, records: &[OwnedRecord])
where
    C: Converter,
    C::Output: PartialEq + Debug,
{
    let batch = batch_with_hostile(records);
    let before = fingerprint_of(|parts| converter.fingerprint(parts));
    prepare(converter, &batch).await;
    let convert = |record: &Record<'_>| converter.convert(record);
    let answers = answers(&batch, "converter", converter.replay(), convert);
    // A record gives the same whichever batch it comes in.
    for (index, answer) in answers.iter().enumerate() {
        let Some(record) = batch.get(index) else { continue };
        let alone = batch_of(&[record.to_owned()]);
        prepare(converter, &alone).await;
        let Some(record) = alone.get(0) else { continue };
        let again = guarded("converter", &record, || convert(&record));
        compare("converter", converter.replay(), &record, "alone in its batch", answer, &again);
    }
    let after = fingerprint_of(|parts| converter.fingerprint(parts));
    check_fingerprint("converter", &before, &after);
}

/// Checks what [`Partitioner`] promises, with values that `value` makes of records (`None` where there is none).
///
/// Every record of `records`, and every one of [`hostile_records`] that has a value, is routed forwards, backwards and
/// from another thread, in a segment opened at the same time. All routes must be equal (a partitioner that says
/// [`Replay::WallClock`] is excused), what was in the path before must not matter, and none may panic.
///
/// ```
/// use aqueduct_core::testkit::{ScriptedRecord, check_partitioner, record};
/// # use aqueduct_core::{Fingerprint, Partitioner, Poison, Record, RoutePath};
/// # struct ByPartition;
/// # impl<T> Partitioner<T> for ByPartition {
/// #     fn route(&self, record: &Record<'_>, _value: &T, path: &mut RoutePath) -> Result<(), Poison> {
/// #         path.push_field("partition", &record.lane().partition().to_string())
/// #     }
/// #     fn fingerprint(&self, parts: &mut Fingerprint) {
/// #         parts.put("partitioner", "by-partition/1");
/// #     }
/// # }
///
/// check_partitioner(&ByPartition, &[record("x")], |record| record.value_bytes());
/// ```
///
/// # Panics
/// If the partitioner breaks its contract, with the record and both answers. This is a test helper.
pub fn check_partitioner<T, P>(
    partitioner: &P,
    records: &[OwnedRecord],
    value: impl Fn(&Record<'_>) -> Option<T> + Sync,
) where
    P: Partitioner<T>,
{
    const OPENED_AT_MS: i64 = 1_700_000_000_000;
    let batch = batch_with_hostile(records);
    let before = fingerprint_of(|parts| partitioner.fingerprint(parts));
    let route = |record: &Record<'_>| match value(record) {
        None => Ok(None),
        Some(value) => {
            let mut path = RoutePath::new(OPENED_AT_MS);
            partitioner.route(record, &value, &mut path).map(|()| Some(path.as_str().to_owned()))
        }
    };
    let answers = answers(&batch, "partitioner", partitioner.replay(), route);
    // The lane uses one path for all records: it arrives empty, whatever it held.
    let mut used = RoutePath::new(OPENED_AT_MS);
    for (record, answer) in batch.iter().zip(&answers) {
        let Some(value) = value(&record) else { continue };
        used.clear();
        let again = guarded("partitioner", &record, || {
            partitioner.route(&record, &value, &mut used).map(|()| Some(used.as_str().to_owned()))
        });
        compare(
            "partitioner",
            partitioner.replay(),
            &record,
            "into a path that was used before",
            answer,
            &again,
        );
    }
    let after = fingerprint_of(|parts| partitioner.fingerprint(parts));
    check_fingerprint("partitioner", &before, &after);
}

/// Checks that no two of `variants`, stages that differ in what they give, share a fingerprint: after a change of
/// configuration an intent of the old one must be recognised.
///
/// ```
/// use aqueduct_core::testkit::{check_fingerprints_differ, fingerprint_of};
///
/// check_fingerprints_differ([
///     ("hourly", fingerprint_of(|parts| parts.put("partitioner", "time:hour"))),
///     ("daily", fingerprint_of(|parts| parts.put("partitioner", "time:day"))),
/// ]);
/// ```
///
/// # Panics
/// If two do, with their names. This is a test helper.
pub fn check_fingerprints_differ(variants: impl IntoIterator<Item = (&'static str, Fingerprint)>) {
    let mut known: Vec<(&str, Fingerprint)> = Vec::new();
    for (name, parts) in variants {
        if let Some((other, _)) = known.iter().find(|(_, known)| *known == parts) {
            panic!("{name:?} and {other:?} give different output under the same fingerprint");
        }
        known.push((name, parts));
    }
}

/// The fingerprint of one stage: `fingerprint_of(|parts| converter.fingerprint(parts))`.
pub fn fingerprint_of(put: impl FnOnce(&mut Fingerprint)) -> Fingerprint {
    let mut parts = Fingerprint::new();
    put(&mut parts);
    parts
}

/// One record outside any partition, for [`check_converter`] and [`check_partitioner`].
pub fn record(record: impl Into<ScriptedRecord>) -> OwnedRecord {
    let broker = ScriptedBroker::new();
    let lane = TopicPartition::new("purity", 0);
    broker.append(&lane, record);
    match broker.records(&lane).pop() {
        Some(record) => record,
        None => unreachable!("the record was appended"),
    }
}

/// Records as nobody should send them: absent and empty parts, bytes that are not UTF-8, JSON that is cut off, nested
/// without end or full of surprises, timestamps no calendar can show, texts that look like paths.
pub fn hostile_records() -> Vec<OwnedRecord> {
    let mut records =
        vec![ScriptedRecord::tombstone(), ScriptedRecord::tombstone().key("key"), ScriptedRecord::new("")];
    let texts = [
        "null",
        "true",
        "0",
        "-1",
        "1e999",
        "-0.0",
        "18446744073709551616",
        "\"text\"",
        "[]",
        "{}",
        "{",
        "[",
        "\"",
        "}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":{\"b\":null}}",
        "{\"a\": 1}\n{\"a\": 2}",
        "{\"a\":\n1}",
        "\u{feff}{}",
        "nul",
        "NaN",
        "{\"\\u0000\":\"\\ud800\"}",
        "{\"a\":\"../../etc/passwd\"}",
        "{\"a\":\"x/y=z\"}",
        "{\"a\":\"%2e%2e\"}",
        "{\"a\":\"\\u202e\"}",
        " \t\r\n",
        "\0",
        "a,b,\"c\nd\"",
    ];
    records.extend(texts.map(|text| ScriptedRecord::new(text).key(text)));
    let bytes: [&'static [u8]; 5] =
        [b"\xff\xfe", b"\xc3\x28", b"{\"a\":\"\xff\"}", b"\x00\x00\x00\x00\x01", b"\x1f\x8b\x08\x00"];
    records.extend(bytes.map(|bytes| ScriptedRecord::new(bytes).key(bytes)));
    records.push(ScriptedRecord::new("[".repeat(10_000)));
    records.push(ScriptedRecord::new("{\"a\":".repeat(10_000) + "1" + &"}".repeat(10_000)));
    records
        .push(ScriptedRecord::new(format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20))).key("k".repeat(1 << 16)));
    let times = [i64::MIN, i64::MIN + 1, -62_167_219_200_001, -1, 0, 1, 253_402_300_800_000, i64::MAX];
    for ms in times {
        records.push(ScriptedRecord::new("{\"a\":1}").timestamp(Timestamp::Create(ms)));
        records.push(ScriptedRecord::new(format!("{{\"a\":{ms}}}")).timestamp(Timestamp::LogAppend(ms)));
    }
    records.push(ScriptedRecord::new("{}").header("", "").header("a", "1").header("a", &b"\xff"[..]));
    records.into_iter().map(record).collect()
}

fn batch_with_hostile(records: &[OwnedRecord]) -> Batch {
    let mut all = [records, &hostile_records()].concat();
    for (record, offset) in all.iter_mut().zip(1_000..) {
        record.offset = Offset::new(offset);
    }
    batch_of(&all)
}

/// The records as one batch of one partition.
fn batch_of(records: &[OwnedRecord]) -> Batch {
    let lane = records.first().map_or_else(|| TopicPartition::new("purity", 0), |record| record.lane.clone());
    let mut builder = BatchBuilder::new(lane, 0);
    for record in records {
        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.push(record.offset, record.timestamp, key, value, headers);
    }
    builder.build(Permit::unlimited())
}

async fn prepare<C: Converter>(converter: &C, batch: &Batch) {
    if let Err(error) = converter.prepare(batch).await {
        panic!("prepare failed, and the check needs its answer: {}", ErrorChain(&error));
    }
}

type Answer<T> = Result<T, Poison>;

/// The answers forwards, having compared them with those backwards and those of another thread.
fn answers<A>(
    batch: &Batch,
    what: &str,
    replay: Replay,
    ask: impl Fn(&Record<'_>) -> Answer<A> + Sync,
) -> Vec<Answer<A>>
where
    A: PartialEq + Debug + Send,
{
    let forwards: Vec<_> = batch.iter().map(|record| guarded(what, &record, || ask(&record))).collect();
    let backwards = || -> Vec<_> {
        let mut indices: Vec<_> = (0..batch.len()).collect();
        indices.reverse();
        let records = indices.into_iter().filter_map(|index| batch.get(index));
        let mut answers: Vec<_> = records.map(|record| guarded(what, &record, || ask(&record))).collect();
        answers.reverse();
        answers
    };
    let again = backwards();
    let elsewhere = std::thread::scope(|scope| {
        let other = scope.spawn(backwards);
        let here = backwards();
        match other.join() {
            Ok(elsewhere) => (here, elsewhere),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    for (index, record) in batch.iter().enumerate() {
        let Some(first) = forwards.get(index) else {
            continue;
        };
        let others = [
            ("in the opposite order", again.get(index)),
            ("beside another thread", elsewhere.0.get(index)),
            ("by another thread", elsewhere.1.get(index)),
        ];
        for (how, other) in others {
            if let Some(other) = other {
                compare(what, replay, &record, how, first, other);
            }
        }
    }
    forwards
}

fn compare<A: PartialEq + Debug>(
    what: &str,
    replay: Replay,
    record: &Record<'_>,
    how: &str,
    first: &Answer<A>,
    other: &Answer<A>,
) {
    assert!(
        replay == Replay::WallClock || first == other,
        "the {what} is not pure: {} gave {} and, {how}, {}; make it a function of the record, or say Replay::WallClock",
        describe(record),
        bounded(first),
        bounded(other),
    );
}

/// Names the record if the call panics.
fn guarded<R>(what: &str, record: &Record<'_>, call: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(answer) => answer,
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            panic!("the {what} panicked on {}: {message}", describe(record))
        }
    }
}

/// The record in a few words. Unlike in logs its payload is shown: it comes from a test.
fn describe(record: &Record<'_>) -> String {
    let show = |part: Option<&[u8]>| match part {
        None => "none".to_owned(),
        Some(bytes) => bounded(&String::from_utf8_lossy(bytes)),
    };
    format!(
        "record (value {}, key {}, timestamp {:?})",
        show(record.value()),
        show(record.key()),
        record.timestamp()
    )
}

fn bounded(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()),
        None => text,
    }
}

fn check_fingerprint(what: &str, before: &Fingerprint, after: &Fingerprint) {
    assert!(*before != Fingerprint::new(), "the {what} puts nothing into the fingerprint");
    let differing = before.differing_parts(after);
    assert!(
        differing.is_empty(),
        "the {what}'s fingerprint has changed in {differing:?} while records were processed"
    );
}

#[cfg(test)]
mod tests;
