//! Parquet files.

mod cells;
mod dictionary;
mod file;
mod schema;

use std::sync::Arc;

use aqueduct_core::{Fingerprint, Schema, StructuredValue};
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};

use super::{BuildError, Encoder, FileKind, FileOutline, Format};
use crate::columns::{ColumnOptions, Columnar, Plan, StructuredRows};

use file::ParquetFile;
use schema::{FileSchema, reshape};

/// Parquet: `.snappy.parquet`, as Confluent's `ParquetFormat` writes it.
///
/// # Schemas
/// - Values that come with a schema are written with it. What becomes of several versions is
///   [`Compatibility`](aqueduct_core::Compatibility)'s to say; without it, each has its own files.
/// - Values without one, like plain JSON, get the schema that their segment shows: see
///   [`infer_schema`](Self::infer_schema).
/// - [`with_schema`](Self::with_schema) declares one. Then what does not fit is a poison.
///
/// Segments are inferred each on its own, so files of one topic may differ in which columns they have, and in the kind of a
/// column whose values do not keep to one. Readers that merge schemas by name take that. Where it matters, declare the schema.
///
/// # Columns
///
/// | kind | column |
/// | --- | --- |
/// | `int8`, `int16`, `int32`, `int64`, `uint32`, `uint64` | INT32 or INT64 with the width's annotation |
/// | `float32`, `float64`, `bool` | FLOAT, DOUBLE, BOOLEAN |
/// | `decimal(p,s)` | DECIMAL over INT32, INT64 or fixed bytes; more than 76 digits: its text |
/// | `string`, `enum` | STRING |
/// | `bytes`, `fixed(n)`, `uuid` | `BYTE_ARRAY`, `FIXED_LEN_BYTE_ARRAY`, the same with UUID |
/// | `date`, `time`, `timestamp` | DATE, TIME, TIMESTAMP in the unit they have; local timestamps are not adjusted to UTC |
/// | `duration` | a struct of `months`, `days`, `millis` (`uint32`): no reader agrees with another on INTERVAL |
/// | `json` | JSON |
/// | `list`, `map`, `struct` | LIST of three levels, MAP, a group |
/// | `union` | a group with a nullable member for each branch, of which one is set; named like the branch, or its kind |
/// | `null`, a struct without fields | STRING that is always null; JSON: groups cannot be empty |
///
/// A value that is no struct is the one column `value`.
///
/// # Files
/// One file is one object. Row groups end where their memory does, so a file costs the memory of one row group whatever its
/// size. Statistics and page indexes are written, and dictionaries of columns whose values repeat, as far as the first rows of a
/// file tell. The same rows give the same file, byte for byte, as long as the version of the writer is the same; it is in the
/// file's `created_by`.
///
/// ```
/// use aqueduct_files::{Parquet, ParquetCompression};
///
/// let format = Parquet::new().with_compression(ParquetCompression::Zstd { level: 3 });
/// # drop(format);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Parquet {
    compression: ParquetCompression,
    columns: ColumnOptions,
    row_group_bytes: Option<usize>,
    row_group_rows: Option<usize>,
}

/// How the pages of a Parquet file are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParquetCompression {
    /// Not at all: `.parquet`.
    None,
    /// `.snappy.parquet`
    #[default]
    Snappy,
    /// Level 6: `.gz.parquet`
    Gzip,
    /// `.zstd.parquet`
    Zstd {
        /// From 1 to 22; what is outside is taken for the nearest.
        level: i32,
    },
}

impl Parquet {
    /// Bytes of a row group if nothing else is said, and if there is memory for them.
    pub const ROW_GROUP_BYTES: usize = 64 << 20;
    /// Rows of a row group if nothing else is said.
    pub const ROW_GROUP_ROWS: usize = 1 << 20;

    /// Snappy, every schema in files of its own, and schemas inferred where there are none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how pages are compressed.
    #[must_use]
    pub fn with_compression(mut self, compression: ParquetCompression) -> Self {
        self.compression = compression;
        self
    }

    crate::columns::column_options!();

    /// Sets the most bytes of a row group, encoded and compressed. They are in memory until the row group ends, so a smaller
    /// memory budget makes smaller ones.
    #[must_use]
    pub fn with_row_group_bytes(mut self, bytes: usize) -> Self {
        self.row_group_bytes = Some(bytes.max(1));
        self
    }

    /// Sets the most rows of a row group.
    #[must_use]
    pub fn with_row_group_rows(mut self, rows: usize) -> Self {
        self.row_group_rows = Some(rows.max(1));
        self
    }

    fn properties(&self) -> WriterProperties {
        let compression = match self.compression {
            ParquetCompression::None => Compression::UNCOMPRESSED,
            ParquetCompression::Snappy => Compression::SNAPPY,
            ParquetCompression::Gzip => Compression::GZIP(GzipLevel::default()),
            ParquetCompression::Zstd { level } => {
                Compression::ZSTD(ZstdLevel::try_new(level.clamp(1, 22)).unwrap_or_default())
            }
        };
        WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(compression)
            .set_created_by(concat!("aqueduct version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_max_row_group_row_count(None)
            .build()
    }
}

/// The most of a page, in bytes.
const PAGE_BYTES: usize = 256 << 10;

impl FileKind for Parquet {
    fn extension(&self) -> &'static str {
        match self.compression {
            ParquetCompression::None => ".parquet",
            ParquetCompression::Snappy => ".snappy.parquet",
            ParquetCompression::Gzip => ".gz.parquet",
            ParquetCompression::Zstd { .. } => ".zstd.parquet",
        }
    }

    fn content_type(&self) -> &'static str {
        "application/vnd.apache.parquet"
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        // How pages are compressed and row groups are cut is no part of it: a repeated publication knows its objects by
        // their rows. The codec is in the name.
        parts.put("format", "parquet/1");
        parts.put("format", FileKind::extension(self));
        self.columns.fingerprint(parts);
    }

    fn is_compressed(&self) -> bool {
        true
    }
}

impl<T: StructuredValue> Format<T> for Parquet {
    fn encoder(&self) -> Encoder<T> {
        Encoder::built(StructuredRows::new(self, &self.columns))
    }
}

impl Columnar for Parquet {
    type Shape = Arc<FileSchema>;
    type Writer = ParquetFile;

    fn plan(&self, schema: &Schema) -> Plan {
        Plan::of_columns(&reshape(schema))
    }

    fn shape(&self, schema: &Arc<Schema>, plan: &Plan) -> Result<Arc<FileSchema>, BuildError> {
        let shape = FileSchema::new(schema.name(), plan, self.properties());
        shape.map(Arc::new).map_err(BuildError::new)
    }

    fn open(
        &self,
        shape: &Arc<FileSchema>,
        plan: &Plan,
        file: &FileOutline,
    ) -> Result<ParquetFile, BuildError> {
        let rows = self.row_group_rows.unwrap_or(Self::ROW_GROUP_ROWS);
        Ok(ParquetFile::new(shape, plan, self.row_group(file), rows, file))
    }

    fn workspace(&self, shape: &Arc<FileSchema>, plan: &Plan, file: &FileOutline) -> usize {
        file::workspace(shape.leaves(), plan, file, self.row_group(file))
    }
}

impl Parquet {
    /// The memory of a row group, in bytes.
    fn row_group(&self, file: &FileOutline) -> usize {
        // Once while it grows, and once as output.
        let share = (file.memory / 2).max(1 << 20);
        self.row_group_bytes.unwrap_or(Self::ROW_GROUP_BYTES).min(share)
    }
}

#[cfg(test)]
mod tests;
