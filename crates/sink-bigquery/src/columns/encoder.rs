//! One segment's rows of one table.

use std::collections::HashMap;
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
    /// Schemas met so far.
    known: Vec<Known>,
    /// Their places by their digests.
    places: HashMap<u64, usize>,
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

/// Most schemas of one table's rows in one segment; data decides how many there are.
const SCHEMAS_MAX: usize = 1_000;

impl TableEncoder {
    pub(crate) fn new(layout: TableLayout) -> Self {
        Self { layout, known: Vec::new(), places: HashMap::new(), last: 0 }
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
                self.last = self.find(schema)?;
            }
        }
        match (&self.layout, self.known.get(self.last).map(|known| &known.plan)) {
            (TableLayout::Fixed(plan), _) | (_, Some(Ok(plan))) => Ok(plan),
            (_, Some(Err(poison))) => Err(poison.clone()),
            (_, None) => Err(Poison::new(PoisonReason::Malformed, "the value's schema is not known")),
        }
    }

    fn find(&mut self, schema: &Arc<Schema>) -> Result<usize, Poison> {
        if let Some(place) = self.places.get(&schema.digest()) {
            // Versions take turns, or the same one was read again.
            if let Some(known) = self.known.get_mut(*place)
                && !Arc::ptr_eq(&known.schema, schema)
            {
                known.schema = Arc::clone(schema);
            }
            return Ok(*place);
        }
        let TableLayout::ByValues(columns) = &self.layout else { return Ok(0) };
        let place = self.known.len();
        if place >= SCHEMAS_MAX {
            let detail = format!("the rows of one table and segment have more than {SCHEMAS_MAX} schemas");
            return Err(Poison::new(PoisonReason::TooLarge, detail));
        }
        self.known.push(Known { schema: Arc::clone(schema), plan: columns.plan(schema), used: false });
        self.places.insert(schema.digest(), place);
        Ok(place)
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
        let mut columns = columns.unwrap_or_default();
        if let TableLayout::ByValues(of) = &self.layout {
            // What values bring comes first in a new table, whichever version brought it.
            columns.sort_by_key(|field| of.is_ours(field));
        }
        columns
    }

    /// The protobuf type of all rows.
    pub(crate) fn descriptor(&self) -> DescriptorProto {
        descriptor("Row", &self.columns())
    }
}
