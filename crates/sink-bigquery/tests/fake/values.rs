//! Values of every converter with a schema, as rows of the columns they bring: what a reader of the table sees is what the value is.

use aqueduct_converters::registry::{FixedSchemas, SchemaKind};
use aqueduct_converters::{Avro, ConnectJson, JsonSchema, Protobuf};
use aqueduct_core::{
    BatchBuilder, Begun, Converted, Converter, Envelope, LocalDisk, Offset, OffsetRange, Permit, Pool,
    RoutePath, RouteTable, SegmentStart, Sink, Spool, StructuredValue, Timestamp,
};
use aqueduct_sink_bigquery::{BigQuerySink, Columns, UnknownFields};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::support::{builder, fake, lane, table};

/// Stores the records' values and gives the rows and the table's columns, as name and type.
async fn stored<C>(converter: C, records: &[&[u8]]) -> (Vec<Value>, Vec<(String, String)>)
where
    C: Converter,
    C::Output: StructuredValue,
{
    let fake = fake().await;
    let sink = builder(&fake).columns(Columns::from_values()).unknown_fields(UnknownFields::Refuse);
    let sink: BigQuerySink = sink.build().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(directory.path(), "t", Arc::new(LocalDisk), Pool::new(1 << 30)).unwrap();
    let at = SegmentStart {
        lane: lane(),
        start: Offset::ZERO,
        pinned: None,
        opened_at_ms: 0,
        layout: 0,
        scratch: spool.scratch(),
        memory: Pool::new(64 << 20),
    };
    let Begun::Fill(mut writer) = Sink::<C::Output>::begin(&sink, at).await.unwrap() else {
        panic!("it is new")
    };
    let mut batch = BatchBuilder::new(lane(), 4096);
    for (offset, record) in (0..).zip(records) {
        batch.push(Offset::new(offset), Timestamp::None, None, Some(record), []);
    }
    let batch = batch.build(Permit::unlimited());
    converter.prepare(&batch).await.unwrap();
    let (path, mut routes) = (RoutePath::new(0), RouteTable::new());
    writer.open_route(&path).await.unwrap();
    let route = routes.intern(&path);
    for record in batch.iter() {
        let Ok(Converted::Emit(value)) = converter.convert(&record) else { panic!("a sound record") };
        writer.append(Envelope { record: &record, route, path: &path, value }).unwrap();
    }
    writer.spill().await.unwrap();
    let count = i64::try_from(records.len()).unwrap();
    writer.stage(OffsetRange::new(Offset::ZERO, Offset::new(count)).unwrap()).await.unwrap();
    writer.publish().await.unwrap();
    let rows = fake.rows(&table("orders")).into_iter().map(|row| {
        let Value::Object(mut columns) = row.columns else { panic!("a row is an object") };
        columns.retain(|name, _| !name.starts_with("_kafka"));
        Value::Object(columns)
    });
    let made = fake.table(&table("orders")).unwrap();
    let columns = made["schema"]["fields"].as_array().unwrap().iter().filter_map(|field| {
        let text = |key: &str| field[key].as_str().unwrap().to_owned();
        let repeated = if text("mode") == "REPEATED" { "REPEATED " } else { "" };
        (!text("name").starts_with("_kafka")).then(|| (text("name"), format!("{repeated}{}", text("type"))))
    });
    (rows.collect(), columns.collect())
}

fn shown(columns: &[(String, String)]) -> Vec<String> {
    columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect()
}

/// Zigzag, as Avro writes whole numbers.
fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap());
}

fn text(text: &[u8], out: &mut Vec<u8>) {
    long(i64::try_from(text.len()).unwrap(), out);
    out.extend_from_slice(text);
}

#[tokio::test]
async fn avro_of_two_versions() {
    let first = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "id", "type": "long", "doc": "its number"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEW", "OLD"]}},
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
            {"name": "sku", "type": "string"}, {"name": "counts", "type": {"type": "map", "values": "int"}}]}}},
        {"name": "any", "type": ["null", "string", "long"]},
        {"name": "next", "type": ["null", "Order"]},
        {"name": "none", "type": {"type": "record", "name": "None", "fields": []}}]}"#;
    let second = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "matrix", "type": {"type": "array", "items": {"type": "array", "items": "long"}}},
        {"name": "id", "type": "int"}]}"#;
    let schemas = FixedSchemas::new().with(1, SchemaKind::Avro, first).with(2, SchemaKind::Avro, second);
    let framed = |id: u8| vec![0, 0, 0, 0, id];
    let of_first = |id: i64| {
        let mut out = framed(1);
        long(id, &mut out);
        long(1_500, &mut out);
        // -12.34
        text(&(-1234_i16).to_be_bytes(), &mut out);
        long(1, &mut out);
        // One line with one count.
        long(1, &mut out);
        text(b"s", &mut out);
        long(1, &mut out);
        text(b"red", &mut out);
        long(7, &mut out);
        out.extend([0, 0]);
        long(2, &mut out);
        long(99, &mut out);
        // No next one.
        long(0, &mut out);
        out
    };
    let of_second = {
        let mut out = framed(2);
        long(2, &mut out);
        for row in [&[1, 2][..], &[]] {
            if !row.is_empty() {
                long(2, &mut out);
                for number in row {
                    long(*number, &mut out);
                }
            }
            out.push(0);
        }
        out.push(0);
        long(8, &mut out);
        out
    };
    let (one, three) = (of_first(7), of_first(9));
    let converter = Avro::with_registry(schemas).build().unwrap();
    let (rows, columns) = stored(converter, &[&one, &of_second, &three]).await;
    let line = json!({"sku": "s", "counts": [{"key": "red", "value": 7}]});
    let of_first = |id: i64| json!({"id": id, "at": 1_500_000, "amount": "-12.34", "kind": "OLD", "lines": [line], "any": "99"});
    let of_second = json!({"id": 8, "matrix": [{"element": [1, 2]}, {}]});
    assert_eq!(rows, [of_first(7), of_second, of_first(9)]);
    assert_eq!(
        shown(&columns),
        [
            "id INTEGER",
            "at TIMESTAMP",
            "amount NUMERIC",
            "kind STRING",
            "lines REPEATED RECORD",
            "any JSON",
            "next JSON",
            "matrix REPEATED RECORD",
        ]
    );
}

#[tokio::test]
async fn protobuf() {
    let proto = r#"syntax = "proto3"; package shop;
        import "google/protobuf/timestamp.proto";
        message Order {
            uint64 id = 1;
            google.protobuf.Timestamp at = 2;
            repeated Line lines = 3;
            map<string, double> weights = 4;
            optional string note = 5;
            bytes raw = 6;
        }
        message Line { string sku = 1; int32 count = 2; }"#;
    let mut record = vec![0x08, 0x05];
    record.extend([0x12, 0x02, 0x08, 0x02]);
    record.extend([0x1a, 0x05, 0x0a, 0x01, b's', 0x10, 0x03]);
    record.extend([0x22, 0x0c, 0x0a, 0x01, b'w', 0x11]);
    record.extend(1.5_f64.to_le_bytes());
    record.extend([0x32, 0x01, 0xff]);
    let (rows, columns) = stored(Protobuf::proto(proto, "Order").unwrap(), &[&record]).await;
    let expected = json!({
        "id": "5", "at": 2_000_000, "lines": [{"sku": "s", "count": 3}], "weights": [{"key": "w", "value": 1.5}], "raw": "/w==",
    });
    assert_eq!(rows, [expected]);
    assert_eq!(
        shown(&columns),
        [
            "id NUMERIC",
            "at TIMESTAMP",
            "lines REPEATED RECORD",
            "weights REPEATED RECORD",
            "note STRING",
            "raw BYTES",
        ]
    );
}

#[tokio::test]
async fn json_schema() {
    let schema = r#"{"type": "object", "title": "Order", "required": ["id"], "properties": {
        "id": {"type": "integer"}, "user-id": {"type": "string", "format": "uuid"},
        "day": {"type": "string", "format": "date"}, "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "any": {}}}"#;
    let converter = JsonSchema::with_registry(FixedSchemas::new().with(7, SchemaKind::Json, schema));
    let record =
        b"\0\0\0\0\x07{\"id\":1,\"user-id\":\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\",\"day\":\"1970-01-02\",\
                   \"labels\":{\"a\":\"b\"},\"any\":[1,{\"x\":null}]}";
    let (rows, columns) = stored(converter, &[record]).await;
    let user = columns.iter().find(|(name, _)| name.starts_with("user_id_")).unwrap().0.clone();
    let expected = json!({
        "id": 1, (user): "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "day": 1,
        "labels": [{"key": "a", "value": "b"}], "any": "[1,{\"x\":null}]",
    });
    assert_eq!(rows, [expected]);
}

#[tokio::test]
async fn connect() {
    let record = br#"{"schema": {"type": "struct", "fields": [
        {"field": "price", "type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}},
        {"field": "time", "type": "int32", "name": "org.apache.kafka.connect.data.Time"},
        {"field": "pairs", "type": "map", "keys": {"type": "string"}, "values": {"type": "array", "items": {"type": "int8"}}}]},
        "payload": {"price": "BNI=", "time": 1500, "pairs": {"a": [1, 2], "b": []}}}"#;
    let (rows, columns) = stored(ConnectJson::new(), &[record]).await;
    let expected = json!({
        "price": "12.34", "time": "00:00:01.500000",
        "pairs": [{"key": "a", "value": [1, 2]}, {"key": "b"}],
    });
    assert_eq!(rows, [expected]);
    assert_eq!(columns[0].1, "BIGNUMERIC", "Connect's decimals may have any number of digits");
}
