//! Both sinks keep the contract of sinks: the suite lets them die at every await, take over from each other, and do
//! everything twice.

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aqueduct::testkit::{SinkHarness, StoredRow, sink_suite};
use aqueduct::{Batched, JsonRow, Poison, PoisonReason, Record};
use bytes::Bytes;
use custom_sink::directory::DirectorySink;
use custom_sink::endpoint::Endpoint;
use custom_sink::http::HttpSink;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// A record's value, as it is. The text `poison` fails half-way, as an encoder may.
struct Line(Bytes);

impl JsonRow for Line {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        if self.0 == "poison" {
            out.extend_from_slice(b"{\"half\":");
            return Err(Poison::new(PoisonReason::Malformed, "poison"));
        }
        out.extend_from_slice(&self.0);
        Ok(())
    }
}

struct Files(PathBuf);

impl SinkHarness for Files {
    type Value = Line;
    type Sink = DirectorySink;

    async fn sink(&self) -> DirectorySink {
        DirectorySink::new(&self.0)
    }

    fn value(&self, record: &Record<'_>) -> Line {
        Line(record.value_bytes().unwrap())
    }

    fn poison(&self, _record: &Record<'_>) -> Option<Line> {
        Some(Line(Bytes::from_static(b"poison")))
    }

    async fn stored(&self) -> Vec<StoredRow> {
        let mut rows = Vec::new();
        read(&self.0.join("topics"), &mut rows);
        rows
    }
}

/// Everything below `directory`, whoever put it there.
fn read(directory: &Path, rows: &mut Vec<StoredRow>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, rows);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            rows.extend(text.lines().map(|line| StoredRow::read(path.display().to_string(), line)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_sink_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let report = sink_suite(Files(root.path().to_owned())).await;
    assert_eq!(report.left_out, [("redo_loses_nothing", "the sink works under intents")], "{report}");
    // A call that was given up may still be at its end.
    let parts = root.path().join("parts");
    let left = async || {
        while fs::read_dir(&parts).unwrap().next().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), left()).await.expect("parts are left behind");
}

/// The value is refused by the endpoint, or with `refused_early` already by the encoder.
struct Http {
    endpoint: Endpoint,
    refused_early: bool,
}

impl SinkHarness for Http {
    type Value = Line;
    type Sink = Batched<HttpSink>;

    async fn sink(&self) -> Batched<HttpSink> {
        Batched::new(HttpSink {
            client: Client::builder(TokioExecutor::new()).build_http(),
            url: self.endpoint.url(),
        })
    }

    fn value(&self, record: &Record<'_>) -> Line {
        Line(record.value_bytes().unwrap())
    }

    fn poison(&self, _record: &Record<'_>) -> Option<Line> {
        Some(Line(Bytes::from_static(if self.refused_early { b"poison" } else { b"17" })))
    }

    async fn stored(&self) -> Vec<StoredRow> {
        let rows = self.endpoint.rows();
        rows.iter().map(|row| StoredRow::read(format!("table of {}", row.topic), &row.value)).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_http_sink_keeps_the_contract() {
    for refused_early in [false, true] {
        let endpoint = Endpoint::start(None).await.unwrap();
        let report = sink_suite(Http { endpoint, refused_early }).await;
        for case in ["append_poison_keeps_neighbours", "redo_loses_nothing", "cancel_at_every_await_of_spill"]
        {
            assert!(report.ran.contains(&case), "{case}: {report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_http_sink_keeps_the_contract_when_answers_are_lost() {
    let endpoint = Endpoint::start(NonZeroU64::new(3)).await.unwrap();
    let refused_early = false;
    sink_suite(Http { endpoint, refused_early }).await;
}
