//! What the sink asks of BigQuery's Storage Write interface.
//!
//! A trait of our own between the sink and whatever client speaks the protocol: the client crate's own wrapper writes to the
//! default stream only, and others may take its place. Messages that the sink never looks into do not appear here.

use std::fmt::Debug;

use async_trait::async_trait;
use prost_types::DescriptorProto;

use crate::error::BigQueryError;
use crate::name::{StreamName, TableName};

pub(crate) use grpc::{GrpcOptions, GrpcTransport, url_encoded};
pub(crate) use rest::{InsertFailure, Rest, RestOptions, classify};

mod grpc;
mod rest;
mod status;

/// The calls of the write protocol for pending and default streams.
///
/// Every call fails with [`BigQueryError`], classified; none is repeated in here. All are cancel safe in the sense that a
/// dropped call may or may not have happened.
#[async_trait]
pub(crate) trait WriteTransport: Debug + Send + Sync + 'static {
    /// A new stream whose rows become visible when it is committed.
    async fn create_pending_stream(&self, table: &TableName) -> Result<StreamName, BigQueryError>;

    /// A connection that appends to `stream` rows of the type `descriptor` describes.
    async fn connect(
        &self,
        stream: &StreamName,
        descriptor: &DescriptorProto,
    ) -> Result<Box<dyn AppendConnection>, BigQueryError>;

    /// A connection that appends to the default stream of `table` rows of the type `descriptor` describes. Connections of one
    /// `slot` share an HTTP/2 connection. Waits for as long as all are taken.
    async fn open_default(
        &self,
        table: &TableName,
        slot: usize,
        descriptor: &DescriptorProto,
    ) -> Result<Duplex, BigQueryError>;

    /// Waits until somebody waits for a connection. Cancel safe.
    async fn crowded(&self);

    /// Ends the stream; answers its number of rows. Finalizing again is fine.
    async fn finalize(&self, stream: &StreamName) -> Result<i64, BigQueryError>;

    /// Makes streams of `table` visible, all or none. A stream that is visible already is the error
    /// [`StreamState::Committed`](crate::StreamState::Committed).
    async fn batch_commit(&self, table: &TableName, streams: &[StreamName]) -> Result<(), BigQueryError>;

    /// Whether the stream is committed.
    async fn is_committed(&self, stream: &StreamName) -> Result<bool, BigQueryError>;
}

/// One connection that appends to one stream. Answers come in the order of requests.
#[async_trait]
pub(crate) trait AppendConnection: Send {
    /// Sends rows for the stream's `offset`. Waits only if [`IN_FLIGHT_MAX`] requests have no answer yet.
    async fn send(&mut self, offset: i64, rows: Vec<Vec<u8>>) -> Result<(), BigQueryError>;

    /// The answer to the oldest request without one.
    async fn receive(&mut self) -> Result<AppendAnswer, BigQueryError>;
}

/// A connection to a default stream: both of its directions, for requests that are not waited for one by one.
pub(crate) struct Duplex {
    pub(crate) requests: Box<dyn AppendRequests>,
    pub(crate) answers: Box<dyn AppendAnswers>,
}

/// One direction of a [`Duplex`].
#[async_trait]
pub(crate) trait AppendRequests: Send {
    /// Waits until there is room for a request. Cancel safe.
    async fn ready(&mut self) -> Result<(), BigQueryError>;

    /// Sends rows; fails if the connection is not [ready](Self::ready).
    fn send(&mut self, rows: Vec<Vec<u8>>) -> Result<(), BigQueryError>;
}

/// The other direction of a [`Duplex`].
#[async_trait]
pub(crate) trait AppendAnswers: Send {
    /// The answer to the oldest request without one, whenever it comes. The error is that of the connection, which then is no
    /// more. Cancel safe.
    async fn next(&mut self) -> Result<Received, BigQueryError>;
}

/// What an answer says.
#[derive(Debug)]
pub(crate) struct Received {
    /// Of its request; an error leaves the connection as it is.
    pub(crate) answer: Result<AppendAnswer, BigQueryError>,
    /// The table has other columns than before.
    pub(crate) schema_changed: bool,
}

/// Most requests of one connection without an answer.
pub(crate) const IN_FLIGHT_MAX: usize = 16;

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AppendAnswer {
    /// Its rows are in the stream.
    Appended,
    /// None of its rows is in the stream, because of these: their places in the request, ascending.
    RowsRefused(Vec<usize>),
}
