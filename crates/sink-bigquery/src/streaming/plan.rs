//! Rows of one table in a segment: how they are encoded, and what a connection has to know of them.

use std::sync::Arc;

use aqueduct_core::{Envelope, Poison, StructuredValue};
use prost::Message as _;
use prost_types::DescriptorProto;

use crate::changes::ChangePlan;
use crate::columns::{TableEncoder, TableLayout};
use crate::name::TableName;
use crate::row::{Identity, Workspace};
use crate::schema::{Field, descriptor};
use crate::writer::check_length;

/// Where rows of one type go.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) table: TableName,
    /// What the table needs.
    pub(super) columns: Vec<Field>,
    /// The protobuf type of the rows.
    pub(super) descriptor: DescriptorProto,
    /// Tells targets apart whose rows cannot share a connection.
    pub(super) identity: Arc<[u8]>,
}

impl Target {
    fn new(table: TableName, columns: Vec<Field>, descriptor: DescriptorProto) -> Self {
        let identity = descriptor.encode_to_vec().into();
        Self { table, columns, descriptor, identity }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) table: TableName,
    rows: TableEncoder,
    changes: Option<Arc<ChangePlan>>,
    /// That of the rows so far, with the number of their schemas.
    target: Option<(usize, Arc<Target>)>,
}

impl Encoder {
    pub(super) fn new(table: TableName, layout: TableLayout, changes: Option<Arc<ChangePlan>>) -> Self {
        Self { table, rows: TableEncoder::new(layout), changes, target: None }
    }

    /// Where the rows encoded so far go, those of every schema among them.
    pub(super) fn target(&mut self) -> Arc<Target> {
        let schemas = self.rows.schemas();
        if let Some((of, target)) = &self.target
            && *of == schemas
        {
            return Arc::clone(target);
        }
        let (columns, descriptor) = if let Some(changes) = &self.changes {
            (changes.columns().to_vec(), changes.descriptor().clone())
        } else {
            let columns = self.rows.columns();
            let descriptor = descriptor("Row", &columns);
            (columns, descriptor)
        };
        let target = Arc::new(Target::new(self.table.clone(), columns, descriptor));
        self.target = Some((schemas, Arc::clone(&target)));
        target
    }

    /// Appends a record's row to `out`. On an error `out` is as before.
    pub(super) fn encode<T: StructuredValue>(
        &mut self,
        Envelope { record, value, .. }: &Envelope<'_, T>,
        opened_at_ms: i64,
        workspace: &mut Workspace,
        out: &mut Vec<u8>,
    ) -> Result<(), Poison> {
        let start = out.len();
        let identity = Identity::of(record, opened_at_ms);
        match &self.changes {
            Some(changes) if record.value().is_none() => {
                changes.encode_delete(value, identity, workspace, out)?;
            }
            changes => {
                self.rows.plan(value)?.encode(value, identity, workspace, out)?;
                if let Some(changes) = changes {
                    changes.put_upsert(record.offset().get(), out);
                }
            }
        }
        check_length(out.len() - start).inspect_err(|_| out.truncate(start))?;
        self.rows.encoded();
        Ok(())
    }
}
