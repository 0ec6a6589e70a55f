use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use aqueduct_core::testkit::ManualClock;
use aqueduct_core::{
    Converted, Converter, ErrorChain, LetterFilter, LetterSource, OwnedRecord, Partitioner, Poison,
    PoisonReason, Record, Redrive, RedriveError, RedriveReport, RoutePath, StoredLetter, Timestamp,
    UnreadableLetter,
};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::compress::Compression;
use crate::format::Delimited;
use crate::keys::KeyTemplate;
use crate::target::{Completion, ObjectHead, Part, TargetLimits, Upload};
use crate::testkit::{Call, Fault, MemoryTarget};

/// What the pipeline refused and this takes, with its version in front; `bad` is never taken.
#[derive(Clone, Copy)]
struct Corrected(&'static str);

impl Converter for Corrected {
    type Output = Bytes;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Bytes>, Poison> {
        match record.value() {
            None => Ok(Converted::Skip(aqueduct_core::SkipReason::Tombstone)),
            Some(b"bad") => Err(Poison::new(PoisonReason::Malformed, "still bad")),
            Some(value) => Ok(Converted::Emit([self.0.as_bytes(), value].concat().into())),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "corrected/1");
    }
}

/// By the value's last byte; and by the time of opening where there is a `t`.
struct ByLast;

impl Partitioner<Bytes> for ByLast {
    fn route(&self, _record: &Record<'_>, value: &Bytes, path: &mut RoutePath) -> Result<(), Poison> {
        match value.last() {
            Some(b't') => {
                let opened = path.opened_at_ms().to_string();
                path.push_field("opened", &opened)
            }
            last => path.push_field("last", &last.map_or(0, |byte| *byte).to_string()),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "last/1");
    }
}

fn lane(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn letter(partition: i32, offset: i64, value: &str) -> StoredLetter {
    StoredLetter {
        record: OwnedRecord {
            lane: lane(partition),
            offset: Offset::new(offset),
            timestamp: Timestamp::Create(offset),
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        },
        pipeline: "orders".to_owned(),
        pipeline_version: String::new(),
        stage: "convert".to_owned(),
        reason: if offset % 2 == 0 { "malformed" } else { "too-large" }.to_owned(),
        detail: String::new(),
    }
}

/// Letters 0 to `count` of partition 0, over three routes.
fn letters(count: i64) -> Vec<StoredLetter> {
    (0..count).map(|offset| letter(0, offset, &format!("v{offset}-{}", offset % 3))).collect()
}

struct Letters(std::vec::IntoIter<StoredLetter>);

#[async_trait]
impl LetterSource for Letters {
    async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError> {
        Ok(self.0.next().map(Ok))
    }
}

fn options() -> ObjectOptions {
    ObjectOptions::default().with_keys(KeyTemplate::new("topics"))
}

fn redrive<O: ObjectTarget + ObjectRead>(
    target: O,
    version: &'static str,
) -> Redrive<Corrected, ByLast, ObjectRepairs<Delimited, O>> {
    let repairs = ObjectRepairs::new(Delimited::lines(), target, options()).unwrap();
    Redrive::new(Corrected(version), ByLast, repairs)
}

async fn run<O: ObjectTarget + ObjectRead>(
    target: O,
    letters: &[StoredLetter],
) -> Result<RedriveReport, RedriveError> {
    redrive(target, "").run(&mut Letters(Vec::from(letters).into_iter())).await
}

/// Every row in data objects, by partition and the offset in its value; each once, in a route it belongs to, as its object's
/// identity says.
fn audit(target: &MemoryTarget) -> BTreeMap<(i32, i64), String> {
    let mut rows = BTreeMap::new();
    for (key, object) in target.objects() {
        if key.contains("/_repairs/") {
            continue;
        }
        let user: Vec<_> =
            object.meta.user.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let identity =
            ObjectIdentity::from_metadata(&user).unwrap_or_else(|| panic!("{key} has no identity"));
        let text = String::from_utf8(object.bytes.to_vec()).unwrap();
        assert_eq!(identity.rows, text.lines().count() as u64, "{key}");
        let mut before = None;
        for line in text.lines() {
            let number = line.rsplit('v').next().unwrap().split('-').next().unwrap();
            let offset: i64 = number.parse().unwrap();
            assert!(identity.range.contains(Offset::new(offset)) && before < Some(offset), "{key}: {line}");
            before = Some(offset);
            let twice = rows.insert((identity.lane.partition(), offset), line.to_owned());
            assert_eq!(twice, None, "{offset} is stored twice, also in {key}");
        }
    }
    rows
}

fn offsets(target: &MemoryTarget) -> Vec<i64> {
    audit(target).into_keys().map(|(_, offset)| offset).collect()
}

#[tokio::test]
async fn letters_are_stored_beside_the_pipelines_objects_and_only_once() {
    let target = Arc::new(MemoryTarget::new());
    let all = letters(7);
    let report = run(Arc::clone(&target), &all).await.unwrap();
    assert_eq!((report.read, report.selected, report.repaired, report.objects), (7, 7, 7, 3));
    let keys: Vec<_> = target.objects().into_keys().collect();
    assert_eq!(
        keys,
        [
            "topics/orders/_repairs/orders+0+0000000000.done",
            "topics/orders/_repairs/orders+0+0000000000.json",
            "topics/orders/last=48/orders+0+0000000000.repair-0.txt",
            "topics/orders/last=49/orders+0+0000000001.repair-0.txt",
            "topics/orders/last=50/orders+0+0000000002.repair-0.txt",
        ]
        .map(|key| key.replace(".txt", FileKind::extension(&Delimited::lines())))
    );
    let first = &target.objects()[&keys[2]];
    assert_eq!(first.bytes, "v0-0\nv3-0\nv6-0\n");
    assert_eq!(first.meta.user[1], (REPAIR, "v=1 n=0 offsets=0,3,6".to_owned()));
    // Again: nothing. With some more, among them ones that come twice: only those.
    let before = target.objects();
    let report = run(Arc::clone(&target), &all).await.unwrap();
    assert_eq!((report.selected, report.repaired, report.before, report.objects), (7, 0, 7, 0));
    assert_eq!(target.objects(), before);
    let more: Vec<_> = letters(12).into_iter().chain(letters(12)).collect();
    let report = run(Arc::clone(&target), &more).await.unwrap();
    assert_eq!((report.read, report.repeated, report.repaired, report.before), (24, 12, 5, 7));
    assert_eq!(offsets(&target), (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn filters_that_overlap_store_each_record_once() {
    let target = Arc::new(MemoryTarget::new());
    let all: Vec<_> = letters(30).into_iter().chain([letter(1, 5, "v5-x")]).collect();
    let range = |from, to| OffsetRange::new(Offset::new(from), Offset::new(to)).unwrap();
    let filters = [
        (LetterFilter::all().reason(PoisonReason::Malformed).offsets(lane(0), range(0, 10)), 5, 0),
        (LetterFilter::all().record_time(0..12).offsets(lane(0), range(0, 100)), 7, 5),
        (LetterFilter::all().topic("other"), 0, 0),
        (LetterFilter::all().stage(aqueduct_core::PoisonStage::Convert).pipeline_version(""), 19, 12),
    ];
    for (filter, stored, before) in filters {
        let redrive = redrive(Arc::clone(&target), "").select(filter.clone());
        let report = redrive.run(&mut Letters(all.clone().into_iter())).await.unwrap();
        assert_eq!((report.repaired, report.before, report.read), (stored, before, 31), "{filter:?}");
    }
    assert_eq!(audit(&target).len(), 31);
}

#[tokio::test]
async fn what_is_still_bad_is_reported_and_can_be_repaired_later() {
    let target = Arc::new(MemoryTarget::new());
    let mut all = letters(4);
    all[1].record.value = Some(Bytes::from_static(b"bad"));
    all[2].record.value = None;
    let report = run(Arc::clone(&target), &all).await.unwrap();
    assert_eq!((report.repaired, report.skipped, report.poisoned(), report.selected), (2, 1, 1, 4));
    let still = &report.still_poison[&("convert", "malformed")];
    assert_eq!((still.count, still.offset, still.detail.as_str()), (1, Offset::new(1), "still bad"));
    let report = run(Arc::clone(&target), &letters(4)).await.unwrap();
    assert_eq!((report.repaired, report.before), (2, 2));
    assert_eq!(offsets(&target), [0, 1, 2, 3]);
}

#[tokio::test]
async fn large_and_many_letters_are_repaired_in_chunks() {
    let target = Arc::new(MemoryTarget::new());
    let report = run(Arc::clone(&target), &letters(2_500)).await.unwrap();
    assert_eq!(report.repaired, 2_500);
    let claims =
        target.objects().into_keys().filter(|key| key.contains(".json") && key.contains("_repairs")).count();
    assert_eq!((claims, audit(&target).len()), (3, 2_500));
    let heavy: Vec<_> =
        (0..5).map(|offset| letter(1, offset, &format!("{}v{offset}-1", "x".repeat(3 << 20)))).collect();
    assert_eq!(run(Arc::clone(&target), &heavy).await.unwrap().repaired, 5);
    let claims =
        target.objects().into_keys().filter(|key| key.contains("orders+1+") && key.contains(".done")).count();
    assert_eq!(claims, 2, "8 MiB at a time");
}

#[tokio::test]
async fn compressed_repairs_are_what_the_identity_says() {
    let target = Arc::new(MemoryTarget::new());
    let options = options().with_compression(Compression::Gzip);
    let repairs = ObjectRepairs::new(Delimited::lines(), Arc::clone(&target), options).unwrap();
    let redrive = Redrive::new(Corrected(""), ByLast, repairs);
    redrive.run(&mut Letters(letters(1).into_iter())).await.unwrap();
    let (key, object) = target.objects().into_iter().find(|(key, _)| key.contains("last=")).unwrap();
    assert_eq!(key.rsplit_once('.').unwrap().1, "gz", "{key}");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(&object.bytes[..]), &mut text)
        .unwrap();
    assert_eq!((text.as_str(), object.meta.content_type.as_str()), ("v0-0\n", "application/gzip"));
}

/// Every call fails once in every way, its effect applied or not.
#[tokio::test(start_paused = true)]
async fn lost_answers_and_refusals_anywhere_cost_nothing() {
    let calls = {
        let target = Arc::new(MemoryTarget::new());
        run(Arc::clone(&target), &letters(7)).await.unwrap();
        target.calls().len()
    };
    for call in 0..calls {
        for fault in [Fault::Reject, Fault::LoseAnswer] {
            let target = Arc::new(MemoryTarget::new());
            target.fail(call, fault);
            let report = run(Arc::clone(&target), &letters(7)).await.unwrap();
            assert_eq!(
                (report.repaired, offsets(&target)),
                (7, (0..7).collect()),
                "{fault:?} of call {call}"
            );
        }
    }
}

/// Dies at every call: before it, and behind it without having noticed. The next run ends it, with other filters and another
/// time, and a third has nothing to do.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_is_finished_by_the_next_run() {
    let mut unfinished = 0;
    let all: Vec<_> = letters(7).into_iter().chain([letter(0, 7, "v7-t")]).collect();
    for call in 0.. {
        let mut reached = false;
        for applied in [false, true] {
            let target = Arc::new(MemoryTarget::new());
            let clock = Arc::new(ManualClock::at_millis(1_000));
            let dying = Dying::new(&target, call, applied);
            let first = redrive(dying.clone(), "").clock(clock);
            let mut letters = Letters(all.clone().into_iter());
            let ended = tokio::select! {
                result = first.run(&mut letters) => Some(result),
                () = dying.dead() => None,
            };
            if let Some(result) = ended {
                result.unwrap();
                break;
            }
            reached = true;
            audit(&target);
            let nothing = LetterFilter::all().topic("nothing");
            let second = redrive(Arc::clone(&target), "").select(nothing);
            let report = second.run(&mut Letters(all.clone().into_iter())).await.unwrap();
            unfinished += report.finished;
            assert!(matches!(audit(&target).len(), 0 | 8), "call {call}");
            let report = run(Arc::clone(&target), &all).await.unwrap();
            assert_eq!((report.finished, report.repaired + report.before), (0, 8), "call {call}");
            assert_eq!(offsets(&target), (0..8).collect::<Vec<_>>(), "call {call}");
            assert_eq!(run(Arc::clone(&target), &all).await.unwrap().repaired, 0);
        }
        if !reached {
            assert!(call > 6, "{call} calls");
            break;
        }
    }
    assert!(unfinished >= 8 * 4, "{unfinished}: claims were left behind");
}

/// Another run claims what this one is about to, and dies: what it took is not visible, and this one says so.
#[tokio::test]
async fn what_somebody_else_took_and_left_is_not_called_done() {
    struct Meanwhile(std::vec::IntoIter<StoredLetter>, Arc<MemoryTarget>);

    #[async_trait]
    impl LetterSource for Meanwhile {
        async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError> {
            if self.0.len() == 1 {
                let calls = self.1.calls().len();
                self.1.fail(calls + 1 + first_put(&letters(3)).await, Fault::Forbid);
                run(Arc::clone(&self.1), &letters(3)).await.unwrap_err();
            }
            Ok(self.0.next().map(Ok))
        }
    }

    let target = Arc::new(MemoryTarget::new());
    let mut source = Meanwhile(letters(4).into_iter(), Arc::clone(&target));
    let report = redrive(Arc::clone(&target), "").run(&mut source).await.unwrap();
    assert_eq!((report.repaired, report.before, report.under_way), (1, 3, 1));
    assert_eq!(offsets(&target), [3]);
    let report = run(Arc::clone(&target), &letters(4)).await.unwrap();
    assert_eq!((report.finished, report.before, report.under_way), (3, 1, 0));
    assert_eq!(offsets(&target), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_changed_correction_does_not_finish_what_another_began() {
    let target = Arc::new(MemoryTarget::new());
    let all = letters(6);
    // The claim is created, and none of its objects.
    let create = 1 + first_put(&all).await;
    target.fail(create, Fault::Forbid);
    run(Arc::clone(&target), &all).await.unwrap_err();
    let before = target.objects();
    let changed = redrive(Arc::clone(&target), "new-");
    let error = changed.run(&mut Letters(all.clone().into_iter())).await.unwrap_err();
    let text = ErrorChain(&error).to_string();
    for part in [
        "topics/orders/_repairs/orders+0+0000000000.json",
        "version of the correction that began it",
        "crc32c",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(target.objects(), before);
    // Letters that are gone do not finish it either.
    let error = run(Arc::clone(&target), &all[..3]).await.unwrap_err();
    assert!(matches!(error, RedriveError::LettersMissing { missing: 3, .. }), "{error}");
    assert!(error.to_string().contains("offset 3"), "{error}");
    let report = run(Arc::clone(&target), &all).await.unwrap();
    assert_eq!((report.finished, report.repaired), (6, 0));
    assert_eq!(offsets(&target), (0..6).collect::<Vec<_>>());
    // Now the changed one finds everything ended.
    let report = changed.run(&mut Letters(all.into_iter())).await.unwrap();
    assert_eq!((report.finished, report.before, report.repaired), (0, 6, 0));
}

/// The number of the call that creates the claim.
async fn first_put(all: &[StoredLetter]) -> usize {
    let target = Arc::new(MemoryTarget::new());
    run(Arc::clone(&target), all).await.unwrap();
    target.calls().iter().position(|(call, _)| *call == Call::Put).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_is_not_whole_is_not_believed() {
    let target = Arc::new(MemoryTarget::new());
    run(Arc::clone(&target), &letters(2)).await.unwrap();
    run(Arc::clone(&target), &letters(4)).await.unwrap();
    let claim = |number| format!("topics/orders/_repairs/orders+0+000000000{number}.json");
    let first = target.objects()[&claim(0)].clone();
    for text in [
        "{}",
        "not json",
        &String::from_utf8(first.bytes.to_vec()).unwrap().replace("\"number\":0", "\"number\":7"),
    ] {
        target.insert(&claim(0), Bytes::from(text.to_owned()), first.meta.clone());
        let error = run(Arc::clone(&target), &letters(6)).await.unwrap_err();
        assert!(ErrorChain(&error).to_string().contains("repair log"), "{error:?}");
    }
    target.remove(&claim(0));
    let error = run(Arc::clone(&target), &letters(6)).await.unwrap_err();
    assert!(ErrorChain(&error).to_string().contains("Restore it"), "{error:?}");
    assert_eq!(offsets(&target), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_key_that_somebody_else_has_is_not_overwritten() {
    let target = Arc::new(MemoryTarget::new());
    let key = {
        let other = Arc::new(MemoryTarget::new());
        run(Arc::clone(&other), &letters(1)).await.unwrap();
        other.objects().into_keys().find(|key| key.contains("last=")).unwrap()
    };
    target.insert(&key, Bytes::from_static(b"theirs"), ObjectMeta::default());
    let error = run(Arc::clone(&target), &letters(1)).await.unwrap_err();
    assert!(ErrorChain(&error).to_string().contains(&key), "{error:?}");
    assert_eq!(target.objects()[&key].bytes, "theirs");
}

/// Text as a JSON string.
struct Text(Bytes);

impl aqueduct_core::JsonRow for Text {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        out.push(b'"');
        out.extend_from_slice(&self.0);
        out.push(b'"');
        Ok(())
    }
}

/// Files that are built, and headers beside them: what a sink of these options makes, repairs make.
#[tokio::test]
async fn repairs_of_files_that_are_built_have_headers_beside_them() {
    use aqueduct_core::ConverterExt as _;

    let target = Arc::new(MemoryTarget::new());
    let built = || {
        let options = options().with_record_headers(true);
        let repairs =
            ObjectRepairs::new(crate::format::JsonArray::new(), Arc::clone(&target), options).unwrap();
        Redrive::new(Corrected("").map("text", Text), Nowhere, repairs)
    };
    // The claim and the values, and not the headers.
    target.fail(first_put(&letters(3)).await + 2, Fault::Forbid);
    built().run(&mut Letters(letters(3).into_iter())).await.unwrap_err();
    let report = built().run(&mut Letters(letters(3).into_iter())).await.unwrap();
    assert_eq!((report.finished, report.repaired), (3, 0));
    let objects: Vec<_> = target.objects().into_iter().filter(|(key, _)| !key.contains("_repairs")).collect();
    let found = |extension: &str| {
        let key = format!("topics/orders/orders+0+0000000000.repair-0{extension}");
        let object = objects.iter().find(|(known, _)| *known == key);
        String::from_utf8(object.unwrap_or_else(|| panic!("no {key}: {objects:?}")).1.bytes.to_vec()).unwrap()
    };
    let values: String = found(".json").split_whitespace().collect();
    assert_eq!(values, r#"["v0-0","v1-1","v2-2"]"#);
    assert_eq!((found(".headers.json"), objects.len()), ("[]\n[]\n[]\n".to_owned(), 2));
    let report = built().run(&mut Letters(letters(3).into_iter())).await.unwrap();
    assert_eq!((report.before, report.objects), (3, 0));
}

/// Formats with columns number the names they meet: those of records that somebody else has taken are none of a claim's.
#[cfg(feature = "csv")]
#[tokio::test]
async fn who_finishes_a_claim_sees_the_rows_that_who_began_it_saw() {
    use aqueduct_core::ConverterExt as _;

    let all = [letter(0, 0, "a"), letter(0, 1, "b,a"), letter(0, 2, "a,c")];
    let columns = |target: &Arc<MemoryTarget>| {
        let repairs = ObjectRepairs::new(crate::Csv::new(), Arc::clone(target), options()).unwrap();
        Redrive::new(Corrected("").map("names", Names), Nowhere, repairs)
    };
    let first =
        || LetterFilter::all().offsets(lane(0), OffsetRange::new(Offset::ZERO, Offset::new(1)).unwrap());
    let puts = |target: &MemoryTarget| -> Vec<usize> {
        let calls = target.calls();
        (0..calls.len()).filter(|at| calls[*at].0 == Call::Put).collect()
    };
    let rehearsal = Arc::new(MemoryTarget::new());
    columns(&rehearsal).select(first()).run(&mut Letters(Vec::from(all.clone()).into_iter())).await.unwrap();
    let before = puts(&rehearsal).len();
    columns(&rehearsal).run(&mut Letters(Vec::from(all.clone()).into_iter())).await.unwrap();
    // The second run's claim, and not its object.
    let object = puts(&rehearsal)[before + 1];

    let target = Arc::new(MemoryTarget::new());
    target.fail(object, Fault::Forbid);
    columns(&target).select(first()).run(&mut Letters(Vec::from(all.clone()).into_iter())).await.unwrap();
    columns(&target).run(&mut Letters(Vec::from(all.clone()).into_iter())).await.unwrap_err();
    let report = columns(&target).run(&mut Letters(Vec::from(all).into_iter())).await.unwrap();
    assert_eq!((report.finished, report.before, report.repaired), (2, 1, 0));
    let text = |key: &str| {
        let objects = target.objects();
        let object = objects.iter().find(|(known, _)| known.ends_with(key));
        String::from_utf8(object.unwrap_or_else(|| panic!("no {key}")).1.bytes.to_vec()).unwrap()
    };
    assert_eq!(text("+0000000000.repair-0.csv"), "a\n1\n");
    assert_eq!(text("+0000000001.repair-1.csv"), "b,a,c\n1,1,\n,1,1\n");
}

/// A struct with these names, of ones.
#[cfg(feature = "csv")]
struct Names(Bytes);

#[cfg(feature = "csv")]
impl aqueduct_core::StructuredValue for Names {
    fn visit(&self, visitor: &mut dyn aqueduct_core::ValueVisitor) -> Result<(), Poison> {
        visitor.begin(aqueduct_core::Composite::Struct)?;
        for name in std::str::from_utf8(&self.0).unwrap().split(',') {
            visitor.key(name)?;
            visitor.scalar(aqueduct_core::FieldValue::I64(1))?;
        }
        visitor.end()
    }
}

/// No route at all.
struct Nowhere;

impl<T> Partitioner<T> for Nowhere {
    fn route(&self, _record: &Record<'_>, _value: &T, _path: &mut RoutePath) -> Result<(), Poison> {
        Ok(())
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "nowhere/1");
    }
}

#[tokio::test]
async fn a_store_without_conditions_is_refused() {
    let limits = TargetLimits { conditional_create: false, ..TargetLimits::default() };
    let error = run(Arc::new(MemoryTarget::with_limits(limits)), &letters(1)).await.unwrap_err();
    assert!(error.to_string().contains("repair check"), "{error}");
}

/// Two runs over the same letters, the second with the letters in another order, in any order of their steps; either may die.
fn race(schedule: &[bool], die: [Option<usize>; 2], corrections: [&'static str; 2]) {
    let target = Arc::new(MemoryTarget::new());
    let all = letters(5);
    let mut back = all.clone();
    back.reverse();
    let stepping = Stepping(Arc::clone(&target));
    let clocks = [1_000, 2_000].map(|ms| Arc::new(ManualClock::at_millis(ms)));
    let [one, two] = [0, 1]
        .map(|of| redrive(stepping.clone(), corrections[of]).clock(Arc::<ManualClock>::clone(&clocks[of])));
    // The second has one letter less: what the first has begun it cannot end in any case.
    let (mut first, mut second) =
        (Letters(all.clone().into_iter()), Letters(back.into_iter().skip(1).collect::<Vec<_>>().into_iter()));
    let mut context = Context::from_waker(Waker::noop());
    {
        let (mut one, mut two) = (pin!(one.run(&mut first)), pin!(two.run(&mut second)));
        let (mut ended, mut polls) = ([false; 2], [0; 2]);
        let mut steps = schedule.iter().copied().chain(std::iter::repeat([false, true]).flatten());
        while ended != [true; 2] {
            let of = usize::from(steps.next().unwrap());
            if ended[of] {
                continue;
            }
            let polled =
                if of == 0 { one.as_mut().poll(&mut context) } else { two.as_mut().poll(&mut context) };
            polls[of] += 1;
            ended[of] = polled.is_ready() || die[of] == Some(polls[of]);
            audit(&target);
        }
    }
    // Whoever comes next ends it: with the one correction or, if the claims are the other's, with that.
    for correction in [corrections[0], corrections[1], corrections[0]] {
        let next = redrive(stepping.clone(), correction);
        let mut letters = Letters(all.clone().into_iter());
        let mut next = pin!(next.run(&mut letters));
        while next.as_mut().poll(&mut context).is_pending() {}
    }
    let rows = audit(&target);
    assert_eq!(rows.into_keys().map(|(_, offset)| offset).collect::<Vec<_>>(), (0..5).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn races_and_crashes_store_each_record_once(
        schedule: [bool; 24], more: [bool; 24], die: [Option<prop::sample::Index>; 2], same: bool,
    ) {
        let die = die.map(|at| at.map(|at| 1 + at.index(40)));
        race(&[schedule, more].concat(), die, ["", if same { "" } else { "b-" }]);
    }

    /// Any letters, in any order and number, some bad; any filters; a crash anywhere in each run. Beside live objects of the
    /// pipeline, which hold what has no letter.
    #[test]
    fn any_runs_over_any_letters_store_each_record_once(
        found in prop::collection::vec((0..3_i32, 0..40_i64, prop::bool::weighted(0.1)), 1..80),
        runs in prop::collection::vec((prop::option::of((0..40_i64, 1..40_i64)), prop::option::of(0..30_usize), any::<bool>()), 0..6),
        rotate: prop::sample::Index,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let target = Arc::new(MemoryTarget::new());
        let bad: BTreeSet<_> = found.iter().filter(|it| it.2).map(|it| (it.0, it.1)).collect();
        let value = |partition, offset| {
            if bad.contains(&(partition, offset)) { "bad".to_owned() } else { format!("v{offset}-{}", offset % 4) }
        };
        let mut all: Vec<_> = found.iter().map(|(partition, offset, _)| letter(*partition, *offset, &value(*partition, *offset))).collect();
        let live = |target: &MemoryTarget| for partition in 0..3 {
            let lost: BTreeSet<_> = found.iter().filter(|it| it.0 == partition).map(|it| it.1).collect();
            let rows: Vec<_> = (0..40).filter(|offset| !lost.contains(offset)).collect();
            let Some((first, last)) = rows.first().zip(rows.last()) else { continue };
            let text = rows.iter().fold(String::new(), |text, offset| format!("{text}v{offset}-x\n"));
            let identity = ObjectIdentity {
                lane: lane(partition),
                range: OffsetRange::new(Offset::new(*first), Offset::new(*last + 1)).unwrap(),
                rows: rows.len() as u64,
                row_bytes: text.len() as u64,
                rows_crc32c: 0,
                layout: 0,
            };
            let key = format!("topics/orders/live/orders+{partition}+{first:010}.txt");
            target.insert(&key, Bytes::from(text), ObjectMeta { content_type: String::new(), user: vec![identity.to_metadata()] });
        };
        live(&target);
        let at = rotate.index(all.len());
        for (range, die, applied) in runs {
            all.rotate_left(at);
            let filter = range.map_or_else(LetterFilter::all, |(from, length)| {
                let range = OffsetRange::new(Offset::new(from), Offset::new(from + length)).unwrap();
                (0..3).fold(LetterFilter::all(), |filter, partition| filter.offsets(lane(partition), range))
            });
            let dying = Dying::new(&target, die.unwrap_or(usize::MAX), applied);
            let run = redrive(dying.clone(), "").select(filter);
            let mut letters = Letters(all.clone().into_iter());
            runtime.block_on(async {
                tokio::select! {
                    result = run.run(&mut letters) => drop(result.unwrap()),
                    () = dying.dead() => {}
                }
            });
            audit(&target);
        }
        let report = runtime.block_on(run(Arc::clone(&target), &all)).unwrap();
        let expected: BTreeSet<_> = (0..3).flat_map(|partition| (0..40).map(move |offset| (partition, offset)))
            .filter(|place| !bad.contains(place)).collect();
        prop_assert_eq!(audit(&target).into_keys().collect::<BTreeSet<_>>(), expected);
        prop_assert_eq!(report.poisoned(), bad.len() as u64);
        let distinct: BTreeSet<_> = found.iter().map(|it| (it.0, it.1)).collect();
        prop_assert_eq!(report.finished + report.repaired + report.before + report.poisoned(), distinct.len() as u64);
    }

    #[test]
    fn any_bytes_are_a_claim_or_an_error(bytes: Vec<u8>) {
        let target = MemoryTarget::new();
        let key = "topics/orders/_repairs/orders+0+0000000000.json";
        target.insert(key, bytes.into(), ObjectMeta::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        prop_assert!(runtime.block_on(run(Arc::new(target), &letters(1))).is_err());
    }
}

#[test]
fn what_people_are_shown_of_the_offsets_is_bounded() {
    assert_eq!(shown(&[1, 2, 30]), "1,2,30");
    let many = shown(&(0..1_000).collect::<Vec<_>>());
    assert!(many.len() < SHOWN_BYTES + 20 && many.ends_with(" more"), "{many}");
}

/// A client of the store that dies with its process: call number `at` never answers, be it applied or not.
#[derive(Clone)]
struct Dying {
    target: Arc<MemoryTarget>,
    left: Arc<std::sync::atomic::AtomicUsize>,
    applied: bool,
    dies: Arc<AtomicBool>,
    died: Arc<tokio::sync::Notify>,
}

impl Dying {
    fn new(target: &Arc<MemoryTarget>, at: usize, applied: bool) -> Self {
        Self {
            target: Arc::clone(target),
            left: Arc::new(at.into()),
            applied,
            dies: Arc::default(),
            died: Arc::default(),
        }
    }

    async fn dead(&self) {
        self.died.notified().await;
    }

    async fn end(&self) {
        if self.dies.load(Ordering::Relaxed) {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// A client of the store that waits before and behind every call.
#[derive(Clone)]
struct Stepping(Arc<MemoryTarget>);

async fn step() {
    let mut waited = false;
    let step = std::future::poll_fn(|context| {
        // Some of these are polled only if they ask for it.
        context.waker().wake_by_ref();
        if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    });
    step.await;
}

#[async_trait]
trait Around: Send + Sync + 'static {
    fn inner(&self) -> &MemoryTarget;
    async fn before(&self);
    async fn behind(&self);
}

#[async_trait]
impl Around for Stepping {
    fn inner(&self) -> &MemoryTarget {
        &self.0
    }
    async fn before(&self) {
        step().await;
    }
    async fn behind(&self) {
        step().await;
    }
}

#[async_trait]
impl Around for Dying {
    fn inner(&self) -> &MemoryTarget {
        &self.target
    }
    async fn before(&self) {
        let dies = self.left.fetch_sub(1, Ordering::Relaxed) == 0;
        self.dies.fetch_or(dies, Ordering::Relaxed);
        if !self.applied {
            self.end().await;
        }
    }
    async fn behind(&self) {
        self.end().await;
    }
}

macro_rules! around {
    ($($client:ty)*) => { $(
        #[async_trait]
        impl ObjectTarget for $client {
            fn limits(&self) -> TargetLimits {
                self.inner().limits()
            }
            fn location(&self) -> String {
                self.inner().location()
            }
            async fn put(&self, key: &str, body: Bytes, crc32c: u32, meta: &ObjectMeta) -> Result<Creation, StageError> {
                self.before().await;
                let answer = self.inner().put(key, body, crc32c, meta).await;
                self.behind().await;
                answer
            }
            async fn create_multipart(&self, key: &str, meta: &ObjectMeta) -> Result<Upload, StageError> {
                self.inner().create_multipart(key, meta).await
            }
            async fn upload_part(&self, upload: &Upload, number: u32, body: Bytes, crc: u32) -> Result<Part, StageError> {
                self.inner().upload_part(upload, number, body, crc).await
            }
            async fn complete(&self, upload: &Upload, parts: &[Part]) -> Result<Completion, StageError> {
                self.inner().complete(upload, parts).await
            }
            async fn abort(&self, upload: &Upload) -> Result<(), StageError> {
                self.inner().abort(upload).await
            }
            async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StageError> {
                self.before().await;
                let answer = self.inner().head(key).await;
                self.behind().await;
                answer
            }
        }

        #[async_trait]
        impl ObjectRead for $client {
            async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StageError> {
                self.before().await;
                let answer = self.inner().list(prefix, after).await;
                self.behind().await;
                answer
            }
            async fn get(&self, key: &str, most: u64) -> Result<Option<Bytes>, StageError> {
                self.before().await;
                let answer = self.inner().get(key, most).await;
                self.behind().await;
                answer
            }
        }
    )* };
}
around!(Stepping Dying);
