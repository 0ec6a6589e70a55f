//! Who is asked for schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use aqueduct_core::StageError;
use async_trait::async_trait;

use super::schema::{RegisteredSchema, SchemaId, SchemaKind};

/// Knows schemas by their ids: a registry, or a table of them.
///
/// # Contract
/// - The schema of an id never changes. Only [`SchemaAnswer::Unknown`] may become another answer, when somebody registers it.
/// - [`SchemaAnswer::Unknown`] is what the registry *said*. What was not heard, not understood or not allowed is an error: taking
///   an outage for a missing schema would make poison of good records.
/// - It may be called from several tasks at once. Whoever calls it may stop waiting at any time.
///
/// # Errors
/// An outage, in any form, is of [`Class::Retry`](aqueduct_core::Class::Retry): the lane waits. What a human has to mend (wrong
/// credentials) is of class `Fatal`, and an answer that cannot be understood of class `Unknown`.
///
/// ```
/// use aqueduct_converters::registry::{RegisteredSchema, SchemaAnswer, SchemaId, SchemaKind, SchemaSource};
/// use aqueduct_core::StageError;
///
/// /// One schema for everything, as in a program that reads one topic.
/// struct Only(String);
///
/// #[async_trait::async_trait]
/// impl SchemaSource for Only {
///     async fn schema(&self, id: SchemaId) -> Result<SchemaAnswer, StageError> {
///         Ok(SchemaAnswer::Known(RegisteredSchema::new(id, SchemaKind::Avro, self.0.clone())))
///     }
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let answer = Only(r#""string""#.to_owned()).schema(7.into()).await;
/// assert!(matches!(answer, Ok(SchemaAnswer::Known(schema)) if schema.text == r#""string""#));
/// # });
/// ```
///
/// To test yours, put a [`SchemaCache`](super::SchemaCache) over it and a converter over that.
#[async_trait]
pub trait SchemaSource: Send + Sync + 'static {
    /// The schema of that id, with everything it refers to.
    async fn schema(&self, id: SchemaId) -> Result<SchemaAnswer, StageError>;
}

/// What a source says about an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaAnswer {
    /// There it is.
    Known(RegisteredSchema),
    /// There is no such schema.
    Unknown,
    /// There is one, but of a kind nobody here reads or over a limit; why, in words.
    Unreadable(String),
}

#[async_trait]
impl<S: SchemaSource + ?Sized> SchemaSource for Arc<S> {
    async fn schema(&self, id: SchemaId) -> Result<SchemaAnswer, StageError> {
        (**self).schema(id).await
    }
}

#[async_trait]
impl<S: SchemaSource + ?Sized> SchemaSource for Box<S> {
    async fn schema(&self, id: SchemaId) -> Result<SchemaAnswer, StageError> {
        (**self).schema(id).await
    }
}

/// Schemas that are known beforehand: for tests, and for programs without a registry.
///
/// ```
/// use aqueduct_converters::registry::{FixedSchemas, SchemaAnswer, SchemaKind, SchemaSource};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let schemas = FixedSchemas::new().with(7, SchemaKind::Avro, r#""string""#);
/// assert!(matches!(schemas.schema(7.into()).await, Ok(SchemaAnswer::Known(_))));
/// assert!(matches!(schemas.schema(8.into()).await, Ok(SchemaAnswer::Unknown)));
/// # });
/// ```
#[derive(Clone, Debug, Default)]
pub struct FixedSchemas {
    schemas: BTreeMap<SchemaId, RegisteredSchema>,
}

impl FixedSchemas {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this one, which refers to no other.
    #[must_use]
    pub fn with(self, id: impl Into<SchemaId>, kind: SchemaKind, text: impl Into<String>) -> Self {
        self.with_schema(RegisteredSchema::new(id, kind, text))
    }

    /// And this one, with what it refers to.
    #[must_use]
    pub fn with_schema(mut self, schema: RegisteredSchema) -> Self {
        self.schemas.insert(schema.id, schema);
        self
    }
}

#[async_trait]
impl SchemaSource for FixedSchemas {
    async fn schema(&self, id: SchemaId) -> Result<SchemaAnswer, StageError> {
        Ok(self.schemas.get(&id).cloned().map_or(SchemaAnswer::Unknown, SchemaAnswer::Known))
    }
}
