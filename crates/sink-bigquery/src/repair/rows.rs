//! Records of a repair as rows of their tables.

use std::sync::Arc;

use aqueduct_core::{Poison, PoisonReason, Rejected, RepairBatch, RepairRow, StructuredValue};

use crate::error::BigQueryError;
use crate::name::TableName;
use crate::row::{Identity, RowPlan, Workspace};
use crate::sink::Parts;
use crate::writer::ROW_MAX;

/// The rows of one table.
pub(super) struct TableRows {
    pub(super) table: TableName,
    pub(super) plan: Arc<RowPlan>,
    /// With their offsets, ascending.
    pub(super) rows: Vec<(i64, Vec<u8>)>,
}

/// Encodes what can be rows, as the sink would have.
pub(super) fn encode<T: StructuredValue + Send + 'static>(
    parts: &Parts,
    batch: RepairBatch<'_, T>,
) -> Result<(Vec<TableRows>, Vec<Rejected>), BigQueryError> {
    let default = parts.destinations.of_topic(batch.lane.topic())?;
    let (mut tables, mut refused) = (Vec::<TableRows>::new(), Vec::new());
    let mut workspace = Workspace::default();
    for RepairRow { record, path, value } in batch.rows {
        let offset = record.offset();
        let identity = Identity {
            topic: batch.lane.topic(),
            partition: batch.lane.partition(),
            offset: offset.get(),
            timestamp: record.timestamp(),
            key: record.key(),
            opened_at_ms: batch.opened_at_ms,
        };
        let encoded = resolve(parts, &default, path.as_str()).and_then(|(table, plan)| {
            let mut row = Vec::new();
            plan.encode(&value, identity, &mut workspace, &mut row)?;
            match row.len() {
                length if length > ROW_MAX => {
                    let detail = format!("a row of {length} bytes, {ROW_MAX} are the most");
                    Err(Poison::new(PoisonReason::TooLarge, detail))
                }
                _ => Ok((table, plan, row)),
            }
        });
        match encoded {
            Err(poison) => refused.push(Rejected { offset, poison }),
            Ok((table, plan, row)) => {
                let row = (offset.get(), row);
                match tables.iter_mut().find(|known| known.table == table) {
                    Some(known) => known.rows.push(row),
                    None => tables.push(TableRows { table, plan, rows: vec![row] }),
                }
            }
        }
    }
    Ok((tables, refused))
}

fn resolve(parts: &Parts, default: &TableName, path: &str) -> Result<(TableName, Arc<RowPlan>), Poison> {
    let refuse = |problem: String| Poison::new(PoisonReason::InvalidRoute, problem);
    let table = match path {
        "" => default.clone(),
        path => parts
            .destinations
            .of_route(path)
            .map_err(|error| refuse(format!("the route is no table: {error}")))?,
    };
    let plan = parts.plan_of(&table);
    let plan = plan.ok_or_else(|| refuse(format!("no columns are declared for table {table}")))?;
    Ok((table, plan))
}
