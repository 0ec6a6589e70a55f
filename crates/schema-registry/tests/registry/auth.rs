//! Who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aqueduct_converters::registry::SchemaSource;
use aqueduct_core::{BoxError, Class, ErrorChain};
use aqueduct_schema_registry::testkit::TestRegistry;
use aqueduct_schema_registry::{BearerTokens, RegistryError, SecretString};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::support::{TEXT, avro, builder, cause, client, known};

async fn guarded(authorization: &str) -> TestRegistry {
    let registry = TestRegistry::start().await;
    registry.register("s", &avro(TEXT));
    registry.require(Some(authorization));
    registry
}

#[tokio::test]
async fn user_and_password_open() {
    let registry = guarded(&format!("Basic {}", STANDARD.encode("archive:p:w ö"))).await;
    known(&builder(&registry).basic_auth("archive", "p:w ö").build().unwrap(), 1).await;
    let wrong = builder(&registry).basic_auth("archive", "wrong").build().unwrap();
    for client in [wrong, client(&registry)] {
        let error = client.schema(1.into()).await.unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
        assert!(matches!(cause(&error), RegistryError::Unauthorized { status: 401, .. }), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("credentials")));
    }
}

#[tokio::test]
async fn a_fixed_token_opens() {
    let registry = guarded("Bearer t0ken").await;
    known(&builder(&registry).bearer_auth(SecretString::from("t0ken")).build().unwrap(), 1).await;
}

/// A cache of tokens as it should be: the latest is kept until it was refused.
#[derive(Clone, Default)]
struct Numbered(Arc<(AtomicUsize, AtomicUsize)>);

#[async_trait]
impl BearerTokens for Numbered {
    async fn token(&self) -> Result<SecretString, BoxError> {
        self.0.1.fetch_add(1, Ordering::Relaxed);
        Ok(format!("token-{}", self.0.0.load(Ordering::Relaxed)).into())
    }

    async fn refused(&self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let registry = guarded("Bearer token-1").await;
    let tokens = Numbered::default();
    let client = builder(&registry).bearer_auth(tokens.clone()).build().unwrap();
    known(&client, 1).await;
    known(&client, 1).await;
    assert_eq!(registry.requests().len(), 3, "refused, renewed, held");
    registry.require(Some("Bearer token-9"));
    let error = client.schema(1.into()).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert_eq!((registry.requests().len(), tokens.0.1.load(Ordering::Relaxed)), (2, 5));
}

struct Failing(Option<&'static str>);

#[async_trait]
impl BearerTokens for Failing {
    async fn token(&self) -> Result<SecretString, BoxError> {
        self.0.map(SecretString::from).ok_or_else(|| "the token service is down".into())
    }
}

#[tokio::test]
async fn a_token_that_is_not_made_is_waited_for_and_one_that_cannot_be_sent_is_not() {
    let registry = guarded("x").await;
    let client = builder(&registry).bearer_auth(Failing(None)).build().unwrap();
    let error = client.schema(1.into()).await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY);
    assert!(ErrorChain(&error).to_string().ends_with("the token service is down"), "{error:?}");
    let client = builder(&registry).bearer_auth(Failing(Some("hunter2\n"))).build().unwrap();
    let error = client.schema(1.into()).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(!format!("{error:?}").contains("hunter2"));
    assert!(registry.requests().is_empty());
}

#[tokio::test]
async fn headers_of_ones_own_are_sent_with_every_request() {
    let registry = TestRegistry::start().await;
    registry.register("s", &avro(TEXT));
    let client = builder(&registry).header("X-Tenant", "blue").header("x-tenant", "green").build().unwrap();
    known(&client, 1).await;
    client.register("s", &avro("2")).await.unwrap();
    for request in registry.requests() {
        let sent: Vec<_> = request.headers.iter().filter(|(name, _)| name == "x-tenant").collect();
        assert_eq!(sent.len(), 2, "{request:?}");
        assert!(request.header("accept").is_some_and(|it| it.starts_with("application/vnd.schemaregistry")));
        assert!(request.header("user-agent").is_some_and(|it| it.starts_with("aqueduct/")));
    }
}
