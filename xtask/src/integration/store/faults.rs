//! Every fault of every request to the S3 server that means something, in both formats and both shapes of upload.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::stream::StreamExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use xtask::load::audit::Audit;

use super::proxy::{Fault, Operation, Rule};
use super::trial::{Ended, Shape, Stored, Topics, Trial};
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::Site;

/// The faults, by the names the table shows.
const FAULTS: [(&str, Fault); 11] = [
    ("500", Fault::Answer(500, "InternalError")),
    ("503 SlowDown", Fault::Answer(503, "SlowDown")),
    ("403 ExpiredToken", Fault::Answer(403, "ExpiredToken")),
    ("404", Fault::UploadGone),
    ("409", Fault::Answer(409, "ConditionalRequestConflict")),
    ("412", Fault::Answer(412, "PreconditionFailed")),
    ("200 with an error inside", Fault::ErrorInside),
    ("reset before it is sent", Fault::Reset),
    ("applied, answer lost", Fault::Lost),
    ("stall", Fault::Stall),
    ("drip", Fault::Drip),
];

const OPERATIONS: [Operation; 5] =
    [Operation::Put, Operation::Create, Operation::Part, Operation::Complete, Operation::Head];

/// Why a server never gives this answer to this request; none if it may.
///
/// A fault of the network can happen to every request. What an answer can be is in the API reference of each operation.
fn meaningless(operation: Operation, fault: Fault) -> Option<&'static str> {
    use Operation::{Complete, Create, Head, Part, Put};
    match (operation, fault) {
        (Put | Create, Fault::UploadGone) => Some("no upload is named in it, so none can be missing"),
        (Create | Part, Fault::Answer(409, _)) => {
            Some("it creates nothing under the key that could conflict")
        }
        (Create | Part | Head, Fault::Answer(412, _)) => Some("it carries no condition"),
        (Head, Fault::Answer(409, _)) => Some("it changes nothing that could conflict"),
        (Put | Part, Fault::ErrorInside) => Some(
            "its status is sent when the body has arrived and is checked: the errors of 200 are those of long completions",
        ),
        (Create, Fault::ErrorInside) => Some("it is short: the errors of 200 are those of long completions"),
        (Head, Fault::ErrorInside) => Some("its answer has no body"),
        (Complete | Part | Head | Put | Create | Operation::Other, _) => None,
    }
}

/// One trial of the matrix.
#[derive(Clone, Copy, Debug)]
struct Cell {
    number: usize,
    kind: Kind,
    stored: Stored,
    shape: Shape,
}

/// What is done in a trial; also a row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Nothing: it shows what the objects are called.
    Nothing,
    /// A fault three times: the worker goes on by itself.
    Thrice(Operation, &'static str, Fault),
    /// The operation is applied, its answer is lost, and the worker is killed before it can ask again.
    LostAndKilled(Operation),
    /// The operation is forbidden, after so many that are not: the worker stops, and goes on when it is allowed again.
    Forbidden(Operation, u64),
    /// Somebody else's object has the name of the first one: the same.
    Taken,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "S3: no fault"),
            Self::Thrice(Operation::Head, "404", _) => write!(f, "S3 Head: 404 for an object that is there"),
            Self::Thrice(operation, name, _) => write!(f, "S3 {operation:?}: {name}"),
            Self::LostAndKilled(operation) => write!(f, "S3 {operation:?}: applied, answer lost, SIGKILL"),
            Self::Forbidden(operation, 0) => write!(f, "S3 {operation:?}: 403 AccessDenied (stops)"),
            Self::Forbidden(operation, after) => {
                write!(f, "S3 {operation:?}: 403 AccessDenied after {after} (stops)")
            }
            Self::Taken => write!(f, "S3: the name is taken (stops)"),
        }
    }
}

/// The rows with the shapes each is tried in.
fn rows() -> Vec<(Kind, Vec<Shape>)> {
    let shapes = |operation| match operation {
        Operation::Put => vec![Shape::Single],
        Operation::Head => vec![Shape::Single, Shape::Multipart],
        _ => vec![Shape::Multipart],
    };
    let mut rows = Vec::new();
    for operation in OPERATIONS {
        for (name, fault) in FAULTS {
            if let Some(reason) = meaningless(operation, fault) {
                tracing::debug!("{operation:?} {name}: left out, {reason}");
                continue;
            }
            rows.push((Kind::Thrice(operation, name, fault), shapes(operation)));
        }
        rows.push((Kind::Forbidden(operation, 0), shapes(operation)));
        if operation != Operation::Head {
            rows.push((Kind::LostAndKilled(operation), shapes(operation)));
        }
    }
    rows.push((Kind::Forbidden(Operation::Put, 1), vec![Shape::Single]));
    rows.push((Kind::Taken, vec![Shape::Single, Shape::Multipart]));
    rows
}

const ALL: [Stored; 2] = [Stored::GzippedJson, Stored::Bytes];

/// The trials: all, or one of each row.
fn cells(site: &Site) -> Vec<Cell> {
    let mut random = StdRng::seed_from_u64(site.seed);
    let mut cells = Vec::new();
    for (kind, shapes) in rows() {
        let mut of_row: Vec<(Stored, Shape)> =
            shapes.iter().flat_map(|shape| ALL.map(|stored| (stored, *shape))).collect();
        if site.ci {
            of_row = of_row.choose(&mut random).copied().into_iter().collect();
        }
        for (stored, shape) in of_row {
            cells.push(Cell { number: cells.len(), kind, stored, shape });
        }
    }
    cells
}

/// How many trials run at once: they mostly wait.
const AT_ONCE: usize = 5;

/// Plays the matrix.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let site = &*site;
    let topics = Box::pin(Topics::new(site, ["s3-small", "s3-large", "s3-medium"])).await?;
    let plain =
        [Shape::Single, Shape::Multipart].into_iter().flat_map(|shape| ALL.map(|stored| (stored, shape)));
    let plain = plain.enumerate().map(|(number, (stored, shape))| Cell {
        number: 1_000 + number,
        kind: Kind::Nothing,
        stored,
        shape,
    });
    let mut rows: Vec<Row> = Vec::new();
    let mut failures = Vec::new();
    // First those without a fault: others ask them for the names of objects.
    for cells in [plain.collect(), cells(site)] {
        let trials = cells.into_iter().map(async |cell| {
            let result = cell.play(site, &topics).await;
            (cell, result)
        });
        let mut trials = futures::stream::iter(trials).buffer_unordered(AT_ONCE);
        while let Some((cell, result)) = trials.next().await {
            match result {
                Ok(ended) => {
                    tracing::info!("{} {:?} {:?}: {}", cell.kind, cell.stored, cell.shape, ended.audit);
                    match rows.iter_mut().find(|row| row.kind == cell.kind) {
                        Some(row) => row.add(ended),
                        None => rows.push(Row::new(&cell, ended)),
                    }
                }
                Err(error) => {
                    tracing::error!("{} {:?} {:?}: {error:#}", cell.kind, cell.stored, cell.shape);
                    failures.push(format!("{} {:?} {:?}: {error:#}", cell.kind, cell.stored, cell.shape));
                }
            }
        }
    }
    if !failures.is_empty() {
        bail!("{} trials failed:\n{}", failures.len(), failures.join("\n"));
    }
    rows.sort_by_key(|row| row.number);
    let outcome = Outcome { proofs: rows.into_iter().map(Row::proof).collect() };
    if outcome.is_clean() {
        topics.remove(site).await?;
    }
    Ok(outcome)
}

/// What a row of the table adds up.
struct Row {
    number: usize,
    kind: Kind,
    runs: u64,
    audit: Audit,
    retries: u64,
    recovery: Option<Duration>,
}

impl Row {
    fn new(cell: &Cell, ended: Ended) -> Self {
        let (number, kind) = (cell.number, cell.kind);
        let mut row = Self { number, kind, runs: 0, audit: Audit::default(), retries: 0, recovery: None };
        row.add(ended);
        row
    }

    fn add(&mut self, ended: Ended) {
        self.runs += 1;
        self.audit = std::mem::take(&mut self.audit).plus(ended.audit);
        self.retries += ended.summary.retries;
        self.recovery = self.recovery.max(ended.recovery);
    }

    fn proof(self) -> Proof {
        let Self { kind, runs, audit, retries, recovery, .. } = self;
        let detail = format!("{kind}, {runs} trials, {retries} times the lane tried again");
        Proof { fault: kind.to_string(), runs, audit, recovery, detail }
    }
}

impl Cell {
    async fn play(&self, site: &Site, topics: &Topics) -> Result<Ended> {
        let Self { number, kind, stored, shape } = *self;
        let trial = Trial::new(site, topics, &format!("t{number}"), stored, shape);
        match kind {
            Kind::Nothing => {
                let ended = trial.goes_on(Vec::new()).await?;
                anyhow::ensure!(ended.summary.retries == 0, "something was tried again: {:?}", ended.summary);
                trial.note_names(topics, stored, shape).await?;
                Ok(ended)
            }
            Kind::Thrice(operation, _, fault) => {
                let fault = self.fault_of(fault);
                // Where there is no body to send, a drip is only a slow answer: there are not that many calls.
                let bodiless = matches!(operation, Operation::Create | Operation::Complete | Operation::Head);
                let times = if fault == Fault::Drip && bodiless { 1 } else { THRICE };
                trial.goes_on(self.script(Rule::first(times, operation, fault))).await
            }
            Kind::LostAndKilled(operation) => {
                let lost = Rule::first(1, operation, Fault::Lost);
                trial.is_killed(vec![Rule { then_hold: true, ..lost }]).await
            }
            Kind::Forbidden(operation, after) => {
                let denied = Fault::Answer(403, "AccessDenied");
                let rule = Rule { after, times: None, ..Rule::first(0, operation, denied) };
                // What is visible by then: the objects before, and the one whose answer was lost.
                let visible = if operation == Operation::Head { 1 } else { after };
                let mut left = Vec::new();
                for index in 0..usize::try_from(visible)? {
                    left.push(trial.key(topics, stored, shape, index)?);
                }
                trial.stops(self.script(rule), &["AccessDenied", "allow s3:PutObject"], &left).await?;
                trial.goes_on(Vec::new()).await.context("after it was allowed again")
            }
            Kind::Taken => {
                let key = trial.key(topics, stored, shape, 0)?;
                trial.occupy(&key).await?;
                let says = [key.as_str(), "exists with other contents", "without our metadata"];
                trial.stops(Vec::new(), &says, std::slice::from_ref(&key)).await?;
                trial.vacate(&key).await?;
                trial.goes_on(Vec::new()).await.context("after the name was free again")
            }
        }
    }

    /// A look at an object is only taken when something is in doubt: so an answer is lost first.
    fn script(&self, rule: Rule) -> Vec<Rule> {
        if rule.operation == Operation::Head {
            return vec![Rule::first(1, self.shape.visible_by(), Fault::Lost), rule];
        }
        vec![rule]
    }

    /// A look that finds nothing is the 404 of a look.
    fn fault_of(&self, fault: Fault) -> Fault {
        match (self.kind, fault) {
            (Kind::Thrice(Operation::Head, ..), Fault::UploadGone) => Fault::Answer(404, "NoSuchKey"),
            _ => fault,
        }
    }
}

/// More often than the client tries by itself, so that the lane has to try as well.
const THRICE: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_tried_or_has_a_reason() {
        let (mut tried, mut left_out) = (0, 0);
        for operation in OPERATIONS {
            for (name, fault) in FAULTS {
                let rows = rows();
                let row = rows.iter().find(|(kind, _)| *kind == Kind::Thrice(operation, name, fault));
                assert_eq!(row.is_none(), meaningless(operation, fault).is_some(), "{operation:?} {name}");
                tried += usize::from(row.is_some());
                left_out += usize::from(row.is_none());
            }
        }
        assert_eq!((tried, left_out), (43, 12));
    }

    #[test]
    fn names_of_rows_differ_and_fit_the_table() {
        let mut names: Vec<String> = rows().iter().map(|(kind, _)| kind.to_string()).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(names.iter().all(|name| name.len() <= 52), "{names:?}");
    }
}
