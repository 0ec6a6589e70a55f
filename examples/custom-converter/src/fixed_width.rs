//! Lines of columns of a fixed width, as mainframes write them, into values that have a schema.

use std::sync::Arc;

use aqueduct::{
    Composite, Converted, Converter, DataType, Decimal, Field, FieldPath, FieldValue, Fields, Fingerprint,
    JsonRow, Poison, PoisonReason, Record, Schema, StructuredValue, TimeUnit, ValueVisitor, write_json,
};
use bytes::Bytes;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What stands in a column, and so many bytes of it. Blank columns are null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    /// Text, filled up with spaces on the right.
    Text(usize),
    /// Digits.
    Number(usize),
    /// A sign and digits, so many of which stand behind a point that is not written.
    Decimal {
        /// With the sign.
        width: usize,
        /// Behind the point.
        scale: u32,
    },
    /// `20210628073000`, in UTC.
    Timestamp,
}

impl Column {
    fn width(self) -> usize {
        match self {
            Self::Text(width) | Self::Number(width) | Self::Decimal { width, .. } => width,
            Self::Timestamp => 14,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Text(_) => DataType::String,
            Self::Number(_) => DataType::Int64,
            Self::Decimal { width, scale } => DataType::Decimal {
                precision: u32::try_from(width).unwrap_or(u32::MAX).saturating_sub(1),
                scale,
            },
            Self::Timestamp => DataType::Timestamp { unit: TimeUnit::Millis, utc: true },
        }
    }

    /// What the column's bytes say; `None` if they say nothing that the column may hold.
    fn read(self, bytes: &[u8]) -> Option<FieldValue<'_>> {
        // Legacy lines are of no encoding that anybody remembers: what is not ASCII is refused, not guessed.
        let text = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| text.is_ascii() && !text.contains(char::is_control))?;
        if text.trim_end().is_empty() {
            return Some(FieldValue::Null);
        }
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        Some(match self {
            Self::Text(_) => FieldValue::Str(text.trim_end().into()),
            Self::Number(_) => FieldValue::I64(text.parse().ok().filter(|_| is_digits(text))?),
            Self::Decimal { scale, .. } => {
                let digits = text.strip_prefix(['+', '-']).filter(|digits| is_digits(digits))?;
                let number: i128 = digits.parse().ok()?;
                let number = if text.starts_with('-') { -number } else { number };
                FieldValue::Decimal(Decimal::from_i128(number, scale))
            }
            Self::Timestamp => {
                let time = DateTime::strptime("%Y%m%d%H%M%S", text).ok().filter(|_| is_digits(text))?;
                let count = time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
                FieldValue::Timestamp { count, unit: TimeUnit::Millis, utc: true }
            }
        })
    }
}

/// Reads a record's value as one line of the columns it was made with.
#[derive(Clone, Debug)]
pub struct FixedWidth {
    layout: Arc<Layout>,
}

#[derive(Debug)]
struct Layout {
    columns: Vec<(String, Column)>,
    width: usize,
    /// Made once: values of one schema share one `Arc`, so that a format knows it again by its address.
    schema: Arc<Schema>,
}

impl FixedWidth {
    /// These columns, from left to right, and nothing else.
    pub fn new<N: Into<String>>(name: &str, columns: impl IntoIterator<Item = (N, Column)>) -> Self {
        let columns: Vec<_> = columns.into_iter().map(|(name, column)| (name.into(), column)).collect();
        let fields =
            columns.iter().map(|(name, column)| Field::new(name.as_str(), column.data_type()).nullable());
        let schema = Schema::new(DataType::Struct(fields.collect())).with_name(name);
        let width = columns.iter().map(|(_, column)| column.width()).sum();
        Self { layout: Arc::new(Layout { columns, width, schema: Arc::new(schema) }) }
    }
}

impl Converter for FixedWidth {
    type Output = Line;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Line>, Poison> {
        let Some(bytes) = record.value_bytes() else {
            return Err(Poison::new(PoisonReason::NullValue, "the record has no value"));
        };
        let (found, expected) = (bytes.len(), self.layout.width);
        if found != expected {
            let why = format!("a line of {found} bytes, expected {expected}");
            return Err(Poison::new(PoisonReason::Malformed, why));
        }
        let line = Line { bytes, layout: Arc::clone(&self.layout) };
        // Everything that can be wrong is found here: formats come when it is too late to say which record it was. A poison names
        // the column and never what stands in it.
        for (name, value) in line.columns() {
            if value.is_none() {
                let why = format!("column {name:?} does not hold what it should");
                return Err(Poison::new(PoisonReason::InvalidField, why));
            }
        }
        Ok(Converted::Emit(line))
    }

    // Whatever changes what is stored changes this: a segment that is pending must not be finished by another layout.
    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", format_args!("fixed-width/1 {:?}", self.layout.columns));
    }
}

/// One line. Nothing was built of it: its bytes are those of the record, and columns are read when they are asked for.
#[derive(Clone, Debug)]
pub struct Line {
    bytes: Bytes,
    layout: Arc<Layout>,
}

impl Line {
    fn columns(&self) -> impl Iterator<Item = (&str, Option<FieldValue<'_>>)> {
        let mut at = 0;
        self.layout.columns.iter().map(move |(name, column)| {
            let start = at;
            at += column.width();
            (name.as_str(), self.bytes.get(start..at).and_then(|bytes| column.read(bytes)))
        })
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.layout.columns == other.layout.columns
    }
}

/// For partitioners.
impl Fields for Line {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        let [name] = path.segments() else { return None };
        self.columns().find(|(column, _)| column == name).and_then(|(_, value)| value)
    }
}

/// For formats: with it a value is a row of Parquet, Avro, CSV or a table as well, and its schema makes their columns.
impl StructuredValue for Line {
    fn schema(&self) -> Option<&Arc<Schema>> {
        Some(&self.layout.schema)
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        visitor.begin(Composite::Struct)?;
        for (name, value) in self.columns() {
            visitor.key(name)?;
            visitor.scalar(value.unwrap_or(FieldValue::Null))?;
        }
        visitor.end()
    }
}

/// For `JsonLines`, which asks for its rows directly: what `visit` gives, as text.
impl JsonRow for Line {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        write_json(self, out)
    }
}
