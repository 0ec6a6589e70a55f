//! The converter keeps the contract of converters, and what nobody should send ends as poison.

use aqueduct::testkit::{ScriptedRecord, check_converter, record};
use aqueduct::{
    BatchBuilder, Converted, Converter as _, FieldPath, FieldValue, Fields as _, JsonRow as _, Offset,
    OwnedRecord, Permit, Timestamp, TopicPartition,
};
use ciborium::{Value, cbor};
use custom_converter::cbor::{Cbor, CborValue, DEPTH_MAX};

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

fn of(bytes: &[u8]) -> OwnedRecord {
    record(ScriptedRecord::new(bytes.to_vec()))
}

fn converted(bytes: &[u8]) -> Result<CborValue, String> {
    let mut batch = BatchBuilder::new(TopicPartition::new("readings", 0), bytes.len());
    batch.push(Offset::ZERO, Timestamp::None, None, Some(bytes), []);
    let batch = batch.build(Permit::unlimited());
    let record = batch.iter().next().unwrap();
    match Cbor.convert(&record) {
        Ok(Converted::Emit(value)) => Ok(value),
        Ok(Converted::Skip(_)) => Err("skipped".to_owned()),
        Err(poison) => Err(poison.to_string()),
    }
}

fn row(value: &Value) -> Result<String, String> {
    let mut out = Vec::new();
    converted(&encoded(value))?.write_json(&mut out).map_err(|poison| poison.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn the_contract_holds() {
    let items = [cbor!(1).unwrap(), cbor!({ "a" => [1, null, "x"] }).unwrap(), Value::Bytes(vec![255])];
    let records: Vec<_> = items.iter().map(|item| of(&encoded(item))).collect();
    // Hostile records come on top of these.
    check_converter(&Cbor, &records).await;
}

#[test]
fn values_become_the_json_of_rfc_8949() {
    let value = cbor!({
        "text" => "a\n\"b\"", "whole" => u64::MAX, "below" => -1, "half" => 0.5, "none" => f64::NAN,
        "list" => [true, null], 7 => "seven",
    });
    let json = r#"{"text":"a\n\"b\"","whole":18446744073709551615,"below":-1,"half":0.5,"none":null,"list":[true,null],"7":"seven"}"#;
    assert_eq!(row(&value.unwrap()).unwrap(), json);
    assert_eq!(row(&Value::Bytes(vec![1, 2, 3])).unwrap(), "\"AQID\"");
    let big = |tag| Value::Tag(tag, Box::new(Value::Bytes(vec![1; 17])));
    let (positive, negative) = (row(&big(2)).unwrap(), row(&big(3)).unwrap());
    assert_eq!(negative, positive.replacen('"', "\"~", 1));
}

#[test]
fn fields_are_found_by_path() {
    let value = converted(&encoded(&cbor!({ "a" => { "b" => "c" }, "n" => 5 }).unwrap())).unwrap();
    let field = |path: &str| value.field(&FieldPath::parse(path).unwrap()).map(|it| format!("{it:?}"));
    assert_eq!(field("a.b"), Some(format!("{:?}", FieldValue::Str("c".into()))));
    assert_eq!(field("n"), Some(format!("{:?}", FieldValue::I64(5))));
    assert_eq!(field("a"), Some(format!("{:?}", FieldValue::Composite)));
    assert_eq!(field("a.x").or(field("n.x")), None);
}

#[test]
fn maps_that_json_cannot_say_are_poison() {
    let twice =
        Value::Map(vec![(Value::Text("1".into()), Value::Null), (Value::Integer(1.into()), Value::Null)]);
    assert!(row(&twice).unwrap_err().contains("\"1\" twice"));
    let listed = Value::Map(vec![(Value::Array(Vec::new()), Value::Null)]);
    assert!(row(&listed).unwrap_err().contains("neither text"));
}

#[test]
fn bombs_are_poison() {
    let deep = vec![0x81; DEPTH_MAX + 1];
    // An array, a map, a byte string and a text of 2^63 - 1 elements, in nine bytes each.
    let long = [0x9b_u8, 0xbb, 0x5b, 0x7b].map(|head| [&[head, 0x7f][..], &[0xff; 7]].concat());
    for bytes in long.iter().chain([&deep]) {
        converted(bytes).unwrap_err();
    }
    let whole = encoded(&cbor!([1, 2]).unwrap());
    assert!(converted(&whole[..1]).unwrap_err().contains("of 1"));
    assert!(converted(&[&whole[..], &[0]].concat()).unwrap_err().contains("1 of 4 bytes follow"));
}
