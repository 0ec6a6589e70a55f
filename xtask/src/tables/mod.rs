//! What is in BigQuery tables, by Google's own client for Python: it counts by SQL and tells of every row.

use std::io::{BufRead as _, BufReader, Seek as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::services::BigQuery;

/// The client of one project, on an emulator.
#[derive(Clone, Debug)]
pub struct Tables {
    python: PathBuf,
    endpoint: String,
    project: String,
}

/// A table as it is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its rows, as SQL counts them.
    pub rows: u64,
    /// Records its rows are of, as SQL counts topic, partition and offset.
    pub distinct: u64,
    /// The column of its partitions.
    pub partitioned_by: Option<String>,
    /// The columns that cluster it.
    pub clustered_by: Vec<String>,
}

/// A row: times in microseconds, decimals as text without zeros at their end.
pub type Row = Map<String, Value>;

#[derive(Serialize)]
struct Request<'a> {
    endpoint: &'a str,
    project: &'a str,
    dataset: &'a str,
    r#do: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Table(Found),
    Row(Row),
    End,
}

impl Tables {
    /// The client of `project`.
    pub fn of(emulator: &BigQuery, project: impl Into<String>) -> Self {
        let (python, endpoint) = (emulator.python().to_owned(), emulator.api_endpoint());
        Self { python, endpoint, project: project.into() }
    }

    /// Makes an empty dataset, in place of one of that name. Blocks.
    ///
    /// # Errors
    /// Python cannot be run, or the client fails, with its words.
    pub fn recreate(&self, dataset: &str) -> Result<()> {
        self.ask(dataset, "recreate", |_| bail!("nothing was asked for"))
    }

    /// Tells `each` of every row of every table of the dataset, and answers with the tables. Blocks.
    ///
    /// # Errors
    /// As [`recreate`](Self::recreate); a table of which SQL counts other rows than are told; what `each` fails with.
    pub fn read(&self, dataset: &str, mut each: impl FnMut(&str, Row) -> Result<()>) -> Result<Vec<Found>> {
        let (mut tables, mut told, mut whole) = (Vec::<Found>::new(), 0, false);
        let complete = |tables: &[Found], told: u64| match tables.last() {
            Some(table) if table.rows != told => {
                bail!("table {} has {} rows by SQL, and {told} are told", table.name, table.rows)
            }
            _ => Ok(()),
        };
        self.ask(dataset, "read", |line| {
            match line {
                Line::Table(table) => {
                    complete(&tables, std::mem::take(&mut told))?;
                    tables.push(table);
                }
                Line::Row(row) => {
                    told += 1;
                    each(&tables.last().context("a row before its table")?.name, row)?;
                }
                Line::End => whole = true,
            }
            Ok(())
        })?;
        ensure!(whole, "the client ended before it had told of everything");
        complete(&tables, told)?;
        Ok(tables)
    }

    fn ask(&self, dataset: &str, what: &str, mut each: impl FnMut(Line) -> Result<()>) -> Result<()> {
        let mut request = tempfile::tempfile()?;
        let Self { endpoint, project, .. } = self;
        serde_json::to_writer(&mut request, &Request { endpoint, project, dataset, r#do: what })?;
        request.rewind()?;
        // Isolated: nothing of the user's environment decides what is imported.
        let mut child = Command::new(&self.python)
            .args(["-I", "-c", SCRIPT])
            .stdin(Stdio::from(request))
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.python.display()))?;
        let stdout = child.stdout.take().context("the client has no output")?;
        let told = lines(stdout, &mut each);
        if told.is_err() {
            child.kill().ok();
        }
        let status = child.wait()?;
        told?;
        ensure!(status.success(), "Google's client cannot {what} dataset {dataset}: see its words above");
        Ok(())
    }
}

fn lines(output: impl std::io::Read, each: &mut impl FnMut(Line) -> Result<()>) -> Result<()> {
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let parsed = serde_json::from_slice(&line);
        each(parsed.with_context(|| format!("the client said {:?}", String::from_utf8_lossy(&line)))?)?;
    }
    Ok(())
}

const SCRIPT: &str = include_str!("../../bigquery/tables.py");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_tables_rows_and_an_end() {
        let said = concat!(
            r#"{"table":{"name":"t","rows":1,"distinct":1,"partitioned_by":null,"clustered_by":["a"]}}"#,
            "\n",
            r#"{"row":{"a":1}}"#,
            "\n",
            "\"end\"\n"
        );
        let mut seen = Vec::new();
        let each = &mut |line| {
            seen.push(match line {
                Line::Table(table) => format!("{} {:?}", table.name, table.clustered_by),
                Line::Row(row) => Value::Object(row).to_string(),
                Line::End => "end".to_owned(),
            });
            Ok(())
        };
        lines(said.as_bytes(), each).unwrap();
        assert_eq!(seen, [r#"t ["a"]"#, r#"{"a":1}"#, "end"]);
        assert!(lines(&b"Traceback\n"[..], &mut |_| Ok(())).is_err());
    }
}
