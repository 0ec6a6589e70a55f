//! Who we are to Google.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use aqueduct_core::ErrorChain;
use async_trait::async_trait;
use gcp_bigquery_client::yup_oauth2;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use yup_oauth2::authenticator::{ApplicationDefaultCredentialsTypes, DefaultAuthenticator};

use crate::error::BigQueryError;

/// Where access tokens come from.
///
/// ```
/// use aqueduct_sink_bigquery::Credentials;
///
/// let credentials = Credentials::ServiceAccountFile("/etc/aqueduct/key.json".into());
/// assert_eq!(format!("{credentials:?}"), "ServiceAccountFile(\"/etc/aqueduct/key.json\")");
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Credentials {
    /// What Google's tools find by themselves: the file that `GOOGLE_APPLICATION_CREDENTIALS` names (a service account's key
    /// or a user's), the one `gcloud auth application-default login` has written, or the metadata server of the machine.
    #[default]
    ApplicationDefault,
    /// A service account's key in a JSON file.
    ServiceAccountFile(PathBuf),
    /// A service account's key as JSON.
    ServiceAccountJson(SecretString),
    /// An access token that somebody else renews.
    Token(SecretString),
    /// None at all: for emulators.
    Anonymous,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApplicationDefault => f.write_str("ApplicationDefault"),
            Self::ServiceAccountFile(path) => f.debug_tuple("ServiceAccountFile").field(path).finish(),
            Self::ServiceAccountJson(_) => f.write_str("ServiceAccountJson(..)"),
            Self::Token(_) => f.write_str("Token(..)"),
            Self::Anonymous => f.write_str("Anonymous"),
        }
    }
}

/// Gives access tokens, renewed in time.
#[async_trait]
pub(crate) trait TokenSource: Send + Sync + 'static {
    /// A token that is valid now; `None` to send none.
    async fn token(&self) -> Result<Option<SecretString>, BigQueryError>;

    /// The last token was refused: the next one is to be new.
    fn renew(&self);
}

impl Credentials {
    /// Reads keys; no token is fetched yet.
    pub(crate) async fn open(&self) -> Result<Box<dyn TokenSource>, BigQueryError> {
        Ok(match self {
            Self::Anonymous => Box::new(Fixed(None)),
            Self::Token(token) => Box::new(Fixed(Some(token.clone()))),
            Self::ServiceAccountFile(path) => {
                Box::new(Renewed::new(service_account(&read(path).await?).await?))
            }
            Self::ServiceAccountJson(json) => {
                Box::new(Renewed::new(service_account(json.expose_secret()).await?))
            }
            Self::ApplicationDefault => Box::new(Renewed::new(application_default().await?)),
        })
    }
}

/// The one scope that covers tables, queries and the Storage Write interface.
const SCOPES: [&str; 1] = ["https://www.googleapis.com/auth/bigquery"];

struct Fixed(Option<SecretString>);

#[async_trait]
impl TokenSource for Fixed {
    async fn token(&self) -> Result<Option<SecretString>, BigQueryError> {
        Ok(self.0.clone())
    }

    fn renew(&self) {}
}

/// The authenticator keeps a token until shortly before it expires.
struct Renewed {
    authenticator: DefaultAuthenticator,
    refused: AtomicBool,
}

impl Renewed {
    fn new(authenticator: DefaultAuthenticator) -> Self {
        Self { authenticator, refused: AtomicBool::new(false) }
    }
}

#[async_trait]
impl TokenSource for Renewed {
    async fn token(&self) -> Result<Option<SecretString>, BigQueryError> {
        let fetched = if self.refused.load(Ordering::Relaxed) {
            self.authenticator.force_refreshed_token(&SCOPES).await
        } else {
            self.authenticator.token(&SCOPES).await
        };
        match fetched {
            Ok(token) => {
                self.refused.store(false, Ordering::Relaxed);
                Ok(token.token().map(SecretString::from))
            }
            Err(yup_oauth2::Error::UserError(_) | yup_oauth2::Error::MissingAccessToken) => {
                Err(BigQueryError::NoCredentials { problem: "the key gives no access token".to_owned() })
            }
            Err(error) => {
                Err(BigQueryError::CredentialsUnavailable { source: ErrorChain(&error).to_string().into() })
            }
        }
    }

    fn renew(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }
}

async fn read(path: &Path) -> Result<String, BigQueryError> {
    tokio::fs::read_to_string(path).await.map_err(|error| BigQueryError::NoCredentials {
        problem: format!("{} cannot be read: {error}", path.display()),
    })
}

/// The words of a parser may quote what they are about, so none of them is passed on.
fn unusable(what: &str) -> BigQueryError {
    BigQueryError::NoCredentials { problem: format!("{what} is not usable") }
}

async fn service_account(json: &str) -> Result<DefaultAuthenticator, BigQueryError> {
    let what = "the service account's key";
    let key = yup_oauth2::parse_service_account_key(json).map_err(|_| unusable(what))?;
    yup_oauth2::ServiceAccountAuthenticator::builder(key).build().await.map_err(|_| unusable(what))
}

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

async fn application_default() -> Result<DefaultAuthenticator, BigQueryError> {
    let named = std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from);
    let written = || {
        let home = std::env::var_os("HOME")?;
        let path = Path::new(&home).join(".config/gcloud/application_default_credentials.json");
        path.exists().then_some(path)
    };
    let Some(path) = named.or_else(written) else {
        return metadata_server().await;
    };
    let what = path.display().to_string();
    let json = read(&path).await?;
    let kind = serde_json::from_str::<Kind>(&json).map_err(|_| unusable(&what))?;
    match kind.r#type.as_str() {
        "service_account" => service_account(&json).await,
        "authorized_user" => {
            let secret = serde_json::from_str(&json).map_err(|_| unusable(&what))?;
            let builder = yup_oauth2::AuthorizedUserAuthenticator::builder(secret);
            builder.build().await.map_err(|_| unusable(&what))
        }
        _ => Err(BigQueryError::NoCredentials {
            problem: format!("{what} holds credentials of a kind that is not supported"),
        }),
    }
}

async fn metadata_server() -> Result<DefaultAuthenticator, BigQueryError> {
    let what = "the metadata server";
    let options = yup_oauth2::ApplicationDefaultCredentialsFlowOpts::default();
    let built = match yup_oauth2::ApplicationDefaultCredentialsAuthenticator::builder(options).await {
        ApplicationDefaultCredentialsTypes::InstanceMetadata(builder) => builder.build().await,
        ApplicationDefaultCredentialsTypes::ServiceAccount(builder) => builder.build().await,
    };
    built.map_err(|_| unusable(what))
}

#[cfg(test)]
mod tests {
    use aqueduct_core::{Class, Classify as _};

    use super::*;

    #[tokio::test]
    async fn what_is_wrong_with_a_key_is_said_without_the_key() {
        let canary = r#"{"type":"service_account","private_key":12,"client_email":"canary"}"#;
        let error = Credentials::ServiceAccountJson(canary.into()).open().await.err().unwrap();
        assert_eq!(error.class(), Class::Fatal);
        assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
        let missing = Credentials::ServiceAccountFile("/nonexistent/key.json".into());
        let error = missing.open().await.err().unwrap();
        assert!(error.to_string().contains("/nonexistent/key.json"), "{error}");
    }

    #[tokio::test]
    async fn a_given_token_is_used_and_never_shown() {
        let credentials = Credentials::Token("canary".into());
        assert!(!format!("{credentials:?}").contains("canary"));
        let token = credentials.open().await.unwrap().token().await.unwrap().unwrap();
        assert_eq!(token.expose_secret(), "canary");
        assert!(Credentials::Anonymous.open().await.unwrap().token().await.unwrap().is_none());
    }
}
