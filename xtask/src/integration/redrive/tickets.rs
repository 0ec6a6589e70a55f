//! The records of these scenarios: tickets in JSON whose number says everything of them, and what is wrong with some.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use serde_json::json;
use tokio::task::{JoinHandle, spawn_blocking};
use xtask::readers::{Cell, Unit};

use crate::integration::formats::produce::{Place, producer};
use crate::integration::matrix::{Moment, hour};

/// What is wrong with a ticket: each stage meets what only it can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// No value. The correction stores what is known of it.
    Deleted,
    /// Cut short. Nothing can be done about it.
    Torn,
    /// A key that is no number.
    Key,
    /// A header that is no text.
    Header,
    /// Nothing to lay it out by.
    Homeless,
    /// A time that is none.
    Timeless,
    /// More than the column of the pipeline holds.
    TooMuch,
}

/// A ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(pub(crate) u64);

/// 1 November 2026.
const START_MS: i64 = 1_793_491_200_000;
const HOUR_MS: i64 = 3_600_000;
const SERVICES: [&str; 3] = ["pay", "ship", "mail"];
/// What no header of text holds.
const NO_TEXT: &[u8] = b"\xff\xfe";

impl Fault {
    /// The stage that its letter names, and the reason.
    pub(crate) fn letter(self) -> (&'static str, &'static str) {
        match self {
            Self::Deleted => ("convert", "null-value"),
            Self::Torn => ("convert", "malformed"),
            Self::Key => ("convert-key", "malformed"),
            Self::Header => ("convert-header", "malformed"),
            Self::Homeless => ("partition", "missing-field"),
            Self::Timeless => ("partition", "invalid-timestamp"),
            Self::TooMuch => ("encode", "invalid-field"),
        }
    }
}

impl Ticket {
    pub(crate) fn fault(self) -> Option<Fault> {
        Some(match self.0 % 50 {
            7 => Fault::Deleted,
            11 => Fault::Torn,
            17 => Fault::Key,
            23 => Fault::Header,
            29 => Fault::Homeless,
            31 => Fault::Timeless,
            37 => Fault::TooMuch,
            _ => return None,
        })
    }

    fn n(self) -> i64 {
        self.0.cast_signed()
    }

    fn service(self) -> &'static str {
        SERVICES.get(usize::try_from(self.0 / 5 % 3).unwrap_or(0)).copied().unwrap_or_default()
    }

    /// The time in its value.
    fn at(self) -> i64 {
        START_MS + self.n() % 2 * HOUR_MS + self.n() % HOUR_MS
    }

    /// The time of the record.
    fn timestamp(self) -> i64 {
        START_MS + 24 * HOUR_MS + self.n() % 3 * HOUR_MS + self.n() % HOUR_MS
    }

    fn total(self) -> i64 {
        if self.fault() == Some(Fault::TooMuch) { 5_000_000_000 + self.n() } else { self.n() % 1_000 }
    }

    fn at_text(self) -> String {
        if self.fault() == Some(Fault::Timeless) {
            return "yesterday".to_owned();
        }
        format!("{}Z", Moment::at(self.at(), Unit::Millis).text())
    }

    fn value(self) -> Option<Vec<u8>> {
        let mut value = json!({"number": self.0, "at": self.at_text(), "total": self.total()});
        if self.fault() != Some(Fault::Homeless)
            && let Some(value) = value.as_object_mut()
        {
            value.insert("service".to_owned(), self.service().into());
        }
        let mut text = value.to_string().into_bytes();
        match self.fault() {
            Some(Fault::Deleted) => return None,
            Some(Fault::Torn) => text.truncate(text.len() / 2),
            _ => {}
        }
        Some(text)
    }

    fn key(self) -> Vec<u8> {
        match self.fault() {
            Some(Fault::Key) => format!("k{}", self.0).into_bytes(),
            _ => self.0.to_be_bytes().to_vec(),
        }
    }

    fn header(self) -> Vec<u8> {
        match self.fault() {
            Some(Fault::Header) => NO_TEXT.to_vec(),
            _ => format!("trace-{}", self.0).into_bytes(),
        }
    }

    /// The ticket of which a record's key says that it is its own.
    pub(crate) fn of_key(key: &[u8]) -> Option<Self> {
        Some(Self(match key.strip_prefix(b"k") {
            // A number's first bytes are zeros.
            Some(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
            None => u64::from_be_bytes(key.try_into().ok()?),
        }))
    }

    /// The path it belongs in, and its row there: as the pipeline stores it, or as the correction does.
    pub(crate) fn stored(self, place: Place, repaired: bool) -> (String, Cell) {
        let text = |bytes: Vec<u8>| Cell::text(String::from_utf8_lossy(&bytes).into_owned());
        let int = |value: i64| Cell::Int(value.into());
        let is = |fault| self.fault() == Some(fault);
        let unless = |absent: bool, cell: Cell| if absent { Cell::Null } else { cell };
        let service = unless(is(Fault::Deleted) || is(Fault::Homeless), Cell::text(self.service()));
        let (at, key, header) = if repaired {
            (Cell::text(self.at_text()), Cell::Bytes(self.key()), Cell::Bytes(self.header()))
        } else {
            (Cell::Timestamp(self.at(), Unit::Millis, true), int(self.n()), text(self.header()))
        };
        let level = if let Cell::Text(service) = &service { service.as_str() } else { "nobody" };
        let hour = hour(if repaired { self.timestamp() } else { self.at() });
        let route = format!("service={level}/{hour}");
        let row = Cell::record([
            ("number", unless(is(Fault::Deleted), int(self.n()))),
            ("service", service),
            ("at", unless(is(Fault::Deleted), at)),
            ("total", unless(is(Fault::Deleted), int(self.total()))),
            ("_partition", int(place.0.into())),
            ("_offset", int(place.1)),
            ("_time", Cell::Timestamp(self.timestamp(), Unit::Millis, true)),
            ("_key", key),
            ("_headers", Cell::List(vec![Cell::record([("key", Cell::text("trace")), ("value", header)])])),
        ]);
        (route, row)
    }
}

/// Tickets that are produced in the background.
#[derive(Debug)]
pub(crate) struct Tickets {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<u64>>,
}

impl Tickets {
    /// Produces `rate` a second until told to stop.
    pub(crate) fn flow(brokers: &str, topic: &str, partitions: u32, rate: u64) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
        let task = spawn_blocking(move || {
            let producer = producer(&brokers)?;
            let (started, mut number) = (Instant::now(), 0);
            while !stopped.load(Ordering::Relaxed) {
                let ticket = Ticket(number);
                let (key, value, header) = (ticket.key(), ticket.value(), ticket.header());
                let mut record = BaseRecord::<[u8], [u8]>::to(&topic)
                    .partition(i32::try_from(number / 3 % u64::from(partitions))?)
                    .key(&key)
                    .timestamp(ticket.timestamp())
                    .headers(OwnedHeaders::new().insert(Header { key: "trace", value: Some(&header) }));
                record.payload = value.as_deref();
                producer.send(record).map_err(|(error, _)| error)?;
                producer.poll(Duration::ZERO);
                number += 1;
                let due = started + Duration::from_micros(1_000_000 * number / rate.max(1));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            producer.flush(Duration::from_secs(30))?;
            Ok(number)
        });
        Self { stop, task }
    }

    /// Ends it and answers how many there are.
    pub(crate) async fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.task).await?
    }
}

impl Drop for Tickets {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
