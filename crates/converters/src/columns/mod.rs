//! What a record is besides its value, as columns beside the value's own.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use aqueduct_core::{
    Batch, Converted, Converter, DataType, FieldPath, Fingerprint, Poison, PoisonPart, PoisonReason, Record,
    Replay, StageError, StructuredValue,
};
use async_trait::async_trait;

use crate::any::{AnyValue, DynamicExt as _};
pub use headers::HeaderValues;
use headers::{HeaderConverters, Reads, digest};
use schema::Schemas;
pub use value::WithColumns;

mod headers;
mod schema;
mod value;

/// Puts columns for topic, partition, offset, timestamp, key and headers beside what a converter makes of the value.
///
/// Only the columns that are asked for are there, under the names they are given. The members of a value that is a struct stand
/// beside them, or all under one name with [`nested`](ColumnsBuilder::nested); a value that is no struct stands under `value`.
///
/// | column | kind |
/// | --- | --- |
/// | topic | text |
/// | partition, offset | whole numbers of 32 and 64 bits |
/// | timestamp | a timestamp in milliseconds, UTC; null if the record has none |
/// | key | what the key's converter makes of it; null if the record has none |
/// | headers | a list of structs of `key` and `value`, in the order of the producer; the value is what the headers' converter makes of it |
/// | a single header | what its own converter makes of the last header of that name; null if the record has none |
///
/// Converters of keys and headers are not asked about what is absent: that is null. What they cannot read makes the record a poison
/// that says so, in its letter as `convert-key` or `convert-header`, and what they skip skips it.
///
/// A column whose name a member of the value has is a poison that names it; two columns of one name are an error of
/// [`build`](ColumnsBuilder::build). With [`Tombstones::Null`](crate::Tombstones::Null) a deletion is a row of its columns, without
/// members.
///
/// ```
/// use aqueduct_converters::{Columns, Json, Utf8};
/// use aqueduct_core::{BatchBuilder, Converted, Converter, JsonRow, Offset, Permit, Timestamp, TopicPartition};
///
/// let converter = Columns::around(Json::new())
///     .topic("topic")
///     .offset("offset")
///     .timestamp("at")
///     .key("key", Utf8::new())
///     .build()?;
///
/// let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 64);
/// batch.push(Offset::new(7), Timestamp::Create(0), Some(b"a"), Some(br#"{"total": 12}"#), []);
/// let batch = batch.build(Permit::unlimited());
/// let Ok(Converted::Emit(value)) = converter.convert(&batch.get(0).unwrap()) else { panic!("valid JSON") };
/// let mut row = Vec::new();
/// value.write_json(&mut row)?;
/// assert_eq!(row, br#"{"total":12,"topic":"orders","offset":7,"at":"1970-01-01T00:00:00.000Z","key":"a"}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Columns<C> {
    value: C,
    key: Option<Arc<dyn Converter<Output = AnyValue>>>,
    headers: HeaderConverters,
    layout: Arc<Layout>,
    schemas: Arc<Schemas>,
}

/// Chooses the columns of [`Columns`].
#[derive(Clone)]
pub struct ColumnsBuilder<C> {
    value: C,
    key: Option<Arc<dyn Converter<Output = AnyValue>>>,
    headers: HeaderConverters,
    layout: Layout,
}

/// Why columns do not make a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the columns do not make a row: {}", problems.join("; "))]
pub struct ColumnsError {
    problems: Vec<String>,
}

/// Names of the columns.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    topic: Option<String>,
    partition: Option<String>,
    offset: Option<String>,
    timestamp: Option<String>,
    key: Option<String>,
    /// The column's kind where the record has no key, or one without a schema.
    key_kind: DataType,
    /// The column of all headers, and the kind of their values.
    headers: Option<(String, DataType)>,
    /// Those of single headers, and their kinds where the header is absent, or without a schema.
    named: Vec<(String, DataType)>,
    /// The column that holds the whole value.
    nested: Option<String>,
}

impl Layout {
    fn new() -> Self {
        Self {
            topic: None,
            partition: None,
            offset: None,
            timestamp: None,
            key: None,
            key_kind: DataType::Null,
            headers: None,
            named: Vec::new(),
            nested: None,
        }
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        let headers = self.headers.as_ref().map(|(name, _)| name);
        [&self.topic, &self.partition, &self.offset, &self.timestamp, &self.key]
            .into_iter()
            .flatten()
            .chain(headers)
            .chain(self.named.iter().map(|(name, _)| name))
    }

    fn is_column(&self, name: &str) -> bool {
        self.names().any(|column| column == name)
    }

    /// The column for a value that is no struct, or for all values.
    fn value_name(&self) -> &str {
        self.nested.as_deref().unwrap_or(VALUE)
    }
}

impl<C> Columns<C> {
    /// No columns yet but those of the value.
    pub fn around(value: C) -> ColumnsBuilder<C> {
        ColumnsBuilder { value, key: None, headers: HeaderConverters::default(), layout: Layout::new() }
    }
}

impl<C> ColumnsBuilder<C> {
    /// The topic's name.
    #[must_use]
    pub fn topic(mut self, column: impl Into<String>) -> Self {
        self.layout.topic = Some(column.into());
        self
    }

    /// The partition's number.
    #[must_use]
    pub fn partition(mut self, column: impl Into<String>) -> Self {
        self.layout.partition = Some(column.into());
        self
    }

    /// The record's offset.
    #[must_use]
    pub fn offset(mut self, column: impl Into<String>) -> Self {
        self.layout.offset = Some(column.into());
        self
    }

    /// The record's timestamp.
    #[must_use]
    pub fn timestamp(mut self, column: impl Into<String>) -> Self {
        self.layout.timestamp = Some(column.into());
        self
    }

    /// The key, read with `converter`: [`Utf8`](crate::Utf8) for text, [`RawBytes`](crate::RawBytes) for bytes (base64 in JSON).
    /// A key it cannot read makes the record a poison, one that it skips skips the record. It is not asked about absent keys.
    #[must_use]
    pub fn key<K>(mut self, column: impl Into<String>, converter: K) -> Self
    where
        K: Converter<Output: Into<AnyValue>>,
    {
        self.layout.key = Some(column.into());
        self.layout.key_kind = schema::kind(&converter);
        self.key = Some(Arc::new(converter.dynamic()));
        self
    }

    /// All headers, their values read as `values`.
    #[must_use]
    pub fn headers(mut self, column: impl Into<String>, values: HeaderValues) -> Self {
        self.layout.headers = Some((column.into(), values.kind()));
        self.headers.all = Some(Reads::As(values));
        self
    }

    /// All headers, each value read with `converter` as it would read a record's value, schema ids in front included: one with a
    /// registry is told nothing about headers.
    ///
    /// Headers of one record may differ and the elements of a list do not. So the column's values are of a kind that the converter
    /// knows beforehand (text, bytes, primitives, one Avro schema or Protobuf type for all), and JSON with any other.
    #[must_use]
    pub fn headers_with<H>(mut self, column: impl Into<String>, converter: H) -> Self
    where
        H: Converter<Output: Into<AnyValue>>,
    {
        self.layout.headers = Some((column.into(), schema::kind(&converter)));
        self.headers.all = Some(Reads::With(Arc::new(converter.dynamic())));
        self
    }

    /// The header called `name` as a column of its own, read with `converter` as [`headers_with`](Self::headers_with) does. Of
    /// several headers of that name the last counts, as for Kafka's own clients; without one the column is null.
    ///
    /// The column is of the kind of the value's schema. Where there is no value it is of the kind the converter knows beforehand,
    /// or else JSON: then records with the header and without have different schemas, and objects of their own. Avro with a
    /// [reader's schema](crate::AvroBuilder::reader_schema) keeps them together.
    ///
    /// ```
    /// use aqueduct_converters::{Columns, Json, Primitive, Utf8};
    /// use aqueduct_core::{BatchBuilder, Converted, Converter, JsonRow, Offset, Permit, Timestamp, TopicPartition};
    ///
    /// let converter = Columns::around(Json::new())
    ///     .header("trace", "trace_id", Utf8::new())
    ///     .header("retries", "retries", Primitive::integer())
    ///     .build()?;
    ///
    /// let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 64);
    /// batch.push(Offset::new(7), Timestamp::None, None, Some(br#"{"total": 12}"#), [("trace", Some(&b"ab"[..]))]);
    /// let batch = batch.build(Permit::unlimited());
    /// let Ok(Converted::Emit(value)) = converter.convert(&batch.get(0).unwrap()) else { panic!("valid JSON") };
    /// let mut row = Vec::new();
    /// value.write_json(&mut row)?;
    /// assert_eq!(row, br#"{"total":12,"trace_id":"ab","retries":null}"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn header<H>(mut self, name: impl Into<String>, column: impl Into<String>, converter: H) -> Self
    where
        H: Converter<Output: Into<AnyValue>>,
    {
        self.layout.named.push((column.into(), schema::kind(&converter)));
        self.headers.named.push((name.into(), Arc::new(converter.dynamic())));
        self
    }

    /// Puts the value as a whole under one name, in place of its members beside the columns.
    #[must_use]
    pub fn nested(mut self, column: impl Into<String>) -> Self {
        self.layout.nested = Some(column.into());
        self
    }

    /// The converter.
    ///
    /// # Errors
    /// All that is wrong with the names: one that is empty, or that two columns have.
    pub fn build(self) -> Result<Columns<C>, ColumnsError> {
        let mut names: Vec<&String> = self.layout.names().chain(&self.layout.nested).collect();
        names.sort_unstable();
        let mut problems = Vec::new();
        if names.iter().any(|name| name.is_empty()) {
            problems.push("a name is empty".to_owned());
        }
        for pair in names.windows(2) {
            if let [one, other] = pair
                && one == other
            {
                problems.push(format!("two columns are called {one:?}"));
            }
        }
        problems.dedup();
        if !problems.is_empty() {
            return Err(ColumnsError { problems });
        }
        Ok(Columns {
            value: self.value,
            key: self.key,
            headers: self.headers,
            layout: Arc::new(self.layout),
            schemas: Arc::default(),
        })
    }
}

#[async_trait]
impl<C> Converter for Columns<C>
where
    C: Converter<Output: StructuredValue>,
{
    type Output = WithColumns<C::Output>;

    async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
        if let Some(key) = &self.key {
            key.prepare(batch).await?;
        }
        self.headers.prepare(batch).await?;
        self.value.prepare(batch).await
    }

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Self::Output>, Poison> {
        let value = match self.value.convert(record)? {
            Converted::Emit(value) => value,
            Converted::Skip(reason) => return Ok(Converted::Skip(reason)),
        };
        let key = match &self.key {
            Some(converter) if record.key().is_some() => {
                match converter.convert(&record.key_as_value()).map_err(|poison| of_key(&poison))? {
                    Converted::Emit(key) => Some(key),
                    Converted::Skip(reason) => return Ok(Converted::Skip(reason)),
                }
            }
            _ => None,
        };
        let headers = match self.headers.convert(record)? {
            Converted::Emit(headers) => headers,
            Converted::Skip(reason) => return Ok(Converted::Skip(reason)),
        };
        let schema = self.schemas.of(&self.layout, &value, key.as_ref(), &headers.named)?;
        let layout = Arc::clone(&self.layout);
        Ok(Converted::Emit(WithColumns::new(layout, schema, record, value, key, headers)))
    }

    fn replay(&self) -> Replay {
        let replay = self.value.replay().and(self.headers.replay());
        self.key.iter().fold(replay, |replay, key| replay.and(key.replay()))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        self.value.fingerprint(parts);
        let Layout { topic, partition, offset, timestamp, key, key_kind, headers, named, nested } =
            &*self.layout;
        // The debug forms keep names apart, whatever they hold.
        let headers = match (headers, &self.headers.all) {
            (Some((name, _)), Some(reads)) => format!("Some(({name:?}, {}))", reads.identity()),
            _ => "None".to_owned(),
        };
        let key_digest = match &self.key {
            Some(converter) => digest(converter),
            None => format!("{:016x}", Fingerprint::new().digest()),
        };
        let key_kind = schema::identity(key_kind);
        let mut identity = format!(
            "columns/1 Layout {{ topic: {topic:?}, partition: {partition:?}, offset: {offset:?}, timestamp: {timestamp:?}, \
             key: {key:?}, key_kind: {key_kind}, headers: {headers}, nested: {nested:?} }} key:{key_digest}"
        );
        for ((column, kind), (name, converter)) in named.iter().zip(&self.headers.named) {
            // Writing to a string cannot fail.
            let kind = schema::identity(kind);
            write!(identity, " header:{name:?} {column:?} {kind} {}", digest(converter)).ok();
        }
        parts.put("converter", identity);
    }
}

#[cold]
fn of_key(poison: &Poison) -> Poison {
    Poison::new(poison.reason(), format!("the key: {}", poison.detail())).in_part(PoisonPart::Key)
}

#[cold]
fn collision(name: &str) -> Poison {
    let text = format!("the value has a member {name:?}, and so is a column called; rename the column");
    Poison::new(PoisonReason::InvalidField, text)
}

/// The path within the value, where the value stands under one name.
fn behind_first(path: &FieldPath) -> Option<FieldPath> {
    let escape = |name: &String| name.chars().flat_map(|it| ['\\', it]).collect::<String>();
    let rest: Vec<String> = path.segments().get(1..)?.iter().map(escape).collect();
    FieldPath::parse(&rest.join(".")).ok()
}

impl<C: fmt::Debug> fmt::Debug for Columns<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Columns")
            .field("value", &self.value)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl<C: fmt::Debug> fmt::Debug for ColumnsBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColumnsBuilder")
            .field("value", &self.value)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

/// The column of a value that is no struct.
const VALUE: &str = "value";

#[cfg(test)]
mod tests;
