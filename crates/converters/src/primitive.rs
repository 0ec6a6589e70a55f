//! Numbers and truth values in the bytes of Kafka's own serializers.

use std::sync::Arc;

use aqueduct_core::{
    Converted, Converter, DataType, Field, FieldPath, FieldValue, Fields, Fingerprint, JsonRow, Poison,
    PoisonReason, Record, Schema, StructuredValue, ValueVisitor, write_json,
};

use crate::tombstones::Tombstones;

/// Reads a value as one number or truth value, as Kafka's serializers and Connect's converters of the same names write them:
/// most significant byte first, in exactly as many bytes as the kind has. Mostly used for keys.
///
/// Another length is a poison, and so is a truth value that is neither 0 nor 1.
///
/// ```
/// use aqueduct_converters::Primitive;
/// use aqueduct_core::{BatchBuilder, Converted, Converter, JsonRow, Offset, Permit, Timestamp, TopicPartition};
///
/// let mut batch = BatchBuilder::new(TopicPartition::new("counts", 0), 8);
/// batch.push(Offset::ZERO, Timestamp::None, None, Some(&42_i64.to_be_bytes()), []);
/// let batch = batch.build(Permit::unlimited());
/// let Ok(Converted::Emit(value)) = Primitive::long().convert(&batch.get(0).unwrap()) else { panic!("eight bytes") };
/// let mut row = Vec::new();
/// value.write_json(&mut row)?;
/// assert_eq!(row, b"42");
/// # Ok::<(), aqueduct_core::Poison>(())
/// ```
#[derive(Clone, Debug)]
pub struct Primitive {
    kind: Kind,
    tombstones: Tombstones,
    schema: Arc<Schema>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Long,
    Integer,
    Short,
    Double,
    Float,
    Boolean,
}

impl Primitive {
    /// Whole numbers of eight bytes: `LongConverter`, `LongSerializer`.
    pub fn long() -> Self {
        Self::of(Kind::Long)
    }

    /// Whole numbers of four bytes: `IntegerConverter`.
    pub fn integer() -> Self {
        Self::of(Kind::Integer)
    }

    /// Whole numbers of two bytes: `ShortConverter`.
    pub fn short() -> Self {
        Self::of(Kind::Short)
    }

    /// Fractions of eight bytes: `DoubleConverter`.
    pub fn double() -> Self {
        Self::of(Kind::Double)
    }

    /// Fractions of four bytes: `FloatConverter`.
    pub fn float() -> Self {
        Self::of(Kind::Float)
    }

    /// Truth values of one byte: `BooleanConverter`.
    pub fn boolean() -> Self {
        Self::of(Kind::Boolean)
    }

    /// What a record without a value is. With [`Tombstones::Null`] the schema says that the value may be null.
    #[must_use]
    pub fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.tombstones = tombstones;
        self.schema = schema(self.kind, tombstones);
        self
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    fn of(kind: Kind) -> Self {
        let tombstones = Tombstones::default();
        Self { kind, tombstones, schema: schema(kind, tombstones) }
    }

    fn value(&self, scalar: FieldValue<'static>) -> PrimitiveValue {
        PrimitiveValue { scalar, schema: Arc::clone(&self.schema) }
    }
}

fn schema(kind: Kind, tombstones: Tombstones) -> Arc<Schema> {
    let root = Field::new("", kind.data_type());
    Arc::new(Schema::of_root(if tombstones == Tombstones::Null { root.nullable() } else { root }))
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::Integer => "integer",
            Self::Short => "short",
            Self::Double => "double",
            Self::Float => "float",
            Self::Boolean => "boolean",
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Long => DataType::Int64,
            Self::Integer => DataType::Int32,
            Self::Short => DataType::Int16,
            Self::Double => DataType::Float64,
            Self::Float => DataType::Float32,
            Self::Boolean => DataType::Bool,
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Long | Self::Double => 8,
            Self::Integer | Self::Float => 4,
            Self::Short => 2,
            Self::Boolean => 1,
        }
    }

    fn read(self, bytes: &[u8]) -> Option<FieldValue<'static>> {
        Some(match self {
            Self::Long => FieldValue::I64(i64::from_be_bytes(bytes.try_into().ok()?)),
            Self::Integer => FieldValue::I64(i32::from_be_bytes(bytes.try_into().ok()?).into()),
            Self::Short => FieldValue::I64(i16::from_be_bytes(bytes.try_into().ok()?).into()),
            Self::Double => FieldValue::F64(f64::from_be_bytes(bytes.try_into().ok()?)),
            Self::Float => FieldValue::F32(f32::from_be_bytes(bytes.try_into().ok()?)),
            Self::Boolean => match bytes {
                [0] => FieldValue::Bool(false),
                [1] => FieldValue::Bool(true),
                _ => return None,
            },
        })
    }

    #[cold]
    fn refused(self, length: usize) -> Poison {
        let (name, expected) = (self.name(), self.length());
        let text = if length == expected {
            format!("not a {name}: the byte is neither 0 nor 1")
        } else {
            format!("not a {name}: {length} bytes, expected {expected}")
        };
        Poison::new(PoisonReason::Malformed, text)
    }
}

impl Converter for Primitive {
    type Output = PrimitiveValue;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<PrimitiveValue>, Poison> {
        let Some(bytes) = record.value() else {
            return self.tombstones.absent(|| self.value(FieldValue::Null));
        };
        let scalar = self.kind.read(bytes).ok_or_else(|| self.kind.refused(bytes.len()))?;
        Ok(Converted::Emit(self.value(scalar)))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        let name = self.kind.name();
        parts.put("converter", format_args!("primitive/1 {name} tombstones={}", self.tombstones));
    }
}

/// One number or truth value, or null.
#[derive(Clone, Debug, PartialEq)]
pub struct PrimitiveValue {
    scalar: FieldValue<'static>,
    schema: Arc<Schema>,
}

impl PrimitiveValue {
    /// The value.
    pub fn scalar(&self) -> &FieldValue<'static> {
        &self.scalar
    }
}

impl StructuredValue for PrimitiveValue {
    fn schema(&self) -> Option<&Arc<Schema>> {
        Some(&self.schema)
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        visitor.scalar(self.scalar.clone())
    }
}

impl Fields for PrimitiveValue {
    /// A value without parts has no fields.
    fn field(&self, _: &FieldPath) -> Option<FieldValue<'_>> {
        None
    }
}

impl JsonRow for PrimitiveValue {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        write_json(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{convert, fingerprint};

    fn read(converter: &Primitive, bytes: &[u8]) -> Result<FieldValue<'static>, String> {
        match convert(converter, Some(bytes)) {
            Ok(Converted::Emit(value)) => Ok(value.scalar),
            Ok(skipped) => panic!("{skipped:?}"),
            Err(poison) => Err(poison.to_string()),
        }
    }

    #[test]
    fn each_kind_has_its_length_and_its_schema() {
        let all = [
            (Primitive::long(), i64::MIN.to_be_bytes().to_vec(), FieldValue::I64(i64::MIN), "int64"),
            (Primitive::integer(), (-2_i32).to_be_bytes().to_vec(), FieldValue::I64(-2), "int32"),
            (Primitive::short(), i16::MAX.to_be_bytes().to_vec(), FieldValue::I64(32_767), "int16"),
            (Primitive::double(), 0.1_f64.to_be_bytes().to_vec(), FieldValue::F64(0.1), "float64"),
            (Primitive::float(), 0.1_f32.to_be_bytes().to_vec(), FieldValue::F32(0.1), "float32"),
            (Primitive::boolean(), vec![1], FieldValue::Bool(true), "bool"),
        ];
        let mut identities = Vec::new();
        for (converter, bytes, expected, schema) in all {
            assert_eq!(read(&converter, &bytes).unwrap(), expected);
            assert_eq!(converter.schema.to_string(), schema);
            for wrong in [&bytes[1..], &[&bytes[..], &[0]].concat()] {
                let said = read(&converter, wrong).unwrap_err();
                assert!(said.contains(&format!("{} bytes, expected {}", wrong.len(), bytes.len())), "{said}");
            }
            identities.push(fingerprint(&converter).digest());
        }
        identities.sort_unstable();
        identities.dedup();
        assert_eq!(identities.len(), 6);
        assert!(read(&Primitive::boolean(), &[2]).unwrap_err().contains("neither 0 nor 1"));
    }

    #[test]
    fn a_null_is_a_value_if_it_may_be() {
        let nullable = Primitive::integer().tombstones(Tombstones::Null);
        let Ok(Converted::Emit(value)) = convert(&nullable, None) else { panic!("null") };
        assert_eq!((value.scalar, value.schema.to_string()), (FieldValue::Null, "int32?".to_owned()));
        assert!(convert(&Primitive::integer(), None).is_err());
    }
}
