//! How brokers and clients know each other: TLS and SASL, as types.
//!
//! Everything here becomes librdkafka properties, so that it meets what was set by [`property`] in one place and a
//! contradiction is found.
//!
//! [`property`]: crate::KafkaSourceBuilder::property

use std::fmt;
use std::path::{Path, PathBuf};
#[cfg(feature = "oauthbearer")]
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

#[cfg(feature = "oauthbearer")]
use crate::oauth::OAuthTokens;
use crate::properties::{ConfigProblem, Properties};

/// How the connection to the brokers is protected: librdkafka's `security.protocol` and what belongs to it.
///
/// One value serves the source and the dead-letter producer. Secrets are never printed.
///
/// ```no_run
/// use aqueduct_kafka_source::{KafkaDeadLetters, KafkaSource, Sasl, Security, Tls};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let password = std::env::var("KAFKA_PASSWORD")?;
/// let security = Security::Sasl(
///     Sasl::scram_sha_512("archive", password),
///     Tls::system().ca_file("/etc/kafka/ca.pem"),
/// );
/// let source = KafkaSource::builder()
///     .brokers("kafka:9093")
///     .group("archive")
///     .topics(["orders"])
///     .security(security.clone())
///     .build()?;
/// let letters =
///     KafkaDeadLetters::builder().brokers("kafka:9093").topic("orders.dead").security(security).build()?;
/// # drop((source, letters));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Security {
    /// Neither encrypted nor authenticated (`plaintext`).
    Plaintext,
    /// Encrypted; the client shows a certificate if it has one (`ssl`).
    Tls(Tls),
    /// Encrypted, and the client authenticates (`sasl_ssl`).
    Sasl(Sasl, Tls),
    /// The client authenticates, nothing is encrypted (`sasl_plaintext`). Mechanisms that send the secret itself
    /// ([`Sasl::plain`], `Sasl::oauthbearer`) are refused here unless
    /// [`danger_allow_without_tls`](Sasl::danger_allow_without_tls) says that it is meant.
    SaslWithoutTls(Sasl),
}

/// Which certificates are believed, and which one is shown.
///
/// The broker's certificate is always checked against the authorities, and its name against the host name connected
/// to. Files are read when a client connects first, and again when the source joins again after a lost membership.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Tls {
    authorities: Option<Pem>,
    identity: Option<Identity>,
    accept_invalid_hostnames: bool,
}

#[derive(Clone, Debug)]
struct Identity {
    certificate: Pem,
    key: Pem,
    key_password: Option<SecretString>,
}

/// A PEM file or its text; a key's text is a secret, so all are held as one.
#[derive(Clone, Debug)]
enum Pem {
    File(PathBuf),
    Text(SecretString),
}

impl Tls {
    /// Believes the authorities the system believes.
    pub fn system() -> Self {
        Self::default()
    }

    /// Believes the authorities in a PEM file, and no other (`ssl.ca.location`).
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.authorities = Some(Pem::File(path.into()));
        self
    }

    /// Believes the authorities in a PEM text, and no other (`ssl.ca.pem`).
    pub fn ca_pem(mut self, pem: impl Into<String>) -> Self {
        self.authorities = Some(Pem::Text(SecretString::from(pem.into())));
        self
    }

    /// Shows a client certificate (mTLS): PEM files of the certificate, with its chain, and of its key
    /// (`ssl.certificate.location`, `ssl.key.location`).
    pub fn client_files(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some(Identity {
            certificate: Pem::File(certificate.into()),
            key: Pem::File(key.into()),
            key_password: None,
        });
        self
    }

    /// Shows a client certificate (mTLS), given as PEM texts (`ssl.certificate.pem`, `ssl.key.pem`).
    pub fn client_pem(mut self, certificate: impl Into<String>, key: impl Into<SecretString>) -> Self {
        self.identity = Some(Identity {
            certificate: Pem::Text(SecretString::from(certificate.into())),
            key: Pem::Text(key.into()),
            key_password: None,
        });
        self
    }

    /// The password of the client's key (`ssl.key.password`). Without a client certificate it does nothing.
    pub fn key_password(mut self, password: impl Into<SecretString>) -> Self {
        if let Some(identity) = &mut self.identity {
            identity.key_password = Some(password.into());
        }
        self
    }

    /// Takes a certificate of any name: **whoever holds a certificate of a believed authority can pose as the
    /// broker**. Said as a warning at every start. The certificate itself is still checked.
    pub fn danger_accept_invalid_hostnames(mut self) -> Self {
        self.accept_invalid_hostnames = true;
        self
    }

    fn settle(&self, properties: &mut Properties, problems: &mut Vec<ConfigProblem>) {
        if let Some(authorities) = &self.authorities {
            authorities.settle(
                "Tls::ca",
                ["ssl.ca.location", "ssl.ca.pem"],
                CERTIFICATE,
                properties,
                problems,
            );
        }
        if let Some(Identity { certificate, key, key_password }) = &self.identity {
            let names = ["ssl.certificate.location", "ssl.certificate.pem"];
            certificate.settle("Tls::client certificate", names, CERTIFICATE, properties, problems);
            key.settle("Tls::client key", ["ssl.key.location", "ssl.key.pem"], KEY, properties, problems);
            if let Some(password) = key_password {
                properties.set("ssl.key.password", password.expose_secret());
            }
        }
        let check = if self.accept_invalid_hostnames { "none" } else { "https" };
        properties.set("ssl.endpoint.identification.algorithm", check);
    }
}

/// What a PEM text must hold.
const CERTIFICATE: &str = "CERTIFICATE-----";
const KEY: &str = "PRIVATE KEY-----";

impl Pem {
    fn settle(
        &self,
        what: &'static str,
        [location, pem]: [&'static str; 2],
        holds: &'static str,
        properties: &mut Properties,
        problems: &mut Vec<ConfigProblem>,
    ) {
        match self {
            Self::File(path) => {
                if let Some(found) = unusable(path, holds) {
                    let found = format!("{} ({found})", path.display());
                    let expected = "give the path of a PEM file this process can read";
                    problems.push(ConfigProblem::Invalid { what, found, expected });
                }
                properties.set(location, path.display().to_string());
            }
            Self::Text(text) => {
                if !text.expose_secret().contains(holds) {
                    let found = "a text without it".to_owned();
                    let expected =
                        "give the PEM text itself, from `-----BEGIN` on; a path goes to the `_file` method";
                    problems.push(ConfigProblem::Invalid { what, found, expected });
                }
                properties.set(pem, text.expose_secret());
            }
        }
    }
}

/// Why a file cannot be what it is given as.
fn unusable(path: &Path, holds: &str) -> Option<String> {
    match std::fs::read(path) {
        Ok(content) if String::from_utf8_lossy(&content).contains(holds) => None,
        Ok(_) => Some(format!("holds no `{holds}`")),
        Err(error) => Some(error.to_string()),
    }
}

/// How a client authenticates.
#[derive(Clone)]
#[must_use]
pub struct Sasl {
    mechanism: Mechanism,
    allow_without_tls: bool,
}

#[derive(Clone)]
enum Mechanism {
    Password {
        name: &'static str,
        username: String,
        password: SecretString,
    },
    #[cfg(feature = "oauthbearer")]
    OAuth(Arc<dyn OAuthTokens>),
}

impl Sasl {
    /// Name and password, sent as they are (`PLAIN`).
    pub fn plain(username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self::password("PLAIN", username, password)
    }

    /// A password that is proven and not sent (`SCRAM-SHA-256`).
    pub fn scram_sha_256(username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self::password("SCRAM-SHA-256", username, password)
    }

    /// A password that is proven and not sent (`SCRAM-SHA-512`).
    pub fn scram_sha_512(username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self::password("SCRAM-SHA-512", username, password)
    }

    /// Bearer tokens of your own making (`OAUTHBEARER`).
    #[cfg(feature = "oauthbearer")]
    pub fn oauthbearer(tokens: impl OAuthTokens) -> Self {
        Self { mechanism: Mechanism::OAuth(Arc::new(tokens)), allow_without_tls: false }
    }

    /// Lets a mechanism that sends the secret itself do so unencrypted: **whoever sees the traffic has the
    /// secret**. For tests and links that are encrypted otherwise. Said as a warning at every start.
    pub fn danger_allow_without_tls(mut self) -> Self {
        self.allow_without_tls = true;
        self
    }

    fn password(name: &'static str, username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        let (username, password) = (username.into(), password.into());
        Self { mechanism: Mechanism::Password { name, username, password }, allow_without_tls: false }
    }

    fn mechanism(&self) -> &'static str {
        match &self.mechanism {
            Mechanism::Password { name, .. } => name,
            #[cfg(feature = "oauthbearer")]
            Mechanism::OAuth(_) => "OAUTHBEARER",
        }
    }

    fn settle(&self, properties: &mut Properties, problems: &mut Vec<ConfigProblem>) {
        properties.set("sasl.mechanism", self.mechanism());
        match &self.mechanism {
            Mechanism::Password { username, password, .. } => {
                for (what, value) in [
                    ("the SASL user name", username.as_str()),
                    ("the SASL password", password.expose_secret()),
                ] {
                    if value.is_empty() {
                        let (found, expected) = ("empty".to_owned(), "give the one the broker knows");
                        problems.push(ConfigProblem::Invalid { what, found, expected });
                    }
                }
                properties.set("sasl.username", username);
                properties.set("sasl.password", password.expose_secret());
            }
            #[cfg(feature = "oauthbearer")]
            Mechanism::OAuth(_) => {}
        }
    }

    fn sends_secret(&self) -> bool {
        !self.mechanism().starts_with("SCRAM")
    }
}

impl fmt::Debug for Sasl {
    /// Never prints the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Sasl");
        shown.field("mechanism", &self.mechanism());
        match &self.mechanism {
            Mechanism::Password { username, .. } => {
                shown.field("username", username);
            }
            #[cfg(feature = "oauthbearer")]
            Mechanism::OAuth(_) => {}
        }
        shown.finish_non_exhaustive()
    }
}

impl Security {
    /// Sets the properties it stands for.
    pub(crate) fn settle(&self, properties: &mut Properties, problems: &mut Vec<ConfigProblem>) {
        let (protocol, sasl, tls) = match self {
            Self::Plaintext => ("plaintext", None, None),
            Self::Tls(tls) => ("ssl", None, Some(tls)),
            Self::Sasl(sasl, tls) => ("sasl_ssl", Some(sasl), Some(tls)),
            Self::SaslWithoutTls(sasl) => ("sasl_plaintext", Some(sasl), None),
        };
        properties.set("security.protocol", protocol);
        if let Some(sasl) = sasl {
            sasl.settle(properties, problems);
            if tls.is_none() && sasl.sends_secret() && !sasl.allow_without_tls {
                problems.push(ConfigProblem::SentInClear { mechanism: sasl.mechanism() });
            }
        }
        if let Some(tls) = tls {
            tls.settle(properties, problems);
        }
    }

    /// Who makes tokens.
    #[cfg(feature = "oauthbearer")]
    pub(crate) fn tokens(&self) -> Option<Arc<dyn OAuthTokens>> {
        match self {
            Self::Sasl(sasl, _) | Self::SaslWithoutTls(sasl) => match &sasl.mechanism {
                Mechanism::OAuth(tokens) => Some(Arc::clone(tokens)),
                Mechanism::Password { .. } => None,
            },
            Self::Plaintext | Self::Tls(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
