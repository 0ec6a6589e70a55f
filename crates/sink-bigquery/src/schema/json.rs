//! Schemas as `bq show --schema` prints them and the REST interface has them.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Field, FieldType, Mode, RangeOf, TableSchema};

/// Why a text is not a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaJsonError {
    /// It is not JSON of the right shape.
    #[error(
        "the schema is not a list of fields with name and type (or an object with \"fields\"): {problem}"
    )]
    Shape {
        /// What the parser says.
        problem: String,
    },
    /// A type or a mode is unknown.
    #[error("field {field:?} has the {what} {found:?}, which is not known")]
    Unknown {
        /// The field.
        field: String,
        /// `type` or `mode`.
        what: &'static str,
        /// What was found.
        found: String,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    List(Vec<RawField>),
    Object { fields: Vec<RawField> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawField {
    name: String,
    r#type: String,
    #[serde(default)]
    mode: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    fields: Vec<RawField>,
    #[serde(default)]
    max_length: Option<Number>,
    #[serde(default)]
    precision: Option<Number>,
    #[serde(default)]
    scale: Option<Number>,
    #[serde(default)]
    range_element_type: Option<RawElement>,
}

#[derive(Deserialize)]
struct RawElement {
    r#type: String,
}

/// The REST interface spells 64-bit numbers as texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

impl Number {
    fn get(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl TableSchema {
    /// Reads a list of fields, or an object that has them under `fields`.
    ///
    /// # Errors
    /// [`SchemaJsonError`] if it is not a schema, or has a type this version does not know.
    pub fn from_json(text: &str) -> Result<Self, SchemaJsonError> {
        let document: Document = serde_json::from_str(text)
            .map_err(|error| SchemaJsonError::Shape { problem: error.to_string() })?;
        let (Document::List(fields) | Document::Object { fields }) = document;
        Ok(Self { fields: fields.into_iter().map(Field::read).collect::<Result<_, _>>()? })
    }

    /// The fields of a table resource's `schema`.
    pub(crate) fn from_value(schema: &Value) -> Result<Self, SchemaJsonError> {
        Self::from_json(&schema.to_string())
    }

    pub(crate) fn to_value(&self) -> Value {
        json!({ "fields": self.fields.iter().map(Field::to_value).collect::<Vec<_>>() })
    }
}

impl Field {
    fn read(raw: RawField) -> Result<Self, SchemaJsonError> {
        let unknown = |what, found: &str| SchemaJsonError::Unknown {
            field: raw.name.clone(),
            what,
            found: found.chars().take(64).collect(),
        };
        let kind = match FieldType::named(&raw.r#type) {
            Some(FieldType::Range(_)) => {
                let element = raw.range_element_type.as_ref().map(|element| element.r#type.as_str());
                FieldType::Range(match element {
                    Some("DATE") => RangeOf::Date,
                    Some("DATETIME") => RangeOf::DateTime,
                    Some("TIMESTAMP") => RangeOf::Timestamp,
                    other => return Err(unknown("range element type", other.unwrap_or_default())),
                })
            }
            Some(kind) => kind,
            None => return Err(unknown("type", &raw.r#type)),
        };
        let mode = match raw.mode.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None | Some("" | "NULLABLE") => Mode::Nullable,
            Some("REQUIRED") => Mode::Required,
            Some("REPEATED") => Mode::Repeated,
            Some(other) => return Err(unknown("mode", other)),
        };
        let number =
            |number: &Option<Number>| number.as_ref().and_then(Number::get).filter(|number| *number > 0);
        let (max_length, precision) = (number(&raw.max_length), number(&raw.precision));
        let precision = precision.map(|precision| (precision, number(&raw.scale).unwrap_or(0)));
        let kind = match kind {
            FieldType::Record(_) => {
                FieldType::Record(raw.fields.into_iter().map(Self::read).collect::<Result<_, _>>()?)
            }
            scalar => scalar,
        };
        Ok(Self {
            mode,
            description: raw.description,
            max_length,
            precision,
            ..Self::nullable(raw.name, kind)
        })
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut object = Map::new();
        object.insert("name".to_owned(), self.name.as_str().into());
        object.insert("type".to_owned(), self.kind.name().into());
        let mode = match self.mode {
            Mode::Nullable => "NULLABLE",
            Mode::Required => "REQUIRED",
            Mode::Repeated => "REPEATED",
        };
        object.insert("mode".to_owned(), mode.into());
        if let Some(description) = &self.description {
            object.insert("description".to_owned(), description.as_str().into());
        }
        if let Some(length) = self.max_length {
            object.insert("maxLength".to_owned(), length.to_string().into());
        }
        if let Some((precision, scale)) = self.precision {
            object.insert("precision".to_owned(), precision.to_string().into());
            object.insert("scale".to_owned(), scale.to_string().into());
        }
        match &self.kind {
            FieldType::Record(fields) => {
                object.insert("fields".to_owned(), fields.iter().map(Self::to_value).collect());
            }
            FieldType::Range(of) => {
                object.insert("rangeElementType".to_owned(), json!({ "type": of.element().name() }));
            }
            _ => {}
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_survives_its_spelling() {
        let text = r#"{"fields": [
            {"name": "a", "type": "INT64", "mode": "REQUIRED", "description": "an a"},
            {"name": "n", "type": "NUMERIC", "precision": "10", "scale": 2},
            {"name": "s", "type": "string", "maxLength": "5"},
            {"name": "r", "type": "STRUCT", "mode": "REPEATED", "fields": [{"name": "x", "type": "RANGE",
                "rangeElementType": {"type": "DATE"}}]}
        ]}"#;
        let schema = TableSchema::from_json(text).unwrap();
        assert_eq!(schema.fields[1].precision, Some((10, 2)));
        assert_eq!(TableSchema::from_value(&schema.to_value()).unwrap(), schema);
    }

    #[test]
    fn what_is_unknown_is_named() {
        let error = TableSchema::from_json(r#"[{"name": "a", "type": "FOO"}]"#).unwrap_err();
        assert_eq!(error.to_string(), r#"field "a" has the type "FOO", which is not known"#);
        let error = TableSchema::from_json(r#"[{"name": "a", "type": "RANGE"}]"#).unwrap_err();
        assert!(error.to_string().contains("range element type"), "{error}");
        assert!(matches!(TableSchema::from_json("{}"), Err(SchemaJsonError::Shape { .. })));
    }
}
