//! How the rows of one table are encoded and described.

use std::sync::Arc;

use aqueduct_core::{Envelope, Poison, PoisonReason, StructuredValue};
use prost_types::DescriptorProto;

use crate::changes::ChangePlan;
use crate::name::TableName;
use crate::row::{Identity, RowPlan, Workspace};
use crate::writer::ROW_MAX;

/// Where rows of one kind go.
#[derive(Debug)]
pub(crate) struct Target {
    pub(super) table: TableName,
    rows: Arc<RowPlan>,
    changes: Option<Arc<ChangePlan>>,
}

impl Target {
    pub(super) fn new(table: TableName, rows: Arc<RowPlan>, changes: Option<Arc<ChangePlan>>) -> Self {
        Self { table, rows, changes }
    }

    /// The protobuf type of the rows.
    pub(super) fn descriptor(&self) -> &DescriptorProto {
        self.changes.as_ref().map_or_else(|| self.rows.descriptor(), |changes| changes.descriptor())
    }

    /// Tells targets apart whose rows cannot share a connection: each has one type of rows.
    pub(super) fn identity(&self) -> (TableName, usize) {
        (self.table.clone(), Arc::as_ptr(&self.rows).addr())
    }

    /// Appends a record's row to `out`. On an error `out` is as before.
    pub(super) fn encode<T: StructuredValue>(
        &self,
        Envelope { record, value, .. }: &Envelope<'_, T>,
        workspace: &mut Workspace,
        out: &mut Vec<u8>,
    ) -> Result<(), Poison> {
        let start = out.len();
        let (lane, offset) = (record.lane(), record.offset().get());
        let identity = Identity { topic: lane.topic(), partition: lane.partition(), offset };
        match &self.changes {
            None => self.rows.encode(value, identity, workspace, out)?,
            Some(changes) if record.value().is_none() => {
                changes.encode_delete(value, identity, workspace, out)?;
            }
            Some(changes) => {
                self.rows.encode(value, identity, workspace, out)?;
                changes.put_upsert(offset, out);
            }
        }
        let length = out.len() - start;
        if length > ROW_MAX {
            out.truncate(start);
            let detail = format!("a row of {length} bytes, {ROW_MAX} are the most");
            return Err(Poison::new(PoisonReason::TooLarge, detail));
        }
        Ok(())
    }
}
