//! The fake keeps the rules it cites.

use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_request::{ProtoData, Rows};
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_response::Response as Appended;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::storage_error::StorageErrorCode as Storage;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::{
    AppendRowsRequest, AppendRowsResponse, BatchCommitWriteStreamsRequest, CreateWriteStreamRequest,
    ProtoRows, ProtoSchema, StorageError, WriteStream, write_stream,
};
use prost::Message as _;
use serde_json::{Value, json};

use super::state::Inner;
use super::stream::Connection;
use super::*;
use crate::schema::{Field, FieldType, descriptor};

const TABLE: &str = "projects/p/datasets/d/tables/t";

fn name() -> TableName {
    TableName::parse("p.d.t").unwrap()
}

fn world(key: &[&str]) -> Inner {
    let mut inner = Inner::default();
    inner.limits = FakeLimits::default().without_quotas();
    let fields = [Field::required("id", FieldType::Int64), Field::nullable("name", FieldType::String)];
    let schema = TableSchema::new(fields).to_value();
    inner.put_table(
        &name(),
        json!({ "schema": schema, "tableConstraints": { "primaryKey": { "columns": key } } }),
    );
    inner
}

fn create(inner: &mut Inner) -> String {
    let stream = WriteStream { r#type: write_stream::Type::Pending.into(), ..WriteStream::default() };
    let request = CreateWriteStreamRequest { parent: TABLE.into(), write_stream: Some(stream) };
    inner.create_stream(&request).unwrap().name
}

/// A row by its texts: the first is a number, `-` is none.
fn encoded(columns: &[&str]) -> Vec<u8> {
    let mut row = Vec::new();
    for (number, text) in (1_u32..).zip(columns).filter(|(_, text)| **text != "-") {
        match number {
            1 => prost::encoding::int64::encode(number, &text.parse().unwrap(), &mut row),
            _ => prost::encoding::string::encode(number, &(*text).to_owned(), &mut row),
        }
    }
    row
}

fn request(stream: &str, offset: Option<i64>, columns: &[&str], rows: &[&[&str]]) -> AppendRowsRequest {
    let field = |name: &&str| match *name {
        "id" => Field::nullable(*name, FieldType::Int64),
        _ => Field::nullable(*name, FieldType::String),
    };
    let fields: Vec<Field> = columns.iter().map(field).collect();
    let schema = ProtoSchema { proto_descriptor: Some(descriptor("R", &fields)) };
    let rows = ProtoRows { serialized_rows: rows.iter().map(|row| encoded(row)).collect() };
    AppendRowsRequest {
        write_stream: stream.to_owned(),
        offset,
        rows: Some(Rows::ProtoRows(ProtoData { writer_schema: Some(schema), rows: Some(rows) })),
        ..AppendRowsRequest::default()
    }
}

/// The storage code of an answer; `None` if the rows were appended.
fn code(response: &AppendRowsResponse) -> Option<Storage> {
    match &response.response {
        Some(Appended::Error(status)) => {
            let detail = status.details.first().map(|any| StorageError::decode(&*any.value).unwrap());
            Some(detail.map_or(Storage::Unspecified, |error| error.code()))
        }
        _ => None,
    }
}

fn seen(inner: &Inner) -> Vec<Value> {
    inner.rows(&name()).into_iter().filter(|row| row.visible).map(|row| row.columns).collect()
}

#[test]
fn offsets_are_checked_and_nothing_is_seen_before_it_is_committed() {
    let mut inner = world(&[]);
    let stream = create(&mut inner);
    let connection = &mut Connection::default();
    let mut append = |inner: &mut Inner, offset, rows: &[&[&str]]| {
        code(&inner.append(connection, &request(&stream, Some(offset), &["id"], rows)))
    };
    assert_eq!(append(&mut inner, 0, &[&["1"], &["2"]]), None);
    assert_eq!(append(&mut inner, 0, &[&["1"], &["2"]]), Some(Storage::OffsetAlreadyExists));
    assert_eq!(append(&mut inner, 1, &[&["3"]]), Some(Storage::OffsetAlreadyExists));
    assert_eq!(append(&mut inner, 3, &[&["3"]]), Some(Storage::OffsetOutOfRange));
    assert_eq!(append(&mut inner, 2, &[&["3"]]), None);
    assert_eq!(inner.finalize(&stream).unwrap().row_count, 3);
    assert_eq!(append(&mut inner, 3, &[&["4"]]), Some(Storage::StreamFinalized));
    assert!(seen(&inner).is_empty() && inner.get_stream(&stream).unwrap().commit_time.is_none());
    let commit = BatchCommitWriteStreamsRequest { parent: TABLE.into(), write_streams: vec![stream.clone()] };
    assert!(inner.batch_commit(&commit).unwrap().commit_time.is_some());
    assert_eq!(seen(&inner).len(), 3);
    assert!(inner.get_stream(&stream).unwrap().commit_time.is_some());
    let again = inner.batch_commit(&commit).unwrap();
    assert!(again.commit_time.is_none());
    assert_eq!(again.stream_errors[0].code(), Storage::StreamAlreadyCommitted);
    assert_eq!(seen(&inner).len(), 3);
}

#[test]
fn rows_that_are_only_counted_keep_their_offsets() {
    let mut inner = world(&[]);
    inner.counts_only = true;
    let stream = create(&mut inner);
    let connection = &mut Connection::default();
    // No row of the table: nobody looks.
    let mut two = request(&stream, Some(0), &["id"], &[&["1"], &["2"]]);
    if let Some(Rows::ProtoRows(data)) = &mut two.rows {
        data.rows = Some(ProtoRows { serialized_rows: vec![vec![0xff]; 2] });
    }
    assert_eq!(code(&inner.append(connection, &two)), None);
    assert_eq!(code(&inner.append(connection, &two)), Some(Storage::OffsetAlreadyExists));
    assert_eq!(inner.finalize(&stream).unwrap().row_count, 2);
    assert_eq!(inner.tables[&name()].visible_count(), 0);
    inner
        .batch_commit(&BatchCommitWriteStreamsRequest { parent: TABLE.into(), write_streams: vec![stream] })
        .unwrap();
    assert_eq!(inner.tables[&name()].visible_count(), 2);
}

#[test]
fn streams_are_committed_all_or_none() {
    let mut inner = world(&[]);
    let [done, open] = [create(&mut inner), create(&mut inner)];
    for stream in [&done, &open] {
        inner.append(&mut Connection::default(), &request(stream, Some(0), &["id"], &[&["1"]]));
    }
    inner.finalize(&done).unwrap();
    let write_streams = vec![done.clone(), open.clone(), format!("{TABLE}/streams/none")];
    let both = BatchCommitWriteStreamsRequest { parent: TABLE.into(), write_streams };
    let answer = inner.batch_commit(&both).unwrap();
    let codes: Vec<_> = answer.stream_errors.iter().map(StorageError::code).collect();
    assert_eq!(codes, [Storage::InvalidStreamState, Storage::StreamNotFound]);
    assert!(seen(&inner).is_empty());
}

#[test]
fn a_bad_row_keeps_its_request_out() {
    let mut inner = world(&[]);
    let stream = create(&mut inner);
    let rows: [&[&str]; 3] = [&["1", "a"], &["-", "b"], &["3", "c"]];
    let answer = inner.append(&mut Connection::default(), &request(&stream, Some(0), &["id", "name"], &rows));
    assert_eq!(answer.row_errors.iter().map(|row| row.index).collect::<Vec<_>>(), [1]);
    assert_eq!(inner.finalize(&stream).unwrap().row_count, 0);
    let stream = create(&mut inner);
    let extra = request(&stream, Some(0), &["id", "more"], &[&["1", "x"]]);
    assert_eq!(
        code(&inner.append(&mut Connection::default(), &extra)),
        Some(Storage::SchemaMismatchExtraFields)
    );
    inner.limits = FakeLimits::default().with_request_bytes(200);
    let large = request(&stream, Some(0), &["id", "name"], &[&["1", &"x".repeat(200)]]);
    assert_eq!(code(&inner.append(&mut Connection::default(), &large)), Some(Storage::Unspecified));
}

#[test]
fn a_connection_is_told_once_of_columns_that_came_later() {
    let mut inner = world(&[]);
    let stream = create(&mut inner);
    let connection = &mut Connection::default();
    let mut told = |inner: &mut Inner, offset| {
        inner.append(connection, &request(&stream, Some(offset), &["id"], &[&["1"]])).updated_schema.is_some()
    };
    assert!(!told(&mut inner, 0));
    let fields = ["id", "name", "more"].map(|name| match name {
        "id" => Field::required(name, FieldType::Int64),
        _ => Field::nullable(name, FieldType::String),
    });
    inner.put_table(&name(), json!({ "schema": TableSchema::new(fields).to_value() }));
    assert_eq!([told(&mut inner, 1), told(&mut inner, 2)], [true, false]);
}

#[test]
fn the_default_stream_is_seen_at_once_and_takes_changes_of_a_table_with_a_key() {
    let columns = ["id", "name", "_CHANGE_TYPE", "_CHANGE_SEQUENCE_NUMBER"];
    let default = format!("{TABLE}/streams/_default");
    let mut inner = world(&["id"]);
    let rows: [&[&str]; 4] = [
        &["1", "a", "UPSERT", "1"],
        &["2", "b", "UPSERT", "1"],
        &["1", "c", "UPSERT", "2"],
        &["2", "-", "DELETE", "2"],
    ];
    assert_eq!(
        code(&inner.append(&mut Connection::default(), &request(&default, None, &columns, &rows))),
        None
    );
    assert_eq!(seen(&inner), [json!({ "id": 1, "name": "c" })]);
    let with_offset = request(&default, Some(0), &columns, &rows);
    assert!(code(&inner.append(&mut Connection::default(), &with_offset)).is_some());
    let wrong: [&[&str]; 1] = [&["1", "a", "INSERT", "-"]];
    let answer = inner.append(&mut Connection::default(), &request(&default, None, &columns, &wrong));
    assert_eq!(answer.row_errors.len(), 1);
    // A connection has changes or rows, not both.
    let mut connection = Connection::default();
    let mixed: [&[&str]; 2] = [&["3", "d", "UPSERT", "1"], &["4", "e", "-", "-"]];
    let answer = inner.append(&mut connection, &request(&default, None, &columns, &mixed));
    assert_eq!(answer.row_errors.iter().map(|error| error.index).collect::<Vec<_>>(), [1]);
    let plain: [&[&str]; 1] = [&["4", "e", "-", "-"]];
    assert_eq!(inner.append(&mut connection, &request(&default, None, &columns, &plain)).row_errors.len(), 1);
    assert_eq!(seen(&inner), [json!({ "id": 1, "name": "c" })]);
    // Neither by another stream nor without a key.
    let stream = create(&mut inner);
    assert!(
        code(&inner.append(&mut Connection::default(), &request(&stream, Some(0), &columns, &rows)))
            .is_some()
    );
    let mut without = world(&[]);
    assert!(
        code(&without.append(&mut Connection::default(), &request(&default, None, &columns, &rows)))
            .is_some()
    );
    assert!(seen(&without).is_empty());
}

#[test]
fn a_quota_lets_through_what_it_says() {
    let mut inner = world(&[]);
    inner.limits = FakeLimits::default().with_creates_per_hour(5);
    let stream = WriteStream { r#type: write_stream::Type::Pending.into(), ..WriteStream::default() };
    let request = CreateWriteStreamRequest { parent: TABLE.into(), write_stream: Some(stream) };
    assert_eq!((0..9).filter(|_| inner.create_stream(&request).is_ok()).count(), 5);
}
