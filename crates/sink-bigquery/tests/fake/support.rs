//! A sink over the fake, and a lane's part around it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_converters::JsonValue;
use aqueduct_core::{
    Batch, BatchBuilder, Begun, Class, Envelope, ErrorChain, Fingerprint, Intent, LocalDisk, Offset,
    OffsetRange, OffsetsHash, Partitioner, Permit, Poison, Pool, Published, Record, RoutePath, RouteTable,
    SegmentStart, SegmentWriter, Sink, Spool, StageError, Timestamp, TopicPartition,
};
use aqueduct_sink_bigquery::testkit::{FakeBigQuery, FakeLimits};
use aqueduct_sink_bigquery::{
    BigQuerySink, BigQuerySinkBuilder, Credentials, Field, FieldType, TableName, TableSchema,
};
use serde_json::Value;

pub(crate) fn schema() -> TableSchema {
    TableSchema::new([Field::required("n", FieldType::Int64), Field::nullable("text", FieldType::String)])
}

pub(crate) async fn fake() -> FakeBigQuery {
    let fake = FakeBigQuery::start().await;
    fake.create_dataset("p", "d");
    fake.set_limits(FakeLimits::default().without_quotas());
    fake
}

pub(crate) fn builder(fake: &FakeBigQuery) -> BigQuerySinkBuilder {
    BigQuerySink::builder()
        .project("p")
        .dataset("d")
        .schema(schema())
        .credentials(Credentials::Anonymous)
        .rest_endpoint(fake.rest_endpoint())
        .grpc_endpoint(fake.grpc_endpoint())
        .allow_plaintext(true)
        .call_timeout(Duration::from_millis(300))
        .append_timeout(Duration::from_millis(300))
}

pub(crate) fn table(name: &str) -> TableName {
    TableName::new("p", "d", name).unwrap()
}

/// A process: a sink and scratch.
pub(crate) struct Process {
    pub(crate) sink: BigQuerySink,
    spool: Spool,
    pub(crate) memory: Pool,
    _directory: tempfile::TempDir,
}

impl Process {
    pub(crate) async fn start(builder: BigQuerySinkBuilder) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = PathBuf::from(directory.path());
        let spool = Spool::open(&path, "t", Arc::new(LocalDisk), Pool::new(1 << 30)).unwrap();
        let memory = Pool::new(64 << 20);
        Self { sink: builder.build().await.unwrap(), spool, memory, _directory: directory }
    }
}

/// A segment as a lane drives it: what passes is repeated, what does not ends the test or is given back.
pub(crate) struct Segment {
    pub(crate) writer: Box<dyn SegmentWriter<JsonValue>>,
    pub(crate) range: OffsetRange,
    routes: RouteTable,
    opens_routes: bool,
    rows: u64,
    hash: OffsetsHash,
    pub(crate) late: Vec<i64>,
    pub(crate) poisoned: Vec<i64>,
}

/// How often a call that may pass is repeated.
const ATTEMPTS_MAX: usize = 8;

pub(crate) async fn persist<T>(
    mut call: impl AsyncFnMut() -> Result<T, StageError>,
) -> Result<T, StageError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match call().await {
            Err(error)
                if attempts < ATTEMPTS_MAX
                    && matches!(error.class(), Class::Retry { .. } | Class::Unknown) =>
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            result => return result,
        }
    }
}

pub(crate) fn lane() -> TopicPartition {
    TopicPartition::new("orders", 3)
}

/// `{"n": offset, "text": ...}` at offsets of the range.
pub(crate) fn batch(offsets: impl Iterator<Item = i64>) -> Batch {
    let mut builder = BatchBuilder::new(lane(), 4096);
    for offset in offsets {
        let text = format!(r#"{{"n": {offset}, "text": "row {offset}"}}"#);
        builder.push(Offset::new(offset), Timestamp::None, None, Some(text.as_bytes()), []);
    }
    builder.build(Permit::unlimited())
}

impl Process {
    pub(crate) async fn begin(
        &self,
        start: i64,
        end: i64,
        pinned: Option<&Intent>,
    ) -> Result<Result<Segment, Published>, StageError> {
        let scratch = self.spool.scratch();
        let begun = persist(async || {
            let at = SegmentStart {
                lane: lane(),
                start: Offset::new(start),
                pinned: pinned.cloned(),
                opened_at_ms: 0,
                layout: 0,
                scratch: scratch.clone(),
                memory: self.memory.clone(),
            };
            Sink::<JsonValue>::begin(&self.sink, at).await
        })
        .await?;
        let range = OffsetRange::new(Offset::new(start), Offset::new(end)).unwrap();
        Ok(match begun {
            Begun::AlreadyPublished(published) => Err(published),
            Begun::Fill(writer) => Ok(Segment {
                writer,
                range,
                routes: RouteTable::new(),
                opens_routes: Sink::<JsonValue>::capabilities(&self.sink).opens_routes,
                rows: 0,
                hash: OffsetsHash::default(),
                late: Vec::new(),
                poisoned: Vec::new(),
            }),
        })
    }

    /// A segment that is filled with a row at every offset, `route` by offset.
    pub(crate) async fn fill(
        &self,
        start: i64,
        end: i64,
        pinned: Option<&Intent>,
        route: fn(i64) -> String,
    ) -> Segment {
        let mut segment = self.begin(start, end, pinned).await.unwrap().expect("not published yet");
        segment.fill(start..end, route).await;
        segment
    }

    /// Finishes what the intent says; the new intent if the segment was filled again.
    pub(crate) async fn recover(
        &self,
        intent: &Intent,
        route: fn(i64) -> String,
    ) -> Result<Option<Intent>, StageError> {
        let (start, end) = (intent.range.start().get(), intent.range.end().get());
        let Ok(mut segment) = self.begin(start, end, Some(intent)).await? else { return Ok(None) };
        segment.fill(start..end, route).await;
        let again = segment.stage().await?;
        assert_eq!((again.rows, again.offsets_hash), (intent.rows, intent.offsets_hash));
        segment.publish().await?;
        Ok(Some(again))
    }
}

pub(crate) fn one_table(_: i64) -> String {
    String::new()
}

impl Segment {
    pub(crate) async fn fill(&mut self, offsets: std::ops::Range<i64>, route: fn(i64) -> String) {
        let all: Vec<i64> = offsets.collect();
        for chunk in all.chunks(7) {
            self.append_all(chunk.iter().copied(), route).await;
            assert!(persist(async || self.writer.spill().await).await.unwrap().is_empty());
        }
    }

    /// One batch, not spilled.
    pub(crate) async fn append_all(&mut self, offsets: impl Iterator<Item = i64>, route: fn(i64) -> String) {
        let batch = batch(offsets);
        for record in batch.iter() {
            let mut path = RoutePath::new(0);
            let name = route(record.offset().get());
            if !name.is_empty() {
                path.push(&name).unwrap();
            }
            let known = self.routes.get(&path);
            if known.is_none() && self.opens_routes {
                persist(async || self.writer.open_route(&path).await).await.unwrap();
            }
            let route = known.unwrap_or_else(|| self.routes.next_id());
            let value = JsonValue::parse(record.value_bytes().unwrap()).unwrap();
            if self.writer.append(Envelope { record: &record, route, path: &path, value }).is_err() {
                self.poisoned.push(record.offset().get());
                continue;
            }
            if known.is_none() {
                self.routes.intern(&path);
            }
            self.rows += 1;
            self.hash.push(record.offset());
        }
    }

    pub(crate) async fn stage(&mut self) -> Result<Intent, StageError> {
        let range = self.range;
        let staged = persist(async || self.writer.stage(range).await).await?;
        self.late = staged.rejected.iter().map(|rejected| rejected.offset.get()).collect();
        Ok(Intent {
            range,
            fingerprint: Fingerprint::new(),
            rows: self.rows,
            offsets_hash: self.hash.finish(),
            opened_at_ms: 0,
            token: staged.token,
        })
    }

    pub(crate) async fn publish(&mut self) -> Result<Published, StageError> {
        persist(async || self.writer.publish().await).await
    }
}

/// The offsets a query would see, in order, with their duplicates.
pub(crate) fn visible(fake: &FakeBigQuery, name: &str) -> Vec<i64> {
    let rows = fake.rows(&table(name));
    let mut offsets: Vec<i64> = rows
        .iter()
        .filter(|row| row.visible)
        .map(|row| row.columns["_kafka_offset"].as_i64().unwrap())
        .collect();
    for row in rows.iter().filter(|row| row.visible) {
        let Value::Object(columns) = &row.columns else { panic!("{row:?}") };
        let offset = columns["_kafka_offset"].as_i64().unwrap();
        assert_eq!((&columns["_kafka_topic"], &columns["_kafka_partition"]), (&"orders".into(), &3.into()));
        assert_eq!(columns["n"], Value::from(offset));
        assert_eq!(columns["text"], Value::from(format!("row {offset}")));
    }
    offsets.sort_unstable();
    offsets
}

pub(crate) fn told(error: &StageError) -> String {
    ErrorChain(error).to_string()
}

/// One route for all records.
pub(crate) struct NoRoute;

impl<T> Partitioner<T> for NoRoute {
    fn route(&self, _: &Record<'_>, _: &T, _: &mut RoutePath) -> Result<(), Poison> {
        Ok(())
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "no-route/1");
    }
}
