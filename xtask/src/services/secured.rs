//! What makes a broker one with TLS and SASL: further listeners, users and certificates.
//!
//! Its plain listener stays: what produces and audits is not what is tested.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::certificates::{Certificates, HOST};
use super::daemon::free_ports;

/// The user that every mechanism knows.
pub const USER: &str = "worker";
/// Its password.
pub const PASSWORD: &str = "open-sesame-4711";

/// How long a connection of OAUTHBEARER lasts at most before it must show a fresh token.
const REAUTHENTICATE_MS: &str = "5000";

/// The addresses of the protected listeners.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listeners {
    /// TLS, for clients that show a certificate.
    pub tls: String,
    /// TLS and SASL with every mechanism.
    pub sasl: String,
    /// As `sasl`, under a name that is not in the certificate.
    pub sasl_other_name: String,
    /// TLS with a certificate that has expired.
    pub expired: String,
}

/// Ports and certificates of the protected listeners.
#[derive(Clone, Debug)]
pub(super) struct Protection {
    ports: [u16; 3],
    certificates: Certificates,
}

impl Protection {
    pub(super) fn new(home: &Path) -> Result<Self> {
        Ok(Self { ports: free_ports()?, certificates: Certificates::make(home)? })
    }

    pub(super) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    pub(super) fn addresses(&self) -> Listeners {
        let [tls, sasl, expired] = self.ports;
        Listeners {
            tls: format!("{HOST}:{tls}"),
            sasl: format!("{HOST}:{sasl}"),
            sasl_other_name: format!("127.0.0.1:{sasl}"),
            expired: format!("{HOST}:{expired}"),
        }
    }

    /// `(name, host, port, protocol)` of each listener.
    fn listeners(&self) -> [(&'static str, u16, &'static str); 3] {
        let [tls, sasl, expired] = self.ports;
        [("MTLS", tls, "SSL"), ("SASLTLS", sasl, "SASL_SSL"), ("EXPIRED", expired, "SSL")]
    }

    /// What is added to `listeners`.
    pub(super) fn bound(&self) -> String {
        self.listeners().map(|(name, port, _)| format!(",{name}://127.0.0.1:{port}")).concat()
    }

    /// What is added to `advertised.listeners`.
    pub(super) fn advertised(&self) -> String {
        self.listeners().map(|(name, port, _)| format!(",{name}://{HOST}:{port}")).concat()
    }

    /// What is added to `listener.security.protocol.map`.
    pub(super) fn protocols(&self) -> String {
        self.listeners().map(|(name, _, protocol)| format!(",{name}:{protocol}")).concat()
    }

    /// Further settings.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        for (listener, keystore) in [
            ("mtls", &self.certificates.broker),
            ("sasltls", &self.certificates.broker),
            ("expired", &self.certificates.expired),
        ] {
            let mut set = |name: &str, value: String| {
                settings.push((format!("listener.name.{listener}.ssl.{name}"), value));
            };
            set("keystore.type", "PEM".to_owned());
            set("keystore.location", keystore.display().to_string());
            set("truststore.type", "PEM".to_owned());
            set("truststore.location", self.certificates.ca.display().to_string());
            set("client.auth", if listener == "mtls" { "required" } else { "none" }.to_owned());
        }
        let login = "org.apache.kafka.common.security";
        let oauth = "listener.name.sasltls.oauthbearer";
        for (name, value) in [
            (
                "listener.name.sasltls.sasl.enabled.mechanisms",
                "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".to_owned(),
            ),
            (
                "listener.name.sasltls.plain.sasl.jaas.config",
                format!("{login}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";"),
            ),
            (
                "listener.name.sasltls.scram-sha-256.sasl.jaas.config",
                format!("{login}.scram.ScramLoginModule required;"),
            ),
            (
                "listener.name.sasltls.scram-sha-512.sasl.jaas.config",
                format!("{login}.scram.ScramLoginModule required;"),
            ),
            // Takes tokens without a signature: for tests only, and enough to see that they are sent, checked and renewed.
            (
                &format!("{oauth}.sasl.jaas.config"),
                format!(
                    "{login}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";"
                ),
            ),
            (&format!("{oauth}.connections.max.reauth.ms"), REAUTHENTICATE_MS.to_owned()),
        ] {
            settings.push((name.to_owned(), value));
        }
        settings
    }

    /// What is added to the command that formats the broker's storage: the users of SCRAM live there.
    pub(super) fn users() -> [String; 4] {
        let user = |hash: &str| format!("SCRAM-SHA-{hash}=[name={USER},password={PASSWORD}]");
        ["--add-scram".to_owned(), user("256"), "--add-scram".to_owned(), user("512")]
    }
}
