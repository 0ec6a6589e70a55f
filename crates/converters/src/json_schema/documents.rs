//! The documents of a schema: its own, those that the registry lists as its references, and those that stand within others.
//!
//! A `$ref` names a document by a URI, relative to that of the document it stands in (`$id`, or where the document came from), and
//! a place in it by a JSON pointer or an anchor: JSON Schema, Core, "Identifiers" and "References". Here documents come from the
//! registry alone: a reference's name is the URI it is known by, relative to the schema's own, as Confluent's serializer has it. A
//! name that is not found so is taken word for word. Nothing is ever fetched by its URI.

use std::collections::{HashMap, HashSet};

use percent_encoding::percent_decode_str;
use url::Url;

use super::text::Node;
use crate::registry::RegisteredSchema;

/// The texts, read.
#[derive(Debug)]
pub(super) struct Documents {
    /// The schema's own.
    pub(super) own: Node,
    /// Those it refers to, by name.
    others: Vec<(String, Node)>,
}

impl Documents {
    pub(super) fn read(schema: &RegisteredSchema) -> Result<Self, String> {
        let references = schema.references.iter().map(|it| it.name.len().saturating_add(it.text.len()));
        let bytes = references.fold(schema.text.len(), usize::saturating_add);
        if bytes > TEXT_MAX {
            return Err(format!("with what it refers to it has {bytes} bytes, the limit is {TEXT_MAX}"));
        }
        let own = serde_json::from_str(&schema.text).map_err(|error| format!("it is no json: {error}"))?;
        let (mut others, mut names) = (Vec::new(), HashSet::new());
        // One that two refer to is there twice.
        for reference in schema.references.iter().filter(|it| names.insert(&it.name)) {
            let read = serde_json::from_str(&reference.text);
            let node = read.map_err(|error| {
                let shown: String = reference.name.chars().take(NAME_SHOWN).collect();
                format!("what it refers to as {shown:?} is no json: {error}")
            })?;
            others.push((reference.name.clone(), node));
        }
        Ok(Self { own, others })
    }
}

/// Where references lead.
#[derive(Debug)]
pub(super) struct Index<'d> {
    resources: Vec<Resource<'d>>,
    by_uri: HashMap<String, usize>,
    by_name: HashMap<&'d str, usize>,
    by_node: HashMap<*const Node, usize>,
    anchors: HashMap<(usize, &'d str), &'d Node>,
}

/// A document, or a part of one that has a URI of its own.
#[derive(Debug)]
struct Resource<'d> {
    node: &'d Node,
    /// The document it is a part of, or itself.
    document: usize,
    uri: Url,
}

impl<'d> Index<'d> {
    pub(super) fn of(documents: &'d Documents) -> Result<Self, String> {
        let mut index = Self {
            resources: Vec::new(),
            by_uri: HashMap::new(),
            by_name: HashMap::new(),
            by_node: HashMap::new(),
            anchors: HashMap::new(),
        };
        let nowhere = Url::parse(NOWHERE).map_err(|error| error.to_string())?;
        let own = index.document(&documents.own, nowhere.clone())?;
        let around = index.resources.get(own).map_or(nowhere, |own| own.uri.clone());
        for (name, node) in &documents.others {
            let uri = join(&around, name).unwrap_or_else(|| around.clone());
            let document = index.document(node, uri)?;
            index.by_name.insert(name, document);
        }
        Ok(index)
    }

    /// The resource of what a reference that stands in `from` leads to, and that itself.
    pub(super) fn follow(&self, from: usize, reference: &str) -> Option<(usize, &'d Node)> {
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let resource = if uri.is_empty() {
            from
        } else {
            let joined = join(&self.resources.get(from)?.uri, uri);
            let found = joined.and_then(|uri| self.by_uri.get(uri.as_str()));
            *found.or_else(|| self.by_name.get(uri))?
        };
        let to = self.resources.get(resource)?;
        let fragment = percent_decode_str(fragment).decode_utf8().ok()?;
        if fragment.is_empty() {
            return Some((resource, to.node));
        }
        let Some(pointer) = fragment.strip_prefix('/') else {
            return self.anchors.get(&(resource, &*fragment)).map(|node| (resource, *node));
        };
        // Many that give each part an `$id` point at the whole document all the same.
        self.point(resource, pointer).or_else(|| self.point(to.document, pointer))
    }

    /// The resource that begins with this node, if one does.
    pub(super) fn begun_by(&self, node: &Node) -> Option<usize> {
        self.by_node.get(&std::ptr::from_ref(node)).copied()
    }

    fn point(&self, resource: usize, pointer: &str) -> Option<(usize, &'d Node)> {
        let start = (resource, self.resources.get(resource)?.node);
        pointer.split('/').try_fold(start, |(resource, node), name| {
            let name = name.replace("~1", "/").replace("~0", "~");
            let next = match node {
                Node::List(list) => list.get(name.parse::<usize>().ok()?)?,
                _ => node.get(&name)?,
            };
            Some((self.begun_by(next).unwrap_or(resource), next))
        })
    }

    /// Takes in a document that came from `uri`.
    fn document(&mut self, node: &'d Node, uri: Url) -> Result<usize, String> {
        // Of draft 4 and before; later ones have `id` as a name of a property only.
        let is_early =
            node.text("$schema").is_some_and(|it| it.contains("draft-04") || it.contains("draft-03"));
        let keyword = if is_early { "id" } else { "$id" };
        let own = node.text(keyword).and_then(|id| join(&uri, id)).unwrap_or_else(|| uri.clone());
        let document = self.put(node, self.resources.len(), own)?;
        self.by_uri.entry(uri.into()).or_insert(document);
        self.parts(node, document, keyword)?;
        Ok(document)
    }

    fn put(&mut self, node: &'d Node, document: usize, uri: Url) -> Result<usize, String> {
        let resource = self.resources.len();
        if resource >= RESOURCES_MAX {
            return Err(format!("with what it refers to it is more than {RESOURCES_MAX} documents"));
        }
        // Of two under one URI the first counts, and the schema's own is that.
        self.by_uri.entry(uri.as_str().to_owned()).or_insert(resource);
        self.by_node.insert(std::ptr::from_ref(node), resource);
        self.resources.push(Resource { node, document, uri });
        Ok(resource)
    }

    /// Looks for what has a name within `node`, which is of `resource`. No deeper than JSON was read.
    fn parts(&mut self, node: &'d Node, resource: usize, keyword: &str) -> Result<(), String> {
        let Node::Object(members) = node else { return Ok(()) };
        if let Some(anchor) = node.text("$anchor") {
            self.anchors.insert((resource, anchor), node);
        }
        for (name, member) in members {
            match (name.as_str(), member) {
                // Values, not schemas.
                ("enum" | "const" | "default" | "examples", _) => {}
                (
                    "properties" | "patternProperties" | "definitions" | "$defs" | "dependencies"
                    | "dependentSchemas",
                    Node::Object(schemas),
                ) => {
                    for (_, schema) in schemas {
                        self.part(schema, resource, keyword)?;
                    }
                }
                (_, Node::List(schemas)) => {
                    for schema in schemas {
                        self.part(schema, resource, keyword)?;
                    }
                }
                (_, schema) => self.part(schema, resource, keyword)?,
            }
        }
        Ok(())
    }

    fn part(&mut self, node: &'d Node, around: usize, keyword: &str) -> Result<(), String> {
        let mut resource = around;
        if let Some(id) = node.text(keyword) {
            if let Some(anchor) = id.strip_prefix('#') {
                self.anchors.insert((resource, anchor), node);
            } else if let Some(around) = self.resources.get(around)
                && let Some(uri) = join(&around.uri, id)
            {
                resource = self.put(node, around.document, uri)?;
            }
        }
        self.parts(node, resource, keyword)
    }
}

/// Without a fragment, and of bounded length.
fn join(base: &Url, reference: &str) -> Option<Url> {
    if reference.len() > URI_MAX {
        return None;
    }
    let mut uri = base.join(reference).ok()?;
    uri.set_fragment(None);
    (uri.as_str().len() <= URI_MAX).then_some(uri)
}

/// Where a schema without an `$id` is.
const NOWHERE: &str = "registry:///";
/// Bytes of the texts and names together.
const TEXT_MAX: usize = 1 << 20;
/// Documents, with the parts of them that have a URI.
const RESOURCES_MAX: usize = 1_000;
/// Bytes of a URI.
const URI_MAX: usize = 2_048;
/// Characters of a reference's name in a message.
const NAME_SHOWN: usize = 100;
