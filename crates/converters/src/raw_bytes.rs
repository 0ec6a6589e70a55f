//! Values as they are.

use aqueduct_core::{Converted, Converter, Fingerprint, Poison, Record};
use bytes::Bytes;

use crate::tombstones::{Tombstones, tombstones_only};

/// Takes a value's bytes as they are, whatever they mean. Nothing is copied or looked at.
///
/// For layouts that need no field and formats that store bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawBytes {
    tombstones: Tombstones,
}

tombstones_only!(RawBytes);

impl Converter for RawBytes {
    type Output = Bytes;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Bytes>, Poison> {
        match record.value_bytes() {
            Some(value) => Ok(Converted::Emit(value)),
            None => self.tombstones.absent_without_null(),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", format_args!("raw-bytes/1 tombstones={}", self.tombstones));
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_core::{BytesRow, PoisonReason, SkipReason};

    use super::*;
    use crate::tests::{convert, fingerprint};

    #[test]
    fn any_bytes_pass_as_they_are() {
        for value in [&b""[..], b"\0\xff\xfe", b"line\n"] {
            assert_eq!(
                convert(&RawBytes::new(), Some(value)).unwrap(),
                Converted::Emit(Bytes::copy_from_slice(value))
            );
        }
        assert_eq!(Bytes::from_static(b"x").row_bytes(), "x");
    }

    #[test]
    fn tombstones_follow_the_option() {
        assert_eq!(convert(&RawBytes::new(), None).unwrap_err().reason(), PoisonReason::NullValue);
        let skipping = RawBytes::new().tombstones(Tombstones::Skip);
        assert_eq!(convert(&skipping, None).unwrap(), Converted::Skip(SkipReason::Tombstone));
        assert_ne!(fingerprint(&skipping), fingerprint(&RawBytes::new()));
    }
}
