//! What a registry says, as JSON.

use aqueduct_converters::registry::{SchemaKind, SubjectVersion};
use serde::{Deserialize, Serialize};

/// A schema, by id or by subject and version. What else is in it is passed over.
#[derive(Debug, Deserialize)]
pub(crate) struct SchemaText {
    pub(crate) schema: String,
    /// Avro, where it is left out.
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Option<Vec<ReferenceTo>>,
}

impl SchemaText {
    /// `None` for a kind nobody here knows.
    pub(crate) fn kind(&self) -> Option<SchemaKind> {
        let Some(name) = &self.kind else { return Some(SchemaKind::Avro) };
        [SchemaKind::Avro, SchemaKind::Protobuf, SchemaKind::Json]
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(name))
    }

    /// Its kind as it is written, cut to what an error may show.
    pub(crate) fn kind_name(&self) -> String {
        self.kind.iter().flat_map(|name| name.chars()).take(32).flat_map(char::escape_debug).collect()
    }

    pub(crate) fn into_parts(self) -> (String, Vec<ReferenceTo>) {
        (self.schema, self.references.unwrap_or_default())
    }
}

/// A reference to a schema, without its text.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub(crate) struct ReferenceTo {
    pub(crate) name: String,
    pub(crate) subject: String,
    pub(crate) version: u32,
}

/// Where a schema is registered.
#[derive(Debug, Deserialize)]
pub(crate) struct Place {
    subject: String,
    version: u32,
}

impl From<Place> for SubjectVersion {
    fn from(place: Place) -> Self {
        Self { subject: place.subject, version: place.version }
    }
}

/// A schema to register.
#[derive(Serialize)]
pub(crate) struct Registration<'a> {
    pub(crate) schema: &'a str,
    #[serde(rename = "schemaType")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) references: &'a [ReferenceTo],
}

/// What became of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Registered {
    pub(crate) id: u32,
}

/// Why not.
#[derive(Debug, Deserialize)]
pub(crate) struct Complaint {
    pub(crate) error_code: u32,
    #[serde(default)]
    pub(crate) message: String,
}
