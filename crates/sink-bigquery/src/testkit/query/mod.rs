//! Queries: exactly the statements this crate sends, told apart by their text, and nothing else.
//!
//! This is no SQL engine. A statement is recognised as a whole, by the template it was made of; what it means is written down here a
//! second time, by hand. So a test against the fake shows what the crate makes of the answers, and not that BigQuery understands the
//! text: an engine that reads SQL has to show that.

mod completeness;
mod source;
mod transaction;

use std::collections::VecDeque;

use serde_json::{Value, json};

pub(in crate::testkit) use self::transaction::{JobRules, Running};

use super::rest::{Answer, refused};
use super::state::{FakeRow, Inner, Table};
use crate::name::TableName;
use crate::repair::statements::{claimed_sql, present_sql};

/// Rows of an answer: cells as text.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// Why a statement fails: status, reason, message.
pub(super) type Refused = (u16, &'static str, String);

/// A statement that was sent, and what came of it.
#[derive(Debug)]
pub(in crate::testkit) struct Job {
    id: String,
    outcome: Result<Rows, Refused>,
    /// How often it is still answered that it is not done.
    unready: usize,
}

/// Jobs that are remembered.
const JOBS_MAX: usize = 10_000;

pub(super) fn invalid(message: impl Into<String>) -> Refused {
    (400, "invalidQuery", message.into())
}

impl Inner {
    /// `jobs.query`: "if jobComplete is false, you can continue to wait for the query to complete by calling the getQueryResults
    /// method" (<https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/query>).
    pub(in crate::testkit) fn query(&mut self, body: &Value) -> Answer {
        let id = format!("fake-{}", self.number());
        let outcome = self.select(body);
        let unready = self.query_polls;
        self.keep_job(Job { id: id.clone(), outcome, unready });
        self.query_results(&id, &[])
    }

    pub(in crate::testkit) fn keep_job(&mut self, job: Job) {
        self.jobs.push_back(job);
        if self.jobs.len() > JOBS_MAX {
            self.jobs.pop_front();
        }
    }

    /// `jobs.getQueryResults`, a page of rows at a time.
    pub(in crate::testkit) fn query_results(&mut self, id: &str, query: &[(String, String)]) -> Answer {
        let page = self.limits.query_page_rows;
        let reference = json!({ "projectId": "p", "jobId": id, "location": "US" });
        let Some(job) = find(&mut self.jobs, id) else {
            return refused(404, "notFound", &format!("Not found: Job {id}"));
        };
        if job.unready > 0 {
            job.unready -= 1;
            return (200, json!({ "jobComplete": false, "jobReference": reference }));
        }
        let rows = match &job.outcome {
            Ok(rows) => rows,
            Err((status, reason, message)) => return refused(*status, reason, message),
        };
        let token = query.iter().find(|(name, _)| name == "pageToken");
        let start: usize = token.and_then(|(_, token)| token.parse().ok()).unwrap_or(0);
        let shown = rows.iter().skip(start).take(page).map(|row| {
            let cells = row.iter().map(|cell| json!({ "v": cell }));
            json!({ "f": cells.collect::<Vec<_>>() })
        });
        let mut body = json!({
            "kind": "bigquery#queryResponse",
            "jobComplete": true,
            "jobReference": reference,
            "totalRows": rows.len().to_string(),
            "rows": shown.collect::<Vec<_>>(),
        });
        if let (true, Some(object)) = (start.saturating_add(page) < rows.len(), body.as_object_mut()) {
            object.insert("pageToken".to_owned(), (start + page).to_string().into());
        }
        (200, body)
    }

    /// `jobs.get`
    pub(in crate::testkit) fn job(&mut self, id: &str) -> Answer {
        let is_running = self.running.iter().any(|job| job.id == id);
        let found = find(&mut self.jobs, id);
        let status = match found {
            None if is_running => json!({ "state": "RUNNING" }),
            None => return refused(404, "notFound", &format!("Not found: Job {id}")),
            Some(job) if job.unready > 0 => {
                job.unready -= 1;
                json!({ "state": "PENDING" })
            }
            Some(job) => match &job.outcome {
                Ok(_) => json!({ "state": "DONE" }),
                Err((_, reason, message)) => {
                    json!({ "state": "DONE", "errorResult": { "reason": reason, "message": message } })
                }
            },
        };
        let reference = json!({ "projectId": "p", "jobId": id, "location": "US" });
        (200, json!({ "kind": "bigquery#job", "jobReference": reference, "status": status }))
    }

    fn select(&self, body: &Value) -> Result<Rows, Refused> {
        let sql = body.get("query").and_then(Value::as_str).unwrap_or_default();
        let parameters = Parameters::of(body);
        if let Some(rows) = sql.strip_prefix("SELECT COUNT(*) FROM `") {
            return self.count(rows, &parameters);
        }
        if let Some(rest) = sql.strip_prefix("SELECT c.`offset`, c.`claim` FROM `") {
            return self.claimed(sql, rest, &parameters);
        }
        if let Some(rest) = sql.strip_prefix("SELECT COUNT(DISTINCT t.`") {
            return self.present(sql, rest, &parameters);
        }
        if let Some(source) = source::Source::of(sql) {
            return completeness::select(self, sql, &source, &parameters);
        }
        Err(invalid("the fake does not read this"))
    }

    fn table_of(&self, name: &str) -> Result<&Table, Refused> {
        let table = TableName::parse(name).ok().and_then(|name| self.tables.get(&name));
        let table = table.ok_or_else(|| (404, "notFound", format!("Not found: Table {name}")))?;
        if table.demands_filter() {
            let problem = "without a filter that can be used for partition elimination";
            return Err(invalid(format!("Cannot query over table '{name}' {problem}")));
        }
        Ok(table)
    }

    /// By whom records are claimed.
    fn claimed(&self, sql: &str, rest: &str, parameters: &Parameters) -> Result<Rows, Refused> {
        let unread = || invalid("the fake does not read this");
        let name = rest.split_once('`').map(|(name, _)| name).unwrap_or_default();
        let table = self.table_of(name)?;
        if TableName::parse(name).map(|name| claimed_sql(&name)).ok().as_deref() != Some(sql) {
            return Err(unread());
        }
        let identity = ["topic", "partition", "offset"];
        let found = of_lane(table, identity, parameters)?;
        let row = |(offset, row): (i64, FakeRow)| {
            let claim = row.columns.get("claim").and_then(Value::as_str).map(str::to_owned);
            vec![Some(offset.to_string()), claim]
        };
        Ok(found.into_iter().map(row).collect())
    }

    /// How many records have rows.
    fn present(&self, sql: &str, rest: &str, parameters: &Parameters) -> Result<Rows, Refused> {
        let read = || {
            let (offset, rest) = rest.split_once("`) FROM `")?;
            let (name, rest) = rest.split_once("` AS t WHERE t.`")?;
            let (topic, rest) = rest.split_once("` = @topic AND t.`")?;
            let (partition, _) = rest.split_once("` = @partition")?;
            let identity = [topic, partition, offset];
            let made = present_sql(&TableName::parse(name).ok()?, &identity.map(str::to_owned));
            (made == sql).then_some((name, identity))
        };
        let (name, identity) = read().ok_or_else(|| invalid("the fake does not read this"))?;
        let mut offsets: Vec<_> = of_lane(self.table_of(name)?, identity, parameters)?
            .into_iter()
            .map(|(offset, _)| offset)
            .collect();
        offsets.sort_unstable();
        offsets.dedup();
        Ok(vec![vec![Some(offsets.len().to_string())]])
    }

    /// ``SELECT COUNT(*) FROM `table` WHERE `column` op @parameter AND …``
    fn count(&self, rest: &str, parameters: &Parameters) -> Result<Rows, Refused> {
        let (table, conditions) = rest.split_once("` WHERE ").ok_or_else(|| invalid("no WHERE"))?;
        let table = self.table_of(table)?;
        let mut count = 0_u64;
        for row in table.visible() {
            let mut all = true;
            for condition in conditions.split(" AND ") {
                let unknown = || invalid(format!("Unrecognized name or parameter in {condition}"));
                let mut words = condition.split(' ');
                let column = words.next().unwrap_or_default().trim_matches('`');
                let operator = words.next().unwrap_or_default();
                let right = words.next().and_then(|word| parameters.get(word.trim_start_matches('@')));
                let right = right.ok_or_else(unknown)?;
                if !table.schema.fields.iter().any(|field| field.name == column) {
                    return Err(unknown());
                }
                let left = row.columns.get(column);
                all &= match operator {
                    "=" => left == Some(&right),
                    ">=" => left.and_then(Value::as_i64) >= right.as_i64(),
                    "<" => left.is_some_and(|left| left.as_i64() < right.as_i64()),
                    _ => return Err(invalid("the fake does not know this operator")),
                };
            }
            count += u64::from(all);
        }
        Ok(vec![vec![Some(count.to_string())]])
    }
}

/// Rows of `@topic` and `@partition` whose offset is one of `@offsets`.
fn of_lane(
    table: &Table,
    identity: [&str; 3],
    parameters: &Parameters,
) -> Result<Vec<(i64, FakeRow)>, Refused> {
    let (topic, partition) = (parameters.text("topic")?, parameters.number("partition")?);
    let wanted = parameters.numbers("offsets")?;
    let of = |row: FakeRow| {
        let [of_topic, of_partition, offset] = identity.map(|column| row.columns.get(column));
        let is = of_topic?.as_str()? == topic && of_partition?.as_i64()? == partition;
        let offset = offset?.as_i64().filter(|offset| is && wanted.contains(offset))?;
        Some((offset, row))
    };
    Ok(table.visible().into_iter().filter_map(of).collect())
}

fn find<'j>(jobs: &'j mut VecDeque<Job>, id: &str) -> Option<&'j mut Job> {
    jobs.iter_mut().find(|job| job.id == id)
}

/// The parameters of a request, by name.
#[derive(Debug)]
pub(super) struct Parameters(Vec<Value>);

impl Parameters {
    fn of(body: &Value) -> Self {
        Self(body.get("queryParameters").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|of| of.get("name").and_then(Value::as_str) == Some(name))
    }

    /// A single value, a number if its type says so.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let found = self.find(name)?;
        typed(found.get("parameterType")?, found.get("parameterValue")?)
    }

    pub(super) fn number(&self, name: &str) -> Result<i64, Refused> {
        let number = self.get(name).and_then(|value| value.as_i64());
        number.ok_or_else(|| invalid(format!("Query parameter '{name}' not found")))
    }

    pub(super) fn text(&self, name: &str) -> Result<String, Refused> {
        let text = self.get(name).and_then(|value| value.as_str().map(str::to_owned));
        text.ok_or_else(|| invalid(format!("Query parameter '{name}' not found")))
    }

    /// An array of numbers.
    pub(super) fn numbers(&self, name: &str) -> Result<Vec<i64>, Refused> {
        let read = || {
            let found = self.find(name)?;
            let kind = found.pointer("/parameterType/arrayType")?;
            let values = found.pointer("/parameterValue/arrayValues")?.as_array()?;
            values.iter().map(|value| typed(kind, value)?.as_i64()).collect::<Option<Vec<_>>>()
        };
        read().ok_or_else(|| invalid(format!("Query parameter '{name}' is no array of numbers")))
    }

    /// An array of structs: of each, its fields by name.
    pub(super) fn structs(&self, name: &str) -> Result<Vec<Value>, Refused> {
        let read = || {
            let found = self.find(name)?;
            let types = found.pointer("/parameterType/arrayType/structTypes")?.as_array()?;
            let values = found.pointer("/parameterValue/arrayValues")?.as_array()?;
            let of = |value: &Value| {
                let mut fields = serde_json::Map::new();
                for field in types {
                    let name = field.get("name")?.as_str()?;
                    let value = value.get("structValues")?.get(name)?;
                    fields.insert(name.to_owned(), typed(field.get("type")?, value)?);
                }
                Some(Value::Object(fields))
            };
            values.iter().map(of).collect::<Option<Vec<_>>>()
        };
        read().ok_or_else(|| invalid(format!("Query parameter '{name}' is no array of structs")))
    }
}

fn typed(kind: &Value, value: &Value) -> Option<Value> {
    let text = value.get("value")?.as_str()?;
    Some(match kind.get("type")?.as_str()? {
        "INT64" => Value::from(text.parse::<i64>().ok()?),
        "STRING" => text.into(),
        _ => return None,
    })
}
