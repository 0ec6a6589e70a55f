//! From scratch into streams that nobody sees yet.

use std::collections::{BTreeSet, VecDeque};

use aqueduct_core::{Offset, OffsetRange, Poison, PoisonReason, Rejected, StageError, Staged};
use xxhash_rust::xxh3::xxh3_64;

use super::spool::{BLOCK_BYTES, Chunk, Cursor};
use super::token::{Entry, Refused, Token};
use super::{TableRows, TableWriter};
use crate::error::{Answer, At, BigQueryError, StreamState};
use crate::name::StreamName;
use crate::sink::Options;
use crate::transport::{AppendAnswer, AppendConnection, IN_FLIGHT_MAX};

/// How far one table's rows have come. What is in here is true whenever a future that works on it is dropped.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stream: Option<StreamName>,
    /// Rows of the stream that are acknowledged.
    rows: i64,
    bytes: u64,
    /// Their first record's offset and the one behind their last's.
    span: Option<(i64, i64)>,
    /// Where the rows behind them begin.
    cursor: Cursor,
    /// The records whose rows the service refuses.
    refused: BTreeSet<i64>,
    /// A connection broke with requests under way: the service may still apply them.
    open_ended: bool,
    /// How often the stream was found to lack columns.
    mismatches: u32,
    phase: Phase,
}

/// Attempts of one stream while the table's change spreads.
const MISMATCHES_MAX: u32 = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Rows are being appended.
    #[default]
    Filling,
    /// They are complete.
    Finalized,
    /// They are visible.
    Committed,
    /// A former owner has made them visible.
    IsThere,
}

impl Progress {
    /// Begins again on a new stream. Refused rows stay so.
    fn start_over(&mut self) {
        *self = Self { refused: std::mem::take(&mut self.refused), ..Self::default() };
    }

    /// The table, as the stream has it, lacks columns of the rows. That takes minutes to change, and streams are counted: so the one
    /// there is serves for some more attempts, as long as nothing is in it. But not for all: a stream may keep the columns it
    /// began with.
    fn columns_are_missing(&mut self) {
        let mismatches = self.mismatches + 1;
        if self.rows > 0 || mismatches.is_multiple_of(MISMATCHES_MAX) {
            self.start_over();
        }
        self.mismatches = mismatches;
    }

    /// The stream with its rows, if there is something to make visible.
    pub(super) fn entry(&self) -> Option<Entry> {
        let complete = matches!(self.phase, Phase::Finalized | Phase::Committed);
        let stream = self.stream.clone().filter(|_| complete && self.rows > 0)?;
        Some(Entry { stream, rows: self.rows.unsigned_abs() })
    }

    pub(super) fn is_committed(&self) -> bool {
        self.phase == Phase::Committed
    }

    pub(super) fn committed(&mut self) {
        self.phase = Phase::Committed;
    }

    pub(super) fn range(&self) -> Option<OffsetRange> {
        let (first, end) = self.span?;
        OffsetRange::new(Offset::new(first), Offset::new(end))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A request without an answer.
struct UnderWay {
    offsets: Vec<i64>,
    bytes: u64,
    next: Cursor,
}

impl TableWriter {
    /// Rows that the service refuses and that no former owner has sent letters of, as far as can be told: with the same ones as
    /// before there are none, with others all of them.
    pub(super) fn refused_anew(&self) -> Vec<Rejected> {
        let rejected = self.rejected();
        match &self.pinned {
            Some(pinned) if pinned.refused != refused_of(&rejected) => rejected,
            _ => Vec::new(),
        }
    }

    /// Puts every table's rows into a finalized stream; the token names them.
    pub(super) async fn stage_tables(&mut self, range: OffsetRange) -> Result<Staged, StageError> {
        let Options { append_bytes, in_flight, .. } = self.parts.options;
        // Requests that wait for their answers, two that are on their way into the connection, a block that is read and a row that
        // is larger than them.
        let memory = append_bytes * (in_flight + 2) + 2 * self.row_max + BLOCK_BYTES;
        let _permit = self.memory.acquire(memory as u64).await;
        for place in 0..self.tables.rows.len() {
            self.mark_what_is_there(place);
            while self.tables.rows.get(place).is_some_and(|table| table.progress.phase == Phase::Filling) {
                self.stage_table(place).await?;
            }
        }
        let rejected = self.rejected();
        let refused = refused_of(&rejected);
        let entries = self.entries();
        self.check_replay(range, refused, &entries)?;
        let token = Token { refused, entries }.encode(&self.defaults);
        let token = token.map_err(|error| StageError::new("stage", error))?;
        Ok(Staged { token: token.into(), rejected })
    }

    fn mark_what_is_there(&mut self, place: usize) {
        let (Some(table), Some(pinned)) = (self.tables.rows.get_mut(place), &self.pinned) else { return };
        let mut there = pinned.tables.iter().filter(|pinned| pinned.is_there);
        if there.any(|pinned| pinned.entry.stream.table == table.name) {
            table.progress.phase = Phase::IsThere;
        }
    }

    /// What the token says: the streams of this process, and those of a former owner that are visible.
    fn entries(&self) -> Vec<Entry> {
        let pinned = self.pinned.iter().flat_map(|pinned| &pinned.tables);
        let there = pinned.filter(|pinned| pinned.is_there).map(|pinned| pinned.entry.clone());
        there.chain(self.tables.rows.iter().filter_map(|table| table.progress.entry())).collect()
    }

    fn rejected(&self) -> Vec<Rejected> {
        let mut rejected: Vec<_> = self.tables.rows.iter().flat_map(rejected_of).collect();
        rejected.sort_by_key(|rejected| rejected.offset);
        rejected
    }

    /// A replay has to give the tables and rows that its intent says, unless the service refuses other rows than it did.
    fn check_replay(
        &self,
        range: OffsetRange,
        refused: Refused,
        entries: &[Entry],
    ) -> Result<(), StageError> {
        let Some(pinned) = self.pinned.as_ref().filter(|pinned| pinned.refused == refused) else {
            return Ok(());
        };
        let expected = pinned.tables.iter().map(|pinned| (&pinned.entry.stream.table, pinned.entry.rows));
        let found = entries.iter().map(|entry| (&entry.stream.table, entry.rows));
        let (mut expected, mut found) = (expected.collect::<Vec<_>>(), found.collect::<Vec<_>>());
        expected.sort();
        found.sort();
        if expected == found {
            return Ok(());
        }
        let named = |list: &[(&crate::TableName, u64)]| list.first().map(|(table, _)| table.to_string());
        Err(StageError::new(
            "stage",
            BigQueryError::Diverged {
                table: named(&expected).or_else(|| named(&found)).unwrap_or_default(),
                range: range.to_string(),
                problem: "tables or numbers of rows differ".to_owned(),
            },
        ))
    }

    /// Goes on with one table's stream until it is finalized, or until its rows have to be laid out anew.
    async fn stage_table(&mut self, place: usize) -> Result<(), StageError> {
        let result = self.try_stage_table(place).await;
        let Some(table) = self.tables.rows.get_mut(place) else { return Ok(()) };
        let error = match result {
            Ok(()) => return Ok(()),
            Err(Failure::Spool(error)) => return Err(error),
            Err(Failure::Service(error)) => error,
        };
        let error = match error {
            // Made a moment ago, or deleted: what is known of the table is not true any more.
            BigQueryError::NoSuchTable { at, answer } if table.progress.stream.is_none() => {
                self.parts.tables.forget(&table.name);
                BigQueryError::TableBusy { at, answer }
            }
            BigQueryError::NoSuchTable { at, answer } => {
                self.parts.tables.forget(&table.name);
                table.progress.start_over();
                BigQueryError::TableBusy { at, answer }
            }
            // A change of the table that has not reached everybody, or somebody else's.
            error @ BigQueryError::SchemaMismatch { .. } => {
                self.parts.tables.forget(&table.name);
                table.progress.columns_are_missing();
                error
            }
            error @ BigQueryError::Stream { .. } => {
                table.progress.start_over();
                error
            }
            error => error,
        };
        Err(StageError::new("stage", error))
    }

    async fn try_stage_table(&mut self, place: usize) -> Result<(), Failure> {
        let Some(table) = self.tables.rows.get_mut(place) else { return Ok(()) };
        let TableRows { name, encoder, progress, .. } = table;
        let broke_before = progress.open_ended;
        let parts = &self.parts;
        parts.tables.ensure(name, &encoder.columns()).await?;
        if progress.stream.is_none() {
            parts.quota.take(name.project())?;
            progress.stream = Some(parts.transport.create_pending_stream(name).await?);
        }
        let Some(stream) = progress.stream.clone() else { return Ok(()) };
        let mut connection = parts.transport.connect(&stream, &encoder.descriptor()).await?;
        let number = u32::try_from(place).unwrap_or(u32::MAX);
        let mut reader = self.spool.reader(number, progress.cursor);
        let mut under_way: VecDeque<UnderWay> = VecDeque::new();
        let (mut sent, mut ended) = (progress.rows, false);
        let Options { append_bytes, in_flight, .. } = parts.options;
        loop {
            // A request may be larger than it should be, by a large row: so also by bytes.
            let room = |under_way: &VecDeque<UnderWay>| {
                let bytes: u64 = under_way.iter().map(|request| request.bytes).sum();
                under_way.len() < in_flight.min(IN_FLIGHT_MAX) && bytes < (append_bytes * in_flight) as u64
            };
            while !ended && room(&under_way) {
                let chunk = reader.next(append_bytes).await.map_err(Failure::Spool)?;
                let Some(chunk) = chunk else {
                    ended = true;
                    break;
                };
                let (request, rows) = without(chunk, &progress.refused);
                let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
                under_way.push_back(request);
                if count > 0 {
                    progress.open_ended = true;
                    connection.send(sent, rows).await?;
                    sent += count;
                }
            }
            let Some(request) = under_way.pop_front() else { break };
            match answer_to(&mut *connection, &request, broke_before).await? {
                AppendAnswer::Appended => {
                    progress.rows += i64::try_from(request.offsets.len()).unwrap_or(i64::MAX);
                    progress.bytes += request.bytes;
                    if let (Some(first), Some(last)) = (request.offsets.first(), request.offsets.last()) {
                        progress.span = Some((progress.span.map_or(*first, |(first, _)| first), last + 1));
                    }
                    progress.cursor = request.next;
                }
                AppendAnswer::RowsRefused(rows) => {
                    let refused = rows.iter().filter_map(|row| request.offsets.get(*row).copied());
                    let before = progress.refused.len();
                    progress.refused.extend(refused);
                    if progress.refused.len() == before {
                        let at = At::new("append rows", &stream);
                        let answer =
                            Answer::new("InvalidArgument", "", "rows were refused that were not sent");
                        return Err(BigQueryError::Unknown { at, answer }.into());
                    }
                    if broke_before || !is_quiet(&mut *connection, &under_way).await {
                        progress.start_over();
                    } else {
                        progress.open_ended = false;
                    }
                    return Ok(());
                }
            }
        }
        progress.open_ended = false;
        drop(connection);
        let rows = parts.transport.finalize(&stream).await?;
        if rows != progress.rows {
            let answer = Answer::new("Ok", "", &format!("{rows} rows, {} were sent", progress.rows));
            return Err(BigQueryError::Stream {
                state: StreamState::Length,
                at: At::new("finalize write stream", &stream),
                answer,
            }
            .into());
        }
        progress.phase = Phase::Finalized;
        Ok(())
    }
}

/// Why a table's rows did not all get into their stream.
enum Failure {
    Service(BigQueryError),
    Spool(StageError),
}

impl From<BigQueryError> for Failure {
    fn from(error: BigQueryError) -> Self {
        Self::Service(error)
    }
}

/// The rows of a chunk that the service takes.
fn without(chunk: Chunk, refused: &BTreeSet<i64>) -> (UnderWay, Vec<Vec<u8>>) {
    let Chunk { mut offsets, mut rows, next } = chunk;
    if !refused.is_empty() {
        let mut kept = offsets.iter().map(|offset| !refused.contains(offset));
        rows.retain(|_| kept.next().unwrap_or(true));
        offsets.retain(|offset| !refused.contains(offset));
    }
    let bytes = rows.iter().map(|row| row.len() as u64).sum();
    (UnderWay { offsets, bytes, next }, rows)
}

/// The answer to the oldest request. After a connection broke, that rows are there already is the answer that was lost: nobody
/// else writes to the stream, and a request that is repeated has the rows it had.
async fn answer_to(
    connection: &mut dyn AppendConnection,
    request: &UnderWay,
    broke_before: bool,
) -> Result<AppendAnswer, BigQueryError> {
    if request.offsets.is_empty() {
        return Ok(AppendAnswer::Appended);
    }
    match connection.receive().await {
        Err(error) if broke_before && error.stream_state() == Some(StreamState::OffsetExists) => {
            Ok(AppendAnswer::Appended)
        }
        answer => answer,
    }
}

/// Rows were refused, so those behind them get other places in the stream. The requests that have the old places must all be
/// refused before, or one of them could still find its place free and take it. Answers whether they are.
async fn is_quiet(connection: &mut dyn AppendConnection, under_way: &VecDeque<UnderWay>) -> bool {
    for _ in under_way.iter().filter(|request| !request.offsets.is_empty()) {
        match connection.receive().await {
            Err(error) if error.stream_state() == Some(StreamState::OffsetOutOfRange) => {}
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

fn rejected_of(table: &TableRows) -> impl Iterator<Item = Rejected> + use<'_> {
    // The service's words may quote the row.
    let poison = Poison::new(PoisonReason::Rejected, format!("table {} refuses the row", table.name));
    table
        .progress
        .refused
        .iter()
        .map(move |offset| Rejected { offset: Offset::new(*offset), poison: poison.clone() })
}

fn refused_of(rejected: &[Rejected]) -> Refused {
    if rejected.is_empty() {
        return Refused::default();
    }
    let bytes: Vec<u8> = rejected.iter().flat_map(|rejected| rejected.offset.get().to_le_bytes()).collect();
    Refused { count: u32::try_from(rejected.len()).unwrap_or(u32::MAX), hash: xxh3_64(&bytes) }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    /// Answers as it is told.
    struct Scripted(VecDeque<Result<AppendAnswer, Option<StreamState>>>);

    #[async_trait]
    impl AppendConnection for Scripted {
        async fn send(&mut self, _: i64, _: Vec<Vec<u8>>) -> Result<(), BigQueryError> {
            Ok(())
        }

        async fn receive(&mut self) -> Result<AppendAnswer, BigQueryError> {
            let (at, answer) = (At::new("append rows", "s"), Answer::default());
            match self.0.pop_front() {
                Some(Ok(answer)) => Ok(answer),
                Some(Err(Some(state))) => Err(BigQueryError::Stream { state, at, answer }),
                Some(Err(None)) | None => Err(BigQueryError::Unavailable { at, answer }),
            }
        }
    }

    fn under_way(rows: &[usize]) -> VecDeque<UnderWay> {
        let request = |rows: &usize| UnderWay { offsets: vec![1; *rows], bytes: 0, next: Cursor::default() };
        rows.iter().map(request).collect()
    }

    /// A request whose fate is unknown may still take the place that rows behind a refused one get.
    #[tokio::test]
    async fn only_requests_that_are_all_refused_are_quiet() {
        let refused = || Err(Some(StreamState::OffsetOutOfRange));
        let cases: [(&[usize], Vec<_>, bool); 6] = [
            (&[], vec![], true),
            (&[2, 0, 3], vec![refused(), refused()], true),
            (&[2, 3], vec![refused()], false),
            (&[2], vec![Ok(AppendAnswer::Appended)], false),
            (&[2], vec![Ok(AppendAnswer::RowsRefused(vec![0]))], false),
            (&[2], vec![Err(Some(StreamState::OffsetExists))], false),
        ];
        for (rows, answers, quiet) in cases {
            let shown = format!("{rows:?} {answers:?}");
            let mut connection = Scripted(answers.into());
            assert_eq!(is_quiet(&mut connection, &under_way(rows)).await, quiet, "{shown}");
        }
    }

    /// Rows that are there already are ours only if an answer of ours was lost.
    #[tokio::test]
    async fn rows_that_exist_are_an_answer_only_after_a_connection_broke() {
        for broke_before in [false, true] {
            let mut connection = Scripted([Err(Some(StreamState::OffsetExists))].into());
            let requests = under_way(&[3]);
            let answer = answer_to(&mut connection, &requests[0], broke_before).await;
            assert_eq!(answer.is_ok(), broke_before, "{answer:?}");
        }
    }

    #[test]
    fn refused_rows_leave_a_chunk_and_its_end_stays() {
        let chunk =
            Chunk { offsets: vec![4, 5, 9], rows: vec![vec![4], vec![5], vec![9]], next: Cursor::default() };
        let (request, rows) = without(chunk, &BTreeSet::from([5, 7]));
        assert_eq!((request.offsets, request.bytes, rows), (vec![4, 9], 2, vec![vec![4], vec![9]]));
    }
}
