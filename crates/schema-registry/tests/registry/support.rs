//! What the tests have in common.

use std::error::Error as _;
use std::time::Duration;

use aqueduct_converters::registry::{RegisteredSchema, SchemaAnswer, SchemaId, SchemaKind, SchemaSource};
use aqueduct_core::StageError;
use aqueduct_schema_registry::testkit::TestRegistry;
use aqueduct_schema_registry::{NewSchema, RegistryBuilder, RegistryClient, RegistryError};

pub(crate) const TEXT: &str = r#"{"type":"record","name":"Order","fields":[]}"#;

pub(crate) fn avro(text: &str) -> NewSchema {
    NewSchema::new(SchemaKind::Avro, text)
}

/// A client that does not wait between attempts, nor ask for versions: each schema is one request.
pub(crate) fn builder(registry: &TestRegistry) -> RegistryBuilder {
    RegistryClient::builder(registry.url())
        .backoff(Duration::from_millis(1))
        .unknown_again_after(Duration::ZERO)
        .versions(false)
}

pub(crate) fn client(registry: &TestRegistry) -> RegistryClient {
    builder(registry).build().unwrap()
}

pub(crate) async fn known(client: &RegistryClient, id: impl Into<SchemaId>) -> RegisteredSchema {
    match client.schema(id.into()).await.unwrap() {
        SchemaAnswer::Known(schema) => schema,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn unreadable(client: &RegistryClient, id: impl Into<SchemaId>) -> String {
    match client.schema(id.into()).await.unwrap() {
        SchemaAnswer::Unreadable(reason) => reason,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn cause(error: &StageError) -> &RegistryError {
    error.source().and_then(|source| source.downcast_ref()).unwrap()
}

/// What was asked for, in order.
pub(crate) fn targets(registry: &TestRegistry) -> Vec<String> {
    registry.requests().into_iter().map(|request| format!("{} {}", request.method, request.target)).collect()
}
