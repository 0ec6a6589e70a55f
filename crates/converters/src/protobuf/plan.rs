//! What the walk needs to know of message types, and the columns that they are.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use aqueduct_core::{DataType, Field, Schema, TimeUnit};
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use xxhash_rust::xxh3::xxh3_64;

/// A message type with all it is made of.
#[derive(Debug)]
pub(super) struct Plan {
    /// The first is the root.
    pub(super) messages: Vec<Message>,
    pub(super) schema: Arc<Schema>,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) special: Special,
    /// In the order of the text.
    pub(super) members: Vec<Member>,
    /// Indexes into `members`, ascending by number.
    by_number: Vec<(u32, usize)>,
}

/// Types that are read as more than their fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    None,
    Timestamp,
    Duration,
    /// One scalar that may be absent.
    Wrapper,
    Struct,
    Value,
    List,
    Any,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Box<str>,
    pub(super) kind: Scalar,
    pub(super) presence: Presence,
    /// The oneof it is in: of its members only the last that came counts.
    pub(super) oneof: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Absent is its default.
    Implicit,
    /// Absent is null.
    Explicit,
    Required,
    Repeated,
    /// Of messages of a key and a value.
    Map,
}

/// The kind of one element.
#[derive(Clone, Debug)]
pub(super) enum Scalar {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(Arc<Names>),
    /// An index into [`Plan::messages`].
    Message(usize),
    Group(usize),
}

/// The names of an enum by number.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) by_number: HashMap<i32, Box<str>>,
    pub(super) default: i32,
}

impl Message {
    pub(super) fn index_of(&self, number: u32) -> Option<usize> {
        let at = self.by_number.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.by_number.get(at).map(|(_, index)| *index)
    }
}

impl Plan {
    /// What decides which values bytes are read as: the columns, and how their fields are numbered and encoded.
    pub(super) fn digest(&self) -> u64 {
        let mut text = format!("{:016x}", self.schema.digest());
        for message in &self.messages {
            // The debug forms keep names apart, whatever they hold. Writing to a string cannot fail.
            write!(text, "\n{:?}", message.special).ok();
            let mut numbers = message.by_number.clone();
            numbers.sort_unstable_by_key(|(_, index)| *index);
            for ((number, _), member) in numbers.iter().zip(&message.members) {
                let Member { name, kind, presence, oneof } = member;
                write!(text, "\n {number} {name:?} {presence:?} {oneof:?} ").ok();
                let Scalar::Enum(names) = kind else {
                    write!(text, "{kind:?}").ok();
                    continue;
                };
                let by_number: BTreeMap<_, _> = names.by_number.iter().collect();
                write!(text, "Enum({} {by_number:?})", names.default).ok();
            }
        }
        xxh3_64(text.as_bytes())
    }
}

/// Plans `root`; an error is why it cannot be, in words.
pub(super) fn plan(root: &MessageDescriptor, version: Option<u32>) -> Result<Plan, String> {
    let mut planning = Planning::default();
    planning.message(root)?;
    let mut columns =
        Columns { within: Vec::new(), left: FIELDS_MAX, bytes: NAMES_MAX, docs: HashMap::new() };
    let data_type = columns.message(root)?;
    let mut schema = Schema::new(data_type).with_name(root.full_name());
    if let Some(version) = version {
        schema = schema.with_version(version);
    }
    Ok(Plan { messages: planning.messages, schema: schema.into() })
}

#[derive(Default)]
struct Planning {
    messages: Vec<Message>,
    by_name: HashMap<String, usize>,
    enums: HashMap<String, Arc<Names>>,
    depth: usize,
}

impl Planning {
    fn message(&mut self, message: &MessageDescriptor) -> Result<usize, String> {
        if let Some(index) = self.by_name.get(message.full_name()) {
            return Ok(*index);
        }
        if self.messages.len() >= FIELDS_MAX || self.depth >= TYPES_DEEP_MAX {
            return Err("it is made of too many message types".to_owned());
        }
        let index = self.messages.len();
        self.by_name.insert(message.full_name().to_owned(), index);
        self.messages.push(Message { special: special(message), members: Vec::new(), by_number: Vec::new() });
        self.depth += 1;
        let mut members = Vec::new();
        let mut numbers = Vec::new();
        for field in in_order(message) {
            numbers.push((field.number(), members.len()));
            members.push(self.member(message, &field)?);
        }
        self.depth -= 1;
        numbers.sort_unstable();
        if let Some(planned) = self.messages.get_mut(index) {
            planned.members = members;
            planned.by_number = numbers;
        }
        Ok(index)
    }

    fn member(&mut self, message: &MessageDescriptor, field: &FieldDescriptor) -> Result<Member, String> {
        let kind = match field.kind() {
            Kind::Double => Scalar::Double,
            Kind::Float => Scalar::Float,
            Kind::Int32 => Scalar::Int32,
            Kind::Int64 => Scalar::Int64,
            Kind::Uint32 => Scalar::Uint32,
            Kind::Uint64 => Scalar::Uint64,
            Kind::Sint32 => Scalar::Sint32,
            Kind::Sint64 => Scalar::Sint64,
            Kind::Fixed32 => Scalar::Fixed32,
            Kind::Fixed64 => Scalar::Fixed64,
            Kind::Sfixed32 => Scalar::Sfixed32,
            Kind::Sfixed64 => Scalar::Sfixed64,
            Kind::Bool => Scalar::Bool,
            Kind::String => Scalar::String,
            Kind::Bytes => Scalar::Bytes,
            Kind::Enum(it) => Scalar::Enum(self.names(&it)),
            Kind::Message(it) if field.is_group() => Scalar::Group(self.message(&it)?),
            Kind::Message(it) => Scalar::Message(self.message(&it)?),
        };
        let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        let oneof = oneof.and_then(|oneof| message.oneofs().position(|it| it == oneof));
        Ok(Member { name: field.name().into(), kind, presence: presence(field), oneof })
    }

    fn names(&mut self, of: &EnumDescriptor) -> Arc<Names> {
        if let Some(names) = self.enums.get(of.full_name()) {
            return Arc::clone(names);
        }
        let mut by_number = HashMap::new();
        // Of aliases the first counts.
        for value in of.values() {
            by_number.entry(value.number()).or_insert_with(|| value.name().into());
        }
        let names = Arc::new(Names { by_number, default: of.default_value().number() });
        self.enums.insert(of.full_name().to_owned(), Arc::clone(&names));
        names
    }
}

/// Fields as the text has them.
fn in_order(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(|field| field.path().last().copied());
    fields
}

fn presence(field: &FieldDescriptor) -> Presence {
    if field.is_map() {
        Presence::Map
    } else if field.is_list() {
        Presence::Repeated
    } else if field.cardinality() == Cardinality::Required {
        Presence::Required
    } else if field.supports_presence() {
        Presence::Explicit
    } else {
        Presence::Implicit
    }
}

/// By its name, if it is in Google's own file: a schema may call a type of its own the same. Imports of these files are Google's
/// whatever the registry has.
fn special(message: &MessageDescriptor) -> Special {
    if !GOOGLE_FILES.contains(&message.parent_file().name()) {
        return Special::None;
    }
    match message.full_name().strip_prefix("google.protobuf.") {
        Some("Timestamp") => Special::Timestamp,
        Some("Duration") => Special::Duration,
        Some("Struct") => Special::Struct,
        Some("Value") => Special::Value,
        Some("ListValue") => Special::List,
        Some("Any") => Special::Any,
        Some(
            "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
            | "BoolValue" | "StringValue" | "BytesValue",
        ) => Special::Wrapper,
        _ => Special::None,
    }
}

/// Makes columns of message types.
struct Columns {
    /// The messages that are being looked at: one that comes back to itself has no end.
    within: Vec<String>,
    left: usize,
    /// Of names and comments that may still come: a message is written out wherever it is a field.
    bytes: usize,
    /// Comments by file and path.
    docs: HashMap<String, HashMap<Vec<i32>, String>>,
}

impl Columns {
    fn message(&mut self, message: &MessageDescriptor) -> Result<DataType, String> {
        match special(message) {
            Special::None => {}
            Special::Timestamp => return Ok(DataType::Timestamp { unit: TimeUnit::Micros, utc: true }),
            Special::Duration => return Ok(DataType::Decimal { precision: DURATION_DIGITS, scale: 9 }),
            Special::Wrapper => {
                let value = message.get_field(1).ok_or("a wrapper has no value")?;
                // Google's hold scalars; a descriptor set may have other files under their names.
                return match value.kind() {
                    Kind::Message(_) => Err("a wrapper holds a message".to_owned()),
                    _ => self.element(&value),
                };
            }
            Special::Struct | Special::Value | Special::List | Special::Any => return Ok(DataType::Json),
        }
        let is_within = self.within.iter().any(|name| name == message.full_name());
        // No format has structs without members.
        if is_within || self.within.len() >= DEPTH_MAX || message.fields().len() == 0 {
            return Ok(DataType::Json);
        }
        self.within.push(message.full_name().to_owned());
        let mut fields = Vec::new();
        for member in in_order(message) {
            self.left =
                self.left.checked_sub(1).ok_or_else(|| format!("it has more than {FIELDS_MAX} fields"))?;
            fields.push(self.field(&member)?);
        }
        self.within.pop();
        Ok(DataType::Struct(fields))
    }

    fn field(&mut self, member: &FieldDescriptor) -> Result<Field, String> {
        let presence = presence(member);
        let data_type = match (presence, member.kind()) {
            (Presence::Map, Kind::Message(entry)) => {
                let value = entry.map_entry_value_field();
                DataType::Map(Box::new(inner(self.element(&value)?)))
            }
            (Presence::Repeated, _) => DataType::List(Box::new(inner(self.element(member)?))),
            _ => self.element(member)?,
        };
        let mut field = Field::new(member.name(), data_type);
        if presence == Presence::Explicit || *field.data_type() == DataType::Json {
            field = field.nullable();
        }
        self.pay(member.name().len())?;
        if let Some(doc) = self.doc(member) {
            self.pay(doc.len())?;
            field = field.with_doc(doc);
        }
        Ok(field)
    }

    fn pay(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes =
            left.ok_or_else(|| format!("it has more than {NAMES_MAX} bytes of names and comments"))?;
        Ok(())
    }

    fn element(&mut self, field: &FieldDescriptor) -> Result<DataType, String> {
        Ok(match field.kind() {
            Kind::Double => DataType::Float64,
            Kind::Float => DataType::Float32,
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => DataType::Int32,
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => DataType::Int64,
            Kind::Uint32 | Kind::Fixed32 => DataType::UInt32,
            Kind::Uint64 | Kind::Fixed64 => DataType::UInt64,
            Kind::Bool => DataType::Bool,
            // A number that a later version of the enum has names for is text like the others.
            Kind::String | Kind::Enum(_) => DataType::String,
            Kind::Bytes => DataType::Bytes,
            Kind::Message(message) => self.message(&message)?,
        })
    }

    /// The comment in front of a field, or behind it.
    fn doc(&mut self, field: &FieldDescriptor) -> Option<String> {
        let file = field.parent_file();
        let docs = self.docs.entry(file.name().to_owned()).or_insert_with(|| comments(&file));
        docs.get(field.path()).cloned()
    }
}

/// An element of a list or a value of a map.
fn inner(data_type: DataType) -> Field {
    let is_json = data_type == DataType::Json;
    let field = Field::new("", data_type);
    if is_json { field.nullable() } else { field }
}

fn comments(file: &FileDescriptor) -> HashMap<Vec<i32>, String> {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let locations = info.map(|info| info.location.as_slice()).unwrap_or_default();
    let comment = |text: Option<&String>| {
        let lines: Vec<&str> = text?.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        (!lines.is_empty()).then(|| lines.join(" "))
    };
    let commented = locations.iter().filter_map(|location| {
        let text = comment(location.leading_comments.as_ref())
            .or_else(|| comment(location.trailing_comments.as_ref()));
        Some((location.path.clone(), text?))
    });
    commented.collect()
}

/// Where the types are that are read as more than their fields.
const GOOGLE_FILES: [&str; 5] = [
    "google/protobuf/any.proto",
    "google/protobuf/duration.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/timestamp.proto",
    "google/protobuf/wrappers.proto",
];
/// Fields with those of all messages within, and message types.
const FIELDS_MAX: usize = 10_000;
/// Bytes of names and comments with those of all messages within.
const NAMES_MAX: usize = 4 << 20;
/// Message types that lead to each other.
const TYPES_DEEP_MAX: usize = 256;
/// Levels that become columns of their own; what is deeper is JSON.
const DEPTH_MAX: usize = 64;
/// Twelve of seconds, nine behind the point.
const DURATION_DIGITS: u32 = 21;
