//! How a worker is known to the broker.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aqueduct::kafka::OAuthToken;
use aqueduct::{Sasl, Security, Tls};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// TLS and SASL; neither by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    /// The authority it believes; without one it speaks no TLS.
    pub(crate) ca: Option<PathBuf>,
    /// The certificate it shows.
    pub(crate) certificate: Option<Certificate>,
    /// How it authenticates.
    pub(crate) login: Option<Login>,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Certificate {
    pub(crate) file: PathBuf,
    pub(crate) key: PathBuf,
}

/// How it authenticates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Login {
    Plain {
        user: String,
        password: String,
    },
    Scram256 {
        user: String,
        password: String,
    },
    Scram512 {
        user: String,
        password: String,
    },
    /// Tokens without a signature that live this long.
    Token {
        user: String,
        lives_s: u64,
    },
    /// There is no token to be had.
    NoToken,
}

/// What the log says for each token: a scenario counts them.
pub(crate) const TOKEN_MADE: &str = "a token was made";

impl Access {
    pub(super) fn security(&self) -> Option<Security> {
        let tls = self.ca.as_ref().map(|ca| {
            let tls = Tls::system().ca_file(ca);
            match &self.certificate {
                Some(Certificate { file, key }) => tls.client_files(file, key),
                None => tls,
            }
        });
        match (self.login.as_ref().map(Login::sasl), tls) {
            (None, None) => None,
            (None, Some(tls)) => Some(Security::Tls(tls)),
            (Some(sasl), Some(tls)) => Some(Security::Sasl(sasl, tls)),
            (Some(sasl), None) => Some(Security::SaslWithoutTls(sasl)),
        }
    }
}

impl Login {
    fn sasl(&self) -> Sasl {
        match self {
            Self::Plain { user, password } => Sasl::plain(user, password.as_str()),
            Self::Scram256 { user, password } => Sasl::scram_sha_256(user, password.as_str()),
            Self::Scram512 { user, password } => Sasl::scram_sha_512(user, password.as_str()),
            Self::Token { user, lives_s } => {
                let (user, lives) = (user.clone(), Duration::from_secs(*lives_s));
                Sasl::oauthbearer(move || {
                    tracing::info!("{TOKEN_MADE}");
                    unsigned_token(&user, lives)
                })
            }
            Self::NoToken => Sasl::oauthbearer(|| Err("the issuer is closed for today".into())),
        }
    }
}

/// A JWT without a signature, as Kafka's validator for tests takes it.
fn unsigned_token(user: &str, lives: Duration) -> Result<OAuthToken, Box<dyn Error + Send + Sync>> {
    #[expect(clippy::disallowed_methods, reason = "a token's life is told by the clock of the machine")]
    let now = SystemTime::now();
    let expires = now + lives;
    let (issued, until) =
        (now.duration_since(UNIX_EPOCH)?.as_secs(), expires.duration_since(UNIX_EPOCH)?.as_secs());
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{user}","iat":{issued},"exp":{until}}}"#));
    Ok(OAuthToken::new(format!("{head}.{claims}."), user, expires))
}
