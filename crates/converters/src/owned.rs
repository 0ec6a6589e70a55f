//! Scalars that outlive the bytes they were read from.

use aqueduct_core::FieldValue;

/// The scalar without what it borrows; `None` for what is no scalar of its own.
pub(crate) fn into_static(value: FieldValue<'_>) -> Option<FieldValue<'static>> {
    Some(match value {
        FieldValue::Null => FieldValue::Null,
        FieldValue::Bool(it) => FieldValue::Bool(it),
        FieldValue::I64(it) => FieldValue::I64(it),
        FieldValue::U64(it) => FieldValue::U64(it),
        FieldValue::F32(it) => FieldValue::F32(it),
        FieldValue::F64(it) => FieldValue::F64(it),
        FieldValue::Decimal(it) => FieldValue::Decimal(it.into_owned()),
        FieldValue::Str(it) => FieldValue::Str(it.into_owned().into()),
        FieldValue::Bytes(it) => FieldValue::Bytes(it.into_owned().into()),
        FieldValue::Uuid(it) => FieldValue::Uuid(it),
        FieldValue::Date(it) => FieldValue::Date(it),
        FieldValue::Time { count, unit } => FieldValue::Time { count, unit },
        FieldValue::Timestamp { count, unit, utc } => FieldValue::Timestamp { count, unit, utc },
        _ => return None,
    })
}
