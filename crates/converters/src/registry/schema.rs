//! What a registry knows a schema by, and what it says about one.

use std::fmt;
use std::str::FromStr;

/// What a record names its schema by.
///
/// ```
/// use aqueduct_converters::registry::{SchemaGuid, SchemaId};
///
/// assert_eq!(SchemaId::from(7).to_string(), "7");
/// let guid: SchemaGuid = "89791762-2336-4186-9674-299b90a802e2".parse()?;
/// assert_eq!(SchemaId::from(guid).to_string(), "89791762-2336-4186-9674-299b90a802e2");
/// # Ok::<(), aqueduct_converters::registry::GuidError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SchemaId {
    /// The number a registry gave it, in front of the payload.
    Number(u32),
    /// The hash of its contents, in a header of the record.
    Guid(SchemaGuid),
}

impl From<u32> for SchemaId {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl From<SchemaGuid> for SchemaId {
    fn from(guid: SchemaGuid) -> Self {
        Self::Guid(guid)
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Guid(guid) => guid.fmt(f),
        }
    }
}

/// The hash of a schema's contents, spelled as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaGuid([u8; 16]);

impl SchemaGuid {
    /// From the bytes as they stand in a header.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand in a header.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for SchemaGuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SchemaGuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchemaGuid({self})")
    }
}

impl FromStr for SchemaGuid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        let mut bytes = [0; 16];
        let mut digits = text.bytes().filter(|&byte| byte != b'-');
        for byte in &mut bytes {
            let mut digit = || (digits.next()? as char).to_digit(16);
            let pair = digit().zip(digit()).ok_or(GuidError)?;
            *byte = u8::try_from(pair.0 * 16 + pair.1).map_err(|_| GuidError)?;
        }
        // Dashes only where they belong.
        let parsed = Self(bytes);
        if parsed.to_string().eq_ignore_ascii_case(text) { Ok(parsed) } else { Err(GuidError) }
    }
}

/// A text that is not a schema's GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a guid; one is written like 89791762-2336-4186-9674-299b90a802e2")]
pub struct GuidError;

/// The language a schema is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchemaKind {
    /// Avro, as JSON.
    Avro,
    /// A `.proto` file's text.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl SchemaKind {
    /// The name a registry uses: `AVRO`, `PROTOBUF`, `JSON`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::Json => "JSON",
        }
    }
}

impl fmt::Display for SchemaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A schema with everything it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// What it was asked for by.
    pub id: SchemaId,
    /// Its language.
    pub kind: SchemaKind,
    /// Its text.
    pub text: String,
    /// All schemas it refers to, directly or not, each behind those that it refers to itself: parsed in this order, nothing is
    /// missing. Equal ones are there once.
    pub references: Vec<Reference>,
    /// Under which names and versions it is registered, by subject; empty where the source was not asked or does not say.
    pub versions: Vec<SubjectVersion>,
}

impl RegisteredSchema {
    /// A schema that refers to no other.
    pub fn new(id: impl Into<SchemaId>, kind: SchemaKind, text: impl Into<String>) -> Self {
        Self { id: id.into(), kind, text: text.into(), references: Vec::new(), versions: Vec::new() }
    }

    /// The version it has under `subject`; the highest, if it was registered there more than once.
    pub fn version_in(&self, subject: &str) -> Option<u32> {
        self.versions.iter().filter(|at| at.subject == subject).map(|at| at.version).max()
    }

    /// The version that values of this schema tell: the one it has under `subject`, or, where no subject is named, the one it has
    /// wherever it is registered. `None` where that is not one, or where the source does not say.
    ///
    /// Without a subject the answer may become another when somebody registers the schema under a second one.
    pub fn version_told(&self, subject: Option<&str>) -> Option<u32> {
        if let Some(subject) = subject {
            return self.version_in(subject);
        }
        let version = self.versions.first()?.version;
        self.versions.iter().all(|at| at.version == version).then_some(version)
    }
}

/// A schema that another one refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What it is called where it is referred to: a full name in Avro, the path of an `import` in Protobuf, a URI in JSON Schema.
    pub name: String,
    /// The subject it is registered under.
    pub subject: String,
    /// Its version there, from 1.
    pub version: u32,
    /// Its text, in the same language as the schema that refers to it.
    pub text: String,
}

/// A place a schema is registered at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubjectVersion {
    /// The subject.
    pub subject: String,
    /// The version, from 1.
    pub version: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_guid_is_spelled_in_one_way() {
        let text = "89791762-2336-4186-9674-299b90a802e2";
        let guid: SchemaGuid = text.parse().unwrap();
        assert_eq!(guid.as_bytes()[..3], [0x89, 0x79, 0x17]);
        assert_eq!(text.to_uppercase().parse(), Ok(guid));
        for wrong in [
            "",
            "89791762",
            "89791762233641869674299b90a802e2",
            "89791762-2336-4186-9674-299b90a802e",
            "89791762-2336-4186-9674-299b90a802e22",
            "8979176-22336-4186-9674-299b90a802e2",
            "89791762-2336-4186-9674-299b90a802eg",
            "89791762-2336-4186-9674-299b90a802é",
        ] {
            assert_eq!(wrong.parse::<SchemaGuid>(), Err(GuidError), "{wrong}");
        }
    }

    #[test]
    fn the_version_is_the_latest_of_its_subject() {
        let at = |subject: &str, version| SubjectVersion { subject: subject.to_owned(), version };
        let mut schema = RegisteredSchema::new(1, SchemaKind::Avro, "\"string\"");
        assert_eq!(schema.version_in("orders-value"), None);
        schema.versions = vec![at("orders-value", 2), at("orders-value", 5), at("returns-value", 9)];
        assert_eq!(schema.version_in("orders-value"), Some(5));
        assert_eq!(schema.version_told(Some("returns-value")), Some(9));
        assert_eq!((schema.version_told(None), schema.version_told(Some("other"))), (None, None));
        schema.versions = vec![at("orders-value", 2), at("returns-value", 2)];
        assert_eq!(schema.version_told(None), Some(2));
    }

    proptest! {
        #[test]
        fn guids_survive_their_text(bytes: [u8; 16]) {
            let guid = SchemaGuid::from_bytes(bytes);
            prop_assert_eq!(guid.to_string().parse(), Ok(guid));
        }

        #[test]
        fn any_text_is_a_guid_or_not(text: String) {
            if let Ok(guid) = text.parse::<SchemaGuid>() {
                prop_assert_eq!(guid.to_string(), text.to_ascii_lowercase());
            }
        }
    }
}
