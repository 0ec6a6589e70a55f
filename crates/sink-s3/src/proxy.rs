//! The way through an HTTP proxy.

use aws_smithy_http_client::proxy::ProxyConfig;
use secrecy::{ExposeSecret, SecretString};

use crate::attributes::encoded;
use crate::config::{Place, S3ConfigError, check_url};

/// An HTTP proxy for requests to the store and to the security token service. The environment's `HTTPS_PROXY` and the
/// like are not looked at: where records go is said in one place.
///
/// To an `https` endpoint the proxy passes a tunnel on (`CONNECT`) and sees none of it; to an `http` endpoint it sees all.
#[derive(Clone, Debug)]
#[must_use]
pub struct Proxy {
    url: Place,
    user: Option<(String, SecretString)>,
}

impl Proxy {
    /// The proxy's URL, `http://proxy.internal:3128`, without user and password.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: Place::new(url), user: None }
    }

    /// User and password for the proxy (basic authentication). The password is never printed.
    pub fn basic_auth(mut self, user: impl Into<String>, password: impl Into<SecretString>) -> Self {
        self.user = Some((user.into(), password.into()));
        self
    }

    /// Never repeats the URL: somebody may have put a password into it all the same.
    pub(crate) fn problem(&self) -> Option<S3ConfigError> {
        let colon = self.user.as_ref().is_some_and(|(user, _)| user.contains(':'));
        let problem = check_url(&self.url)
            .or_else(|| colon.then_some("user has a colon, which ends the name in basic authentication"))
            .or_else(|| ProxyConfig::all(&*self.url).err().map(|_| "is not a URL"));
        problem.map(|problem| S3ConfigError::Proxy { problem })
    }

    pub(crate) fn to_sdk(&self) -> ProxyConfig {
        // Looked at before, in `problem`.
        let config = ProxyConfig::all(&*self.url).unwrap_or_else(|_| ProxyConfig::disabled());
        match &self.user {
            // The SDK writes both into the URL as they are, and reads them from there: a slash or an `@` in a password would
            // make another host of it.
            Some((user, password)) => {
                config.with_basic_auth(encoded(user), encoded(password.expose_secret()))
            }
            None => config,
        }
    }
}
