//! The sink passes core's conformance suite.

use aqueduct_core::Record;
use aqueduct_core::testkit::{SinkHarness, StoredRow, sink_suite};
use aqueduct_files::Delimited;
use aqueduct_sink_s3::S3Sink;
use bytes::Bytes;

use super::support::{ACCESS_KEY, BUCKET, SECRET, Server};

struct Harness(Server);

impl SinkHarness for Harness {
    type Value = Bytes;
    type Sink = S3Sink<Delimited>;

    async fn sink(&self) -> Self::Sink {
        let builder =
            S3Sink::builder().bucket(BUCKET).endpoint(self.0.endpoint()).credentials(ACCESS_KEY, SECRET);
        builder.format(Delimited::lines()).build().await.unwrap()
    }

    fn value(&self, record: &Record<'_>) -> Bytes {
        record.value_bytes().unwrap()
    }

    fn poison(&self, _record: &Record<'_>) -> Option<Bytes> {
        Some(Bytes::from("two\nrows"))
    }

    async fn stored(&self) -> Vec<StoredRow> {
        let objects = self.0.objects().into_iter();
        objects
            .flat_map(|(key, bytes)| {
                let rows = String::from_utf8(bytes).unwrap();
                rows.lines().map(|row| StoredRow::read(&key, row)).collect::<Vec<_>>()
            })
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sink_passes() {
    let report = sink_suite(Harness(Server::start().await)).await;
    assert!(report.ran.len() >= 20, "{report}");
}
