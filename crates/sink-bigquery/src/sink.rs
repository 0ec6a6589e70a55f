//! The sink.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::{
    Begun, Fingerprint, PipelinePlan, Published, SegmentStart, Sink, SinkCapabilities, StageError,
    StructuredValue, TopicPartition,
};
use async_trait::async_trait;
use xxhash_rust::xxh3::xxh3_64;

use crate::changes::Changes;
use crate::columns::{ColumnSources, Source};
use crate::config::BigQuerySinkBuilder;
use crate::delivery::Delivery;
use crate::destination::Destinations;
use crate::error::BigQueryError;
use crate::insert_all::InsertWriter;
use crate::quota::{CreateQuota, Expected};
use crate::row::MetadataColumns;
use crate::streaming::{Appenders, StreamWriter};
use crate::table::Tables;
use crate::transport::WriteTransport;
use crate::writer::{Defaults, Recovered, TableWriter, recover};

/// Writes records to BigQuery tables, exactly once. With [`Delivery::AtLeastOnce`] what is said here of segments is otherwise: see
/// [there](Delivery).
///
/// While a segment fills, its rows go to scratch disk, as the protobuf messages they are sent as. At the cut each table's rows
/// are appended to a *pending stream* of their own, whose rows nobody sees, and the streams are finalized; their names are the
/// intent's token. Publishing is one `BatchCommitWriteStreams` for each table: all of a segment's rows of a table become visible
/// at once, and never twice, because a stream is committed once.
///
/// ```no_run
/// use aqueduct_sink_bigquery::{BigQuerySink, Credentials, Field, FieldType, TableSchema};
///
/// # async fn build() -> Result<(), aqueduct_sink_bigquery::BigQueryConfigErrors> {
/// let sink = BigQuerySink::builder()
///     .project("shop")
///     .dataset("events")
///     .credentials(Credentials::ServiceAccountFile("/etc/aqueduct/key.json".into()))
///     .schema(TableSchema::new([
///         Field::required("id", FieldType::Int64),
///         Field::nullable("amount", FieldType::Numeric),
///     ]))
///     .build()
///     .await?;
/// # drop(sink); Ok(())
/// # }
/// ```
///
/// # Destinations
/// The first of these that says something decides where a record goes:
/// 1. its route. One of one level is a table: `table`, `dataset.table` or `project.dataset.table`; a record whose route is anything
///    else (`name=value`, two levels) is a letter. [`ByTable`](crate::ByTable) makes such routes of fields, and
///    [`by_table_fn`](crate::by_table_fn) by a function of yours, with names that are legal and never meet;
/// 2. [`topic_table`](BigQuerySinkBuilder::topic_table), for its topic;
/// 3. [`topic_pattern`](BigQuerySinkBuilder::topic_pattern), the first that its topic matches;
/// 4. [`table`](BigQuerySinkBuilder::table), for all;
/// 5. its topic's name, as [`TopicNames`](crate::TopicNames) says.
///
/// Datasets are not made, and must be where the sink's own is if queries are to join them. A segment may have as many tables as its
/// token can name: see [`routes_max`](BigQuerySinkBuilder::routes_max).
///
/// # Rows
/// The columns are declared, taken from the table, or made of the schemas that values come with: see [`Columns`](crate::Columns).
/// Rows are checked against them while the segment fills: types, ranges, digits, `REQUIRED`. What does not fit is a letter and
/// costs no other row anything. The table is made or, if that is allowed, brought up to date when a segment that needs it is
/// staged. Three more columns, or up to six ([`MetadataColumns`]), say which record a row is of.
///
/// A table is changed by nobody but one lane of a process at a time, no more than five times in ten seconds, and only if it still
/// is what was looked at: processes that change it at the same time see each other's changes. One that knows fewer columns goes on
/// writing those. A change takes minutes to reach the Storage Write interface; rows that are refused for that wait.
///
/// A row that only the service refuses is a letter as well: none of its request's rows is written then, and the others are sent
/// again without it.
///
/// # Recovery
/// A process that finds an intent looks at the streams it names: a committed one is done, one that is not is committed. A stream
/// that the service has forgotten is looked for in the table, by the metadata columns: if all of its rows are there, it was
/// committed; if none is, the segment is read again from Kafka into a new stream; if some are, somebody has deleted the others,
/// and the lane stops with [`BigQueryError::PartlyThere`]. Such a table must not demand a filter on its partitions of every query.
///
/// Streams that are never committed cost nothing, are seen by nobody and are removed by the service in time.
///
/// There is no claim as on the names of objects: if a mark moves back (an operator sets offsets), records are stored again. The
/// metadata columns find them.
pub struct BigQuerySink(Arc<Parts>);

/// What the writers of a sink share.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) transport: Arc<dyn WriteTransport>,
    /// Of at least once.
    pub(crate) appenders: Appenders,
    pub(crate) tables: Tables,
    pub(crate) destinations: Destinations,
    pub(crate) columns: ColumnSources,
    pub(crate) quota: CreateQuota,
    pub(crate) options: Options,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) delivery: Delivery,
    pub(crate) changes: Option<Changes>,
    pub(crate) append_bytes: usize,
    pub(crate) append_timeout: Duration,
    pub(crate) in_flight: usize,
    pub(crate) connections: usize,
    pub(crate) routes_max: usize,
    pub(crate) metadata: MetadataColumns,
    pub(crate) expected: Expected,
    /// Who pays for queries.
    pub(crate) query_project: String,
    /// What else decides rows, for the fingerprint.
    pub(crate) rows: String,
}

impl Parts {
    /// Where tables are by default, for metrics.
    pub(crate) fn dataset(&self) -> String {
        format!("{}.{}", self.destinations.project, self.destinations.dataset)
    }

    fn defaults(&self, lane: &TopicPartition) -> Result<Defaults, BigQueryError> {
        let (project, dataset) = (self.destinations.project.clone(), self.destinations.dataset.clone());
        Ok(Defaults { project, dataset, table: self.destinations.of_topic(lane.topic())? })
    }
}

impl BigQuerySink {
    /// Starts the configuration.
    pub fn builder() -> BigQuerySinkBuilder {
        BigQuerySinkBuilder::new()
    }

    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }

    /// How many write streams this sink has created within about an hour, for a metric or an alert: a project may create 10,000.
    pub fn streams_created(&self) -> u64 {
        self.0.quota.created()
    }

    /// A writer of pending streams, unless a former owner's are visible or can be made so.
    async fn begin_exactly_once<T: StructuredValue + Send + 'static>(
        &self,
        at: SegmentStart,
    ) -> Result<Begun<T>, StageError> {
        let failed = |error| StageError::new("begin", error);
        let defaults = self.0.defaults(&at.lane).map_err(failed)?;
        let pinned = match &at.pinned {
            None => None,
            Some(intent) => match recover(&self.0, &at.lane, &defaults, intent).await.map_err(failed)? {
                Recovered::Published => return Ok(Begun::AlreadyPublished(Published::default())),
                Recovered::Fill(pinned) => Some(pinned),
            },
        };
        Ok(Begun::Fill(Box::new(TableWriter::new(Arc::clone(&self.0), defaults, at, pinned))))
    }
}

impl Clone for BigQuerySink {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl fmt::Debug for BigQuerySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BigQuerySink")
            .field("destinations", &self.0.destinations)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<T: StructuredValue + Send + 'static> Sink<T> for BigQuerySink {
    /// The datasets that are named are there and let us in; so is the table, if all records go to one.
    async fn check(&self) -> Result<(), StageError> {
        let parts = &self.0;
        let failed = |error| StageError::new("check", error);
        for (project, dataset) in parts.destinations.datasets() {
            parts.tables.rest().check_dataset(&project, &dataset).await.map_err(failed)?;
        }
        if let Some(table) = parts.destinations.single() {
            match parts.columns.source(&table) {
                Some(Source::Declared(declared)) => {
                    parts.tables.ensure(&table, declared.columns()).await.map_err(failed)?;
                }
                Some(Source::Existing | Source::FromValues(_)) => {
                    parts.columns.ask(&parts.tables, &table).await.map_err(failed)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
        match self.0.options.delivery {
            Delivery::InsertAll => {
                let default = self.0.destinations.of_topic(at.lane.topic());
                let default = default.map_err(|error| StageError::new("begin", error))?;
                Ok(Begun::Fill(Box::new(InsertWriter::new(Arc::clone(&self.0), default, at))))
            }
            Delivery::ExactlyOnce => self.begin_exactly_once(at).await,
            Delivery::AtLeastOnce => {
                let defaults = self.0.defaults(&at.lane);
                let defaults = defaults.map_err(|error| StageError::new("begin", error))?;
                Ok(Begun::Fill(Box::new(StreamWriter::new(Arc::clone(&self.0), defaults, at))))
            }
        }
    }

    fn capabilities(&self) -> SinkCapabilities {
        let mut capabilities = match self.0.options.delivery {
            Delivery::ExactlyOnce => {
                let mut capabilities = SinkCapabilities::redo();
                // Records are read again only for a stream that is gone, and then a replay that differs is noticed.
                capabilities.redoes = false;
                capabilities
            }
            Delivery::AtLeastOnce => {
                let mut capabilities = SinkCapabilities::after_durable();
                // A change that is written again has the number it had.
                capabilities.idempotent = self.0.options.changes.is_some();
                capabilities
            }
            Delivery::InsertAll => SinkCapabilities::after_durable(),
        };
        // Rows are refused by the service long after they were encoded; by the legacy interface while their batch is there.
        capabilities.rejects_late = self.0.options.delivery != Delivery::InsertAll;
        capabilities.routes_max = self.0.options.routes_max;
        capabilities.opens_routes = self.0.columns.asks();
        capabilities
    }

    /// Whether the rotation leaves enough of the quota of write streams.
    fn plan_problems(&self, plan: &PipelinePlan) -> Vec<String> {
        match self.0.options.delivery {
            Delivery::ExactlyOnce => {
                self.0.quota.problem(plan, self.0.options.expected).into_iter().collect()
            }
            Delivery::AtLeastOnce | Delivery::InsertAll => Vec::new(),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("bigquery", LAYOUT_VERSION);
        parts.put("tables", self.0.destinations.identity());
        let mut columns = self.0.options.rows.clone();
        let mut sources: Vec<_> = self.0.columns.of.iter().collect();
        sources.sort_by_key(|(name, _)| *name);
        for (name, source) in sources {
            columns.push_str(&name.to_string());
            columns.push_str(&source.identity());
        }
        if let Some(general) = &self.0.columns.general {
            columns.push_str(&general.identity());
        }
        parts.put("columns", format_args!("{:016x}", xxh3_64(columns.as_bytes())));
        // Intents of exactly once are older than the choice and have to stay readable.
        if self.0.options.delivery != Delivery::ExactlyOnce {
            parts.put("delivery", format_args!("{:?}", self.0.options.delivery));
        }
        if let Some(changes) = &self.0.options.changes {
            parts.put("changes", format_args!("{changes:?}"));
        }
    }
}

/// Changes when this crate decides tables or the bytes of rows otherwise than before.
const LAYOUT_VERSION: &str = "1";
