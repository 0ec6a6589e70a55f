//! Where the columns of a table come from.
//!
//! ```text
//! derive.rs    the schema values come with → columns
//! merge.rs     those columns beside the ones a table has: the same, new, or not to be had
//! shared.rs    what is known of a table's columns, for all lanes: one number for a column for good
//! encoder.rs   one segment's rows of a table: a plan for each schema, one protobuf type for all
//! ```

mod derive;
mod encoder;
mod merge;
mod shared;
#[cfg(test)]
mod tests;

pub(crate) use self::encoder::TableEncoder;
pub(crate) use self::shared::{ColumnSources, Declared, Source, TableLayout};
use crate::schema::TableSchema;

/// Where the columns come from that rows of a table are written to.
///
/// ```
/// use aqueduct_sink_bigquery::{BigQuerySink, Columns, DerivedColumns, Field, FieldType, TableSchema};
///
/// let payments = TableSchema::new([Field::required("id", FieldType::Int64)]);
/// let builder = BigQuerySink::builder()
///     // Every table's, from the schemas that values come with,
///     .columns(Columns::from_values())
///     // except those of a table that somebody else makes,
///     .columns_of("legacy", Columns::Existing)
///     // and of one that is declared, which `schema_of` says shorter.
///     .columns_of("payments", payments);
/// # drop(builder);
/// ```
///
/// # Existing
/// The table is asked for its columns when a segment meets the first record of it, and again after a minute. It has to be there.
/// Each value is checked against them like against declared ones: this is how JSON without a schema gets into tables.
///
/// # From values
/// Avro, Protobuf, JSON Schema and Connect's envelope bring a schema with each value; a value without one is a letter. A table
/// that is missing is made of the first; columns that later ones add are added, unless
/// [`evolve_tables(false)`](crate::TableOptions::evolve_tables) says that they may not. A version that adds nothing costs nothing.
/// Versions may take turns: their rows go into the same stream, and what a version lacks is null.
///
/// | values have | columns |
/// | --- | --- |
/// | truth values, whole numbers | `BOOLEAN`, `INTEGER`; `NUMERIC` for those of 64 bits without sign |
/// | fractions | `FLOAT` |
/// | decimals | `NUMERIC` if 29 digits before and 9 behind the point are enough, `BIGNUMERIC` if 38 and 38 are, else `STRING` |
/// | texts, names of enums, UUIDs | `STRING` |
/// | bytes, fixed | `BYTES` |
/// | moments | `TIMESTAMP`; `DATETIME` if they have no zone. Digits behind the microsecond are cut off |
/// | days, times, durations | `DATE`, `TIME`, `INTERVAL` |
/// | structs | `RECORD`; `JSON` below the fifteenth level |
/// | lists | `REPEATED`; a null in one makes the record a letter |
/// | lists and maps in lists | a `REPEATED` `RECORD` of one field, `element`, that holds the inner one |
/// | maps | a `REPEATED` `RECORD` of `key` and `value` |
/// | unions of several kinds, values of any kind, schemas that come back to themselves | `JSON` |
/// | structs without fields, fields that are only ever null | none |
///
/// Where a table has a column already, its type stays, and takes values of another kind where none can lose anything: whole
/// numbers in a `NUMERIC`, texts in a `TIMESTAMP` if they are moments, anything in `JSON`. If it cannot, records of that schema
/// are letters that name the column. They are no reason to change or to drop it: somebody has to decide that. Where two processes
/// meet two such schemas at the same moment, and no column yet, one of them makes it and the other stops with
/// [`BigQueryError::Schema`](crate::BigQueryError::Schema) before anything of the segment is visible; started again it sees the column.
///
/// A field whose name is none for a column gets one with `_` for what is not allowed and eight digits of a hash behind it
/// (`user-id` becomes `user_id_` and so on): always the same, and never that of another field. Fields of one struct whose names
/// differ by case alone are one column to BigQuery, and their records letters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Columns {
    /// These.
    Declared(TableSchema),
    /// Those that the table has.
    Existing,
    /// Those that the schemas of values make.
    FromValues(DerivedColumns),
}

impl Columns {
    /// Those that the schemas of values make, all of them nullable.
    pub fn from_values() -> Self {
        Self::FromValues(DerivedColumns::new())
    }
}

impl From<TableSchema> for Columns {
    fn from(schema: TableSchema) -> Self {
        Self::Declared(schema)
    }
}

impl From<DerivedColumns> for Columns {
    fn from(derived: DerivedColumns) -> Self {
        Self::FromValues(derived)
    }
}

/// How schemas of values become columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct DerivedColumns {
    pub(crate) required: bool,
}

impl DerivedColumns {
    /// Every column is nullable.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether new tables have `REQUIRED` columns for fields that are never null. They have not by default: a `REQUIRED` column
    /// has to be relaxed before a version of the schema may leave its field out, and columns that are added to a table cannot be
    /// `REQUIRED` (<https://cloud.google.com/bigquery/docs/managing-table-schemas>).
    pub fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }
}
