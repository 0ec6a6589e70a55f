//! Members of a record's key as columns.

use std::sync::Arc;

use aqueduct_core::{
    Composite, FieldPath, FieldValue, Fields, Keyed, Poison, PoisonReason, Schema, StructuredValue,
    ValueVisitor,
};

/// The members of a record's key beside those of its value, as columns of one row.
///
/// A member that both have is the key's, whatever its case. The value may be null, as that of a tombstone is: the row then has the
/// key's members alone, which is what [`Changes`](crate::Changes) make a deletion of.
///
/// ```
/// use aqueduct_converters::{Json, Tombstones};
/// use aqueduct_core::{BatchBuilder, Converted, Converter, ConverterExt, Offset, Permit, Timestamp, TopicPartition, write_json};
/// use aqueduct_sink_bigquery::KeyColumns;
///
/// let converter =
///     Json::new().tombstones(Tombstones::Null).keyed(Json::new()).map("key-columns/1", KeyColumns::from);
///
/// let mut batch = BatchBuilder::new(TopicPartition::new("customers", 0), 128);
/// let key = br#"{"tenant": 4, "id": 17}"#;
/// batch.push(Offset::new(0), Timestamp::None, Some(key), Some(br#"{"id": 17, "name": "Tal"}"#), []);
/// batch.push(Offset::new(1), Timestamp::None, Some(key), None, []);
/// let batch = batch.build(Permit::unlimited());
/// let rows = batch.iter().map(|record| {
///     let Ok(Converted::Emit(value)) = converter.convert(&record) else { panic!("valid JSON") };
///     let mut row = Vec::new();
///     write_json(&value, &mut row).unwrap();
///     String::from_utf8(row).unwrap()
/// });
/// let rows: Vec<_> = rows.collect();
/// assert_eq!(rows, [r#"{"tenant":4,"id":17,"name":"Tal"}"#, r#"{"tenant":4,"id":17}"#]);
/// ```
///
/// # Errors
/// A key that is no object, or a value that is neither one nor null, is the record's poison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumns<K, V>(Keyed<K, V>);

impl<K, V> From<Keyed<K, V>> for KeyColumns<K, V> {
    fn from(keyed: Keyed<K, V>) -> Self {
        Self(keyed)
    }
}

impl<K, V> KeyColumns<K, V> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.0.key
    }

    /// The value.
    pub fn value(&self) -> &V {
        &self.0.value
    }
}

impl<K: StructuredValue, V: StructuredValue> StructuredValue for KeyColumns<K, V> {
    /// None: the row has members of two.
    fn schema(&self) -> Option<&Arc<Schema>> {
        None
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        visitor.begin(Composite::Struct)?;
        let mut names = Vec::new();
        let mut members =
            Members { visitor: &mut *visitor, part: Part::Key(&mut names), depth: 0, skips: None };
        self.0.key.visit(&mut members)?;
        let mut members =
            Members { visitor: &mut *visitor, part: Part::Value(&names), depth: 0, skips: None };
        self.0.value.visit(&mut members)?;
        visitor.end()
    }
}

/// Fields of the value, then of the key.
impl<K: Fields, V: Fields> Fields for KeyColumns<K, V> {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        self.0.value.field(path).or_else(|| self.0.key.field(path))
    }
}

enum Part<'n> {
    /// Notes its members' names.
    Key(&'n mut Vec<String>),
    /// Leaves members of these names out.
    Value(&'n [String]),
}

/// Passes the members on, without what begins and ends them.
struct Members<'v, 'n> {
    visitor: &'v mut dyn ValueVisitor,
    part: Part<'n>,
    depth: usize,
    /// The level of a member that is left out, if one is.
    skips: Option<usize>,
}

impl Members<'_, '_> {
    fn is_skipped(&mut self) -> bool {
        let Some(level) = self.skips else { return false };
        if self.depth <= level {
            // It was one scalar, or has ended.
            self.skips = None;
        }
        true
    }
}

impl ValueVisitor for Members<'_, '_> {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        if self.depth == 0 {
            return match (&self.part, value) {
                (Part::Value(_), FieldValue::Null) => Ok(()),
                (Part::Value(_), _) => Err(Poison::new(PoisonReason::Malformed, "the value is no object")),
                (Part::Key(_), _) => Err(no_object()),
            };
        }
        if self.is_skipped() {
            return Ok(());
        }
        self.visitor.scalar(value)
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Poison> {
        self.depth += 1;
        if self.depth == 1 {
            return match (&self.part, composite) {
                (_, Composite::Struct | Composite::Map) => Ok(()),
                (Part::Value(_), Composite::List) => {
                    Err(Poison::new(PoisonReason::Malformed, "the value is no object"))
                }
                (Part::Key(_), Composite::List) => Err(no_object()),
            };
        }
        if self.skips.is_some() {
            return Ok(());
        }
        self.visitor.begin(composite)
    }

    fn key(&mut self, name: &str) -> Result<(), Poison> {
        if self.depth == 1 {
            match &mut self.part {
                Part::Key(names) => names.push(name.to_owned()),
                Part::Value(names) if names.iter().any(|known| known.eq_ignore_ascii_case(name)) => {
                    self.skips = Some(1);
                    return Ok(());
                }
                Part::Value(_) => {}
            }
        } else if self.skips.is_some() {
            return Ok(());
        }
        self.visitor.key(name)
    }

    fn end(&mut self) -> Result<(), Poison> {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            return Ok(());
        }
        if self.is_skipped() {
            return Ok(());
        }
        self.visitor.end()
    }

    fn branch(&mut self, index: usize) -> Result<(), Poison> {
        if self.depth == 0 || self.skips.is_some() { Ok(()) } else { self.visitor.branch(index) }
    }
}

#[cold]
fn no_object() -> Poison {
    Poison::new(PoisonReason::Malformed, "the key is no object whose members could be columns")
        .in_part(aqueduct_core::PoisonPart::Key)
}
