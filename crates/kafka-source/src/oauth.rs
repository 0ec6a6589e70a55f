//! Bearer tokens: who makes them, and when.

use std::error::Error;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret, SecretString};

/// Makes the tokens of SASL/OAUTHBEARER.
///
/// # Contract
/// - Called once before the first connection, and again when four fifths of a token's life are over: connections that
///   the broker limits (`connections.max.reauth.ms`) authenticate again with the new one and carry on.
/// - Called on the thread that polls the client: an answer within a second or so. Fetch tokens ahead of time in a task
///   of your own and answer with the last one; asking an endpoint here is fine if it has a short timeout.
/// - An error before the first connection ends `open` with its text. Later it is logged and asked again every 10 s,
///   while the old token still serves.
///
/// # Errors
/// The text is logged and shown: leave the credentials out of it.
///
/// ```no_run
/// use std::error::Error;
/// use std::time::{Duration, SystemTime};
/// use aqueduct_kafka_source::{OAuthToken, Sasl};
///
/// /// A token that something else renews in a file, such as a Kubernetes projected service account.
/// fn from_file() -> Result<OAuthToken, Box<dyn Error + Send + Sync>> {
///     let path = "/var/run/secrets/kafka/token";
///     let value = std::fs::read_to_string(path)?;
///     let written = std::fs::metadata(path)?.modified()?;
///     Ok(OAuthToken::new(value.trim(), "archive", written + Duration::from_secs(3600)))
/// }
/// let sasl = Sasl::oauthbearer(from_file);
/// # drop(sasl);
/// ```
pub trait OAuthTokens: Send + Sync + 'static {
    /// A token that is valid now.
    fn token(&self) -> Result<OAuthToken, Box<dyn Error + Send + Sync>>;
}

impl<F> OAuthTokens for F
where
    F: Fn() -> Result<OAuthToken, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
{
    fn token(&self) -> Result<OAuthToken, Box<dyn Error + Send + Sync>> {
        self()
    }
}

/// A bearer token. Its value is never printed.
#[derive(Clone)]
pub struct OAuthToken {
    value: SecretString,
    principal: String,
    expires: SystemTime,
}

impl OAuthToken {
    /// The token as the broker wants it (a JWT in compact form, mostly), the principal it is for, and the end of its
    /// life.
    pub fn new(value: impl Into<SecretString>, principal: impl Into<String>, expires: SystemTime) -> Self {
        Self { value: value.into(), principal: principal.into(), expires }
    }
}

impl fmt::Debug for OAuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthToken")
            .field("principal", &self.principal)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Asks for a token, in librdkafka's terms.
pub(crate) fn ask(tokens: Option<&dyn OAuthTokens>) -> Result<rdkafka::client::OAuthToken, Box<dyn Error>> {
    let tokens =
        tokens.ok_or("OAUTHBEARER needs someone who makes tokens: use `Sasl::oauthbearer(tokens)`")?;
    let token = tokens.token().map_err(|error| {
        // librdkafka takes no text with a zero byte.
        format!("no token: {}", error.to_string().replace('\0', " "))
    })?;
    let lifetime = token.expires.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(rdkafka::client::OAuthToken {
        token: token.value.expose_secret().to_owned(),
        principal_name: token.principal,
        lifetime_ms: i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_token_is_passed_on_with_its_end_and_never_printed() {
        let made = || {
            let expires = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
            Ok::<_, Box<dyn Error + Send + Sync>>(OAuthToken::new("canary-3b", "me", expires))
        };
        let token = ask(Some(&made)).unwrap();
        assert_eq!(
            (&*token.token, &*token.principal_name, token.lifetime_ms),
            ("canary-3b", "me", 1_700_000_000_123)
        );
        assert!(!format!("{:?}", made().unwrap()).contains("canary"));
    }

    #[test]
    fn no_token_says_why() {
        let refused = || Err::<OAuthToken, Box<dyn Error + Send + Sync>>("the issuer\0is down".into());
        assert_eq!(ask(Some(&refused)).err().unwrap().to_string(), "no token: the issuer is down");
        assert!(ask(None).err().unwrap().to_string().contains("Sasl::oauthbearer"));
    }
}
