//! Configuration.

mod columns;
mod error;
mod routing;

use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::TimeUnit;

pub use self::error::{BigQueryConfigError, BigQueryConfigErrors};
use crate::changes::Changes;
use crate::columns::{ColumnSources, Columns, Source};
use crate::credentials::{AuthEndpoints, Credentials, TokenSource};
use crate::delivery::Delivery;
use crate::destination::{Destinations, TopicNames};
use crate::quota::{CREATES_PER_HOUR, CreateQuota, Expected};
use crate::row::{MetadataColumns, UnknownFields};
use crate::schema::TableSchema;
use crate::sink::{BigQuerySink, Options, Parts};
use crate::streaming::Appenders;
use crate::table::{TableOptions, TableOptionsOf, Tables};
use crate::transport::{GrpcOptions, GrpcTransport, IN_FLIGHT_MAX, Rest, RestOptions};
use crate::writer::{ROUTES_MAX, ROW_MAX, name_max};

/// Builds a [`BigQuerySink`].
#[derive(Clone, Debug)]
#[must_use]
pub struct BigQuerySinkBuilder {
    project: String,
    dataset: String,
    table: Option<String>,
    topic_tables: Vec<(String, String)>,
    topic_patterns: Vec<(String, String)>,
    topic_names: TopicNames,
    credentials: Credentials,
    auth: AuthEndpoints,
    general: Option<Columns>,
    of: Vec<(String, Columns)>,
    tables: TableOptions,
    tables_of: Vec<(String, TableOptions)>,
    unknown: UnknownFields,
    timestamps: TimeUnit,
    metadata: MetadataColumns,
    delivery: Delivery,
    changes: Option<Changes>,
    append_bytes: usize,
    in_flight: usize,
    routes_max: Option<usize>,
    expected: Expected,
    create_quota: usize,
    connections: usize,
    call_timeout: Duration,
    append_timeout: Duration,
    rest_endpoint: String,
    grpc_endpoint: String,
    plaintext: bool,
    query_project: Option<String>,
}

const REST_ENDPOINT: &str = "https://bigquery.googleapis.com/bigquery/v2";
const GRPC_ENDPOINT: &str = "https://bigquerystorage.googleapis.com";

impl BigQuerySinkBuilder {
    /// The largest [`append_bytes`](Self::append_bytes): with what surrounds the rows it stays below every documented limit.
    pub const APPEND_BYTES_MAX: usize = ROW_MAX;

    /// The largest [`routes_max`](Self::routes_max) of [`Delivery::AtLeastOnce`] and [`Delivery::InsertAll`].
    pub const STREAM_ROUTES_MAX: usize = 1000;

    /// Most [`connections`](Self::connections).
    pub const CONNECTIONS_MAX: usize = 64;

    pub(crate) fn new() -> Self {
        Self {
            project: String::new(),
            dataset: String::new(),
            table: None,
            topic_tables: Vec::new(),
            topic_patterns: Vec::new(),
            topic_names: TopicNames::default(),
            credentials: Credentials::default(),
            auth: AuthEndpoints::default(),
            general: None,
            of: Vec::new(),
            tables: TableOptions::default(),
            tables_of: Vec::new(),
            unknown: UnknownFields::default(),
            timestamps: TimeUnit::Micros,
            metadata: MetadataColumns::default(),
            delivery: Delivery::default(),
            changes: None,
            append_bytes: 2 << 20,
            in_flight: 4,
            routes_max: None,
            expected: Expected { lanes: 1, tables: 1, interval: None },
            create_quota: CREATES_PER_HOUR,
            connections: 4,
            call_timeout: Duration::from_mins(1),
            append_timeout: Duration::from_mins(2),
            rest_endpoint: REST_ENDPOINT.to_owned(),
            grpc_endpoint: GRPC_ENDPOINT.to_owned(),
            plaintext: false,
            query_project: None,
        }
    }

    /// The project of the tables; needed.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = project.into();
        self
    }

    /// The dataset of the tables; needed.
    pub fn dataset(mut self, dataset: impl Into<String>) -> Self {
        self.dataset = dataset.into();
        self
    }

    /// The table of all records without a route whose topic has none of its own; without it, each topic has a table that is called
    /// like it.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// Who we are; [`Credentials::ApplicationDefault`] without it.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// What becomes of fields that no column is declared for; they are left out by default.
    pub fn unknown_fields(mut self, unknown: UnknownFields) -> Self {
        self.unknown = unknown;
        self
    }

    /// What whole numbers in `TIMESTAMP` columns count, as JSON has them; microseconds by default. Values that know their own
    /// unit keep it.
    pub fn timestamps(mut self, unit: TimeUnit) -> Self {
        self.timestamps = unit;
        self
    }

    /// The names of the columns that say which record a row is of.
    pub fn metadata_columns(mut self, columns: MetadataColumns) -> Self {
        self.metadata = columns;
        self
    }

    /// How rows get into tables; exactly once by default.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// Records change rows instead of adding some. Needs [`Delivery::AtLeastOnce`], [a primary key](TableOptions::primary_key)
    /// and declared columns.
    pub fn changes(mut self, changes: Changes) -> Self {
        self.changes = Some(changes);
        self
    }

    /// About how many bytes of rows one request has; 2 MiB by default. A larger row is sent alone.
    pub fn append_bytes(mut self, bytes: usize) -> Self {
        self.append_bytes = bytes;
        self
    }

    /// Requests of one table that may wait for their answers at the same time; 4 by default. While a segment is staged it holds
    /// `append_bytes × (in_flight + 2)` of the publish pool.
    ///
    /// With [`Delivery::AtLeastOnce`] as many bytes as they have may wait over one connection, in at most 100 requests.
    pub fn in_flight(mut self, requests: usize) -> Self {
        self.in_flight = requests;
        self
    }

    /// Most tables of one segment; another one cuts it. 6 by default, 10 at most: the intent names a stream for each, in 1 KiB. The
    /// more, the shorter the names of tables must be: with 6, routes may name tables of 80 bytes, with 2 of over 400. The table
    /// of records without a route takes no room, however long its name is.
    ///
    /// With [`Delivery::AtLeastOnce`] nothing is named: 100 by default, 1,000 at most. With [`Delivery::InsertAll`] it is 1,000.
    pub fn routes_max(mut self, routes: usize) -> Self {
        self.routes_max = Some(routes);
        self
    }

    /// Connections to the Storage Write interface that tables are appended over, in turn; 4 by default. Over each at most 90 tables
    /// are appended at the same time, the others wait.
    ///
    /// With [`Delivery::AtLeastOnce`] a table that is written from several partitions has up to as many connections of its own.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// The longest wait for the answer to a call; a minute by default.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// The longest wait for the answer to one request with rows; two minutes by default.
    pub fn append_timeout(mut self, timeout: Duration) -> Self {
        self.append_timeout = timeout;
        self
    }

    /// Another base URL of the REST interface, as `https://bigquery.googleapis.com/bigquery/v2`.
    pub fn rest_endpoint(mut self, url: impl Into<String>) -> Self {
        self.rest_endpoint = url.into();
        self
    }

    /// Another URL of the Storage Write interface, as `https://bigquerystorage.googleapis.com`.
    pub fn grpc_endpoint(mut self, url: impl Into<String>) -> Self {
        self.grpc_endpoint = url.into();
        self
    }

    /// Allows `http://` endpoints: rows and tokens go over the network as they are. For emulators.
    pub fn allow_plaintext(mut self, allow: bool) -> Self {
        self.plaintext = allow;
        self
    }

    /// The project that pays for the queries of recovery; that of the tables without it.
    pub fn query_project(mut self, project: impl Into<String>) -> Self {
        self.query_project = Some(project.into());
        self
    }

    /// Checks everything and reads the credentials; the service is not called.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub async fn build(mut self) -> Result<BigQuerySink, BigQueryConfigErrors> {
        if self.changes.is_some() {
            self.tables.demand_key();
            self.tables_of.iter_mut().for_each(|(_, options)| options.demand_key());
        }
        let mut problems = self.problems();
        let destinations = Destinations {
            project: self.project.clone(),
            dataset: self.dataset.clone(),
            table: self.table.clone(),
            topics: self.topics(&mut problems),
        };
        problems.extend(destinations.problems().into_iter().map(BigQueryConfigError::Name));
        let tables_of = self.options_of_tables(&destinations, &mut problems);
        let columns = self.sources(&destinations, &tables_of, &mut problems);
        let auth = AuthEndpoints { plaintext: self.plaintext, ..self.auth.clone() };
        let tokens = match self.credentials.open(&auth).await {
            Ok(tokens) => Some(tokens),
            Err(error) => {
                problems.push(BigQueryConfigError::Credentials { problem: error.to_string() });
                None
            }
        };
        let (Some(tokens), true) = (tokens, problems.is_empty()) else {
            return Err(BigQueryConfigErrors(problems));
        };
        let evolves = |source: &Source| matches!(source, Source::FromValues(_));
        let tables = TableOptionsOf {
            general: self.tables.clone(),
            of: tables_of,
            evolves: columns.general.as_ref().is_some_and(evolves),
            evolves_of: columns.of.iter().map(|(table, source)| (table.clone(), evolves(source))).collect(),
        };
        self.connect(destinations, columns, tables, tokens.into())
    }

    fn connect(
        self,
        destinations: Destinations,
        columns: ColumnSources,
        tables: TableOptionsOf,
        tokens: Arc<dyn TokenSource>,
    ) -> Result<BigQuerySink, BigQueryConfigErrors> {
        let client = |problem: String| BigQueryConfigErrors(vec![BigQueryConfigError::Client { problem }]);
        let grpc = GrpcOptions {
            endpoint: self.grpc_endpoint.clone(),
            call_timeout: self.call_timeout,
            append_timeout: self.append_timeout,
            channels: self.connections,
        };
        let transport = GrpcTransport::new(grpc, Arc::clone(&tokens));
        let transport = transport.map_err(|error| client(aqueduct_core::ErrorChain(&error).to_string()))?;
        let endpoint = self.rest_endpoint.trim_end_matches('/').to_owned();
        let rest = Rest::new(RestOptions { endpoint, timeout: self.call_timeout }, tokens);
        let rest = rest.map_err(|error| client(aqueduct_core::ErrorChain(&error).to_string()))?;
        let routes_max = self.routes_most();
        Ok(BigQuerySink::new(Parts {
            transport: Arc::new(transport),
            appenders: Appenders::default(),
            tables: Tables::new(rest, tables),
            destinations,
            columns,
            quota: CreateQuota::new(self.create_quota),
            options: Options {
                delivery: self.delivery,
                changes: self.changes,
                append_bytes: self.append_bytes,
                append_timeout: self.append_timeout,
                in_flight: self.in_flight,
                connections: self.connections,
                routes_max,
                expected: self.expected,
                rows: format!("{:?} {:?} {:?}", self.unknown, self.timestamps, self.metadata),
                metadata: self.metadata,
                query_project: self.query_project.unwrap_or(self.project),
            },
        }))
    }

    fn routes_most(&self) -> usize {
        self.routes_max.unwrap_or(match self.delivery {
            Delivery::ExactlyOnce => 6,
            Delivery::AtLeastOnce => 100,
            Delivery::InsertAll => Self::STREAM_ROUTES_MAX,
        })
    }

    fn routes_limit(&self) -> usize {
        match self.delivery {
            Delivery::ExactlyOnce => ROUTES_MAX,
            Delivery::AtLeastOnce | Delivery::InsertAll => Self::STREAM_ROUTES_MAX,
        }
    }

    fn changes_problem(&self) -> Option<&'static str> {
        if self.delivery != Delivery::AtLeastOnce {
            return Some(
                "needs delivery(Delivery::AtLeastOnce): BigQuery takes changes by the default stream only",
            );
        }
        let tables = std::iter::once(&self.tables).chain(self.tables_of.iter().map(|(_, options)| options));
        if tables.into_iter().any(|options| options.key().is_empty()) {
            return Some("needs a primary key for every table: TableOptions::primary_key() names it");
        }
        for columns in self.general.iter().chain(self.of.iter().map(|(_, columns)| columns)) {
            // A deletion has no value, and so brings no schema.
            let Columns::Declared(schema) = columns else {
                return Some("needs columns that are declared: schema() or schema_of()");
            };
            if schema.fields().len() + self.metadata.fields().len() > Changes::COLUMNS_MAX {
                return Some("takes tables of at most 2,000 columns");
            }
        }
        None
    }

    fn problems(&self) -> Vec<BigQueryConfigError> {
        let mut problems = Vec::new();
        if self.general.is_none() && self.of.is_empty() {
            problems.push(BigQueryConfigError::NoSchema);
        }
        let ours = TableSchema::new(self.metadata.fields());
        problems.extend(ours.problems().into_iter().map(BigQueryConfigError::Schema));
        let ranges = [
            ("append_bytes", self.append_bytes, 1, Self::APPEND_BYTES_MAX),
            ("in_flight", self.in_flight, 1, IN_FLIGHT_MAX),
            ("routes_max", self.routes_most(), 1, self.routes_limit()),
            ("connections", self.connections, 1, Self::CONNECTIONS_MAX),
            ("expected_lanes", self.expected.lanes, 1, usize::MAX),
            ("expected_tables", self.expected.tables, 1, self.routes_most().max(1)),
            ("create_quota", self.create_quota, 1, usize::MAX),
        ];
        for (option, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                problems.push(BigQueryConfigError::Range { option, value, min, max });
            }
        }
        if let Some(problem) = self.changes.as_ref().and_then(|_| self.changes_problem()) {
            problems.push(BigQueryConfigError::Changes { problem });
        }
        debug_assert!(name_max(ROUTES_MAX) > 0);
        for (option, timeout) in
            [("call_timeout", self.call_timeout), ("append_timeout", self.append_timeout)]
        {
            if timeout.is_zero() {
                problems.push(BigQueryConfigError::Range { option, value: 0, min: 1, max: usize::MAX });
            }
        }
        for (option, url) in [("rest_endpoint", &self.rest_endpoint), ("grpc_endpoint", &self.grpc_endpoint)]
        {
            let problem = match reqwest::Url::parse(url) {
                Err(_) => "is no URL",
                Ok(url) if url.scheme() == "https" => continue,
                Ok(url) if url.scheme() == "http" && self.plaintext => continue,
                Ok(url) if url.scheme() == "http" => {
                    "is not encrypted; allow_plaintext(true) says that this is meant"
                }
                Ok(_) => "is neither https nor http",
            };
            problems.push(BigQueryConfigError::Endpoint { option, problem });
        }
        problems
    }
}

#[cfg(test)]
mod tests;
