//! Values as trees, to be compared.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, Name, RecordSchema};
use apache_avro::types::Value;
use aqueduct_core::{Composite, FieldValue, Poison, StructuredValue, TimeUnit, ValueVisitor};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// As it is debugged: not a number equals itself then.
    Scalar(String),
    Branch(usize, Box<Tree>),
    List(Vec<Tree>),
    /// The last entry of a key counts.
    Map(BTreeMap<String, Tree>),
    Struct(Vec<(String, Tree)>),
}

pub(crate) fn scalar(value: &FieldValue<'_>) -> Tree {
    // Borrowed or owned is the same.
    Tree::Scalar(match value {
        FieldValue::Decimal(it) => format!("Decimal({:?}, {})", it.unscaled(), it.scale()),
        other => format!("{other:?}"),
    })
}

pub(crate) fn visited(value: &impl StructuredValue) -> Tree {
    let mut collector = Collector::default();
    value.visit(&mut collector).unwrap();
    assert!(collector.open.is_empty(), "what begins ends");
    collector.done.expect("one value")
}

/// What has begun, its members, and its branch.
type Open = (Composite, Vec<(String, Tree)>, Option<usize>);

#[derive(Default)]
struct Collector {
    open: Vec<Open>,
    key: Vec<Option<String>>,
    branch: Option<usize>,
    done: Option<Tree>,
}

impl Collector {
    fn put(&mut self, tree: Tree, branch: Option<usize>) {
        let tree = match branch {
            Some(index) => Tree::Branch(index, Box::new(tree)),
            None => tree,
        };
        match self.open.last_mut() {
            Some((composite, members, _)) => {
                let key = self.key.last_mut().unwrap().take();
                assert_eq!(key.is_some(), *composite != Composite::List);
                members.push((key.unwrap_or_default(), tree));
            }
            None => assert!(self.done.replace(tree).is_none(), "one value"),
        }
    }
}

impl ValueVisitor for Collector {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        assert_ne!(value, FieldValue::Composite);
        let branch = self.branch.take();
        self.put(scalar(&value), branch);
        Ok(())
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Poison> {
        self.open.push((composite, Vec::new(), self.branch.take()));
        self.key.push(None);
        Ok(())
    }

    fn key(&mut self, name: &str) -> Result<(), Poison> {
        assert!(self.key.last_mut().unwrap().replace(name.to_owned()).is_none());
        Ok(())
    }

    fn end(&mut self) -> Result<(), Poison> {
        let (composite, members, branch) = self.open.pop().unwrap();
        self.key.pop();
        let tree = match composite {
            Composite::Struct => Tree::Struct(members),
            Composite::Map => Tree::Map(members.into_iter().collect()),
            Composite::List => Tree::List(members.into_iter().map(|(_, tree)| tree).collect()),
        };
        self.put(tree, branch);
        Ok(())
    }

    fn branch(&mut self, index: usize) -> Result<(), Poison> {
        assert!(self.branch.replace(index).is_none());
        Ok(())
    }
}

pub(crate) type Named<'s> = BTreeMap<String, &'s Schema>;

pub(crate) fn collect<'s>(schema: &'s Schema, named: &mut Named<'s>) {
    if let Some(name) = schema.name().filter(|_| !matches!(schema, Schema::Ref { .. })) {
        named.insert(name.to_string(), schema);
    }
    match schema {
        Schema::Record(record) => record.fields.iter().for_each(|field| collect(&field.schema, named)),
        Schema::Array(array) => collect(&array.items, named),
        Schema::Map(map) => collect(&map.types, named),
        Schema::Union(union) => union.variants().iter().for_each(|branch| collect(branch, named)),
        _ => {}
    }
}

pub(crate) fn resolve<'s>(schema: &'s Schema, named: &Named<'s>) -> &'s Schema {
    match schema {
        Schema::Ref { name } => named[Name::as_ref(name)],
        other => other,
    }
}

/// What a visitor should have been given of `value`.
pub(crate) fn expected(schema: &Schema, named: &Named<'_>, value: &Value) -> Tree {
    let timestamp = |count: &i64, unit, utc| scalar(&FieldValue::Timestamp { count: *count, unit, utc });
    match (resolve(schema, named), value) {
        (_, Value::Null) => scalar(&FieldValue::Null),
        (_, Value::Boolean(it)) => scalar(&FieldValue::Bool(*it)),
        (_, Value::Int(it)) => scalar(&FieldValue::I64((*it).into())),
        (_, Value::Long(it)) => scalar(&FieldValue::I64(*it)),
        (_, Value::Float(it)) => scalar(&FieldValue::F32(*it)),
        (_, Value::Double(it)) => scalar(&FieldValue::F64(*it)),
        (_, Value::Bytes(it) | Value::Fixed(_, it)) => scalar(&FieldValue::Bytes(it.into())),
        (_, Value::String(it) | Value::Enum(_, it)) => scalar(&FieldValue::Str(it.into())),
        (_, Value::Date(it)) => scalar(&FieldValue::Date(*it)),
        (_, Value::TimeMillis(it)) => {
            scalar(&FieldValue::Time { count: (*it).into(), unit: TimeUnit::Millis })
        }
        (_, Value::TimeMicros(it)) => scalar(&FieldValue::Time { count: *it, unit: TimeUnit::Micros }),
        (_, Value::TimestampMillis(it)) => timestamp(it, TimeUnit::Millis, true),
        (_, Value::TimestampMicros(it)) => timestamp(it, TimeUnit::Micros, true),
        (_, Value::TimestampNanos(it)) => timestamp(it, TimeUnit::Nanos, true),
        (_, Value::LocalTimestampMillis(it)) => timestamp(it, TimeUnit::Millis, false),
        (_, Value::LocalTimestampMicros(it)) => timestamp(it, TimeUnit::Micros, false),
        (_, Value::LocalTimestampNanos(it)) => timestamp(it, TimeUnit::Nanos, false),
        (_, Value::Uuid(it)) => scalar(&FieldValue::Uuid(*it.as_bytes())),
        (_, Value::Duration(it)) => scalar(&FieldValue::Duration {
            months: it.months().into(),
            days: it.days().into(),
            millis: it.millis().into(),
        }),
        (Schema::Decimal(DecimalSchema { scale, .. }), Value::Decimal(it)) => {
            // No bytes are zero, which this conversion does not know.
            let bytes: Vec<u8> = it.try_into().unwrap_or_default();
            scalar(&FieldValue::Decimal(aqueduct_core::Decimal::new(bytes, u32::try_from(*scale).unwrap())))
        }
        (Schema::Union(union), Value::Union(index, inner)) => {
            let index = *index as usize;
            let tree = expected(&union.variants()[index], named, inner);
            let is_other = |branch: &&Schema| !matches!(branch, Schema::Null);
            let others = union.variants().iter().filter(is_other).count();
            if others < 2 || matches!(**inner, Value::Null) {
                return tree;
            }
            Tree::Branch(union.variants()[..index].iter().filter(is_other).count(), Box::new(tree))
        }
        (Schema::Array(array), Value::Array(items)) => {
            Tree::List(items.iter().map(|item| expected(&array.items, named, item)).collect())
        }
        (Schema::Map(map), Value::Map(entries)) => Tree::Map(
            entries.iter().map(|(key, value)| (key.clone(), expected(&map.types, named, value))).collect(),
        ),
        (Schema::Record(RecordSchema { fields, .. }), Value::Record(members)) => Tree::Struct(
            fields
                .iter()
                .zip(members)
                .map(|(field, (name, value))| (name.clone(), expected(&field.schema, named, value)))
                .collect(),
        ),
        (schema, value) => panic!("{value:?} of {schema:?}"),
    }
}
