//! One segment's rows of one table.

use std::sync::Arc;

use aqueduct_core::{Poison, PoisonReason, Schema, StructuredValue};
use prost_types::DescriptorProto;

use super::merge::{stored, unite};
use super::shared::TableLayout;
use crate::row::RowPlan;
use crate::schema::{Field, descriptor};

/// Which plan encodes a value, and what all plans used so far come to.
///
/// Rows of several schemas go into one stream under one protobuf type, the union of their columns: a column has the same number in
/// all of them. The type could be changed on a connection instead, as the comment of `AppendRowsRequest.ProtoData.writer_schema`
/// says, but versions that take turns would then need a request each.
#[derive(Debug)]
pub(crate) struct TableEncoder {
    layout: TableLayout,
    /// Schemas met so far. Few, so they are looked through.
    known: Vec<Known>,
    /// That of the value before.
    last: usize,
}

#[derive(Debug)]
struct Known {
    schema: Arc<Schema>,
    /// Or why no value of it is a row.
    plan: Result<Arc<RowPlan>, Poison>,
    /// There are rows of it.
    used: bool,
}

impl TableEncoder {
    pub(crate) fn new(layout: TableLayout) -> Self {
        Self { layout, known: Vec::new(), last: 0 }
    }

    /// How `value` is encoded. Compiled at the first value of a schema.
    pub(crate) fn plan<T: StructuredValue + ?Sized>(&mut self, value: &T) -> Result<&RowPlan, Poison> {
        if matches!(self.layout, TableLayout::ByValues(_)) {
            let Some(schema) = value.schema() else {
                let problem = "the value has no schema to take columns from; declare them, or take those of the table \
                               (Columns::Existing)";
                return Err(Poison::new(PoisonReason::Malformed, problem));
            };
            if self.known.get(self.last).is_none_or(|known| !Arc::ptr_eq(&known.schema, schema)) {
                self.last = self.find(schema);
            }
        }
        match (&self.layout, self.known.get(self.last).map(|known| &known.plan)) {
            (TableLayout::Fixed(plan), _) | (_, Some(Ok(plan))) => Ok(plan),
            (_, Some(Err(poison))) => Err(poison.clone()),
            (_, None) => Err(Poison::new(PoisonReason::Malformed, "the value's schema is not known")),
        }
    }

    fn find(&mut self, schema: &Arc<Schema>) -> usize {
        if let Some(place) = self.known.iter().position(|known| Arc::ptr_eq(&known.schema, schema)) {
            return place;
        }
        // The same one, read again.
        if let Some(place) = self.known.iter().position(|known| known.schema.digest() == schema.digest()) {
            if let Some(known) = self.known.get_mut(place) {
                known.schema = Arc::clone(schema);
            }
            return place;
        }
        let TableLayout::ByValues(columns) = &self.layout else { return 0 };
        self.known.push(Known { schema: Arc::clone(schema), plan: columns.plan(schema), used: false });
        self.known.len() - 1
    }

    /// The value that was asked about last has become a row.
    pub(crate) fn encoded(&mut self) {
        if let Some(known) = self.known.get_mut(self.last) {
            known.used = true;
        }
    }

    /// How many schemas have rows: as long as that stays, so do [`columns`](Self::columns).
    pub(crate) fn schemas(&self) -> usize {
        self.known.iter().filter(|known| known.used).count()
    }

    /// The columns of all rows, ours included: what the table needs.
    pub(crate) fn columns(&self) -> Vec<Field> {
        let mut columns: Option<Vec<Field>> = None;
        let used = self.known.iter().filter(|known| known.used);
        let plans = used.filter_map(|known| known.plan.as_ref().ok());
        let fixed = match &self.layout {
            TableLayout::Fixed(plan) => Some(plan),
            TableLayout::ByValues(_) => None,
        };
        for plan in fixed.into_iter().chain(plans) {
            let others = stored(plan.columns());
            match &mut columns {
                None => columns = Some(others),
                Some(columns) => unite(columns, &others),
            }
        }
        columns.unwrap_or_default()
    }

    /// The protobuf type of all rows.
    pub(crate) fn descriptor(&self) -> DescriptorProto {
        descriptor("Row", &self.columns())
    }
}
