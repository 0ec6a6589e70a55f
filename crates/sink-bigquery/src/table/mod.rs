//! Tables: made if they are missing, brought up to date if they lack columns.

mod known;
mod options;
mod reconcile;
mod unlike;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::known::{Entry, Known};
pub use self::options::{Granularity, Partitioning, TableOptions, TableOptionsProblem};
use self::reconcile::{Change, compare};
use crate::error::{Answer, At, BigQueryError};
use crate::name::TableName;
use crate::schema::{Field, TableSchema};
use crate::transport::Rest;

/// How often a table is looked at again because somebody else was changing it.
const ATTEMPTS_MAX: usize = 5;
/// How long what is known of a table's columns is believed where somebody else may add some.
const FRESH: Duration = Duration::from_mins(1);

/// How tables are made and changed: in general, and for some.
#[derive(Debug, Default)]
pub(crate) struct TableOptionsOf {
    pub(crate) general: TableOptions,
    pub(crate) of: HashMap<TableName, TableOptions>,
    /// Tables whose columns values bring, unless said otherwise: all that are not in `evolves_of`.
    pub(crate) evolves: bool,
    pub(crate) evolves_of: HashMap<TableName, bool>,
}

impl TableOptionsOf {
    fn of(&self, table: &TableName) -> &TableOptions {
        self.of.get(table).unwrap_or(&self.general)
    }

    /// Whether the table may be given columns: as it was said, or where they come from values.
    fn evolves(&self, table: &TableName) -> bool {
        self.of(table).evolve.unwrap_or_else(|| self.evolves_of.get(table).copied().unwrap_or(self.evolves))
    }
}

/// What is known of tables, over all lanes of a sink.
#[derive(Debug)]
pub(crate) struct Tables {
    rest: Rest,
    options: TableOptionsOf,
    known: Mutex<HashMap<TableName, Arc<Entry>>>,
}

impl Tables {
    pub(crate) fn new(rest: Rest, options: TableOptionsOf) -> Self {
        Self { rest, options, known: Mutex::default() }
    }

    pub(crate) fn rest(&self) -> &Rest {
        &self.rest
    }

    pub(crate) fn evolves(&self, table: &TableName) -> bool {
        self.options.evolves(table)
    }

    /// The columns that the table has, or had up to a minute ago; `None` if it does not exist.
    pub(crate) async fn look(&self, table: &TableName) -> Result<Option<Arc<Vec<Field>>>, BigQueryError> {
        let entry = self.entry(table);
        let mut known = entry.known().await;
        let is_fresh = known.looked_at.is_some_and(|at| at.elapsed() < FRESH);
        if !is_fresh {
            self.read(table, &mut known).await?;
        }
        Ok(known.columns.clone())
    }

    /// Makes sure that rows of `fields` can be written to the table. Where it is known that they can, nobody is asked.
    pub(crate) async fn ensure(&self, table: &TableName, fields: &[Field]) -> Result<(), BigQueryError> {
        let entry = self.entry(table);
        let mut known = entry.known().await;
        let evolves = self.evolves(table);
        if let Some(have) = &known.columns
            && self.compare(table, have, fields).is_ok_and(|change| change.is_nothing(evolves))
        {
            return Ok(());
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.bring_up_to_date(table, fields, &mut known).await {
                Ok(()) => return Ok(()),
                // Somebody was faster; what they did is looked at.
                Err(BigQueryError::TableBusy { .. }) if attempts < ATTEMPTS_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The table turned out to be otherwise: it is asked again.
    pub(crate) fn forget(&self, table: &TableName) {
        self.entry(table).stale.store(true, Ordering::Release);
    }

    fn entry(&self, table: &TableName) -> Arc<Entry> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(table.clone()).or_default())
    }

    /// Asks the service; answers the table's etag and schema, if there is one.
    async fn read(
        &self,
        table: &TableName,
        known: &mut Known,
    ) -> Result<Option<(String, serde_json::Value)>, BigQueryError> {
        let found = self.rest.table(table).await?;
        known.looked_at = Some(Instant::now());
        let Some(found) = found else {
            known.columns = None;
            return Ok(None);
        };
        if let Some(problem) = self.options.of(table).key_problem(&found.body) {
            return Err(BigQueryError::Schema { table: table.to_string(), problem });
        }
        let raw = found.body.get("schema").cloned().unwrap_or_default();
        known.saw(read_schema(table, &raw)?);
        if !std::mem::replace(&mut known.compared, true) {
            let unlike = unlike::differences(&self.options.of(table).resource(table, &[]), &found.body);
            if !unlike.is_empty() {
                let unlike = unlike.join("; ");
                tracing::warn!(%table, unlike, "the table exists and is not as it would be made; it is used as it is");
            }
        }
        Ok(Some((found.etag, raw)))
    }

    /// What the table lacks. The error is what is not to be mended.
    fn compare(&self, table: &TableName, have: &[Field], fields: &[Field]) -> Result<Change, String> {
        let change = compare(have, fields)?;
        match self.options.of(table).deletion_problem(&change.relaxed) {
            Some(problem) if !self.evolves(table) => Err(problem),
            _ => Ok(change),
        }
    }

    async fn bring_up_to_date(
        &self,
        table: &TableName,
        fields: &[Field],
        known: &mut Known,
    ) -> Result<(), BigQueryError> {
        let options = self.options.of(table);
        let unfit = |problem: String| BigQueryError::Schema { table: table.to_string(), problem };
        let Some((etag, raw)) = self.read(table, known).await? else {
            if !options.create {
                let (at, answer) = (At::new("get table", table), Answer::new(404, "notFound", ""));
                return Err(BigQueryError::NoSuchTable { at, answer });
            }
            let schema = TableSchema::new(fields.iter().cloned());
            if let Some(problem) = options.problems(Some(&schema), &[]).first() {
                return Err(unfit(format!("it cannot be made: {problem}")));
            }
            known.change(&At::new("create table", table), Instant::now())?;
            tracing::info!(%table, "creating the table");
            self.rest.insert_table(table, &options.resource(table, fields)).await?;
            // Made by ourselves, so as we would have it.
            known.compared = true;
            known.saw(schema.fields);
            return Ok(());
        };
        let have = known.columns.clone().unwrap_or_default();
        let change = self.compare(table, &have, fields).map_err(unfit)?;
        let evolves = self.evolves(table);
        // A column that is REQUIRED in the table only refuses rows that lack it, one by one.
        if change.is_nothing(evolves) {
            return Ok(());
        }
        let Change { added, relaxed } = change;
        if !evolves {
            let names = added.join(", ");
            return Err(unfit(format!("it lacks the columns {names}; evolve_tables(true) adds them")));
        }
        known.change(&At::new("change table", table), Instant::now())?;
        let names = [added, relaxed].concat().join(", ");
        tracing::info!(%table, columns = names, "changing the table's columns");
        let schema = reconcile::merged(&raw, fields);
        self.rest.patch_table(table, &etag, &serde_json::json!({ "schema": schema })).await?;
        known.saw(read_schema(table, &schema)?);
        Ok(())
    }
}

fn read_schema(table: &TableName, raw: &serde_json::Value) -> Result<Vec<Field>, BigQueryError> {
    let schema = TableSchema::from_value(raw);
    let schema = schema
        .map_err(|error| BigQueryError::Schema { table: table.to_string(), problem: error.to_string() })?;
    Ok(schema.fields)
}
