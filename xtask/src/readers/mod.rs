//! Readers of object files that share no code with Aqueduct: Arrow's C++ and `DuckDB` for Parquet, fastavro for Avro, Python's own
//! for text. What they find is compared with what was produced, value by value.
//!
//! They run in a Python of their own below the cache directory, in one process for as many files as there are.

mod cell;

use std::io::{BufRead, BufReader, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::cell::{Cell, Unit};
use crate::services::Cache;

/// The Python that has the libraries.
#[derive(Clone, Debug)]
pub struct Readers {
    python: PathBuf,
}

/// Who reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reader {
    /// Parquet by Arrow's C++ library.
    Arrow,
    /// Parquet by `DuckDB`.
    DuckDb,
    /// Many Parquet files of the load's events by `DuckDB`, the path being a pattern: one row of counts.
    Events,
    /// Avro object containers by fastavro.
    FastAvro,
    /// One JSON value a line.
    JsonL,
    /// One JSON array.
    Json,
    /// Comma-separated text with a header.
    Csv,
    /// Bytes, a newline after each value.
    Lines,
    /// The whole file as one value.
    Raw,
}

/// A file to be read.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// Where it is.
    pub path: PathBuf,
    /// Who reads it.
    pub reader: Reader,
    /// What is around it as a whole.
    pub compression: Around,
}

/// What a text file is compressed with as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Around {
    /// Nothing.
    #[default]
    None,
    /// gzip, with as many members as there are.
    Gzip,
    /// Zstandard, with as many frames as there are.
    Zstd,
}

/// What a reader has found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The rows in order.
    pub rows: Vec<Cell>,
    /// What the file says that it is compressed with, inside or around.
    pub codecs: Vec<String>,
    /// The schema, as the reader prints it; empty for text.
    pub schema: String,
}

impl Readers {
    /// Makes sure that the libraries are there; fetches them from `PyPI` if they are not (about 80 MB).
    pub fn install(cache: &Cache) -> Result<Self> {
        Ok(Self { python: cache.python()? })
    }

    /// The Python itself.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Reads `files`, in one process. Blocks. What a reader has against a file is in the file's place.
    ///
    /// # Errors
    /// Python cannot be run, or ends before it has told of every file.
    pub fn read(&self, files: &[Request]) -> Result<Vec<Result<Contents, String>>> {
        let mut manifest = tempfile::tempfile()?;
        for file in files {
            serde_json::to_writer(&mut manifest, file)?;
            manifest.write_all(b"\n")?;
        }
        manifest.rewind()?;
        // Isolated: nothing of the user's environment decides what is imported.
        let mut child = Command::new(&self.python)
            .args(["-I", "-c", SCRIPT])
            .stdin(Stdio::from(manifest))
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.python.display()))?;
        let stdout = child.stdout.take().context("a reader without an output")?;
        let told = collect(BufReader::new(stdout));
        let status = child.wait()?;
        let told = told?;
        ensure!(
            status.success() && told.len() == files.len(),
            "the readers ended with {status} after {} of {} files",
            told.len(),
            files.len()
        );
        Ok(told)
    }
}

/// One line of what `read.py` prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Row(Value),
    End { rows: usize, codecs: Vec<String>, schema: String },
    Error(String),
}

fn collect(lines: impl BufRead) -> Result<Vec<Result<Contents, String>>> {
    let mut told = Vec::new();
    let mut open = Contents::default();
    for line in lines.split(b'\n') {
        let line = line?;
        let parsed = serde_json::from_slice(&line);
        match parsed.with_context(|| format!("a reader said {:?}", String::from_utf8_lossy(&line)))? {
            Line::Row(row) => open.rows.push(Cell::try_from(row)?),
            Line::End { rows, codecs, schema } => {
                ensure!(rows == open.rows.len(), "a reader counts {rows} rows and tells {}", open.rows.len());
                (open.codecs, open.schema) = (codecs, schema);
                told.push(Ok(std::mem::take(&mut open)));
            }
            Line::Error(error) => {
                told.push(Err(format!("{error} (after {} rows)", open.rows.len())));
                open = Contents::default();
            }
        }
    }
    Ok(told)
}

impl Reader {
    /// `cell` as this reader can tell it at best.
    #[must_use]
    pub fn sees(self, cell: Cell) -> Cell {
        match (self, cell) {
            // It has no times of milliseconds.
            (Self::DuckDb, Cell::Time(count, Unit::Millis)) => {
                Cell::Time(count.saturating_mul(1_000), Unit::Micros)
            }
            (Self::DuckDb, Cell::Timestamp(count, Unit::Millis, utc)) => {
                Cell::Timestamp(count.saturating_mul(1_000), Unit::Micros, utc)
            }
            (_, Cell::List(items)) => Cell::List(items.into_iter().map(|item| self.sees(item)).collect()),
            (_, Cell::Map(entries)) => Cell::Map(self.sees_members(entries)),
            (_, Cell::Record(members)) => Cell::Record(self.sees_members(members)),
            (_, cell) => cell,
        }
    }

    fn sees_members(self, members: Vec<(String, Cell)>) -> Vec<(String, Cell)> {
        members.into_iter().map(|(name, cell)| (name, self.sees(cell))).collect()
    }
}

const SCRIPT: &str = include_str!("../../readers/read.py");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_and_a_refused_one_keeps_its_place() {
        let said = concat!(
            r#"{"row":{"a":1}}"#,
            "\n",
            r#"{"end":{"rows":1,"codecs":["zstd"],"schema":"s"}}"#,
            "\n",
            r#"{"row":{"a":2}}"#,
            "\n",
            r#"{"error":"broken"}"#,
            "\n",
            r#"{"end":{"rows":0,"codecs":[],"schema":""}}"#,
            "\n"
        );
        let told = collect(said.as_bytes()).unwrap();
        let [first, second, third] = told.as_slice() else { panic!("{told:?}") };
        let first = first.as_ref().unwrap();
        assert_eq!(first.rows, [Cell::record([("a", Cell::Int(1))])]);
        assert_eq!((first.codecs.as_slice(), first.schema.as_str()), (["zstd".to_owned()].as_slice(), "s"));
        assert_eq!(second, &Err("broken (after 1 rows)".to_owned()));
        assert_eq!(third.as_ref().unwrap().rows, []);
        assert!(collect(&b"{\"end\":{\"rows\":1,\"codecs\":[],\"schema\":\"\"}}\n"[..]).is_err());
        assert!(collect(&b"Traceback\n"[..]).is_err());
    }

    #[test]
    fn duckdb_sees_milliseconds_as_microseconds() {
        let cell = Cell::record([("t", Cell::List(vec![Cell::Timestamp(7, Unit::Millis, true)]))]);
        let seen = Cell::record([("t", Cell::List(vec![Cell::Timestamp(7_000, Unit::Micros, true)]))]);
        assert_eq!(Reader::DuckDb.sees(cell.clone()), seen);
        assert_eq!(Reader::Arrow.sees(cell.clone()), cell);
    }
}
