//! A letter as a line of JSON.

use std::borrow::Cow;

use aqueduct_core::{DeadLetter, Offset, OwnedRecord, StoredLetter, Timestamp, TopicPartition};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    version: u32,
    pipeline: Cow<'a, str>,
    #[serde(default)]
    pipeline_version: Cow<'a, str>,
    topic: Cow<'a, str>,
    partition: i32,
    offset: i64,
    timestamp: Option<Time>,
    stage: Cow<'a, str>,
    reason: Cow<'a, str>,
    detail: Cow<'a, str>,
    /// For whoever looks through lines; nobody reads it back.
    #[serde(default, skip_deserializing)]
    preview: Option<String>,
    key: Option<Payload<'a>>,
    value: Option<Payload<'a>>,
    headers: Vec<(Cow<'a, str>, Option<Payload<'a>>)>,
}

/// Milliseconds since 1970, and whose clock it was.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Time {
    Create(i64),
    LogAppend(i64),
}

/// Bytes, readable where that loses nothing.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Payload<'a> {
    Text(Cow<'a, str>),
    Base64(String),
}

impl<'a> Payload<'a> {
    fn of(bytes: &'a Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.into()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }

    fn bytes(self) -> Result<Bytes, base64::DecodeError> {
        Ok(match self {
            Self::Text(text) => Bytes::from(text.into_owned()),
            Self::Base64(text) => Bytes::from(STANDARD.decode(text)?),
        })
    }
}

/// Who writes letters: what each of them says of the pipeline.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) pipeline: String,
    pub(super) version: String,
}

impl Default for Writer {
    fn default() -> Self {
        Self { pipeline: "aqueduct".to_owned(), version: String::new() }
    }
}

/// Appends the letter and a line feed.
pub(super) fn write(letter: &DeadLetter, by: &Writer, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let DeadLetter { record, stage, poison } = letter;
    let line = Line {
        version: VERSION,
        pipeline: by.pipeline.as_str().into(),
        pipeline_version: by.version.as_str().into(),
        topic: record.lane.topic().into(),
        partition: record.lane.partition(),
        offset: record.offset.get(),
        timestamp: match record.timestamp {
            Timestamp::None => None,
            Timestamp::Create(ms) => Some(Time::Create(ms)),
            Timestamp::LogAppend(ms) => Some(Time::LogAppend(ms)),
        },
        stage: stage.as_str().into(),
        reason: poison.reason().as_str().into(),
        detail: poison.detail().into(),
        preview: letter.preview(),
        key: record.key.as_ref().map(Payload::of),
        value: record.value.as_ref().map(Payload::of),
        headers: (record.headers.iter())
            .map(|(name, value)| (name.as_str().into(), value.as_ref().map(Payload::of)))
            .collect(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.push(b'\n');
    Ok(())
}

/// Reads a line; the error says what is wrong with it.
pub(super) fn read(line: &[u8]) -> Result<StoredLetter, String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| unread(&error))?;
    if line.version != VERSION {
        return Err(format!("it has version {}, this reads version {VERSION}", line.version));
    }
    let bytes = |payload: Option<Payload<'_>>| {
        let bytes = payload.map(Payload::bytes).transpose();
        bytes.map_err(|_| "what should be base64 in it is none".to_owned())
    };
    let mut headers = Vec::with_capacity(line.headers.len());
    for (name, value) in line.headers {
        headers.push((name.into_owned(), bytes(value)?));
    }
    let record = OwnedRecord {
        lane: TopicPartition::new(line.topic, line.partition),
        offset: Offset::new(line.offset),
        timestamp: match line.timestamp {
            None => Timestamp::None,
            Some(Time::Create(ms)) => Timestamp::Create(ms),
            Some(Time::LogAppend(ms)) => Timestamp::LogAppend(ms),
        },
        key: bytes(line.key)?,
        value: bytes(line.value)?,
        headers,
    };
    Ok(StoredLetter {
        record,
        pipeline: line.pipeline.into_owned(),
        pipeline_version: line.pipeline_version.into_owned(),
        stage: line.stage.into_owned(),
        reason: line.reason.into_owned(),
        detail: line.detail.into_owned(),
    })
}

/// Not in the words of the error, which may quote the record.
fn unread(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "its members are not those of a letter",
        serde_json::error::Category::Eof => "it ends too early",
        _ => "it is not json",
    };
    format!("{what}, noticed at column {}", error.column())
}
