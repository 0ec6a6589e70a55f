//! Connections to default streams, whose requests are not waited for one by one.

use std::sync::Arc;

use async_trait::async_trait;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_request::{ProtoData, Rows};
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::{AppendRowsRequest, ProtoRows, ProtoSchema};
use prost_types::DescriptorProto;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Request};

use super::{Answers, GrpcTransport, TRACE_ID, judged};
use crate::credentials::TokenSource;
use crate::error::{At, BigQueryError};
use crate::name::{StreamName, TableName};
use crate::transport::status::{Missing, from_status};
use crate::transport::{AppendAnswers, AppendRequests, Duplex, Received};

/// Requests on their way into a connection: each is there a second time, so they are few.
const QUEUED: usize = 1;

impl GrpcTransport {
    pub(super) async fn open_duplex(
        &self,
        table: &TableName,
        slot: usize,
        descriptor: &DescriptorProto,
    ) -> Result<Duplex, BigQueryError> {
        let stream = StreamName { table: table.clone(), id: "_default".to_owned() };
        let metadata = self.metadata("write_stream", &stream.path()).await?;
        let turn = if let Ok(turn) = Arc::clone(&self.appends).try_acquire_owned() {
            Some(turn)
        } else {
            // Whoever keeps a connection without need gives it up.
            self.crowd.notify_waiters();
            Arc::clone(&self.appends).acquire_owned().await.ok()
        };
        let (sender, queued) = mpsc::channel(QUEUED);
        let request = Request::from_parts(metadata, Extensions::default(), ReceiverStream::new(queued));
        let mut client =
            self.appending.get(slot % self.appending.len().max(1)).unwrap_or(&self.client).clone();
        let at = At::new("append rows", &stream);
        let schema = ProtoSchema { proto_descriptor: Some(descriptor.clone()) };
        Ok(Duplex {
            requests: Box::new(GrpcRequests { at: at.clone(), first: Some((stream.path(), schema)), sender }),
            answers: Box::new(GrpcAnswers {
                _turn: turn,
                at,
                // The answer's header may not come before the first request is sent.
                answers: Answers::Opening(Box::pin(async move { client.append_rows(request).await })),
                tokens: Arc::clone(&self.tokens),
            }),
        })
    }
}

struct GrpcRequests {
    at: At,
    /// What only the first request says: "currently, it will be ignored if specified in following requests".
    first: Option<(String, ProtoSchema)>,
    sender: mpsc::Sender<AppendRowsRequest>,
}

fn closed(at: &At) -> BigQueryError {
    BigQueryError::Unreachable { at: at.clone(), source: "the connection was closed".into() }
}

#[async_trait]
impl AppendRequests for GrpcRequests {
    async fn ready(&mut self) -> Result<(), BigQueryError> {
        self.sender.reserve().await.map(drop).map_err(|_| closed(&self.at))
    }

    fn send(&mut self, rows: Vec<Vec<u8>>) -> Result<(), BigQueryError> {
        let (write_stream, writer_schema) = match self.first.take() {
            Some((name, schema)) => (name, Some(schema)),
            None => (String::new(), None),
        };
        let data = ProtoData { writer_schema, rows: Some(ProtoRows { serialized_rows: rows }) };
        let request = AppendRowsRequest {
            write_stream,
            trace_id: TRACE_ID.to_owned(),
            rows: Some(Rows::ProtoRows(data)),
            ..AppendRowsRequest::default()
        };
        self.sender.try_send(request).map_err(|_| closed(&self.at))
    }
}

struct GrpcAnswers {
    _turn: Option<OwnedSemaphorePermit>,
    at: At,
    answers: Answers,
    tokens: Arc<dyn TokenSource>,
}

#[async_trait]
impl AppendAnswers for GrpcAnswers {
    async fn next(&mut self) -> Result<Received, BigQueryError> {
        match self.answers.next().await {
            Ok(Some(answer)) => Ok(Received {
                schema_changed: answer.updated_schema.is_some(),
                answer: judged(&self.at, Missing::Table, answer),
            }),
            Ok(None) => Err(closed(&self.at)),
            Err(status) => {
                let error = from_status(self.at.clone(), Missing::Table, &status);
                if matches!(error, BigQueryError::Unauthenticated { .. }) {
                    self.tokens.renew();
                }
                Err(error)
            }
        }
    }
}
