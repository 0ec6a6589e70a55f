//! Comma-separated values.

mod cells;

use std::sync::Arc;

use aqueduct_core::{DataType, Field, Fingerprint, Schema, StructuredValue};

use super::{BuildError, Encoder, FileKind, FileOutline, Format};
use crate::columns::{ColumnOptions, Columnar, Kind, Plan, StructuredRows};

use cells::{CsvFile, FileSchema, Style, write_cell};

/// Comma-separated values: `.csv`.
///
/// # Schemas
/// Which rows share a file, and what its columns are, is decided as for Parquet: by the schema values come with and
/// [`Compatibility`](aqueduct_core::Compatibility), by what their segment shows where they have none, or by a declared schema.
///
/// # Columns
/// - A struct is a column for each of its members, with a point between the names: `address.city`. A name that has a point of its
///   own is written as it is.
/// - Lists, maps, unions, structs without members and what has no kind in common are JSON text.
/// - Truth values and numbers are as in JSON; dates, times, timestamps, UUIDs, durations and bytes are the text that
///   [`write_json`](aqueduct_core::write_json) makes of them, without quotes.
/// - Null is an empty cell, and empty text is `""`, in quotes: readers that look can tell them apart.
///   [`with_null`](Self::with_null) sets another spelling for those that do not; text of that spelling is then in quotes. In a file of one column null is `""` too, because readers pass over empty lines.
/// - A value that is no struct is the one column `value`.
///
/// Cells are quoted only where they have to be: quotes are doubled, as RFC 4180 says.
///
/// ```
/// use aqueduct_files::Csv;
///
/// let format = Csv::new().with_delimiter(b'\t').with_null("\\N");
/// # drop(format);
/// ```
#[derive(Clone, Debug)]
pub struct Csv {
    columns: ColumnOptions,
    style: Style,
    header: bool,
}

impl Csv {
    /// A header, commas, quotes `"` and line feeds.
    pub fn new() -> Self {
        Self { columns: ColumnOptions::default(), style: Style::default(), header: true }
    }

    /// Sets what is between cells. Of a quote, a line feed or a carriage return nothing good comes; they are not taken.
    #[must_use]
    pub fn with_delimiter(mut self, delimiter: u8) -> Self {
        if !matches!(delimiter, b'"' | b'\n' | b'\r') && delimiter.is_ascii() {
            self.style.delimiter = delimiter;
        }
        self
    }

    /// Ends rows with a carriage return and a line feed.
    #[must_use]
    pub fn with_crlf(mut self) -> Self {
        self.style.crlf = true;
        self
    }

    /// Sets the spelling of null. It is written as it is, so it must hold neither delimiter nor quotes.
    #[must_use]
    pub fn with_null(mut self, spelling: impl Into<String>) -> Self {
        self.style.null = spelling.into();
        self
    }

    /// Writes no header: files of a route may then be concatenated, as far as their schema is one.
    #[must_use]
    pub fn without_header(mut self) -> Self {
        self.header = false;
        self
    }

    crate::columns::column_options!();
}

impl Default for Csv {
    fn default() -> Self {
        Self::new()
    }
}

impl FileKind for Csv {
    fn extension(&self) -> &'static str {
        ".csv"
    }

    fn content_type(&self) -> &'static str {
        "text/csv"
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        // The spelling of cells is part of it: files are as they were when they are found again.
        parts.put("format", "csv/1");
        parts.put("format", format_args!("{:?} header={}", self.style, self.header));
        self.columns.fingerprint(parts);
    }
}

impl<T: StructuredValue> Format<T> for Csv {
    fn encoder(&self) -> Encoder<T> {
        Encoder::built(StructuredRows::new(self, &self.columns))
    }
}

impl Columnar for Csv {
    type Shape = Arc<FileSchema>;
    type Writer = CsvFile;

    fn plan(&self, schema: &Schema) -> Plan {
        // Text shows no time that calendars do not.
        Plan::of_columns(&flatten(schema)).shown()
    }

    fn shape(&self, _schema: &Arc<Schema>, plan: &Plan) -> Result<Arc<FileSchema>, BuildError> {
        let mut header = Vec::new();
        if self.header {
            let names = (1..plan.nodes().len()).filter(|&id| plan.node(id).kind != Kind::Struct);
            for (index, id) in names.enumerate() {
                if index > 0 {
                    header.push(self.style.delimiter);
                }
                write_cell(plan.path(id).as_bytes(), &self.style, &mut header);
            }
            self.style.end_row(&mut header);
        }
        let kinds = plan.nodes().iter().map(|node| (node.kind, node.end)).collect();
        Ok(Arc::new(FileSchema { header, kinds, style: self.style.clone() }))
    }

    fn open(
        &self,
        shape: &Arc<FileSchema>,
        _plan: &Plan,
        _file: &FileOutline,
    ) -> Result<CsvFile, BuildError> {
        Ok(CsvFile::new(shape))
    }

    fn workspace(&self, shape: &Arc<FileSchema>, plan: &Plan, file: &FileOutline) -> usize {
        // Times and control characters are up to so many times as long as text. A cell that is absent takes no byte of its row, but
        // a delimiter and the spelling of null. A row takes ten bytes or more.
        let absent = plan.nodes().len().saturating_mul(1 + self.style.null.len());
        let text =
            |bytes: usize, rows: usize| bytes.saturating_mul(12).saturating_add(absent.saturating_mul(rows));
        let rows = (file.chunk_bytes() / 10).min(usize::try_from(file.rows).unwrap_or(usize::MAX));
        let (chunk, row) = (text(file.chunk_bytes(), rows), text(file.row_max, 1));
        // Both grow by doubling.
        shape.header.len().saturating_add(chunk).saturating_add(row).saturating_mul(2)
    }
}

/// The same schema, with JSON text for what is no cell.
fn flatten(schema: &Schema) -> Schema {
    Schema::of_root(flatten_field(schema.root()))
}

fn flatten_field(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Struct(fields) if !fields.is_empty() => {
            DataType::Struct(fields.iter().map(flatten_field).collect())
        }
        DataType::Struct(_) | DataType::List(_) | DataType::Map(_) | DataType::Union(_) => DataType::Json,
        other => other.clone(),
    };
    let mut same = Field::new(field.name(), data_type);
    if field.is_nullable() {
        same = same.nullable();
    }
    match field.default() {
        Some(default) => same.with_default(default.clone()),
        None => same,
    }
}

#[cfg(test)]
mod tests;
