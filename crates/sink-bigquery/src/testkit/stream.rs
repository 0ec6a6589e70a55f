//! What the calls of the Storage Write interface do to streams.
//!
//! Unless another document is named, the rules are those in the comments of
//! <https://github.com/googleapis/googleapis/blob/master/google/cloud/bigquery/storage/v1/storage.proto>.

use std::time::Duration;

use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_request::Rows;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_response::{
    AppendResult, Response as Appended,
};
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::row_error::RowErrorCode;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::storage_error::StorageErrorCode as Storage;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::table_field_schema::{
    Mode as WireMode, Type as WireType,
};
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::{
    AppendRowsRequest, AppendRowsResponse, BatchCommitWriteStreamsRequest, BatchCommitWriteStreamsResponse,
    CreateWriteStreamRequest, FinalizeWriteStreamResponse, RowError, StorageError, TableFieldSchema,
    TableSchema as WireSchema, WriteStream, write_stream,
};
use gcp_bigquery_client::google::rpc;
use prost::Message as _;
use prost_reflect::MessageDescriptor;
use prost_types::{Any, DescriptorProto};
use tonic::{Code, Status};

use super::change;
use super::decode::{self, Unfit};
use super::state::{Inner, Stream};
use crate::name::TableName;
use crate::schema::{Field, FieldType, Mode, TableSchema};

const HOUR: Duration = Duration::from_hours(1);

fn at_some_time() -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }
}

/// A status with a `StorageError` in its details, as the service sends them.
fn inside(code: Code, storage: Storage, entity: &str, message: &str) -> rpc::Status {
    let error =
        StorageError { code: storage.into(), entity: entity.to_owned(), error_message: message.to_owned() };
    let details = if storage == Storage::Unspecified {
        Vec::new()
    } else {
        let type_url = "type.googleapis.com/google.cloud.bigquery.storage.v1.StorageError".to_owned();
        vec![Any { type_url, value: error.encode_to_vec() }]
    };
    rpc::Status { code: code.into(), message: format!("{message}. Entity: {entity}"), details }
}

/// The same as the answer to a call.
fn status(inside: &rpc::Status) -> Status {
    Status::with_details(Code::from_i32(inside.code), inside.message.clone(), inside.encode_to_vec().into())
}

/// `projects/p/datasets/d/tables/t`.
pub(super) fn table_of(path: &str) -> Option<TableName> {
    let rest = path.strip_prefix("projects/")?;
    let (project, rest) = rest.split_once("/datasets/")?;
    let (dataset, table) = rest.split_once("/tables/")?;
    TableName::new(project, dataset, table).ok()
}

impl Inner {
    pub(super) fn create_stream(
        &mut self,
        request: &CreateWriteStreamRequest,
    ) -> Result<WriteStream, Status> {
        let kind = request.write_stream.as_ref().map(|stream| stream.r#type);
        let Some(table) = table_of(&request.parent) else {
            return Err(Status::invalid_argument("the parent is no table"));
        };
        if kind != Some(write_stream::Type::Pending.into()) {
            return Err(Status::unimplemented("the fake makes pending streams only"));
        }
        let (per_hour, per_second) = (self.limits.creates_per_hour, self.limits.creates_per_second);
        let seconds =
            self.creates.iter().rev().take_while(|time| time.elapsed() < Duration::from_secs(1)).count();
        if seconds >= per_second || !Self::within(&mut self.creates, per_hour, HOUR) {
            return Err(Status::resource_exhausted("Exceeded quota CreateWriteStream requests"));
        }
        if !self.tables.contains_key(&table) {
            return Err(status(&inside(
                Code::NotFound,
                Storage::TableNotFound,
                &request.parent,
                "Table is not found",
            )));
        }
        // As long as real ones.
        let id = format!("Cic2{:056x}", self.number());
        let name = format!("{}/streams/{id}", request.parent);
        let stream = Stream { table, rows: Vec::new(), finalized: false, committed: false };
        self.streams.insert(name.clone(), stream);
        self.describe(&name)
    }

    fn describe(&self, name: &str) -> Result<WriteStream, Status> {
        let stream = self.stream(name)?;
        Ok(WriteStream {
            name: name.to_owned(),
            r#type: write_stream::Type::Pending.into(),
            create_time: Some(at_some_time()),
            commit_time: stream.committed.then(at_some_time),
            table_schema: None,
            write_mode: write_stream::WriteMode::Insert.into(),
            location: "us".to_owned(),
        })
    }

    fn stream(&self, name: &str) -> Result<&Stream, Status> {
        let missing =
            || status(&inside(Code::NotFound, Storage::StreamNotFound, name, "Stream is not found"));
        self.streams.get(name).ok_or_else(missing)
    }

    pub(super) fn get_stream(&self, name: &str) -> Result<WriteStream, Status> {
        self.describe(name)
    }

    /// "Finalize a write stream so that no new data can be appended to the stream". Finalizing again gives the same count.
    pub(super) fn finalize(&mut self, name: &str) -> Result<FinalizeWriteStreamResponse, Status> {
        self.stream(name)?;
        let Some(stream) = self.streams.get_mut(name) else {
            return Err(Status::not_found(name.to_owned()));
        };
        stream.finalized = true;
        let mut row_count = i64::try_from(stream.rows.len()).unwrap_or(i64::MAX);
        if self.miscounts > 0 {
            self.miscounts -= 1;
            row_count += 1;
        }
        Ok(FinalizeWriteStreamResponse { row_count })
    }

    /// "If non empty, certain streams have errors and ZERO stream is committed due to atomicity guarantee". "Streams must be
    /// finalized before commit and cannot be committed multiple times".
    pub(super) fn batch_commit(
        &mut self,
        request: &BatchCommitWriteStreamsRequest,
    ) -> Result<BatchCommitWriteStreamsResponse, Status> {
        let Some(table) = table_of(&request.parent) else {
            return Err(Status::invalid_argument("the parent is no table"));
        };
        if !self.tables.contains_key(&table) {
            return Err(status(&inside(
                Code::NotFound,
                Storage::TableNotFound,
                &request.parent,
                "Table is not found",
            )));
        }
        let mut stream_errors = Vec::new();
        for name in &request.write_streams {
            let code = match self.streams.get(name) {
                None => Storage::StreamNotFound,
                Some(stream) if stream.table != table => Storage::StreamNotFound,
                Some(stream) if stream.committed => Storage::StreamAlreadyCommitted,
                Some(stream) if !stream.finalized => Storage::InvalidStreamState,
                Some(_) => continue,
            };
            let error_message = code.as_str_name().to_owned();
            stream_errors.push(StorageError { code: code.into(), entity: name.clone(), error_message });
        }
        if !stream_errors.is_empty() {
            return Ok(BatchCommitWriteStreamsResponse { commit_time: None, stream_errors });
        }
        for name in &request.write_streams {
            let Some(stream) = self.streams.get_mut(name) else { continue };
            stream.committed = true;
            let rows = std::mem::take(&mut stream.rows);
            self.show(&table, name, &rows);
        }
        Ok(BatchCommitWriteStreamsResponse { commit_time: Some(at_some_time()), stream_errors })
    }

    /// One request of a connection, with what the connection knows.
    pub(super) fn append(
        &mut self,
        connection: &mut Connection,
        request: &AppendRowsRequest,
    ) -> AppendRowsResponse {
        let answered = self.try_append(connection, request);
        let mut response =
            AppendRowsResponse { write_stream: connection.stream.clone(), ..AppendRowsResponse::default() };
        match answered {
            Ok(offset) => response.response = Some(Appended::AppendResult(AppendResult { offset })),
            Err(Refusal::Status(status)) => response.response = Some(Appended::Error(status)),
            Err(Refusal::Rows(rows)) => {
                response.row_errors = rows;
                let message =
                    "Errors found while processing rows. Please refer to the row_errors field for details";
                let status = inside(Code::InvalidArgument, Storage::Unspecified, &connection.stream, message);
                response.response = Some(Appended::Error(status));
            }
        }
        // "If backend detects a schema update, pass it to user": once, to who wrote with the columns of before.
        let schema = table_of_stream(&connection.stream)
            .and_then(|table| self.tables.get(&table))
            .map(|table| table.write_schema().clone());
        if let (Some(schema), Some(known)) = (&schema, &connection.schema)
            && schema != known
        {
            response.updated_schema = Some(wire_schema(schema));
        }
        connection.schema = schema;
        response
    }

    fn try_append(
        &mut self,
        connection: &mut Connection,
        request: &AppendRowsRequest,
    ) -> Result<Option<i64>, Refusal> {
        let refused = |code, storage, entity: &str, message: &str| {
            Refusal::Status(inside(code, storage, entity, message))
        };
        let invalid = |message: &str| refused(Code::InvalidArgument, Storage::Unspecified, "", message);
        if !request.write_stream.is_empty() {
            connection.stream.clone_from(&request.write_stream);
        }
        let name = connection.stream.clone();
        // "The size of a single AppendRowsRequest must be less than 10 MB".
        if request.encoded_len() >= self.limits.request_bytes {
            return Err(invalid("the request is too large"));
        }
        let Some(Rows::ProtoRows(data)) = &request.rows else { return Err(invalid("there are no rows")) };
        if let Some(descriptor) =
            data.writer_schema.as_ref().and_then(|schema| schema.proto_descriptor.as_ref())
        {
            connection.learn(descriptor)?;
        }
        let Some(message) = connection.message.clone() else {
            return Err(invalid("the first request has no writer schema"));
        };
        let Some(table) = table_of_stream(&name) else { return Err(invalid("no such stream")) };
        let Some(columns) = self.tables.get(&table).map(|table| table.write_schema().clone()) else {
            return Err(refused(Code::NotFound, Storage::TableNotFound, &name, "Table is not found"));
        };
        let is_default = name.ends_with("/streams/_default");
        let mut columns = columns.fields;
        let has_key = self.tables.get(&table).is_some_and(|table| !table.key().is_empty());
        if is_default && has_key {
            columns.extend(change::pseudo_columns());
        } else if message.fields().any(|field| change::is_pseudo(field.name())) {
            return Err(invalid("changes are written by the default stream, to a table with a primary key"));
        }
        if is_default && request.offset.is_some() {
            return Err(invalid("the default stream takes no offset"));
        }
        let length = match self.streams.get(&name) {
            _ if is_default => 0,
            None => {
                return Err(refused(Code::NotFound, Storage::StreamNotFound, &name, "Stream is not found"));
            }
            Some(stream) if stream.finalized => {
                let message = "Stream has been finalized and cannot be appended";
                return Err(refused(Code::FailedPrecondition, Storage::StreamFinalized, &name, message));
            }
            Some(stream) => i64::try_from(stream.rows.len()).unwrap_or(i64::MAX),
        };
        match request.offset {
            Some(offset) if offset < length => {
                let message = "The offset is within stream";
                return Err(refused(Code::AlreadyExists, Storage::OffsetAlreadyExists, &name, message));
            }
            Some(offset) if offset > length => {
                let message = "The offset is beyond stream";
                return Err(refused(Code::OutOfRange, Storage::OffsetOutOfRange, &name, message));
            }
            _ => {}
        }
        decode::check(&message, &columns).map_err(|unfit| match unfit {
            Unfit::ExtraField(field) => {
                let message = format!("Input schema has more fields than BigQuery schema: {field}");
                refused(Code::InvalidArgument, Storage::SchemaMismatchExtraFields, &name, &message)
            }
            Unfit::Invalid(problem) => invalid(&problem),
        })?;
        let rows = data.rows.as_ref().map(|rows| rows.serialized_rows.as_slice()).unwrap_or_default();
        let (mut read, mut errors) = (Vec::with_capacity(rows.len()), Vec::new());
        for (index, bytes) in (0..).zip(rows) {
            let row = if self.counts_only {
                Ok(serde_json::Value::Null)
            } else {
                decode::row(&message, &columns, bytes).and_then(|row| {
                    change::check(&row)?;
                    change::check_connection(&row, &mut connection.changes)?;
                    Ok(row)
                })
            };
            let unwanted = |row: &_| self.refuses.as_ref().is_some_and(|refuses| refuses.0(row));
            match row {
                Ok(row) if !unwanted(&row) => read.push(row),
                row => {
                    let message = row.err().unwrap_or_else(|| "refused by the test".to_owned());
                    errors.push(RowError { index, code: RowErrorCode::FieldsError.into(), message });
                }
            }
        }
        // "If a request failed due to corrupted rows, no rows in the batch will be appended".
        if !errors.is_empty() {
            return Err(Refusal::Rows(errors));
        }
        if is_default {
            // "Data written to this stream is considered committed as soon as an acknowledgement is received", and "the offset will
            // not be set if appending using default streams".
            self.show(&table, &name, &read);
            return Ok(None);
        }
        if let Some(stream) = self.streams.get_mut(&name) {
            stream.rows.append(&mut read);
        }
        Ok(Some(length))
    }
}

enum Refusal {
    Status(rpc::Status),
    Rows(Vec<RowError>),
}

/// What an `AppendRows` connection remembers of its first request.
#[derive(Debug, Default)]
pub(super) struct Connection {
    stream: String,
    message: Option<MessageDescriptor>,
    /// What the columns were at its last request.
    schema: Option<TableSchema>,
    /// Whether its rows are changes, once it had one.
    changes: Option<bool>,
}

impl Connection {
    fn learn(&mut self, descriptor: &DescriptorProto) -> Result<(), Refusal> {
        self.message = Some(decode::message(descriptor).map_err(|unfit| {
            let message = format!("{unfit:?}");
            Refusal::Status(inside(Code::InvalidArgument, Storage::Unspecified, "", &message))
        })?);
        Ok(())
    }

    /// The stream named in the request, or before.
    pub(super) fn stream<'c>(&'c self, request: &'c AppendRowsRequest) -> &'c str {
        if request.write_stream.is_empty() { &self.stream } else { &request.write_stream }
    }
}

fn table_of_stream(name: &str) -> Option<TableName> {
    table_of(name.split_once("/streams/")?.0)
}

fn wire_schema(schema: &TableSchema) -> WireSchema {
    fn fields(of: &[Field]) -> Vec<TableFieldSchema> {
        let field = |field: &Field| TableFieldSchema {
            name: field.name.clone(),
            r#type: wire_type(&field.kind).into(),
            mode: match field.mode {
                Mode::Nullable => WireMode::Nullable,
                Mode::Required => WireMode::Required,
                Mode::Repeated => WireMode::Repeated,
            }
            .into(),
            fields: match &field.kind {
                FieldType::Record(inner) => fields(inner),
                _ => Vec::new(),
            },
            ..TableFieldSchema::default()
        };
        of.iter().map(field).collect()
    }
    WireSchema { fields: fields(&schema.fields) }
}

fn wire_type(kind: &FieldType) -> WireType {
    match kind {
        FieldType::Float64 => WireType::Double,
        other => WireType::from_str_name(other.sql_name()).unwrap_or_default(),
    }
}
