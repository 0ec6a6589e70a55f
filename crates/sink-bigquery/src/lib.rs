//! The BigQuery sink: rows in BigQuery tables, exactly once, through pending streams of the Storage Write interface; or at least
//! once, through default streams, also as [changes](Changes) of rows. See [`Delivery`].
//!
//! [`BigQuerySink::builder`] configures it. [`Columns`] says where the columns of tables come from: they are declared, those of a
//! table that exists, or made of the schemas that values come with. Values of any converter that gives
//! [`StructuredValue`](aqueduct_core::StructuredValue)s are written to them.
//!
//! [`BigQueryError`] lists what can go wrong, what the pipeline does about it and what you do.

pub use changes::Changes;
pub use columns::{Columns, DerivedColumns};
pub use completeness::{
    Completeness, CompletenessReport, CompletenessTotal, DueRecords, DuplicatedOffset, LaneCompleteness,
    Share,
};
pub use config::{BigQueryConfigError, BigQueryConfigErrors, BigQuerySinkBuilder};
pub use credentials::{Credentials, Impersonation};
pub use delivery::Delivery;
pub use destination::{ByTable, ByTableError, ByTableFn, TableRoute, TopicNames, by_table_fn};
pub use error::{Answer, At, BigQueryError, StreamState};
pub use key_columns::KeyColumns;
pub use name::{TableName, TableNameError};
pub use repair::BigQueryRepairs;
pub use row::{KeyAs, MetadataColumns, UnknownFields};
pub use schema::{Field, FieldType, Mode, RangeOf, SchemaJsonError, SchemaProblem, TableSchema};
pub use sink::BigQuerySink;
pub use streaming::metrics_reference;
pub use table::{Granularity, Partitioning, TableOptions, TableOptionsProblem};

mod changes;
mod columns;
mod completeness;
mod config;
mod credentials;
mod delivery;
mod destination;
mod error;
mod insert_all;
mod key_columns;
mod name;
mod query;
mod quota;
mod repair;
mod retry;
mod route_tables;
mod row;
mod schema;
mod sink;
mod streaming;
mod table;
#[cfg(feature = "testkit")]
pub mod testkit;
mod transport;
mod writer;
