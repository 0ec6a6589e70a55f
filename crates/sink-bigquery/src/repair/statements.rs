//! The statements of a repair.

use aqueduct_core::TopicPartition;

use crate::name::TableName;
use crate::query::{Statement, quoted, table_sql};
use crate::row::MetadataColumns;
use crate::schema::{Field, FieldType};

/// The columns of the claims table.
pub(super) fn claim_fields() -> [Field; 7] {
    [
        Field::nullable("topic", FieldType::String),
        Field::nullable("partition", FieldType::Int64),
        Field::nullable("offset", FieldType::Int64).with_description("null in the row that takes turns"),
        Field::nullable("table", FieldType::String).with_description("where the record's row is"),
        Field::nullable("claim", FieldType::String).with_description("the job that has stored it"),
        Field::nullable("claimed_at", FieldType::Timestamp),
        Field::nullable("turn", FieldType::Int64).with_description("which of the partition's transactions"),
    ]
}

/// One transaction that stores records in their tables and claims them, or does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) claims: TableName,
    /// Of topic, partition and offset in the tables.
    pub(crate) identity: [String; 3],
    pub(crate) tables: Vec<ScriptTable>,
}

/// What it does with one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScriptTable {
    pub(crate) target: TableName,
    /// Where the rows are.
    pub(crate) staging: TableName,
    pub(crate) columns: Vec<String>,
    /// Whether records are looked for among the target's rows.
    pub(crate) looks: bool,
}

pub(super) fn identity(columns: &MetadataColumns) -> [String; 3] {
    [&columns.topic, &columns.partition, &columns.offset].map(String::clone)
}

const OF_LANE: &str = "c.`topic` = @topic AND c.`partition` = @partition";

/// The turn that the transaction has taken.
fn turn(claims: &str) -> String {
    format!("(SELECT MAX(c.`turn`) FROM {claims} AS c WHERE {OF_LANE} AND c.`offset` IS NULL)")
}

impl Script {
    /// As BigQuery reads it. Values are parameters, `@table_0` and `@offsets_0` those of the first table.
    pub(crate) fn sql(&self) -> String {
        let claims = table_sql(&self.claims);
        let [topic, partition, offset] = self.identity.each_ref().map(|name| quoted(name));
        let turn = turn(&claims);
        let mut sql = vec![
            format!(
                "INSERT INTO {claims} (`topic`, `partition`, `turn`) SELECT @topic, @partition, 0 FROM (SELECT 1) AS one \
                 WHERE NOT EXISTS (SELECT 1 FROM {claims} AS c WHERE {OF_LANE} AND c.`offset` IS NULL)"
            ),
            "BEGIN TRANSACTION".to_owned(),
            format!("UPDATE {claims} AS c SET `turn` = c.`turn` + 1 WHERE {OF_LANE} AND c.`offset` IS NULL"),
        ];
        for (place, table) in self.tables.iter().enumerate() {
            let ScriptTable { target, staging, columns, looks } = table;
            let (target, staging) = (table_sql(target), table_sql(staging));
            let columns = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
            let staged = format!("s.{topic} = @topic AND s.{partition} = @partition AND s.{offset}");
            let look = if *looks {
                format!(
                    " AND s.{offset} NOT IN (SELECT t.{offset} FROM {target} AS t WHERE t.{topic} = @topic \
                     AND t.{partition} = @partition AND t.{offset} IN UNNEST(@offsets_{place}))"
                )
            } else {
                String::new()
            };
            sql.push(format!(
                "INSERT INTO {claims} (`topic`, `partition`, `offset`, `table`, `claim`, `claimed_at`, `turn`) \
                 SELECT @topic, @partition, s.{offset}, @table_{place}, @claim, CURRENT_TIMESTAMP(), {turn} FROM {staging} AS s \
                 WHERE {staged} IN UNNEST(@offsets_{place}) \
                 AND EXISTS (SELECT 1 FROM {claims} AS c WHERE {OF_LANE} AND c.`offset` IS NULL) \
                 AND s.{offset} NOT IN (SELECT c.`offset` FROM {claims} AS c WHERE {OF_LANE} AND c.`offset` IS NOT NULL){look}"
            ));
            sql.push(format!(
                "INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging} AS s WHERE {staged} \
                 IN (SELECT c.`offset` FROM {claims} AS c WHERE {OF_LANE} AND c.`claim` = @claim AND c.`table` = @table_{place} \
                 AND c.`turn` = {turn})"
            ));
        }
        sql.push("COMMIT TRANSACTION;".to_owned());
        sql.join(";\n")
    }

    /// With its parameters; the offsets of each table.
    pub(super) fn statement<'o>(
        &self,
        lane: &TopicPartition,
        claim: &str,
        offsets: impl Iterator<Item = &'o [i64]>,
    ) -> Statement {
        let statement = of_lane(Statement::new(self.sql()), lane).text("claim", claim);
        let tables = self.tables.iter().zip(offsets).enumerate();
        tables.fold(statement, |statement, (place, (table, offsets))| {
            statement
                .text(&format!("table_{place}"), &table.target.to_string())
                .numbers(&format!("offsets_{place}"), offsets.iter().copied())
        })
    }
}

/// By whom each of some records is claimed.
pub(crate) fn claimed_sql(claims: &TableName) -> String {
    let claims = table_sql(claims);
    format!(
        "SELECT c.`offset`, c.`claim` FROM {claims} AS c WHERE {OF_LANE} AND c.`offset` IN UNNEST(@offsets)"
    )
}

pub(super) fn claimed(claims: &TableName, lane: &TopicPartition, offsets: &[i64]) -> Statement {
    of_lane(Statement::new(claimed_sql(claims)), lane).numbers("offsets", offsets.iter().copied())
}

/// How many of some records have rows in a table.
pub(crate) fn present_sql(table: &TableName, identity: &[String; 3]) -> String {
    let [topic, partition, offset] = identity.each_ref().map(|name| quoted(name));
    format!(
        "SELECT COUNT(DISTINCT t.{offset}) FROM {} AS t WHERE t.{topic} = @topic AND t.{partition} = @partition \
         AND t.{offset} IN UNNEST(@offsets)",
        table_sql(table)
    )
}

pub(super) fn present(
    table: &TableName,
    identity: &[String; 3],
    lane: &TopicPartition,
    offsets: &[i64],
) -> Statement {
    of_lane(Statement::new(present_sql(table, identity)), lane).numbers("offsets", offsets.iter().copied())
}

fn of_lane(statement: Statement, lane: &TopicPartition) -> Statement {
    statement.text("topic", lane.topic()).number("partition", i64::from(lane.partition()))
}
