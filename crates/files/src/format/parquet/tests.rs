use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType as ArrowType;
use arrow_schema::TimeUnit::{Microsecond, Millisecond, Nanosecond};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::LogicalType;
use parquet::file::metadata::PageIndexPolicy;

use aqueduct_core::Compatibility;

use super::*;
use crate::UnknownMembers;
use crate::columns::tests::{Value, encode, every_kind, files, json, sample};

/// A file as another reader sees it: kinds of its columns, and rows.
fn read(file: &[u8]) -> (Vec<String>, Vec<String>) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(file)).unwrap();
    let kinds =
        reader.schema().fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
    let kinds = kinds.collect();
    let mut rows = Vec::new();
    for batch in reader.build().unwrap() {
        let batch: RecordBatch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let mut line = String::new();
            for column in batch.columns() {
                show(column, row, &mut line);
                line.push(' ');
            }
            rows.push(line.trim_end().to_owned());
        }
    }
    (kinds, rows)
}

fn show(array: &dyn Array, row: usize, out: &mut String) {
    if array.is_null(row) {
        return out.push('-');
    }
    macro_rules! number {
        ($kind:ty) => {
            write!(out, "{:?}", array.as_primitive::<$kind>().value(row)).unwrap()
        };
    }
    match array.data_type() {
        ArrowType::Boolean => write!(out, "{}", array.as_boolean().value(row)).unwrap(),
        ArrowType::Int8 => number!(Int8Type),
        ArrowType::Int16 => number!(Int16Type),
        ArrowType::Int32 => number!(Int32Type),
        ArrowType::Int64 => number!(Int64Type),
        ArrowType::UInt32 => number!(UInt32Type),
        ArrowType::UInt64 => number!(UInt64Type),
        ArrowType::Float32 => number!(Float32Type),
        ArrowType::Float64 => number!(Float64Type),
        ArrowType::Date32 => number!(Date32Type),
        ArrowType::Time32(Millisecond) => number!(Time32MillisecondType),
        ArrowType::Time64(Microsecond) => number!(Time64MicrosecondType),
        ArrowType::Time64(Nanosecond) => number!(Time64NanosecondType),
        ArrowType::Timestamp(unit, _) => match unit {
            Millisecond => number!(TimestampMillisecondType),
            Microsecond => number!(TimestampMicrosecondType),
            _ => number!(TimestampNanosecondType),
        },
        ArrowType::Decimal128(..) => {
            out.push_str(&array.as_primitive::<Decimal128Type>().value_as_string(row));
        }
        ArrowType::Decimal256(..) => {
            out.push_str(&array.as_primitive::<Decimal256Type>().value_as_string(row));
        }
        ArrowType::Utf8 => write!(out, "{:?}", array.as_string::<i32>().value(row)).unwrap(),
        ArrowType::Binary => write!(out, "{:x?}", array.as_binary::<i32>().value(row)).unwrap(),
        ArrowType::FixedSizeBinary(_) => {
            write!(out, "{:x?}", array.as_fixed_size_binary().value(row)).unwrap();
        }
        ArrowType::List(_) => {
            let elements = array.as_list::<i32>().value(row);
            out.push('[');
            for element in 0..elements.len() {
                show(&elements, element, out);
                out.push(' ');
            }
            out.push(']');
        }
        ArrowType::Map(..) => {
            let entries = array.as_map().value(row);
            out.push('<');
            for entry in 0..entries.len() {
                show(entries.column(0), entry, out);
                out.push('=');
                show(entries.column(1), entry, out);
                out.push(' ');
            }
            out.push('>');
        }
        ArrowType::Struct(fields) => {
            out.push('{');
            for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                write!(out, "{}:", field.name()).unwrap();
                show(column, row, out);
                out.push(' ');
            }
            out.push('}');
        }
        other => panic!("{other}"),
    }
}

#[test]
fn every_kind_reads_back_as_what_it_is() {
    let (_, values) = every_kind();
    let file = files(&Parquet::new(), &values).remove(&0).unwrap();
    sample("every-kind.snappy.parquet", &file);
    let (kinds, rows) = read(&file);
    let list = |element: &str| format!("List({element}, field: 'element')");
    let wanted = [
        ("bool", "Boolean".to_owned(), "true"),
        ("int8", "Int8".to_owned(), "-128"),
        ("int16", "Int16".to_owned(), "-32768"),
        ("int32", "Int32".to_owned(), "-2147483648"),
        ("int64", "Int64".to_owned(), "-9223372036854775808"),
        ("uint32", "UInt32".to_owned(), "4294967295"),
        ("uint64", "UInt64".to_owned(), "18446744073709551615"),
        ("float32", "Float32".to_owned(), "0.1"),
        ("float64", "Float64".to_owned(), "-0.5"),
        ("decimal5", "Decimal128(5, 2)".to_owned(), "-123.45"),
        ("decimal18", "Decimal128(18, 3)".to_owned(), "-123456789012345.678"),
        ("decimal38", "Decimal128(38, 10)".to_owned(), "-1234567890123456789.0123456789"),
        ("decimal60", "Decimal256(60, 20)".to_owned(), "1701411834604692317.31687303715884105727"),
        ("string", "Utf8".to_owned(), "\"é\\n\\\"x\\\"\""),
        ("bytes", "Binary".to_owned(), "[ff, 0, 61]"),
        ("fixed", "FixedSizeBinary(3)".to_owned(), "[61, 62, 63]"),
        (
            "uuid",
            "FixedSizeBinary(16)".to_owned(),
            "[30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 61, 62, 63, 64, 65, 66]",
        ),
        ("enum", "Utf8".to_owned(), "\"BLUE\""),
        ("date", "Date32".to_owned(), "-1"),
        ("time_ms", "Time32(ms)".to_owned(), "27000250"),
        ("time_us", "Time64(µs)".to_owned(), "27000250001"),
        ("time_ns", "Time64(ns)".to_owned(), "27000250000001"),
        ("ts_ms", "Timestamp(ms, \"UTC\")".to_owned(), "1624865400250"),
        ("ts_us", "Timestamp(µs, \"UTC\")".to_owned(), "-1"),
        ("ts_ns", "Timestamp(ns, \"UTC\")".to_owned(), "1"),
        ("local_ms", "Timestamp(ms)".to_owned(), "1624865400250"),
        ("local_us", "Timestamp(µs)".to_owned(), "1624865400250000"),
        ("local_ns", "Timestamp(ns)".to_owned(), "1"),
        (
            "duration",
            "Struct(\"months\": non-null UInt32, \"days\": non-null UInt32, \"millis\": non-null UInt32)"
                .to_owned(),
            "{months:1 days:2 millis:3004 }",
        ),
        ("json", "Utf8".to_owned(), "\"[1,\\\"two\\\"]\""),
        ("list", list("Int64"), "[1 - 3 ]"),
        ("lists", list("List(Utf8, field: 'element')"), "[[\"a\" ] - [] ]"),
        ("map", String::new(), "<\"k\"=1 \"l\"=- >"),
        ("structs", list("Struct(\"x\": non-null Int32, \"y\": Utf8)"), "[{x:1 y:\"a\" } - {x:2 y:- } ]"),
        ("struct", "Struct(\"x\": non-null Int32, \"y\": Utf8)".to_owned(), "{x:7 y:- }"),
        ("union", String::new(), "{string:- int64:- shop.Inner:{x:9 y:\"u\" } }"),
        ("nothing", "Utf8".to_owned(), "-"),
        ("empty", "Utf8".to_owned(), "\"{}\""),
    ];
    assert_eq!(kinds.len(), wanted.len());
    for (kind, (name, wanted_kind, _)) in kinds.iter().zip(&wanted) {
        assert!(kind.starts_with(&format!("{name} {wanted_kind}")), "{kind}, not {wanted_kind}");
    }
    let full: Vec<_> = wanted.iter().map(|(_, _, value)| *value).collect();
    assert_eq!(rows, [full.join(" "), vec!["-"; wanted.len()].join(" ")]);
}

#[test]
fn annotations_that_arrow_does_not_show_are_there() {
    let (_, values) = every_kind();
    let file = files(&Parquet::new(), &values).remove(&0).unwrap();
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = ArrowReaderMetadata::load(&Bytes::from(file), options).unwrap();
    let file = metadata.metadata();
    let columns = file.file_metadata().schema_descr();
    let of = |path: &str| {
        let column = columns.columns().iter().find(|column| column.path().string() == path).unwrap();
        column.logical_type_ref().cloned()
    };
    assert_eq!(of("uuid"), Some(LogicalType::Uuid));
    assert_eq!(of("json"), Some(LogicalType::Json));
    assert_eq!(of("enum"), Some(LogicalType::String));
    assert_eq!(of("list.list.element"), None);
    assert_eq!(of("map.key_value.key"), Some(LogicalType::String));
    assert_eq!(columns.root_schema().name(), "shop.Every");
    let created = file.file_metadata().created_by().unwrap();
    assert_eq!(created, concat!("aqueduct version ", env!("CARGO_PKG_VERSION")));
    assert!(file.file_metadata().key_value_metadata().is_none());
    assert!(file.page_index().is_some());
    for column in file.row_group(0).columns() {
        assert!(column.statistics().is_some(), "{}", column.column_path());
    }
}

#[test]
fn every_codec_is_one_that_readers_have_and_says_so_in_the_name() {
    let values: Vec<_> =
        (0..500).map(|index| json(&format!(r#"{{"id":{index},"text":"row {index}"}}"#))).collect();
    let codecs = [
        (ParquetCompression::None, ".parquet"),
        (ParquetCompression::Snappy, ".snappy.parquet"),
        (ParquetCompression::Gzip, ".gz.parquet"),
        (ParquetCompression::Zstd { level: 3 }, ".zstd.parquet"),
        (ParquetCompression::Zstd { level: 99 }, ".zstd.parquet"),
    ];
    for (codec, extension) in codecs {
        let format = Parquet::new().with_compression(codec);
        assert_eq!(FileKind::extension(&format), extension);
        let file = files(&format, &values).remove(&0).unwrap();
        sample(&format!("codec{extension}"), &file);
        let (_, rows) = read(&file);
        assert_eq!(rows.len(), 500);
        assert_eq!(rows[499], r#"499 "row 499""#);
    }
}

#[test]
fn row_groups_end_at_their_rows_and_at_their_memory() {
    let text = |index: usize| format!("{:016x}", index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(8);
    let values: Vec<_> =
        (0..20_000).map(|index| json(&format!(r#"{{"id":{index},"text":"{}"}}"#, text(index)))).collect();
    let groups = |format: &Parquet| {
        let file = files(format, &values).remove(&0).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.clone())).unwrap();
        let groups: Vec<_> = reader
            .metadata()
            .row_groups()
            .iter()
            .map(parquet::file::metadata::RowGroupMetaData::num_rows)
            .collect();
        let (_, rows) = read(&file);
        assert_eq!(rows.len(), 20_000);
        assert!(rows[19_999].starts_with("19999 "));
        groups
    };
    assert_eq!(groups(&Parquet::new().with_row_group_rows(7_000)), [7_000, 7_000, 6_000]);
    let by_bytes = groups(&Parquet::new().with_row_group_bytes(200 << 10));
    assert!(by_bytes.len() > 3, "{by_bytes:?}");
    assert_eq!(groups(&Parquet::new()).len(), 1);
}

#[test]
fn a_dictionary_is_a_32nd_of_its_row_group_within_limits() {
    let of = file::dictionary_bytes;
    assert_eq!(of(2 << 20, u64::MAX), 64 << 10);
    assert_eq!(of(2 << 20, 1 << 20), 32 << 10, "the file has no more than one small one");
    assert_eq!(of(1 << 30, u64::MAX), 1 << 20);
    assert_eq!(of(64 << 20, 100), 16 << 10);
}

#[test]
fn columns_whose_values_do_not_repeat_have_no_dictionary() {
    let values: Vec<_> = (0..3_000)
        .map(|index| {
            json(&format!(r#"{{"id":{index},"in":{{"level":"level {}","text":"row {index}"}}}}"#, index % 4))
        })
        .collect();
    let file = files(&Parquet::new(), &values).remove(&0).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.clone())).unwrap();
    let group = reader.metadata().row_group(0);
    let dictionaries = group
        .columns()
        .iter()
        .map(|column| (column.column_path().string(), column.dictionary_page_offset().is_some()));
    let expected = [("id", false), ("in.level", true), ("in.text", false)];
    assert_eq!(dictionaries.collect::<Vec<_>>(), expected.map(|(path, has)| (path.to_owned(), has)));
    let (_, rows) = read(&file);
    assert_eq!((rows.len(), rows[2_999].as_str()), (3_000, r#"2999 {level:"level 3" text:"row 2999" }"#));
}

#[test]
fn the_same_rows_are_the_same_file_however_they_are_chunked() {
    let values: Vec<_> =
        (0..3_000).map(|index| json(&format!(r#"{{"id":{index},"a":{{"b":[{index},null]}}}}"#))).collect();
    let encodings = encode(&Parquet::new(), &values);
    let rows: Vec<_> = encodings.rows.iter().map(|(_, row)| row.clone()).collect();
    let whole = crate::testkit::build_file(&*encodings.builder, 0, &rows).unwrap();
    let again = encode(&Parquet::new(), &values);
    assert_eq!(rows, again.rows.iter().map(|(_, row)| row.clone()).collect::<Vec<_>>());
    assert_eq!(whole, crate::testkit::build_file(&*again.builder, 0, &rows).unwrap());
}

#[test]
fn whatever_is_json_is_a_file() {
    for text in ["{}", "[]", "1", "null", "\"x\"", r#"{"":{"":{}}}"#, r#"{"a":[[],[{}],null]}"#] {
        let file = files(&Parquet::new(), &[json(text)]).remove(&0).unwrap();
        let (_, rows) = read(&file);
        assert_eq!(rows.len(), 1, "{text}");
    }
}

#[test]
fn options_are_part_of_the_identity_as_far_as_they_decide_rows_or_names() {
    let digest = |format: &Parquet| {
        let mut parts = Fingerprint::new();
        FileKind::fingerprint(format, &mut parts);
        parts.digest()
    };
    let schema = |kind| {
        Arc::new(Schema::new(aqueduct_core::DataType::List(Box::new(aqueduct_core::Field::new("", kind)))))
    };
    let plain = Parquet::new();
    let different = [
        plain.clone(),
        plain.clone().with_compression(ParquetCompression::None),
        plain.clone().with_compatibility(Compatibility::Backward),
        plain.clone().with_schema(schema(aqueduct_core::DataType::Int8)),
        plain.clone().with_schema(schema(aqueduct_core::DataType::Int16)),
        plain
            .clone()
            .with_schema(schema(aqueduct_core::DataType::Int8))
            .with_unknown_members(UnknownMembers::Drop),
    ];
    for (index, one) in different.iter().enumerate() {
        assert!(!different[..index].iter().any(|other| digest(other) == digest(one)), "{one:?}");
    }
    let same = plain.clone().with_schema(schema(aqueduct_core::DataType::Int8)).infer_schema();
    assert_eq!(digest(&same), digest(&plain));
    assert_eq!(digest(&plain.clone().with_row_group_rows(5)), digest(&plain));
    // Golden: objects of an earlier version are recognised by it.
    assert_eq!(digest(&plain), GOLDEN);
}

const GOLDEN: u64 = 10_348_576_525_271_046_653;

#[test]
fn a_file_asks_for_the_memory_it_takes() {
    let outline = FileOutline::new(0, 1_000, 300_000, 400);
    let values: Vec<Value> = vec![json(r#"{"a":1,"b":"x","c":[1]}"#)];
    let builder = encode(&Parquet::new(), &values).builder;
    let small = builder.workspace(&outline);
    assert!((300_000..8 << 20).contains(&small), "{small}");
    let large = FileOutline::new(0, 10_000_000, 4 << 30, 400).with_memory(4 << 20);
    let large = builder.workspace(&large);
    assert!(large < 24 << 20, "{large}");
}

proptest::proptest! {
    #[test]
    fn any_rows_read_back(trees in proptest::collection::vec(crate::tape::tests::tree(), 1..12)) {
        let values: Vec<_> = trees.into_iter().map(|tree| Value { tree, schema: None }).collect();
        let encodings = encode(&Parquet::new(), &values);
        let rows: usize = encodings.files().values().map(|file| read(file).1.len()).sum();
        proptest::prop_assert_eq!(rows + encodings.poisons.len(), values.len());
    }
}
