use apache_avro::types::Value as Avro;
use aqueduct_core::{DataType, Decimal, Field, FieldValue, TimeUnit};

use aqueduct_core::Compatibility;

use super::*;
use crate::columns::tests::{Value, encode, every_kind, files, json, sample};
use crate::tape::tests::Tree;

fn read(file: &[u8]) -> Vec<Avro> {
    apache_avro::Reader::new(file).unwrap().map(Result::unwrap).collect()
}

/// As another reader sees it, without unions.
fn show(value: &Avro) -> String {
    match value {
        Avro::Union(_, inner) => show(inner),
        Avro::Record(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name}:{}", show(value))).collect();
            format!("{{{}}}", fields.join(" "))
        }
        Avro::Array(elements) => format!("[{}]", elements.iter().map(show).collect::<Vec<_>>().join(" ")),
        Avro::Map(entries) => {
            let mut entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key}={}", show(value))).collect();
            entries.sort();
            format!("<{}>", entries.join(" "))
        }
        Avro::Decimal(number) => {
            let bytes: Vec<u8> = number.clone().try_into().unwrap();
            format!("decimal {}", Decimal::new(bytes, 0))
        }
        Avro::Uuid(uuid) => format!("uuid {uuid}"),
        Avro::Duration(it) => {
            let parts: [u8; 12] = (*it).into();
            format!("duration {parts:?}")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn every_kind_reads_back_as_what_it_is() {
    let (_, values) = every_kind();
    let file = files(&AvroFiles::new(), &values).remove(&0).unwrap();
    sample("every-kind.avro", &file);
    let rows = read(&file);
    let Avro::Record(fields) = &rows[0] else { panic!() };
    let wanted = [
        ("bool", "Boolean(true)"),
        ("int8", "Int(-128)"),
        ("int16", "Int(-32768)"),
        ("int32", "Int(-2147483648)"),
        ("int64", "Long(-9223372036854775808)"),
        ("uint32", "Long(4294967295)"),
        ("uint64", "decimal 18446744073709551615"),
        ("float32", "Float(0.1)"),
        ("float64", "Double(-0.5)"),
        ("decimal5", "decimal -12345"),
        ("decimal18", "decimal -123456789012345678"),
        ("decimal38", "decimal -12345678901234567890123456789"),
        ("decimal60", "decimal 170141183460469231731687303715884105727"),
        ("string", "String(\"é\\n\\\"x\\\"\")"),
        ("bytes", "Bytes([255, 0, 97])"),
        ("fixed", "Fixed(3, [97, 98, 99])"),
        ("uuid", "uuid 30313233-3435-3637-3839-616263646566"),
        ("enum", "Enum(1, \"BLUE\")"),
        ("date", "Date(-1)"),
        ("time_ms", "TimeMillis(27000250)"),
        ("time_us", "TimeMicros(27000250001)"),
        ("time_ns", "Long(27000250000001)"),
        ("ts_ms", "TimestampMillis(1624865400250)"),
        ("ts_us", "TimestampMicros(-1)"),
        ("ts_ns", "TimestampNanos(1)"),
        ("local_ms", "LocalTimestampMillis(1624865400250)"),
        ("local_us", "LocalTimestampMicros(1624865400250000)"),
        ("local_ns", "LocalTimestampNanos(1)"),
        ("duration", "duration [1, 0, 0, 0, 2, 0, 0, 0, 188, 11, 0, 0]"),
        ("json", "String(\"[1,\\\"two\\\"]\")"),
        ("list", "[Long(1) Null Long(3)]"),
        ("lists", "[[String(\"a\")] Null []]"),
        ("map", "<k=Long(1) l=Null>"),
        ("structs", "[{x:Int(1) y:String(\"a\")} Null {x:Int(2) y:Null}]"),
        ("struct", "{x:Int(7) y:Null}"),
        ("union", "{x:Int(9) y:String(\"u\")}"),
        ("nothing", "Null"),
        ("empty", "{}"),
    ];
    assert_eq!(fields.len(), wanted.len());
    for ((name, value), (wanted_name, wanted)) in fields.iter().zip(wanted) {
        assert_eq!((name.as_str(), show(value).as_str()), (wanted_name, wanted));
    }
    let Avro::Record(fields) = &rows[1] else { panic!() };
    assert!(fields.iter().all(|(_, value)| show(value) == "Null"));
}

#[test]
fn blocks_of_every_codec_read_back() {
    let values: Vec<_> =
        (0..5_000).map(|index| json(&format!(r#"{{"id":{index},"text":"row {index}"}}"#))).collect();
    let codecs = [
        AvroCompression::None,
        AvroCompression::Deflate,
        AvroCompression::Snappy,
        AvroCompression::Zstd { level: 3 },
        AvroCompression::Zstd { level: 99 },
    ];
    for codec in codecs {
        let format = AvroFiles::new().with_compression(codec);
        let file = files(&format, &values).remove(&0).unwrap();
        sample(&format!("codec-{codec:?}.avro").replace(['{', '}', ' ', ':'], ""), &file);
        let rows = read(&file);
        assert_eq!(rows.len(), 5_000);
        assert_eq!(show(&rows[4_999]), r#"{id:Long(4999) text:String("row 4999")}"#, "{codec:?}");
        assert_eq!(file, files(&format, &values).remove(&0).unwrap(), "the same rows, the same file");
    }
}

#[test]
fn names_that_avro_does_not_have_are_spelled_another_way() {
    let file = files(&AvroFiles::new(), &[json(r#"{"a-b":1,"a_b":2,"1":{"ü":true},"":[{"x y":null}]}"#)]);
    let rows = read(&file[&0]);
    let shown = show(&rows[0]);
    for part in ["a_b:Long(1)", "a_b_2:Long(2)", "_1:{_:Boolean(true)}", "_:[{x_y:Null}]"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn objects_without_a_schema_are_records_and_no_unions() {
    let file = files(&AvroFiles::new(), &[json(r#"{"a":1}"#), json(r#"{"b":2}"#)]).remove(&0).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&text_of(&file)).unwrap();
    assert_eq!(schema["type"], "record");
}

#[test]
fn what_is_no_record_is_a_file_too() {
    for (text, wanted) in [("1", "Long(1)"), ("[1,null]", "[Long(1) Null]"), ("null", "Null"), ("{}", "{}")] {
        let rows = read(&files(&AvroFiles::new(), &[json(text)])[&0]);
        assert_eq!(rows.iter().map(show).collect::<Vec<_>>(), [wanted]);
    }
}

fn declared(text: &str, root: DataType) -> Arc<Schema> {
    Arc::new(Schema::new(root).with_name("shop.Order").with_avro(text))
}

fn text_of(file: &[u8]) -> String {
    let start = file.windows(11).position(|it| it == b"avro.schema").unwrap();
    let (length, rest) = (apache_long(&file[start + 11..]), start + 11 + long_bytes(&file[start + 11..]));
    String::from_utf8(file[rest..rest + length].to_vec()).unwrap()
}

fn long_bytes(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1
}

fn apache_long(bytes: &[u8]) -> usize {
    let parts = bytes[..long_bytes(bytes)].iter().rev();
    parts.fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f)) / 2
}

#[test]
fn a_declared_text_is_kept_word_for_word_and_decides_the_bytes() {
    let text = r#"{"type":"record","name":"Order","namespace":"shop","doc":"An order.","fields":[
        {"name":"note","type":["string","null"],"default":"-"},
        {"name":"price","type":{"type":"fixed","name":"Money","size":6,"logicalType":"decimal","precision":10,"scale":2}},
        {"name":"was","type":["null","Money"]},
        {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["A","B","C"]}},
        {"name":"id","type":{"type":"fixed","name":"Id","size":16,"logicalType":"uuid"}},
        {"name":"u","type":["long","null",{"type":"array","items":"int"}]}]}"#;
    let money = || DataType::Decimal { precision: 10, scale: 2 };
    let union = DataType::Union(vec![
        Field::new("", DataType::Int64),
        Field::new("", DataType::List(Box::new(Field::new("", DataType::Int32)))),
    ]);
    let symbols = ["A", "B", "C"].map(str::to_owned).to_vec();
    let schema = declared(
        text,
        DataType::Struct(vec![
            Field::new("note", DataType::String).nullable(),
            Field::new("price", money()),
            Field::new("was", money()).nullable(),
            Field::new("kind", DataType::Enum(symbols)),
            Field::new("id", DataType::Uuid),
            Field::new("u", union).nullable(),
        ]),
    );
    let row = |note, was, u| {
        let scalar = Tree::Scalar;
        let price = |it| scalar(FieldValue::Decimal(Decimal::from_i128(it, 2)));
        let members = vec![
            ("note", note),
            ("price", price(-150)),
            ("was", was),
            ("kind", scalar(FieldValue::Str("C".into()))),
            ("id", scalar(FieldValue::Uuid([7; 16]))),
            ("u", u),
        ];
        let tree = Tree::Struct(members.into_iter().map(|(name, it)| (name.to_owned(), it)).collect());
        Value { tree, schema: Some(Arc::clone(&schema)) }
    };
    let null = || Tree::Scalar(FieldValue::Null);
    let list = Tree::Branch(1, Box::new(Tree::List(vec![Tree::Scalar(FieldValue::I64(5))])));
    let was = Tree::Scalar(FieldValue::Decimal(Decimal::from_i128(3, 2)));
    let note = Tree::Scalar(FieldValue::Str("n".into()));
    let file =
        files(&AvroFiles::new(), &[row(note, was, list), row(null(), null(), null())]).remove(&0).unwrap();
    assert_eq!(text_of(&file), text);
    let rows = read(&file);
    let id = "uuid 07070707-0707-0707-0707-070707070707";
    assert_eq!(
        show(&rows[0]),
        format!(
            "{{note:String(\"n\") price:decimal -150 was:decimal 3 kind:Enum(2, \"C\") id:{id} u:[Int(5)]}}"
        )
    );
    assert_eq!(
        show(&rows[1]),
        format!("{{note:Null price:decimal -150 was:Null kind:Enum(2, \"C\") id:{id} u:Null}}")
    );
}

#[test]
fn a_text_that_describes_other_values_is_made_anew() {
    let recursive = r#"{"type":"record","name":"Node","fields":[{"name":"next","type":["null","Node"]}]}"#;
    let schema = declared(recursive, DataType::Struct(vec![Field::new("next", DataType::Json).nullable()]));
    let file =
        files(&AvroFiles::new(), &[Value::of(&schema, r#"{"next":{"next":null}}"#)]).remove(&0).unwrap();
    assert_ne!(text_of(&file), recursive);
    assert_eq!(show(&read(&file)[0]), r#"{next:String("{\"next\":null}")}"#);
    for text in ["", "[]", "7", r#"{"type":"record","name":"x"}"#, r#""long""#] {
        let schema = declared(text, DataType::Struct(vec![Field::new("a", DataType::Int64)]));
        let file = files(&AvroFiles::new(), &[Value::of(&schema, r#"{"a":1}"#)]).remove(&0).unwrap();
        assert_eq!(show(&read(&file)[0]), "{a:Long(1)}", "{text}");
    }
}

#[test]
fn rows_of_an_older_version_are_written_under_the_newer_text() {
    let text = r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"},{"name":"note","type":["null","string"],"default":null}]}"#;
    let old = Schema::new(DataType::Struct(vec![Field::new("id", DataType::Int32)]))
        .with_name("shop.Order")
        .with_version(1);
    let fields = vec![Field::new("id", DataType::Int64), Field::new("note", DataType::String).nullable()];
    let new = Schema::new(DataType::Struct(fields)).with_name("shop.Order").with_version(2).with_avro(text);
    let (old, new) = (Arc::new(old), Arc::new(new));
    let format = AvroFiles::new().with_compatibility(Compatibility::Backward);
    let values = [
        Value::of(&new, r#"{"id":1,"note":"n"}"#),
        Value::of(&old, r#"{"id":2}"#),
        Value::of(&new, r#"{"id":3}"#),
    ];
    let files = files(&format, &values);
    assert_eq!(files.len(), 1);
    assert_eq!(text_of(&files[&0]), text);
    let rows: Vec<_> = read(&files[&0]).iter().map(show).collect();
    assert_eq!(
        rows,
        [r#"{id:Long(1) note:String("n")}"#, "{id:Long(2) note:Null}", "{id:Long(3) note:Null}"]
    );
}

#[test]
fn unions_that_avro_cannot_tell_apart_are_text() {
    let union = DataType::Union(vec![
        Field::new("", DataType::Int64),
        Field::new("", DataType::Timestamp { unit: TimeUnit::Millis, utc: true }),
    ]);
    let schema = Arc::new(Schema::new(DataType::Struct(vec![Field::new("u", union)])));
    let at = FieldValue::Timestamp { count: 0, unit: TimeUnit::Millis, utc: true };
    let tree = Tree::Struct(vec![("u".to_owned(), Tree::Branch(1, Box::new(Tree::Scalar(at))))]);
    let file = files(&AvroFiles::new(), &[Value { tree, schema: Some(schema) }]).remove(&0).unwrap();
    assert_eq!(show(&read(&file)[0]), r#"{u:String("\"1970-01-01T00:00:00.000Z\"")}"#);
}

#[test]
fn options_are_part_of_the_identity_as_far_as_they_decide_rows() {
    let digest = |format: &AvroFiles| {
        let mut parts = Fingerprint::new();
        FileKind::fingerprint(format, &mut parts);
        parts.digest()
    };
    let plain = AvroFiles::new();
    assert_eq!(digest(&plain), digest(&plain.clone().with_compression(AvroCompression::Snappy)));
    assert_ne!(digest(&plain), digest(&plain.clone().with_compatibility(Compatibility::Full)));
    // Golden: objects of an earlier version are recognised by it.
    assert_eq!(digest(&plain), 2_350_089_992_039_600_984);
    let outline = FileOutline::new(0, 1_000, 300_000, 400);
    let asked = encode(&plain, &[json("{}")]).builder.workspace(&outline);
    assert!((64 << 10..4 << 20).contains(&asked), "{asked}");
}

proptest::proptest! {
    #[test]
    fn any_rows_read_back(trees in proptest::collection::vec(crate::tape::tests::tree(), 1..12)) {
        let values: Vec<_> = trees.into_iter().map(|tree| Value { tree, schema: None }).collect();
        let encodings = encode(&AvroFiles::new(), &values);
        let rows: usize = encodings.files().values().map(|file| read(file).len()).sum();
        proptest::prop_assert_eq!(rows + encodings.poisons.len(), values.len());
    }
}
