//! Who we are to the store: access keys, roles, and their renewal while the pipeline runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aqueduct_core::{Clock, SystemClock};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{
    ProvideCredentials, Result as Provided, SharedCredentialsProvider, future,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use crate::config::S3ConfigError;
use crate::error::Told;

/// Credentials are renewed this long before they expire; a request must not outlive them.
const RENEW_BEFORE: Duration = Duration::from_mins(1);
/// What a session is called in the audit log unless it is given a name.
const SESSION_NAME: &str = "aqueduct";

/// Where credentials come from, before a role is assumed with them.
#[derive(Clone, Debug, Default)]
pub(crate) enum Base {
    /// The SDK's chain: environment, profile, web identity, container, instance.
    #[default]
    Default,
    Static(StaticCredentials),
    Profile(String),
    WebIdentity(WebIdentity),
}

/// A static access key. Its secrets are never printed.
#[derive(Clone)]
pub(crate) struct StaticCredentials {
    pub(crate) access_key: String,
    pub(crate) secret: SecretString,
    pub(crate) session_token: Option<SecretString>,
}

impl StaticCredentials {
    pub(crate) fn to_sdk(&self) -> Credentials {
        let token = self.session_token.as_ref().map(|token| token.expose_secret().to_owned());
        Credentials::new(
            self.access_key.clone(),
            self.secret.expose_secret().to_owned(),
            token,
            None,
            "aqueduct",
        )
    }
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticCredentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// A role to assume with the credentials there are (`sts:AssumeRole`).
#[derive(Clone)]
#[must_use]
pub struct AssumeRole {
    arn: String,
    external_id: Option<String>,
    session: Session,
}

/// A role to assume with a token from a file (`sts:AssumeRoleWithWebIdentity`), as Kubernetes mounts it. The file is read
/// again at each renewal. On EKS nothing needs to be configured: the default chain reads `AWS_WEB_IDENTITY_TOKEN_FILE`
/// and `AWS_ROLE_ARN`.
#[derive(Clone, Debug)]
#[must_use]
pub struct WebIdentity {
    arn: String,
    token_file: PathBuf,
    session: Session,
}

#[derive(Clone, Debug)]
struct Session {
    name: String,
    length: Option<Duration>,
}

impl Default for Session {
    fn default() -> Self {
        Self { name: SESSION_NAME.to_owned(), length: None }
    }
}

impl Session {
    fn seconds(&self) -> Option<i32> {
        self.length.and_then(|length| i32::try_from(length.as_secs()).ok())
    }

    fn problems(&self, arn: &str) -> Vec<S3ConfigError> {
        let role = |problem| S3ConfigError::Role { arn: arn.to_owned(), problem };
        let mut problems = Vec::new();
        if !arn.starts_with("arn:") || !arn.contains(":role/") {
            problems.push(role("is not a role's ARN; write it like arn:aws:iam::123456789012:role/archive"));
        }
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"_=,.@-".contains(&byte);
        if !(2..=64).contains(&self.name.len()) || !self.name.bytes().all(named) {
            problems.push(role("has a session name that is not 2 to 64 letters, digits or _=,.@-"));
        }
        let allowed = Duration::from_mins(15)..=Duration::from_hours(12);
        if self.length.is_some_and(|length| !allowed.contains(&length)) {
            problems.push(role("has a session length that is not 15 minutes to 12 hours"));
        }
        problems
    }
}

impl AssumeRole {
    /// The role with this ARN, `arn:aws:iam::123456789012:role/archive`.
    pub fn new(arn: impl Into<String>) -> Self {
        Self { arn: arn.into(), external_id: None, session: Session::default() }
    }

    /// The external id the role's owner asks for. AWS does not treat it as a secret; it is not printed here.
    pub fn external_id(mut self, id: impl Into<String>) -> Self {
        self.external_id = Some(id.into());
        self
    }

    /// What the session is called in the audit log; `aqueduct` by default.
    pub fn session_name(mut self, name: impl Into<String>) -> Self {
        self.session.name = name.into();
        self
    }

    /// How long a session lasts, from 15 minutes to what the role allows; one hour by default.
    pub fn session_length(mut self, length: Duration) -> Self {
        self.session.length = Some(length);
        self
    }

    pub(crate) fn problems(&self) -> Vec<S3ConfigError> {
        let mut problems = self.session.problems(&self.arn);
        if self.external_id.as_ref().is_some_and(|id| !(2..=1224).contains(&id.len())) {
            let problem = "has an external id that is not 2 to 1224 characters long";
            problems.push(S3ConfigError::Role { arn: self.arn.clone(), problem });
        }
        problems
    }
}

impl fmt::Debug for AssumeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arn, external_id: _, session } = self;
        f.debug_struct("AssumeRole").field("arn", arn).field("session", session).finish_non_exhaustive()
    }
}

impl WebIdentity {
    /// The role with this ARN, and the file its token is in.
    pub fn new(arn: impl Into<String>, token_file: impl Into<PathBuf>) -> Self {
        Self { arn: arn.into(), token_file: token_file.into(), session: Session::default() }
    }

    /// What the session is called in the audit log; `aqueduct` by default.
    pub fn session_name(mut self, name: impl Into<String>) -> Self {
        self.session.name = name.into();
        self
    }

    /// How long a session lasts, from 15 minutes to what the role allows; one hour by default.
    pub fn session_length(mut self, length: Duration) -> Self {
        self.session.length = Some(length);
        self
    }

    pub(crate) fn problems(&self) -> Vec<S3ConfigError> {
        self.session.problems(&self.arn)
    }
}

/// A session with a role, begun anew whenever it is asked for.
#[derive(Debug)]
pub(crate) struct RoleSession {
    pub(crate) sts: aws_sdk_sts::Client,
    pub(crate) role: Role,
}

#[derive(Debug)]
pub(crate) enum Role {
    Assumed(AssumeRole),
    WebIdentity(WebIdentity),
}

impl RoleSession {
    async fn begin(&self) -> Provided {
        let issued = match &self.role {
            Role::Assumed(role) => {
                let request =
                    self.sts.assume_role().role_arn(&role.arn).role_session_name(&role.session.name);
                let request = request
                    .set_external_id(role.external_id.clone())
                    .set_duration_seconds(role.session.seconds());
                request.send().await.map_err(|error| refused(&error))?.credentials
            }
            Role::WebIdentity(role) => {
                let token = tokio::fs::read_to_string(&role.token_file).await;
                let token = token.map_err(|error| {
                    CredentialsError::provider_error(format!("{}: {error}", role.token_file.display()))
                })?;
                let request = self.sts.assume_role_with_web_identity().role_arn(&role.arn);
                let request = request
                    .role_session_name(&role.session.name)
                    .web_identity_token(token.trim())
                    .set_duration_seconds(role.session.seconds());
                request.send().await.map_err(|error| refused(&error))?.credentials
            }
        };
        let Some(issued) = issued else {
            return Err(CredentialsError::provider_error("the token service's answer has no credentials"));
        };
        let expiry = SystemTime::try_from(issued.expiration).map_err(CredentialsError::provider_error)?;
        Ok(Credentials::new(
            issued.access_key_id,
            issued.secret_access_key,
            Some(issued.session_token),
            Some(expiry),
            "aqueduct",
        ))
    }
}

/// The token service's error, without its answer: that may hold a session.
fn refused(error: &(dyn std::error::Error + 'static)) -> CredentialsError {
    CredentialsError::provider_error(Told::of(error))
}

impl ProvideCredentials for RoleSession {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.begin())
    }
}

/// Credentials that are held until shortly before they expire, or until the store says that they have: its clock counts,
/// and a session can be revoked. The SDK's own cache knows the first only. If a renewal fails, what is held serves as long
/// as it is valid.
#[derive(Clone)]
pub(crate) struct Renewing(Arc<Held>);

struct Held {
    provider: SharedCredentialsProvider,
    credentials: Mutex<Option<Credentials>>,
    refused: AtomicBool,
}

impl Renewing {
    pub(crate) fn new(provider: SharedCredentialsProvider) -> Self {
        Self(Arc::new(Held { provider, credentials: Mutex::default(), refused: AtomicBool::new(false) }))
    }

    /// The store does not take them any more.
    pub(crate) fn refused(&self) {
        self.0.refused.store(true, Ordering::Relaxed);
    }

    async fn current(&self) -> Provided {
        // One asks, the others wait for the answer.
        let mut held = self.0.credentials.lock().await;
        let refused = self.0.refused.load(Ordering::Relaxed);
        let lasts =
            |credentials: &Credentials, by: SystemTime| credentials.expiry().is_none_or(|end| end > by);
        let now = SystemClock.now();
        if let Some(credentials) = &*held
            && !refused
            && lasts(credentials, now + RENEW_BEFORE)
        {
            return Ok(credentials.clone());
        }
        match self.0.provider.provide_credentials().await {
            Ok(credentials) => {
                self.0.refused.store(false, Ordering::Relaxed);
                *held = Some(credentials.clone());
                Ok(credentials)
            }
            Err(error) => match &*held {
                Some(credentials) if !refused && lasts(credentials, now) => {
                    tracing::warn!(%error, "could not renew the credentials; those at hand are valid still");
                    Ok(credentials.clone())
                }
                _ => Err(error),
            },
        }
    }
}

impl ProvideCredentials for Renewing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.current())
    }
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing").finish_non_exhaustive()
    }
}
