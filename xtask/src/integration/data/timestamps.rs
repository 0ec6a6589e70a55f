//! A layout by a field that some records lack.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::integration::data::poison::{Bad, TIMESTAMP, check_letters, produce_bad, read_letters};
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};
use crate::worker::{Layout, Letters, OnPoison};

const BAD: &[Bad] = &[
    bad("absent", || Some(br#"{"service":"pay"}"#.to_vec()), "missing-field"),
    bad("null", || Some(br#"{"timestamp":null}"#.to_vec()), "missing-field"),
    bad("text", || Some(br#"{"timestamp":"yesterday, I think"}"#.to_vec()), "invalid-timestamp"),
    bad("empty", || Some(br#"{"timestamp":""}"#.to_vec()), "invalid-timestamp"),
    bad("object", || Some(br#"{"timestamp":{"at":1}}"#.to_vec()), "invalid-field"),
    bad("no such day", || Some(br#"{"timestamp":"2026-02-30T00:00:00Z"}"#.to_vec()), "invalid-timestamp"),
    bad("without offset", || Some(br#"{"timestamp":"2026-01-01T00:00:00"}"#.to_vec()), "invalid-timestamp"),
];

const fn bad(name: &'static str, value: fn() -> Option<Vec<u8>>, reason: &'static str) -> Bad {
    Bad { name, value, timestamp: TIMESTAMP, stage: "partition", reason }
}

/// One field of time absent, null, text, in every partition and between good records: each becomes a letter, its neighbours are
/// stored, the worker goes on in one go, and a restart finds nothing left to do.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let case = Case::new(site, "timestamps", site.pick(100_000, 20_000)).await?;
    let letters_topic = format!("{}-letters", case.topic);
    case.topics().recreate(&letters_topic, 1, &[]).await?;
    let half = case.spec.records / 2 / 4 * 4;
    case.produce_range(0..half).await?;
    let bad = produce_bad(&case, BAD).await?;
    case.produce_range(half..case.spec.records).await?;

    let mut options = case.options("worker");
    options.layout = vec![Layout::HourlyBy("timestamp".to_owned())];
    options.on_poison = OnPoison::DeadLetter(Letters::Topic(letters_topic.clone()));
    let worker = case.start(&options)?;
    case.drained(&[&worker], Duration::from_mins(1)).await?;
    let summary = worker.terminate().await?;
    ensure!(
        summary.dead_letters == bad.len() as u64 && summary.rows == case.spec.records,
        "{} bad and {} good records became: {summary:?}",
        bad.len(),
        case.spec.records
    );
    let letters = read_letters(&case, &letters_topic).await?;
    check_letters(&case, &bad, &letters)?;
    options.until_end = true;
    let again = case.start(&options)?.finish(Duration::from_mins(1)).await?;
    ensure!(again.records == 0 && again.dead_letters == 0, "a restart met them again: {again:?}");
    let audit = case.audit(site).await?;
    case.topics().delete(&letters_topic).await?;
    let detail = format!("{} letters, and their neighbours in one go", letters.len());
    Ok(Outcome::of("time field absent, null, text", letters.len() as u64, audit, detail))
}
