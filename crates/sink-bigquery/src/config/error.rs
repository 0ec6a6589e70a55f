//! What can be wrong with a configuration.

use std::fmt;

use crate::name::TableNameError;
use crate::schema::SchemaProblem;
use crate::table::TableOptionsProblem;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BigQueryConfigError {
    /// A name of a project, dataset or table.
    #[error(transparent)]
    Name(#[from] TableNameError),
    /// A topic's table or a pattern of topics.
    #[error("{option} {text:?} {problem}")]
    Topics {
        /// The option.
        option: &'static str,
        /// The topic or the pattern.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// No table has columns.
    #[error("no table has columns: call schema(), schema_of(), columns() or columns_of()")]
    NoSchema,
    /// Columns that cannot be.
    #[error(transparent)]
    Schema(#[from] SchemaProblem),
    /// One table has its columns from two places.
    #[error("schema_of() or columns_of() is called twice for table {table}")]
    SchemaTwice {
        /// The table.
        table: String,
    },
    /// One table has two sets of options.
    #[error("tables_of() is called twice for table {table}")]
    TablesTwice {
        /// The table.
        table: String,
    },
    /// A metadata column.
    #[error("metadata column {name:?} {problem}; name it otherwise with metadata_columns()")]
    MetadataColumn {
        /// The column.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// How tables are made.
    #[error(transparent)]
    Tables(#[from] TableOptionsProblem),
    /// Changes that cannot be written like this.
    #[error("changes() {problem}")]
    Changes {
        /// What is wrong.
        problem: &'static str,
    },
    /// A number outside of its range.
    #[error("{option} is {value}; it must be {min} to {max}")]
    Range {
        /// The option.
        option: &'static str,
        /// Its value.
        value: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// An endpoint.
    #[error("{option} {problem}")]
    Endpoint {
        /// The option.
        option: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// Credentials that cannot be read.
    #[error("{problem}")]
    Credentials {
        /// What is wrong.
        problem: String,
    },
    /// No client can be made.
    #[error("no client can be made: {problem}")]
    Client {
        /// What is wrong.
        problem: String,
    },
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BigQueryConfigErrors(pub Vec<BigQueryConfigError>);

impl fmt::Display for BigQueryConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the BigQuery sink cannot be built:")?;
        for error in &self.0 {
            write!(f, "\n- {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BigQueryConfigErrors {}
