use std::fs;

use aqueduct_core::{
    LetterSource, Offset, OwnedRecord, Poison, PoisonReason, PoisonStage, StoredLetter, Timestamp,
    TopicPartition, UnreadableLetter,
};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::target::ObjectMeta;
use crate::testkit::{Fault, MemoryTarget};

fn letter(offset: i64) -> DeadLetter {
    let record = OwnedRecord {
        lane: TopicPartition::new("orders", 3),
        offset: Offset::new(offset),
        timestamp: Timestamp::Create(1_764_000_000_000),
        key: None,
        value: Some(Bytes::from_static(b"{")),
        headers: vec![("h".to_owned(), Some(Bytes::from_static(b"\xff"))), ("none".to_owned(), None)],
    };
    let poison = Poison::new(PoisonReason::Malformed, "the end is missing");
    DeadLetter { record, stage: PoisonStage::Convert, poison }
}

fn offsets(directory: &Path) -> Vec<i64> {
    read_letters(directory).unwrap().map(|letter| letter.unwrap().record.offset.get()).collect()
}

fn files(directory: &Path) -> usize {
    letter_files(directory).unwrap().len()
}

#[tokio::test]
async fn a_letter_is_a_golden_line_and_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let target = DirectoryDeadLetters::new(directory.path().join("made"))
        .with_pipeline("orders")
        .with_pipeline_version("7f3c2");
    target.check().await.unwrap();
    let directory = directory.path().join("made");
    assert_eq!(files(&directory), 0, "the check leaves nothing behind");
    target.send(vec![letter(95_403)]).await.unwrap();
    let path = letter_files(&directory).unwrap().remove(0);
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "{\"version\":1,\"pipeline\":\"orders\",\"pipeline_version\":\"7f3c2\",\"topic\":\"orders\",\"partition\":3,\"offset\":95403,\
         \"timestamp\":{\"create\":1764000000000},\"stage\":\"convert\",\"reason\":\"malformed\",\
         \"detail\":\"the end is missing\",\"preview\":\"{\",\"key\":null,\"value\":{\"text\":\"{\"},\
         \"headers\":[[\"h\",{\"base64\":\"/w==\"}],[\"none\",null]]}\n"
    );
    let read: Vec<_> = read_letters(&directory).unwrap().map(Result::unwrap).collect();
    let expected = letter(95_403);
    assert_eq!((&read[0].record, read.len()), (&expected.record, 1));
    assert_eq!((read[0].stage.as_str(), read[0].reason.as_str()), ("convert", "malformed"));
    assert_eq!((read[0].pipeline.as_str(), read[0].pipeline_version.as_str()), ("orders", "7f3c2"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

/// As it was written before letters named the pipeline's version.
#[test]
fn an_old_line_stays_readable() {
    let old = br#"{"version":1,"pipeline":"orders","topic":"orders","partition":3,"offset":7,"timestamp":null,"stage":"convert","reason":"malformed","detail":"x","key":null,"value":{"text":"{"},"headers":[]}"#;
    let read = line::read(old).unwrap();
    assert_eq!((read.record.offset, read.pipeline_version.as_str()), (Offset::new(7), ""));
}

/// What is wrong with a line is shown, and what is in it is data.
#[test]
fn what_is_wrong_with_a_line_is_said_without_quoting_it() {
    let of = |value: &str| {
        format!(
            r#"{{"version":1,"pipeline":"p","topic":"t","partition":0,"offset":7,"timestamp":null,"stage":"convert","reason":"malformed","detail":"x","key":null,"value":{value},"headers":[]}}"#
        )
    };
    line::read(of("null").as_bytes()).unwrap();
    for (value, said) in [
        (r#""secret""#, "its members are not those of a letter, noticed at column"),
        (r#"{"secret":1}"#, "its members are not those of a letter, noticed at column"),
        (r#"{"base64":"secret!"}"#, "what should be base64 in it is none"),
        ("secret", "it is not json, noticed at column"),
    ] {
        let why = line::read(of(value).as_bytes()).unwrap_err();
        assert!(why.starts_with(said), "{why}");
        assert!(!why.contains("secret") && !why.contains("symbol"), "{why}");
    }
    assert!(line::read(b"{").unwrap_err().starts_with("it ends too early"));
}

/// A send that was applied and not answered comes again; a process that dies in a line leaves it torn.
#[tokio::test]
async fn letters_sent_twice_are_read_once_and_torn_lines_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let first = DirectoryDeadLetters::new(directory.path());
    first.send((0..5).map(letter).collect()).await.unwrap();
    first.send(vec![letter(5), letter(6)]).await.unwrap();
    let path = letter_files(directory.path()).unwrap().remove(0);
    let whole = fs::read(&path).unwrap();
    for cut in [1, 40, 200] {
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        // Another process, which does not append to it.
        let second = DirectoryDeadLetters::new(directory.path());
        second.send(vec![letter(5), letter(6), letter(7)]).await.unwrap();
        let mut read = read_letters(directory.path()).unwrap();
        let mut found: Vec<_> = read.by_ref().map(|letter| letter.unwrap().record.offset.get()).collect();
        found.sort_unstable();
        assert_eq!((found, read.torn()), ((0..8).collect(), 1), "{cut} bytes are missing");
    }
}

#[tokio::test]
async fn a_damaged_line_is_named_and_costs_itself() {
    let directory = tempfile::tempdir().unwrap();
    DirectoryDeadLetters::new(directory.path()).send((0..3).map(letter).collect()).await.unwrap();
    let path = letter_files(directory.path()).unwrap().remove(0);
    let text = fs::read_to_string(&path).unwrap();
    for damage in [
        text.replacen("\"offset\":1,", "\"offset\":\"1\",", 1),
        text.replacen("\"version\":1", "\"version\":2", 2),
    ] {
        fs::write(&path, damage).unwrap();
        let (good, bad): (Vec<_>, Vec<_>) = read_letters(directory.path()).unwrap().partition(Result::is_ok);
        assert_eq!(good.len() + bad.len(), 3);
        let error = bad.into_iter().next().unwrap().unwrap_err();
        assert!(error.to_string().contains("jsonl is no letter"), "{error}");
        assert_eq!(error.class(), Class::Fatal);
    }
}

#[tokio::test]
async fn files_end_at_their_size_and_a_removed_one_is_not_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let target = DirectoryDeadLetters::new(directory.path()).with_file_bytes(700);
    for offset in 0..7 {
        target.send(vec![letter(offset)]).await.unwrap();
    }
    assert_eq!(files(directory.path()), 4);
    assert_eq!(offsets(directory.path()).len(), 7);
    for path in letter_files(directory.path()).unwrap() {
        fs::remove_file(path).unwrap();
    }
    target.send(vec![letter(8)]).await.unwrap();
    assert_eq!(offsets(directory.path()), [8]);
}

#[tokio::test]
async fn a_full_directory_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let target = DirectoryDeadLetters::new(directory.path()).with_directory_bytes(1_000).with_file_bytes(1);
    target.send(vec![letter(0)]).await.unwrap();
    target.send(vec![letter(1)]).await.unwrap();
    let error = target.send((2..5).map(letter).collect()).await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY);
    let text = aqueduct_core::ErrorChain(&error).to_string();
    assert!(text.contains("the limit is 1000") && text.contains("remove files"), "{text}");
    assert_eq!(offsets(directory.path()), [0, 1]);
    fs::remove_file(letter_files(directory.path()).unwrap().remove(0)).unwrap();
    target.send(vec![letter(2)]).await.unwrap();
    assert_eq!(offsets(directory.path()), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_and_processes_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let targets = [(); 2].map(|()| DirectoryDeadLetters::new(directory.path()).with_file_bytes(5_000));
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..8 {
        let target = targets[lane % 2].clone();
        lanes.spawn(async move {
            for send in 0..10 {
                let first = i64::try_from(lane * 100 + send * 3).unwrap();
                target.send((first..first + 3).map(letter).collect()).await.unwrap();
            }
        });
    }
    lanes.join_all().await;
    let mut found = offsets(directory.path());
    found.sort_unstable();
    let expected: Vec<i64> = (0..8).flat_map(|lane| lane * 100..lane * 100 + 30).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_is_no_directory_is_refused_at_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = DirectoryDeadLetters::new(file.path()).check().await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    let path = file.path().display().to_string();
    assert!(aqueduct_core::ErrorChain(&error).to_string().contains(&path), "{error:?}");
    assert_eq!(read_letters("/nowhere/at/all").unwrap().count(), 0);
}

proptest! {
    #[test]
    fn every_record_reads_back(
        topic: String, partition: i32, offset: i64, time in proptest::option::of(any::<(bool, i64)>()),
        key: Option<Vec<u8>>, value: Option<Vec<u8>>, headers: Vec<(String, Option<Vec<u8>>)>, detail: String,
    ) {
        let timestamp = match time {
            None => Timestamp::None,
            Some((true, ms)) => Timestamp::Create(ms),
            Some((false, ms)) => Timestamp::LogAppend(ms),
        };
        let record = OwnedRecord {
            lane: TopicPartition::new(topic, partition),
            offset: Offset::new(offset),
            timestamp,
            key: key.map(Bytes::from),
            value: value.map(Bytes::from),
            headers: headers.into_iter().map(|(name, value)| (name, value.map(Bytes::from))).collect(),
        };
        let poison = Poison::new(PoisonReason::Rejected, detail.clone());
        let mut out = Vec::new();
        let letter = DeadLetter { record: record.clone(), stage: PoisonStage::Target, poison };
        line::write(&letter, &line::Writer::default(), &mut out).unwrap();
        prop_assert_eq!(out.iter().position(|byte| *byte == b'\n'), Some(out.len() - 1));
        let read = line::read(&out[..out.len() - 1]).unwrap();
        prop_assert_eq!((read.record, read.detail), (record, detail));
    }

    #[test]
    fn any_bytes_are_a_letter_or_an_error(bytes: Vec<u8>) {
        line::read(&bytes).ok();
    }
}

fn in_objects(target: &Arc<MemoryTarget>) -> ObjectDeadLetters<Arc<MemoryTarget>> {
    let letters = ObjectDeadLetters::new(Arc::clone(target), "dead").unwrap();
    letters.with_pipeline("orders").with_pipeline_version("7f3c2")
}

async fn read_all(mut source: impl LetterSource) -> (Vec<StoredLetter>, Vec<UnreadableLetter>) {
    let (mut whole, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(letter) = source.next().await.unwrap() {
        match letter {
            Ok(letter) => whole.push(letter),
            Err(error) => unreadable.push(error),
        }
    }
    (whole, unreadable)
}

#[tokio::test]
async fn letters_sent_to_objects_again_meet_their_own() {
    let target = Arc::new(MemoryTarget::new());
    let letters = in_objects(&target);
    letters.send((3..6).map(letter).collect()).await.unwrap();
    let before = target.objects();
    let key = before.keys().next().unwrap();
    assert!(key.starts_with("dead/orders/orders+3+0000000003-0000000005-"), "{key}");
    letters.send((3..6).map(letter).collect()).await.unwrap();
    assert_eq!(target.objects(), before);
    // By another version, and cut elsewhere: beside it.
    letters.clone().with_pipeline_version("8").send((3..6).map(letter).collect()).await.unwrap();
    letters.send(vec![letter(5)]).await.unwrap();
    assert_eq!(target.objects().len(), 3);
    let (read, unreadable) = read_all(letters.letters()).await;
    assert_eq!((read.len(), unreadable.len()), (7, 0));
    assert!(read.iter().all(|it| it.record == letter(it.record.offset.get()).record));
    assert_eq!(read.iter().filter(|it| it.pipeline_version == "7f3c2").count(), 4);
}

#[tokio::test]
async fn a_send_of_many_bytes_becomes_several_objects() {
    let target = Arc::new(MemoryTarget::new());
    let letters = in_objects(&target);
    let large = |offset| {
        let mut letter = letter(offset);
        letter.record.value = Some(Bytes::from(vec![b'x'; 3 << 20]));
        letter
    };
    // A faulty first time leaves some of them there.
    target.fail(1, Fault::LoseAnswer);
    letters.send((0..7).map(large).collect()).await.unwrap_err();
    letters.send((0..7).map(large).collect()).await.unwrap();
    let objects = target.objects();
    let lines: Vec<_> =
        objects.values().map(|it| String::from_utf8_lossy(&it.bytes).lines().count()).collect();
    assert_eq!(lines, [3, 3, 1]);
    assert_eq!(read_all(letters.letters()).await.0.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn objects_are_read_through_outages_and_past_what_is_no_letter() {
    let target = Arc::new(MemoryTarget::new());
    let letters = in_objects(&target);
    for offset in 0..20 {
        letters.send(vec![letter(offset)]).await.unwrap();
    }
    target.insert("dead/orders/readme.txt", Bytes::from_static(b"not mine"), ObjectMeta::default());
    target.insert("dead/orders/x.jsonl", Bytes::from_static(b"{}\nno\n"), ObjectMeta::default());
    target.insert("dead/orders/y.jsonl", Bytes::new(), ObjectMeta::default());
    target.insert("deadlier/orders/z.jsonl", Bytes::from_static(b"{}"), ObjectMeta::default());
    let calls = target.calls().len();
    for call in [0, 1, 5, 9] {
        target.fail(calls + call, Fault::Reject);
    }
    let (read, unreadable) = read_all(ObjectLetters::new(Arc::clone(&target), "dead").unwrap()).await;
    assert_eq!(read.iter().map(|it| it.record.offset.get()).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    let places: Vec<_> = unreadable.iter().map(|it| it.place.as_str()).collect();
    assert_eq!(places, ["line 1 of memory:/dead/orders/x.jsonl", "line 2 of memory:/dead/orders/x.jsonl"]);
    assert!(ObjectDeadLetters::new(target, "a//b").is_err());
}

#[tokio::test]
async fn a_directory_is_a_source_of_letters_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let target = DirectoryDeadLetters::new(directory.path());
    target.send((0..600).map(letter).collect()).await.unwrap();
    let path = letter_files(directory.path()).unwrap().remove(0);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"offset\":300,", "\"offset\":\"300\",", 1)).unwrap();
    let (read, unreadable) = read_all(DirectoryLetters::new(directory.path())).await;
    assert_eq!((read.len(), unreadable.len()), (599, 1));
    assert!(unreadable[0].place.starts_with("line 301 of "), "{unreadable:?}");
    assert_eq!(read_all(DirectoryLetters::new("/nowhere/at/all")).await.0.len(), 0);
}
