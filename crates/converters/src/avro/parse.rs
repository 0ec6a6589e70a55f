//! From a schema's JSON to its types.

use serde_json::{Map, Value};

use aqueduct_core::TimeUnit;

use super::inline::inline;
use super::schema::{
    AvroSchema, AvroSchemaError, Enumeration, Fixed, Logical, Name, Names, Record, RecordField, TEXT_MAX,
    Type, TypeId,
};

/// Reads texts one after the other; names of the former are known to the latter.
///
/// How deep it descends is bounded by what a JSON reader takes (128 levels), for each text.
#[derive(Default)]
pub(super) struct Parser {
    types: Vec<Type>,
    names: Names,
    references: Vec<Value>,
    bytes: usize,
}

impl Parser {
    /// Reads a schema that later ones refer to.
    pub(super) fn reference(&mut self, text: &str) -> Result<(), AvroSchemaError> {
        let json = self.json(text)?;
        self.type_of(&json, "")?;
        self.references.push(json);
        Ok(())
    }

    /// Reads the schema itself.
    pub(super) fn schema(mut self, text: &str) -> Result<AvroSchema, AvroSchemaError> {
        let json = self.json(text)?;
        let root = self.type_of(&json, "")?;
        // Word for word where it stands alone.
        let text =
            if self.references.is_empty() { text.to_owned() } else { inline(&json, &self.references)? };
        Ok(AvroSchema::of_parts(self.types, root, text))
    }

    fn json(&mut self, text: &str) -> Result<Value, AvroSchemaError> {
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes > TEXT_MAX {
            return Err(refused(format!("the schema with all it refers to has more than {TEXT_MAX} bytes")));
        }
        // A bare name is what some tools write for a schema of one word.
        serde_json::from_str(text).map_err(|error| {
            refused(format!(
                "the schema is not valid json at line {} column {}",
                error.line(),
                error.column()
            ))
        })
    }

    fn type_of(&mut self, json: &Value, namespace: &str) -> Result<TypeId, AvroSchemaError> {
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.object(object, namespace),
            _ => Err(refused("a type is a name, a list of branches or an object")),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<TypeId, AvroSchemaError> {
        if let Some(primitive) = primitive(name, None) {
            return Ok(self.put(primitive));
        }
        let full = qualified(name, namespace);
        // A name without a namespace may also be one that is in none.
        let found = self.names.get(&full).or_else(|| self.names.get(name));
        found.copied().ok_or_else(|| refused(format!("the schema refers to {full:?}, which is not defined")))
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<TypeId, AvroSchemaError> {
        let ids: Vec<_> =
            branches.iter().map(|branch| self.type_of(branch, namespace)).collect::<Result<_, _>>()?;
        if ids.is_empty() {
            return Err(refused("a union has no branches"));
        }
        let mut seen = std::collections::HashSet::new();
        for id in &ids {
            let of = self.types.get(id.0 as usize).unwrap_or(&Type::Null);
            if matches!(of, Type::Union(_)) {
                return Err(refused("a union is a branch of another"));
            }
            // A type that is still being read has its name already.
            if !seen.insert(of.label()) {
                return Err(refused(format!("a union has two branches {:?}", of.label())));
            }
        }
        Ok(self.put(Type::Union(ids)))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, AvroSchemaError> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            // The type's own object around it: only its annotation can mean something.
            Some(inner) => {
                let id = self.type_of(inner, namespace)?;
                let annotated = match self.types.get(id.0 as usize) {
                    Some(Type::Int(None) | Type::Long(None) | Type::Bytes(None) | Type::String(None)) => self
                        .types
                        .get(id.0 as usize)
                        .map(Type::label)
                        .and_then(|it| primitive(it, logical(object))),
                    _ => None,
                };
                return Ok(annotated.map_or(id, |of| self.put(of)));
            }
            None => return Err(refused("an object has no \"type\"")),
        };
        match kind {
            "array" | "map" => {
                let member = if kind == "array" { "items" } else { "values" };
                let inner = object.get(member).ok_or_else(|| refused(format!("{kind} has no {member:?}")))?;
                let inner = self.type_of(inner, namespace)?;
                Ok(self.put(if kind == "array" { Type::Array(inner) } else { Type::Map(inner) }))
            }
            "record" | "error" => self.record(object, namespace),
            "enum" => self.enumeration(object, namespace),
            "fixed" => self.fixed(object, namespace),
            _ => match primitive(kind, logical(object)) {
                Some(of) => Ok(self.put(of)),
                None => self.named(kind, namespace),
            },
        }
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, AvroSchemaError> {
        let (name, namespace) = name(object, namespace)?;
        let full = name.full.clone();
        // Its own fields may refer to it.
        let id = self.define(Type::Record(Record { name: name.clone(), fields: Vec::new() }), &full)?;
        let Some(Value::Array(listed)) = object.get("fields") else {
            return Err(refused(format!("record {full} has no \"fields\"")));
        };
        let mut fields: Vec<RecordField> = Vec::with_capacity(listed.len());
        let mut seen = std::collections::HashSet::new();
        for field in listed {
            let name = field.get("name").and_then(Value::as_str);
            let Some((field, field_name)) = field.as_object().zip(name) else {
                return Err(refused(format!("a field of record {full} has no name")));
            };
            let of = field.get("type").ok_or_else(|| refused(format!("field {field_name:?} has no type")))?;
            if !seen.insert(field_name) {
                return Err(refused(format!("record {full} has two fields {field_name:?}")));
            }
            fields.push(RecordField {
                name: field_name.to_owned(),
                aliases: texts(field.get("aliases")),
                doc: text(field, "doc"),
                default: field.get("default").cloned(),
                of: self.type_of(of, &namespace)?,
            });
        }
        if let Some(slot) = self.types.get_mut(id.0 as usize) {
            *slot = Type::Record(Record { name, fields });
        }
        Ok(id)
    }

    fn enumeration(
        &mut self,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<TypeId, AvroSchemaError> {
        let (name, _) = name(object, namespace)?;
        let full = name.full.clone();
        let Some(Value::Array(listed)) = object.get("symbols") else {
            return Err(refused(format!("enum {full} has no \"symbols\"")));
        };
        let symbols = texts(object.get("symbols"));
        let mut distinct: Vec<_> = symbols.iter().collect();
        distinct.sort_unstable();
        distinct.dedup();
        if symbols.len() != listed.len() || distinct.len() != symbols.len() {
            return Err(refused(format!("the symbols of enum {full} are not texts, each there once")));
        }
        let default = text(object, "default").filter(|it| symbols.contains(it));
        self.define(Type::Enum(Enumeration { name, symbols, default }), &full)
    }

    fn fixed(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeId, AvroSchemaError> {
        let (name, _) = name(object, namespace)?;
        let full = name.full.clone();
        let size = object.get("size").and_then(Value::as_u64).and_then(|size| u32::try_from(size).ok());
        let size = size.ok_or_else(|| refused(format!("fixed {full} has no \"size\" of 32 bits")))?;
        let logical = match logical(object) {
            Some(Logical::Uuid) if size == 16 => Some(Logical::Uuid),
            Some(Logical::Duration) if size == 12 => Some(Logical::Duration),
            // So many digits have to fit.
            Some(decimal @ Logical::Decimal { precision, .. }) if u64::from(precision) <= digits_in(size) => {
                Some(decimal)
            }
            _ => None,
        };
        self.define(Type::Fixed(Fixed { name, size, logical }), &full)
    }

    fn define(&mut self, of: Type, full: &str) -> Result<TypeId, AvroSchemaError> {
        if self.names.contains_key(full) {
            return Err(refused(format!("{full:?} is defined twice")));
        }
        let id = self.put(of);
        self.names.insert(full.to_owned(), id);
        Ok(id)
    }

    fn put(&mut self, of: Type) -> TypeId {
        // Every type takes a byte of text at least, and those have a limit far below.
        let id = TypeId(u32::try_from(self.types.len()).unwrap_or(u32::MAX));
        self.types.push(of);
        id
    }
}

fn refused(why: impl Into<String>) -> AvroSchemaError {
    AvroSchemaError::new(why)
}

/// The primitive type of that name; an annotation that does not fit it is left out.
fn primitive(name: &str, logical: Option<Logical>) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => {
            Type::Int(logical.filter(|it| matches!(it, Logical::Date | Logical::Time(TimeUnit::Millis))))
        }
        "long" => Type::Long(
            logical.filter(|it| matches!(it, Logical::Timestamp { .. } | Logical::Time(TimeUnit::Micros))),
        ),
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes(logical.filter(|it| matches!(it, Logical::Decimal { .. }))),
        "string" => Type::String(logical.filter(|it| matches!(it, Logical::Uuid))),
        _ => return None,
    })
}

fn logical(object: &Map<String, Value>) -> Option<Logical> {
    let timestamp = |unit, utc| Logical::Timestamp { unit, utc };
    Some(match object.get("logicalType")?.as_str()? {
        "decimal" => {
            let number = |name| match object.get(name) {
                None => Some(0),
                Some(number) => number.as_u64().and_then(|it| u32::try_from(it).ok()),
            };
            let (precision, scale) = (number("precision")?, number("scale")?);
            if precision == 0 || scale > precision {
                return None;
            }
            Logical::Decimal { precision, scale }
        }
        "uuid" => Logical::Uuid,
        "date" => Logical::Date,
        "time-millis" => Logical::Time(TimeUnit::Millis),
        "time-micros" => Logical::Time(TimeUnit::Micros),
        "timestamp-millis" => timestamp(TimeUnit::Millis, true),
        "timestamp-micros" => timestamp(TimeUnit::Micros, true),
        "timestamp-nanos" => timestamp(TimeUnit::Nanos, true),
        "local-timestamp-millis" => timestamp(TimeUnit::Millis, false),
        "local-timestamp-micros" => timestamp(TimeUnit::Micros, false),
        "local-timestamp-nanos" => timestamp(TimeUnit::Nanos, false),
        "duration" => Logical::Duration,
        _ => return None,
    })
}

/// The digits that every number of so many bytes in two's complement has room for.
fn digits_in(size: u32) -> u64 {
    // 2^10 is a little more than 10^3: 0.30103 digits a bit.
    (u64::from(size) * 8).saturating_sub(1) * 30_103 / 100_000
}

/// The name of a definition, and the namespace of what is inside it.
fn name(object: &Map<String, Value>, namespace: &str) -> Result<(Name, String), AvroSchemaError> {
    let given = object.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let given = given.ok_or_else(|| refused("a record, enum or fixed has no \"name\""))?;
    let own = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
    let full = qualified(given, own);
    if primitive(&full, None).is_some() {
        return Err(refused(format!("{full:?} cannot be the name of another type")));
    }
    let inside = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
    let aliases = texts(object.get("aliases")).iter().map(|alias| qualified(alias, &inside)).collect();
    Ok((Name { full, aliases, doc: text(object, "doc") }, inside))
}

/// The full name: one with a dot is one already.
pub(super) fn qualified(name: &str, namespace: &str) -> String {
    if let Some(bare) = name.strip_prefix('.') {
        return bare.to_owned();
    }
    if name.contains('.') || namespace.is_empty() {
        return name.to_owned();
    }
    format!("{namespace}.{name}")
}

fn text(object: &Map<String, Value>, member: &str) -> Option<String> {
    object.get(member).and_then(Value::as_str).map(ToOwned::to_owned)
}

/// The texts of a list; what is no text in it is passed over.
fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}
