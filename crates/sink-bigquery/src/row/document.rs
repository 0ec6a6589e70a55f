//! A row as the legacy streaming interface takes it: a JSON document
//! (<https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll>).
//!
//! Made of the row's protobuf bytes, so that there is one encoder, with one set of checks. It costs a second pass and a tree, in a mode
//! that is there for compatibility. Whole numbers of 64 bits are texts, because a JSON number may lose digits on the way; so are decimals;
//! bytes are base64; moments, days and times are literals; a `JSON` column is given its text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::calendar;
use crate::schema::{Field, FieldType, Mode, range_fields};

/// The document of a row that was encoded with these columns; `None` if the bytes are no such row.
pub(crate) fn document(columns: &[Field], row: &[u8]) -> Option<Map<String, Value>> {
    let mut document = Map::new();
    let mut rest = row;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let wire = match key & 7 {
            0 => Wire::Varint(varint(&mut rest)?),
            1 => Wire::Fixed(u64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                Wire::Bytes(take(&mut rest, length)?)
            }
            _ => return None,
        };
        let column = column(columns, u32::try_from(key >> 3).ok()?)?;
        let value = value(column, wire)?;
        if column.mode == Mode::Repeated {
            let list = document.entry(column.name.as_str()).or_insert_with(|| Value::Array(Vec::new()));
            list.as_array_mut()?.push(value);
        } else {
            document.insert(column.name.clone(), value);
        }
    }
    Some(document)
}

enum Wire<'b> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'b [u8]),
}

/// By the field's own number, or its place.
fn column(columns: &[Field], number: u32) -> Option<&Field> {
    let place = usize::try_from(number).ok()?.checked_sub(1)?;
    let is_it = |place: usize, field: &Field| match field.number {
        // Of an empty record nothing is stored, so it has no number at all.
        0 => !field.is_empty() && u32::try_from(place + 1).ok() == Some(number),
        own => own == number,
    };
    // Nearly always where it is looked for first.
    columns.get(place).filter(|field| is_it(place, field)).or_else(|| {
        columns.iter().enumerate().find(|(place, field)| is_it(*place, field)).map(|(_, field)| field)
    })
}

fn value(column: &Field, wire: Wire<'_>) -> Option<Value> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok().map(Value::String);
    Some(match (&column.kind, wire) {
        (FieldType::Int64, Wire::Varint(number)) => number.cast_signed().to_string().into(),
        (FieldType::Bool, Wire::Varint(number)) => (number != 0).into(),
        (FieldType::Timestamp, Wire::Varint(micros)) => {
            let mut literal = Vec::with_capacity(27);
            calendar::put_datetime(&mut literal, micros.cast_signed())?;
            *literal.get_mut(10)? = b'T';
            literal.push(b'Z');
            text(literal)?
        }
        (FieldType::Date, Wire::Varint(days)) => {
            let mut literal = Vec::with_capacity(19);
            calendar::put_datetime(&mut literal, days.cast_signed().checked_mul(86_400_000_000)?)?;
            literal.truncate(10);
            text(literal)?
        }
        (FieldType::Float64, Wire::Fixed(bits)) => {
            let number = f64::from_bits(bits);
            // What JSON has no number for has a name: NaN, Infinity, -Infinity.
            serde_json::Number::from_f64(number).map_or_else(
                || {
                    if number.is_nan() {
                        "NaN"
                    } else if number > 0.0 {
                        "Infinity"
                    } else {
                        "-Infinity"
                    }
                    .into()
                },
                Value::Number,
            )
        }
        (FieldType::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (FieldType::Record(fields), Wire::Bytes(bytes)) => Value::Object(document(fields, bytes)?),
        (FieldType::Range(of), Wire::Bytes(bytes)) => {
            Value::Object(document(&range_fields(of.element()), bytes)?)
        }
        (kind, Wire::Bytes(bytes))
            if kind.wire_type() == prost_types::field_descriptor_proto::Type::String =>
        {
            text(bytes.to_vec())?
        }
        _ => return None,
    })
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use aqueduct_converters::JsonValue;
    use aqueduct_core::{TimeUnit, Timestamp};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::row::{Identity, KeyAs, MetadataColumns, PlanOptions, RowPlan, UnknownFields, Workspace};
    use crate::schema::{RangeOf, TableSchema};

    const IDENTITY: Identity<'_> = Identity {
        topic: "t",
        partition: -3,
        offset: 1 << 60,
        timestamp: Timestamp::Create(1_624_865_400_250),
        key: Some(b"\xff"),
        opened_at_ms: 0,
    };

    fn of(fields: Vec<Field>, text: &str) -> Value {
        let metadata = MetadataColumns::default()
            .with_timestamp("at")
            .with_key("key", KeyAs::Bytes)
            .with_load_time("loaded");
        let options = PlanOptions { unknown: UnknownFields::Ignore, timestamps: TimeUnit::Millis, metadata };
        let plan = RowPlan::new(&TableSchema::new(fields), options);
        let mut row = Vec::new();
        let value = JsonValue::parse(text.to_owned().into()).unwrap();
        plan.encode(&value, IDENTITY, &mut Workspace::default(), &mut row).unwrap();
        Value::Object(document(plan.columns(), &row).unwrap())
    }

    #[test]
    fn every_type_is_spelled_as_the_interface_reads_it() {
        let inner = vec![Field::nullable("a", FieldType::Int64), Field::repeated("b", FieldType::Bool)];
        let fields = vec![
            Field::nullable("int", FieldType::Int64),
            Field::nullable("float", FieldType::Float64),
            Field::nullable("nan", FieldType::Float64),
            Field::nullable("bytes", FieldType::Bytes),
            Field::nullable("ts", FieldType::Timestamp),
            Field::nullable("date", FieldType::Date),
            Field::nullable("time", FieldType::Time),
            Field::nullable("dt", FieldType::DateTime),
            Field::nullable("num", FieldType::Numeric),
            Field::nullable("json", FieldType::Json),
            Field::repeated("tags", FieldType::String),
            Field::repeated("recs", FieldType::Record(inner)),
            Field::nullable("range", FieldType::Range(RangeOf::Date)),
            Field::nullable("missing", FieldType::String),
        ];
        let row = of(
            fields,
            r#"{"int": -9007199254740993, "float": 1.5, "nan": "-Infinity", "bytes": "//8=", "ts": -1, "date": "0001-01-01",
                "time": "07:30:00.25", "dt": "2021-06-28T07:30:00", "num": 123.450, "json": {"a": [1, "x"]}, "tags": ["a", "b"],
                "recs": [{"a": 1, "b": [true, false]}, {}], "range": {"start": "2021-01-01"}}"#,
        );
        let expected = json!({
            "int": "-9007199254740993", "float": 1.5, "nan": "-Infinity", "bytes": "//8=",
            "ts": "1969-12-31T23:59:59.999000Z", "date": "0001-01-01", "time": "07:30:00.250000",
            "dt": "2021-06-28 07:30:00", "num": "123.45", "json": r#"{"a":[1,"x"]}"#, "tags": ["a", "b"],
            "recs": [{"a": "1", "b": [true, false]}, {}], "range": {"start": "2021-01-01"},
            "_kafka_topic": "t", "_kafka_partition": "-3", "_kafka_offset": "1152921504606846976",
            "at": "2021-06-28T07:30:00.250000Z", "key": "/w==", "loaded": "1970-01-01T00:00:00Z",
        });
        assert_eq!(row, expected);
    }

    /// Fields of which nothing is stored have no number, and are not what has that of their place.
    #[test]
    fn columns_are_found_beside_fields_without_any() {
        let nothing = |name| Field::nullable(name, FieldType::Record(Vec::new()));
        let numbered = |name, number| Field { number, ..Field::nullable(name, FieldType::Int64) };
        let inner = FieldType::Record(vec![nothing("none"), numbered("n", 1)]);
        let columns =
            vec![nothing("none"), Field { number: 4, ..Field::nullable("r", inner) }, numbered("n", 5)];
        let options = PlanOptions {
            unknown: UnknownFields::Ignore,
            timestamps: TimeUnit::Millis,
            metadata: MetadataColumns::default(),
        };
        let plan = RowPlan::of(columns, 0, options);
        let mut row = Vec::new();
        let value = JsonValue::parse(r#"{"r": {"n": 7}, "n": 8}"#.to_owned().into()).unwrap();
        plan.encode(&value, IDENTITY, &mut Workspace::default(), &mut row).unwrap();
        let expected = json!({
            "_kafka_topic": "t", "_kafka_partition": "-3", "_kafka_offset": "1152921504606846976",
            "r": {"n": "7"}, "n": "8",
        });
        assert_eq!(document(plan.columns(), &row).map(Value::Object), Some(expected));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_document_or_none(row: Vec<u8>) {
            let inner = vec![Field::repeated("a", FieldType::Timestamp)];
            let columns = [Field::nullable("a", FieldType::Record(inner)), Field::nullable("b", FieldType::Date)];
            drop(document(&columns, &row));
        }
    }
}
