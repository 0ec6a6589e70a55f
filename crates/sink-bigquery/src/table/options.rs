//! What tables are made with.

use std::time::Duration;

use aqueduct_core::{Clock as _, SystemClock, unix_millis};
use serde_json::{Map, Value, json};

use crate::name::TableName;
use crate::schema::{Field, FieldType, Mode, TableSchema};

/// How tables that do not exist are made, and whether those that do may be changed.
///
/// None of it is part of the layout's identity: it decides nothing about rows.
///
/// ```
/// use aqueduct_sink_bigquery::{Granularity, Partitioning, TableOptions};
///
/// let options = TableOptions::new()
///     .partitioning(Partitioning::by_column("event_time", Granularity::Day))
///     .clustering(["tenant", "service"])
///     .label("team", "data");
/// # drop(options);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TableOptions {
    pub(super) create: bool,
    /// Unless said otherwise: if columns come from values.
    pub(super) evolve: Option<bool>,
    partitioning: Option<Partitioning>,
    clustering: Vec<String>,
    primary_key: Vec<String>,
    demands_key: bool,
    /// With that, the columns which deletions fill beside the key.
    filled: Vec<String>,
    expiration: Option<Duration>,
    description: Option<String>,
    labels: Vec<(String, String)>,
}

/// How a table is partitioned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Partitioning {
    /// By a column of type `TIMESTAMP`, `DATE` or `DATETIME`.
    Column {
        /// The column.
        field: String,
        /// The length of a partition.
        granularity: Granularity,
        /// After which time a partition is deleted; never without it.
        expiration: Option<Duration>,
    },
    /// By the time rows arrive.
    Ingestion {
        /// The length of a partition.
        granularity: Granularity,
        /// After which time a partition is deleted; never without it.
        expiration: Option<Duration>,
    },
    /// By ranges of an `INTEGER` column.
    Range {
        /// The column.
        field: String,
        /// The first value.
        start: i64,
        /// The one after the last.
        end: i64,
        /// Values in one partition.
        interval: u64,
    },
}

/// The length of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Why options cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table options: {problem}")]
pub struct TableOptionsProblem {
    problem: String,
}

impl Partitioning {
    /// By a column's time.
    pub fn by_column(field: impl Into<String>, granularity: Granularity) -> Self {
        Self::Column { field: field.into(), granularity, expiration: None }
    }

    /// By the time rows arrive.
    pub fn by_ingestion(granularity: Granularity) -> Self {
        Self::Ingestion { granularity, expiration: None }
    }

    fn resource(&self) -> (&'static str, Value) {
        let time = |granularity: &Granularity, expiration: &Option<Duration>| {
            let mut object = Map::new();
            object.insert("type".to_owned(), granularity.name().into());
            if let Some(expiration) = expiration {
                object.insert("expirationMs".to_owned(), expiration.as_millis().to_string().into());
            }
            object
        };
        match self {
            Self::Column { field, granularity, expiration } => {
                let mut object = time(granularity, expiration);
                object.insert("field".to_owned(), field.as_str().into());
                ("timePartitioning", Value::Object(object))
            }
            Self::Ingestion { granularity, expiration } => {
                ("timePartitioning", Value::Object(time(granularity, expiration)))
            }
            Self::Range { field, start, end, interval } => {
                let range = json!({
                    "start": start.to_string(), "end": end.to_string(), "interval": interval.to_string(),
                });
                ("rangePartitioning", json!({ "field": field, "range": range }))
            }
        }
    }
}

impl Granularity {
    fn name(self) -> &'static str {
        match self {
            Self::Hour => "HOUR",
            Self::Day => "DAY",
            Self::Month => "MONTH",
            Self::Year => "YEAR",
        }
    }
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            create: true,
            evolve: None,
            partitioning: None,
            clustering: Vec::new(),
            primary_key: Vec::new(),
            demands_key: false,
            filled: Vec::new(),
            expiration: None,
            description: None,
            labels: Vec::new(),
        }
    }
}

impl TableOptions {
    /// Most columns that cluster a table.
    pub const CLUSTERING_MAX: usize = 4;
    /// Most columns of a primary key.
    pub const PRIMARY_KEY_MAX: usize = 16;
    /// Most labels.
    pub const LABELS_MAX: usize = 64;

    /// Missing tables are made; tables that exist are changed only where columns come from values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether missing tables are made. They are by default.
    pub fn create_tables(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether columns are added that a table lacks, and columns relaxed that are `REQUIRED` there and nullable here: all that can
    /// be changed without touching a row (<https://cloud.google.com/bigquery/docs/managing-table-schemas>). By default they are where
    /// columns come [from values](crate::Columns::FromValues), and not elsewhere.
    pub fn evolve_tables(mut self, evolve: bool) -> Self {
        self.evolve = Some(evolve);
        self
    }

    /// How new tables are partitioned; not at all by default.
    pub fn partitioning(mut self, partitioning: Partitioning) -> Self {
        self.partitioning = Some(partitioning);
        self
    }

    /// The columns that cluster new tables, at most four.
    pub fn clustering<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.clustering = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The columns of new tables' primary keys, which BigQuery does not enforce.
    pub fn primary_key<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.primary_key = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The time after which a new table is deleted with everything in it.
    pub fn expiration(mut self, expiration: Duration) -> Self {
        self.expiration = Some(expiration);
        self
    }

    /// The description of new tables.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Adds a label to new tables.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// The columns of the primary key; none without one.
    pub(crate) fn key(&self) -> &[String] {
        &self.primary_key
    }

    /// Tables that exist must have the primary key as well, and demand no column of a deletion but it and those that are `filled`.
    pub(crate) fn demand_key(&mut self, filled: &[&String]) {
        self.demands_key = true;
        self.filled = filled.iter().map(|column| (*column).clone()).collect();
    }

    /// What is wrong with columns that are `REQUIRED` in a table and may be null here.
    pub(super) fn deletion_problem(&self, required: &[String]) -> Option<String> {
        let is_filled = |column: &str| self.filled.iter().any(|filled| filled.eq_ignore_ascii_case(column));
        // Those within a record are demanded only where there is one.
        let lacking = required.iter().filter(|column| !column.contains('.') && !is_filled(column));
        let lacking: Vec<_> = lacking.map(String::as_str).collect();
        (self.demands_key && !lacking.is_empty()).then(|| {
            format!(
                "deletions say nothing of its columns {}, which are REQUIRED; ALTER TABLE … ALTER COLUMN … DROP NOT NULL relaxes them, \
                 or evolve_tables(true)",
                lacking.join(", ")
            )
        })
    }

    /// What is wrong with the primary key of a table that exists.
    pub(super) fn key_problem(&self, body: &Value) -> Option<String> {
        let columns = body.pointer("/tableConstraints/primaryKey/columns").and_then(Value::as_array);
        let columns = columns.into_iter().flatten().filter_map(Value::as_str);
        let sorted = |names: &mut dyn Iterator<Item = &str>| {
            let mut names: Vec<_> = names.map(str::to_ascii_lowercase).collect();
            names.sort();
            names
        };
        let found = sorted(&mut columns.into_iter());
        let wanted = sorted(&mut self.primary_key.iter().map(String::as_str));
        if !self.demands_key || found == wanted {
            return None;
        }
        let (found, wanted) = (found.join(", "), wanted.join(", "));
        Some(format!(
            "its primary key is ({found}) and has to be ({wanted}); ALTER TABLE … ADD PRIMARY KEY ({wanted}) NOT ENFORCED adds one"
        ))
    }

    /// Everything that is wrong with them for tables of these columns, or of any if they are not known; empty if nothing is. A table
    /// may be partitioned and clustered by `ours`, the columns that say which record a row is of; a key is of the values.
    pub(crate) fn problems(&self, schema: Option<&TableSchema>, ours: &[Field]) -> Vec<TableOptionsProblem> {
        let mut problems = Vec::new();
        let mut problem = |problem: String| problems.push(TableOptionsProblem { problem });
        let find = |name: &str, ours: &[Field]| {
            let of = |schema: &TableSchema| {
                let mut fields = schema.fields.iter().chain(ours);
                fields.find(|field| field.name.eq_ignore_ascii_case(name)).cloned()
            };
            schema.map(of)
        };
        let (column, fits): (_, fn(&FieldType) -> bool) = match &self.partitioning {
            Some(Partitioning::Column { field, .. }) => (Some(field), |kind| {
                matches!(kind, FieldType::Timestamp | FieldType::Date | FieldType::DateTime)
            }),
            Some(Partitioning::Range { field, start, end, interval }) => {
                if start >= end || *interval == 0 {
                    problem(format!("the range {start} to {end} in steps of {interval} is empty"));
                }
                (Some(field), |kind| matches!(kind, FieldType::Int64))
            }
            Some(Partitioning::Ingestion { .. }) | None => (None, |_| true),
        };
        if let Some(column) = column {
            match find(column, ours) {
                Some(None) => problem(format!("there is no column {column} to partition by")),
                Some(Some(field)) if field.mode == Mode::Repeated || !fits(&field.kind) => {
                    problem(format!(
                        "column {column} is {}, which cannot be partitioned by like this",
                        field.kind.name()
                    ));
                }
                Some(Some(_)) | None => {}
            }
        }
        let lists = [
            ("cluster by", &self.clustering, Self::CLUSTERING_MAX, ours),
            ("make a key of", &self.primary_key, Self::PRIMARY_KEY_MAX, &[]),
        ];
        for (what, columns, max, ours) in lists {
            if columns.len() > max {
                problem(format!("there are {} columns to {what}, {max} are the most", columns.len()));
            }
            for column in columns {
                match find(column, ours) {
                    Some(None) => problem(format!("there is no column {column} to {what}")),
                    Some(Some(field))
                        if field.mode == Mode::Repeated || matches!(field.kind, FieldType::Record(_)) =>
                    {
                        problem(format!("column {column} is no single value to {what}"));
                    }
                    Some(Some(_)) | None => {}
                }
            }
        }
        if self.labels.len() > Self::LABELS_MAX {
            problem(format!("there are {} labels, {} are the most", self.labels.len(), Self::LABELS_MAX));
        }
        problems
    }

    /// The body of `tables.insert` (<https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#Table>).
    pub(super) fn resource(&self, table: &TableName, fields: &[Field]) -> Value {
        let mut body = Map::new();
        let reference = json!({
            "projectId": table.project(), "datasetId": table.dataset(), "tableId": table.table(),
        });
        body.insert("tableReference".to_owned(), reference);
        body.insert("schema".to_owned(), TableSchema { fields: fields.to_vec() }.to_value());
        if let Some(partitioning) = &self.partitioning {
            let (key, value) = partitioning.resource();
            body.insert(key.to_owned(), value);
        }
        if !self.clustering.is_empty() {
            body.insert("clustering".to_owned(), json!({ "fields": self.clustering }));
        }
        if !self.primary_key.is_empty() {
            // Spelled as the columns are.
            let declared = self.primary_key.iter().map(|name| {
                let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
                field.map_or(name, |field| &field.name)
            });
            let columns: Vec<&String> = declared.collect();
            body.insert("tableConstraints".to_owned(), json!({ "primaryKey": { "columns": columns } }));
        }
        if let Some(expiration) = self.expiration {
            let age = i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX);
            let at = unix_millis(SystemClock.now()).saturating_add(age);
            body.insert("expirationTime".to_owned(), at.to_string().into());
        }
        if let Some(description) = &self.description {
            body.insert("description".to_owned(), description.as_str().into());
        }
        if !self.labels.is_empty() {
            let labels: Map<_, _> =
                self.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
            body.insert("labels".to_owned(), Value::Object(labels));
        }
        Value::Object(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_where_the_interface_has_it() {
        let fields = [Field::required("id", FieldType::Int64), Field::nullable("at", FieldType::Timestamp)];
        let options = TableOptions::new()
            .partitioning(Partitioning::Column {
                field: "at".into(),
                granularity: Granularity::Hour,
                expiration: Some(Duration::from_mins(1)),
            })
            .clustering(["id"])
            .primary_key(["id"])
            .description("orders")
            .label("team", "data");
        let body = options.resource(&TableName::parse("p.d.t").unwrap(), &fields);
        assert_eq!(body["timePartitioning"], json!({"type": "HOUR", "field": "at", "expirationMs": "60000"}));
        assert_eq!(body["clustering"], json!({"fields": ["id"]}));
        assert_eq!(body["tableConstraints"], json!({"primaryKey": {"columns": ["id"]}}));
        assert_eq!((&body["description"], &body["labels"]), (&json!("orders"), &json!({"team": "data"})));
        assert_eq!(body["tableReference"], json!({"projectId": "p", "datasetId": "d", "tableId": "t"}));
        assert!(body.get("expirationTime").is_none());
        let by_range = Partitioning::Range { field: "id".into(), start: 0, end: 100, interval: 10 };
        let body =
            TableOptions::new().partitioning(by_range).resource(&TableName::parse("p.d.t").unwrap(), &fields);
        let range = json!({"start": "0", "end": "100", "interval": "10"});
        assert_eq!(body["rangePartitioning"], json!({"field": "id", "range": range}));
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let schema = TableSchema::new([
            Field::nullable("name", FieldType::String),
            Field::repeated("tags", FieldType::String),
            Field::nullable("n", FieldType::Int64),
        ]);
        let options = TableOptions::new()
            .partitioning(Partitioning::by_column("name", Granularity::Day))
            .clustering(["name", "tags", "gone", "n", "name"])
            .primary_key(["other"]);
        assert_eq!(
            options.problems(Some(&schema), &[]).len(),
            5,
            "{:?}",
            options.problems(Some(&schema), &[])
        );
        let fine = TableOptions::new()
            .clustering(["NAME", "n"])
            .partitioning(Partitioning::by_ingestion(Granularity::Day));
        assert_eq!(fine.problems(Some(&schema), &[]), []);
        let empty = Partitioning::Range { field: "n".into(), start: 5, end: 5, interval: 0 };
        assert_eq!(TableOptions::new().partitioning(empty).problems(Some(&schema), &[]).len(), 1);
    }
}
