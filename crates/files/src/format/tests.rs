use aqueduct_core::{
    Batch, BatchBuilder, JsonRow, Offset, Permit, PoisonReason, RoutePath, RouteTable, Timestamp,
    TopicPartition,
};

use super::*;

fn batch(value: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), 64);
    builder.push(Offset::ZERO, Timestamp::None, None, Some(value), []);
    builder.build(Permit::unlimited())
}

fn encode<T>(format: &impl Format<T>, value: T, out: &mut Vec<u8>) -> Result<Row, Poison> {
    let batch = batch(b"");
    let path = RoutePath::default();
    let route = RouteTable::new().intern(&path);
    let envelope = Envelope { record: &batch.get(0).unwrap(), route, path: &path, value };
    format.encoder().rows().encode(&envelope, out).map(|encoded| encoded.row)
}

struct Text(&'static str, Option<Bytes>);

impl JsonRow for Text {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(())
    }

    fn json_bytes(&self) -> Option<&Bytes> {
        self.1.as_ref()
    }
}

#[test]
fn json_text_that_exists_is_not_copied() {
    let mut out = Vec::new();
    let text = Bytes::from_static(b"{\"a\":1}");
    let row = encode(&JsonLines::new(), Text("", Some(text.clone())), &mut out).unwrap();
    assert_eq!((row, out.len()), (Row::Shared(text), 0));
    assert_eq!(encode(&JsonLines::new(), Text("[1]", None), &mut out).unwrap(), Row::Written);
    assert_eq!(out, b"[1]");
}

#[test]
fn a_value_that_holds_the_delimiter_is_a_poison_unless_allowed() {
    let value = Bytes::from_static(b"one\r\ntwo");
    let poison = encode(&Delimited::by("\r\n"), value.clone(), &mut Vec::new()).unwrap_err();
    assert_eq!(poison.reason(), PoisonReason::Malformed);
    assert!(poison.detail().contains("at byte 3"), "{poison}");
    let allowed = encode(&Delimited::by("\r\n").allow_embedded(), value.clone(), &mut Vec::new());
    assert_eq!(allowed.unwrap(), Row::Shared(value.clone()));
    assert_eq!(encode(&RawBytes::new(), value.clone(), &mut Vec::new()).unwrap(), Row::Shared(value.clone()));
    assert_eq!(encode(&Delimited::by(""), value.clone(), &mut Vec::new()).unwrap(), Row::Shared(value));
}

#[test]
fn a_value_whose_end_makes_another_delimiter_is_a_poison_unless_allowed() {
    let encoded = |delimiter: &'static str, value: &'static str| {
        encode(&Delimited::by(delimiter), Bytes::from_static(value.as_bytes()), &mut Vec::new())
    };
    for (delimiter, value, at) in
        [("||", "a|", 1), ("||", "|", 0), ("abab", "xab", 1), ("aab", "xaa", 99), ("aaa", "xaa", 1)]
    {
        let splits = format!("{value}{delimiter}").find(delimiter).unwrap() == value.len();
        match encoded(delimiter, value) {
            Ok(_) => assert!(splits, "{value} {delimiter}"),
            Err(poison) => {
                assert!(!splits && poison.detail().contains(&format!("at byte {at}")), "{value} {poison}");
            }
        }
    }
    assert!(encoded("||", "a|b").is_ok());
    assert!(encoded("\r\n", "a\r").is_ok());
    let allowed = encode(&Delimited::by("||").allow_embedded(), Bytes::from_static(b"a|"), &mut Vec::new());
    assert!(allowed.is_ok());
}

#[test]
fn options_are_part_of_the_identity() {
    fn digest(format: &impl FileKind) -> u64 {
        let mut parts = Fingerprint::new();
        format.fingerprint(&mut parts);
        parts.digest()
    }
    let digests = [
        digest(&RawBytes::new()),
        digest(&RawBytes::new().with_extension(".avro")),
        digest(&Delimited::lines()),
        digest(&Delimited::by("\0")),
        digest(&Delimited::lines().allow_embedded()),
        digest(&Delimited::lines().with_extension(".txt")),
    ];
    for (index, one) in digests.iter().enumerate() {
        assert!(!digests.iter().skip(index + 1).any(|other| one == other));
    }
}
