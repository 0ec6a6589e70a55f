//! A datum that was found sound.

use std::fmt;
use std::sync::{Arc, LazyLock};

use aqueduct_core::{
    BytesRow, DataType, FieldPath, FieldValue, Fields, JsonRow, JsonText, Poison, Schema, StructuredValue,
    ValueVisitor,
};
use bytes::Bytes;

use super::cursor::Cursor;
use super::plan::{Op, OpId, Plan, Scalar, Show, Wire};
use super::walk;

/// One Avro datum: its bytes as they were written, and how they are read.
///
/// No tree is made of it. Fields are found in the bytes when asked for; formats go through them once. Of entries of a map with
/// one key, [`Fields::field`] gives the last, as readers of maps do, while [`StructuredValue::visit`] gives all.
///
/// | Avro | [`FieldValue`] |
/// | --- | --- |
/// | int, long | `I64` |
/// | float, double | `F32`, `F64` |
/// | string, enum | `Str` |
/// | bytes, fixed | `Bytes` |
/// | decimal | `Decimal` |
/// | uuid (string, fixed) | `Uuid` |
/// | date | `Date` |
/// | time-millis, -micros | `Time` |
/// | timestamp-…, local-timestamp-… | `Timestamp` |
/// | duration | `Duration` |
///
/// As a row of JSON it is what [`write_json`](aqueduct_core::write_json) says of these. As a row of bytes it is the datum, without
/// what framed it.
#[derive(Clone)]
pub struct AvroValue {
    bytes: Bytes,
    plan: Arc<Plan>,
}

impl AvroValue {
    pub(super) fn new(bytes: Bytes, plan: Arc<Plan>) -> Self {
        Self { bytes, plan }
    }

    /// What stands for a tombstone: null, without a schema.
    pub(super) fn null() -> Self {
        Self { bytes: Bytes::new(), plan: Arc::clone(&TOMBSTONE) }
    }

    /// The datum, without what framed it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn walk<V: ValueVisitor + ?Sized>(&self, visitor: &mut V) -> Result<(), Poison> {
        walk::walk(&self.plan, self.plan.root, &mut Cursor::new(&self.bytes), visitor)
    }
}

static TOMBSTONE: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let ops = vec![Op::Scalar(Scalar { wire: Wire::Null, show: Show::Null })];
    Arc::new(Plan { ops, root: OpId(0), schema: Arc::new(Schema::new(DataType::Null)) })
});

impl fmt::Debug for AvroValue {
    /// Never prints a payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AvroValue")
            .field("len", &self.bytes.len())
            .field("schema", &self.plan.schema.name())
            .finish_non_exhaustive()
    }
}

impl PartialEq for AvroValue {
    /// Whether the bytes and what they are read by are the same.
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
            && (Arc::ptr_eq(&self.plan, &other.plan) || self.plan.schema == other.plan.schema)
    }
}

impl Fields for AvroValue {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        walk::field(&self.plan, &self.bytes, path.segments())
    }
}

impl StructuredValue for AvroValue {
    fn schema(&self) -> Option<&Arc<Schema>> {
        // A tombstone names no schema.
        (!Arc::ptr_eq(&self.plan, &TOMBSTONE)).then_some(&self.plan.schema)
    }

    fn is_of_its_schema(&self) -> bool {
        true
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        self.walk(visitor)
    }

    fn visit_with<V: ValueVisitor>(&self, visitor: &mut V) -> Result<(), Poison> {
        self.walk(visitor)
    }
}

impl JsonRow for AvroValue {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        self.walk(&mut JsonText::new(out))
    }
}

impl BytesRow for AvroValue {
    fn row_bytes(&self) -> &Bytes {
        &self.bytes
    }
}
