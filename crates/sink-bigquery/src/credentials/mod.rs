//! Who we are to Google.
//!
//! ```text
//! config.rs           what credential files say, of every type
//! flows.rs            a key, a user's login, the metadata server: one request each
//! external.rs         workload identity federation: a token of somebody else's
//! impersonation.rs    acting as a service account
//! cached.rs           one token for everybody, renewed before it expires
//! http.rs             calls: bounded, and told without what was in them
//! ```
//!
//! Of our own: the client crate's library for this has neither deadlines nor limits, does not repeat what fails, and knows no
//! delegates; Google's brings another TLS library.

mod cached;
mod config;
mod external;
mod flows;
mod http;
mod impersonation;

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use aqueduct_core::{Clock, SystemClock};
use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};

use self::cached::{Cached, TokenFlow};
use self::config::Accepted;
use self::flows::Metadata;
use self::http::Http;
pub use self::impersonation::Impersonation;
use self::impersonation::{Impersonate, delegate, url_of};
use crate::error::BigQueryError;

/// Where access tokens come from.
///
/// A token is fetched when it is needed first, kept for everybody, and renewed before it expires. An endpoint that has trouble is asked
/// again, and the lane waits; one that says no ends it within seconds.
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
    /// What Google's tools find by themselves: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, the one `gcloud auth
    /// application-default login` has written (either of any type that [`CredentialsFile`](Self::CredentialsFile) takes), or the
    /// metadata server of the machine or the workload.
    #[default]
    ApplicationDefault,
    /// A service account's key in a JSON file.
    ServiceAccountFile(PathBuf),
    /// A service account's key as JSON.
    ServiceAccountJson(SecretString),
    /// A JSON file of any type that Google's tools write: `service_account`, `authorized_user`, `external_account` (workload identity
    /// federation, by a file or a URL; not AWS and not programs) or `impersonated_service_account`.
    ///
    /// Such a file says which endpoints are asked and which file is sent there: take it only from where you would take a key from.
    CredentialsFile(PathBuf),
    /// The same as JSON.
    CredentialsJson(SecretString),
    /// The metadata server of the machine or the workload.
    MetadataServer,
    /// As a service account that others act as.
    Impersonated(Impersonation),
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
            Self::CredentialsFile(path) => f.debug_tuple("CredentialsFile").field(path).finish(),
            Self::CredentialsJson(_) => f.write_str("CredentialsJson(..)"),
            Self::MetadataServer => f.write_str("MetadataServer"),
            Self::Impersonated(impersonation) => f.debug_tuple("Impersonated").field(impersonation).finish(),
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

#[async_trait]
impl TokenSource for Box<dyn TokenSource> {
    async fn token(&self) -> Result<Option<SecretString>, BigQueryError> {
        (**self).token().await
    }

    fn renew(&self) {
        (**self).renew();
    }
}

/// The endpoints that no credential file names.
#[derive(Clone, Debug)]
pub(crate) struct AuthEndpoints {
    pub(crate) iam: String,
    /// `None` for the one that `GCE_METADATA_HOST` names, or the usual one.
    pub(crate) metadata: Option<String>,
    /// Whether tokens may be asked for over `http://`.
    pub(crate) plaintext: bool,
}

impl Default for AuthEndpoints {
    fn default() -> Self {
        Self { iam: "https://iamcredentials.googleapis.com".to_owned(), metadata: None, plaintext: false }
    }
}

/// The one scope that covers tables, queries and the Storage Write interface.
const SCOPE: &str = "https://www.googleapis.com/auth/bigquery";
/// What acting as somebody else takes.
const IMPERSONATING_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

impl Credentials {
    /// Reads keys; no token is fetched yet.
    pub(crate) async fn open(
        &self,
        endpoints: &AuthEndpoints,
    ) -> Result<Box<dyn TokenSource>, BigQueryError> {
        Opener::new(endpoints.clone(), Arc::new(SystemClock))?.open(self, SCOPE).await
    }
}

/// Boxed, because an impersonation opens whoever acts.
type Opening<'o> = Pin<Box<dyn Future<Output = Result<Box<dyn TokenSource>, BigQueryError>> + Send + 'o>>;

/// What making token sources needs.
pub(super) struct Opener {
    http: Http,
    clock: Arc<dyn Clock>,
    endpoints: AuthEndpoints,
}

impl Opener {
    fn new(endpoints: AuthEndpoints, clock: Arc<dyn Clock>) -> Result<Self, BigQueryError> {
        let http = Http::new(endpoints.plaintext)
            .map_err(|_| none("no client for token endpoints can be made".to_owned()))?;
        Ok(Self { http, clock, endpoints })
    }

    /// The token source of some credentials for a scope.
    fn open<'o>(&'o self, credentials: &'o Credentials, scope: &'static str) -> Opening<'o> {
        Box::pin(async move {
            match credentials {
                Credentials::Anonymous => Ok(fixed(None)),
                Credentials::Token(token) => Ok(fixed(Some(token.clone()))),
                Credentials::ServiceAccountFile(path) => {
                    self.read(&shown(path), &read(path).await?, scope, Accepted::KeyOnly)
                }
                Credentials::ServiceAccountJson(json) => {
                    self.read("the service account's key", json.expose_secret(), scope, Accepted::KeyOnly)
                }
                Credentials::CredentialsFile(path) => {
                    self.read(&shown(path), &read(path).await?, scope, Accepted::Any)
                }
                Credentials::CredentialsJson(json) => {
                    self.read("the credentials' JSON", json.expose_secret(), scope, Accepted::Any)
                }
                Credentials::MetadataServer => self.metadata_server(scope),
                Credentials::ApplicationDefault => match default_file() {
                    Some(path) => self.read(&shown(&path), &read(&path).await?, scope, Accepted::Any),
                    None => self.metadata_server(scope),
                },
                Credentials::Impersonated(impersonation) => {
                    if let Some(problem) = impersonation.problem() {
                        return Err(none(problem));
                    }
                    let iam = self.endpoint("the IAM endpoint", &self.endpoints.iam)?;
                    Ok(cached(Impersonate {
                        http: self.http.clone(),
                        clock: Arc::clone(&self.clock),
                        by: self.open(&impersonation.by, IMPERSONATING_SCOPE).await?,
                        url: url_of(&iam, &impersonation.account),
                        delegates: impersonation.delegates.iter().map(|account| delegate(account)).collect(),
                        lifetime: impersonation.lifetime,
                        scope,
                    }))
                }
            }
        })
    }

    fn metadata_server(&self, scope: &'static str) -> Result<Box<dyn TokenSource>, BigQueryError> {
        let named = || std::env::var("GCE_METADATA_HOST").ok().map(|host| format!("http://{host}"));
        let endpoint = self.endpoints.metadata.clone().or_else(named);
        let endpoint = endpoint.unwrap_or_else(|| "http://metadata.google.internal".to_owned());
        // Always plain: it is on the machine's own link, and nothing secret is sent there.
        if reqwest::Url::parse(&endpoint).is_err() {
            return Err(none("the metadata server's endpoint is no URL".to_owned()));
        }
        Ok(cached(Metadata { http: self.http.clone(), endpoint, scope }))
    }

    /// An endpoint that secrets are sent to.
    fn endpoint(&self, what: &str, url: &str) -> Result<String, BigQueryError> {
        self.http.endpoint(url).map_err(|problem| none(format!("{what} {problem}")))
    }
}

fn cached(flow: impl TokenFlow) -> Box<dyn TokenSource> {
    Box::new(Cached::new(flow))
}

fn fixed(token: Option<SecretString>) -> Box<dyn TokenSource> {
    Box::new(Fixed(token))
}

struct Fixed(Option<SecretString>);

#[async_trait]
impl TokenSource for Fixed {
    async fn token(&self) -> Result<Option<SecretString>, BigQueryError> {
        Ok(self.0.clone())
    }

    fn renew(&self) {}
}

/// Where Google's tools look for a file.
fn default_file() -> Option<PathBuf> {
    let named = std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from);
    let written = || {
        let configuration = std::env::var_os("CLOUDSDK_CONFIG")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".config/gcloud")))?;
        Some(configuration.join("application_default_credentials.json")).filter(|path| path.exists())
    };
    named.or_else(written)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Larger files are no credentials.
const FILE_MAX: u64 = 1 << 20;

async fn read(path: &Path) -> Result<String, BigQueryError> {
    let unreadable = |error: std::io::Error| none(format!("{} cannot be read: {error}", path.display()));
    if tokio::fs::metadata(path).await.map_err(unreadable)?.len() > FILE_MAX {
        return Err(none(format!("{} is larger than credentials are", path.display())));
    }
    tokio::fs::read_to_string(path).await.map_err(unreadable)
}

fn none(problem: String) -> BigQueryError {
    BigQueryError::NoCredentials { problem }
}

#[cfg(test)]
mod tests;
