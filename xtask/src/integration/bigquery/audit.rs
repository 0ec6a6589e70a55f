//! Rows of tables against the events of a topic.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::spawn_blocking;
use xtask::load::audit::Audit;
use xtask::load::{Identity, Ledger, Mark, Spec};
use xtask::tables::{Found, Row, Tables};

use crate::worker::TABLE_PREFIX;

/// What was found, and in which tables.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) audit: Audit,
    pub(super) tables: Vec<Found>,
}

/// Reads every row of `dataset` and counts what became of every event of `ledger`.
pub(super) async fn audit(
    tables: Tables,
    dataset: String,
    ledger: Ledger,
    spec: Spec,
    topic: String,
) -> Result<Judged> {
    spawn_blocking(move || {
        let mut judge = Judge { ledger, spec, topic, audit: Audit::default(), event: Vec::new() };
        let found = tables.read(&dataset, |table, row| {
            judge.row(table, row);
            Ok(())
        })?;
        let audit = judge.settle(&found);
        Ok(Judged { audit, tables: found })
    })
    .await?
}

struct Judge {
    ledger: Ledger,
    spec: Spec,
    topic: String,
    audit: Audit,
    event: Vec<u8>,
}

/// As many are told of.
const FINDINGS_MAX: usize = 20;

impl Judge {
    fn row(&mut self, table: &str, mut row: Row) {
        self.audit.rows += 1;
        match self.identify(table, &mut row).and_then(|event| self.compare(event, &row).map(|()| event)) {
            Err(error) => {
                self.audit.corrupt += 1;
                self.find(format!("table {table}: {error:#}"));
            }
            Ok(event) => match self.ledger.mark(event) {
                Mark::First => {}
                Mark::Again => {
                    self.audit.duplicated += 1;
                    self.find(format!("table {table}: {event:?} is there twice"));
                }
                Mark::Unknown => {
                    self.audit.corrupt += 1;
                    self.find(format!("table {table}: the topic holds no {event:?}"));
                }
            },
        }
    }

    /// Which event the row says that it is of, by its own columns and by those that say where the record was; takes the latter out.
    fn identify(&self, table: &str, row: &mut Row) -> Result<Identity> {
        let seq = row.get("seq").and_then(Value::as_u64).context("no number")?;
        let partition = row.get("partition").and_then(Value::as_u64).context("no partition")?;
        let event = Identity { seq, partition: u32::try_from(partition)? };
        let place = ["_kafka_topic", "_kafka_partition", "_kafka_offset"].map(|name| row.remove(name));
        let offset = self.ledger.offset_of(event).with_context(|| format!("the topic holds no {event:?}"))?;
        let expected = [self.topic.as_str().into(), partition.into(), offset.into()].map(Some);
        ensure!(place == expected, "{event:?} is said to be at {place:?}, and was at {expected:?}");
        let service = row.get("service").and_then(Value::as_str).unwrap_or_default();
        ensure!(
            table.strip_prefix(TABLE_PREFIX) == Some(service),
            "{event:?} is of service {service}, and in another's table"
        );
        Ok(event)
    }

    /// Every value against the event as it was produced.
    fn compare(&mut self, event: Identity, row: &Row) -> Result<()> {
        self.spec.write(event.seq, &mut self.event);
        let mut produced: Row = serde_json::from_slice(&self.event)?;
        for (name, value) in &mut produced {
            *value = match name.as_str() {
                "timestamp" => {
                    let time: Timestamp = value.as_str().unwrap_or_default().parse()?;
                    time.as_microsecond().into()
                }
                // As text: it is a decimal there, and a float nowhere.
                "latency_ms" => value.to_string().into(),
                _ => std::mem::take(value),
            };
        }
        for (name, value) in &produced {
            let found = row.get(name);
            ensure!(found == Some(value), "{event:?} has {name} {found:?}, produced was {value}");
        }
        ensure!(row.len() == produced.len(), "{event:?} has other columns: {row:?}");
        Ok(())
    }

    fn settle(mut self, tables: &[Found]) -> Audit {
        self.audit.objects = tables.len() as u64;
        self.audit.records = self.ledger.found();
        self.audit.lost = self.ledger.expected() - self.audit.records;
        for event in self.ledger.missing(5) {
            let offset = self.ledger.offset_of(event);
            self.find(format!("lost: {event:?} at offset {offset:?}"));
        }
        // What SQL counts has to say the same.
        let again: u64 = tables.iter().map(|table| table.rows.saturating_sub(table.distinct)).sum();
        if again != self.audit.duplicated {
            self.find(format!(
                "by SQL there are {again} rows too many, by their values {}",
                self.audit.duplicated
            ));
            self.audit.duplicated = self.audit.duplicated.max(again);
        }
        self.audit
    }

    fn find(&mut self, finding: String) {
        if self.audit.findings.len() < FINDINGS_MAX {
            self.audit.findings.push(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judge() -> Judge {
        let spec = Spec { records: 40, ..Spec::default() };
        let ledger = Ledger::generated(&spec, 0..spec.records).unwrap();
        Judge { ledger, spec, topic: "t".to_owned(), audit: Audit::default(), event: Vec::new() }
    }

    fn row(judge: &Judge, seq: u64) -> (String, Row) {
        let mut event = Vec::new();
        judge.spec.write(seq, &mut event);
        let mut row: Row = serde_json::from_slice(&event).unwrap();
        row.insert("timestamp".to_owned(), (judge.spec.time_of(seq) * 1_000).into());
        let latency = row["latency_ms"].to_string();
        row.insert("latency_ms".to_owned(), latency.into());
        for (name, value) in [
            ("_kafka_topic", json!("t")),
            ("_kafka_partition", json!(seq % 4)),
            ("_kafka_offset", json!(seq / 4)),
        ] {
            row.insert(name.to_owned(), value);
        }
        (format!("{TABLE_PREFIX}{}", row["service"].as_str().unwrap()), row)
    }

    fn found(rows: u64, distinct: u64) -> Found {
        Found { name: "t".to_owned(), rows, distinct, ..Found::default() }
    }

    #[test]
    fn all_rows_once_are_clean_and_everything_else_is_counted() {
        let mut clean = judge();
        for seq in 0..40 {
            let (table, row) = row(&clean, seq);
            clean.row(&table, row);
        }
        let audit = clean.settle(&[found(40, 40)]);
        assert!(audit.is_clean() && audit.records == 40, "{audit:?}");

        let mut bad = judge();
        let rows: Vec<_> = (0..39).map(|seq| row(&bad, seq)).collect();
        for (table, row) in &rows {
            bad.row(table, row.clone());
        }
        let (table, again) = &rows[5];
        bad.row(table, again.clone());
        for (name, value) in [("status", json!(1)), ("_kafka_offset", json!(9)), ("seq", json!(99))] {
            let mut changed = again.clone();
            changed.insert(name.to_owned(), value);
            bad.row(table, changed);
        }
        bad.row("logs_other", again.clone());
        let audit = bad.settle(&[found(44, 43)]);
        assert_eq!((audit.lost, audit.duplicated, audit.corrupt), (1, 1, 4), "{audit:?}");
    }

    #[test]
    fn what_sql_counts_has_to_say_the_same() {
        let audit = judge().settle(&[found(7, 5)]);
        assert_eq!((audit.duplicated, audit.lost), (2, 40));
    }
}
