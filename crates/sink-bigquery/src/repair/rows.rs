//! Records of a repair as rows of their tables.

use std::collections::{BTreeSet, HashMap};

use aqueduct_core::{Poison, Rejected, RepairBatch, RepairRow, StructuredValue};

use crate::columns::{TableEncoder, TableLayout};
use crate::error::BigQueryError;
use crate::name::TableName;
use crate::retry::retried;
use crate::route_tables::no_columns;
use crate::row::{Identity, Workspace};
use crate::sink::Parts;
use crate::writer::check_length;

/// The rows of one table.
pub(super) struct TableRows {
    pub(super) table: TableName,
    pub(super) encoder: TableEncoder,
    /// With their offsets, ascending.
    pub(super) rows: Vec<(i64, Vec<u8>)>,
}

/// Encodes what can be rows, as the sink would have.
pub(super) async fn encode<T: StructuredValue + Send + 'static>(
    parts: &Parts,
    batch: RepairBatch<'_, T>,
) -> Result<(Vec<TableRows>, Vec<Rejected>), BigQueryError> {
    let default = parts.destinations.of_topic(batch.lane.topic())?;
    let routes: BTreeSet<String> = batch.rows.iter().map(|row| row.path.as_str().to_owned()).collect();
    let mut layouts = HashMap::new();
    for table in routes.iter().filter_map(|route| parts.destinations.of_record(route, &default).ok()) {
        let layout = match parts.columns.declared(&table) {
            Some(layout) => Some(layout),
            None => retried(|| async { parts.columns.ask(&parts.tables, &table).await }).await?,
        };
        if let Some(layout) = layout {
            layouts.insert(table, layout);
        }
    }
    Ok(encode_rows(parts, batch, &default, &layouts))
}

fn encode_rows<T: StructuredValue + Send + 'static>(
    parts: &Parts,
    batch: RepairBatch<'_, T>,
    default: &TableName,
    layouts: &HashMap<TableName, TableLayout>,
) -> (Vec<TableRows>, Vec<Rejected>) {
    let (mut tables, mut refused) = (Vec::<TableRows>::new(), Vec::new());
    let mut workspace = Workspace::default();
    for RepairRow { record, path, value } in batch.rows {
        let offset = record.offset();
        let identity = Identity::of(&record, batch.opened_at_ms);
        let table = parts.destinations.of_record(path.as_str(), default);
        let place = table.and_then(|table| place(&mut tables, table, layouts));
        let encoded = place.and_then(|place| {
            let Some(rows) = tables.get_mut(place) else { return Ok(()) };
            let mut row = Vec::new();
            rows.encoder.plan(&value)?.encode(&value, identity, &mut workspace, &mut row)?;
            check_length(row.len())?;
            rows.encoder.encoded();
            rows.rows.push((offset.get(), row));
            Ok(())
        });
        if let Err(poison) = encoded {
            refused.push(Rejected { offset, poison });
        }
    }
    tables.retain(|table| !table.rows.is_empty());
    (tables, refused)
}

/// Where the table's rows are; they may be its first.
fn place(
    tables: &mut Vec<TableRows>,
    table: TableName,
    layouts: &HashMap<TableName, TableLayout>,
) -> Result<usize, Poison> {
    if let Some(place) = tables.iter().position(|known| known.table == table) {
        return Ok(place);
    }
    let layout = layouts.get(&table).ok_or_else(|| no_columns(&table))?;
    tables.push(TableRows { encoder: TableEncoder::new(layout.clone()), table, rows: Vec::new() });
    Ok(tables.len() - 1)
}
