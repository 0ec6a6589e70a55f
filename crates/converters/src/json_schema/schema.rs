//! JSON Schema into columns.

use std::collections::HashSet;

use aqueduct_core::{DataType, Field, Schema, TimeUnit};

use super::documents::{Documents, Index};
use super::text::Node;
use crate::registry::{RegisteredSchema, SchemaKind};
use crate::shape::{Kind, Members, Pairs, Parsed, Shape};

/// Reads a schema with what it refers to; an error is why it cannot be used, in words.
pub(super) fn registered(schema: &RegisteredSchema, version: Option<u32>) -> Result<Parsed, String> {
    if schema.kind != SchemaKind::Json {
        return Err(format!("it is {}, not JSON Schema", schema.kind));
    }
    let documents = Documents::read(schema)?;
    let index = Index::of(&documents)?;
    let root = &documents.own;
    let mut reading =
        Reading { index: &index, resource: 0, within: Vec::new(), left: FIELDS_MAX, bytes: NAMES_MAX };
    let (shape, field) = reading.read(root, "")?;
    let mut schema = Schema::of_root(field);
    if let Some(title) = root.text("title").filter(|title| logical(title).is_none()) {
        schema = schema.with_name(title);
    }
    if let Some(version) = version {
        schema = schema.with_version(version);
    }
    Ok(Parsed { shape, schema: schema.into() })
}

struct Reading<'r> {
    index: &'r Index<'r>,
    /// The one that what is being read is part of: references in it are relative to that.
    resource: usize,
    /// The schemas that are being read, the innermost last: one that comes back to one of them has no end.
    within: Vec<*const Node>,
    /// Fields that may still come, and bytes of their names: references multiply.
    left: usize,
    bytes: usize,
}

impl<'r> Reading<'r> {
    fn read(&mut self, node: &'r Node, name: &str) -> Result<(Shape, Field), String> {
        self.read_in(self.resource, node, name)
    }

    /// Reads what stands in `resource`, if no other begins with it.
    fn read_in(&mut self, resource: usize, node: &'r Node, name: &str) -> Result<(Shape, Field), String> {
        self.left =
            self.left.checked_sub(1).ok_or_else(|| format!("it has more than {FIELDS_MAX} fields"))?;
        // What is looked through is so as often as it is referred to.
        let members = if let Node::Object(members) = node { members.len() } else { 0 };
        self.pay(name.len().saturating_add(members))?;
        let address = std::ptr::from_ref(node);
        if self.within.contains(&address) || self.within.len() >= DEPTH_MAX {
            return Ok(anything(name));
        }
        self.within.push(address);
        let here = std::mem::replace(&mut self.resource, self.index.begun_by(node).unwrap_or(resource));
        let read = self.described(node, name);
        self.resource = here;
        self.within.pop();
        let (shape, field) = read?;
        match node.text("description").or_else(|| node.text("connect.doc")) {
            Some(doc) => {
                self.pay(doc.len())?;
                Ok((shape, field.with_doc(doc)))
            }
            None => Ok((shape, field)),
        }
    }

    fn pay(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| {
            format!("with all that references repeat it has more than {NAMES_MAX} bytes of names")
        })?;
        Ok(())
    }

    fn described(&mut self, node: &'r Node, name: &str) -> Result<(Shape, Field), String> {
        if let Some(reference) = node.text("$ref") {
            self.pay(reference.len())?;
            // What the registry does not have may be anything.
            return match self.index.follow(self.resource, reference) {
                Some((resource, node)) => self.read_in(resource, node, name),
                None => Ok(anything(name)),
            };
        }
        if let Some([only]) = node.list("allOf")
            && node.get("properties").is_none()
        {
            return self.read(only, name);
        }
        if let Some(branches) = node.list("oneOf").or_else(|| node.list("anyOf")) {
            self.pay(branches.len())?;
            let mut others = branches.iter().filter(|branch| branch.text("type") != Some("null"));
            return match (others.next(), others.next()) {
                (Some(only), None) => {
                    let (shape, field) = self.read(only, name)?;
                    Ok(if branches.len() > 1 { nullable(shape, field) } else { (shape, field) })
                }
                _ => Ok(anything(name)),
            };
        }
        self.pay(node.list("type").map_or(0, <[_]>::len))?;
        let (kind, or_null) = kind_of(node);
        let (kind, data_type) = self.kind(node, kind)?;
        let read = (Shape::new(kind), Field::new(name, data_type));
        Ok(if or_null || matches!(read.0.kind, Kind::Json) { nullable(read.0, read.1) } else { read })
    }

    fn kind(&mut self, node: &'r Node, kind: Option<&str>) -> Result<(Kind, DataType), String> {
        let names = node.list("enum").or_else(|| node.get("const").map(std::slice::from_ref));
        if let Some(names) = names {
            for name in names {
                self.pay(TEXT_BYTES.saturating_add(if let Node::Text(name) = name {
                    name.len()
                } else {
                    0
                }))?;
            }
            return Ok(enumeration(names));
        }
        let connect = node.text("connect.type");
        let whole = |min: i64, max: i64, data_type| (Kind::Whole { min, max }, data_type);
        Ok(match (kind, node.text("title").and_then(logical), connect) {
            (Some("string" | "number"), Some("Decimal"), _) => decimal(node)?,
            (Some("integer"), Some("Date"), _) => (Kind::Days, DataType::Date),
            (Some("integer"), Some("Time"), _) => (Kind::MillisOfDay, DataType::Time(TimeUnit::Millis)),
            (Some("integer"), Some("Timestamp"), _) => {
                (Kind::Millis, DataType::Timestamp { unit: TimeUnit::Millis, utc: true })
            }
            (Some("boolean"), ..) => (Kind::Bool, DataType::Bool),
            (Some("integer"), _, Some("int8")) => whole(i8::MIN.into(), i8::MAX.into(), DataType::Int8),
            (Some("integer"), _, Some("int16")) => whole(i16::MIN.into(), i16::MAX.into(), DataType::Int16),
            (Some("integer"), _, Some("int32")) => whole(i32::MIN.into(), i32::MAX.into(), DataType::Int32),
            (Some("integer"), ..) => whole(i64::MIN, i64::MAX, DataType::Int64),
            (Some("number"), _, Some("float32")) => (Kind::F32, DataType::Float32),
            (Some("number"), ..) => (Kind::F64, DataType::Float64),
            (Some("string"), _, Some("bytes")) => (Kind::Bytes, DataType::Bytes),
            (Some("string"), ..) => text(node),
            (Some("array"), _, Some("map")) => self.pairs(node)?,
            (Some("array"), ..) => match node.get("items") {
                Some(items @ Node::Object(_)) => {
                    let (shape, field) = self.read(items, "")?;
                    (Kind::List(Box::new(shape)), DataType::List(Box::new(field)))
                }
                _ => (Kind::Json, DataType::Json),
            },
            (Some("object"), ..) => self.object(node)?,
            _ => (Kind::Json, DataType::Json),
        })
    }

    fn object(&mut self, node: &'r Node) -> Result<(Kind, DataType), String> {
        let others = node.get("additionalProperties");
        let Some(Node::Object(properties)) = node.get("properties") else {
            return match others {
                Some(values @ Node::Object(_)) => {
                    let (shape, field) = self.read(values, "")?;
                    Ok((Kind::Map(Box::new(shape)), DataType::Map(Box::new(field))))
                }
                _ => Ok((Kind::Json, DataType::Json)),
            };
        };
        let required = node.list("required").unwrap_or_default();
        self.pay(required.len())?;
        let required: HashSet<&str> = required
            .iter()
            .filter_map(|name| if let Node::Text(name) = name { Some(name.as_str()) } else { None })
            .collect();
        let mut ordered: Vec<_> = properties.iter().collect();
        // Confluent's converters write down where a member stood.
        ordered.sort_by(|(_, one), (_, other)| index(one).total_cmp(&index(other)));
        let (mut members, mut fields) = (Vec::new(), Vec::new());
        for (name, property) in ordered {
            let mut read = self.read(property, name)?;
            if !required.contains(name.as_str()) {
                read = nullable(read.0, read.1);
            }
            members.push((name.as_str().into(), read.0));
            fields.push(read.1);
        }
        let closed = others == Some(&Node::Bool(false));
        let members = Members::new(members, closed).ok_or("an object has a property twice")?;
        Ok((Kind::Struct(members), DataType::Struct(fields)))
    }

    /// A map whose keys are no text: a list of objects of `key` and `value`.
    fn pairs(&mut self, node: &'r Node) -> Result<(Kind, DataType), String> {
        let part = |name: &str| node.get("items")?.get("properties")?.get(name);
        let (Some(key), Some(value)) = (part("key"), part("value")) else {
            return Ok((Kind::Json, DataType::Json));
        };
        let (key, _) = self.read(key, "")?;
        let (value, field) = self.read(value, "")?;
        if matches!(
            key.kind,
            Kind::Json | Kind::List(_) | Kind::Map(_) | Kind::Pairs { .. } | Kind::Struct(_)
        ) {
            return Ok((Kind::Json, DataType::Json));
        }
        let kind = Kind::Pairs { key: Box::new(key), value: Box::new(value), spelled: Pairs::Objects };
        Ok((kind, DataType::Map(Box::new(field))))
    }
}

fn anything(name: &str) -> (Shape, Field) {
    nullable(Shape::new(Kind::Json), Field::new(name, DataType::Json))
}

fn nullable(mut shape: Shape, field: Field) -> (Shape, Field) {
    shape.nullable = true;
    (shape, field.nullable())
}

/// The one type that a value has, and whether it may be null as well.
fn kind_of(node: &Node) -> (Option<&str>, bool) {
    match node.get("type") {
        Some(Node::Text(kind)) => (Some(kind.as_str()), false),
        Some(Node::List(kinds)) => {
            let names = kinds
                .iter()
                .filter_map(|kind| if let Node::Text(kind) = kind { Some(&**kind) } else { None });
            let mut others: Vec<&str> = names.filter(|kind| *kind != "null").collect();
            let or_null = others.len() < kinds.len();
            // A whole number is a number.
            if others.contains(&"number") {
                others.retain(|kind| *kind != "integer");
            }
            (if let [only] = others[..] { Some(only) } else { None }, or_null)
        }
        _ if node.get("properties").is_some() => (Some("object"), false),
        _ if node.get("items").is_some() => (Some("array"), false),
        _ => (None, false),
    }
}

fn enumeration(names: &[Node]) -> (Kind, DataType) {
    let texts: Option<Vec<String>> = names
        .iter()
        .map(|name| if let Node::Text(name) = name { Some(name.clone()) } else { None })
        .collect();
    match texts {
        Some(names) if !names.is_empty() => (Kind::Enum(names.clone()), DataType::Enum(names)),
        // Other constants are columns only if somebody says of which type.
        _ => (Kind::Json, DataType::Json),
    }
}

fn text(node: &Node) -> (Kind, DataType) {
    match (node.text("format"), node.text("contentEncoding")) {
        (_, Some("base64")) => (Kind::Bytes, DataType::Bytes),
        (Some("date"), _) => (Kind::DateText, DataType::Date),
        (Some("time"), _) => (Kind::TimeText, DataType::Time(TimeUnit::Micros)),
        (Some("date-time"), _) => {
            (Kind::TimestampText, DataType::Timestamp { unit: TimeUnit::Micros, utc: true })
        }
        (Some("uuid"), _) => (Kind::Uuid, DataType::Uuid),
        _ => (Kind::Str, DataType::String),
    }
}

/// As Confluent's converter writes it: the digits stand in parameters, as text.
fn decimal(node: &Node) -> Result<(Kind, DataType), String> {
    let parameter = |name: &str| node.get("connect.parameters")?.text(name)?.parse::<u32>().ok();
    let scale = parameter("scale").filter(|scale| *scale <= SCALE_MAX);
    let scale = scale.ok_or("a decimal needs the parameter \"scale\", from 0 to 76")?;
    let precision = parameter("connect.decimal.precision").filter(|precision| *precision >= scale);
    let precision = precision.unwrap_or_else(|| PRECISION.max(scale));
    Ok((Kind::Decimal { scale }, DataType::Decimal { precision, scale }))
}

fn logical(title: &str) -> Option<&str> {
    title.strip_prefix("org.apache.kafka.connect.data.")
}

fn index(property: &Node) -> f64 {
    match property.get("connect.index") {
        Some(Node::Number(index)) => *index,
        _ => f64::MAX,
    }
}

/// Fields with all that references repeat.
const FIELDS_MAX: usize = 10_000;
/// Bytes of names, symbols, descriptions and references with all that references repeat; a keyword, and whatever else is only looked
/// at, counts as one.
const NAMES_MAX: usize = 4 << 20;
/// What a symbol takes beside its bytes.
const TEXT_BYTES: usize = size_of::<String>();
/// Levels that become columns of their own; what is deeper is JSON.
const DEPTH_MAX: usize = 64;
/// Digits behind the point of a decimal, which are all written.
const SCALE_MAX: u32 = 76;
/// Digits of a decimal whose schema does not say: what columns hold.
const PRECISION: u32 = 38;
