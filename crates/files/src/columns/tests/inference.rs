use super::*;

fn inferred(texts: &[&str]) -> String {
    let values: Vec<_> = texts.iter().map(|text| json(text)).collect();
    Shown::default().show(&values).concat()
}

#[test]
fn kinds_that_come_together_become_one() {
    for (texts, wanted) in [
        (&[r#"{"a":1}"#, r#"{"a":-2}"#][..], "a:Int(64)\n1 \n-2 \n"),
        (&[r#"{"a":1}"#, r#"{"a":1.5}"#], "a:Float64\n1.0 \n1.5 \n"),
        (&[r#"{"a":18446744073709551615}"#, r#"{"a":1}"#], "a:UInt64\n18446744073709551615 \n1 \n"),
        (
            &[r#"{"a":18446744073709551615}"#, r#"{"a":-1}"#],
            "a:Decimal { precision: 20, scale: 0 }\nd18446744073709551615 \nd-1 \n",
        ),
        (&[r#"{"a":"x"}"#, r#"{"a":1}"#, r#"{"a":null}"#], "a:Json\n'\"x\"' \n'1' \n- \n"),
        (&[r#"{"a":{"b":1}}"#, r#"{"a":[1.50]}"#], "a:Json\n'{\"b\":1}' \n'[1.5]' \n"),
        (&[r#"{"a":null}"#, "{}"], "a:String\n- \n- \n"),
        (&[r#"{"a":[]}"#], "a:List\n[0: . \n"),
        (&[r#"{"a":[1,null,2.5]}"#, r#"{"a":[]}"#], "a:List\n[3: 1.0 - 2.5 . \n[0: . \n"),
        (&[r#"{"a":[1,"x"]}"#], "a:List\n[2: '1' '\"x\"' . \n"),
        (&[r#"{"a":{}}"#], "a:Struct\n{ . \n"),
        (
            &[r#"{"a":{"x":1}}"#, r#"{"a":{"y":true}}"#, r#"{"a":null}"#],
            "a:Struct\n{ 1 - . \n{ - true . \n- \n",
        ),
        (&["1", "2.5"], "value:Float64\n1.0 \n2.5 \n"),
        (&["null"], "value:String\n- \n"),
        (&["[1,2]"], "value:List\n[2: 1 2 . \n"),
    ] {
        assert_eq!(inferred(texts), wanted, "{texts:?}");
    }
}

#[test]
fn columns_stand_in_order_of_their_first_appearance_whatever_order_members_have() {
    let rows = [r#"{"a":1,"b":2}"#, r#"{"c":3,"a":4}"#, r#"{"b":5,"d":6,"a":7,"c":8}"#, "{}"];
    let wanted = "a:Int(64) b:Int(64) c:Int(64) d:Int(64)\n1 2 - - \n4 - 3 - \n7 5 8 6 \n- - - - \n";
    let trees: Vec<Value> = rows
        .iter()
        .map(|row| {
            // In the order they are written, which a map of serde_json does not keep.
            let members = row.trim_matches(['{', '}']).split(',').filter(|member| !member.is_empty());
            let member = |member: &str| {
                let (name, number) = member.split_once(':').unwrap();
                let number = FieldValue::I64(number.parse().unwrap());
                (name.trim_matches('"').to_owned(), Tree::Scalar(number))
            };
            Value { tree: Tree::Struct(members.map(member).collect()), schema: None }
        })
        .collect();
    assert_eq!(Shown::default().show(&trees), [wanted]);
}

#[test]
fn values_that_are_no_objects_have_files_of_their_own() {
    let shown = Shown::default().show(&[json("1"), json(r#"{"a":1}"#), json("2"), json(r#"{"a":2}"#)]);
    assert_eq!(shown, ["value:Int(64)\n1 \n2 \n", "a:Int(64)\n1 \n2 \n"]);
}

#[test]
fn names_that_are_data_become_text_and_take_no_other_column_with_them() {
    // Far more names than places.
    let rows: Vec<_> = (0..3_000)
        .map(|index| json(&format!(r#"{{"id":{index},"tags":{{"t{index}":1}},"last{}":true}}"#, index % 3)))
        .collect();
    let shown = Shown::default().show(&rows);
    assert_eq!(shown.len(), 1);
    let mut lines = shown[0].lines();
    let mut names: Vec<_> = lines.next().unwrap().split(' ').collect();
    names.sort_unstable();
    assert_eq!(names, ["id:Int(64)", "last0:Bool", "last1:Bool", "last2:Bool", "tags:Json"]);
    assert!(shown[0].contains(r#"'{"t2999":1}'"#));
}

#[test]
fn a_root_with_more_columns_than_a_schema_has_is_stored_as_text() {
    let wide = |from: usize, count: usize| {
        let members: Vec<_> = (from..from + count).map(|index| format!(r#""c{index}":1"#)).collect();
        json(&format!("{{{}}}", members.join(",")))
    };
    let most = Inferred::PLACES_MAX;
    let shown =
        Shown::default().show(&[wide(0, 10), wide(0, most + 1), wide(0, most), wide(0, 20), wide(most, 1)]);
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0].lines().next().unwrap().split(' ').count(), most);
    assert_eq!(shown[0].lines().count(), 4);
    assert_eq!(shown[1].lines().next(), Some("value:Json"));
    assert_eq!(shown[1].lines().count(), 3);
    assert_eq!(shown[1].lines().last(), Some("'{\"c1000\":1}' "));
}

#[test]
fn what_nests_deeper_than_columns_do_is_text() {
    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let most = usize::from(Inferred::DEPTH_MAX);
    assert!(!inferred(&[&nested(most)]).contains('\''));
    assert!(inferred(&[&nested(most + 1)]).contains(r#"'{"a":1}'"#));
    assert!(inferred(&[&nested(100)]).contains("'{\"a\""));
}

#[test]
fn a_million_names_and_a_million_elements_stay_bounded() {
    let names: Vec<_> =
        (0..1_000_000).map(|index| (format!("n{index}"), Tree::Scalar(FieldValue::Null))).collect();
    let nested = Tree::Struct(vec![("in".to_owned(), Tree::Struct(names.clone()))]);
    let list = Tree::List(vec![Tree::Scalar(FieldValue::Bool(true)); 1_000_000]);
    let value = |tree| Value { tree, schema: None };
    let shown = Shown::default().show(&[value(Tree::Struct(names)), value(nested), value(list)]);
    assert_eq!(shown.len(), 3);
    assert!(shown[0].starts_with("value:Json\n'{\"n0\":null"));
    assert!(shown[1].starts_with("in:Json\n'{\"n0\":null"));
    assert!(shown[2].starts_with("value:List\n[1000000: true"));

    let objects = |count| value(Tree::List(vec![Tree::Struct(Vec::new()); count]));
    assert_eq!(Shown::default().show(&[objects(Inferred::ELEMENTS_MAX)]).len(), 1);
    let poison = Shown::default().poison(objects(Inferred::ELEMENTS_MAX + 1));
    assert_eq!(poison.reason(), PoisonReason::TooLarge);
}

#[test]
fn fields_below_lists_are_limited_because_every_element_has_a_cell_for_each() {
    let object = |from: usize| {
        let members: Vec<_> = (from..from + 200).map(|index| format!(r#""c{index}":1"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    let shown = inferred(&[&format!(r#"{{"a":[{}],"b":1}}"#, object(0))]);
    assert!(!shown.contains('\''), "200 fields are columns");
    let shown = inferred(&[&format!(r#"{{"a":[{},{}],"b":1}}"#, object(0), object(200))]);
    assert!(shown.contains("'{\"c0\":1"), "400 are text");
    assert!(shown.starts_with("a:List b:Int(64)\n"));
}

#[test]
fn times_that_no_calendar_shows_are_poisons_because_their_column_may_become_text() {
    let at = |count| {
        let at = FieldValue::Timestamp { count, unit: TimeUnit::Millis, utc: true };
        Value { tree: Tree::Struct(vec![("at".to_owned(), Tree::Scalar(at))]), schema: None }
    };
    assert_eq!(Shown::default().show(&[at(5)]), ["at:Timestamp { unit: Millis, utc: true }\n5 \n"]);
    assert_eq!(
        Shown::default().show(&[at(5), json(r#"{"at":1}"#)]).concat().lines().nth(1),
        Some("'\"1970-01-01T00:00:00.005Z\"' ")
    );
    assert_eq!(Shown::default().poison(at(i64::MAX)).reason(), PoisonReason::InvalidField);
}

#[test]
fn a_row_that_is_refused_half_way_leaves_no_column_behind() {
    let whole = |number| Tree::Scalar(FieldValue::I64(number));
    let object = |members: Vec<(&str, Tree)>| Value {
        tree: Tree::Struct(members.into_iter().map(|(name, tree)| (name.to_owned(), tree)).collect()),
        schema: None,
    };
    let first = json(r#"{"id":1,"items":[{"a":1}]}"#);
    let many = Tree::List(vec![Tree::Struct(Vec::new()); Inferred::ELEMENTS_MAX + 1]);
    let refused =
        object(vec![("id", Tree::Scalar(FieldValue::Bool(true))), ("new", whole(5)), ("items", many)]);
    let next = json(r#"{"id":2,"name":"x"}"#);
    let clean = Shown::default().encode(&[first.clone(), next.clone()]);
    let bothered = Shown::default().encode(&[first, refused, next]);
    assert_eq!(bothered.poisons.len(), 1);
    assert_eq!(clean.rows, bothered.rows);
    let file = bothered.files().remove(&0).unwrap();
    let wanted = "id:Int(64) items:List name:String\n1 [1: { 1 . . - \n2 - 'x' \n";
    assert_eq!(String::from_utf8(file).unwrap(), wanted);
}

#[test]
fn a_row_without_a_place_leaves_no_column_behind() {
    let wide = |from: usize, count: usize| {
        let members: Vec<_> = (from..from + count).map(|index| format!(r#""c{index:04}":1"#)).collect();
        json(&format!("{{{}}}", members.join(",")))
    };
    let most = Inferred::PLACES_MAX;
    let shown = Shown::default().show(&[wide(0, most - 5), wide(most, 6), wide(most - 5, 5)]);
    assert_eq!(shown.len(), 2);
    let names: Vec<_> = shown[0].lines().next().unwrap().split(' ').collect();
    assert_eq!((names.len(), names[most - 1]), (most, "c0999:Int(64)"));
    assert_eq!((shown[0].lines().count(), shown[1].lines().count()), (3, 2));
}

#[test]
fn objects_are_never_null_themselves() {
    let root = |values: &[Value]| {
        let mut inferred = Inferred::new();
        let mut tape = crate::tape::TapeState::default();
        for value in values {
            let mut bytes = Vec::new();
            let mut writer = crate::tape::TapeWriter::<false>::new(&mut tape, &mut bytes);
            value.visit(&mut writer).unwrap();
            writer.finish().unwrap();
            inferred.observe(crate::tape::Tape::new(&bytes)).unwrap();
        }
        inferred.schema(tape.names()).root().clone()
    };
    let object = root(&[json(r#"{"a":1}"#)]);
    assert!(!object.is_nullable());
    assert!(matches!(object.data_type(), DataType::Struct(fields) if fields[0].is_nullable()));
    assert!(root(&[json("1"), json("null")]).is_nullable());
}

proptest! {
    /// Whatever rows a segment has, each is in a file, and its file is built.
    #[test]
    fn any_rows_become_files(trees in proptest::collection::vec(crate::tape::tests::tree(), 1..12)) {
        let values: Vec<_> = trees.into_iter().map(|tree| Value { tree, schema: None }).collect();
        let encodings = Shown::default().encode(&values);
        for poison in &encodings.poisons {
            prop_assert_eq!(poison.reason(), PoisonReason::InvalidField, "{}", poison);
        }
        encodings.files();
    }

    /// Rows of the form of the one before them are not looked at again: it would show nothing.
    #[test]
    fn rows_that_repeat_a_form_change_nothing(
        trees in proptest::collection::vec((crate::tape::tests::tree(), 1..4_usize), 1..8),
    ) {
        let value = |tree: &Tree| Value { tree: tree.clone(), schema: None };
        let once: Vec<_> = trees.iter().map(|(tree, _)| value(tree)).collect();
        let often: Vec<_> = trees.iter().flat_map(|(tree, times)| vec![value(tree); *times]).collect();
        let shown = |values: &[Value]| {
            let shown = Shown::default().show(values);
            let mut files: Vec<Vec<String>> =
                shown.iter().map(|file| file.lines().map(str::to_owned).collect()).collect();
            for lines in &mut files {
                lines.dedup();
            }
            files
        };
        prop_assume!(Shown::default().encode(&once).poisons.is_empty());
        prop_assert_eq!(shown(&once), shown(&often));
    }

    /// Refused records and the order of batches leave no trace: the same rows give the same bytes.
    #[test]
    fn rows_depend_on_accepted_rows_alone(
        trees in proptest::collection::vec(crate::tape::tests::tree(), 1..8), at in 0..8_usize,
    ) {
        let mut values: Vec<_> = trees.into_iter().map(|tree| Value { tree, schema: None }).collect();
        let clean = Shown::default().encode(&values);
        let twice = |name: &str| (name.to_owned(), Tree::Scalar(FieldValue::Bool(false)));
        let bad = Tree::Struct(vec![twice("b"), twice("zz"), twice("zz")]);
        values.insert(at.min(values.len()), Value { tree: bad, schema: None });
        let bothered = Shown::default().encode(&values);
        prop_assert_eq!(&clean.rows, &bothered.rows);
        prop_assert_eq!(clean.files(), bothered.files());
    }
}
