//! Values as text.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use aqueduct_core::{
    BytesRow, Converted, Converter, DataType, FieldValue, Fingerprint, JsonRow, Poison, PoisonReason, Record,
    Schema, StructuredValue, ValueVisitor,
};
use bytes::Bytes;

use crate::tombstones::{Tombstones, tombstones_only};

/// Reads a value as UTF-8 text. Nothing is copied; text that is not UTF-8 is a poison that names the byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utf8 {
    tombstones: Tombstones,
}

tombstones_only!(Utf8);

impl Converter for Utf8 {
    type Output = Text;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Text>, Poison> {
        let Some(bytes) = record.value_bytes() else {
            return self.tombstones.absent_without_null();
        };
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Converted::Emit(Text(bytes))),
            Err(error) => Err(Poison::new(
                PoisonReason::Malformed,
                format!(
                    "not valid utf-8 at byte {}; store values that are not text with `RawBytes`",
                    error.valid_up_to()
                ),
            )),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", format_args!("utf8/1 tombstones={}", self.tombstones));
    }
}

/// UTF-8 text that shares the memory it came in.
///
/// As bytes it is stored as it is; as a row of JSON it becomes a JSON string.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text(Bytes);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Checked when it was made, and immutable since.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text as an owned slice of the memory it came in; nothing is copied.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Debug for Text {
    /// Never prints a payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

/// All texts have one schema.
static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| Arc::new(Schema::new(DataType::String)));

impl StructuredValue for Text {
    fn schema(&self) -> Option<&Arc<Schema>> {
        Some(&SCHEMA)
    }

    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        visitor.scalar(FieldValue::Str(self.as_str().into()))
    }
}

impl JsonRow for Text {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        serde_json::to_writer(out, self.as_str())
            .map_err(|_| Poison::new(PoisonReason::Malformed, "the text cannot be written as a json string"))
    }
}

impl BytesRow for Text {
    fn row_bytes(&self) -> &Bytes {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_core::SkipReason;
    use proptest::prelude::*;

    use super::*;
    use crate::tests::convert;

    #[test]
    fn what_is_not_text_is_a_poison_that_names_the_byte_only() {
        let poison = convert(&Utf8::new(), Some(b"secret\xff")).unwrap_err();
        assert_eq!(poison.reason(), PoisonReason::Malformed);
        assert!(poison.detail().contains("byte 6") && !poison.detail().contains("secret"), "{poison}");
    }

    #[test]
    fn empty_text_is_no_tombstone() {
        assert_eq!(convert(&Utf8::new(), Some(b"")).unwrap(), Converted::Emit(Text::default()));
        let skipping = Utf8::new().tombstones(Tombstones::Skip);
        assert_eq!(convert(&skipping, Some(b"")).unwrap(), Converted::Emit(Text::default()));
        assert_eq!(convert(&skipping, None).unwrap(), Converted::Skip(SkipReason::Tombstone));
    }

    proptest! {
        #[test]
        fn text_is_one_json_string_on_one_line(text: String) {
            let value = Text::from(text.as_str());
            prop_assert_eq!((&*value, value.row_bytes().as_ref()), (text.as_str(), text.as_bytes()));
            let mut out = b"before".to_vec();
            value.write_json(&mut out).unwrap();
            let json = &out[6..];
            prop_assert!(!json.contains(&b'\n') && !json.contains(&b'\r'));
            prop_assert_eq!(serde_json::from_slice::<String>(json).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_text_or_poison(bytes: Vec<u8>) {
            let valid = std::str::from_utf8(&bytes).is_ok();
            prop_assert_eq!(convert(&Utf8::new(), Some(&bytes)).is_ok(), valid);
        }
    }
}
