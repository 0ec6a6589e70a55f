//! What is left of a conversion without a pipeline: decode and encode, in a loop, by the libraries' own fast ways.
//!
//! No Kafka, no scratch, no store, no routes: events are made in memory, a batch at a time, and only the time of the thread
//! that decodes and encodes them is counted. Files are made one after the other, as many and of as many rows each as the
//! pipeline makes objects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use apache_avro::reader::datum::GenericDatumReader;
use arrow_array::RecordBatch;
use arrow_array::builder::{
    ArrayBuilder as _, Float64Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMillisecondBuilder,
};
use arrow_array::{ArrayRef, StructArray};
use arrow_json::reader::Decoder;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use clap::{Args, ValueEnum};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use xtask::load::Spec;
use xtask::load::avro::{self, AvroEvents, LogEvent, PREFIX_BYTES};
use xtask::process::Process;

use super::Measured;

/// From what to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Conversion {
    /// Avro to Parquet with Snappy.
    AvroToParquet,
    /// JSON to Parquet with Snappy.
    JsonToParquet,
    /// Avro to JSON lines.
    AvroToJson,
}

#[derive(Debug, Args)]
pub(crate) struct BareArguments {
    #[arg(long, value_enum)]
    conversion: Conversion,
    /// Records in all
    #[arg(long)]
    records: u64,
    /// Files they go to, in equal parts
    #[arg(long)]
    files: u64,
}

/// Rows that are decoded and encoded at once, as the libraries' own readers and writers default to.
const BATCH_ROWS: usize = 1_024;

impl BareArguments {
    pub(super) fn run(self) -> Result<Measured> {
        let started = Instant::now();
        let mut loops: Box<dyn Bare> = match self.conversion {
            Conversion::AvroToParquet => Box::new(AvroToParquet::new()?),
            Conversion::JsonToParquet => Box::new(JsonToParquet::new()?),
            Conversion::AvroToJson => Box::new(AvroToJson::new()?),
        };
        let spec = Spec { records: self.records, ..Spec::default() };
        let mut batch = Batch::new(self.conversion)?;
        let mut cpu = Duration::ZERO;
        let files = self.files.max(1);
        for file in 0..files {
            let (mut next, end) = (self.records * file / files, self.records * (file + 1) / files);
            while next < end {
                next = batch.fill(&spec, next, end)?;
                cpu += timed(|| loops.batch(&batch))?;
            }
            cpu += timed(|| loops.finish())?;
        }
        let peak_rss_bytes = Process::current()?.usage()?.peak_rss_bytes;
        let (records, elapsed) = (self.records, started.elapsed());
        Ok(Measured { records, cpu, elapsed, peak_rss_bytes, objects: files, first_object: None })
    }
}

/// The time that this thread spends on `work`.
pub(super) fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        anyhow::Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
    };
    let before = now()?;
    work()?;
    Ok(now()?.saturating_sub(before))
}

/// Values as a consumer has them: one after the other in memory.
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    avro: Option<AvroEvents>,
    value: Vec<u8>,
}

impl Batch {
    fn new(conversion: Conversion) -> Result<Self> {
        let avro = match conversion {
            Conversion::AvroToParquet | Conversion::AvroToJson => Some(AvroEvents::new()?),
            Conversion::JsonToParquet => None,
        };
        Ok(Self { bytes: Vec::new(), ends: Vec::new(), avro, value: Vec::new() })
    }

    /// Replaces what is here by events from `next` on, up to `end`, and says which comes after.
    fn fill(&mut self, spec: &Spec, next: u64, end: u64) -> Result<u64> {
        self.bytes.clear();
        self.ends.clear();
        let end = end.min(next + BATCH_ROWS as u64);
        for seq in next..end {
            match &mut self.avro {
                Some(avro) => avro.write(spec, seq, &mut self.value)?,
                None => spec.write(seq, &mut self.value),
            }
            self.bytes.extend_from_slice(&self.value);
            self.ends.push(self.bytes.len());
        }
        Ok(end)
    }

    fn values(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, end)| self.bytes.get(start..*end))
    }
}

trait Bare {
    fn batch(&mut self, batch: &Batch) -> Result<()>;
    fn finish(&mut self) -> Result<()>;
}

fn avro_reader() -> Result<GenericDatumReader<'static>> {
    Ok(GenericDatumReader::builder(avro::schema()?).human_readable(false).build()?)
}

/// Straight into a struct: for a schema that is known when the program is built, apache-avro has nothing faster.
fn decode(reader: &GenericDatumReader<'_>, value: &[u8]) -> Result<LogEvent> {
    let mut datum = value.get(PREFIX_BYTES..).context("a value without a datum")?;
    Ok(reader.read_deser(&mut datum)?)
}

/// A file of Parquet in memory at a time.
struct Parquet {
    schema: SchemaRef,
    open: Option<ArrowWriter<Vec<u8>>>,
}

impl Parquet {
    fn new(fields: Fields) -> Self {
        Self { schema: Arc::new(Schema::new(fields)), open: None }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let writer = match &mut self.open {
            Some(writer) => writer,
            closed => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                closed.insert(ArrowWriter::try_new(Vec::new(), Arc::clone(&self.schema), Some(properties))?)
            }
        };
        Ok(writer.write(batch)?)
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(writer) = self.open.take() {
            std::hint::black_box(writer.into_inner()?);
        }
        Ok(())
    }
}

fn fields(time: DataType) -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    Fields::from(vec![
        Field::new("seq", DataType::Int64, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("timestamp", time, false),
        text("service"),
        text("level"),
        text("user_id"),
        text("path"),
        Field::new("status", DataType::Int32, false),
        Field::new("latency_ms", DataType::Float64, false),
        Field::new("request", DataType::Struct(request_fields()), false),
        text("message"),
        text("crc"),
    ])
}

fn request_fields() -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    Fields::from(vec![
        text("method"),
        text("host"),
        text("ip"),
        Field::new("bytes", DataType::Int32, false),
        text("trace_id"),
        text("user_agent"),
    ])
}

struct AvroToParquet {
    reader: GenericDatumReader<'static>,
    columns: Columns,
    parquet: Parquet,
}

/// A builder for each column.
#[derive(Default)]
struct Columns {
    seq: Int64Builder,
    partition: Int32Builder,
    timestamp: TimestampMillisecondBuilder,
    service: StringBuilder,
    level: StringBuilder,
    user_id: StringBuilder,
    path: StringBuilder,
    status: Int32Builder,
    latency_ms: Float64Builder,
    method: StringBuilder,
    host: StringBuilder,
    ip: StringBuilder,
    bytes: Int32Builder,
    trace_id: StringBuilder,
    user_agent: StringBuilder,
    message: StringBuilder,
    crc: StringBuilder,
}

impl Columns {
    fn push(&mut self, event: &LogEvent) {
        self.seq.append_value(event.seq);
        self.partition.append_value(event.partition);
        self.timestamp.append_value(event.timestamp);
        self.service.append_value(&event.service);
        self.level.append_value(&event.level);
        self.user_id.append_value(&event.user_id);
        self.path.append_value(&event.path);
        self.status.append_value(event.status);
        self.latency_ms.append_value(event.latency_ms);
        self.method.append_value(&event.request.method);
        self.host.append_value(&event.request.host);
        self.ip.append_value(&event.request.ip);
        self.bytes.append_value(event.request.bytes);
        self.trace_id.append_value(&event.request.trace_id);
        self.user_agent.append_value(&event.request.user_agent);
        self.message.append_value(&event.message);
        self.crc.append_value(&event.crc);
    }

    fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        let rows = self.seq.len();
        let request: Vec<ArrayRef> = vec![
            Arc::new(self.method.finish()),
            Arc::new(self.host.finish()),
            Arc::new(self.ip.finish()),
            Arc::new(self.bytes.finish()),
            Arc::new(self.trace_id.finish()),
            Arc::new(self.user_agent.finish()),
        ];
        let request = StructArray::try_new_with_length(request_fields(), request, None, rows)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.seq.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.timestamp.finish().with_timezone("UTC")),
            Arc::new(self.service.finish()),
            Arc::new(self.level.finish()),
            Arc::new(self.user_id.finish()),
            Arc::new(self.path.finish()),
            Arc::new(self.status.finish()),
            Arc::new(self.latency_ms.finish()),
            Arc::new(request),
            Arc::new(self.message.finish()),
            Arc::new(self.crc.finish()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

impl AvroToParquet {
    fn new() -> Result<Self> {
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        Ok(Self { reader: avro_reader()?, columns: Columns::default(), parquet: Parquet::new(fields(time)) })
    }
}

impl Bare for AvroToParquet {
    fn batch(&mut self, batch: &Batch) -> Result<()> {
        for value in batch.values() {
            self.columns.push(&decode(&self.reader, value)?);
        }
        let rows = self.columns.take(&self.parquet.schema)?;
        self.parquet.write(&rows)
    }

    fn finish(&mut self) -> Result<()> {
        self.parquet.finish()
    }
}

struct JsonToParquet {
    decoder: Decoder,
    parquet: Parquet,
}

impl JsonToParquet {
    fn new() -> Result<Self> {
        // JSON knows no times: the text stays text.
        let parquet = Parquet::new(fields(DataType::Utf8));
        let decoder = arrow_json::ReaderBuilder::new(Arc::clone(&parquet.schema))
            .with_batch_size(BATCH_ROWS)
            .build_decoder()?;
        Ok(Self { decoder, parquet })
    }
}

impl Bare for JsonToParquet {
    fn batch(&mut self, batch: &Batch) -> Result<()> {
        for value in batch.values() {
            let taken = self.decoder.decode(value)?;
            anyhow::ensure!(taken == value.len(), "the decoder left some of a value");
        }
        let rows = self.decoder.flush()?.context("a batch without rows")?;
        anyhow::ensure!(rows.num_rows() == batch.ends.len(), "rows are missing");
        self.parquet.write(&rows)
    }

    fn finish(&mut self) -> Result<()> {
        self.parquet.finish()
    }
}

struct AvroToJson {
    reader: GenericDatumReader<'static>,
    file: Vec<u8>,
}

impl AvroToJson {
    fn new() -> Result<Self> {
        Ok(Self { reader: avro_reader()?, file: Vec::new() })
    }
}

impl Bare for AvroToJson {
    fn batch(&mut self, batch: &Batch) -> Result<()> {
        for value in batch.values() {
            serde_json::to_writer(&mut self.file, &decode(&self.reader, value)?)?;
            self.file.push(b'\n');
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        std::hint::black_box(&self.file);
        self.file.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    /// Converts `rows` events to one file.
    fn file(conversion: Conversion, rows: u64) -> Vec<u8> {
        let spec = Spec { records: rows, ..Spec::default() };
        let mut batch = Batch::new(conversion).unwrap();
        let mut next = 0;
        let mut parquet: (Option<AvroToParquet>, Option<JsonToParquet>) = (None, None);
        let mut json = AvroToJson::new().unwrap();
        while next < rows {
            next = batch.fill(&spec, next, rows).unwrap();
            match conversion {
                Conversion::AvroToParquet => {
                    parquet.0.get_or_insert_with(|| AvroToParquet::new().unwrap()).batch(&batch).unwrap();
                }
                Conversion::JsonToParquet => {
                    parquet.1.get_or_insert_with(|| JsonToParquet::new().unwrap()).batch(&batch).unwrap();
                }
                Conversion::AvroToJson => json.batch(&batch).unwrap(),
            }
        }
        let open = parquet.0.map(|it| it.parquet).or(parquet.1.map(|it| it.parquet));
        open.and_then(|mut it| it.open.take()).map_or(json.file, |writer| writer.into_inner().unwrap())
    }

    #[test]
    fn every_loop_makes_what_it_is_said_to_make() {
        const ROWS: u64 = 2_500;
        for conversion in [Conversion::AvroToParquet, Conversion::JsonToParquet] {
            let bytes = bytes::Bytes::from(file(conversion, ROWS));
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
            let group = reader.metadata().row_group(0);
            assert_eq!(group.column(0).compression(), Compression::SNAPPY);
            assert_eq!(group.num_columns(), 17);
            let rows: usize = reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
            assert_eq!(rows as u64, ROWS, "{conversion:?}");
        }
        let lines = file(Conversion::AvroToJson, ROWS);
        let mut wanted = Vec::new();
        let mut events = lines.split(|byte| *byte == b'\n');
        for seq in 0..ROWS {
            Spec { records: ROWS, ..Spec::default() }.write(seq, &mut wanted);
            let wanted: serde_json::Value = serde_json::from_slice(&wanted).unwrap();
            let found: serde_json::Value = serde_json::from_slice(events.next().unwrap()).unwrap();
            assert_eq!(found["request"], wanted["request"]);
        }
    }

    #[test]
    fn files_share_the_records_and_time_is_counted() {
        let arguments = BareArguments { conversion: Conversion::AvroToParquet, records: 1_001, files: 7 };
        let measured = arguments.run().unwrap();
        assert_eq!((measured.records, measured.objects), (1_001, 7));
        assert!(measured.cpu > Duration::ZERO && measured.cpu <= measured.elapsed);
    }
}
