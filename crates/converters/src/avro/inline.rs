//! A schema that refers to others as one that stands alone.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::parse::qualified;
use super::schema::{AvroSchemaError, LEVELS_MAX};

/// The text of `schema` with each definition of `references` at the first place it is referred to.
pub(super) fn inline(schema: &Value, references: &[Value]) -> Result<String, AvroSchemaError> {
    let mut definitions = HashMap::new();
    for reference in references {
        collect(reference, "", &mut definitions);
    }
    let mut inliner = Inliner { definitions, written: HashSet::new() };
    Ok(inliner.value(schema, "", 0)?.to_string())
}

/// Definitions by their full names, each with the namespace around it.
type Definitions<'v> = HashMap<String, (&'v Value, String)>;

fn collect<'v>(value: &'v Value, namespace: &str, into: &mut Definitions<'v>) {
    match value {
        Value::Array(branches) => branches.iter().for_each(|branch| collect(branch, namespace, into)),
        Value::Object(object) => {
            let named = definition(object, namespace);
            let inside = named.as_deref().map_or(namespace, namespace_of);
            if let Some(full) = &named {
                into.insert(full.clone(), (value, namespace.to_owned()));
            }
            for member in ["type", "items", "values"] {
                if let Some(inner) = object.get(member) {
                    collect(inner, inside, into);
                }
            }
            for field in object.get("fields").and_then(Value::as_array).into_iter().flatten() {
                if let Some(inner) = field.get("type") {
                    collect(inner, inside, into);
                }
            }
        }
        _ => {}
    }
}

struct Inliner<'v> {
    definitions: Definitions<'v>,
    written: HashSet<String>,
}

impl Inliner<'_> {
    fn value(&mut self, value: &Value, namespace: &str, level: usize) -> Result<Value, AvroSchemaError> {
        // A level of types takes up to three of JSON.
        if level > 3 * LEVELS_MAX {
            return Err(AvroSchemaError::new(format!("the schema nests deeper than {LEVELS_MAX} levels")));
        }
        match value {
            Value::String(name) => self.reference(name, namespace, level),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.value(branch, namespace, level + 1));
                Ok(Value::Array(branches.collect::<Result<_, _>>()?))
            }
            Value::Object(object) => self.object(object, namespace, level),
            other => Ok(other.clone()),
        }
    }

    fn reference(&mut self, name: &str, namespace: &str, level: usize) -> Result<Value, AvroSchemaError> {
        let is_known = |full: &String| self.definitions.contains_key(full) || self.written.contains(full);
        let full = Some(qualified(name, namespace)).filter(is_known);
        let Some(full) = full.or_else(|| Some(name.to_owned()).filter(is_known)) else {
            return Ok(Value::String(name.to_owned()));
        };
        if self.written.contains(&full) {
            return Ok(Value::String(spelled(&full, namespace)));
        }
        match self.definitions.get(&full).cloned() {
            Some((definition, around)) => self.value(definition, &around, level + 1),
            None => Ok(Value::String(full)),
        }
    }

    fn object(
        &mut self,
        object: &Map<String, Value>,
        namespace: &str,
        level: usize,
    ) -> Result<Value, AvroSchemaError> {
        let mut made = object.clone();
        let named = definition(object, namespace);
        if let Some(full) = &named {
            if !self.written.insert(full.clone()) {
                return Ok(Value::String(spelled(full, namespace)));
            }
            // It may come to stand in another namespace than it was written in.
            made.insert("name".to_owned(), full.rsplit('.').next().unwrap_or(full).into());
            made.insert("namespace".to_owned(), namespace_of(full).into());
        }
        let inside = named.as_deref().map_or(namespace, namespace_of);
        for member in ["type", "items", "values"] {
            // The kind of a definition is no reference.
            if let Some(inner) = object.get(member)
                && (named.is_none() || member != "type")
            {
                made.insert(member.to_owned(), self.value(inner, inside, level + 1)?);
            }
        }
        if let Some(Value::Array(fields)) = made.get_mut("fields") {
            for field in fields {
                if let Some(of) = field.get_mut("type") {
                    *of = self.value(of, inside, level + 1)?;
                }
            }
        }
        Ok(Value::Object(made))
    }
}

/// The full name, if the object defines one.
fn definition(object: &Map<String, Value>, namespace: &str) -> Option<String> {
    let kind = object.get("type").and_then(Value::as_str)?;
    if !matches!(kind, "record" | "error" | "enum" | "fixed") {
        return None;
    }
    let own = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
    Some(qualified(object.get("name")?.as_str()?, own))
}

fn namespace_of(full: &str) -> &str {
    full.rsplit_once('.').map_or("", |(namespace, _)| namespace)
}

/// How a full name is referred to inside of a namespace: one in no namespace needs its dot.
fn spelled(full: &str, namespace: &str) -> String {
    if full.contains('.') || namespace.is_empty() { full.to_owned() } else { format!(".{full}") }
}
