//! What consumers and producers have in common: the brokers, how to be known to them, and librdkafka's properties.

#[cfg(feature = "oauthbearer")]
use std::sync::Arc;

use rdkafka::ClientConfig;

#[cfg(feature = "oauthbearer")]
use crate::oauth::OAuthTokens;
use crate::properties::{ConfigProblem, Owned, Properties};
#[cfg(feature = "tls")]
use crate::security::Security;

/// The settings of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    pub(crate) properties: Properties,
    #[cfg(feature = "tls")]
    pub(crate) security: Option<Security>,
}

impl Connection {
    /// The broker list; empty if there is none.
    pub(crate) fn brokers(&self) -> &str {
        let properties = &self.properties;
        properties.get("bootstrap.servers").or(properties.get("metadata.broker.list")).unwrap_or_default()
    }

    /// Turns typed settings into properties, and finds every problem of both.
    pub(crate) fn settle(&mut self, owned: &[Owned]) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.brokers().is_empty() {
            problems.push(ConfigProblem::Missing { what: "the broker list", call: "brokers(\"host:port\")" });
        }
        #[cfg(feature = "tls")]
        if let Some(security) = &self.security {
            security.settle(&mut self.properties, &mut problems);
        }
        problems.extend(self.properties.problems(owned));
        problems
    }

    pub(crate) fn client_config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        self.properties.client_config(defaults)
    }

    /// Says aloud what is switched off; at every start, so that nobody forgets it.
    pub(crate) fn warn(&self, client: &str) {
        let is = |name: &str, value: &str| {
            self.properties.get(name).is_some_and(|set| set.eq_ignore_ascii_case(value))
        };
        if is("ssl.endpoint.identification.algorithm", "none") {
            tracing::warn!(
                client,
                "the broker's host name is NOT checked: any believed certificate can pose as it"
            );
        }
        if is("enable.ssl.certificate.verification", "false") {
            tracing::warn!(client, "the broker's certificate is NOT checked: anyone can pose as it");
        }
        let mechanism = self.properties.get("sasl.mechanism").or(self.properties.get("sasl.mechanisms"));
        if is("security.protocol", "sasl_plaintext") && !mechanism.is_some_and(|it| it.starts_with("SCRAM")) {
            tracing::warn!(client, "SASL without TLS: credentials are sent in clear");
        }
    }

    /// Who makes tokens, if that is how this client authenticates.
    #[cfg(feature = "oauthbearer")]
    pub(crate) fn tokens(&self) -> Option<Arc<dyn OAuthTokens>> {
        self.security.as_ref().and_then(Security::tokens)
    }
}

/// The builder methods of a connection; the builder holds it as `connection`.
macro_rules! connection_methods {
    () => {
        /// The brokers to ask first, `host:port` with commas between (`bootstrap.servers`).
        pub fn brokers(self, brokers: impl Into<String>) -> Self {
            self.property("bootstrap.servers", brokers)
        }

        /// How the connection is protected: TLS, SASL, both. Default: librdkafka's, which is neither.
        #[cfg(feature = "tls")]
        pub fn security(mut self, security: crate::security::Security) -> Self {
            self.connection.security = Some(security);
            self
        }

        /// Sets a librdkafka property.
        pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self.connection.properties.set(name, value);
            self
        }

        /// Sets librdkafka properties.
        pub fn properties<N: Into<String>, V: Into<String>>(
            mut self,
            properties: impl IntoIterator<Item = (N, V)>,
        ) -> Self {
            for (name, value) in properties {
                self.connection.properties.set(name, value);
            }
            self
        }
    };
}

pub(crate) use connection_methods;
