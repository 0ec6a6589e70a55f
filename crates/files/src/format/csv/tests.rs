use aqueduct_core::{FieldValue, TimeUnit};

use aqueduct_core::Compatibility;

use super::*;
use crate::columns::tests::{Value, encode, every_kind, files, json, sample};
use crate::tape::tests::Tree;

fn file(format: &Csv, values: &[Value]) -> String {
    String::from_utf8(files(format, values).remove(&0).unwrap()).unwrap()
}

/// Header and rows as another reader sees them.
fn read(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let rows = reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect());
    (header, rows.collect())
}

#[test]
fn every_kind_is_text_that_reads_back() {
    let (_, values) = every_kind();
    let text = file(&Csv::new(), &values);
    sample("every-kind.csv", text.as_bytes());
    let (header, rows) = read(&text);
    let wanted = [
        ("bool", "true"),
        ("int8", "-128"),
        ("int16", "-32768"),
        ("int32", "-2147483648"),
        ("int64", "-9223372036854775808"),
        ("uint32", "4294967295"),
        ("uint64", "18446744073709551615"),
        ("float32", "0.1"),
        ("float64", "-0.5"),
        ("decimal5", "-123.45"),
        ("decimal18", "-123456789012345.678"),
        ("decimal38", "-1234567890123456789.0123456789"),
        ("decimal60", "1701411834604692317.31687303715884105727"),
        ("string", "é\n\"x\""),
        ("bytes", "/wBh"),
        ("fixed", "YWJj"),
        ("uuid", "30313233-3435-3637-3839-616263646566"),
        ("enum", "BLUE"),
        ("date", "1969-12-31"),
        ("time_ms", "07:30:00.250"),
        ("time_us", "07:30:00.250001"),
        ("time_ns", "07:30:00.250000001"),
        ("ts_ms", "2021-06-28T07:30:00.250Z"),
        ("ts_us", "1969-12-31T23:59:59.999999Z"),
        ("ts_ns", "1970-01-01T00:00:00.000000001Z"),
        ("local_ms", "2021-06-28T07:30:00.250"),
        ("local_us", "2021-06-28T07:30:00.250000"),
        ("local_ns", "1970-01-01T00:00:00.000000001"),
        ("duration", "P1M2DT3.004S"),
        ("json", "[1,\"two\"]"),
        ("list", "[1,null,3]"),
        ("lists", "[[\"a\"],null,[]]"),
        ("map", "{\"k\":1,\"l\":null}"),
        ("structs", "[{\"x\":1,\"y\":\"a\"},null,{\"x\":2,\"y\":null}]"),
        ("struct.x", "7"),
        ("struct.y", ""),
        ("union", "{\"x\":9,\"y\":\"u\"}"),
        ("nothing", ""),
        ("empty", "{}"),
    ];
    assert_eq!(header, wanted.map(|(name, _)| name));
    assert_eq!(rows[0], wanted.map(|(_, value)| value));
    assert_eq!(rows[1], vec![""; wanted.len()]);
}

#[test]
fn null_and_empty_text_are_told_apart() {
    let values =
        [json(r#"{"a":"","b":{"c":null,"d":1}}"#), json(r#"{"a":null,"b":null}"#), json(r#"{"a":"x,y"}"#)];
    assert_eq!(file(&Csv::new(), &values), "a,b.c,b.d\n\"\",,1\n,,\n\"x,y\",,\n");
    let values = [json(r#"{"a":null}"#), json(r#"{"a":"x"}"#), json("{}")];
    assert_eq!(file(&Csv::new(), &values), "a\n\"\"\nx\n\"\"\n");
    let style = Csv::new().with_null("\\N").with_delimiter(b'\t').with_crlf().without_header();
    let values = [json(r#"{"a":"","b":null}"#), json(r#"{"a":"\\N","b":"x,y\t"}"#)];
    assert_eq!(file(&style, &values), "\"\"\t\\N\r\n\"\\N\"\t\"x,y\t\"\r\n");
}

#[test]
fn whatever_text_is_in_a_cell_reads_back() {
    let texts = ["\"", "\"\"", ",", "\r", "\n", "a\"b,c\r\nd", " x ", "é", "'", "#"];
    let values: Vec<_> =
        texts.iter().map(|text| json(&serde_json::json!({ "a": text, "b,\"": 1 }).to_string())).collect();
    let (header, rows) = read(&file(&Csv::new(), &values));
    assert_eq!(header, ["a", "b,\""]);
    for (row, text) in rows.iter().zip(texts) {
        assert_eq!(row, &[text, "1"]);
    }
}

#[test]
fn delimiters_that_no_reader_takes_are_not_taken() {
    for wrong in [b'"', b'\n', b'\r', 0xff] {
        assert_eq!(file(&Csv::new().with_delimiter(wrong), &[json(r#"{"a":1,"b":2}"#)]), "a,b\n1,2\n");
    }
}

#[test]
fn times_that_no_calendar_shows_are_poisons() {
    let schema = |data_type| Arc::new(Schema::new(DataType::Struct(vec![Field::new("at", data_type)])));
    let of = |data_type, value| {
        let tree = Tree::Struct(vec![("at".to_owned(), Tree::Scalar(value))]);
        Value { tree, schema: Some(schema(data_type)) }
    };
    let unit = TimeUnit::Millis;
    let timestamp =
        |count| of(DataType::Timestamp { unit, utc: true }, FieldValue::Timestamp { count, unit, utc: true });
    let values = [timestamp(i64::MAX), of(DataType::Date, FieldValue::Date(i32::MAX)), timestamp(0)];
    let encodings = encode(&Csv::new(), &values);
    assert_eq!((encodings.poisons.len(), encodings.rows.len()), (2, 1));
    assert_eq!(encodings.files().into_values().next().unwrap(), b"at\n1970-01-01T00:00:00.000Z\n");
}

#[test]
fn options_are_part_of_the_identity() {
    let digest = |format: &Csv| {
        let mut parts = Fingerprint::new();
        FileKind::fingerprint(format, &mut parts);
        parts.digest()
    };
    let plain = Csv::new();
    let different = [
        plain.clone(),
        plain.clone().with_delimiter(b';'),
        plain.clone().with_crlf(),
        plain.clone().with_null("-"),
        plain.clone().without_header(),
        plain.clone().with_compatibility(Compatibility::Forward),
    ];
    for (index, one) in different.iter().enumerate() {
        assert!(!different[..index].iter().any(|other| digest(other) == digest(one)), "{one:?}");
    }
    // Golden: objects of an earlier version are recognised by it.
    assert_eq!(digest(&plain), 14_979_564_322_351_705_051);
}

proptest::proptest! {
    #[test]
    fn any_rows_read_back(trees in proptest::collection::vec(crate::tape::tests::tree(), 1..12)) {
        let values: Vec<_> = trees.into_iter().map(|tree| Value { tree, schema: None }).collect();
        let encodings = encode(&Csv::new(), &values);
        let files = encodings.files().into_values();
        let rows: usize = files.map(|file| read(std::str::from_utf8(&file).unwrap()).1.len()).sum();
        proptest::prop_assert_eq!(rows + encodings.poisons.len(), values.len());
    }
}

#[test]
fn defaults_of_what_is_text_here_are_text() {
    let list = || DataType::List(Box::new(Field::new("", DataType::String)));
    let schema = |version, fields| {
        Arc::new(Schema::new(DataType::Struct(fields)).with_name("shop.Order").with_version(version))
    };
    let id = || Field::new("id", DataType::Int64);
    let format = Csv::new().with_compatibility(Compatibility::Backward);
    let two =
        schema(2, vec![id(), Field::new("tags", list()).with_default(aqueduct_core::Literal::EmptyList)]);
    let newer = Value::of(&two, r#"{"id":2,"tags":["a"]}"#);
    let one = schema(1, vec![id()]);
    assert_eq!(
        file(&format, &[Value::of(&one, r#"{"id":1}"#), newer.clone()]),
        "id,tags\n1,[]\n2,\"[\"\"a\"\"]\"\n"
    );
    let one = schema(1, vec![id(), Field::new("tags", list()).nullable()]);
    let null = Value::of(&one, r#"{"id":1,"tags":null}"#);
    assert_eq!(file(&format, &[null, newer]), "id,tags\n1,[]\n2,\"[\"\"a\"\"]\"\n");
}

#[test]
fn what_a_chunk_takes_is_within_the_workspace() {
    let wide = (0..300).map(|index| Field::new(format!("c{index}"), DataType::Int8).nullable()).collect();
    let unit = TimeUnit::Nanos;
    let times =
        (0..300).map(|index| Field::new(format!("t{index}"), DataType::Timestamp { unit, utc: true }));
    let null = "nothing at all";
    for (fields, tree) in [
        (wide, Tree::Struct(Vec::new())),
        (
            times.collect::<Vec<_>>(),
            Tree::Struct(
                (0..300)
                    .map(|index| {
                        let at = FieldValue::Timestamp { count: 0, unit, utc: true };
                        (format!("t{index}"), Tree::Scalar(at))
                    })
                    .collect(),
            ),
        ),
    ] {
        let schema = Arc::new(Schema::new(DataType::Struct(fields)));
        let values = vec![Value { tree, schema: Some(schema) }; 500];
        let encodings = encode(&Csv::new().with_null(null), &values);
        assert_eq!(encodings.poisons, []);
        let mut framed = Vec::new();
        for (_, row) in &encodings.rows {
            crate::format::frame(row, &mut framed);
        }
        let longest = encodings.rows.iter().map(|(_, row)| row.len()).max().unwrap();
        let outline = FileOutline::new(0, 500, framed.len() as u64, longest);
        let mut file = encodings.builder.open(&outline).unwrap();
        let mut out = Vec::new();
        file.write(crate::format::Rows::new(&framed), &mut out).unwrap();
        let taken = out.capacity() - framed.len();
        let workspace = encodings.builder.workspace(&outline);
        assert!(taken <= workspace, "{taken} bytes, {workspace} were said");
    }
}
