//! Schemas of a registry, read and written.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aqueduct_converters::registry::{
    RegisteredSchema, SchemaAnswer, SchemaId, SchemaKind, SchemaSource, SubjectVersion,
};
use aqueduct_core::StageError;
use async_trait::async_trait;
use serde::de::DeserializeOwned;

use crate::answer::{Place, ReferenceTo, Registered, Registration, SchemaText};
use crate::config::RegistryBuilder;
use crate::error::RegistryError;
use crate::http::{Answer, Ask, Http};
use crate::resolve::{ReferenceLimits, resolve, shown};

/// A client of Confluent's schema registry, and of those that speak like it. Clones share everything.
///
/// As a [`SchemaSource`] it gives converters the schemas that records name, with everything those refer to. It keeps nothing: put a
/// [`SchemaCache`](aqueduct_converters::registry::SchemaCache) over it, as converters do.
///
/// ```no_run
/// use aqueduct_converters::registry::{SchemaCache, SchemaKind};
/// use aqueduct_schema_registry::{NewSchema, RegistryClient};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = RegistryClient::builder("https://registry.example.org").basic_auth("archive", "pass-word").build()?;
/// let id = client.register("orders-value", &NewSchema::new(SchemaKind::Avro, r#""string""#)).await?;
/// let cache = SchemaCache::new(client, |schema| Ok::<_, String>(schema.text));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RegistryClient {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    subject: Option<String>,
    versions: bool,
    references: ReferenceLimits,
    /// Unknown ids in a row that were asked for again and stayed unknown.
    in_vain: AtomicUsize,
}

impl RegistryClient {
    /// The largest answer that is read by default, in bytes.
    pub const RESPONSE_MAX: usize = 4 << 20;
    /// Unknown ids in a row after which the next ones are not asked for again.
    pub const UNKNOWN_IN_VAIN: usize = 32;

    /// A registry at this URL, `https://registry.example.org:8081`. A path may be behind it.
    pub fn builder(url: impl Into<String>) -> RegistryBuilder {
        RegistryBuilder::new(url.into())
    }

    pub(crate) fn new(
        http: Http,
        subject: Option<String>,
        versions: bool,
        references: ReferenceLimits,
    ) -> Self {
        let in_vain = AtomicUsize::new(0);
        Self { inner: Arc::new(Inner { http, subject, versions, references, in_vain }) }
    }

    /// Registers a schema under a subject and gives its id. Registering it again changes nothing and gives the same id.
    ///
    /// # Errors
    /// Of class `Fatal` if the registry does not take it: [`RegistryError::Refused`]. Else those of a lookup.
    pub async fn register(&self, subject: &str, schema: &NewSchema) -> Result<u32, StageError> {
        self.within(self.inner.register(subject, schema)).await
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, RegistryError>>) -> Result<T, StageError> {
        let http = &self.inner.http;
        let outcome = tokio::time::timeout(http.patience().total, work).await;
        let outcome = outcome.unwrap_or_else(|_| Err(RegistryError::TimedOut { server: http.names() }));
        outcome.map_err(|error| StageError::new("schema registry", error))
    }
}

#[async_trait]
impl SchemaSource for RegistryClient {
    async fn schema(&self, id: SchemaId) -> Result<SchemaAnswer, StageError> {
        self.within(self.inner.schema(id)).await
    }
}

impl Inner {
    async fn schema(&self, id: SchemaId) -> Result<SchemaAnswer, RegistryError> {
        let mut found = self.look_up(id).await?;
        let again = self.http.patience().unknown;
        if found.is_none()
            && !again.is_zero()
            && self.in_vain.load(Ordering::Relaxed) < RegistryClient::UNKNOWN_IN_VAIN
        {
            tokio::time::sleep(again).await;
            self.http.turn();
            found = self.look_up(id).await?;
            self.in_vain.fetch_add(1, Ordering::Relaxed);
        }
        let Some(found) = found else { return Ok(SchemaAnswer::Unknown) };
        self.in_vain.store(0, Ordering::Relaxed);
        let Some(kind) = found.kind() else {
            return Ok(SchemaAnswer::Unreadable(format!("it is of kind {:?}", found.kind_name())));
        };
        let (text, references) = found.into_parts();
        let references = match resolve(&self.http, self.references, kind, &text, references).await? {
            Ok(references) => references,
            Err(reason) => return Ok(SchemaAnswer::Unreadable(reason)),
        };
        let versions = self.versions_of(id).await?;
        Ok(SchemaAnswer::Known(RegisteredSchema { id, kind, text, references, versions }))
    }

    /// `None` if the registry says that there is no such schema.
    async fn look_up(&self, id: SchemaId) -> Result<Option<SchemaText>, RegistryError> {
        let (collection, name) = (collection(id), id.to_string());
        let ask = Ask {
            what: format!("schema {name}"),
            path: vec!["schemas", collection, &name],
            query: self.subject.iter().map(|subject| ("subject", subject.as_str())).collect(),
            body: None,
        };
        match self.http.send(&ask).await? {
            Answer::Complaint { status: 404, code: SCHEMA_NOT_FOUND, .. } => Ok(None),
            answer => read(&ask, answer).map(Some),
        }
    }

    async fn versions_of(&self, id: SchemaId) -> Result<Vec<SubjectVersion>, RegistryError> {
        // There is no such question about a GUID.
        let (true, SchemaId::Number(number)) = (self.versions, id) else { return Ok(Vec::new()) };
        let number = number.to_string();
        let ask = Ask {
            what: format!("the versions of schema {number}"),
            path: vec!["schemas", "ids", &number, "versions"],
            query: self.subject.iter().map(|subject| ("subject", subject.as_str())).collect(),
            body: None,
        };
        let answer = match self.http.send(&ask).await {
            Ok(Answer::Complaint { .. })
            | Err(RegistryError::Unauthorized { .. } | RegistryError::Unexpected { .. }) => {
                return Ok(Vec::new());
            }
            answer => answer?,
        };
        let mut versions: Vec<SubjectVersion> =
            read::<Vec<Place>>(&ask, answer)?.into_iter().map(Into::into).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    async fn register(&self, subject: &str, schema: &NewSchema) -> Result<u32, RegistryError> {
        let body =
            Registration { schema: &schema.text, kind: schema.kind.as_str(), references: &schema.references };
        let ask = Ask {
            what: format!("a registration under {}", shown(subject)),
            path: vec!["subjects", subject, "versions"],
            query: Vec::new(),
            // Strings and numbers only: it cannot fail.
            body: Some(serde_json::to_string(&body).unwrap_or_default()),
        };
        let registered: Registered = match self.http.send(&ask).await? {
            Answer::Complaint { server, status: status @ (409 | 422), code, message } => {
                return Err(RegistryError::Refused { server, status, code, message });
            }
            answer => read(&ask, answer)?,
        };
        Ok(registered.id)
    }
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { http, subject, versions, references, .. } = &*self.inner;
        f.debug_struct("RegistryClient")
            .field("http", http)
            .field("subject", subject)
            .field("versions", versions)
            .field("references", references)
            .finish_non_exhaustive()
    }
}

/// A schema to register.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct NewSchema {
    pub(crate) kind: SchemaKind,
    pub(crate) text: String,
    pub(crate) references: Vec<ReferenceTo>,
}

impl NewSchema {
    /// A schema that refers to no other.
    pub fn new(kind: SchemaKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), references: Vec::new() }
    }

    /// It refers to version `version` of `subject` by `name`; see [`Reference`](aqueduct_converters::registry::Reference).
    pub fn reference(mut self, name: impl Into<String>, subject: impl Into<String>, version: u32) -> Self {
        self.references.push(ReferenceTo { name: name.into(), subject: subject.into(), version });
        self
    }
}

/// Asks for what has to be there.
pub(crate) async fn fetch<T: DeserializeOwned>(http: &Http, ask: &Ask<'_>) -> Result<T, RegistryError> {
    read(ask, http.send(ask).await?)
}

fn read<T: DeserializeOwned>(ask: &Ask<'_>, answer: Answer) -> Result<T, RegistryError> {
    match answer {
        // Without the reader's words, which would quote the body.
        Answer::Good { server, body } => serde_json::from_slice(&body)
            .map_err(|_| RegistryError::Unreadable { server, what: ask.what.clone() }),
        Answer::Complaint { server, status, code, .. } => {
            Err(RegistryError::Unexpected { server, what: ask.what.clone(), status, code: Some(code) })
        }
    }
}

fn collection(id: SchemaId) -> &'static str {
    match id {
        SchemaId::Number(_) => "ids",
        SchemaId::Guid(_) => "guids",
    }
}

/// The registry's own number for a schema that is not there.
const SCHEMA_NOT_FOUND: u32 = 40_403;
