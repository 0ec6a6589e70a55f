//! An Avro schema for values that were declared otherwise, or not at all.

use std::collections::HashSet;

use aqueduct_core::{DataType, Field, Schema, TimeUnit};
use serde_json::{Value as Json, json};

use super::{Form, Layout};
use crate::columns::{Kind, Plan};

/// The same schema without what Avro cannot tell apart.
pub(super) fn reshape(schema: &Schema) -> Schema {
    Schema::of_root(reshape_field(schema.root()))
}

fn reshape_field(field: &Field) -> Field {
    let of = |inner: &Field| Box::new(reshape_field(inner));
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(reshape_field).collect()),
        DataType::Union(branches) => {
            let branches: Vec<_> = branches.iter().map(reshape_field).collect();
            let mut seen = HashSet::new();
            let apart = |branch: &Field| {
                !branch.is_nullable()
                    && !matches!(branch.data_type(), DataType::Union(_) | DataType::Null)
                    && seen.insert(
                        unnamed(branch.data_type()).unwrap_or_else(|| format!("named {}", branch.name())),
                    )
            };
            if !branches.is_empty() && branches.iter().all(apart) {
                DataType::Union(branches)
            } else {
                DataType::Json
            }
        }
        DataType::List(element) => DataType::List(of(element)),
        DataType::Map(value) => DataType::Map(of(value)),
        DataType::Enum(symbols) if !are_names(symbols) => DataType::String,
        other => other.clone(),
    };
    let mut same = Field::new(field.name(), data_type);
    if field.is_nullable() {
        same = same.nullable();
    }
    match field.default() {
        Some(default) => same.with_default(default.clone()),
        None => same,
    }
}

/// The Avro type of a kind, of which a union may have one; records, enums and fixed bytes have names instead.
fn unnamed(data_type: &DataType) -> Option<String> {
    let name = match data_type {
        DataType::Bool => "boolean",
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Date
        | DataType::Time(TimeUnit::Millis) => "int",
        DataType::Int64 | DataType::UInt32 | DataType::Time(_) | DataType::Timestamp { .. } => "long",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Bytes | DataType::Decimal { .. } | DataType::UInt64 => "bytes",
        DataType::List(_) => "array",
        DataType::Map(_) => "map",
        // Those without a name of their own are called after their place: two of them are two.
        DataType::Struct(_) | DataType::Enum(_) | DataType::Fixed(_) | DataType::Duration => return None,
        _ => "string",
    };
    Some(name.to_owned())
}

fn are_names(symbols: &[String]) -> bool {
    let mut seen = HashSet::new();
    !symbols.is_empty() && symbols.iter().all(|symbol| is_name(symbol) && seen.insert(symbol))
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// `text` with `_` for what may not be in a name.
fn named(text: &str) -> String {
    let mut name: String =
        text.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    if name.chars().next().is_none_or(|first| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let mut chosen = name.to_owned();
    let mut count = 1;
    while !taken.insert(chosen.clone()) {
        count += 1;
        chosen = format!("{name}_{count}");
    }
    chosen
}

/// The text of the schema, and how its nodes are written.
pub(super) fn describe(schema: &Schema, plan: &Plan) -> (String, Vec<Layout>) {
    let blank = Layout { null: None, value: None, branches: Vec::new(), form: Form::Plain };
    let mut writer = Writer { plan, layout: vec![blank; plan.nodes().len()], taken: HashSet::new() };
    let name = schema.name().unwrap_or("Record").split('.').map(named).collect::<Vec<_>>().join(".");
    let json = writer.node(0, &name, false);
    (json.to_string(), writer.layout)
}

struct Writer<'a> {
    plan: &'a Plan,
    layout: Vec<Layout>,
    /// Full names.
    taken: HashSet<String>,
}

impl Writer<'_> {
    /// `name` is what the type would be called; a `branch` of a union has no union of its own.
    fn node(&mut self, id: usize, name: &str, branch: bool) -> Json {
        let node = self.plan.node(id);
        let mut layout = Layout { null: None, value: None, branches: Vec::new(), form: Form::Plain };
        let json = match node.kind {
            Kind::Null => json!("null"),
            Kind::Union => {
                let mut all = Vec::new();
                if node.nullable {
                    layout.null = Some(0);
                    all.push(json!("null"));
                }
                for (place, &child) in node.children.iter().enumerate() {
                    layout.branches.push(u32::try_from(all.len()).unwrap_or(u32::MAX));
                    let own = &self.plan.node(child as usize).name;
                    let name = match &**own {
                        "" => format!("{name}_{place}"),
                        own => own.split('.').map(named).collect::<Vec<_>>().join("."),
                    };
                    all.push(self.node(child as usize, &name, true));
                }
                Json::Array(all)
            }
            _ => {
                let (json, form) = self.value(id, name);
                layout.form = form;
                if node.nullable && !branch {
                    (layout.null, layout.value) = (Some(0), Some(1));
                    json!(["null", json])
                } else {
                    json
                }
            }
        };
        if let Some(place) = self.layout.get_mut(id) {
            *place = layout;
        }
        json
    }

    fn value(&mut self, id: usize, name: &str) -> (Json, Form) {
        let node = self.plan.node(id);
        let below = node.children.first().map_or(0, |&child| child as usize);
        let logical = |base: &str, logical: &str| json!({ "type": base, "logicalType": logical });
        let unit = |unit: TimeUnit| match unit {
            TimeUnit::Millis => "millis",
            TimeUnit::Micros => "micros",
            TimeUnit::Nanos => "nanos",
        };
        let decimal = |precision: u32, scale: u32| {
            let precision = precision.max(1);
            json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale })
        };
        let json = match node.kind {
            Kind::Bool => json!("boolean"),
            Kind::Int(64) | Kind::UInt32 => json!("long"),
            Kind::Int(_) => json!("int"),
            Kind::UInt64 => return (decimal(20, 0), Form::Decimal(None)),
            Kind::Float32 => json!("float"),
            Kind::Float64 => json!("double"),
            Kind::Decimal { precision, scale } => return (decimal(precision, scale), Form::Decimal(None)),
            Kind::Bytes => json!("bytes"),
            Kind::Fixed(size) => {
                let name = unique(name, &mut self.taken);
                return (json!({ "type": "fixed", "name": name, "size": size }), Form::Fixed);
            }
            Kind::Uuid => return (logical("string", "uuid"), Form::UuidText),
            Kind::Enum => {
                let name = unique(name, &mut self.taken);
                let places = (0..u32::try_from(node.symbols.len()).unwrap_or(u32::MAX)).collect();
                let json = json!({ "type": "enum", "name": name, "symbols": node.symbols });
                return (json, Form::Symbols(places));
            }
            Kind::Date => logical("int", "date"),
            Kind::Time(of) => {
                let base = if of == TimeUnit::Millis { "int" } else { "long" };
                logical(base, &format!("time-{}", unit(of)))
            }
            Kind::Timestamp { unit: of, utc } => {
                let local = if utc { "" } else { "local-" };
                logical("long", &format!("{local}timestamp-{}", unit(of)))
            }
            Kind::Duration => {
                let name = unique(name, &mut self.taken);
                json!({ "type": "fixed", "name": name, "size": 12, "logicalType": "duration" })
            }
            Kind::List => {
                let items = self.node(below, &format!("{name}_element"), false);
                return (json!({ "type": "array", "items": items }), Form::Blocks);
            }
            Kind::Map => {
                let values = self.node(below, &format!("{name}_value"), false);
                return (json!({ "type": "map", "values": values }), Form::Blocks);
            }
            Kind::Struct => self.record(id, name),
            _ => json!("string"),
        };
        (json, Form::Plain)
    }

    fn record(&mut self, id: usize, name: &str) -> Json {
        let name = unique(name, &mut self.taken);
        let (mut fields, mut taken) = (Vec::new(), HashSet::new());
        for &child in &self.plan.node(id).children {
            let node = self.plan.node(child as usize);
            let field = unique(&named(&node.name), &mut taken);
            let json = self.node(child as usize, &format!("{name}_{field}"), false);
            let mut member = json!({ "name": field, "type": json });
            if node.nullable
                && let Some(member) = member.as_object_mut()
            {
                member.insert("default".to_owned(), Json::Null);
            }
            fields.push(member);
        }
        json!({ "type": "record", "name": name, "fields": fields })
    }
}
