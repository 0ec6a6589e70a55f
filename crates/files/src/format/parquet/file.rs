//! One Parquet file while it is written.

use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;

use super::cells::Batch;
use super::dictionary::{Outlook, repeating};
use super::schema::FileSchema;
use crate::columns::{CellWriter, Cells, Plan, Wide};
use crate::format::{BuildError, FileOutline};

/// A file that grows batch by batch.
pub(crate) struct ParquetFile {
    batch: Batch,
    /// There is none before the first batch, which shows what it is to do.
    writer: Option<ArrowWriter<Finished>>,
    schema: Arc<FileSchema>,
    row_group_bytes: usize,
    row_group_rows: usize,
    outlook: Outlook,
}

/// Bytes of the file that are final and not handed out yet.
#[derive(Default)]
struct Finished(Vec<u8>);

impl Write for Finished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A batch ends with the row that brings it here, in bytes: what a row group may be larger than it should.
fn batch_bytes(row_group_bytes: usize) -> usize {
    (row_group_bytes / 4).clamp(64 << 10, 1 << 20)
}

/// The most a column spends on its dictionary, in bytes; what does not fit is written plainly. Each row group begins a new one,
/// which is a waste where values do not repeat, so a small row group gets a small one.
pub(super) fn dictionary_bytes(row_group_bytes: usize, row_bytes: u64) -> usize {
    let rows = usize::try_from(row_bytes).unwrap_or(usize::MAX);
    (row_group_bytes.min(rows) / 32).clamp(16 << 10, 1 << 20)
}

impl ParquetFile {
    pub(super) fn new(
        schema: &Arc<FileSchema>,
        plan: &Plan,
        row_group_bytes: usize,
        row_group_rows: usize,
        file: &FileOutline,
    ) -> Self {
        let rows = usize::try_from(file.rows).unwrap_or(usize::MAX);
        let row_bytes = usize::try_from(file.row_bytes).unwrap_or(usize::MAX);
        let batch = Batch::new(plan, rows, row_bytes / rows.max(1), batch_bytes(row_group_bytes));
        let groups = row_bytes.div_ceil(row_group_bytes.max(1));
        let outlook = Outlook {
            rows: rows.div_ceil(groups.max(1)).min(row_group_rows),
            dictionary_bytes: dictionary_bytes(row_group_bytes, file.row_bytes),
        };
        let schema = Arc::clone(schema);
        Self { batch, writer: None, schema, row_group_bytes, row_group_rows, outlook }
    }

    /// Begins the file, whose first batch this is; `None` if it has no rows.
    fn open(&self, first: Option<&RecordBatch>) -> Result<ArrowWriter<Finished>, ParquetError> {
        let FileSchema { arrow, parquet, properties, .. } = &*self.schema;
        let mut properties = properties.clone().into_builder();
        properties = properties.set_dictionary_page_size_limit(self.outlook.dictionary_bytes);
        let repeating = first.map(|first| repeating(first, self.outlook)).unwrap_or_default();
        for (column, _) in parquet.columns().iter().zip(repeating).filter(|(_, repeats)| !repeats) {
            properties = properties.set_column_dictionary_enabled(column.path().clone(), false);
        }
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(parquet.clone());
        ArrowWriter::try_new_with_options(Finished::default(), Arc::clone(arrow), options)
    }

    fn flush_batch(&mut self) -> Result<(), BuildError> {
        if self.batch.rows() == 0 {
            return Ok(());
        }
        let mut batch = self.batch.take(&self.schema).map_err(BuildError::new)?;
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.open(Some(&batch)).map_err(BuildError::new)?,
        };
        let writer = self.writer.insert(writer);
        while batch.num_rows() > 0 {
            let room = self.row_group_rows.saturating_sub(writer.in_progress_rows()).max(1);
            let rest = batch.num_rows().saturating_sub(room);
            let after = batch.slice(batch.num_rows() - rest, rest);
            let now = if rest == 0 { batch } else { batch.slice(0, room) };
            writer.write(&now).map_err(BuildError::new)?;
            batch = after;
            if writer.in_progress_rows() >= self.row_group_rows
                || writer.memory_size() >= self.row_group_bytes
            {
                writer.flush().map_err(BuildError::new)?;
            }
        }
        Ok(())
    }

    fn hand_out(&mut self, out: &mut Vec<u8>) {
        let Some(writer) = &mut self.writer else { return };
        let finished = &mut writer.inner_mut().0;
        if out.is_empty() && out.capacity() < finished.len() {
            std::mem::swap(out, finished);
        } else {
            out.append(finished);
        }
    }
}

impl CellWriter for ParquetFile {
    fn end_row(&mut self, _out: &mut Vec<u8>) -> Result<(), BuildError> {
        self.batch.end_row();
        if self.batch.weight() >= batch_bytes(self.row_group_bytes) { self.flush_batch() } else { Ok(()) }
    }

    fn end_chunk(&mut self, out: &mut Vec<u8>) -> Result<(), BuildError> {
        self.flush_batch()?;
        self.hand_out(out);
        Ok(())
    }

    fn finish(mut self, out: &mut Vec<u8>) -> Result<(), BuildError> {
        self.flush_batch()?;
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.open(None).map_err(BuildError::new)?,
        };
        let Finished(rest) = writer.into_inner().map_err(BuildError::new)?;
        out.extend_from_slice(&rest);
        Ok(())
    }
}

/// The most memory a file takes, in bytes.
pub(super) fn workspace(leaves: usize, plan: &Plan, file: &FileOutline, row_group_bytes: usize) -> usize {
    let rows = usize::try_from(file.row_bytes).unwrap_or(usize::MAX);
    // What a small file can hold at all: a value may need more in memory than on tape.
    let group =
        row_group_bytes.min(rows.saturating_mul(3).saturating_add(leaves.saturating_mul(COLUMN_BYTES)));
    let groups = rows / row_group_bytes.max(1) + 1;
    let metadata = groups.saturating_mul(leaves).saturating_mul(COLUMN_METADATA_BYTES);
    let batch = batch_bytes(row_group_bytes)
        .min(rows.saturating_mul(4))
        .saturating_add(plan.largest_row(file.row_max));
    // The row group while it grows and as output, and the page of each column that is being compressed.
    group
        .saturating_mul(2)
        .saturating_add(batch.saturating_mul(2))
        .saturating_add(metadata)
        .saturating_add(leaves.saturating_mul(COLUMN_BYTES))
}

/// A column's writer with nothing in it.
const COLUMN_BYTES: usize = 12 << 10;
/// What the footer says of a column of a row group.
const COLUMN_METADATA_BYTES: usize = 1 << 10;

macro_rules! forward_cells {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => { $(
        #[inline]
        fn $name(&mut self, node: usize, $($argument: $kind),*) {
            self.batch.$name(node, $($argument),*);
        }
    )* };
}

impl Cells for ParquetFile {
    forward_cells! {
        null();
        boolean(value: bool);
        integer(value: i64);
        unsigned(value: u64);
        float(value: f32);
        double(value: f64);
        decimal(value: Wide);
        text(value: &[u8]);
        symbol(index: u32, symbol: &[u8]);
        bytes(value: &[u8]);
        duration(months: u32, days: u32, millis: u32);
        begin_struct();
        begin_list(count: usize);
        begin_map(count: usize);
        key(key: &[u8]);
        branch(place: usize);
    }
}
