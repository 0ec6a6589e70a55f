//! The tables of one segment, by the numbers of its routes: what the writers of all deliveries have in common.

use std::collections::HashMap;

use aqueduct_core::{Poison, PoisonReason, RouteId, StageError};

use crate::columns::{ColumnSources, TableLayout};
use crate::name::TableName;
use crate::sink::Parts;

/// What a writer keeps of one table.
pub(crate) trait OfTable {
    /// Which one it is.
    fn table(&self) -> &TableName;
}

/// See the module.
pub(crate) struct RouteTables<R> {
    /// In the order of their first rows.
    pub(crate) rows: Vec<R>,
    /// Of tables that were asked for their columns.
    layouts: HashMap<TableName, TableLayout>,
    /// By the numbers of routes: places in `rows`.
    by_route: Vec<usize>,
}

/// Where a record's row goes. Of a table that is new to the segment nothing is kept until a row of it is.
pub(crate) struct Place<R> {
    route: RouteId,
    index: usize,
    fresh: Option<R>,
}

impl<R> Place<R> {
    /// What is new.
    pub(crate) fn fresh_mut(&mut self) -> Option<&mut R> {
        self.fresh.as_mut()
    }
}

impl<R: OfTable> RouteTables<R> {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), layouts: HashMap::new(), by_route: Vec::new() }
    }

    /// Asks for the columns of a route's table, once; a route that is no table is the poison of its records.
    pub(crate) async fn open(
        &mut self,
        parts: &Parts,
        table: Result<TableName, Poison>,
    ) -> Result<(), StageError> {
        let Ok(table) = table else { return Ok(()) };
        if self.layouts.contains_key(&table) {
            return Ok(());
        }
        let layout = parts.columns.ask(&parts.tables, &table).await;
        if let Some(layout) = layout.map_err(|error| StageError::new("open route", error))? {
            self.layouts.insert(table, layout);
        }
        Ok(())
    }

    /// Where rows of `route` go, whose table is `table`; `new` is what is kept of one that has none yet.
    pub(crate) fn place(
        &self,
        route: RouteId,
        columns: &ColumnSources,
        table: impl FnOnce() -> Result<TableName, Poison>,
        new: impl FnOnce(TableName, TableLayout) -> R,
    ) -> Result<Place<R>, Poison> {
        if let Some(index) = self.by_route.get(route.index()) {
            return Ok(Place { route, index: *index, fresh: None });
        }
        let table = table()?;
        if let Some(index) = self.rows.iter().position(|rows| *rows.table() == table) {
            return Ok(Place { route, index, fresh: None });
        }
        let layout = columns.declared(&table).or_else(|| self.layouts.get(&table).cloned());
        let layout = layout.ok_or_else(|| no_columns(&table))?;
        Ok(Place { route, index: self.rows.len(), fresh: Some(new(table, layout)) })
    }

    /// What is kept of the table at `place`.
    pub(crate) fn at<'r>(&'r mut self, place: &'r mut Place<R>) -> Result<&'r mut R, Poison> {
        let rows = place.fresh.as_mut().or_else(|| self.rows.get_mut(place.index));
        rows.ok_or_else(|| Poison::new(PoisonReason::InvalidRoute, "the route has no table"))
    }

    /// A row is there.
    pub(crate) fn keep(&mut self, place: Place<R>) {
        self.rows.extend(place.fresh);
        // A route whose first record was refused comes again with its number.
        if self.by_route.len() == place.route.index() {
            self.by_route.push(place.index);
        }
    }
}

/// A record of a table that nobody has told the columns of.
pub(crate) fn no_columns(table: &TableName) -> Poison {
    Poison::new(PoisonReason::InvalidRoute, format!("no columns are declared for table {table}"))
}
