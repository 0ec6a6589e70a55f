use aqueduct_core::{
    Composite, Decimal, FieldValue, NESTING_MAX, Poison, PoisonReason, TimeUnit, ValueVisitor,
};
use proptest::prelude::*;

use super::*;

/// A value as a tree, for tests.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Scalar(FieldValue<'static>),
    Struct(Vec<(String, Tree)>),
    Map(Vec<(String, Tree)>),
    List(Vec<Tree>),
    Branch(usize, Box<Tree>),
}

impl Tree {
    pub(crate) fn give(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        match self {
            Self::Scalar(value) => visitor.scalar(value.clone()),
            Self::Branch(index, value) => {
                visitor.branch(*index)?;
                value.give(visitor)
            }
            Self::List(elements) => {
                visitor.begin(Composite::List)?;
                elements.iter().try_for_each(|element| element.give(visitor))?;
                visitor.end()
            }
            Self::Struct(members) | Self::Map(members) => {
                let is_map = matches!(self, Self::Map(_));
                visitor.begin(if is_map { Composite::Map } else { Composite::Struct })?;
                for (name, member) in members {
                    visitor.key(name)?;
                    member.give(visitor)?;
                }
                visitor.end()
            }
        }
    }
}

/// Builds the tree again.
#[derive(Default)]
struct Grower {
    open: Vec<(Composite, Vec<(String, Tree)>)>,
    key: Vec<String>,
    branches: Vec<Vec<usize>>,
    pending: Vec<usize>,
    root: Option<Tree>,
}

impl Grower {
    fn put(&mut self, mut tree: Tree) {
        while let Some(index) = self.pending.pop() {
            tree = Tree::Branch(index, Box::new(tree));
        }
        match self.open.last_mut() {
            None => self.root = Some(tree),
            Some((Composite::List, parts)) => parts.push((String::new(), tree)),
            Some((_, parts)) => parts.push((self.key.pop().unwrap(), tree)),
        }
    }
}

impl ValueVisitor for Grower {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        let value = match value {
            FieldValue::Str(text) => FieldValue::Str(text.into_owned().into()),
            FieldValue::Bytes(bytes) => FieldValue::Bytes(bytes.into_owned().into()),
            FieldValue::Decimal(number) => FieldValue::Decimal(number.into_owned()),
            FieldValue::Number(text) => FieldValue::Number(text.to_owned().leak()),
            FieldValue::Null => FieldValue::Null,
            FieldValue::Bool(it) => FieldValue::Bool(it),
            FieldValue::I64(it) => FieldValue::I64(it),
            FieldValue::U64(it) => FieldValue::U64(it),
            FieldValue::F32(it) => FieldValue::F32(it),
            FieldValue::F64(it) => FieldValue::F64(it),
            FieldValue::Uuid(it) => FieldValue::Uuid(it),
            FieldValue::Date(it) => FieldValue::Date(it),
            FieldValue::Time { count, unit } => FieldValue::Time { count, unit },
            FieldValue::Timestamp { count, unit, utc } => FieldValue::Timestamp { count, unit, utc },
            FieldValue::Duration { months, days, millis } => FieldValue::Duration { months, days, millis },
            other => panic!("{other:?}"),
        };
        self.put(Tree::Scalar(value));
        Ok(())
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Poison> {
        self.branches.push(std::mem::take(&mut self.pending));
        self.open.push((composite, Vec::new()));
        Ok(())
    }

    fn key(&mut self, name: &str) -> Result<(), Poison> {
        self.key.push(name.to_owned());
        Ok(())
    }

    fn end(&mut self) -> Result<(), Poison> {
        let (composite, parts) = self.open.pop().unwrap();
        self.pending = self.branches.pop().unwrap();
        self.put(match composite {
            Composite::List => Tree::List(parts.into_iter().map(|(_, part)| part).collect()),
            Composite::Map => Tree::Map(parts),
            Composite::Struct => Tree::Struct(parts),
        });
        Ok(())
    }

    fn branch(&mut self, index: usize) -> Result<(), Poison> {
        self.pending.push(index);
        Ok(())
    }
}

pub(crate) fn write(state: &mut TapeState, tree: &Tree) -> Result<Vec<u8>, Poison> {
    let mut out = Vec::new();
    let mut writer = TapeWriter::<false>::new(state, &mut out);
    tree.give(&mut writer)?;
    writer.finish()?;
    Ok(out)
}

fn read(names: &Names, row: &[u8]) -> Result<Tree, Damaged> {
    let mut grower = Grower::default();
    let mut tape = Tape::new(row);
    replay(&mut tape, names, &mut grower)?.unwrap();
    if tape.is_empty() { Ok(grower.root.unwrap()) } else { Err(Damaged) }
}

pub(crate) fn scalar() -> impl Strategy<Value = FieldValue<'static>> {
    let unit = || prop_oneof![Just(TimeUnit::Millis), Just(TimeUnit::Micros), Just(TimeUnit::Nanos)];
    prop_oneof![
        Just(FieldValue::Null),
        any::<bool>().prop_map(FieldValue::Bool),
        any::<i64>().prop_map(FieldValue::I64),
        (-70..70_i64).prop_map(FieldValue::I64),
        any::<u64>().prop_map(FieldValue::U64),
        any::<f32>().prop_map(FieldValue::F32),
        any::<f64>().prop_map(FieldValue::F64),
        Just(FieldValue::Number("1.25e3")),
        (any::<Vec<u8>>(), 0..100_u32).prop_map(|(it, scale)| FieldValue::Decimal(Decimal::new(it, scale))),
        any::<String>().prop_map(|it| FieldValue::Str(it.into())),
        "[a-z]{60,70}".prop_map(|it| FieldValue::Str(it.into())),
        any::<Vec<u8>>().prop_map(|it| FieldValue::Bytes(it.into())),
        any::<[u8; 16]>().prop_map(FieldValue::Uuid),
        any::<i32>().prop_map(FieldValue::Date),
        (any::<i64>(), unit()).prop_map(|(count, unit)| FieldValue::Time { count, unit }),
        (any::<i64>(), unit(), any::<bool>()).prop_map(|(count, unit, utc)| FieldValue::Timestamp {
            count,
            unit,
            utc
        }),
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(months, days, millis)| FieldValue::Duration {
            months,
            days,
            millis
        }),
    ]
}

pub(crate) fn tree() -> impl Strategy<Value = Tree> {
    let name = || prop_oneof![4 => "[a-c]", 1 => any::<String>()];
    let members = move |inner: BoxedStrategy<Tree>| {
        proptest::collection::vec((name(), inner), 0..6).prop_map(|mut members| {
            let mut seen = std::collections::HashSet::new();
            members.retain(|(name, _)| seen.insert(name.clone()));
            members
        })
    };
    scalar().prop_map(Tree::Scalar).prop_recursive(5, 60, 6, move |inner| {
        let plain = inner.clone();
        prop_oneof![
            3 => members(inner.clone().boxed()).prop_map(Tree::Struct),
            1 => members(inner.clone().boxed()).prop_map(Tree::Map),
            1 => proptest::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            1 => (0..300_usize, plain).prop_filter_map("one branch a value", |(index, it)| match it {
                Tree::Branch(..) => None,
                it => Some(Tree::Branch(index, Box::new(it))),
            }),
        ]
    })
}

/// Not a number is not equal to itself; its text is.
fn same(one: &Tree, other: &Tree) -> bool {
    format!("{one:?}") == format!("{other:?}")
}

proptest! {
    #[test]
    fn any_value_comes_back(trees in proptest::collection::vec(tree(), 1..6)) {
        let mut state = TapeState::default();
        let rows: Vec<_> = trees.iter().map(|tree| write(&mut state, tree).unwrap()).collect();
        for (row, tree) in rows.iter().zip(&trees) {
            let back = read(state.names(), row).unwrap();
            prop_assert!(same(&back, tree), "{back:?}\n{tree:?}");
            let mut tape = Tape::new(row);
            tape.skip().unwrap();
            prop_assert!(tape.is_empty());
        }
    }

    #[test]
    fn damaged_rows_are_errors(tree in tree(), at: prop::sample::Index, bytes: Vec<u8>, byte: u8) {
        let mut state = TapeState::default();
        let row = write(&mut state, &tree).unwrap();
        for cut in 0..row.len() {
            prop_assert!(read(state.names(), &row[..cut]).is_err());
        }
        let mut flipped = row.clone();
        flipped[at.index(row.len())] = byte;
        for bytes in [flipped, bytes] {
            replay(&mut Tape::new(&bytes), state.names(), &mut Grower::default()).ok();
            Tape::new(&bytes).skip().ok();
            Tape::new(&bytes).count_members().ok();
            Tape::new(&bytes).count_elements().ok();
        }
    }
}

fn scalar_tree(number: i64) -> Tree {
    Tree::Scalar(FieldValue::I64(number))
}

fn object(names: &[&str]) -> Tree {
    Tree::Struct(names.iter().map(|&name| (name.to_owned(), scalar_tree(1))).collect())
}

#[test]
fn a_name_that_comes_twice_is_refused_wherever_it_is() {
    let mut state = TapeState::default();
    let nested = |inner: &[&str], last: &str| {
        let mut members = vec![("a".to_owned(), scalar_tree(1)), ("b".to_owned(), object(inner))];
        members.push((last.to_owned(), scalar_tree(3)));
        Tree::Struct(members)
    };
    for (tree, fits) in [
        (object(&["a", "b"]), true),
        (object(&["a", "b", "a"]), false),
        // The inner struct has a member of the same name in between.
        (nested(&["a"], "c"), true),
        (nested(&["a", "b", "c"], "c"), true),
        (nested(&["a"], "a"), false),
        (nested(&["c", "c"], "d"), false),
        (nested(&["b"], "b"), false),
        (Tree::List(vec![object(&["a"]), object(&["a"])]), true),
        // Entries of a map are data.
        (Tree::Map(vec![("a".to_owned(), scalar_tree(1)), ("a".to_owned(), scalar_tree(1))]), true),
    ] {
        match write(&mut state, &tree) {
            Ok(_) => assert!(fits, "{tree:?}"),
            Err(poison) => {
                assert!(!fits, "{tree:?}");
                assert_eq!(poison.reason(), PoisonReason::Malformed);
                assert!(poison.detail().contains("member \""), "{poison}");
            }
        }
    }
}

#[test]
fn names_beyond_the_table_are_spelled_out_and_still_told_apart() {
    let names: Vec<String> = (0..Names::MAX + 100).map(|index| format!("n{index}")).collect();
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut state = TapeState::default();
    let tree = object(&borrowed);
    let row = write(&mut state, &tree).unwrap();
    assert_eq!(state.names().len(), Names::MAX);
    assert_eq!(read(state.names(), &row).unwrap(), tree);
    let twice = [&borrowed[..], &borrowed[Names::MAX..=Names::MAX]].concat();
    assert!(write(&mut state, &object(&twice)).unwrap_err().detail().contains("n8192"));
    assert_eq!(write(&mut state, &tree).unwrap(), row, "the same row whenever it is written");
}

#[test]
fn a_record_that_is_refused_leaves_no_trace() {
    let good = [object(&["a", "b"]), object(&["c", "a"])];
    let (mut clean, mut bothered) = (TapeState::default(), TapeState::default());
    for tree in &good {
        assert!(write(&mut bothered, &object(&["x", "b", "y", "x"])).is_err());
        let deep =
            (0..=NESTING_MAX).fold(scalar_tree(0), |tree, _| Tree::Struct(vec![("z".to_owned(), tree)]));
        assert_eq!(write(&mut bothered, &deep).unwrap_err().reason(), PoisonReason::TooLarge);
        assert_eq!(write(&mut clean, tree).unwrap(), write(&mut bothered, tree).unwrap());
    }
    assert_eq!(clean.names().len(), bothered.names().len());
    let deepest = (0..NESTING_MAX).fold(scalar_tree(0), |tree, _| Tree::List(vec![tree]));
    let row = write(&mut clean, &deepest).unwrap();
    assert_eq!(read(clean.names(), &row).unwrap(), deepest);
}

#[test]
fn events_that_do_not_nest_are_refused() {
    type Events = fn(&mut TapeWriter<'_>) -> Result<(), Poison>;
    let wrong: [Events; 9] = [
        |_| Ok(()),
        |it| it.end(),
        |it| it.key("a"),
        |it| it.begin(Composite::Struct),
        |it| it.begin(Composite::Struct).and_then(|()| it.scalar(FieldValue::Null)),
        |it| it.begin(Composite::Struct).and_then(|()| it.key("a")).and_then(|()| it.end()),
        |it| it.begin(Composite::List).and_then(|()| it.key("a")),
        |it| it.scalar(FieldValue::Null).and_then(|()| it.scalar(FieldValue::Null)),
        |it| it.branch(1),
    ];
    for events in wrong {
        let (mut state, mut out) = (TapeState::default(), Vec::new());
        let mut writer = TapeWriter::<false>::new(&mut state, &mut out);
        let result = events(&mut writer).and_then(|()| writer.finish());
        assert_eq!(result.unwrap_err().reason(), PoisonReason::Malformed);
    }
}

/// Writes a row; answers whether it has the form of the one before it.
fn is_as_before(state: &mut TapeState, tree: &Tree) -> bool {
    let mut out = Vec::new();
    let mut writer = TapeWriter::<true>::new(state, &mut out);
    tree.give(&mut writer).unwrap();
    writer.finish().unwrap();
    state.is_formed_as_before()
}

#[test]
fn rows_have_a_form_in_common_if_nothing_but_their_values_differs() {
    let tree = |text: &str| crate::columns::tests::json(text).tree;
    let forms = [
        r#"{"a":1,"b":"x"}"#,
        r#"{"a":-1,"b":"x"}"#,
        r#"{"a":18446744073709551615,"b":"x"}"#,
        r#"{"a":1.5,"b":"x"}"#,
        r#"{"a":true,"b":"x"}"#,
        r#"{"a":1,"b":null}"#,
        r#"{"a":1,"c":"x"}"#,
        r#"{"a":1}"#,
        r#"{"a":1,"b":"x","c":1}"#,
        r#"{"a":{"b":1,"c":2}}"#,
        r#"{"a":{"b":1},"c":2}"#,
        r#"{"a":{"b":[1,2]}}"#,
        r#"{"a":{"b":[1]}}"#,
        r#"{"a":{"b":[1],"c":{}}}"#,
        r#"{"a":{"b":[1,{}]}}"#,
        "1",
        r#""x""#,
        "[]",
        "{}",
    ];
    let mut state = TapeState::default();
    for (one, first) in forms.iter().enumerate() {
        for (other, second) in forms.iter().enumerate() {
            is_as_before(&mut state, &tree(first));
            let same = is_as_before(&mut state, &tree(second));
            assert_eq!(same, one == other, "{first} {second}");
        }
    }
    is_as_before(&mut state, &tree(r#"{"a":7,"b":"some text"}"#));
    assert!(is_as_before(&mut state, &tree(r#"{"a":123456,"b":""}"#)));
    write(&mut state, &tree(r#"{"a":7,"b":"x"}"#)).unwrap();
    assert!(!is_as_before(&mut state, &tree(r#"{"a":7,"b":"x"}"#)), "the one before was not noted");
    let twice = Tree::Struct(vec![("a".to_owned(), scalar_tree(1)), ("a".to_owned(), scalar_tree(1))]);
    let mut out = Vec::new();
    let mut writer = TapeWriter::<true>::new(&mut state, &mut out);
    twice.give(&mut writer).unwrap_err();
    drop(writer);
    assert!(!is_as_before(&mut state, &tree(r#"{"a":7}"#)), "the one before was refused");
    let long = Tree::List(vec![scalar_tree(1); 2_000]);
    is_as_before(&mut state, &long);
    assert!(!is_as_before(&mut state, &long), "not all of it is noted");
    let digits = |digits: u8| Tree::Scalar(FieldValue::Decimal(Decimal::new(vec![digits], 1)));
    is_as_before(&mut state, &digits(1));
    assert!(!is_as_before(&mut state, &digits(100)), "they may need other columns");
}

#[test]
fn decimals_whose_text_has_no_bound_are_refused() {
    let mut state = TapeState::default();
    let mut refused = |bytes: usize, scale| {
        let decimal = FieldValue::Decimal(Decimal::new(vec![1; bytes], scale));
        write(&mut state, &Tree::Scalar(decimal)).is_err()
    };
    assert!(!refused(1_024, 4_096));
    assert!(refused(1_025, 0));
    assert!(refused(1, 4_097));
}

#[test]
fn rows_are_small() {
    let mut state = TapeState::default();
    let row = write(&mut state, &object(&["status", "took"])).unwrap();
    assert_eq!(row, [0xd9, 4, 0, 0, 0, 0x80, 1, 0x81, 1]);
}
