//! How the values of a plan are written under the Avro schema that they were declared with.
//!
//! The text says what the schema made of it no longer tells: where null stands in a union, whether a decimal is fixed bytes.

use std::collections::HashMap;

use aqueduct_core::TimeUnit;
use serde_json::Value as Json;

use super::{Form, Layout};
use crate::columns::{Kind, Node, Plan};

/// The layout of each node, if the text describes these very values.
pub(super) fn pair(plan: &Plan, text: &str) -> Option<Vec<Layout>> {
    let json: Json = serde_json::from_str(text).ok()?;
    let blank = Layout { null: None, value: None, branches: Vec::new(), form: Form::Plain };
    let mut reader = Reader { plan, layout: vec![blank; plan.nodes().len()], named: HashMap::new() };
    reader.node(0, &json, "")?;
    Some(reader.layout)
}

struct Reader<'a> {
    plan: &'a Plan,
    layout: Vec<Layout>,
    /// By full name: the type, and the namespace of names in it.
    named: HashMap<String, (&'a Json, String)>,
}

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

impl<'a> Reader<'a> {
    fn node(&mut self, id: usize, json: &'a Json, namespace: &str) -> Option<()> {
        let node = self.plan.node(id);
        let mut layout = Layout { null: None, value: None, branches: Vec::new(), form: Form::Plain };
        let place = |index: usize| u32::try_from(index).ok();
        match json {
            Json::Array(branches) => {
                let is_null = |branch: &Json| branch.as_str() == Some("null");
                layout.null = branches.iter().position(is_null).and_then(place);
                let others: Vec<_> =
                    branches.iter().enumerate().filter(|(_, branch)| !is_null(branch)).collect();
                if node.kind == Kind::Union && others.len() == node.children.len() {
                    for ((index, branch), &child) in others.iter().zip(&node.children) {
                        layout.branches.push(place(*index)?);
                        self.node(child as usize, branch, namespace)?;
                    }
                } else if node.kind != Kind::Union
                    && let [(index, branch)] = others[..]
                {
                    layout.value = place(index);
                    layout.form = self.value(node, branch, namespace)?;
                } else {
                    return None;
                }
                if node.nullable && layout.null.is_none() {
                    return None;
                }
            }
            _ if node.kind == Kind::Null => {
                if json.as_str() != Some("null") {
                    return None;
                }
            }
            _ if node.nullable || node.kind == Kind::Union => return None,
            _ => layout.form = self.value(node, json, namespace)?,
        }
        *self.layout.get_mut(id)? = layout;
        Some(())
    }

    fn value(&mut self, node: &'a Node, json: &'a Json, namespace: &str) -> Option<Form> {
        let (object, kind) = match json {
            Json::String(name) if PRIMITIVES.contains(&name.as_str()) => (None, name.as_str()),
            Json::String(name) => {
                let (json, namespace) = self.named.get(&full_name(name, namespace))?.clone();
                return self.defined(node, json, json.get("type")?.as_str()?, &namespace);
            }
            Json::Object(_) => match json.get("type")? {
                Json::String(kind) => (Some(json), kind.as_str()),
                inner => return self.value(node, inner, namespace),
            },
            _ => return None,
        };
        match (object, kind) {
            (Some(json), "record" | "error" | "enum" | "fixed") => {
                let name = json.get("name")?.as_str()?;
                let space = json.get("namespace").and_then(Json::as_str).unwrap_or(namespace);
                let full = full_name(name, space);
                let inner = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
                self.named.insert(full, (json, inner.clone()));
                self.defined(node, json, kind, &inner)
            }
            (Some(json), "array") if node.kind == Kind::List => {
                self.below(node, json.get("items")?, namespace)
            }
            (Some(json), "map") if node.kind == Kind::Map => self.below(node, json.get("values")?, namespace),
            (_, kind) if PRIMITIVES.contains(&kind) => {
                let logical = object.and_then(|json| json.get("logicalType")).and_then(Json::as_str);
                primitive(node.kind, kind, object, logical)
            }
            // A reference with attributes.
            (Some(_), name) => {
                let (json, namespace) = self.named.get(&full_name(name, namespace))?.clone();
                self.defined(node, json, json.get("type")?.as_str()?, &namespace)
            }
            _ => None,
        }
    }

    fn below(&mut self, node: &Node, json: &'a Json, namespace: &str) -> Option<Form> {
        self.node(*node.children.first()? as usize, json, namespace)?;
        Some(Form::Blocks)
    }

    fn defined(&mut self, node: &Node, json: &'a Json, kind: &str, namespace: &str) -> Option<Form> {
        match (kind, node.kind) {
            ("record" | "error", Kind::Struct) => {
                let fields = json.get("fields")?.as_array()?;
                if fields.len() != node.children.len() {
                    return None;
                }
                for (field, &child) in fields.iter().zip(&node.children) {
                    if field.get("name")?.as_str()? != &*self.plan.node(child as usize).name {
                        return None;
                    }
                    self.node(child as usize, field.get("type")?, namespace)?;
                }
                Some(Form::Plain)
            }
            ("enum", Kind::Enum) => {
                let symbols = json.get("symbols")?.as_array()?;
                let place =
                    |wanted: &String| symbols.iter().position(|symbol| symbol.as_str() == Some(wanted));
                let places = node.symbols.iter().map(|symbol| u32::try_from(place(symbol)?).ok());
                places.collect::<Option<_>>().map(Form::Symbols)
            }
            ("fixed", _) => {
                let size = json.get("size")?.as_u64()?;
                match node.kind {
                    Kind::Fixed(length) if u64::from(length) == size => Some(Form::Fixed),
                    Kind::Uuid if size == 16 => Some(Form::Fixed),
                    Kind::Duration if size == 12 => Some(Form::Plain),
                    Kind::Decimal { scale, precision } if is_decimal(json, precision, scale) => {
                        Some(Form::Decimal(Some(usize::try_from(size).ok()?)))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

fn is_decimal(json: &Json, precision: u32, scale: u32) -> bool {
    let number = |name: &str| json.get(name).and_then(Json::as_u64);
    json.get("logicalType").and_then(Json::as_str) == Some("decimal")
        && number("precision") == Some(u64::from(precision))
        && number("scale").unwrap_or(0) == u64::from(scale)
}

fn primitive(kind: Kind, name: &str, object: Option<&Json>, logical: Option<&str>) -> Option<Form> {
    let fits = match (kind, name) {
        (Kind::Bool, "boolean")
        | (Kind::Int(8 | 16 | 32) | Kind::Date | Kind::Time(TimeUnit::Millis), "int")
        | (Kind::Int(64) | Kind::UInt32 | Kind::Time(_) | Kind::Timestamp { .. }, "long")
        | (Kind::Float32, "float")
        | (Kind::Float64, "double")
        | (Kind::Bytes, "bytes")
        | (Kind::String | Kind::Json, "string") => true,
        (Kind::Uuid, "string") => return Some(Form::UuidText),
        (Kind::Decimal { precision, scale }, "bytes") => {
            return object.filter(|json| is_decimal(json, precision, scale)).map(|_| Form::Decimal(None));
        }
        _ => false,
    };
    // A text that means more than it says would be read as something else than it was.
    (fits && (kind != Kind::String || logical != Some("uuid"))).then_some(Form::Plain)
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}
