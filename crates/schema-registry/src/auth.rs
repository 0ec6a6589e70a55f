//! Who we are to the registry.

use std::fmt;
use std::sync::Arc;

use aqueduct_core::BoxError;
use async_trait::async_trait;
use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::error::RegistryError;

/// Makes bearer tokens, such as those of OAuth.
///
/// # Contract
/// - [`token`](Self::token) is called for every request: keep a token until shortly before it expires.
/// - [`refused`](Self::refused) is called when the registry has refused a token; the request is sent once more, with what `token`
///   then gives. A second refusal stops the lane.
///
/// # Errors
/// A lane waits for tokens as for the registry. The text is logged and shown: leave the credentials out of it.
///
/// ```
/// use aqueduct_core::BoxError;
/// use aqueduct_schema_registry::{BearerTokens, SecretString};
///
/// /// A token that something else renews in a file, such as a Kubernetes projected service account.
/// struct FromFile(std::path::PathBuf);
///
/// #[async_trait::async_trait]
/// impl BearerTokens for FromFile {
///     async fn token(&self) -> Result<SecretString, BoxError> {
///         Ok(tokio::fs::read_to_string(&self.0).await?.trim().into())
///     }
/// }
/// ```
#[async_trait]
pub trait BearerTokens: Send + Sync + 'static {
    /// A token that is valid now.
    async fn token(&self) -> Result<SecretString, BoxError>;

    /// The registry has refused the latest token. The default does nothing.
    async fn refused(&self) {}
}

/// A token that does not change, as some hosted registries give them.
#[async_trait]
impl BearerTokens for SecretString {
    async fn token(&self) -> Result<SecretString, BoxError> {
        Ok(self.clone())
    }
}

#[derive(Clone, Default)]
pub(crate) enum Auth {
    #[default]
    Nobody,
    Basic {
        user: String,
        password: SecretString,
    },
    Bearer(Arc<dyn BearerTokens>),
}

impl Auth {
    pub(crate) async fn sign(&self, request: RequestBuilder) -> Result<RequestBuilder, RegistryError> {
        match self {
            Self::Nobody => Ok(request),
            Self::Basic { user, password } => Ok(request.basic_auth(user, Some(password.expose_secret()))),
            Self::Bearer(tokens) => {
                let token = tokens.token().await.map_err(|source| RegistryError::Token { source })?;
                let text = format!("Bearer {}", token.expose_secret());
                let mut value = HeaderValue::try_from(text).map_err(|_| RegistryError::TokenText)?;
                value.set_sensitive(true);
                Ok(request.header(AUTHORIZATION, value))
            }
        }
    }

    /// Whether it may go better with another token.
    pub(crate) async fn refused(&self) -> bool {
        match self {
            Self::Bearer(tokens) => {
                tokens.refused().await;
                true
            }
            Self::Nobody | Self::Basic { .. } => false,
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("Nobody"),
            Self::Basic { user, .. } => f.debug_struct("Basic").field("user", user).finish_non_exhaustive(),
            Self::Bearer(_) => f.write_str("Bearer"),
        }
    }
}
