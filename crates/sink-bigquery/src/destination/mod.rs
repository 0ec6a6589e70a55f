//! Which table a record goes to.
//!
//! ```text
//! route of the partitioner     by_table.rs makes such routes of fields or by a closure
//! topic_table                  the topic's own
//! topic_pattern                the first that the whole topic matches     template.rs
//! table                        one for all
//! the topic's name             legal.rs
//! ```
//!
//! The first that says something decides.

mod by_table;
mod legal;
mod template;
mod text;
mod topics;

use std::collections::BTreeSet;

use aqueduct_core::{Poison, PoisonReason};

pub use self::by_table::{ByTable, ByTableError, ByTableFn, TableRoute, by_table_fn};
pub(crate) use self::legal::{Part, is_legal};
pub use self::topics::TopicNames;
pub(crate) use self::topics::Topics;
use crate::error::BigQueryError;
use crate::name::{TableName, TableNameError, check_dataset, check_project};

/// Where rows go by default and what a route means.
#[derive(Clone, Debug)]
pub(crate) struct Destinations {
    pub(crate) project: String,
    pub(crate) dataset: String,
    /// For every topic the same, if it is given.
    pub(crate) table: Option<String>,
    pub(crate) topics: Topics,
}

impl Destinations {
    /// Where a topic's records go that have no route.
    pub(crate) fn of_topic(&self, topic: &str) -> Result<TableName, BigQueryError> {
        let unfit = |error: TableNameError| BigQueryError::Schema {
            table: topic.to_owned(),
            problem: format!(
                "the topic has no name for a table ({error}); give it one with topic_table() or by a route"
            ),
        };
        if let Some(table) = self.topics.named(topic) {
            return self.of_route(table).map_err(unfit);
        }
        let (project, dataset, table, made_of) = if let Some(target) = self.topics.matched(topic) {
            (target.project, target.dataset, target.table, target.made_of)
        } else if let Some(table) = &self.table {
            (None, None, table.clone(), None)
        } else {
            let (table, made_of) = self.topics.name(topic);
            (None, None, table, made_of)
        };
        let project = project.as_deref().unwrap_or(&self.project);
        let name =
            TableName::new(project, dataset.as_deref().unwrap_or(&self.dataset), table).map_err(unfit)?;
        match made_of.map(|made_of| self.topics.meet(&name, &made_of).map_err(|other| (made_of, other))) {
            None | Some(Ok(())) => Ok(name),
            Some(Err((one, other))) => Err(BigQueryError::TopicsMeet { table: name.to_string(), one, other }),
        }
    }

    /// The table of a record: of its route, or `default` if it has none.
    pub(crate) fn of_record(&self, route: &str, default: &TableName) -> Result<TableName, Poison> {
        if route.is_empty() {
            return Ok(default.clone());
        }
        self.of_route(route).map_err(|error| {
            Poison::new(PoisonReason::InvalidRoute, format!("the route is no table: {}", error.untold()))
        })
    }

    /// The table of a route: `table`, `dataset.table` or `project.dataset.table`, in one level.
    pub(crate) fn of_route(&self, route: &str) -> Result<TableName, TableNameError> {
        let mut parts = route.rsplitn(3, '.');
        let (table, dataset, project) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        TableName::new(project.unwrap_or(&self.project), dataset.unwrap_or(&self.dataset), table)
    }

    /// The one table of all records without a route, if there is only one.
    pub(crate) fn single(&self) -> Option<TableName> {
        self.table.as_ref().and_then(|table| self.of_route_exact(table).ok())
    }

    fn of_route_exact(&self, table: &str) -> Result<TableName, TableNameError> {
        TableName::new(self.project.as_str(), self.dataset.as_str(), table)
    }

    /// Every dataset that is named for certain, with its project.
    pub(crate) fn datasets(&self) -> BTreeSet<(String, String)> {
        let mut datasets = BTreeSet::from([(self.project.clone(), self.dataset.clone())]);
        let named = self.topics.exact().iter().filter_map(|(_, table)| self.of_route(table).ok());
        datasets.extend(named.map(|name| (name.project().to_owned(), name.dataset().to_owned())));
        datasets.extend(
            self.topics
                .datasets()
                .map(|(project, dataset)| (project.unwrap_or(&self.project).to_owned(), dataset.to_owned())),
        );
        datasets
    }

    pub(crate) fn problems(&self) -> Vec<TableNameError> {
        let mut problems: Vec<_> = [check_project(&self.project), check_dataset(&self.dataset)]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        if problems.is_empty() {
            problems.extend(self.table.as_ref().and_then(|table| self.of_route_exact(table).err()));
            let named = self.topics.exact().iter();
            problems.extend(named.filter_map(|(_, table)| self.of_route(table).err()));
        }
        problems
    }

    /// What decides tables, for the fingerprint.
    pub(crate) fn identity(&self) -> String {
        let Self { project, dataset, table, topics } = self;
        let table = table.as_deref().unwrap_or("{topic}");
        format!("{project}.{dataset}.{table} {}", topics.identity())
    }
}

#[cfg(test)]
mod tests;
