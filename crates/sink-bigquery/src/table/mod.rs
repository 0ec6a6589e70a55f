//! Tables: made if they are missing, brought up to date if they lack columns.

mod options;
mod reconcile;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as Turn;

pub use self::options::{Granularity, Partitioning, TableOptions, TableOptionsProblem};
use self::reconcile::{Change, compare};
use crate::error::BigQueryError;
use crate::name::TableName;
use crate::schema::{Field, TableSchema};
use crate::transport::Rest;

/// How often a table is looked at again because somebody else was changing it.
const ATTEMPTS_MAX: usize = 5;

/// What is known of tables, over all lanes of a sink.
#[derive(Debug)]
pub(crate) struct Tables {
    rest: Rest,
    options: TableOptions,
    /// Of each table, whether it is as it has to be. Held while that is being found out: tables allow five changes in ten
    /// seconds, and lanes that see a new column all see it at once.
    known: Mutex<HashMap<TableName, Arc<Turn<bool>>>>,
}

impl Tables {
    pub(crate) fn new(rest: Rest, options: TableOptions) -> Self {
        Self { rest, options, known: Mutex::default() }
    }

    pub(crate) fn rest(&self) -> &Rest {
        &self.rest
    }

    /// Makes sure that rows of `fields` can be written to the table. Asks the service once; then it is remembered.
    pub(crate) async fn ensure(&self, table: &TableName, fields: &[Field]) -> Result<(), BigQueryError> {
        let turn = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(table.clone()).or_default())
        };
        let mut is_ready = turn.lock().await;
        if *is_ready {
            return Ok(());
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.bring_up_to_date(table, fields).await {
                Ok(()) => break,
                // Somebody was faster; what they did is looked at.
                Err(BigQueryError::TableBusy { .. }) if attempts < ATTEMPTS_MAX => {}
                Err(error) => return Err(error),
            }
        }
        *is_ready = true;
        Ok(())
    }

    /// The table turned out to be otherwise: it is asked again.
    pub(crate) fn forget(&self, table: &TableName) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(table);
    }

    async fn bring_up_to_date(&self, table: &TableName, fields: &[Field]) -> Result<(), BigQueryError> {
        let Some(found) = self.rest.table(table).await? else {
            if !self.options.create {
                let (at, answer) =
                    (crate::At::new("get table", table), crate::Answer::new(404, "notFound", ""));
                return Err(BigQueryError::NoSuchTable { at, answer });
            }
            tracing::info!(%table, "creating the table");
            return self.rest.insert_table(table, &self.options.resource(table, fields)).await;
        };
        let unfit = |problem: String| BigQueryError::Schema { table: table.to_string(), problem };
        if let Some(problem) = self.options.key_problem(&found.body) {
            return Err(unfit(problem));
        }
        let raw = found.body.get("schema").cloned().unwrap_or_default();
        let have = TableSchema::from_value(&raw).map_err(|error| unfit(error.to_string()))?;
        let Change { added, relaxed } = compare(&have.fields, fields).map_err(unfit)?;
        if added.is_empty() && relaxed.is_empty() {
            return Ok(());
        }
        let names = [added.as_slice(), relaxed.as_slice()].concat().join(", ");
        if !self.options.evolve {
            // A column that is REQUIRED in the table only refuses rows that lack it, one by one.
            if added.is_empty() {
                return Ok(());
            }
            return Err(unfit(format!("it lacks the columns {names}; evolve_tables(true) adds them")));
        }
        tracing::info!(%table, columns = names, "changing the table's columns");
        let changed = serde_json::json!({ "schema": reconcile::merged(&raw, fields) });
        self.rest.patch_table(table, &found.etag, &changed).await
    }
}
