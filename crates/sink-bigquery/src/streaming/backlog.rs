//! Rows of one connection in the order they go out in: those that wait, those that are under way, those that go out again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::Permit;
use tokio::time::Instant;

use super::chunk::Chunk;
use super::ledger::Ledger;
use crate::error::BigQueryError;

/// Rows of one segment and table.
#[derive(Debug)]
pub(super) struct Piece {
    chunk: Chunk,
    /// The table's number in the ledger.
    table: usize,
    ledger: Arc<Ledger>,
    /// Bytes as they were handed over, of which the ledger is told when the piece is done with.
    bytes: u64,
    is_settled: bool,
    memory: Option<Permit>,
}

impl Piece {
    /// Tells the ledger of it.
    pub(super) fn new(chunk: Chunk, table: usize, ledger: Arc<Ledger>, memory: Permit) -> Self {
        ledger.handed_over(&chunk);
        let bytes = chunk.bytes();
        Self { chunk, table, ledger, bytes, is_settled: false, memory: Some(memory) }
    }

    fn acknowledge(mut self) {
        self.ledger.acknowledged(self.table, &self.chunk);
        self.settle();
    }

    /// The rows at these places are refused. Gives the others back, if there are any.
    fn refuse(mut self, places: &[usize]) -> Option<Self> {
        let refused = self.chunk.take(places);
        if !refused.is_empty() {
            self.ledger.refused(self.table, &refused);
        }
        if self.chunk.is_empty() {
            self.settle();
            return None;
        }
        Some(self)
    }

    fn fail(mut self, error: &Arc<BigQueryError>) {
        self.ledger.failed(error);
        self.settle();
    }

    /// Whoever is told that everything is done finds the memory given back.
    fn settle(&mut self) {
        self.is_settled = true;
        self.chunk = Chunk::default();
        self.memory = None;
        self.ledger.settled(self.bytes);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        // Whoever waits for it must not wait for ever.
        if !self.ledger.is_abandoned() {
            self.ledger.lost();
        }
        self.settle();
    }
}

/// What one request has.
#[derive(Debug)]
struct Request {
    pieces: Vec<Piece>,
    cost: usize,
    sent_at: Instant,
}

/// How much may be under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Bytes of rows in one request.
    pub(super) request_bytes: usize,
    /// Bytes of all requests without an answer; a larger row passes alone.
    pub(super) bytes: usize,
    /// Requests without an answer, at the moment.
    requests: usize,
}

impl Window {
    /// Most requests without an answer. They are answered in the order they came, so more of them would only wait for each other.
    pub(super) const REQUESTS_MAX: usize = 100;

    pub(super) fn new(request_bytes: usize, bytes: usize) -> Self {
        Self { request_bytes, bytes, requests: Self::REQUESTS_MAX }
    }

    /// A quota was used up.
    pub(super) fn halve(&mut self) {
        self.requests = (self.requests / 2).max(1);
    }

    /// A request got through.
    pub(super) fn widen(&mut self) {
        self.requests = (self.requests + 1).min(Self::REQUESTS_MAX);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Older than everything in `under_way` is not: they go out before what is in `waiting`.
    failed: VecDeque<Piece>,
    under_way: VecDeque<Request>,
    under_way_cost: usize,
    waiting: VecDeque<Piece>,
}

impl Backlog {
    pub(super) fn push(&mut self, piece: Piece) {
        self.waiting.push_back(piece);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.failed.is_empty() && self.under_way.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether another request may go out, and there is one.
    pub(super) fn may_send(&self, window: &Window) -> bool {
        let Some(next) = self.waiting.front() else { return false };
        let is_within = self.under_way_cost + next.chunk.cost() <= window.bytes;
        self.under_way.is_empty() || (is_within && self.under_way.len() < window.requests)
    }

    /// The rows of the next request, now under way; none if nobody wants what waited.
    pub(super) fn send(&mut self, window: &Window) -> Vec<Vec<u8>> {
        self.forget_abandoned();
        let most = window.request_bytes.min(window.bytes.saturating_sub(self.under_way_cost));
        let (mut pieces, mut cost) = (Vec::new(), 0);
        while let Some(next) = self.waiting.front() {
            if !pieces.is_empty() && cost + next.chunk.cost() > most {
                break;
            }
            cost += next.chunk.cost();
            pieces.extend(self.waiting.pop_front());
        }
        if pieces.is_empty() {
            return Vec::new();
        }
        let rows = pieces.iter().flat_map(|piece: &Piece| piece.chunk.rows().map(<[u8]>::to_vec)).collect();
        self.under_way.push_back(Request { pieces, cost, sent_at: Instant::now() });
        self.under_way_cost += cost;
        rows
    }

    /// When the oldest request was sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.under_way.front().map(|request| request.sent_at)
    }

    fn answered(&mut self) -> Option<Request> {
        let request = self.under_way.pop_front()?;
        self.under_way_cost -= request.cost;
        Some(request)
    }

    /// The oldest request is through; answers how long that took.
    pub(super) fn appended(&mut self) -> Duration {
        let Some(request) = self.answered() else { return Duration::ZERO };
        request.pieces.into_iter().for_each(Piece::acknowledge);
        request.sent_at.elapsed()
    }

    /// None of the oldest request's rows was written, because of those at these places; the others go out again. Answers whether
    /// there was one of them: otherwise nothing has changed that would let it pass.
    pub(super) fn refused(&mut self, places: &[usize]) -> bool {
        let Some(request) = self.answered() else { return false };
        let mut first = 0;
        let mut left = VecDeque::new();
        let mut any = false;
        for piece in request.pieces {
            let rows = first..first + piece.chunk.len();
            first = rows.end;
            let of_piece = places.iter().filter(|place| rows.contains(place));
            let of_piece: Vec<_> = of_piece.map(|place| place - rows.start).collect();
            any |= !of_piece.is_empty();
            left.extend(piece.refuse(&of_piece));
        }
        left.append(&mut self.waiting);
        self.waiting = left;
        any
    }

    /// None of the oldest request's rows was written; they go out again.
    pub(super) fn failed(&mut self) {
        if let Some(request) = self.answered() {
            self.failed.extend(request.pieces);
        }
    }

    /// The connection is gone: everything without an acknowledgement goes out again, in the order it had.
    pub(super) fn broke(&mut self) {
        let mut again = std::mem::take(&mut self.failed);
        while let Some(request) = self.answered() {
            again.extend(request.pieces);
        }
        again.append(&mut self.waiting);
        self.waiting = again;
    }

    /// Lets go of what nobody wants any more, unless it is under way.
    pub(super) fn forget_abandoned(&mut self) {
        self.waiting.retain(|piece| !piece.ledger.is_abandoned());
        self.failed.retain(|piece| !piece.ledger.is_abandoned());
    }

    /// Tells everybody whose rows wait here what is being tried again.
    pub(super) fn tell(&self, error: &Arc<BigQueryError>) {
        let sent = self.under_way.iter().flat_map(|request| &request.pieces);
        let mut told: Option<&Arc<Ledger>> = None;
        for piece in self.failed.iter().chain(sent).chain(&self.waiting) {
            // Pieces of one segment mostly follow each other.
            if told.is_none_or(|ledger| !Arc::ptr_eq(ledger, &piece.ledger)) {
                piece.ledger.trouble(error);
                told = Some(&piece.ledger);
            }
        }
    }

    /// Gives everything up for good.
    pub(super) fn fail(&mut self, error: &Arc<BigQueryError>) {
        self.broke();
        self.waiting.drain(..).for_each(|piece| piece.fail(error));
    }
}

#[cfg(test)]
mod tests;
