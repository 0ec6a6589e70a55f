//! Tickets: the stages of a pipeline that takes some of its records for bad, and the corrected ones that its letters go through.

use std::sync::Arc;

use anyhow::Result;
use aqueduct::convert::{ColumnsBuilder, JsonValue, WithColumns};
use aqueduct::kafka::KafkaLetters;
use aqueduct::partition::TimeFormat;
use aqueduct::{
    ByField, ByTime, Columns, DataType, Field, HeaderValues, Json, JsonLines, LetterSource, Parquet,
    ParquetCompression, Primitive, RawBytes, Redrive, Schema, TimeUnit, Tombstones, chain,
};

use super::compose::{Level, store};
use super::event::Redriven;
use super::options::{Letters, Options};

type Ticket = WithColumns<JsonValue>;

/// JSON beside partition, offset and time of its record, with a number for a key and headers of text.
pub(super) fn converter() -> Result<Columns<Json>> {
    let columns = columns(Json::new()).key(KEY, Primitive::long()).headers(HEADERS, HeaderValues::Text);
    Ok(columns.build()?)
}

/// By service, then by the hour of the time in the value.
pub(super) fn layout() -> Result<Vec<Level<Ticket>>> {
    let hour = ByTime::hourly("UTC")?.field("at", TimeFormat::Iso8601)?;
    Ok(vec![Arc::new(ByField::new("service")?), Arc::new(hour)])
}

/// Amounts of 32 bits.
pub(super) fn format() -> Parquet {
    let at = DataType::Timestamp { unit: TimeUnit::Millis, utc: true };
    let value = [
        Field::new("number", DataType::Int64),
        Field::new("service", DataType::String),
        Field::new("at", at),
        Field::new("total", DataType::Int32),
    ];
    parquet(value, DataType::Int64, DataType::String)
}

/// Drives letters again through stages that have a place for all of them but what is no JSON: deletions are rows, keys and headers
/// are bytes, times are text, amounts are of 64 bits; by service, if there is one, and by the hour of the record.
pub(super) async fn redrive(options: &Options, letters: &Letters) -> Result<Redriven> {
    let columns = columns(Json::new().tombstones(Tombstones::Null));
    let converter = columns.key(KEY, RawBytes::new()).headers(HEADERS, HeaderValues::Bytes).build()?;
    let layout: Vec<Level<Ticket>> =
        vec![Arc::new(ByField::new("service")?.missing_as("nobody")?), Arc::new(ByTime::hourly("UTC")?)];
    let value = [
        Field::new("number", DataType::Int64).nullable(),
        Field::new("service", DataType::String).nullable(),
        Field::new("at", DataType::String).nullable(),
        Field::new("total", DataType::Int64).nullable(),
    ];
    let format = parquet(value, DataType::Bytes, DataType::Bytes);
    let redrive = Redrive::new(converter, chain(layout), store(options, format).build_repairs().await?);
    let mut letters: Box<dyn LetterSource> = match letters {
        Letters::Topic(topic) => {
            Box::new(KafkaLetters::builder().brokers(&options.brokers).topic(topic).build()?)
        }
        Letters::Prefix(prefix) => {
            let stored = store(options, JsonLines::new()).prefix(prefix).build_dead_letters().await?;
            Box::new(stored.letters())
        }
    };
    Ok(Redriven::of(&redrive.run(&mut letters).await?))
}

fn columns(json: Json) -> ColumnsBuilder<Json> {
    Columns::around(json).partition(PARTITION).offset(OFFSET).timestamp(TIME)
}

fn parquet(value: [Field; 4], key: DataType, header: DataType) -> Parquet {
    let headers = DataType::Struct(vec![Field::new("key", DataType::String), Field::new("value", header)]);
    let columns = [
        Field::new(PARTITION, DataType::Int32),
        Field::new(OFFSET, DataType::Int64),
        Field::new(TIME, DataType::Timestamp { unit: TimeUnit::Millis, utc: true }),
        Field::new(KEY, key),
        Field::new(HEADERS, DataType::List(Box::new(Field::new("", headers)))),
    ];
    let schema = Schema::new(DataType::Struct(value.into_iter().chain(columns).collect()));
    Parquet::new().with_compression(ParquetCompression::Zstd { level: 1 }).with_schema(schema)
}

const PARTITION: &str = "_partition";
const OFFSET: &str = "_offset";
const TIME: &str = "_time";
const KEY: &str = "_key";
const HEADERS: &str = "_headers";
