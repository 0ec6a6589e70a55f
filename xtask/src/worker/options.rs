//! What a worker is told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xtask::services::Endpoint;

use super::access::Access;
use super::bigquery::Tables;
use super::host::Host;

/// What a worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Options {
    /// The pipeline's name.
    pub(crate) name: String,
    /// `bootstrap.servers`.
    pub(crate) brokers: String,
    /// What is read.
    pub(crate) topics: Vec<String>,
    /// The consumer group.
    pub(crate) group: String,
    /// librdkafka's `group.protocol`: `classic` or `consumer`.
    pub(crate) group_protocol: String,
    /// More of librdkafka's properties.
    #[serde(default)]
    pub(crate) properties: BTreeMap<String, String>,
    /// Whether offsets that others have committed are taken.
    #[serde(default)]
    pub(crate) adopt_foreign_marks: bool,
    /// Where objects go.
    pub(crate) endpoint: Endpoint,
    /// The bucket.
    pub(crate) bucket: String,
    /// What all keys begin with.
    pub(crate) prefix: String,
    /// The directory for scratch files.
    pub(crate) spool_dir: PathBuf,
    /// What values are taken for.
    pub(crate) format: Format,
    /// How objects are compressed.
    pub(crate) compression: Compression,
    /// The levels of the layout, outermost first.
    pub(crate) layout: Vec<Layout>,
    /// When segments end: whichever comes first.
    pub(crate) rotation: Vec<Rotation>,
    /// What becomes of bad records.
    pub(crate) on_poison: OnPoison,
    /// End where the topic ends now.
    pub(crate) until_end: bool,
    /// The memory budget in bytes; the library's default if none.
    pub(crate) memory: Option<u64>,
    /// The disk budget in bytes; the library's default if none.
    pub(crate) disk: Option<u64>,
    /// What is left out.
    #[serde(default)]
    pub(crate) skip: Skip,
    /// How it is known to the broker.
    #[serde(default)]
    pub(crate) access: Access,
    /// What the machine does to it.
    #[serde(default)]
    pub(crate) host: Host,
    /// Options of the sink.
    pub(crate) s3: SinkOptions,
    /// The address of the schema registry, where the format needs one.
    #[serde(default)]
    pub(crate) registry: Option<String>,
    /// Drive these letters again, through the corrected stages of the format, in place of running a pipeline.
    #[serde(default)]
    pub(crate) redrive: Option<Letters>,
    /// Rows go to these tables, in place of objects.
    #[serde(default)]
    pub(crate) tables: Option<Tables>,
}

/// Records that are left out by intention.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skip {
    /// Those without a value; else they are bad records.
    #[serde(default)]
    pub(crate) tombstones: bool,
    /// Those whose value holds this text.
    #[serde(default)]
    pub(crate) holding: Option<String>,
}

/// Options of the sink; the library's default where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SinkOptions {
    /// Bytes of a part.
    pub(crate) part_bytes: Option<usize>,
    /// Attempts of a request before the lane tries again.
    pub(crate) attempts: Option<u32>,
    /// Milliseconds an attempt may take.
    pub(crate) attempt_timeout_ms: Option<u64>,
    /// Whether uploads that others have left behind are aborted.
    pub(crate) abort_stale_uploads: bool,
}

/// What values are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// JSON, stored as JSON lines.
    Json,
    /// Bytes, stored with a newline after each value.
    Bytes,
    /// Avro whose schemas a registry has, stored as Parquet.
    Orders(Sharing),
    /// JSON with columns for what a record is besides its value, stored as Parquet of a declared schema.
    Tickets,
}

/// Which versions of a schema share files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sharing {
    /// None.
    None,
    /// Older ones are shown as the newest.
    Backward,
}

/// How objects are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// One level of the layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Layout {
    /// The Kafka partition.
    Partition,
    /// A field of the JSON value, by its path.
    Field(String),
    /// The hour of the record's timestamp, in a zone.
    Hourly(String),
    /// The hour of a time in a field of the JSON value, by its path; in UTC.
    HourlyBy(String),
    /// The minute in which the segment was opened, in UTC.
    MinuteOpened,
}

/// When a segment ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rotation {
    /// After so many records.
    Records(u64),
    /// After so many bytes.
    Bytes(u64),
    /// So many milliseconds after it was opened.
    AgeMs(u64),
    /// At every multiple of so many milliseconds since midnight in UTC.
    ScheduleMs(u64),
    /// When the records' own timestamps have advanced by so many milliseconds.
    RecordTimeMs(u64),
    /// So many milliseconds after the last record.
    IdleMs(u64),
}

/// What becomes of bad records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnPoison {
    Stop,
    Skip,
    /// They become letters.
    DeadLetter(Letters),
}

/// Where letters are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Letters {
    /// In a topic.
    Topic(String),
    /// Below a prefix of the bucket.
    Prefix(String),
}
