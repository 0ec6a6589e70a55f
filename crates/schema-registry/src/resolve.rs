//! Schemas that refer to others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aqueduct_converters::registry::{Reference, SchemaKind};

use crate::answer::{ReferenceTo, SchemaText};
use crate::client::fetch;
use crate::error::RegistryError;
use crate::http::{Ask, Http};

/// What a schema may refer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReferenceLimits {
    pub(crate) count: usize,
    pub(crate) depth: usize,
    pub(crate) bytes: usize,
}

impl Default for ReferenceLimits {
    fn default() -> Self {
        Self { count: 500, depth: 32, bytes: 16 << 20 }
    }
}

/// A schema whose references are being fetched.
struct Open {
    /// `None` for the schema that was asked for.
    at: Option<(ReferenceTo, Arc<str>)>,
    /// Those to come, the first one last.
    to_come: Vec<ReferenceTo>,
}

/// Fetches everything that `references` lead to, each behind what it refers to itself; `Err` inside says why that is refused.
///
/// The texts are fetched once per subject and version. Deleted ones are asked for, too: a registry keeps them for their ids, and a
/// record that was written before does not care.
pub(crate) async fn resolve(
    http: &Http,
    limits: ReferenceLimits,
    kind: SchemaKind,
    text: &str,
    references: Vec<ReferenceTo>,
) -> Result<Result<Vec<Reference>, String>, RegistryError> {
    let mut resolved = Vec::new();
    let mut done = HashSet::new();
    let mut texts: HashMap<(String, u32), (Arc<str>, Vec<ReferenceTo>)> = HashMap::new();
    let mut bytes = text.len();
    if bytes > limits.bytes {
        return Ok(Err(format!("it has more than {} bytes", limits.bytes)));
    }
    let mut open = vec![Open { at: None, to_come: references.into_iter().rev().collect() }];
    while let Some(last) = open.last_mut() {
        let Some(next) = last.to_come.pop() else {
            if let Some(Open { at: Some((to, text)), .. }) = open.pop() {
                let ReferenceTo { name, subject, version } = to;
                resolved.push(Reference { name, subject, version, text: text.as_ref().to_owned() });
            }
            continue;
        };
        let is_next = |it: &Open| {
            it.at.as_ref().is_some_and(|(at, _)| (&at.subject, at.version) == (&next.subject, next.version))
        };
        if open.iter().any(is_next) {
            return Ok(Err(format!(
                "it refers to {} version {} from within",
                shown(&next.subject),
                next.version
            )));
        }
        if done.contains(&next) {
            continue;
        }
        if done.len() >= limits.count {
            return Ok(Err(format!("it refers to more than {} schemas", limits.count)));
        }
        if open.len() > limits.depth {
            return Ok(Err(format!("its references are more than {} deep", limits.depth)));
        }
        let key = (next.subject.clone(), next.version);
        if !texts.contains_key(&key) {
            let found = fetch_version(http, &next).await?;
            if found.kind() != Some(kind) {
                let other = found.kind_name();
                return Ok(Err(format!("it is of kind {kind} and refers to a schema of kind {other:?}")));
            }
            let (text, references) = found.into_parts();
            texts.insert(key.clone(), (text.into(), references));
        }
        let Some((text, references)) = texts.get(&key).cloned() else { continue };
        // What two names stand for is there twice.
        bytes = bytes.saturating_add(text.len());
        if bytes > limits.bytes {
            return Ok(Err(format!("it and what it refers to have more than {} bytes", limits.bytes)));
        }
        done.insert(next.clone());
        open.push(Open { at: Some((next, text)), to_come: references.into_iter().rev().collect() });
    }
    Ok(Ok(resolved))
}

async fn fetch_version(http: &Http, reference: &ReferenceTo) -> Result<SchemaText, RegistryError> {
    let version = reference.version.to_string();
    let ask = Ask {
        what: format!("version {version} of subject {}", shown(&reference.subject)),
        path: vec!["subjects", &reference.subject, "versions", &version],
        query: vec![("deleted", "true")],
        body: None,
    };
    fetch(http, &ask).await
}

/// A subject as an error may show it.
pub(crate) fn shown(subject: &str) -> String {
    let cut: String = subject.chars().take(200).collect();
    format!("{cut:?}")
}
