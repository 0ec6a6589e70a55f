//! Statements in `GoogleSQL`, over the REST interface.
//!
//! Values are parameters with a type, never parts of the text
//! (<https://cloud.google.com/bigquery/docs/parameterized-queries>). Names of tables and columns cannot be parameters: they are
//! quoted, and escaped as string literals are
//! (<https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#quoted_identifiers>).

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Answer, At, BigQueryError};
use crate::name::TableName;
use crate::retry::retried;
use crate::transport::{Rest, classify, url_encoded};

/// How long one call waits for a statement's end.
const WAIT_MS: u64 = 20_000;
/// How often it is asked whether a statement is done.
const POLLS_MAX: usize = 90;
/// How long a job is left alone before it is asked for again: this long at first.
const JOB_DELAY: Duration = Duration::from_millis(50);
/// At most this long; less where answers are expected soon.
const JOB_DELAY_MAX: Duration = Duration::from_secs(2);
/// How long a job is waited for.
const JOB_PATIENCE: Duration = Duration::from_mins(30);
/// Most rows of one answer: everything here asks for few.
const ROWS_MAX: usize = 100_000;

/// A statement with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    sql: String,
    parameters: Vec<Value>,
}

/// One row: its cells as text, `None` for null.
pub(crate) type Cells = Vec<Option<String>>;

impl Statement {
    pub(crate) fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), parameters: Vec::new() }
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.parameter(name, &json!({ "type": "STRING" }), &json!({ "value": value }))
    }

    pub(crate) fn number(self, name: &str, value: i64) -> Self {
        self.parameter(name, &json!({ "type": "INT64" }), &json!({ "value": value.to_string() }))
    }

    /// An array of numbers.
    pub(crate) fn numbers(self, name: &str, values: impl IntoIterator<Item = i64>) -> Self {
        let kind = json!({ "type": "ARRAY", "arrayType": { "type": "INT64" } });
        let values = values.into_iter().map(|value| json!({ "value": value.to_string() }));
        self.parameter(name, &kind, &json!({ "arrayValues": values.collect::<Vec<_>>() }))
    }

    /// An array of structs, with fields of these names and types.
    pub(crate) fn structs<const FIELDS: usize>(
        self,
        name: &str,
        fields: [(&str, &str); FIELDS],
        values: impl Iterator<Item = [String; FIELDS]>,
    ) -> Self {
        let types = fields.map(|(field, kind)| json!({ "name": field, "type": { "type": kind } }));
        let of = |values: [String; FIELDS]| {
            let fields = fields.iter().zip(values);
            let fields = fields.map(|((field, _), value)| ((*field).to_owned(), json!({ "value": value })));
            json!({ "structValues": fields.collect::<serde_json::Map<_, _>>() })
        };
        let kind =
            json!({ "type": "ARRAY", "arrayType": { "type": "STRUCT", "structTypes": types.as_slice() } });
        self.parameter(name, &kind, &json!({ "arrayValues": values.map(of).collect::<Vec<_>>() }))
    }

    fn parameter(mut self, name: &str, kind: &Value, value: &Value) -> Self {
        self.parameters.push(json!({ "name": name, "parameterType": kind, "parameterValue": value }));
        self
    }
}

/// A table as a statement names it.
pub(crate) fn table_sql(table: &TableName) -> String {
    quoted(&table.to_string())
}

/// A quoted identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// What `jobs.query` and `jobs.getQueryResults` answer
/// (<https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/getQueryResults>).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answered {
    job_complete: bool,
    job_reference: Option<JobReference>,
    page_token: Option<String>,
    rows: Vec<AnsweredRow>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JobReference {
    job_id: String,
    location: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AnsweredRow {
    f: Vec<AnsweredCell>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AnsweredCell {
    v: Value,
}

impl Rest {
    /// The rows that a statement without effects gives. `project` pays for it. A call that is repeated asks again.
    ///
    /// [`BigQueryError::NoSuchTable`] if a table it names does not exist.
    pub(crate) async fn query(
        &self,
        project: &str,
        statement: &Statement,
    ) -> Result<Vec<Cells>, BigQueryError> {
        let at = At::new("query", project);
        let body = json!({
            "query": statement.sql,
            "useLegacySql": false,
            "parameterMode": "NAMED",
            "queryParameters": statement.parameters,
            "timeoutMs": self.wait_ms(),
            // A cached answer is of an earlier moment.
            "useQueryCache": false,
        });
        let path = format!("projects/{}/queries", url_encoded(project));
        let first = self.post(&at, &path, &body).await?;
        self.rows(&at, project, first).await
    }

    /// Runs statements that have effects, once: as the job `id`, which nobody may have used before. It may be called again after any
    /// error: "it is not possible to repeat a job by using the same job ID"
    /// (<https://cloud.google.com/bigquery/docs/managing-jobs#repeat_jobs>), and one that exists already is the one whose answer was
    /// lost (<https://cloud.google.com/bigquery/docs/troubleshoot-queries#job_already_exists>).
    ///
    /// What comes back is the job's own error. An error that is a [timeout](BigQueryError::Timeout), or otherwise says nothing of the
    /// job, leaves open whether it runs still.
    pub(crate) async fn run_job(
        &self,
        project: &str,
        location: &str,
        id: &str,
        statement: &Statement,
    ) -> Result<(), BigQueryError> {
        let at = At::new("run job", id);
        let body = json!({
            "jobReference": { "projectId": project, "jobId": id, "location": location },
            "configuration": { "query": {
                "query": statement.sql,
                "useLegacySql": false,
                "parameterMode": "NAMED",
                "queryParameters": statement.parameters,
            } },
        });
        let path = format!("projects/{}/jobs", url_encoded(project));
        let inserted = retried(|| async {
            match self.post(&at, &path, &body).await {
                // The answer to the first call was lost.
                Ok(_) | Err(BigQueryError::TableBusy { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        });
        inserted.await?;
        let path = format!("projects/{}/jobs/{}", url_encoded(project), url_encoded(id));
        let query = format!("?location={}", url_encoded(location));
        let (mut delay, mut waited) = (JOB_DELAY, Duration::ZERO);
        while waited < JOB_PATIENCE {
            let found = retried(|| async { self.get(&at, &path, &query).await });
            match found.await.map(|job| Self::ended(&at, &job)) {
                Ok(Some(ended)) => return ended,
                Ok(None) => {}
                // That nobody knows the job says nothing about a table.
                Err(BigQueryError::NoSuchTable { at, answer }) => {
                    return Err(BigQueryError::Unknown { at, answer });
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(delay).await;
            waited += delay;
            delay = (delay * 3 / 2).min(JOB_DELAY_MAX).min(JOB_DELAY.max(self.timeout() / 60));
        }
        Err(self.timed_out(at))
    }

    /// What came of a job that has ended: "a DONE status does not mean that the job completed successfully, only that it is no longer
    /// running […] If status.errorResult is absent, the job finished successfully"
    /// (<https://cloud.google.com/bigquery/docs/running-jobs>).
    fn ended(at: &At, job: &Value) -> Option<Result<(), BigQueryError>> {
        let status = job.get("status")?;
        if status.get("state")?.as_str()? != "DONE" {
            return None;
        }
        let Some(error) = status.get("errorResult").filter(|error| !error.is_null()) else {
            return Some(Ok(()));
        };
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let reason = text("reason");
        // The status that the same reason has in an answer
        // (<https://cloud.google.com/bigquery/docs/error-messages#errortable>).
        let status = match reason {
            "accessDenied" => 403,
            "notFound" => 404,
            "duplicate" => 409,
            _ => 400,
        };
        Some(Err(classify(at.clone(), status, Answer::new(status, reason, text("message")), reason)))
    }

    /// Where a dataset is; its jobs have to say so.
    pub(crate) async fn location(&self, project: &str, dataset: &str) -> Result<String, BigQueryError> {
        let at = At::new("get dataset", format_args!("{project}.{dataset}"));
        let path = format!("projects/{}/datasets/{}", url_encoded(project), url_encoded(dataset));
        let found = self.get(&at, &path, "").await.map_err(|error| match error {
            BigQueryError::NoSuchTable { at, answer } => BigQueryError::NoSuchDataset { at, answer },
            error => error,
        })?;
        let location = found.get("location").and_then(Value::as_str);
        location.map(str::to_owned).ok_or_else(|| BigQueryError::Unknown {
            at,
            answer: Answer::new(200, "", "the dataset has no location"),
        })
    }

    /// A statement's rows, once it is done.
    async fn rows(&self, at: &At, project: &str, first: Value) -> Result<Vec<Cells>, BigQueryError> {
        let unreadable = |problem: &str| BigQueryError::Unknown {
            at: at.clone(),
            answer: Answer::new(200, "", &format!("the query's answer {problem}")),
        };
        let (mut answer, mut rows, mut polls) = (first, Vec::new(), 0);
        loop {
            let answered: Answered =
                serde_json::from_value(answer).map_err(|_| unreadable("cannot be read"))?;
            rows.extend(answered.rows.into_iter().map(cells));
            if rows.len() > ROWS_MAX {
                return Err(unreadable("has more rows than are read"));
            }
            let page = match (answered.job_complete, answered.page_token) {
                (true, None) => return Ok(rows),
                (true, Some(token)) => format!("&pageToken={}", url_encoded(&token)),
                (false, _) => {
                    polls += 1;
                    String::new()
                }
            };
            if polls > POLLS_MAX {
                return Err(self.timed_out(at.clone()));
            }
            let job = answered.job_reference.ok_or_else(|| unreadable("names no job"))?;
            let location = job.location.map(|location| format!("&location={}", url_encoded(&location)));
            let path = format!("projects/{}/queries/{}", url_encoded(project), url_encoded(&job.job_id));
            let query = format!("?timeoutMs={}{}{page}", self.wait_ms(), location.unwrap_or_default());
            answer = self.get(at, &path, &query).await?;
        }
    }

    /// Half of what a call may take, so that "not yet" comes in time.
    fn wait_ms(&self) -> u64 {
        let half = u64::try_from(self.timeout().as_millis() / 2).unwrap_or(WAIT_MS);
        half.min(WAIT_MS)
    }
}

fn cells(row: AnsweredRow) -> Cells {
    let cell = |cell: AnsweredCell| match cell.v {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    row.f.into_iter().map(cell).collect()
}

/// A cell that has to be a whole number.
pub(crate) fn number_in(row: &Cells, place: usize) -> Result<i64, BigQueryError> {
    row.get(place).and_then(|cell| cell.as_deref()?.parse().ok()).ok_or_else(|| BigQueryError::Unknown {
        at: At::new("query", "its answer"),
        answer: Answer::new(200, "", &format!("column {place} of an answer is no whole number")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted("_kafka_offset"), "`_kafka_offset`");
        assert_eq!(quoted(r"a`; DROP TABLE x; --\"), r"`a\`; DROP TABLE x; --\\`");
        let table = TableName::parse("example.com:shop.events.orders-2024").unwrap();
        assert_eq!(table_sql(&table), "`example.com:shop.events.orders-2024`");
    }

    #[test]
    fn values_are_typed_parameters() {
        let fields = [("topic", "STRING"), ("first", "INT64")];
        let rows = [["a'b".to_owned(), "1".to_owned()]].into_iter();
        let statement =
            Statement::new("SELECT 1").text("t", "x\"y").number("n", -7).structs("s", fields, rows);
        let shown = serde_json::to_string(&statement.parameters).unwrap();
        for part in
            [r#""value":"x\"y""#, r#""type":"INT64"},"parameterValue":{"value":"-7"}"#, r#""value":"a'b""#]
        {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert_eq!(statement.sql, "SELECT 1");
    }

    #[test]
    fn nulls_numbers_and_texts_are_cells() {
        let row = serde_json::from_value(json!({ "f": [{ "v": null }, { "v": "7" }, { "v": 8 }] })).unwrap();
        let row = cells(row);
        assert_eq!(row, [None, Some("7".to_owned()), Some("8".to_owned())]);
        assert_eq!(number_in(&row, 2).unwrap(), 8);
        assert!(number_in(&row, 0).is_err() && number_in(&row, 3).is_err());
    }
}
