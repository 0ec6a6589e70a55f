//! Stages as a user would write them.

use aqueduct_core::{
    Converted, Converter, Fields, Fingerprint, Partitioner, Poison, PoisonReason, Record, RoutePath,
};
use bytes::Bytes;

/// Gives bytes, which have no fields.
pub struct Raw;

impl Converter for Raw {
    type Output = Bytes;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Bytes>, Poison> {
        Ok(Converted::Emit(record.value_bytes().unwrap_or_default()))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "raw/1");
    }
}

/// Gives numbers.
pub struct Length;

impl Converter for Length {
    type Output = usize;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<usize>, Poison> {
        Ok(Converted::Emit(record.size()))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "length/1");
    }
}

/// Takes any value.
pub struct OneRoute;

impl<T> Partitioner<T> for OneRoute {
    fn route(&self, _record: &Record<'_>, _value: &T, _path: &mut RoutePath) -> Result<(), Poison> {
        Ok(())
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "one-route/1");
    }
}

/// Takes values with fields.
pub struct ByService;

impl<T: Fields> Partitioner<T> for ByService {
    fn route(&self, _record: &Record<'_>, value: &T, path: &mut RoutePath) -> Result<(), Poison> {
        match aqueduct_core::FieldPath::parse("service").ok().and_then(|field| value.field(&field)) {
            Some(_) => path.push("known"),
            None => Err(Poison::new(PoisonReason::MissingField, "service")),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "by-service/1");
    }
}
