//! Acting as a service account that others may act as
//! (<https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>).

use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::{Clock, unix_millis};
use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;

use super::Credentials;
use super::TokenSource;
use super::cached::{Granted, TokenFlow};
use super::flows::granted;
use super::http::{Failure, Http, unreadable};
use crate::error::BigQueryError;

/// A service account to act as, and who acts.
///
/// Whoever acts needs `roles/iam.serviceAccountTokenCreator` on the account, or on the first of the delegates, each of which needs it
/// on the next.
///
/// ```
/// use std::time::Duration;
/// use aqueduct_sink_bigquery::{Credentials, Impersonation};
///
/// let credentials = Credentials::Impersonated(
///     Impersonation::of("loader@shop.iam.gserviceaccount.com")
///         .by(Credentials::CredentialsFile("/etc/aqueduct/pool.json".into()))
///         .lifetime(Duration::from_secs(1800)),
/// );
/// # drop(credentials);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Impersonation {
    pub(super) account: String,
    pub(super) by: Box<Credentials>,
    pub(super) delegates: Vec<String>,
    pub(super) lifetime: Duration,
}

impl Impersonation {
    /// As this account; [`Credentials::ApplicationDefault`] acts.
    pub fn of(account: impl Into<String>) -> Self {
        Self {
            account: account.into(),
            by: Box::default(),
            delegates: Vec::new(),
            lifetime: Duration::from_hours(1),
        }
    }

    /// Who acts.
    pub fn by(mut self, credentials: Credentials) -> Self {
        self.by = Box::new(credentials);
        self
    }

    /// Accounts in between, from the one that acts to the one before the account.
    pub fn delegates(mut self, accounts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.delegates = accounts.into_iter().map(Into::into).collect();
        self
    }

    /// How long a token is good; an hour by default and at the most, or twelve where the organisation allows it.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The error is what is wrong.
    pub(super) fn problem(&self) -> Option<String> {
        let bad = self.delegates.iter().chain([&self.account]).find(|account| !is_account(account));
        if let Some(bad) = bad {
            let shown: String = bad.chars().take(64).collect();
            return Some(format!("{shown:?} is no service account's email or number"));
        }
        let range = LIFETIME_MIN..=LIFETIME_MAX;
        (!range.contains(&self.lifetime))
            .then(|| "the lifetime of an impersonation's token must be a minute to twelve hours".to_owned())
    }
}

const LIFETIME_MIN: Duration = Duration::from_mins(1);
const LIFETIME_MAX: Duration = Duration::from_hours(12);

/// It becomes part of a URL.
fn is_account(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'@' | b':');
    !text.is_empty() && text.len() <= 256 && text.bytes().all(plain)
}

/// Asks for the account's tokens with those of whoever acts.
pub(super) struct Impersonate {
    pub(super) http: Http,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) by: Box<dyn TokenSource>,
    pub(super) url: String,
    /// As `projects/-/serviceAccounts/{account}`.
    pub(super) delegates: Vec<String>,
    pub(super) lifetime: Duration,
    pub(super) scope: &'static str,
}

/// The method's URL.
pub(super) fn url_of(endpoint: &str, account: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    format!("{endpoint}/v1/projects/-/serviceAccounts/{account}:generateAccessToken")
}

/// As the method spells a delegate; one that is spelled so already stays.
pub(super) fn delegate(account: &str) -> String {
    if account.starts_with("projects/") {
        account.to_owned()
    } else {
        format!("projects/-/serviceAccounts/{account}")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Generated {
    access_token: String,
    expire_time: String,
}

#[async_trait]
impl TokenFlow for Impersonate {
    async fn fetch(&self) -> Result<Granted, Failure> {
        let what = "the IAM service that impersonates service accounts";
        let by = self.by.token().await.map_err(|error| match error {
            BigQueryError::NoCredentials { problem } => Failure::Denied(problem),
            BigQueryError::CredentialsUnavailable { source } => Failure::Unavailable(source.to_string()),
            _ => Failure::Unavailable("whoever acts has no token at the moment".to_owned()),
        })?;
        let by =
            by.ok_or_else(|| Failure::Denied("nobody acts: an impersonation needs credentials".to_owned()))?;
        let mut body = json!({ "scope": [self.scope], "lifetime": format!("{}s", self.lifetime.as_secs()) });
        if let (false, Some(body)) = (self.delegates.is_empty(), body.as_object_mut()) {
            body.insert("delegates".to_owned(), self.delegates.clone().into());
        }
        let request = self.http.post(&self.url).bearer_auth(by.expose_secret()).json(&body);
        let answer = self.http.json::<Generated>(what, request).await;
        if matches!(answer, Err(Failure::Denied(_))) {
            // The token of whoever acts may have been withdrawn.
            self.by.renew();
        }
        let Generated { access_token, expire_time } = answer?;
        let expires: jiff::Timestamp = expire_time.parse().map_err(|_| unreadable(what))?;
        let left = expires.as_millisecond().saturating_sub(unix_millis(self.clock.now()));
        // By a clock that goes wrong it would be over already, or never.
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0))
            .clamp(LIFETIME_MIN, self.lifetime.max(LIFETIME_MIN));
        granted(what, access_token, left)
    }
}
