//! Names of tables and streams.

use std::fmt;

use crate::destination::{Part, is_legal};

/// A table: `project.dataset.table`.
///
/// ```
/// use aqueduct_sink_bigquery::TableName;
///
/// let table = TableName::parse("shop.events.orders")?;
/// assert_eq!(table.path(), "projects/shop/datasets/events/tables/orders");
/// assert_eq!(table.to_string(), "shop.events.orders");
/// # Ok::<(), aqueduct_sink_bigquery::TableNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    project: String,
    dataset: String,
    table: String,
}

/// Why a text is not the name of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} {text:?} {problem}")]
pub struct TableNameError {
    part: &'static str,
    text: String,
    problem: &'static str,
}

impl TableNameError {
    /// What is wrong, without the text: that of a route may be a part of a record.
    pub(crate) fn untold(&self) -> String {
        format!("its {} {}", self.part, self.problem)
    }
}

impl TableName {
    /// The longest name of a dataset or a table, in bytes.
    pub const PART_MAX: usize = 1024;
    /// The longest project id, in bytes; with a domain in front it is longer than the 30 characters of a plain one.
    pub const PROJECT_MAX: usize = 128;

    /// A table by its parts.
    ///
    /// # Errors
    /// [`TableNameError`] if a part is not what BigQuery takes.
    pub fn new(
        project: impl Into<String>,
        dataset: impl Into<String>,
        table: impl Into<String>,
    ) -> Result<Self, TableNameError> {
        let name = Self { project: project.into(), dataset: dataset.into(), table: table.into() };
        check_project(&name.project)?;
        check_dataset(&name.dataset)?;
        check_table(&name.table)?;
        Ok(name)
    }

    /// Reads `project.dataset.table`. A project of a domain has dots of its own: `example.com:shop.events.orders`.
    ///
    /// # Errors
    /// [`TableNameError`] if a part is missing or is not what BigQuery takes.
    pub fn parse(text: &str) -> Result<Self, TableNameError> {
        let mut parts = text.rsplitn(3, '.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(table), Some(dataset), Some(project)) => Self::new(project, dataset, table),
            _ => Err(TableNameError {
                part: "table",
                text: shown(text),
                problem: "is not project.dataset.table",
            }),
        }
    }

    /// The project's id.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The dataset.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// The table's own name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// As the gRPC interface spells it.
    pub fn path(&self) -> String {
        format!("projects/{}/datasets/{}/tables/{}", self.project, self.dataset, self.table)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.project, self.dataset, self.table)
    }
}

pub(crate) fn check_project(text: &str) -> Result<(), TableNameError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'_');
    check("project", text, TableName::PROJECT_MAX, text.bytes().all(plain))
}

pub(crate) fn check_dataset(text: &str) -> Result<(), TableNameError> {
    check("dataset", text, TableName::PART_MAX, is_legal(Part::Dataset, text))
}

fn check_table(text: &str) -> Result<(), TableNameError> {
    check("table", text, TableName::PART_MAX, is_legal(Part::Table, text))
}

fn check(part: &'static str, text: &str, max: usize, allowed: bool) -> Result<(), TableNameError> {
    let problem = match text.len() {
        0 => "is empty",
        length if length > max => "is longer than BigQuery takes",
        _ if !allowed => "holds characters that BigQuery does not take",
        _ => return Ok(()),
    };
    Err(TableNameError { part, text: shown(text), problem })
}

/// Enough of a name to recognise it.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A stream of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamName {
    pub(crate) table: TableName,
    pub(crate) id: String,
}

impl StreamName {
    /// The longest id that is accepted from the service.
    pub(crate) const ID_MAX: usize = 512;

    /// Takes the name the service gave to a stream of `table`.
    pub(crate) fn of(table: &TableName, path: &str) -> Option<Self> {
        let id = path.strip_prefix(&table.path())?.strip_prefix("/streams/")?;
        let fits = !id.is_empty() && id.len() <= Self::ID_MAX && !id.contains('/');
        fits.then(|| Self { table: table.clone(), id: id.to_owned() })
    }

    pub(crate) fn path(&self) -> String {
        format!("{}/streams/{}", self.table.path(), self.id)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.table, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_the_right_and_checked() {
        let name = TableName::parse("example.com:shop.events.orders-2024").unwrap();
        assert_eq!(
            (name.project(), name.dataset(), name.table()),
            ("example.com:shop", "events", "orders-2024")
        );
        for bad in ["orders", "events.orders", "..", "p.d.", "p.d-d.t", "p.d.t/x", "p.d.t\n", "p d.d.t"] {
            assert!(TableName::parse(bad).is_err(), "{bad:?}");
        }
        let longest = "t".repeat(TableName::PART_MAX);
        assert!(TableName::new("p", "d", longest.as_str()).is_ok());
        let error = TableName::new("p", "d", longest + "t").unwrap_err();
        assert!(error.to_string().len() < 150, "{error}");
        let error = TableName::new("p", "d", "ann@example.com").unwrap_err();
        assert_eq!(error.untold(), "its table holds characters that BigQuery does not take");
    }

    #[test]
    fn streams_belong_to_their_table() {
        let table = TableName::parse("p.d.t").unwrap();
        let stream = StreamName::of(&table, "projects/p/datasets/d/tables/t/streams/abc").unwrap();
        assert_eq!(StreamName::of(&table, &stream.path()), Some(stream));
        for other in
            ["projects/p/datasets/d/tables/u/streams/abc", "projects/p/datasets/d/tables/t/streams/", ""]
        {
            assert_eq!(StreamName::of(&table, other), None);
        }
    }
}
