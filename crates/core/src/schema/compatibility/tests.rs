use super::*;
use crate::schema::Literal;
use crate::value::FieldValue;

fn one(data_type: DataType) -> Schema {
    Schema::new(DataType::Struct(vec![Field::new("a", data_type)]))
}

fn of(fields: Vec<Field>) -> Schema {
    Schema::new(DataType::Struct(fields))
}

#[test]
fn numbers_only_become_wider() {
    let ladder = [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
    ];
    for (index, from) in ladder.iter().enumerate() {
        for (other, to) in ladder.iter().enumerate() {
            let fits = one(from.clone()).check_projection(&one(to.clone())).is_ok();
            assert_eq!(fits, index <= other, "{from} to {to}");
        }
    }
    let decimal = |precision, scale| one(DataType::Decimal { precision, scale });
    assert!(decimal(10, 2).check_projection(&decimal(12, 2)).is_ok());
    assert!(decimal(10, 2).check_projection(&decimal(12, 3)).is_err());
    assert!(decimal(10, 2).check_projection(&decimal(9, 2)).is_err());
    assert!(one(DataType::UInt32).check_projection(&one(DataType::Int64)).is_ok());
    assert!(one(DataType::UInt32).check_projection(&one(DataType::Int32)).is_err());
    assert!(one(DataType::UInt64).check_projection(&one(DataType::Int64)).is_err());
    assert!(one(DataType::String).check_projection(&one(DataType::Bytes)).is_err());
}

#[test]
fn fields_may_come_with_a_default_or_null_and_may_go() {
    let base = || Field::new("id", DataType::Int64);
    let old = of(vec![base(), Field::new("gone", DataType::String)]);
    let new = |field| of(vec![base(), field]);
    let note = || Field::new("note", DataType::String);
    assert!(old.check_projection(&new(note().nullable())).is_ok());
    let default = Literal::Scalar(FieldValue::Str("-".into()));
    assert!(old.check_projection(&new(note().with_default(default.clone()))).is_ok());
    let error = old.check_projection(&new(note())).unwrap_err();
    assert_eq!(error.to_string(), "note: it is absent, and has neither a default nor null in the target");
    let nullable = new(note().nullable());
    assert_eq!(nullable.check_projection(&new(note())).unwrap_err().path(), "note");
    assert!(nullable.check_projection(&new(note().with_default(default))).is_ok());
    assert!(new(note()).check_projection(&nullable).is_ok());
}

#[test]
fn what_is_nested_is_projected_too() {
    let nested = |leaf: DataType| {
        let element = Field::new("", DataType::Struct(vec![Field::new("leaf", leaf)]));
        let list = DataType::List(Box::new(element));
        one(DataType::Map(Box::new(Field::new("", list))))
    };
    assert!(nested(DataType::Int32).check_projection(&nested(DataType::Int64)).is_ok());
    let error = nested(DataType::Int64).check_projection(&nested(DataType::Int32)).unwrap_err();
    assert_eq!(error.to_string(), "a.leaf: int64 does not become int32");
    let symbols = |all: &[&str]| one(DataType::Enum(all.iter().map(|&it| it.to_owned()).collect()));
    assert!(symbols(&["a"]).check_projection(&symbols(&["b", "a"])).is_ok());
    assert!(symbols(&["a", "c"]).check_projection(&symbols(&["b", "a"])).is_err());
    assert!(symbols(&["a"]).check_projection(&one(DataType::String)).is_ok());
}

#[test]
fn branches_go_to_the_branch_that_is_most_like_them() {
    let branch = |data_type| Field::new("", data_type);
    let from = DataType::Union(vec![branch(DataType::String), branch(DataType::Int32)]);
    let to =
        DataType::Union(vec![branch(DataType::Int64), branch(DataType::Int32), branch(DataType::String)]);
    assert_eq!(from.projected_branches(&to), Some(vec![2, 1]));
    assert_eq!(to.projected_branches(&from), None);
    assert!(one(from.clone()).check_projection(&one(to.clone())).is_ok());
    assert!(one(to).check_projection(&one(from)).is_err());
    assert_eq!(DataType::Int32.projected_branches(&DataType::Int32), None);
}

#[test]
fn modes_choose_newest_or_oldest_and_never_another_name() {
    let plain = |version| of(vec![Field::new("id", DataType::Int64)]).with_name("o").with_version(version);
    let wider = |version| {
        let note = Field::new("note", DataType::String).nullable();
        of(vec![Field::new("id", DataType::Int64), note]).with_name("o").with_version(version)
    };
    let (one, two) = (plain(1), wider(2));
    for (mode, newer, older) in [
        (Compatibility::None, false, false),
        (Compatibility::Backward, true, false),
        (Compatibility::Forward, false, true),
        (Compatibility::Full, true, false),
    ] {
        assert_eq!(mode.prefers(&two, &one), newer, "{mode}");
        assert_eq!(mode.prefers(&one, &two), older, "{mode}");
        assert_eq!(mode.admits(&one, &two), mode != Compatibility::None, "{mode}");
        assert!(!mode.admits(&one.clone().with_name("p"), &two), "{mode}");
    }
    // Without versions, what comes later is newer.
    let unversioned = of(vec![Field::new("id", DataType::Int64)]);
    assert!(Compatibility::Backward.prefers(&unversioned, &two));
    assert!(!Compatibility::Forward.prefers(&unversioned, &two));

    // A new field that is required: the newer is read as the older, not the other way round.
    let note = Field::new("note", DataType::String);
    let required = of(vec![Field::new("id", DataType::Int64), note]).with_name("o").with_version(2);
    assert!(!Compatibility::Backward.admits(&one, &required));
    assert!(Compatibility::Forward.admits(&required, &one));
    assert!(!Compatibility::Full.admits(&required, &one));
}
