//! The task that appends to a default stream: one connection, many requests under way, all of it again after a failure.
//!
//! ```text
//!            ┌──────────────── append ─────────────────┐
//! inbox ──▶ waiting ──▶ under way ──▶ acknowledged    │   rows refused: the others of their request are first in line again
//!    ▲                     │   └──▶ failed ──▶ waiting │   an error inside of an answer: the rest is waited for, then all again
//!    │                     └─── connection broke ──────┘   everything without an acknowledgement again, in order
//! writers
//! ```
//!
//! One connection has rows of one table and of one type: the service's documents differ on whether the type may change within a
//! connection ("currently, it will be ignored if specified in following requests", the comment on `AppendRowsRequest.rows`), and a
//! table in trouble holds up no other. Sharing connections between tables is recommended from "over 20 concurrent connections"
//! (<https://cloud.google.com/bigquery/docs/write-api-best-practices#connection_pool_management>); here a connection that is not
//! used is closed, at once if somebody waits for one.

use std::sync::{Arc, Weak};
use std::time::Duration;

use aqueduct_core::{Class, Classify as _};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use metrics::Label;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::Key;
use super::backlog::{Backlog, Piece, Window};
use super::metrics::Metric;
use super::plan::Target;
use crate::error::At;
use crate::error::BigQueryError;
use crate::sink::Parts;
use crate::transport::{AppendAnswer, Duplex, Received, WriteTransport};

/// A connection that nothing was sent over for this long is closed.
const CONNECTION_IDLE: Duration = Duration::from_secs(30);
/// A task that had nothing to do for this long ends.
const TASK_IDLE: Duration = Duration::from_mins(5);
/// How long a connection that takes no more requests may take to say why.
const CLOSING: Duration = Duration::from_secs(5);
/// How often in a row an error is tried again that nobody has classified, or that says who we are is not known: seconds in all.
const UNKNOWN_MAX: u32 = 6;
/// The longest delay the service may ask for.
const ASKED_MAX: Duration = Duration::from_mins(5);

/// See the module.
pub(super) struct Appender {
    parts: Weak<Parts>,
    transport: Arc<dyn WriteTransport>,
    key: Key,
    target: Arc<Target>,
    inbox: UnboundedReceiver<Piece>,
    backlog: Backlog,
    window: Window,
    timeout: Duration,
    dataset: String,
    trouble: Trouble,
}

/// Failures since the last acknowledgement.
struct Trouble {
    failures: u32,
    unknown: u32,
    delays: ExponentialBackoff,
}

impl Trouble {
    fn new() -> Self {
        let delays = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(30))
            .with_jitter()
            .without_max_times()
            .build();
        Self { failures: 0, unknown: 0, delays }
    }

    fn delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(Duration::from_secs(30))
    }
}

/// What a connection has come to, without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It is not needed now, or has to be opened again.
    Closed,
    /// The sink is gone.
    Gone,
}

impl Appender {
    pub(super) fn new(
        parts: &Arc<Parts>,
        key: Key,
        target: Arc<Target>,
        inbox: UnboundedReceiver<Piece>,
    ) -> Self {
        let options = &parts.options;
        Self {
            parts: Arc::downgrade(parts),
            transport: Arc::clone(&parts.transport),
            key,
            target,
            inbox,
            backlog: Backlog::default(),
            window: Window::new(options.append_bytes, options.append_bytes.saturating_mul(options.in_flight)),
            timeout: options.append_timeout,
            dataset: parts.dataset(),
            trouble: Trouble::new(),
        }
    }

    pub(super) async fn run(mut self) {
        while self.has_work().await {
            match self.append().await {
                Ok(Ended::Closed) => {}
                Ok(Ended::Gone) => return,
                Err(error) => self.cope(error).await,
            }
        }
    }

    /// Waits until there is something to send; `false` if there will be nothing.
    async fn has_work(&mut self) -> bool {
        self.backlog.forget_abandoned();
        while self.backlog.is_empty() {
            match tokio::time::timeout(TASK_IDLE, self.inbox.recv()).await {
                Ok(Some(piece)) => self.backlog.push(piece),
                Ok(None) => return false,
                Err(_) => {
                    let Some(parts) = self.parts.upgrade() else { return false };
                    if parts.appenders.retire(&self.key, || self.inbox.is_empty()) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Appends over one connection until it is not needed any more or breaks.
    async fn append(&mut self) -> Result<Ended, BigQueryError> {
        let result = match self.open().await {
            Ok(Some(duplex)) => self.drive(duplex).await,
            Ok(None) => Ok(Ended::Gone),
            Err(error) => Err(error),
        };
        self.backlog.broke();
        result
    }

    async fn open(&mut self) -> Result<Option<Duplex>, BigQueryError> {
        let Some(parts) = self.parts.upgrade() else { return Ok(None) };
        let Target { table, columns, descriptor, .. } = &*self.target;
        parts.tables.ensure(table, columns).await?;
        drop(parts);
        let opening = self.transport.open_default(table, self.key.slot, descriptor);
        match tokio::time::timeout(self.timeout, opening).await {
            Ok(opened) => opened.map(Some),
            Err(_) => Err(self.timed_out("open a connection to the default stream")),
        }
    }

    fn timed_out(&self, operation: &'static str) -> BigQueryError {
        BigQueryError::Timeout { at: At::new(operation, &self.target.table), after: self.timeout }
    }

    async fn drive(&mut self, duplex: Duplex) -> Result<Ended, BigQueryError> {
        let Duplex { mut requests, mut answers } = duplex;
        // What an answer had inside. Nothing more is sent then, so that what failed is not overtaken by more than is under way.
        let mut failed = None;
        // The table's columns are others by now, and a connection may keep those it began with.
        let mut is_stale = false;
        // It takes no more requests. Why, and which of them got through, is still to be read.
        let mut closing = None;
        loop {
            let is_quiet = self.backlog.is_quiet();
            if is_quiet && let Some(error) = failed {
                return Err(error);
            }
            if is_quiet && is_stale {
                return Ok(Ended::Closed);
            }
            let is_open = failed.is_none() && !is_stale && closing.is_none();
            let sends = is_open && self.backlog.may_send(&self.window);
            let is_idle = is_quiet && is_open && !sends;
            let deadline = self.backlog.oldest().unwrap_or_else(Instant::now).checked_add(self.timeout);
            tokio::select! {
                biased;
                received = answers.next() => match received {
                    Ok(Received { answer, schema_changed }) => {
                        if schema_changed {
                            self.forget_table();
                            is_stale = true;
                        }
                        match answer {
                            Ok(answer) => failed = failed.or(self.answered(&answer).err()),
                            Err(error) => {
                                self.backlog.failed();
                                failed = failed.or_else(|| Some(of_stream(error)));
                            }
                        }
                    }
                    // Idle connections are closed by the service.
                    Err(_) if is_idle => return Ok(Ended::Closed),
                    Err(error) => return Err(failed.unwrap_or_else(|| of_stream(error))),
                },
                ready = requests.ready(), if sends => {
                    if let Err(error) = ready {
                        closing = Some(error);
                        continue;
                    }
                    let rows = self.backlog.send(&self.window);
                    if !rows.is_empty() {
                        requests.send(rows)?;
                    }
                }
                piece = self.inbox.recv() => match piece {
                    Some(piece) => self.backlog.push(piece),
                    None => return Ok(Ended::Gone),
                },
                // Without one, where the clock ends before it.
                () = reached(deadline), if !is_quiet => {
                    return Err(self.timed_out("append rows to the default stream"));
                }
                () = tokio::time::sleep(CLOSING), if is_quiet && closing.is_some() => {
                    return closing.map_or(Ok(Ended::Closed), Err);
                }
                () = self.transport.crowded(), if is_idle => return Ok(Ended::Closed),
                () = tokio::time::sleep(CONNECTION_IDLE), if is_idle => return Ok(Ended::Closed),
            }
        }
    }

    /// The answer to the oldest request. The error is an answer that makes no sense.
    fn answered(&mut self, answer: &AppendAnswer) -> Result<(), BigQueryError> {
        match answer {
            AppendAnswer::Appended => {
                let after = self.backlog.appended();
                let labels = vec![Label::new("dataset", self.dataset.clone())];
                Metric::AppendSeconds.histogram(labels).record(after.as_secs_f64());
            }
            AppendAnswer::RowsRefused(places) => {
                if !self.backlog.refused(places) {
                    let at = At::new("append rows", &self.target.table);
                    let answer =
                        crate::Answer::new("InvalidArgument", "", "rows were refused that were not sent");
                    return Err(BigQueryError::Unknown { at, answer });
                }
            }
        }
        self.window.widen();
        self.trouble = Trouble::new();
        Ok(())
    }

    fn forget_table(&self) {
        if let Some(parts) = self.parts.upgrade() {
            parts.tables.forget(&self.target.table);
        }
    }

    /// Waits before everything goes out again, or gives it up.
    async fn cope(&mut self, error: BigQueryError) {
        if matches!(error, BigQueryError::TableBusy { .. } | BigQueryError::SchemaMismatch { .. }) {
            self.forget_table();
        }
        if matches!(error, BigQueryError::Throttled { .. }) {
            self.window.halve();
        }
        self.trouble.failures += 1;
        let asked = match error.class() {
            Class::Retry { after } => after.unwrap_or_default().min(ASKED_MAX),
            Class::Unknown if self.trouble.unknown < UNKNOWN_MAX => {
                self.trouble.unknown += 1;
                Duration::ZERO
            }
            _ => return self.give_up(error),
        };
        let labels = [("dataset", self.dataset.clone()), ("reason", error.name().to_owned())];
        let labels = labels.map(|(name, value)| Label::new(name, value)).to_vec();
        Metric::AppendRetries.counter(labels).increment(1);
        let delay = self.trouble.delay().max(asked);
        tracing::debug!(table = %self.target.table, ?delay, error = %aqueduct_core::ErrorChain(&error), "appending again");
        // Connections come and go; that one has is worth no warning until another has as well.
        let passes = matches!(error, BigQueryError::Unreachable { .. } | BigQueryError::Unavailable { .. });
        if !passes || self.trouble.failures > 1 {
            self.backlog.tell(&Arc::new(error));
        }
        tokio::time::sleep(delay).await;
    }

    fn give_up(&mut self, error: BigQueryError) {
        let error = Arc::new(error);
        while let Ok(piece) = self.inbox.try_recv() {
            self.backlog.push(piece);
        }
        self.backlog.fail(&error);
        self.trouble = Trouble::new();
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A stream that does not exist is a table that does not: made a moment ago, or deleted. What is known of it is not true any more,
/// and it may be made again.
fn of_stream(error: BigQueryError) -> BigQueryError {
    match error {
        BigQueryError::NoSuchTable { at, answer } | BigQueryError::Stream { at, answer, .. } => {
            BigQueryError::TableBusy { at, answer }
        }
        error => error,
    }
}
