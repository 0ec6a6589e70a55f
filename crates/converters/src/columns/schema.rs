//! The schema of a value with columns beside it.

use std::any::{Any, TypeId};
use std::sync::Arc;

use aqueduct_core::{Converter, DataType, Field, Poison, Schema, StructuredValue, TimeUnit};
use arc_swap::ArcSwap;
use bytes::Bytes;

use super::{Layout, collision};
use crate::any::AnyValue;
use crate::primitive::Primitive;
use crate::utf8::Text;

/// Schemas that were put together, by those of value, key and headers. Reading takes no lock.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    made: ArcSwap<Vec<Made>>,
}

#[derive(Clone, Debug)]
struct Made {
    /// Held, so that no other schema can come to stand at its address.
    value: Arc<Schema>,
    /// Of the key, and then of each header with a column of its own.
    others: Box<[Option<Arc<Schema>>]>,
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
        headers: &[Option<AnyValue>],
    ) -> Result<Option<Arc<Schema>>, Poison> {
        let Some(value) = value.schema() else { return Ok(None) };
        let others = || {
            let headers = headers.iter().map(Option::as_ref);
            std::iter::once(key).chain(headers).map(|it| it.and_then(StructuredValue::schema))
        };
        let is_it = |made: &&Made| {
            let same = |(one, other): (&Option<Arc<Schema>>, Option<&Arc<Schema>>)| match (one, other) {
                (None, None) => true,
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                _ => false,
            };
            Arc::ptr_eq(&made.value, value) && made.others.iter().zip(others()).all(same)
        };
        if let Some(known) = self.made.load().iter().find(is_it) {
            return known.outcome.clone().map(Some);
        }
        let others: Box<[_]> = others().map(Option::<&Arc<Schema>>::cloned).collect();
        let outcome = put_together(layout, value, &others).map(Arc::new);
        let fresh = Made { value: Arc::clone(value), others, outcome: outcome.clone() };
        self.made.rcu(|made| {
            let mut made = if made.len() < Self::MADE_MAX { Vec::clone(made) } else { Vec::new() };
            // Another lane may have been faster; what is found first counts.
            made.push(fresh.clone());
            made
        });
        outcome.map(Some)
    }
}

fn put_together(layout: &Layout, value: &Schema, others: &[Option<Arc<Schema>>]) -> Result<Schema, Poison> {
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
    let mut others = others.iter();
    let mut kind_of = |known: &DataType| match others.next() {
        Some(Some(schema)) => schema.root().data_type().clone(),
        _ => known.clone(),
    };
    column(&layout.key, kind_of(&layout.key_kind), true);
    if let Some((name, kind)) = &layout.headers {
        let header =
            vec![Field::new(HEADER_KEY, DataType::String), Field::new(HEADER_VALUE, kind.clone()).nullable()];
        let element = Field::new("", DataType::Struct(header));
        column(&Some(name.clone()), DataType::List(Box::new(element)), false);
    }
    for (name, kind) in &layout.named {
        column(&Some(name.clone()), kind_of(kind), true);
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

/// What the column of a key or header is where a record has none, or one without a schema: known by the converter, so that it does
/// not depend on which records came before.
pub(super) fn kind<K: Converter>(converter: &K) -> DataType {
    if let Some(schema) = known(converter) {
        return schema.root().data_type().clone();
    }
    match TypeId::of::<K::Output>() {
        id if id == TypeId::of::<Text>() => DataType::String,
        id if id == TypeId::of::<Bytes>() => DataType::Bytes,
        _ => DataType::Json,
    }
}

/// A kind, for the identity of columns. What has fields says its schema's digest, which stays the same over versions of this program.
pub(super) fn identity(kind: &DataType) -> String {
    match kind {
        DataType::Struct(_)
        | DataType::List(_)
        | DataType::Map(_)
        | DataType::Union(_)
        | DataType::Enum(_) => format!("{:016x}", Schema::new(kind.clone()).digest()),
        simple => format!("{simple:?}"),
    }
}

/// The schema of all values of a converter, if it is one that knows.
fn known(converter: &dyn Any) -> Option<&Schema> {
    if let Some(primitive) = converter.downcast_ref::<Primitive>() {
        return Some(primitive.schema());
    }
    #[cfg(feature = "avro")]
    if let Some(avro) = converter.downcast_ref::<crate::Avro>() {
        return avro.known_schema();
    }
    #[cfg(feature = "protobuf")]
    if let Some(protobuf) = converter.downcast_ref::<crate::Protobuf>() {
        return protobuf.known_schema();
    }
    None
}

pub(super) const HEADER_KEY: &str = "key";
pub(super) const HEADER_VALUE: &str = "value";
