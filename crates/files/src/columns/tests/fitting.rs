use super::*;

fn declared(fields: Vec<Field>, unknown: UnknownMembers) -> Shown {
    let schema = Some(Arc::new(Schema::new(DataType::Struct(fields))));
    Shown(ColumnOptions { schema, unknown, ..ColumnOptions::default() })
}

fn one(data_type: DataType) -> Shown {
    declared(vec![Field::new("a", data_type)], UnknownMembers::Refuse)
}

fn fits(data_type: DataType, text: &str) -> Option<String> {
    let encodings = one(data_type).encode(&[json(&format!(r#"{{"a":{text}}}"#))]);
    let file = encodings.files().remove(&0)?;
    Some(String::from_utf8(file).unwrap().lines().nth(1).unwrap().trim().to_owned())
}

#[test]
fn values_fit_or_are_poisons() {
    let timestamp = |unit, utc| DataType::Timestamp { unit, utc };
    let decimal = |precision, scale| DataType::Decimal { precision, scale };
    let symbols = || DataType::Enum(vec!["RED".to_owned(), "BLUE".to_owned()]);
    let (ms, us) = (TimeUnit::Millis, TimeUnit::Micros);
    for (data_type, text, wanted) in [
        (DataType::Int8, "127", Some("127")),
        (DataType::Int8, "128", None),
        (DataType::Int8, "-129", None),
        (DataType::Int32, "1.0", Some("1")),
        (DataType::Int32, "1.5", None),
        (DataType::Int32, "\"1\"", None),
        (DataType::Int64, "9223372036854775808", None),
        (DataType::UInt32, "4294967296", None),
        (DataType::UInt64, "18446744073709551615", Some("18446744073709551615")),
        (DataType::UInt64, "-1", None),
        (DataType::Float32, "0.1", Some("0.1")),
        (DataType::Float32, "1e39", None),
        (DataType::Float64, "1", Some("1.0")),
        (DataType::Float64, "\"NaN\"", Some("NaN")),
        (DataType::Float64, "\"x\"", None),
        (decimal(5, 2), "123.45", Some("d12345")),
        (decimal(5, 2), "123.456", None),
        (decimal(5, 2), "1000", None),
        (decimal(5, 2), "\"1.5\"", Some("d150")),
        (DataType::String, "\"x\"", Some("'x'")),
        (DataType::String, "1", None),
        (DataType::Bytes, "\"/wA=\"", Some("[ff, 0]")),
        (DataType::Bytes, "\"?\"", None),
        (DataType::Fixed(2), "\"/wA=\"", Some("[ff, 0]")),
        (DataType::Fixed(3), "\"/wA=\"", None),
        (
            DataType::Uuid,
            "\"00000000-0000-0000-0000-0000000000ff\"",
            Some("[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ff]"),
        ),
        (DataType::Uuid, "\"00000000-0000-0000-0000-0000000000f\"", None),
        (DataType::Uuid, "\"+0000000-0000-0000-0000-0000000000ff\"", None),
        (symbols(), "\"BLUE\"", Some("BLUE#1")),
        (symbols(), "\"GREEN\"", None),
        (DataType::Date, "\"1970-01-02\"", Some("1")),
        (DataType::Date, "\"1969-12-31\"", Some("-1")),
        (DataType::Date, "\"1970-13-02\"", None),
        (DataType::Time(ms), "\"00:00:01.5\"", Some("1500")),
        (DataType::Time(ms), "86400000", None),
        (timestamp(ms, true), "\"1970-01-01T01:00:00.001+01:00\"", Some("1")),
        (timestamp(ms, true), "\"1970-01-01T00:00:00.000001Z\"", None),
        (timestamp(us, true), "\"1970-01-01T00:00:00.000001Z\"", Some("1")),
        (timestamp(us, true), "5", Some("5")),
        (timestamp(us, true), "\"yesterday\"", None),
        (timestamp(us, false), "\"1970-01-01T00:00:00.000001\"", Some("1")),
        (timestamp(us, true), "\"1970-01-01T00:00:00\"", None),
        (timestamp(us, true), "\"9999-12-31T23:59:59.999999Z\"", Some("253402300799999999")),
        (timestamp(us, true), "\"9999-12-31T23:59:59.999999-00:01\"", None),
        (DataType::Json, "[1,{}]", Some("'[1,{}]'")),
        (DataType::Bool, "0", None),
        (DataType::Map(Box::new(Field::new("", DataType::Int8))), r#"{"k":1}"#, Some("<1: k= 1 .")),
        (DataType::List(Box::new(Field::new("", DataType::Int8))), "[1,null]", None),
        (DataType::Struct(vec![]), "[]", None),
        (
            DataType::Union(vec![Field::new("", DataType::Int8), Field::new("", DataType::String)]),
            "\"x\"",
            Some("|1 'x'"),
        ),
        (
            DataType::Union(vec![Field::new("", DataType::Int8), Field::new("", DataType::String)]),
            "true",
            None,
        ),
        (DataType::String, "null", None),
    ] {
        assert_eq!(fits(data_type.clone(), text).as_deref(), wanted, "{text} as {data_type}");
    }
}

#[test]
fn poisons_name_the_field_and_hold_no_value() {
    let inner = DataType::Struct(vec![Field::new("n", DataType::Int8)]);
    let list = DataType::List(Box::new(Field::new("", inner)));
    let format =
        declared(vec![Field::new("items", list), Field::new("id", DataType::Int64)], UnknownMembers::Refuse);
    for (text, reason, detail) in [
        (
            r#"{"items":[{"n":1},{"n":"secret"}],"id":1}"#,
            PoisonReason::InvalidField,
            r#"field "items.[].n" is text, its schema is int8"#,
        ),
        (
            r#"{"items":[{"n":777}],"id":1}"#,
            PoisonReason::InvalidField,
            r#"field "items.[].n" does not fit into int8"#,
        ),
        (r#"{"items":[]}"#, PoisonReason::MissingField, r#"field "id" is absent"#),
        (
            r#"{"items":[],"id":null}"#,
            PoisonReason::InvalidField,
            r#"field "id" is null, its schema is int64"#,
        ),
        (
            r#"{"items":[],"id":1,"more":1}"#,
            PoisonReason::InvalidField,
            r#"the value has the member "more", its schema has not"#,
        ),
        ("null", PoisonReason::NullValue, "the value is null, its schema is struct"),
        ("[]", PoisonReason::InvalidField, "the value is a list, its schema is struct"),
    ] {
        let poison = format.poison(json(text));
        assert_eq!((poison.reason(), poison.detail()), (reason, detail), "{text}");
    }
}

#[test]
fn absent_fields_take_their_default_or_null_and_unknown_ones_go_if_that_is_said() {
    let scalar = |value| Literal::Scalar(value);
    let fields = vec![
        Field::new("a", DataType::Int64).with_default(scalar(FieldValue::I64(7))),
        Field::new("b", DataType::String).nullable(),
        Field::new("c", DataType::String).nullable().with_default(scalar(FieldValue::Str("-".into()))),
        Field::new("d", DataType::List(Box::new(Field::new("", DataType::Int8))))
            .with_default(Literal::EmptyList),
        // A default that is none of the kind does not help.
        Field::new("e", DataType::Int8).nullable().with_default(scalar(FieldValue::I64(1_000))),
    ];
    let shown = declared(fields, UnknownMembers::Drop).show(&[
        json("{}"),
        json(r#"{"x":{"y":[1]},"a":1,"z":2}"#),
        json(r#"{"a":null,"c":null}"#),
    ]);
    let rows: Vec<_> = shown[0].lines().skip(1).collect();
    assert_eq!(rows, ["7 - '-' [0: . - ", "1 - '-' [0: . - ", "7 - - [0: . - "]);
}

#[test]
fn values_that_break_their_own_schema_are_poisons() {
    let schema = Arc::new(Schema::new(DataType::Struct(vec![Field::new("a", DataType::Int8)])));
    let format = Shown::default();
    for text in [r#"{"a":"x"}"#, r#"{"a":300}"#, "{}", r#"{"a":1,"b":2}"#] {
        format.poison(Value::of(&schema, text));
    }
    // A schema whose only value was refused leaves no shape behind.
    let encodings =
        format.encode(&[Value::of(&schema, "{}"), json(r#"{"q":1}"#), Value::of(&schema, r#"{"a":1}"#)]);
    assert_eq!(encodings.rows.iter().map(|(shape, _)| *shape).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn rows_of_too_many_cells_are_poisons() {
    let fields = (0..1_000).map(|index| Field::new(format!("f{index}"), DataType::Bool).nullable()).collect();
    let element = Field::new("", DataType::Struct(fields));
    let format = one(DataType::List(Box::new(element)));
    let objects = |count| {
        let list = Tree::List(vec![Tree::Struct(Vec::new()); count]);
        Value { tree: Tree::Struct(vec![("a".to_owned(), list)]), schema: None }
    };
    let poison = format.poison(objects(CELLS_MAX / 1_000 + 1));
    assert_eq!(poison.reason(), PoisonReason::TooLarge);
    assert_eq!(format.encode(&[objects(CELLS_MAX / 1_000)]).rows.len(), 1);
}

#[test]
fn branches_of_a_declared_union_are_found_by_the_union_values_come_with() {
    let branch = |name: &str| Field::new(name, DataType::Struct(vec![Field::new("id", DataType::Int64)]));
    let root = |branches: Vec<Field>| {
        Arc::new(Schema::new(DataType::Struct(vec![Field::new("u", DataType::Union(branches))])))
    };
    let options =
        ColumnOptions { schema: Some(root(vec![branch("B"), branch("A")])), ..ColumnOptions::default() };
    let format = Shown(options);
    let given = root(vec![branch("A"), branch("B")]);
    let value = |index: Option<usize>, schema: Option<&Arc<Schema>>, member: &str| {
        let object = Tree::Struct(vec![(member.to_owned(), Tree::Scalar(FieldValue::I64(1)))]);
        let tree = match index {
            Some(index) => Tree::Branch(index, Box::new(object)),
            None => object,
        };
        Value { tree: Tree::Struct(vec![("u".to_owned(), tree)]), schema: schema.cloned() }
    };
    let a = value(Some(0), Some(&given), "id");
    let b = value(Some(1), Some(&given), "id");
    // Nobody says of which union, or of one that has no such branches: what fits is taken.
    let other = root(vec![Field::new("", DataType::Bool), branch("A")]);
    let rest = [value(None, None, "id"), value(Some(1), None, "id"), value(Some(1), Some(&other), "id")];
    let values: Vec<_> = [a.clone(), b.clone()].into_iter().chain(rest).collect();
    assert_eq!(
        format.show(&values),
        ["u:Union\n|1{ 1 . \n|0{ 1 . \n|0{ 1 . \n|0{ 1 . \n|0{ 1 . \n"
            .replace("|1{", "|1 {")
            .replace("|0{", "|0 {")]
    );
    // A refused row of a schema that was not met before leaves no trace.
    let refused = value(Some(1), Some(&other), "no");
    let clean = format.encode(&[a.clone(), b.clone()]);
    let bothered = format.encode(&[refused, a, b]);
    assert_eq!((bothered.poisons.len(), &bothered.rows), (1, &clean.rows));
}

#[test]
fn text_that_says_more_than_its_column_holds_is_a_poison() {
    let local = || DataType::Timestamp { unit: TimeUnit::Millis, utc: false };
    let time = || DataType::Time(TimeUnit::Millis);
    for (data_type, text, wanted) in [
        (DataType::Date, "2021-06-28T23:30:00-05:00", None),
        (DataType::Date, "2021-06-28T23:30:00", None),
        (DataType::Date, "2021-06-28[Europe/Berlin]", None),
        (DataType::Date, "2021-06-28", Some("18806")),
        (local(), "1970-01-01T00:00:01+02:00", None),
        (local(), "1970-01-01T00:00:01Z", None),
        (local(), "1970-01-01T00:00:01[Europe/Berlin]", None),
        (local(), "1970-01-01T00:00:01", Some("1000")),
        (local(), "1970-01-01 00:00:01.5", Some("1500")),
        (time(), "2021-06-28T00:00:01", None),
        (time(), "20210628T000001", None),
        (time(), "00:00:01+02:00", None),
        (time(), "00:00:01[Europe/Berlin]", None),
        (time(), "00:00:01", Some("1000")),
        (time(), "T00:00:01.5", Some("1500")),
    ] {
        assert_eq!(fits(data_type, &format!("{text:?}")).as_deref(), wanted, "{text}");
    }
}

#[test]
fn a_declared_union_meets_so_many_schemas_and_no_more() {
    let union = || Field::new("u", DataType::Union(vec![Field::new("", DataType::Bool)])).nullable();
    let format = declared(vec![union()], UnknownMembers::Drop);
    let of = |index: usize| {
        let other = Field::new(format!("f{index}"), DataType::Bool).nullable();
        Arc::new(Schema::new(DataType::Struct(vec![union(), other])))
    };
    let mut values: Vec<_> = (0..=Shapes::SCHEMAS_MAX).map(|index| Value::of(&of(index), "{}")).collect();
    values.push(Value::of(&of(0), "{}"));
    let encodings = format.encode(&values);
    assert_eq!((encodings.rows.len(), encodings.poisons.len()), (Shapes::SCHEMAS_MAX + 1, 1));
    assert_eq!(encodings.poisons[0].reason(), PoisonReason::TooLarge);
}

#[test]
fn a_plan_says_whether_there_is_anything_its_schema_allows_and_a_column_does_not() {
    let plan = |data_type: DataType| {
        let fields = vec![Field::new("seq", DataType::Int64), Field::new("it", data_type).nullable()];
        Plan::of_columns(&Schema::new(DataType::Struct(fields)))
    };
    let utc = || DataType::Timestamp { unit: TimeUnit::Micros, utc: true };
    let inner = DataType::Struct(vec![Field::new("text", DataType::String), Field::new("at", utc())]);
    for sure in
        [DataType::Bool, DataType::Int32, DataType::Float64, DataType::Bytes, DataType::Uuid, utc(), inner]
    {
        assert!(plan(sure.clone()).takes_every_value(), "{sure:?}");
    }
    let doubtful = [
        DataType::Int8,
        DataType::Decimal { precision: 9, scale: 2 },
        DataType::Enum(vec!["a".to_owned()]),
        DataType::Time(TimeUnit::Millis),
        DataType::Fixed(4),
        DataType::List(Box::new(Field::new("", DataType::Int64))),
        DataType::Union(vec![Field::new("a", DataType::Int64), Field::new("b", DataType::String)]),
    ];
    for doubtful in doubtful {
        assert!(!plan(doubtful.clone()).takes_every_value(), "{doubtful:?}");
    }
    assert!(!plan(utc()).shown().takes_every_value(), "text cannot show every time");
    assert!(plan(DataType::Int64).shown().takes_every_value());
}
