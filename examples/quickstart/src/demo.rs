//! The demo: two servers and a pipeline, each in a process of its own, and the audit.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::{BinaryBytes, HumanCount};
use jiff::tz::TimeZone;

use crate::args::{ACCESS_KEY_VAR, Demo, SECRET_KEY_VAR};
use crate::child::{Child, signalled};
use crate::events::Events;
use crate::pipeline::Summary;
use crate::storage::{ACCESS_KEY, REGION, SECRET_KEY};
use crate::verify::{Audit, Expected, audit};
use crate::{broker, storage};

/// Runs the demo; false if the audit found something wrong. Every child is stopped, whatever happens.
pub async fn run(demo: &Demo) -> Result<bool> {
    let mut children = Vec::new();
    let outcome = tokio::select! {
        outcome = tour(demo, &mut children) => outcome,
        signal = signalled() => signal.and_then(|()| bail!("interrupted")),
    };
    // The pipeline first: it drains while its servers are still there.
    for child in children.iter_mut().rev() {
        child.stop(STOP_TIMEOUT).await;
    }
    outcome
}

async fn tour(demo: &Demo, children: &mut Vec<Child>) -> Result<bool> {
    let started = Instant::now();
    let events = Events::at_least(demo.events, PARTITIONS);

    let args = format!("--topic {TOPIC} --partitions {PARTITIONS}");
    let brokers = started_child(children, "broker", args.split_whitespace()).await?;
    println!("broker     {brokers}, embedded, {PARTITIONS} partitions");
    let mut args = vec![OsStr::new("--bucket"), OsStr::new(BUCKET)];
    if let Some(keep) = &demo.keep {
        args.extend([OsStr::new("--keep"), keep.as_os_str()]);
    }
    let endpoint = started_child(children, "storage", args).await?;
    println!("storage    {endpoint}, embedded");

    broker::produce(&brokers, TOPIC, &events).await?;
    let summary = archive(&brokers, &endpoint, &events, children).await?;
    let zone = TimeZone::get(ZONE).context("the time zone data is incomplete")?;
    let expected = Expected { events, topic: TOPIC.to_owned(), prefix: PREFIX.to_owned(), zone };
    let audit = audit(&storage::client(&endpoint), BUCKET, &expected).await?;

    print(&audit, &summary, demo, started.elapsed());
    Ok(audit.is_clean())
}

async fn started_child(
    children: &mut Vec<Child>,
    role: &'static str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<String> {
    let mut child = Child::start(role, args, &[])?;
    let address = child.address().await;
    children.push(child);
    address
}

/// Runs the pipeline in a process of its own, so that its peak memory is its own.
async fn archive(
    brokers: &str,
    endpoint: &str,
    events: &Events,
    children: &mut Vec<Child>,
) -> Result<Summary> {
    let args = format!(
        "--brokers {brokers} --topic {TOPIC} --group quickstart --until-end --endpoint {endpoint} --region {REGION} \
         --bucket {BUCKET} --prefix {PREFIX} --zone {ZONE} --cut-records {CUT_RECORDS} --expect {}",
        events.total()
    );
    let secrets = [(ACCESS_KEY_VAR, ACCESS_KEY), (SECRET_KEY_VAR, SECRET_KEY)];
    children.push(Child::start("pipeline", args.split_whitespace(), &secrets)?);
    let child = children.last_mut().context("just pushed")?;
    let report = tokio::time::timeout(PIPELINE_TIMEOUT, child.line()).await;
    let report =
        report.with_context(|| format!("the pipeline did not end within {PIPELINE_TIMEOUT:?}"))??;
    let summary: Summary = serde_json::from_str(&report).context("the pipeline's report")?;
    ensure!(
        summary.durable == events.total(),
        "the pipeline ended with {} of {} records durable",
        summary.durable,
        events.total()
    );
    Ok(summary)
}

fn print(audit: &Audit, summary: &Summary, demo: &Demo, elapsed: Duration) {
    let count = |count: u64| HumanCount(count).to_string();
    let size = |bytes: u64| BinaryBytes(bytes).to_string();
    let (busy, waited) = (summary.busy_s, summary.waited_s);
    let rate = count(summary.records_per_s());
    let took = format!("{:.1} s", elapsed.as_secs_f64());
    let rows = [
        ("objects", count(audit.objects), String::new()),
        ("records", count(audit.records), String::new()),
        ("row bytes", size(audit.row_bytes), "JSON lines".to_owned()),
        ("stored bytes", size(audit.stored_bytes), "gzip".to_owned()),
        ("lost", count(audit.lost), String::new()),
        ("duplicated", count(audit.duplicated), String::new()),
        ("misrouted", count(audit.misrouted), "under another service or hour than theirs".to_owned()),
        ("altered", count(audit.altered), "not byte for byte as produced".to_owned()),
        ("records/s", rate, format!("{busy:.1} s of work, after {waited:.1} s of joining the group")),
        (
            "peak memory",
            summary.peak_memory.map_or("unknown".to_owned(), size),
            "of the pipeline's process".to_owned(),
        ),
        ("took", took, "in all".to_owned()),
    ];
    println!();
    for (name, value, note) in rows {
        println!("{}", format!("{name:<12} {value:>12}  {note}").trim_end());
    }
    println!();
    if let Some(key) = &audit.first_key {
        println!("first object s3://{BUCKET}/{key}");
    }
    match &demo.keep {
        Some(keep) => println!("all objects  {}", keep.join(BUCKET).join(PREFIX).join(TOPIC).display()),
        None => println!("all objects  gone with the embedded server; --keep DIR keeps them"),
    }
    if audit.is_clean() {
        println!("every event is there exactly once, unchanged, in its directory");
    } else {
        println!("THE AUDIT FAILED");
    }
}

const TOPIC: &str = "server-logs";
const BUCKET: &str = "quickstart";
const PREFIX: &str = "topics";
const ZONE: &str = "Asia/Seoul";
/// Enough to stay far below the 5 MiB that the embedded broker keeps of each.
const PARTITIONS: u32 = 24;
/// Several cuts a partition, so that the demo shows more than the one at the end.
const CUT_RECORDS: u64 = 4_000;
/// A run takes seconds; this is for a server that has gone away.
const PIPELINE_TIMEOUT: Duration = Duration::from_secs(300);
/// The pipeline's own time to drain is 25 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
