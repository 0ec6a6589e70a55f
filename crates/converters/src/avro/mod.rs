//! Avro (feature `avro`): checked once against its schema, then read where it stands.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aqueduct_core::{
    Batch, Converted, Converter, Fingerprint, Poison, PoisonReason, Record, Schema, StageError,
};
use async_trait::async_trait;
use bytes::{Buf as _, Bytes};

use crate::registry::{Framing, SchemaCache, SchemaId};
use crate::tombstones::Tombstones;
use check::check;
use plan::Plan;

pub use builder::{AvroBuilder, AvroConfigError};
pub use schema::AvroSchemaError;
pub use value::AvroValue;

mod builder;
mod canonical;
mod check;
mod compile;
mod cursor;
mod declare;
mod default;
mod inline;
mod parse;
mod plan;
mod schema;
mod uuid;
mod value;
mod walk;

/// Reads values as Avro datums.
///
/// How a record says which schema it was written with is chosen where the converter is begun:
///
/// | begun with | a record is |
/// | --- | --- |
/// | [`with_registry`](Self::with_registry) | Confluent's wire format: an id in front, or in a header, and the datum |
/// | [`single_object`](Self::single_object) | Avro's single-object encoding: `C3 01`, the schema's fingerprint, the datum |
/// | [`fixed`](Self::fixed) | the datum alone |
///
/// With a [reader's schema](AvroBuilder::reader_schema) values of all writers come out in that one, resolved as Avro's
/// specification says.
///
/// # What is a poison
/// A record is gone through once, when it is converted, and everything is checked then: that numbers, lengths, branches and
/// symbols are in range, text is UTF-8, nothing is left behind the value, it nests at most
/// [`NESTING_MAX`](crate::NESTING_MAX) levels, and [a few bytes do not unfold to a row of gigabytes](AvroBuilder::unfold_max).
/// Formats meet sound values only; what remains are times that no calendar shows as JSON. A record whose schema is not in the
/// registry is a poison when the registry has said so; while it cannot be asked, the lane waits.
///
/// # What schemas may be
/// Up to 4 MiB with all they refer to, 128 levels, 50 000 fields and 16 MiB of names when written out in full, decimals of up to 1 000 digits. Names
/// and defaults are not judged beyond what reading needs: registries hold schemas that no parser would take today. An annotation
/// that does not fit its type, or is not known, is passed over; `big-decimal` is not known.
///
/// ```
/// use aqueduct_converters::{Avro, AvroValue};
/// use aqueduct_core::{
///     BatchBuilder, Converted, Converter, FieldPath, FieldValue, Fields, JsonRow, Offset, Permit, Timestamp, TopicPartition,
/// };
///
/// let schema = r#"{"type": "record", "name": "Order", "fields": [
///     {"name": "service", "type": "string"},
///     {"name": "status", "type": ["null", "int"]}]}"#;
/// let converter = Avro::fixed(schema).build()?;
///
/// let mut batch = BatchBuilder::new(TopicPartition::new("orders", 0), 16);
/// batch.push(Offset::ZERO, Timestamp::None, None, Some(b"\x04ab\x02\x90\x03"), []);
/// let batch = batch.build(Permit::unlimited());
/// let Ok(Converted::Emit(order)) = converter.convert(&batch.get(0).unwrap()) else { panic!("sound bytes") };
///
/// assert_eq!(order.field(&FieldPath::parse("status")?), Some(FieldValue::I64(200)));
/// let mut row = Vec::new();
/// order.write_json(&mut row)?;
/// assert_eq!(row, br#"{"service":"ab","status":200}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Avro {
    schemas: Schemas,
    tombstones: Tombstones,
    unfold_max: u64,
    identity: String,
    /// What the reader's schema declares.
    declared: Option<Arc<Schema>>,
}

/// Where a record's schema comes from.
enum Schemas {
    Registry {
        framing: Framing,
        cache: SchemaCache<Arc<Plan>>,
    },
    /// By fingerprint.
    SingleObject(HashMap<u64, Arc<Plan>>),
    Fixed(Arc<Plan>),
}

impl Avro {
    /// The schema of all values, if they have one.
    pub(crate) fn known_schema(&self) -> Option<&Schema> {
        match (&self.schemas, &self.declared) {
            (_, Some(declared)) => Some(declared),
            (Schemas::Fixed(plan), None) => Some(&plan.schema),
            (Schemas::Registry { .. } | Schemas::SingleObject(_), None) => None,
        }
    }

    fn value(&self, plan: &Arc<Plan>, datum: Bytes) -> Result<AvroValue, Poison> {
        check(plan, &datum, self.unfold_max)?;
        Ok(AvroValue::new(datum, Arc::clone(plan)))
    }
}

#[async_trait]
impl Converter for Avro {
    type Output = AvroValue;

    async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
        match &self.schemas {
            Schemas::Registry { framing, cache } => {
                let ids: Vec<SchemaId> = framing.ids(batch).collect();
                cache.prepare(batch.lane(), ids).await
            }
            Schemas::SingleObject(_) | Schemas::Fixed(_) => Ok(()),
        }
    }

    fn convert(&self, record: &Record<'_>) -> Result<Converted<AvroValue>, Poison> {
        let Some(bytes) = record.value_bytes() else {
            return self.tombstones.absent(AvroValue::null);
        };
        let value = match &self.schemas {
            Schemas::Registry { framing, cache } => {
                let Some(framed) = framing.split(record)? else {
                    return self.tombstones.absent(AvroValue::null);
                };
                let datum = last(bytes, framed.payload().len());
                cache.read(record.lane(), framed.id(), |plan| self.value(plan, datum))?
            }
            Schemas::SingleObject(plans) => {
                let (fingerprint, payload) = single_object(&bytes)?;
                let Some(plan) = plans.get(&fingerprint) else {
                    let why = format!("no schema with the fingerprint {fingerprint:016x} is known");
                    return Err(Poison::new(PoisonReason::Malformed, why));
                };
                self.value(plan, last(bytes, payload))?
            }
            Schemas::Fixed(plan) => self.value(plan, bytes)?,
        };
        Ok(Converted::Emit(value))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", &self.identity);
    }
}

impl fmt::Debug for Avro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Avro").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The last `length` of the bytes, in place: a slice would be counted, and uncounted, for each record.
fn last(mut bytes: Bytes, length: usize) -> Bytes {
    bytes.advance(bytes.len().saturating_sub(length));
    bytes
}

/// The fingerprint in front of a datum, and how many bytes the datum has.
fn single_object(bytes: &[u8]) -> Result<(u64, usize), Poison> {
    if let Some(([0xc3, 0x01, fingerprint @ ..], datum)) = bytes.split_first_chunk::<10>() {
        return Ok((u64::from_le_bytes(*fingerprint), datum.len()));
    }
    let why =
        format!("{} bytes that do not begin as single-object avro does (c3 01 and 8 more)", bytes.len());
    Err(Poison::new(PoisonReason::Malformed, why))
}
