//! From options to a pipeline.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aqueduct::convert::{AvroValue, JsonValue};
use aqueduct::files::{Delimited, FileKind};
use aqueduct::partition::TimeFormat;
use aqueduct::s3::S3SinkBuilder;
use aqueduct::{
    Avro, ByField, ByKafkaPartition, ByTime, Compatibility, Converter, ConverterExt as _, DeadLetterSink,
    Guarantee, Idle, Json, JsonLines, KafkaDeadLetters, KafkaSource, Limits, MaxAge, MaxBytes, MaxRecords,
    Parquet, ParquetCompression, Partitioner, Pipeline, RawBytes, RecordTime, RegistryClient, RotationPolicy,
    S3Sink, Schedule, Sink, StartAt, Tombstones, any, chain,
};
use memchr::memmem;
use xtask::services::Endpoint;

use super::bigquery;
use super::event::Event;
use super::options::{
    Compression, Format, Layout, Letters, OnPoison, Options, Rotation, Sharing, SinkOptions,
};
use super::tickets;

/// Checks everything and connects to nothing.
pub(super) async fn pipeline(options: &Options) -> Result<Pipeline> {
    if let Some(tables) = &options.tables {
        let by_service = Arc::new(bigquery::by_service()?);
        return assemble(options, Json::new(), vec![by_service], tables.sink().await?).await;
    }
    match options.format {
        Format::Json => {
            let layout = levels(options, |layout| match layout {
                Layout::HourlyBy(path) => Ok(Arc::new(hourly_by(path)?) as Level<JsonValue>),
                Layout::Field(path) => Ok(Arc::new(ByField::new(path)?) as Level<JsonValue>),
                other => anyhow::bail!("{other:?} is no field"),
            })?;
            let tombstones = if options.skip.tombstones { Tombstones::Skip } else { Tombstones::Poison };
            let (json, sink) = (Json::new().tombstones(tombstones), sink(options, JsonLines::new()).await?);
            let Some(text) = options.skip.holding.clone() else {
                return assemble(options, json, layout, sink).await;
            };
            let keeps = move |value: &JsonValue| memmem::find(value.as_bytes(), text.as_bytes()).is_none();
            assemble(options, json.filter("holding", keeps), layout, sink).await
        }
        Format::Bytes => {
            let no_field =
                |layout: &Layout| anyhow::bail!("{layout:?}: bytes have no fields, choose format json");
            let layout = levels(options, no_field)?;
            assemble(options, RawBytes::new(), layout, sink(options, Delimited::lines()).await?).await
        }
        Format::Orders(sharing) => orders(options, sharing).await,
        Format::Tickets => {
            let (converter, layout) = (tickets::converter()?, tickets::layout()?);
            assemble(options, converter, layout, sink(options, tickets::format()).await?).await
        }
    }
}

async fn orders(options: &Options, sharing: Sharing) -> Result<Pipeline> {
    let registry = options.registry.as_deref().context("orders need a registry")?;
    // Soon told when the registry is in trouble, so that a lane says what it waits for while a scenario looks.
    let registry = RegistryClient::builder(registry)
        .attempts(1)
        .request_timeout(Duration::from_secs(2))
        .total_timeout(Duration::from_secs(5));
    let layout = levels(options, |layout| match layout {
        Layout::Field(path) => Ok(Arc::new(ByField::new(path)?) as Level<AvroValue>),
        other => anyhow::bail!("{other:?} is no field of an order"),
    })?;
    let compatibility = match sharing {
        Sharing::None => Compatibility::None,
        Sharing::Backward => Compatibility::Backward,
    };
    let format = Parquet::new()
        .with_compression(ParquetCompression::Zstd { level: 1 })
        .with_compatibility(compatibility);
    let converter = Avro::with_registry(registry.build()?).build()?;
    assemble(options, converter, layout, sink(options, format).await?).await
}

pub(super) type Level<T> = Arc<dyn Partitioner<T>>;

fn hourly_by(path: &str) -> Result<impl Partitioner<JsonValue>> {
    Ok(ByTime::hourly("UTC")?.field(path, TimeFormat::Iso8601)?)
}

fn levels<T: 'static>(
    options: &Options,
    field: impl Fn(&Layout) -> Result<Level<T>>,
) -> Result<Vec<Level<T>>> {
    let level = |layout: &Layout| -> Result<Level<T>> {
        Ok(match layout {
            Layout::Partition => Arc::new(ByKafkaPartition),
            Layout::Hourly(zone) => Arc::new(ByTime::hourly(zone)?),
            Layout::MinuteOpened => Arc::new(ByTime::joda("'minute'=YYYYMMddHHmm", "UTC")?.segment_opened()),
            Layout::Field(_) | Layout::HourlyBy(_) => field(layout)?,
        })
    };
    options.layout.iter().map(level).collect()
}

async fn sink<F: FileKind + Clone>(options: &Options, format: F) -> Result<S3Sink<F>> {
    Ok(store(options, format).build().await?)
}

/// What everything in the bucket is made with.
pub(super) fn store<F: FileKind>(options: &Options, format: F) -> S3SinkBuilder<F> {
    let Endpoint { url, region, access_key, secret_key } = &options.endpoint;
    let SinkOptions { part_bytes, attempts, attempt_timeout_ms, abort_stale_uploads } = options.s3;
    let mut sink = S3Sink::builder()
        .bucket(&options.bucket)
        .prefix(&options.prefix)
        .endpoint(url)
        .region(region)
        .path_style(true)
        .credentials(access_key, secret_key.clone())
        .format(format)
        .compression(options.compression.into())
        .abort_stale_uploads(abort_stale_uploads);
    if let Some(bytes) = part_bytes {
        sink = sink.part_bytes(bytes);
    }
    if let Some(attempts) = attempts {
        sink = sink.attempts(attempts);
    }
    if let Some(ms) = attempt_timeout_ms {
        sink = sink.attempt_timeout(Duration::from_millis(ms));
    }
    sink
}

fn source(options: &Options) -> Result<KafkaSource> {
    let mut source = KafkaSource::builder()
        .brokers(&options.brokers)
        .group(&options.group)
        .topics(&options.topics)
        .start(StartAt::Earliest)
        .property("group.protocol", &options.group_protocol)
        .properties(&options.properties);
    if let Some(security) = options.access.security() {
        source = source.security(security);
    }
    if options.group_protocol == "classic" && !options.properties.contains_key(SESSION_TIMEOUT) {
        // Under the newer protocol the broker decides; ours is configured alike.
        source = source.property(SESSION_TIMEOUT, "6000").property("heartbeat.interval.ms", "1500");
    }
    if options.until_end {
        source = source.until_end();
    }
    Ok(source.build()?)
}

async fn letters(options: &Options, letters: &Letters) -> Result<Arc<dyn DeadLetterSink>> {
    Ok(match letters {
        Letters::Topic(topic) => {
            let mut letters =
                KafkaDeadLetters::builder().brokers(&options.brokers).topic(topic).pipeline(&options.name);
            if let Some(security) = options.access.security() {
                letters = letters.security(security);
            }
            Arc::new(letters.build()?)
        }
        Letters::Prefix(prefix) => {
            let letters = store(options, JsonLines::new()).prefix(prefix).build_dead_letters().await?;
            Arc::new(letters.with_pipeline(&options.name))
        }
    })
}

async fn assemble<C, K>(
    options: &Options,
    converter: C,
    layout: Vec<Level<C::Output>>,
    sink: K,
) -> Result<Pipeline>
where
    C: Converter,
    K: Sink<C::Output>,
{
    let mut limits = Limits::default();
    if let Some(bytes) = options.memory {
        limits = limits.with_memory(bytes);
    }
    if let Some(bytes) = options.disk {
        limits = limits.with_disk(bytes);
    }
    let rotation: Vec<Box<dyn RotationPolicy>> = options.rotation.iter().map(Rotation::policy).collect();
    let on_poison = match &options.on_poison {
        OnPoison::Stop => aqueduct::OnPoison::Stop,
        OnPoison::Skip => aqueduct::OnPoison::Skip,
        OnPoison::DeadLetter(at) => aqueduct::OnPoison::DeadLetter(letters(options, at).await?),
    };
    let pipeline = Pipeline::from(source(options)?)
        .convert(converter)
        .partition(chain(layout))
        .sink(sink)
        .rotate(any(rotation))
        .on_poison(on_poison)
        .limits(limits)
        .name(&options.name)
        .spool_dir(&options.spool_dir)
        .clock(options.host.clock())
        .require(Guarantee::ExactlyOnce)
        .adopt_foreign_marks(options.adopt_foreign_marks)
        .on_published(|segment| {
            if let Err(error) = Event::published(segment).say() {
                tracing::warn!(%error, "nobody listens");
            }
        })
        .build()?;
    Ok(pipeline)
}

const SESSION_TIMEOUT: &str = "session.timeout.ms";

impl Rotation {
    fn policy(&self) -> Box<dyn RotationPolicy> {
        match *self {
            Self::Records(records) => Box::new(MaxRecords(records)),
            Self::Bytes(bytes) => Box::new(MaxBytes::bytes(bytes)),
            Self::AgeMs(ms) => Box::new(MaxAge::of(Duration::from_millis(ms))),
            Self::ScheduleMs(ms) => Box::new(Schedule::every(Duration::from_millis(ms), "UTC")),
            Self::RecordTimeMs(ms) => Box::new(RecordTime::of(Duration::from_millis(ms))),
            Self::IdleMs(ms) => Box::new(Idle::of(Duration::from_millis(ms))),
        }
    }
}

impl From<Compression> for aqueduct::Compression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::super::access::Access;
    use super::super::host::{Host, Shift};
    use super::super::options::Skip;
    use super::*;

    fn options() -> Options {
        Options {
            name: "worker".to_owned(),
            brokers: "127.0.0.1:1".to_owned(),
            topics: vec!["t".to_owned()],
            group: "g".to_owned(),
            group_protocol: "classic".to_owned(),
            properties: BTreeMap::from([("fetch.wait.max.ms".to_owned(), "50".to_owned())]),
            adopt_foreign_marks: true,
            endpoint: Endpoint {
                url: "http://127.0.0.1:1".to_owned(),
                region: "us-east-1".to_owned(),
                access_key: "a".to_owned(),
                secret_key: "b".to_owned(),
            },
            bucket: "b".to_owned(),
            prefix: "topics".to_owned(),
            spool_dir: PathBuf::from("/nowhere"),
            format: Format::Json,
            compression: Compression::Zstd,
            layout: vec![Layout::Field("a.b".to_owned()), Layout::Hourly("Asia/Seoul".to_owned())],
            rotation: vec![Rotation::AgeMs(700), Rotation::ScheduleMs(1_000)],
            on_poison: OnPoison::DeadLetter(Letters::Topic("letters".to_owned())),
            until_end: true,
            memory: Some(24 << 20),
            disk: Some(32 << 20),
            access: Access::default(),
            skip: Skip { tombstones: true, holding: Some("x".to_owned()) },
            host: Host {
                clock: vec![Shift { after_ms: 5, by_s: -3_600 }],
                open_files: Some(256),
                failpoints: Some("part.sent=off".to_owned()),
            },
            s3: SinkOptions { part_bytes: Some(5 << 20), attempts: Some(2), ..SinkOptions::default() },
            tables: None,
            registry: Some("http://127.0.0.1:1".to_owned()),
            redrive: Some(Letters::Prefix("letters".to_owned())),
        }
    }

    #[test]
    fn options_survive_the_command_line() {
        let text = serde_json::to_string(&options()).unwrap();
        assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), options());
    }

    #[tokio::test]
    async fn both_protocols_and_formats_build_and_are_exactly_once() {
        for protocol in ["classic", "consumer"] {
            let json = Options { group_protocol: protocol.to_owned(), ..options() };
            assert_eq!(pipeline(&json).await.unwrap().guarantee(), Guarantee::ExactlyOnce);
            let bytes = Options { format: Format::Bytes, layout: vec![Layout::Partition], ..json };
            assert_eq!(pipeline(&bytes).await.unwrap().guarantee(), Guarantee::ExactlyOnce);
        }
    }

    #[tokio::test]
    async fn tables_take_the_place_of_objects() {
        let tables = bigquery::Tables {
            rest: "http://127.0.0.1:1".to_owned(),
            grpc: "http://127.0.0.1:2".to_owned(),
            project: "p".to_owned(),
            dataset: "d".to_owned(),
        };
        let options = Options { tables: Some(tables), ..options() };
        assert_eq!(pipeline(&options).await.unwrap().guarantee(), Guarantee::ExactlyOnce);
    }

    #[tokio::test]
    async fn avro_and_tickets_build_and_are_exactly_once() {
        let layout = vec![Layout::Field("city".to_owned())];
        for format in [Format::Orders(Sharing::Backward), Format::Tickets] {
            let options =
                Options { format, layout: layout.clone(), compression: Compression::None, ..options() };
            assert_eq!(pipeline(&options).await.unwrap().guarantee(), Guarantee::ExactlyOnce);
        }
    }

    #[tokio::test]
    async fn bytes_have_no_fields() {
        let error = pipeline(&Options { format: Format::Bytes, ..options() }).await.unwrap_err();
        assert!(error.to_string().contains("a.b"), "{error}");
    }
}
