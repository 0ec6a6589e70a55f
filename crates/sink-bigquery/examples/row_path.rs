//! What a row costs on its way into the spool: `cargo run --release --example row_path -p aqueduct-sink-bigquery -- [records]`.
//!
//! JSON events of about 500 bytes with eleven fields, nested, repeated, a decimal, a timestamp and one that no column is declared
//! for, on one thread. `convert` is the converter's part, `append` the row's encoding, `spill` the block and its file.

#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct_converters::{Json, JsonValue};
use aqueduct_core::{
    Batch, BatchBuilder, Begun, Converted, Converter as _, Envelope, LocalDisk, Offset, Permit, Pool,
    RoutePath, RouteTable, SegmentStart, Sink, Spool, Timestamp, TopicPartition,
};
use aqueduct_sink_bigquery::{BigQuerySink, Credentials, Field, FieldType, TableSchema};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const BATCH: i64 = 2000;

fn schema() -> TableSchema {
    let user = vec![
        Field::required("id", FieldType::String),
        Field::nullable("country", FieldType::String),
        Field::nullable("age", FieldType::Int64),
    ];
    let items = vec![
        Field::required("sku", FieldType::String),
        Field::nullable("quantity", FieldType::Int64),
        Field::nullable("price", FieldType::Numeric),
    ];
    TableSchema::new([
        Field::required("event_id", FieldType::String),
        Field::required("event_time", FieldType::Timestamp),
        Field::nullable("service", FieldType::String),
        Field::nullable("status", FieldType::Int64),
        Field::nullable("latency", FieldType::Float64),
        Field::nullable("ok", FieldType::Bool),
        Field::nullable("user", FieldType::Record(user)),
        Field::repeated("items", FieldType::Record(items)),
        Field::repeated("tags", FieldType::String),
        Field::nullable("note", FieldType::String),
    ])
}

fn event(offset: i64) -> String {
    let pad = "lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore magna aliqua";
    let head = format!(
        r#"{{"event_id":"e-{offset:016}","event_time":"2026-11-25T20:00:00.123Z","service":"checkout","status":200"#
    );
    let middle = r#","latency":12.75,"ok":true,"user":{"id":"u-81723","country":"DE","age":34}"#;
    let items =
        r#","items":[{"sku":"a-1","quantity":2,"price":19.99},{"sku":"b-2","quantity":1,"price":5.49}]"#;
    format!(
        r#"{head}{middle}{items},"tags":["eu","web","beta"],"note":"{pad}","extra":{{"trace":"{offset:032x}"}}}}"#
    )
}

fn batch(lane: &TopicPartition, first: i64) -> Batch {
    let mut builder = BatchBuilder::new(lane.clone(), 1 << 20);
    for offset in first..first + BATCH {
        builder.push(Offset::new(offset), Timestamp::None, None, Some(event(offset).as_bytes()), []);
    }
    builder.build(Permit::unlimited())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let records: i64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let sink = BigQuerySink::builder()
        .project("p")
        .dataset("d")
        .schema(schema())
        .credentials(Credentials::Anonymous)
        .build()
        .await?;
    let directory = tempfile::tempdir()?;
    let spool = Spool::open(directory.path(), "row-path", Arc::new(LocalDisk), Pool::new(1 << 40))?;
    let lane = TopicPartition::new("events", 0);
    let at = SegmentStart {
        lane: lane.clone(),
        start: Offset::ZERO,
        pinned: None,
        opened_at_ms: 0,
        layout: 0,
        scratch: spool.scratch(),
        memory: Pool::new(1 << 30),
    };
    let Begun::<JsonValue>::Fill(mut writer) = sink.begin(at).await? else { return Ok(()) };
    let (path, mut routes, converter) = (RoutePath::new(0), RouteTable::new(), Json::new());
    let route = routes.intern(&path);
    let [mut convert, mut append, mut spill] = [Duration::ZERO; 3];
    let mut bytes = 0;
    for first in (0..records).step_by(usize::try_from(BATCH)?) {
        let batch = batch(&lane, first);
        let begun = Instant::now();
        let mut values = Vec::with_capacity(batch.len());
        for record in batch.iter() {
            bytes += record.size();
            if let Converted::Emit(value) = converter.convert(&record)? {
                values.push(value);
            }
        }
        convert += begun.elapsed();
        let begun = Instant::now();
        for (record, value) in batch.iter().zip(values) {
            writer.append(Envelope { record: &record, route, path: &path, value })?;
        }
        append += begun.elapsed();
        let begun = Instant::now();
        writer.spill().await?;
        spill += begun.elapsed();
    }
    let rows = u128::from(records.unsigned_abs());
    println!(
        "{records} rows of {} bytes JSON, {} bytes spooled",
        bytes as u128 / rows,
        u128::from(writer.encoded_bytes()) / rows
    );
    for (name, time) in
        [("convert", convert), ("append", append), ("spill", spill), ("all", convert + append + spill)]
    {
        let each = time.as_nanos() / rows;
        println!("{name:<8} {each:>6} ns a row, {:>8} rows/s", 1_000_000_000 / each.max(1));
    }
    writer.abandon().await;
    Ok(())
}
