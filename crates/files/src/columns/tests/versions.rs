use super::*;

fn schema(version: Option<u32>, fields: Vec<Field>) -> Arc<Schema> {
    let schema = Schema::new(DataType::Struct(fields)).with_name("shop.Order");
    Arc::new(match version {
        Some(version) => schema.with_version(version),
        None => schema,
    })
}

fn id() -> Field {
    Field::new("id", DataType::Int32)
}

fn note() -> Field {
    Field::new("note", DataType::String).nullable()
}

fn shapes(mode: Compatibility, values: &[Value]) -> Vec<u32> {
    format(mode).encode(values).rows.into_iter().map(|(shape, _)| shape).collect()
}

fn format(compatibility: Compatibility) -> Shown {
    Shown(ColumnOptions { compatibility, ..ColumnOptions::default() })
}

#[test]
fn producers_that_alternate_make_one_shape_a_version_or_a_compatible_group() {
    let one = schema(Some(1), vec![id()]);
    let two = schema(Some(2), vec![Field::new("id", DataType::Int64), note()]);
    let values: Vec<_> = (0..6)
        .map(|index| match index % 2 {
            0 => Value::of(&one, r#"{"id":1}"#),
            _ => Value::of(&two, r#"{"id":2,"note":"n"}"#),
        })
        .collect();
    assert_eq!(
        format(Compatibility::None).show(&values),
        ["id:Int(32)\n1 \n1 \n1 \n", "id:Int(64) note:String\n2 'n' \n2 'n' \n2 'n' \n",]
    );
    let newest = "id:Int(64) note:String\n1 - \n2 'n' \n1 - \n2 'n' \n1 - \n2 'n' \n";
    assert_eq!(format(Compatibility::Backward).show(&values), [newest]);
    // int64 does not become int32: the older schema cannot hold the newer's values.
    assert_eq!(shapes(Compatibility::Forward, &values), [0, 1, 0, 1, 0, 1]);
    assert_eq!(shapes(Compatibility::Full, &values), [0, 1, 0, 1, 0, 1]);
    // Whichever comes first.
    let mut turned = values;
    turned.rotate_left(1);
    assert_eq!(format(Compatibility::Backward).show(&turned).len(), 1);
}

#[test]
fn files_have_the_oldest_schema_where_readers_of_it_go_on() {
    let one = schema(Some(1), vec![id(), note()]);
    let two = schema(Some(2), vec![id(), note(), Field::new("more", DataType::Bool)]);
    let values = [Value::of(&two, r#"{"id":2,"note":"n","more":true}"#), Value::of(&one, r#"{"id":1}"#)];
    assert_eq!(format(Compatibility::Forward).show(&values), ["id:Int(32) note:String\n2 'n' \n1 - \n"]);
    assert_eq!(shapes(Compatibility::Backward, &values), [0, 1], "`more` is required");
    let three = schema(Some(3), vec![id(), note(), Field::new("more", DataType::Bool).nullable()]);
    let values = [values[1].clone(), Value::of(&three, r#"{"id":3,"more":true}"#)];
    assert_eq!(
        format(Compatibility::Full).show(&values),
        ["id:Int(32) note:String more:Bool\n1 - - \n3 - true \n"]
    );
}

#[test]
fn a_version_that_spoils_a_group_has_files_of_its_own() {
    let one = schema(Some(1), vec![id()]);
    let two = schema(Some(2), vec![id(), note()]);
    let three = schema(Some(3), vec![id(), Field::new("due", DataType::Date)]);
    let text = r#"{"id":1}"#;
    let values = [
        Value::of(&one, text),
        Value::of(&two, text),
        Value::of(&three, r#"{"id":1,"due":"2021-06-28"}"#),
        Value::of(&two, text),
    ];
    assert_eq!(shapes(Compatibility::Backward, &values), [0, 0, 1, 0]);
    assert_eq!(shapes(Compatibility::None, &values), [0, 1, 2, 1]);
}

#[test]
fn records_with_and_without_schema_do_not_share_files() {
    let one = schema(None, vec![id()]);
    let values = [Value::of(&one, r#"{"id":1}"#), json(r#"{"id":1}"#), Value::of(&one, r#"{"id":2}"#)];
    for mode in [Compatibility::None, Compatibility::Backward, Compatibility::Forward, Compatibility::Full] {
        assert_eq!(shapes(mode, &values), [0, 1, 0], "{mode}");
    }
}

#[test]
fn equal_schemas_are_one_whatever_their_address() {
    let text = r#"{"id":1}"#;
    let values: Vec<_> = (0..4).map(|_| Value::of(&schema(Some(1), vec![id()]), text)).collect();
    assert_eq!(shapes(Compatibility::None, &values), [0; 4]);
    let renamed = Arc::new(Schema::new(DataType::Struct(vec![id()])).with_name("shop.Other").with_version(1));
    let values = [values[0].clone(), Value::of(&renamed, text)];
    assert_eq!(shapes(Compatibility::Backward, &values), [0, 1], "another name");
}

#[test]
fn without_versions_the_schema_met_later_is_the_newer_one() {
    let short = schema(None, vec![id()]);
    let long = schema(None, vec![id(), note()]);
    let (first, second) = (Value::of(&short, r#"{"id":1}"#), Value::of(&long, r#"{"id":2,"note":"n"}"#));
    let names = |values: &[Value]| {
        format(Compatibility::Backward).show(values).concat().lines().next().unwrap().to_owned()
    };
    assert_eq!(names(&[first.clone(), second.clone()]), "id:Int(32) note:String");
    assert_eq!(names(&[second, first]), "id:Int(32)");
}

#[test]
fn branches_keep_their_meaning_when_a_union_grows() {
    let branch = |data_type| Field::new("", data_type);
    let with = |version, branches: Vec<Field>| {
        schema(Some(version), vec![Field::new("u", DataType::Union(branches))])
    };
    let one = with(1, vec![branch(DataType::String), branch(DataType::Int32)]);
    let two = with(2, vec![branch(DataType::Bool), branch(DataType::Int64), branch(DataType::String)]);
    let value = |schema: &Arc<Schema>, index, value| {
        let tree = Tree::Branch(index, Box::new(Tree::Scalar(value)));
        Value { tree: Tree::Struct(vec![("u".to_owned(), tree)]), schema: Some(Arc::clone(schema)) }
    };
    let shown = format(Compatibility::Backward).show(&[
        value(&one, 0, FieldValue::Str("s".into())),
        value(&one, 1, FieldValue::I64(1)),
        value(&two, 0, FieldValue::Bool(true)),
        value(&two, 1, FieldValue::I64(2)),
    ]);
    assert_eq!(shown, ["u:Union\n|2 's' \n|1 1 \n|0 true \n|1 2 \n"]);
}

#[test]
fn a_segment_meets_so_many_schemas_and_no_more() {
    let of = |index: usize| schema(None, vec![Field::new(format!("f{index}"), DataType::Bool).nullable()]);
    let mut values: Vec<_> = (0..=Shapes::SCHEMAS_MAX).map(|index| Value::of(&of(index), "{}")).collect();
    values.push(Value::of(&of(0), "{}"));
    let encodings = format(Compatibility::None).encode(&values);
    assert_eq!(encodings.rows.len(), Shapes::SCHEMAS_MAX + 1);
    assert_eq!(encodings.poisons.len(), 1);
    assert_eq!(encodings.poisons[0].reason(), PoisonReason::TooLarge);
}

#[test]
fn every_kind_is_walked() {
    let (_, values) = every_kind();
    let shown = Shown::default();
    let encodings = shown.encode(&values);
    assert_eq!(encodings.poisons, []);
    assert_eq!(encodings.rows.len(), 2);
}

#[test]
fn every_default_that_lets_schemas_share_files_can_be_written() {
    let scalar = |value| Literal::Scalar(value);
    let list = || DataType::List(Box::new(Field::new("", DataType::Int64)));
    let map = || DataType::Map(Box::new(Field::new("", DataType::Int64)));
    let union = || {
        let branches = [DataType::Bool, DataType::String, list(), map(), DataType::Json];
        DataType::Union(branches.map(|branch| Field::new("", branch)).to_vec())
    };
    for (field, wanted) in [
        (Field::new("f", list()).with_default(Literal::EmptyList), "[0: ."),
        (Field::new("f", map()).with_default(Literal::EmptyMap), "<0: ."),
        (Field::new("f", DataType::Json).with_default(Literal::EmptyList), "'[]'"),
        (Field::new("f", DataType::Json).with_default(Literal::EmptyMap), "'{}'"),
        (Field::new("f", DataType::Json).with_default(scalar(FieldValue::Str("x\"".into()))), r#"'"x\""'"#),
        (Field::new("f", DataType::Json).with_default(scalar(FieldValue::Null)), "'null'"),
        (Field::new("f", DataType::Json).nullable().with_default(scalar(FieldValue::Null)), "-"),
        (Field::new("f", DataType::String).nullable().with_default(scalar(FieldValue::Null)), "-"),
        (Field::new("f", union()).with_default(Literal::EmptyList), "|2 [0: ."),
        (Field::new("f", union()).with_default(Literal::EmptyMap), "|3 <0: ."),
        (Field::new("f", union()).with_default(scalar(FieldValue::Bool(true))), "|0 true"),
        (Field::new("f", union()).with_default(scalar(FieldValue::Str("s".into()))), "|1 's'"),
        (Field::new("f", union()).with_default(scalar(FieldValue::I64(1))), "|4 '1'"),
        (Field::new("f", union()).nullable().with_default(scalar(FieldValue::Null)), "-"),
    ] {
        let one = schema(Some(1), vec![id()]);
        let two = schema(Some(2), vec![id(), field.clone()]);
        let given = Tree::Struct(vec![("id".to_owned(), Tree::Scalar(FieldValue::I64(2)))]);
        let newer = Value { tree: given, schema: Some(two) };
        let encodings = format(Compatibility::Backward).encode(&[Value::of(&one, r#"{"id":1}"#), newer]);
        assert_eq!(encodings.poisons, [], "{field:?}");
        let files = encodings.files();
        assert_eq!(files.len(), 1, "{field:?}");
        let text = String::from_utf8(files[&0].clone()).unwrap();
        let rows: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(rows, [format!("1 {wanted} "), format!("2 {wanted} ")], "{field:?}");
    }
}

#[test]
fn names_that_came_with_a_refused_row_are_not_mixed_up_with_later_ones() {
    let branch = |name: &str, member: &str, data_type| {
        Field::new(name, DataType::Struct(vec![Field::new(member, data_type)]))
    };
    let (unit, utc) = (TimeUnit::Millis, true);
    let at = DataType::Timestamp { unit, utc };
    let union = DataType::Union(vec![
        branch("A", "t", at.clone()),
        branch("B", "at", at),
        branch("C", "n", DataType::Int64),
    ]);
    let schema = Arc::new(Schema::new(DataType::Struct(vec![Field::new("u", union)])));
    let value = |index, member: &str, value| {
        let object = Tree::Struct(vec![(member.to_owned(), Tree::Scalar(value))]);
        let tree = Tree::Struct(vec![("u".to_owned(), Tree::Branch(index, Box::new(object)))]);
        Value { tree, schema: Some(Arc::clone(&schema)) }
    };
    let time = |count| FieldValue::Timestamp { count, unit, utc };
    let encodings = format(Compatibility::None).encode(&[
        value(0, "t", time(0)),
        value(1, "at", time(i64::MAX)),
        value(2, "n", FieldValue::I64(1)),
    ]);
    assert_eq!((encodings.poisons.len(), encodings.rows.len()), (1, 2), "{:?}", encodings.poisons);
    encodings.files();
}

#[test]
fn schemas_with_a_default_that_is_no_value_share_no_files() {
    let wrong = Field::new("f", DataType::Int8).with_default(Literal::Scalar(FieldValue::I64(1_000)));
    let one = schema(Some(1), vec![id()]);
    let two = schema(Some(2), vec![id(), wrong]);
    let values = [Value::of(&one, r#"{"id":1}"#), Value::of(&two, r#"{"id":2,"f":2}"#)];
    let shown = format(Compatibility::Backward).show(&values);
    assert_eq!(shown, ["id:Int(32)\n1 \n", "id:Int(32) f:Int(8)\n2 2 \n"]);
}
