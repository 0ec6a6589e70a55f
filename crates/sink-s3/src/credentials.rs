//! Who we are to the store.

use std::fmt;

use aws_credential_types::Credentials;
use secrecy::{ExposeSecret, SecretString};

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
