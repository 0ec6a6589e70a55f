//! Columns of headers: all of them in a list, and single ones by their names.

use std::sync::Arc;

use aqueduct_core::{
    Batch, Converted, Converter, DataType, Fingerprint, NESTING_MAX, Poison, PoisonPart, Record, Replay,
    SharedHeaders, SkipReason, StageError,
};

use crate::any::AnyValue;
use crate::json::{self, JsonValue};
use crate::{RawBytes, Utf8};

/// What the value of a header is read as, without a converter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderValues {
    /// Bytes.
    Bytes,
    /// Text; what is not UTF-8 is a poison.
    Text,
    /// JSON where it is some, text where it is not, bytes where it is not UTF-8: about what Connect's `SimpleHeaderConverter`
    /// makes of it. The column's kind is JSON.
    Simple,
}

impl HeaderValues {
    /// The kind of each value.
    pub(super) fn kind(self) -> DataType {
        match self {
            Self::Bytes => DataType::Bytes,
            Self::Text => DataType::String,
            Self::Simple => DataType::Json,
        }
    }

    fn convert(self, record: &Record<'_>) -> Result<Converted<AnyValue>, Poison> {
        let value = match self {
            Self::Bytes => RawBytes::new().convert(record).map(any)?,
            Self::Text => Utf8::new().convert(record).map(any)?,
            Self::Simple => {
                let bytes = record.value_bytes().unwrap_or_default();
                // Within the row, the list and the header.
                if json::is_text(&bytes, NESTING_MAX - 3)
                    && let Ok(json) = JsonValue::parse(bytes.clone())
                {
                    Converted::Emit(json.into())
                } else {
                    Utf8::new().convert(record).map_or(Converted::Emit(bytes.into()), any)
                }
            }
        };
        Ok(value)
    }
}

fn any<V: Into<AnyValue>>(converted: Converted<V>) -> Converted<AnyValue> {
    match converted {
        Converted::Emit(value) => Converted::Emit(value.into()),
        Converted::Skip(reason) => Converted::Skip(reason),
    }
}

/// Who reads headers.
#[derive(Clone, Default)]
pub(super) struct HeaderConverters {
    /// All of them, for the column that lists them.
    pub(super) all: Option<Reads>,
    /// Single ones, by their names.
    pub(super) named: Vec<(String, Arc<dyn Converter<Output = AnyValue>>)>,
}

#[derive(Clone)]
pub(super) enum Reads {
    As(HeaderValues),
    With(Arc<dyn Converter<Output = AnyValue>>),
}

/// What they make of a record's headers; a value is absent where the header, or its value, is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct HeaderColumns {
    names: SharedHeaders,
    values: Vec<Option<AnyValue>>,
    pub(super) named: Vec<Option<AnyValue>>,
}

impl HeaderConverters {
    /// Each converter meets the batch as it will meet the records: with headers in the value's place.
    pub(super) async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
        if let Some(Reads::With(converter)) = &self.all {
            converter.prepare(&batch.headers_as_values()).await?;
        }
        for (name, converter) in &self.named {
            converter.prepare(&batch.header_as_value(name)).await?;
        }
        Ok(())
    }

    pub(super) fn convert(&self, record: &Record<'_>) -> Result<Converted<HeaderColumns>, Poison> {
        match self.read(record) {
            Ok(columns) => Ok(Converted::Emit(columns)),
            Err(Stop::Skip(reason)) => Ok(Converted::Skip(reason)),
            Err(Stop::Poison(poison)) => Err(poison),
        }
    }

    fn read(&self, record: &Record<'_>) -> Result<HeaderColumns, Stop> {
        let mut columns = HeaderColumns::default();
        if let Some(reads) = &self.all {
            columns.names = record.shared_headers();
            for (name, view) in record.headers_as_values() {
                columns.values.push(value(name, Some(&view), |view| reads.convert(view))?);
            }
        }
        for (name, converter) in &self.named {
            let view = record.header_as_value(name);
            columns.named.push(value(name, view.as_ref(), |view| converter.convert(view))?);
        }
        Ok(columns)
    }

    pub(super) fn replay(&self) -> Replay {
        let all = match &self.all {
            Some(Reads::With(converter)) => converter.replay(),
            Some(Reads::As(_)) | None => Replay::Deterministic,
        };
        self.named.iter().fold(all, |replay, (_, converter)| replay.and(converter.replay()))
    }
}

impl HeaderColumns {
    /// Names and values in the order of the producer.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Option<&AnyValue>)> {
        self.names.iter().map(|(name, _)| name).zip(self.values.iter().map(Option::as_ref))
    }
}

impl Reads {
    fn convert(&self, record: &Record<'_>) -> Result<Converted<AnyValue>, Poison> {
        match self {
            Self::As(values) => values.convert(record),
            Self::With(converter) => converter.convert(record),
        }
    }

    /// For the identity of the columns.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::As(values) => format!("{values:?}"),
            Self::With(converter) => digest(converter),
        }
    }
}

/// The identity of a converter of keys or headers, as a part of another one's.
pub(super) fn digest(converter: &impl Converter) -> String {
    let mut parts = Fingerprint::new();
    converter.fingerprint(&mut parts);
    format!("{:016x}", parts.digest())
}

/// Why a record is not read to its end.
enum Stop {
    Skip(SkipReason),
    Poison(Poison),
}

/// Converters are not asked about headers that are absent, or without a value.
fn value(
    name: &str,
    view: Option<&Record<'_>>,
    convert: impl FnOnce(&Record<'_>) -> Result<Converted<AnyValue>, Poison>,
) -> Result<Option<AnyValue>, Stop> {
    let Some(view) = view.filter(|view| view.value().is_some()) else { return Ok(None) };
    match convert(view) {
        Ok(Converted::Emit(value)) => Ok(Some(value)),
        Ok(Converted::Skip(reason)) => Err(Stop::Skip(reason)),
        Err(poison) => Err(Stop::Poison(of_header(name, &poison))),
    }
}

#[cold]
fn of_header(name: &str, poison: &Poison) -> Poison {
    let shown: String = name.chars().take(NAME_SHOWN).collect();
    Poison::new(poison.reason(), format!("the header {shown:?}: {}", poison.detail()))
        .in_part(PoisonPart::Header)
}

/// Characters of a header's name in a message: producers choose it.
const NAME_SHOWN: usize = 64;
