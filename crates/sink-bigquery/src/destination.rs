//! Which table a record goes to.

use crate::name::{TableName, TableNameError, check_dataset, check_project};

/// Where rows go by default and what a route means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destinations {
    pub(crate) project: String,
    pub(crate) dataset: String,
    /// For every topic the same, if it is given.
    pub(crate) table: Option<String>,
}

impl Destinations {
    /// Where a topic's records go that have no route: the table configured, or one that is called like the topic, with `_` for
    /// the dots that names of tables cannot hold.
    pub(crate) fn of_topic(&self, topic: &str) -> Result<TableName, TableNameError> {
        let table = match &self.table {
            Some(table) => table.clone(),
            None => topic.replace('.', "_"),
        };
        TableName::new(self.project.as_str(), self.dataset.as_str(), table)
    }

    /// The table of a route: `table`, `dataset.table` or `project.dataset.table`, in one level.
    pub(crate) fn of_route(&self, route: &str) -> Result<TableName, TableNameError> {
        let mut parts = route.rsplitn(3, '.');
        let (table, dataset, project) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        TableName::new(project.unwrap_or(&self.project), dataset.unwrap_or(&self.dataset), table)
    }

    pub(crate) fn problems(&self) -> Vec<TableNameError> {
        let mut problems: Vec<_> = [check_project(&self.project), check_dataset(&self.dataset)]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        if problems.is_empty()
            && let Some(table) = &self.table
        {
            problems
                .extend(TableName::new(self.project.as_str(), self.dataset.as_str(), table.as_str()).err());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_routes_are_tables() {
        let mut destinations = Destinations { project: "p".into(), dataset: "d".into(), table: None };
        let shown = |name: Result<TableName, TableNameError>| name.unwrap().to_string();
        assert_eq!(shown(destinations.of_topic("shop.orders-v1")), "p.d.shop_orders-v1");
        assert_eq!(shown(destinations.of_route("t")), "p.d.t");
        assert_eq!(shown(destinations.of_route("e.t")), "p.e.t");
        assert_eq!(shown(destinations.of_route("example.com:q.e.t")), "example.com:q.e.t");
        for bad in ["a/b", "country=FR", ".t", "e.", "%2e"] {
            assert!(destinations.of_route(bad).is_err(), "{bad}");
        }
        destinations.table = Some("all".into());
        assert_eq!(shown(destinations.of_topic("x")), "p.d.all");
        assert_eq!(destinations.problems(), []);
        destinations.dataset = "d-d".into();
        destinations.project = String::new();
        assert_eq!(destinations.problems().len(), 2);
    }
}
