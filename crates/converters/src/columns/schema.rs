//! The schema of a value with columns beside it.

use std::any::{Any, TypeId};
use std::sync::Arc;

use aqueduct_core::{Converter, DataType, Field, Poison, Schema, StructuredValue, TimeUnit};
use arc_swap::ArcSwap;
use bytes::Bytes;

use super::{HeaderValues, Layout, collision};
use crate::any::AnyValue;
use crate::primitive::Primitive;
use crate::utf8::Text;

/// Schemas that were put together, by those of value and key. Reading takes no lock.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    made: ArcSwap<Vec<Made>>,
}

#[derive(Clone, Debug)]
struct Made {
    /// Held, so that no other schema can come to stand at its address.
    value: Arc<Schema>,
    key: Option<Arc<Schema>>,
    outcome: Result<Arc<Schema>, Poison>,
}

impl Schemas {
    /// Kept; with one more it begins anew.
    const MADE_MAX: usize = 64;

    /// The schema of the whole; none where the value has none. It depends on nothing but the record.
    pub(super) fn of(
        &self,
        layout: &Layout,
        value: &impl StructuredValue,
        key: Option<&AnyValue>,
    ) -> Result<Option<Arc<Schema>>, Poison> {
        let Some(value) = value.schema() else { return Ok(None) };
        let key = key.and_then(StructuredValue::schema);
        let is_it = |made: &&Made| {
            let same_key = match (&made.key, key) {
                (None, None) => true,
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                _ => false,
            };
            same_key && Arc::ptr_eq(&made.value, value)
        };
        if let Some(known) = self.made.load().iter().find(is_it) {
            return known.outcome.clone().map(Some);
        }
        let outcome = put_together(layout, value, key).map(Arc::new);
        let fresh = Made { value: Arc::clone(value), key: key.cloned(), outcome: outcome.clone() };
        self.made.rcu(|made| {
            let mut made = if made.len() < Self::MADE_MAX { Vec::clone(made) } else { Vec::new() };
            // Another lane may have been faster; what is found first counts.
            made.push(fresh.clone());
            made
        });
        outcome.map(Some)
    }
}

fn put_together(layout: &Layout, value: &Schema, key: Option<&Arc<Schema>>) -> Result<Schema, Poison> {
    let mut fields = Vec::new();
    match value.root().data_type() {
        DataType::Struct(members) if layout.nested.is_none() => {
            for member in members {
                if layout.is_column(member.name()) {
                    return Err(collision(member.name()));
                }
                // Of a value that is null no member is there.
                let member = member.clone();
                fields.push(if value.root().is_nullable() { member.nullable() } else { member });
            }
        }
        kind => {
            let name = layout.value_name();
            if layout.is_column(name) {
                return Err(collision(name));
            }
            let field = Field::new(name, kind.clone());
            fields.push(if value.root().is_nullable() { field.nullable() } else { field });
        }
    }
    let mut column = |name: &Option<String>, kind: DataType, nullable: bool| {
        if let Some(name) = name {
            let field = Field::new(name, kind);
            fields.push(if nullable { field.nullable() } else { field });
        }
    };
    column(&layout.topic, DataType::String, false);
    column(&layout.partition, DataType::Int32, false);
    column(&layout.offset, DataType::Int64, false);
    column(&layout.timestamp, DataType::Timestamp { unit: TimeUnit::Millis, utc: true }, true);
    let key_kind = key.map_or_else(|| layout.key_kind.clone(), |schema| schema.root().data_type().clone());
    column(&layout.key, key_kind, true);
    if let Some((name, values)) = &layout.headers {
        let kind = match values {
            HeaderValues::Bytes => DataType::Bytes,
            HeaderValues::Text => DataType::String,
            HeaderValues::Simple => DataType::Json,
        };
        let header =
            vec![Field::new(HEADER_KEY, DataType::String), Field::new(HEADER_VALUE, kind).nullable()];
        column(
            &Some(name.clone()),
            DataType::List(Box::new(Field::new("", DataType::Struct(header)))),
            false,
        );
    }
    let mut schema = Schema::new(DataType::Struct(fields));
    if let Some(name) = value.name() {
        schema = schema.with_name(name);
    }
    if let Some(version) = value.version() {
        schema = schema.with_version(version);
    }
    Ok(schema)
}

/// What the column of the key is where a record has none, or one without a schema: known by the converter, so that it does not
/// depend on which records came before.
pub(super) fn key_kind<K: Converter>(converter: &K) -> DataType {
    if let Some(primitive) = (converter as &dyn Any).downcast_ref::<Primitive>() {
        return primitive.schema().root().data_type().clone();
    }
    match TypeId::of::<K::Output>() {
        id if id == TypeId::of::<Text>() => DataType::String,
        id if id == TypeId::of::<Bytes>() => DataType::Bytes,
        _ => DataType::Json,
    }
}

pub(super) const HEADER_KEY: &str = "key";
pub(super) const HEADER_VALUE: &str = "value";
