//! The sink.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::{
    Begun, Fingerprint, Published, SegmentStart, Sink, SinkCapabilities, StageError, StructuredValue,
    TopicPartition,
};
use async_trait::async_trait;
use xxhash_rust::xxh3::xxh3_64;

use crate::changes::{ChangePlan, Changes};
use crate::config::BigQuerySinkBuilder;
use crate::delivery::Delivery;
use crate::destination::Destinations;
use crate::error::BigQueryError;
use crate::name::TableName;
use crate::row::{MetadataColumns, RowPlan};
use crate::schema::{Field, TableSchema};
use crate::streaming::{Appenders, StreamWriter};
use crate::table::Tables;
use crate::transport::WriteTransport;
use crate::writer::{Defaults, Recovered, TableWriter, recover};

/// Writes records to BigQuery tables, exactly once.
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
/// A record without a route goes to the table configured, or to one that is called like its topic (dots become `_`). A route of one
/// level is a table: `table`, `dataset.table` or `project.dataset.table`. A record whose route is none is a letter. A segment
/// may have as many tables as its token can name: see [`routes_max`](BigQuerySinkBuilder::routes_max).
///
/// # Rows
/// The columns are declared, and rows are checked against them while the segment fills: types, ranges, digits, `REQUIRED`. What
/// does not fit is a letter and costs no other row anything. The table is made or, if that is allowed, brought up to date when the
/// first segment is staged. Three more columns ([`MetadataColumns`]) say which record a row is of.
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
    pub(crate) columns: Columns,
    pub(crate) options: Options,
}

/// Declared columns: for all tables, and for some.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) general: Option<Declared>,
    pub(crate) of: HashMap<TableName, Declared>,
}

/// Columns and what is made of them.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) schema: TableSchema,
    pub(crate) plan: Arc<RowPlan>,
    /// If records change rows.
    pub(crate) changes: Option<Arc<ChangePlan>>,
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
    /// Who pays for queries.
    pub(crate) query_project: String,
    /// What else decides rows, for the fingerprint.
    pub(crate) rows: String,
}

impl Parts {
    fn declared(&self, table: &TableName) -> Option<&Declared> {
        self.columns.of.get(table).or(self.columns.general.as_ref())
    }

    pub(crate) fn plan_of(&self, table: &TableName) -> Option<Arc<RowPlan>> {
        self.declared(table).map(|declared| Arc::clone(&declared.plan))
    }

    pub(crate) fn changes_of(&self, table: &TableName) -> Option<Arc<ChangePlan>> {
        self.declared(table)?.changes.clone()
    }

    /// Where tables are by default, for metrics.
    pub(crate) fn dataset(&self) -> String {
        format!("{}.{}", self.destinations.project, self.destinations.dataset)
    }

    /// The columns a table needs, ours included.
    pub(crate) fn fields_of(&self, table: &TableName) -> Vec<Field> {
        let declared =
            self.declared(table).map(|declared| declared.schema.fields.clone()).unwrap_or_default();
        declared.into_iter().chain(self.options.metadata.fields()).collect()
    }

    fn defaults(&self, lane: &TopicPartition) -> Result<Defaults, BigQueryError> {
        let Destinations { project, dataset, .. } = self.destinations.clone();
        let table = self.destinations.of_topic(lane.topic()).map_err(|error| BigQueryError::Schema {
            table: lane.topic().to_owned(),
            problem: format!(
                "the topic's name is none for a table ({error}); name one with table() or by a route"
            ),
        })?;
        Ok(Defaults { project, dataset, table })
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
    /// The dataset is there and lets us in; so is the table, if all records go to one.
    async fn check(&self) -> Result<(), StageError> {
        let parts = &self.0;
        let failed = |error| StageError::new("check", error);
        let Destinations { project, dataset, table } = &parts.destinations;
        parts.tables.rest().check_dataset(project, dataset).await.map_err(failed)?;
        if let Some(Ok(table)) = table.as_ref().map(|table| parts.destinations.of_topic(table))
            && parts.declared(&table).is_some()
        {
            parts.tables.ensure(&table, &parts.fields_of(&table)).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
        match self.0.options.delivery {
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
        };
        // Rows are refused by the service long after they were encoded.
        capabilities.rejects_late = true;
        capabilities.routes_max = self.0.options.routes_max;
        capabilities
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        let Destinations { project, dataset, table } = &self.0.destinations;
        let table = table.as_deref().unwrap_or("{topic}");
        parts.put("bigquery", LAYOUT_VERSION);
        parts.put("tables", format_args!("{project}.{dataset}.{table}"));
        let mut columns = self.0.options.rows.clone();
        let mut declared: Vec<_> = self.0.columns.of.iter().collect();
        declared.sort_by_key(|(name, _)| *name);
        for (name, declared) in declared {
            columns.push_str(&name.to_string());
            columns.push_str(&declared.schema.identity());
        }
        if let Some(general) = &self.0.columns.general {
            columns.push_str(&general.schema.identity());
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
