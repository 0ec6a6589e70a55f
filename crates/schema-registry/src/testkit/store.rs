//! What is registered, and the answers about it.

use std::collections::BTreeMap;

use aqueduct_converters::registry::SchemaGuid;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::ReferenceTo;

#[derive(Debug, Default)]
pub(super) struct Store {
    /// By id, from 1.
    schemas: Vec<Schema>,
    /// By subject: of each version its id, and whether it is deleted.
    subjects: BTreeMap<String, Vec<(u32, bool)>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Schema {
    kind: String,
    text: String,
    references: Vec<ReferenceTo>,
}

/// A body to register with.
#[derive(Deserialize)]
struct Registration {
    schema: String,
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<ReferenceTo>,
}

impl Store {
    /// The id, or the error's number and words.
    pub(super) fn register(
        &mut self,
        subject: &str,
        kind: &str,
        text: String,
        references: Vec<ReferenceTo>,
    ) -> Result<u32, (u32, String)> {
        for reference in &references {
            if self.version(&reference.subject, &reference.version.to_string(), false).is_err() {
                let message = format!("no schema reference found for subject {:?}", reference.subject);
                return Err((42_201, message));
            }
        }
        Ok(self.insert(subject, kind, text, references))
    }

    pub(super) fn insert(
        &mut self,
        subject: &str,
        kind: &str,
        text: String,
        references: Vec<ReferenceTo>,
    ) -> u32 {
        let schema = Schema { kind: kind.to_owned(), text, references };
        let index = self.schemas.iter().position(|known| *known == schema).unwrap_or_else(|| {
            self.schemas.push(schema);
            self.schemas.len() - 1
        });
        let id = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        if !versions.contains(&(id, false)) {
            versions.push((id, false));
        }
        id
    }

    pub(super) fn delete(&mut self, subject: &str, version: u32) {
        let index = (version as usize).wrapping_sub(1);
        if let Some((_, deleted)) =
            self.subjects.get_mut(subject).and_then(|versions| versions.get_mut(index))
        {
            *deleted = true;
        }
    }

    pub(super) fn guid(id: u32) -> SchemaGuid {
        let mut bytes = *b"test registry\0\0\0";
        for (byte, of) in bytes.iter_mut().rev().zip(id.to_le_bytes()) {
            *byte = of;
        }
        SchemaGuid::from_bytes(bytes)
    }

    /// Status and body.
    pub(super) fn answer(&mut self, method: &str, path: &[&str], query: &str, body: &str) -> (u16, Value) {
        let deleted = query.split('&').any(|pair| pair == "deleted=true");
        match (method, path) {
            ("GET", ["schemas", "ids", id]) => self.by_id(id.parse().ok()),
            ("GET", ["schemas", "guids", guid]) => {
                let mut ids = (1_u32..).take(self.schemas.len());
                let found = ids.find(|id| Self::guid(*id).to_string() == *guid);
                self.by_id(found)
            }
            ("GET", ["schemas", "ids", id, "versions"]) => {
                let Some(id) = id.parse().ok().filter(|id| self.schema(*id).is_some()) else {
                    return complaint(404, 40_403, "Schema not found");
                };
                (200, self.places(id))
            }
            ("GET", ["subjects"]) => (200, self.subjects.keys().map(|name| json!(name)).collect()),
            ("GET", ["subjects", subject, "versions"]) => match self.subjects.get(*subject) {
                None => complaint(404, 40_401, "Subject not found"),
                Some(versions) => {
                    let numbers = versions.iter().zip(1_u32..).filter(|((_, gone), _)| deleted || !gone);
                    (200, numbers.map(|(_, number)| json!(number)).collect())
                }
            },
            ("GET", ["subjects", subject, "versions", version]) => {
                match self.version(subject, version, deleted) {
                    Err((code, message)) => complaint(404, code, message),
                    Ok((number, id)) => {
                        let (status, mut body) = self.by_id(Some(id));
                        if let Some(fields) = body.as_object_mut() {
                            fields.insert("subject".to_owned(), json!(subject));
                            fields.insert("version".to_owned(), json!(number));
                            fields.insert("id".to_owned(), json!(id));
                        }
                        (status, body)
                    }
                }
            }
            ("POST", ["subjects", subject, "versions"]) => {
                let Ok(Registration { schema, kind, references }) = serde_json::from_str(body) else {
                    return complaint(422, 42_201, "Invalid schema");
                };
                match self.register(subject, kind.as_deref().unwrap_or("AVRO"), schema, references) {
                    Ok(id) => (200, json!({ "id": id })),
                    Err((code, message)) => complaint(422, code, &message),
                }
            }
            _ => complaint(404, 404, "HTTP 404 Not Found"),
        }
    }

    fn by_id(&self, id: Option<u32>) -> (u16, Value) {
        let Some(Schema { kind, text, references }) = id.and_then(|id| self.schema(id)) else {
            return complaint(404, 40_403, "Schema not found");
        };
        let mut body = json!({ "schema": text });
        if let Some(fields) = body.as_object_mut() {
            // As the original does it, so that the defaults of clients are tested.
            if kind != "AVRO" {
                fields.insert("schemaType".to_owned(), json!(kind));
            }
            if !references.is_empty() {
                fields.insert("references".to_owned(), json!(references));
            }
        }
        (200, body)
    }

    fn schema(&self, id: u32) -> Option<&Schema> {
        self.schemas.get((id as usize).checked_sub(1)?)
    }

    fn places(&self, id: u32) -> Value {
        let places = self.subjects.iter().flat_map(|(subject, versions)| {
            let of_it = versions.iter().zip(1_u32..).filter(move |((it, gone), _)| *it == id && !gone);
            of_it.map(move |(_, version)| json!({ "subject": subject, "version": version }))
        });
        places.collect()
    }

    /// Number and id of a version.
    fn version(
        &self,
        subject: &str,
        version: &str,
        deleted: bool,
    ) -> Result<(u32, u32), (u32, &'static str)> {
        let versions = self.subjects.get(subject).ok_or((40_401, "Subject not found"))?;
        let mut there = versions.iter().zip(1_u32..).filter(|((_, gone), _)| deleted || !gone);
        let found = match version {
            "latest" => there.last(),
            number => there.find(|(_, it)| it.to_string() == number),
        };
        found.map(|((id, _), number)| (number, *id)).ok_or((40_402, "Version not found"))
    }
}

pub(super) fn complaint(status: u16, code: u32, message: &str) -> (u16, Value) {
    (status, json!({ "error_code": code, "message": message }))
}
