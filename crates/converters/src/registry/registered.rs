//! A registry's schemas as a converter has them: where ids stand, and what is made of a schema.

use std::fmt;
use std::sync::Arc;

use aqueduct_core::{Batch, Poison, PoisonReason, Record, StageError};

use super::cache::SchemaCache;
use super::framing::Framing;
use super::schema::{RegisteredSchema, SchemaId};
use super::source::SchemaSource;
use super::wire::Framed;

/// Clones share what was fetched.
pub(crate) struct Registered<P> {
    source: Arc<dyn SchemaSource>,
    parse: Parse<P>,
    framing: Framing,
    subject: Option<String>,
    schemas: Arc<SchemaCache<P>>,
}

/// What a converter makes of a schema, which has this version; an error is why it cannot be used, in words.
type Parse<P> = fn(&RegisteredSchema, Option<u32>) -> Result<P, String>;

impl<P: Send + Sync + 'static> Registered<P> {
    pub(crate) fn new(source: impl SchemaSource, parse: Parse<P>) -> Self {
        let source: Arc<dyn SchemaSource> = Arc::new(source);
        let schemas = cache(&source, parse, None);
        Self { source, parse, framing: Framing::values(), subject: None, schemas }
    }

    pub(crate) fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// Begins anew: what was parsed has the versions of another subject.
    pub(crate) fn set_subject(&mut self, subject: String) {
        self.schemas = cache(&self.source, self.parse, Some(subject.clone()));
        self.subject = Some(subject);
    }

    pub(crate) async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
        self.schemas.prepare(batch.lane(), self.framing.ids(batch)).await
    }

    /// Of a record with a value.
    pub(crate) fn split<'a>(&self, record: &Record<'a>) -> Result<Framed<'a>, Poison> {
        let framed = self.framing.split(record)?;
        framed.ok_or_else(|| Poison::new(PoisonReason::NullValue, "the record has no value"))
    }

    pub(crate) fn read<R>(
        &self,
        record: &Record<'_>,
        id: SchemaId,
        read: impl FnOnce(&P) -> Result<R, Poison>,
    ) -> Result<R, Poison> {
        self.schemas.read(record.lane(), id, read)
    }
}

fn cache<P: Send + Sync + 'static>(
    source: &Arc<dyn SchemaSource>,
    parse: Parse<P>,
    subject: Option<String>,
) -> Arc<SchemaCache<P>> {
    let parse = move |schema: RegisteredSchema| {
        let version = schema.version_told(subject.as_deref());
        parse(&schema, version)
    };
    Arc::new(SchemaCache::new(Arc::clone(source), parse))
}

impl<P> Clone for Registered<P> {
    fn clone(&self) -> Self {
        Self {
            source: Arc::clone(&self.source),
            parse: self.parse,
            framing: self.framing,
            subject: self.subject.clone(),
            schemas: Arc::clone(&self.schemas),
        }
    }
}

impl<P> fmt::Debug for Registered<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered")
            .field("framing", &self.framing)
            .field("subject", &self.subject)
            .field("schemas", &self.schemas)
            .finish_non_exhaustive()
    }
}

impl<P> fmt::Display for Registered<P> {
    /// For a converter's identity.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.framing.fmt(f)?;
        match &self.subject {
            Some(subject) => write!(f, " subject={subject:?}"),
            None => Ok(()),
        }
    }
}
