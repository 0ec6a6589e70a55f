//! Columns and options of tables.

use std::collections::HashMap;

use super::{BigQueryConfigError, BigQuerySinkBuilder};
use crate::columns::{ColumnSources, Columns, Declared, Source};
use crate::destination::Destinations;
use crate::name::TableName;
use crate::row::PlanOptions;
use crate::schema::TableSchema;
use crate::table::TableOptions;

impl BigQuerySinkBuilder {
    /// Where the columns of tables come from that [`columns_of`](Self::columns_of) says nothing of.
    pub fn columns(mut self, columns: impl Into<Columns>) -> Self {
        self.general = Some(columns.into());
        self
    }

    /// Where the columns of one table come from: `table`, `dataset.table` or `project.dataset.table`.
    pub fn columns_of(mut self, table: impl Into<String>, columns: impl Into<Columns>) -> Self {
        self.of.push((table.into(), columns.into()));
        self
    }

    /// Declares the columns of every table that has none of its own: [`columns`](Self::columns) of [`Columns::Declared`].
    pub fn schema(self, schema: TableSchema) -> Self {
        self.columns(schema)
    }

    /// Declares the columns of one table: [`columns_of`](Self::columns_of) of [`Columns::Declared`].
    pub fn schema_of(self, table: impl Into<String>, schema: TableSchema) -> Self {
        self.columns_of(table, schema)
    }

    /// How tables are made and changed that [`tables_of`](Self::tables_of) says nothing of.
    pub fn tables(mut self, options: TableOptions) -> Self {
        self.tables = options;
        self
    }

    /// How one table is made and changed: `table`, `dataset.table` or `project.dataset.table`. Nothing of
    /// [`tables`](Self::tables) holds for it then.
    pub fn tables_of(mut self, table: impl Into<String>, options: TableOptions) -> Self {
        self.tables_of.push((table.into(), options));
        self
    }

    pub(super) fn sources(
        &self,
        destinations: &Destinations,
        tables_of: &HashMap<TableName, TableOptions>,
        problems: &mut Vec<BigQueryConfigError>,
    ) -> ColumnSources {
        let options = PlanOptions {
            unknown: self.unknown,
            timestamps: self.timestamps,
            metadata: self.metadata.clone(),
        };
        let ours = self.metadata.fields();
        let mut made = |columns: &Columns, tables: &TableOptions| {
            let declared = match columns {
                Columns::Declared(schema) => Some(schema),
                Columns::Existing | Columns::FromValues(_) => None,
            };
            problems.extend(tables.problems(declared, &ours).into_iter().map(BigQueryConfigError::Tables));
            match columns {
                Columns::Declared(schema) => {
                    problems.extend(self.problems_of(schema));
                    Source::Declared(match &self.changes {
                        None => Declared::new(schema, options.clone()),
                        Some(changes) => Declared::changing(changes, schema, tables.key(), options.clone()),
                    })
                }
                Columns::Existing => Source::Existing,
                Columns::FromValues(derived) => Source::FromValues(derived.clone()),
            }
        };
        let general = self.general.as_ref().map(|columns| made(columns, &self.tables));
        let mut of: HashMap<TableName, Source> = HashMap::new();
        let mut twice = Vec::new();
        for (table, columns) in &self.of {
            // A name that is none is told below.
            let name = destinations.of_route(table);
            let tables = name.as_ref().ok().and_then(|name| tables_of.get(name)).unwrap_or(&self.tables);
            let source = made(columns, tables);
            match name {
                Ok(name) if of.contains_key(&name) => {
                    twice.push(BigQueryConfigError::SchemaTwice { table: name.to_string() });
                }
                Ok(name) => {
                    of.insert(name, source);
                }
                // A project or dataset that is wrong is named once.
                Err(error) if destinations.problems().is_empty() => {
                    twice.push(BigQueryConfigError::Name(error));
                }
                Err(_) => {}
            }
        }
        problems.append(&mut twice);
        // Options of a table that has no columns of its own go with the general ones.
        let theirs: Vec<_> = tables_of.iter().filter(|(table, _)| !of.contains_key(*table)).collect();
        for (table, tables) in theirs {
            let declared = match &self.general {
                Some(Columns::Declared(schema)) => Some(schema),
                _ => None,
            };
            problems.extend(tables.problems(declared, &ours).into_iter().map(BigQueryConfigError::Tables));
            // The columns are the general ones, and the key by which its rows are changed is not.
            if let (Some(schema), Some(changes)) = (declared, &self.changes) {
                let declared = Declared::changing(changes, schema, tables.key(), options.clone());
                of.insert(table.clone(), Source::Declared(declared));
            }
        }
        ColumnSources::new(general, of, options)
    }

    fn problems_of(&self, schema: &TableSchema) -> Vec<BigQueryConfigError> {
        let mut problems: Vec<_> = schema.problems().into_iter().map(BigQueryConfigError::Schema).collect();
        for ours in self.metadata.fields() {
            if schema.fields().iter().any(|field| field.name.eq_ignore_ascii_case(&ours.name)) {
                let (name, problem) = (ours.name, "is declared as well");
                problems.push(BigQueryConfigError::MetadataColumn { name, problem });
            }
        }
        problems
    }

    pub(super) fn options_of_tables(
        &self,
        destinations: &Destinations,
        problems: &mut Vec<BigQueryConfigError>,
    ) -> HashMap<TableName, TableOptions> {
        let mut of = HashMap::new();
        for (table, options) in &self.tables_of {
            match destinations.of_route(table) {
                Ok(name) => {
                    if of.insert(name.clone(), options.clone()).is_some() {
                        problems.push(BigQueryConfigError::TablesTwice { table: name.to_string() });
                    }
                }
                Err(error) if destinations.problems().is_empty() => {
                    problems.push(BigQueryConfigError::Name(error));
                }
                Err(_) => {}
            }
        }
        of
    }
}
