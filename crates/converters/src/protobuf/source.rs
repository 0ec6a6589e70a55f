//! Message types from the text of `.proto` files and from descriptor sets.

use std::collections::HashMap;
use std::sync::Arc;

use aqueduct_core::{Poison, PoisonReason};
use arc_swap::ArcSwap;
use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::plan::{Plan, plan};
use crate::registry::wire::MessageIndexes;
use crate::registry::{RegisteredSchema, SchemaKind};

/// The message types of one file, planned when a record is of them.
#[derive(Debug)]
pub(super) struct FileTypes {
    file: FileDescriptor,
    version: Option<u32>,
    plans: ArcSwap<Vec<Planned>>,
}

/// The indexes of a message type, and its plan.
type Planned = (Box<[u32]>, Result<Arc<Plan>, Poison>);

impl FileTypes {
    pub(super) fn registered(schema: &RegisteredSchema, version: Option<u32>) -> Result<Self, String> {
        if schema.kind != SchemaKind::Protobuf {
            return Err(format!("it is {}, not Protobuf", schema.kind));
        }
        let references = schema.references.iter().map(|it| (it.name.clone(), it.text.clone()));
        let file = compile(&schema.text, references.collect())?;
        Ok(Self { file, version, plans: ArcSwap::default() })
    }

    /// The message type that a record's indexes lead to. Reading takes no lock.
    pub(super) fn plan(&self, indexes: MessageIndexes<'_>) -> Result<Arc<Plan>, Poison> {
        let plans = self.plans.load();
        let known = plans.iter().find(|(path, _)| indexes.iter().eq(path.iter().copied()));
        if let Some((_, planned)) = known {
            return planned.clone();
        }
        let path: Box<[u32]> = indexes.iter().collect();
        let message = self.message(&path).ok_or_else(|| {
            Poison::new(
                PoisonReason::Malformed,
                "the record's schema has no message at the indexes of the record",
            )
        })?;
        let planned = plan(&message, self.version).map(Arc::new).map_err(|why| {
            let text = format!("the message type {} cannot be used: {why}", message.full_name());
            Poison::new(PoisonReason::Malformed, text)
        });
        self.plans.rcu(|plans| {
            let mut plans = Vec::clone(plans);
            // Only what the schema has comes here, so it is as bounded as its text.
            if plans.iter().all(|(known, _)| *known != path) {
                plans.push((path.clone(), planned.clone()));
            }
            plans
        });
        planned
    }

    fn message(&self, path: &[u32]) -> Option<MessageDescriptor> {
        let (first, rest) = path.split_first()?;
        let root = self.file.messages().nth(usize::try_from(*first).ok()?)?;
        rest.iter().try_fold(root, |message, index| {
            // The types behind maps are nobody's to write, and Confluent's serializer does not count them.
            let mut children = message.child_messages().filter(|child| !child.is_map_entry());
            children.nth(usize::try_from(*index).ok()?)
        })
    }
}

/// Compiles a file with those that it imports.
pub(super) fn compile(text: &str, imports: HashMap<String, String>) -> Result<FileDescriptor, String> {
    let bytes: usize = imports.values().map(String::len).sum::<usize>() + text.len();
    if bytes > TEXT_MAX {
        return Err(format!("with what it imports it has {bytes} bytes, the limit is {TEXT_MAX}"));
    }
    for text in imports.values().map(String::as_str).chain([text]) {
        if nesting(text) > NESTING_MAX {
            return Err(format!("it nests deeper than {NESTING_MAX} levels"));
        }
    }
    let mut texts = Texts(imports);
    texts.0.insert(MAIN.to_owned(), text.to_owned());
    let mut files = ChainFileResolver::new();
    files.add(GoogleFileResolver::new());
    files.add(texts);
    files.add(Texts(KNOWN.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()));
    let mut compiler = Compiler::with_file_resolver(files);
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file(MAIN).map_err(|error| format!("it does not compile: {error}"))?;
    compiler.descriptor_pool().get_file_by_name(MAIN).ok_or_else(|| "it does not compile".to_owned())
}

/// The message type of that name, with or without the package.
pub(super) fn in_file(file: &FileDescriptor, name: &str) -> Result<MessageDescriptor, String> {
    let pool = file.parent_pool();
    let full = format!("{}.{name}", file.package_name());
    let found = pool.get_message_by_name(name).or_else(|| pool.get_message_by_name(&full));
    found.ok_or_else(|| format!("it has no message {name:?}"))
}

/// The message type of that full name in an encoded `FileDescriptorSet`.
pub(super) fn in_set(set: &[u8], name: &str) -> Result<MessageDescriptor, String> {
    let pool = DescriptorPool::decode(set).map_err(|error| format!("it is no descriptor set: {error}"))?;
    pool.get_message_by_name(name).ok_or_else(|| format!("it has no message {name:?}"))
}

struct Texts(HashMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }

    fn resolve_path(&self, path: &std::path::Path) -> Option<String> {
        let name = path.to_str()?;
        self.0.contains_key(name).then(|| name.to_owned())
    }
}

/// How deep brackets nest outside of comments and texts: the compiler goes down as deep as they do.
fn nesting(text: &str) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        match (byte, rest.peek()) {
            (b'/', Some(b'/')) => {
                rest.by_ref().find(|byte| *byte == b'\n');
            }
            (b'/', Some(b'*')) => {
                rest.next();
                let mut before = 0;
                for byte in rest.by_ref() {
                    if (before, byte) == (b'*', b'/') {
                        break;
                    }
                    before = byte;
                }
            }
            (quote @ (b'"' | b'\''), _) => {
                while let Some(byte) = rest.next() {
                    match byte {
                        b'\\' => {
                            rest.next();
                        }
                        b'\n' => break,
                        byte if byte == quote => break,
                        _ => {}
                    }
                }
            }
            (b'{' | b'[' | b'(' | b'<', _) => {
                depth += 1;
                most = most.max(depth);
            }
            (b'}' | b']' | b')' | b'>', _) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// The name of the file itself.
const MAIN: &str = "aqueduct/schema.proto";
/// Bytes of a schema with all that it imports.
const TEXT_MAX: usize = 1 << 20;
/// Brackets within brackets.
const NESTING_MAX: usize = 64;

/// What Confluent's serializers take for granted: such imports are no references in the registry.
const KNOWN: [(&str, &str); 4] = [
    (
        "confluent/meta.proto",
        r#"syntax = "proto3";
        package confluent;
        import "google/protobuf/descriptor.proto";
        message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
        extend google.protobuf.FileOptions { Meta file_meta = 1088; }
        extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
        extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
        extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
        extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }"#,
    ),
    (
        "confluent/type/decimal.proto",
        r#"syntax = "proto3";
        package confluent.type;
        message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }"#,
    ),
    (
        "google/type/date.proto",
        r#"syntax = "proto3";
        package google.type;
        message Date { int32 year = 1; int32 month = 2; int32 day = 3; }"#,
    ),
    (
        "google/type/timeofday.proto",
        r#"syntax = "proto3";
        package google.type;
        message TimeOfDay { int32 hours = 1; int32 minutes = 2; int32 seconds = 3; int32 nanos = 4; }"#,
    ),
];
