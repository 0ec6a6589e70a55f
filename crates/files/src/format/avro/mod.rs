//! Avro object container files.

mod declared;
mod file;
mod generated;

use std::sync::Arc;

use aqueduct_core::{Fingerprint, Schema, StructuredValue};

use super::{BuildError, Encoder, FileKind, FileOutline, Format};
use crate::columns::{ColumnOptions, Columnar, Plan, StructuredRows};

use file::{AvroFile, FileSchema};

/// Avro object container files: `.avro`, as Confluent's `AvroFormat` writes them.
///
/// # Schemas
/// Which rows share a file is decided as for Parquet: by the schema they come with and [`Compatibility`](aqueduct_core::Compatibility), by what their segment
/// shows where they have none, or by a declared schema.
///
/// A file declares the text its schema was read from, word for word, if there is one: names, documentation, defaults and
/// logical types are the producer's. Otherwise a text is made:
///
/// | kind | Avro |
/// | --- | --- |
/// | `int8`, `int16`, `int32`; `int64`, `uint32` | `int`; `long` |
/// | `uint64`, `decimal(p,s)` | `bytes` with `decimal` |
/// | `string`, `json`; decimals of more than 76 digits | `string` |
/// | `uuid`, `date`, `time`, `timestamp` | the logical types of Avro 1.12; `time-nanos` is a `long` to readers |
/// | `duration`, `fixed(n)` | `fixed`, with `duration` |
/// | `enum` | `enum`, or `string` if a symbol is no Avro name |
/// | `union` | a union, or JSON text if Avro could not tell two of its branches apart |
/// | nullable | a union with null, null first, which is its default |
///
/// Names that are none in Avro have `_` for each character that may not be there, and a number at the end where that makes two
/// the same. A text that comes back to itself is made anew too, with JSON text where it does.
///
/// # Files
/// Blocks have about 64 KiB before compression. The marker between blocks is a hash of the schema and of the first block, so the
/// same rows give the same file.
///
/// ```
/// use aqueduct_files::{AvroCompression, AvroFiles};
///
/// let format = AvroFiles::new().with_compression(AvroCompression::Snappy);
/// # drop(format);
/// ```
#[derive(Clone, Debug, Default)]
pub struct AvroFiles {
    compression: AvroCompression,
    columns: ColumnOptions,
}

/// How the blocks of an Avro file are compressed. The file says it; its name does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AvroCompression {
    /// Not at all.
    #[default]
    None,
    /// Level 6.
    Deflate,
    /// With a checksum of each block.
    Snappy,
    /// The codec `zstandard`.
    Zstd {
        /// From 1 to 22; what is outside is taken for the nearest.
        level: i32,
    },
}

impl AvroFiles {
    /// Not compressed, every schema in files of its own, and schemas inferred where there are none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how blocks are compressed.
    #[must_use]
    pub fn with_compression(mut self, compression: AvroCompression) -> Self {
        self.compression = compression;
        self
    }

    crate::columns::column_options!();
}

impl FileKind for AvroFiles {
    fn extension(&self) -> &'static str {
        ".avro"
    }

    fn content_type(&self) -> &'static str {
        "application/vnd.apache.avro"
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("format", "avro/1");
        self.columns.fingerprint(parts);
    }

    fn is_compressed(&self) -> bool {
        true
    }
}

impl<T: StructuredValue> Format<T> for AvroFiles {
    fn encoder(&self) -> Encoder<T> {
        Encoder::built(StructuredRows::new(self, &self.columns))
    }
}

impl Columnar for AvroFiles {
    type Shape = Arc<FileSchema>;
    type Writer = AvroFile;

    fn plan(&self, schema: &Schema) -> Plan {
        Plan::new(&generated::reshape(schema))
    }

    fn shape(&self, schema: &Arc<Schema>, plan: &Plan) -> Result<Arc<FileSchema>, BuildError> {
        let declared = schema.avro().and_then(|text| Some((text.to_string(), declared::pair(plan, text)?)));
        let (text, layout) = declared.unwrap_or_else(|| generated::describe(schema, plan));
        Ok(Arc::new(FileSchema { text, layout, compression: self.compression }))
    }

    fn open(
        &self,
        shape: &Arc<FileSchema>,
        _plan: &Plan,
        _file: &FileOutline,
    ) -> Result<AvroFile, BuildError> {
        AvroFile::new(shape).map_err(BuildError::new)
    }

    fn workspace(&self, shape: &Arc<FileSchema>, plan: &Plan, file: &FileOutline) -> usize {
        file::workspace(shape, plan, file)
    }
}

/// How a node of the plan is written.
#[derive(Clone, Debug, PartialEq)]
struct Layout {
    /// The place in Avro's union of null, if the node may be null.
    null: Option<u32>,
    /// The place of the value in Avro's union; none if there is no union.
    value: Option<u32>,
    /// Of a union: the place of each branch.
    branches: Vec<u32>,
    form: Form,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Plain,
    /// A decimal in so many bytes, or in as many as it needs.
    Decimal(Option<usize>),
    /// A UUID as text.
    UuidText,
    /// Bytes of a length that the schema knows.
    Fixed,
    /// By symbol: the place in Avro's enum.
    Symbols(Vec<u32>),
    /// Blocks of elements or entries.
    Blocks,
}

#[cfg(test)]
mod tests;
