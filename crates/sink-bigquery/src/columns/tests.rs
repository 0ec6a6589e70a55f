use std::fmt::Write as _;
use std::sync::Arc;

use aqueduct_core::{
    Composite, DataType, Decimal, Field as Member, FieldValue, Poison, Schema, StructuredValue, TimeUnit,
    Timestamp, write_json,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::derive::derive;
use super::shared::{TableColumns, TableLayout};
use super::{DerivedColumns, TableEncoder};
use crate::row::events::{Event, Events, read, reader};
use crate::row::{Identity, MetadataColumns, PlanOptions, UnknownFields, Workspace};
use crate::schema::{Field, FieldType, Mode, TableSchema};

fn options() -> PlanOptions {
    let metadata = MetadataColumns::default();
    PlanOptions { unknown: UnknownFields::Refuse, timestamps: TimeUnit::Micros, metadata }
}

fn encoder_of(columns: &[Field], evolves: bool, derived: DerivedColumns) -> TableEncoder {
    let columns = TableColumns::new(columns, evolves, derived, options());
    TableEncoder::new(TableLayout::ByValues(Arc::new(columns)))
}

fn encode(encoder: &mut TableEncoder, value: &impl StructuredValue) -> Result<Vec<u8>, Poison> {
    let mut out = Vec::new();
    let identity = Identity {
        topic: "t",
        partition: 0,
        offset: 1,
        timestamp: Timestamp::None,
        key: None,
        opened_at_ms: 0,
    };
    encoder.plan(value)?.encode(value, identity, &mut Workspace::default(), &mut out)?;
    encoder.encoded();
    Ok(out)
}

/// Reads rows by the type that all of them have.
fn decode(encoder: &TableEncoder, rows: &[Vec<u8>]) -> Vec<Value> {
    let reader = reader(encoder.descriptor());
    let read = |row: &Vec<u8>| {
        let mut row = read(&reader, row);
        for ours in ["_kafka_topic", "_kafka_partition", "_kafka_offset"] {
            assert!(row.as_object_mut().unwrap().remove(ours).is_some(), "{row}");
        }
        row
    };
    rows.iter().map(read).collect()
}

fn member(name: &str, data_type: DataType) -> Member {
    Member::new(name, data_type)
}

fn list(of: DataType) -> DataType {
    DataType::List(Box::new(member("", of)))
}

fn map(of: DataType) -> DataType {
    DataType::Map(Box::new(member("", of)))
}

fn schema(members: Vec<Member>) -> Arc<Schema> {
    Arc::new(Schema::new(DataType::Struct(members)).with_name("shop.Order"))
}

/// A struct of scalars.
fn flat(schema: &Arc<Schema>, members: &[(&str, FieldValue<'static>)]) -> Events {
    let inside = members
        .iter()
        .flat_map(|(name, value)| [Event::Key((*name).to_owned()), Event::Scalar(value.clone())]);
    let events = [Event::Begin(Composite::Struct)].into_iter().chain(inside).chain([Event::End]);
    Events { schema: Some(Arc::clone(schema)), events: events.collect() }
}

#[test]
fn every_kind_has_its_column() {
    let record = |fields| FieldType::Record(fields);
    let decimal = |precision, scale| DataType::Decimal { precision, scale };
    let moment = |utc| DataType::Timestamp { unit: TimeUnit::Millis, utc };
    let pair = |value| record(vec![Field::nullable("key", FieldType::String), value]);
    let a = || vec![member("a", DataType::Bool)];
    let cases: Vec<(DataType, Option<Field>)> = vec![
        (DataType::Bool, Some(Field::nullable("x", FieldType::Bool))),
        (DataType::Int8, Some(Field::nullable("x", FieldType::Int64))),
        (DataType::UInt32, Some(Field::nullable("x", FieldType::Int64))),
        (DataType::UInt64, Some(Field::nullable("x", FieldType::Numeric))),
        (DataType::Float32, Some(Field::nullable("x", FieldType::Float64))),
        (decimal(38, 9), Some(Field::nullable("x", FieldType::Numeric))),
        (decimal(38, 10), Some(Field::nullable("x", FieldType::BigNumeric))),
        (decimal(39, 9), Some(Field::nullable("x", FieldType::BigNumeric))),
        (decimal(76, 38), Some(Field::nullable("x", FieldType::BigNumeric))),
        (decimal(77, 38), Some(Field::nullable("x", FieldType::String))),
        (decimal(50, 39), Some(Field::nullable("x", FieldType::String))),
        (DataType::Uuid, Some(Field::nullable("x", FieldType::String))),
        (DataType::Enum(vec!["A".into()]), Some(Field::nullable("x", FieldType::String))),
        (DataType::Fixed(4), Some(Field::nullable("x", FieldType::Bytes))),
        (DataType::Date, Some(Field::nullable("x", FieldType::Date))),
        (DataType::Time(TimeUnit::Nanos), Some(Field::nullable("x", FieldType::Time))),
        (moment(true), Some(Field::nullable("x", FieldType::Timestamp))),
        (moment(false), Some(Field::nullable("x", FieldType::DateTime))),
        (DataType::Duration, Some(Field::nullable("x", FieldType::Interval))),
        (DataType::Json, Some(Field::nullable("x", FieldType::Json))),
        (DataType::Union(a()), Some(Field::nullable("x", FieldType::Json))),
        (
            DataType::Struct(a()),
            Some(Field::nullable("x", record(vec![Field::nullable("a", FieldType::Bool)]))),
        ),
        (DataType::Struct(vec![]), None),
        (DataType::Struct(vec![member("a", DataType::Null)]), None),
        (DataType::Null, None),
        (list(DataType::String), Some(Field::repeated("x", FieldType::String))),
        (list(DataType::Json), Some(Field::repeated("x", FieldType::Json))),
        (list(DataType::Null), None),
        (
            list(list(DataType::Int64)),
            Some(Field::repeated("x", record(vec![Field::repeated("element", FieldType::Int64)]))),
        ),
        (map(DataType::Int64), Some(Field::repeated("x", pair(Field::nullable("value", FieldType::Int64))))),
        (map(DataType::Null), Some(Field::nullable("x", FieldType::Json))),
        (
            map(list(DataType::Date)),
            Some(Field::repeated("x", pair(Field::repeated("value", FieldType::Date)))),
        ),
    ];
    for (data_type, expected) in cases {
        let shown = format!("{data_type}");
        let values = schema(vec![member("id", DataType::Int64), member("x", data_type)]);
        let columns = derive(&values, &DerivedColumns::new()).unwrap();
        let found = columns.into_iter().nth(1).filter(|field| !field.is_empty());
        assert_eq!(found, expected, "{shown}");
    }
}

/// Levels of records, and what is below them.
fn depth(field: &Field) -> (usize, &FieldType) {
    match field.kind() {
        FieldType::Record(fields) => {
            let (below, kind) = depth(&fields[0]);
            (below + 1, kind)
        }
        kind => (0, kind),
    }
}

#[test]
fn required_columns_are_an_option_and_too_deep_is_json() {
    let values = schema(vec![
        member("id", DataType::Int64),
        member("note", DataType::String).nullable(),
        member("tags", list(DataType::String)),
    ]);
    let columns = derive(&values, &DerivedColumns::new().required(true)).unwrap();
    assert_eq!(
        columns.iter().map(Field::mode).collect::<Vec<_>>(),
        [Mode::Required, Mode::Nullable, Mode::Repeated]
    );
    let deep = |levels: usize| {
        let inner = (0..levels).fold(DataType::Bool, |inner, _| DataType::Struct(vec![member("r", inner)]));
        derive(&schema(vec![member("r", inner)]), &DerivedColumns::new()).unwrap()
    };
    assert_eq!(depth(&deep(15)[0]), (15, &FieldType::Bool));
    assert_eq!(depth(&deep(16)[0]), (15, &FieldType::Json));
    for levels in [14, 15, 16, 40] {
        for of in [list as fn(DataType) -> DataType, map] {
            let inner = (0..levels).fold(DataType::Bool, |inner, _| of(inner));
            let columns = derive(&schema(vec![member("x", inner)]), &DerivedColumns::new()).unwrap();
            assert_eq!(TableSchema::new(columns).problems(), [], "{levels}");
        }
    }
}

#[test]
fn schemas_that_make_no_table_are_refused_by_name() {
    let refused = |schema: &Schema| derive(schema, &DerivedColumns::new()).unwrap_err().to_string();
    let twice = refused(&schema(vec![member("id", DataType::Int64), member("ID", DataType::Int64)]));
    assert!(twice.contains("shop.Order") && twice.contains("\"ID\" is there twice"), "{twice}");
    let scalar = refused(&Schema::new(DataType::Int64));
    assert!(scalar.contains("no fields to make columns of"), "{scalar}");
    let many = (0..10_001).map(|n| member(&format!("f{n}"), DataType::Bool)).collect();
    assert!(refused(&schema(many)).contains("are the most"));
}

#[test]
fn names_are_made_legal_and_values_find_them() {
    let values = schema(vec![
        member("user-id", DataType::Int64),
        member("user.id", DataType::Int64),
        member("_PARTITIONTIME", DataType::Int64),
        member("Plain", DataType::Int64),
    ]);
    let mut encoder = encoder_of(&[], true, DerivedColumns::new());
    let number = FieldValue::I64;
    let value = flat(
        &values,
        &[
            ("user-id", number(1)),
            ("user.id", number(2)),
            ("_PARTITIONTIME", number(3)),
            ("Plain", number(4)),
        ],
    );
    let row = encode(&mut encoder, &value).unwrap();
    let read = &decode(&encoder, &[row])[0];
    let columns = encoder.columns();
    assert_eq!(TableSchema::new(columns.clone()).problems(), []);
    let of = |place: usize| read[columns[place].name()].as_i64();
    assert_eq!([of(0), of(1), of(2), of(3)], [Some(1), Some(2), Some(3), Some(4)], "{read}");
    assert!(columns[0].name().starts_with("user_id_") && columns[0].name() != columns[1].name());
}

#[test]
fn versions_share_numbers_and_columns_of_a_table_keep_their_types() {
    let have = [
        Field::nullable("ID", FieldType::Numeric),
        Field::required("must", FieldType::Bool),
        Field::nullable("at", FieldType::Timestamp),
        Field::nullable("raw", FieldType::Json),
    ];
    let first = schema(vec![
        member("id", DataType::Int64),
        member("at", DataType::String),
        member("raw", map(DataType::Bool)),
    ]);
    let second = schema(vec![member("new", DataType::String), member("id", DataType::Int64)]);
    let mut encoder = encoder_of(&have, true, DerivedColumns::new());
    let one =
        flat(&first, &[("id", FieldValue::I64(1)), ("at", FieldValue::Str("1970-01-01T00:00:01Z".into()))]);
    let two = flat(&second, &[("id", FieldValue::I64(2)), ("new", FieldValue::Str("n".into()))]);
    let rows = [&one, &two, &one].map(|value| encode(&mut encoder, value).unwrap());
    let of_one = json!({"ID": "1", "at": 1_000_000});
    assert_eq!(decode(&encoder, &rows), [of_one.clone(), json!({"ID": "2", "new": "n"}), of_one]);
    let must = encoder.columns().into_iter().find(|field| field.name() == "must").unwrap();
    assert_eq!(must.mode(), Mode::Nullable, "values never have it, so it is relaxed");

    // Where it may not be, they are letters.
    let mut strict = encoder_of(&have, false, DerivedColumns::new());
    let poison = encode(&mut strict, &one).unwrap_err();
    assert!(poison.detail().contains("\"must\" is not there"), "{poison}");
}

#[test]
fn what_a_column_cannot_take_is_refused_by_schema_and_its_neighbours_are_not() {
    let first = schema(vec![
        member("x", DataType::Int64),
        member("r", DataType::Struct(vec![member("y", DataType::Bool)])),
    ]);
    let mut encoder = encoder_of(&[], true, DerivedColumns::new());
    let good = flat(&first, &[("x", FieldValue::I64(1))]);
    encode(&mut encoder, &good).unwrap();
    let cases = [
        (member("x", DataType::Float64), "column x is INTEGER, and values make it FLOAT"),
        (member("X", list(DataType::Int64)), "column X is INTEGER, and values make it REPEATED INTEGER"),
        (member("r", DataType::String), "column r is RECORD, and values make it STRING"),
        (
            member("r", DataType::Struct(vec![member("y", DataType::Int64)])),
            "column r.y is BOOLEAN, and values make it",
        ),
        (member("_kafka_offset", DataType::Int64), "name it otherwise with metadata_columns()"),
    ];
    for (other, told) in cases {
        let bad = schema(vec![member("before", DataType::Bool), other]);
        let poison = encode(&mut encoder, &flat(&bad, &[])).unwrap_err();
        assert!(poison.detail().contains(told) && poison.detail().contains("shop.Order"), "{poison}");
        encode(&mut encoder, &good).unwrap();
    }
    assert!(!encoder.columns().iter().any(|field| field.name() == "before"), "a refused schema adds nothing");
    let plain = aqueduct_converters::JsonValue::parse(r#"{"x": 1}"#.into()).unwrap();
    let poison = encode(&mut encoder, &plain).unwrap_err();
    assert!(poison.detail().contains("no schema to take columns from"), "{poison}");
}

#[test]
fn schemas_without_end_are_letters_and_no_table_without_end() {
    let version = |n: usize, fields: usize| {
        schema((0..fields).map(|field| member(&format!("f{n}_{field}"), DataType::Bool)).collect())
    };
    // 9,997 beside ours.
    let mut encoder = encoder_of(&[], true, DerivedColumns::new());
    let full = version(0, TableSchema::FIELDS_MAX - 3);
    encode(&mut encoder, &flat(&full, &[])).unwrap();
    let poison = encode(&mut encoder, &flat(&version(1, 1), &[])).unwrap_err();
    assert!(poison.detail().contains("more than the 10000 columns"), "{poison}");
    encode(&mut encoder, &flat(&full, &[])).unwrap();

    let mut encoder = encoder_of(&[], true, DerivedColumns::new());
    for n in 0..1_000 {
        encode(&mut encoder, &flat(&version(n, 1), &[])).unwrap();
    }
    let poison = encode(&mut encoder, &flat(&version(1_000, 1), &[])).unwrap_err();
    assert!(poison.detail().contains("more than 1000 schemas"), "{poison}");
    encode(&mut encoder, &flat(&version(7, 1), &[])).unwrap();
}

#[test]
fn required_holds_for_the_first_schema_and_what_some_rows_lack_is_nullable() {
    let first = schema(vec![member("a", DataType::Int64), member("b", DataType::Int64)]);
    let second = schema(vec![member("a", DataType::Int64), member("c", DataType::Int64)]);
    let mut encoder = encoder_of(&[], true, DerivedColumns::new().required(true));
    let number = FieldValue::I64(1);
    encode(&mut encoder, &flat(&first, &[("a", number.clone()), ("b", number.clone())])).unwrap();
    let modes = |encoder: &TableEncoder| {
        let theirs = |field: &Field| !field.name().starts_with("_kafka");
        encoder.columns().iter().filter(|field| theirs(field)).map(Field::mode).collect::<Vec<_>>()
    };
    assert_eq!(modes(&encoder), [Mode::Required, Mode::Required]);
    encode(&mut encoder, &flat(&second, &[("a", number.clone()), ("c", number)])).unwrap();
    assert_eq!(modes(&encoder), [Mode::Required, Mode::Nullable, Mode::Nullable]);
}

/// Any kind, as deep as `depth`.
fn data_type(depth: u32) -> BoxedStrategy<DataType> {
    let leaf = prop_oneof![
        Just(DataType::Null),
        Just(DataType::Bool),
        Just(DataType::Int32),
        Just(DataType::Int64),
        Just(DataType::UInt64),
        Just(DataType::Float64),
        Just(DataType::Decimal { precision: 12, scale: 2 }),
        Just(DataType::Decimal { precision: 60, scale: 30 }),
        Just(DataType::Decimal { precision: 90, scale: 2 }),
        Just(DataType::String),
        Just(DataType::Bytes),
        Just(DataType::Uuid),
        Just(DataType::Date),
        Just(DataType::Time(TimeUnit::Millis)),
        Just(DataType::Timestamp { unit: TimeUnit::Millis, utc: true }),
        Just(DataType::Timestamp { unit: TimeUnit::Micros, utc: false }),
        Just(DataType::Json),
        Just(DataType::Union(vec![member("s", DataType::String), member("n", DataType::Int64)])),
    ];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(list),
            inner.clone().prop_map(map),
            prop::collection::vec((inner, any::<bool>()), 0..4).prop_map(|members| {
                let members = members.into_iter().enumerate().map(|(place, (data_type, nullable))| {
                    let member = member(&format!("m{place}"), data_type);
                    if nullable { member.nullable() } else { member }
                });
                DataType::Struct(members.collect())
            }),
        ]
    })
    .boxed()
}

/// Numbers by a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Whether nothing can be stored of it.
fn is_nothing(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null => true,
        DataType::Struct(members) => members.iter().all(|member| is_nothing(member.data_type())),
        DataType::List(element) => is_nothing(element.data_type()),
        _ => false,
    }
}

/// A value of the kind, and what a reader of its column sees.
fn value(data_type: &DataType, dice: &mut Dice) -> (Vec<Event>, Option<Value>) {
    let scalar = |value: FieldValue<'static>, seen: Value| (vec![Event::Scalar(value)], Some(seen));
    let number = i64::try_from(dice.roll(1 << 30)).unwrap() - (1 << 29);
    match data_type {
        DataType::Null => (vec![Event::Scalar(FieldValue::Null)], None),
        DataType::Bool => scalar(FieldValue::Bool(number > 0), json!(number > 0)),
        DataType::Int32 | DataType::Int64 => scalar(FieldValue::I64(number), json!(number)),
        DataType::UInt64 => scalar(FieldValue::U64(u64::MAX), json!(u64::MAX.to_string())),
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        DataType::Float64 => scalar(FieldValue::F64(number as f64 + 0.5), json!(number as f64 + 0.5)),
        DataType::Decimal { precision, scale } => {
            let unscaled = i128::from(number) * 10_i128.pow(scale - 2);
            let mut seen = format!("{}{}", if number < 0 { "-" } else { "" }, number.abs() / 100);
            let cents = number.abs() % 100;
            if *precision == 90 {
                write!(seen, ".{cents:02}").unwrap();
            } else if cents > 0 {
                seen.push_str(format!(".{cents:02}").trim_end_matches('0'));
            }
            if number == 0 {
                seen = if *precision == 90 { "0.00".into() } else { "0".into() };
            }
            scalar(FieldValue::Decimal(Decimal::from_i128(unscaled, *scale)), json!(seen))
        }
        DataType::Bytes => scalar(FieldValue::Bytes(b"\x00\xff".as_slice().into()), json!("AP8=")),
        DataType::Uuid => scalar(FieldValue::Uuid([1; 16]), json!("01010101-0101-0101-0101-010101010101")),
        DataType::Date => scalar(FieldValue::Date(i32::try_from(number >> 12).unwrap()), json!(number >> 12)),
        DataType::Time(unit) => {
            scalar(FieldValue::Time { count: 61_001, unit: *unit }, json!("00:01:01.001000"))
        }
        DataType::Timestamp { unit, utc: true } => {
            scalar(FieldValue::Timestamp { count: number, unit: *unit, utc: true }, json!(number * 1000))
        }
        DataType::Timestamp { unit, utc: false } => scalar(
            FieldValue::Timestamp { count: 1, unit: *unit, utc: false },
            json!("1970-01-01 00:00:00.000001"),
        ),
        DataType::Json => {
            let inside = [Event::Begin(Composite::List), Event::Scalar(FieldValue::I64(number)), Event::End];
            (inside.to_vec(), Some(json!(format!("[{number}]"))))
        }
        DataType::Union(_) if number > 0 => scalar(FieldValue::I64(number), json!(number.to_string())),
        DataType::Union(_) => scalar(FieldValue::Str("a\"b".into()), json!(r#""a\"b""#)),
        DataType::List(element) => list_value(element, dice),
        DataType::Map(of) => map_value(of, dice),
        DataType::Struct(members) => struct_value(members, dice),
        _ => {
            let text = format!("text {number}");
            scalar(FieldValue::Str(text.clone().into()), json!(text))
        }
    }
}

fn list_value(element: &Member, dice: &mut Dice) -> (Vec<Event>, Option<Value>) {
    let mut events = vec![Event::Begin(Composite::List)];
    let mut seen = Vec::new();
    let inner_is_list = match element.data_type() {
        DataType::List(_) => true,
        DataType::Map(of) => !is_nothing(of.data_type()),
        _ => false,
    };
    // A list that may hold null is a letter when it does; lists of nothing else have no column.
    let count = if matches!(element.data_type(), DataType::Null) { 2 } else { dice.roll(3) };
    for _ in 0..count {
        let (inside, one) = value(element.data_type(), dice);
        events.extend(inside);
        seen.extend(if inner_is_list {
            Some(one.map_or_else(|| json!({}), |inner| json!({ "element": inner })))
        } else {
            one
        });
    }
    events.push(Event::End);
    let seen = (!seen.is_empty() && !is_nothing(element.data_type())).then_some(Value::Array(seen));
    (events, seen)
}

fn map_value(of: &Member, dice: &mut Dice) -> (Vec<Event>, Option<Value>) {
    let mut events = vec![Event::Begin(Composite::Map)];
    let mut seen = Vec::new();
    for key in 0..dice.roll(3) {
        let key = format!("k{key}");
        events.push(Event::Key(key.clone()));
        let (inside, one) = value(of.data_type(), dice);
        events.extend(inside);
        let mut entry = json!({ "key": key });
        if let Some(one) = one {
            entry["value"] = one;
        }
        seen.push(entry);
    }
    events.push(Event::End);
    if is_nothing(of.data_type()) {
        let mut text = Vec::new();
        write_json(&Events { schema: None, events: events.clone() }, &mut text).unwrap();
        return (events, Some(json!(String::from_utf8(text).unwrap())));
    }
    let seen = (!seen.is_empty()).then_some(Value::Array(seen));
    (events, seen)
}

fn struct_value(members: &[Member], dice: &mut Dice) -> (Vec<Event>, Option<Value>) {
    let mut events = vec![Event::Begin(Composite::Struct)];
    let mut seen = serde_json::Map::new();
    for member in members {
        match (member.is_nullable(), dice.roll(3)) {
            (true, 0) => {}
            (true, 1) => {
                events.extend([Event::Key(member.name().to_owned()), Event::Scalar(FieldValue::Null)]);
            }
            _ => {
                events.push(Event::Key(member.name().to_owned()));
                let (inside, one) = value(member.data_type(), dice);
                events.extend(inside);
                if let Some(one) = one.filter(|_| !is_nothing(member.data_type())) {
                    seen.insert(member.name().to_owned(), one);
                }
            }
        }
    }
    events.push(Event::End);
    let nothing = members.iter().all(|member| is_nothing(member.data_type()));
    (events, (!nothing).then_some(Value::Object(seen)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Values of two versions, in turns, come out of one stream as they went in.
    #[test]
    fn whatever_versions_hold_is_read_back(
        shared in prop::collection::vec((data_type(3), any::<bool>()), 1..5),
        mine in prop::collection::vec(data_type(3), 0..3),
        yours in prop::collection::vec(data_type(3), 0..3),
        required: bool, seed: u64,
    ) {
        let named = |prefix: &str, (place, (data_type, nullable)): (usize, (DataType, bool))| {
            let member = member(&format!("{prefix}{place}"), data_type);
            if nullable { member.nullable() } else { member }
        };
        let shared: Vec<_> = shared.into_iter().enumerate().map(|of| named("s", of)).collect();
        let alone = |prefix: &str, of: Vec<DataType>| {
            let of = of.into_iter().map(|data_type| (data_type, true)).enumerate();
            of.map(|of| named(prefix, of)).collect::<Vec<_>>()
        };
        let first = schema([shared.clone(), alone("a", mine)].concat());
        let second = schema([alone("b", yours), shared.into_iter().rev().collect()].concat());
        let mut encoder = encoder_of(&[], true, DerivedColumns::new().required(required));
        let mut dice = Dice(seed);
        let (mut rows, mut expected) = (Vec::new(), Vec::new());
        for version in [&first, &second, &first, &second, &second] {
            let (events, seen) = struct_value(version.fields(), &mut dice);
            let typed = Events { schema: Some(Arc::clone(version)), events };
            rows.push(encode(&mut encoder, &typed).map_err(|poison| TestCaseError::fail(poison.to_string()))?);
            expected.push(seen.unwrap_or_else(|| json!({})));
        }
        prop_assert_eq!(TableSchema::new(encoder.columns()).problems(), []);
        prop_assert_eq!(decode(&encoder, &rows), expected);
    }
}
