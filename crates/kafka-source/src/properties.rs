//! librdkafka properties: what is passed through, what is refused, what is never printed.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use secrecy::{ExposeSecret, SecretString};

/// A property the protocol owns, and why a user's value would break it.
pub(crate) struct Owned {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
}

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigProblem {
    /// Something that has no default is absent.
    #[error("{what} is not set: call `{call}`")]
    Missing {
        /// What is absent.
        what: &'static str,
        /// The builder method that sets it.
        call: &'static str,
    },
    /// A property that decides whether records are lost or duplicated.
    #[error("property {name} is owned by the source: {reason}")]
    Owned {
        /// The property.
        name: String,
        /// Why it cannot be changed.
        reason: &'static str,
    },
    /// A property was given two different values.
    #[error("property {name} is set twice with different values: keep one of them")]
    SetTwice {
        /// The property.
        name: String,
    },
    /// librdkafka does not know the property or its value.
    #[error("property {name} is refused by librdkafka: {detail}")]
    Refused {
        /// The property.
        name: String,
        /// librdkafka's words, without the value if it is a secret.
        detail: String,
    },
    /// A mechanism that sends the secret itself would do so unencrypted.
    #[error(
        "SASL {mechanism} without TLS sends the credentials in clear: use `Security::Sasl(…, Tls::system())`, or \
         `danger_allow_without_tls()` if that is meant"
    )]
    SentInClear {
        /// The mechanism.
        mechanism: &'static str,
    },
    /// A value of our own that makes no sense.
    #[error("{what} is {found}: {expected}")]
    Invalid {
        /// What was set.
        what: &'static str,
        /// The value.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
}

/// Everything that is wrong with a configuration, found at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<ConfigProblem>,
}

impl ConfigError {
    /// `Ok` if there is no problem.
    pub(crate) fn check(problems: Vec<ConfigProblem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }

    pub(crate) fn single(problem: ConfigProblem) -> Self {
        Self { problems: vec![problem] }
    }

    /// The problems, in the order they were set.
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid kafka configuration: ")?;
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// librdkafka properties as the user set them. Values that may hold a credential are never printed.
#[derive(Clone, Default)]
pub(crate) struct Properties {
    values: BTreeMap<String, SecretString>,
    clashes: Vec<String>,
}

impl Properties {
    /// Sets `name`; a second, different value is remembered as a problem.
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        let value = value.into();
        if self.values.get(&name).is_some_and(|set| set.expose_secret() != value) {
            self.clashes.push(name);
        } else {
            self.values.insert(name, SecretString::from(value));
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(ExposeSecret::expose_secret)
    }

    /// The properties over `defaults`, which they replace.
    pub(crate) fn client_config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.values {
            config.set(name, value.expose_secret());
        }
        // Lines go through `tracing`, whose filters decide; librdkafka only writes debug lines when asked to.
        let debug = self.get("debug").is_some();
        config.set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        config
    }

    /// Every property that is owned, set twice or unknown.
    pub(crate) fn problems(&self, owned: &[Owned]) -> Vec<ConfigProblem> {
        let mut problems: Vec<_> =
            self.clashes.iter().map(|name| ConfigProblem::SetTwice { name: name.clone() }).collect();
        for (name, value) in &self.values {
            if let Some(owned) = owned.iter().find(|owned| owned.name == name) {
                problems.push(ConfigProblem::Owned { name: name.clone(), reason: owned.reason });
                continue;
            }
            if BROKER_LISTS.contains(&name.as_str()) && value.expose_secret().contains('@') {
                problems.push(ConfigProblem::Invalid {
                    what: "the broker list",
                    found: "a text with an `@`".to_owned(),
                    expected: "write `host:port,host:port`; user and password go to `security(Security::Sasl(…))`",
                });
                continue;
            }
            let mut single = ClientConfig::new();
            single.set(name, value.expose_secret());
            if let Err(error) = single.create_native_config() {
                let detail = refusal(name, value.expose_secret(), error);
                problems.push(ConfigProblem::Refused { name: name.clone(), detail });
            }
        }
        problems
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.values.iter().map(|(name, value)| (name, shown(name, value.expose_secret())));
        f.debug_map().entries(shown).finish()
    }
}

/// A property's value for whoever reads a `Debug` output.
fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    if is_secret(name) || holds_password(name, value) { "<redacted>" } else { value }
}

/// Whether a value is of the form `user:password@host`: in a URL, or in the list of brokers, where nothing else has an `@`.
fn holds_password(name: &str, value: &str) -> bool {
    value.contains('@') && (value.contains("://") || BROKER_LISTS.contains(&name))
}

/// The properties that name the brokers.
pub(crate) const BROKER_LISTS: [&str; 2] = ["bootstrap.servers", "metadata.broker.list"];

/// Whether a property's value may hold a credential: rather one too many than one too few.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 10] = [
        "password",
        "secret",
        "passphrase",
        "private",
        "token",
        "oauthbearer.config",
        "oauthbearer.extensions",
        "kinit.cmd",
        "jaas",
        "ssl_key",
    ];
    PARTS.iter().any(|part| name.contains(part))
        || name.strip_prefix("ssl.").is_some_and(|rest| rest.split('.').any(|word| word == "pem"))
}

fn refusal(name: &str, value: &str, error: KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, detail, ..) if !is_secret(name) && !holds_password(name, value) => detail,
        KafkaError::Nul(_) => "the value holds a zero byte".to_owned(),
        _ => "the value does not fit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_texts_are_properties_or_problems(
            name in prop_oneof![any::<String>(), prop::sample::select(vec!["fetch.wait.max.ms", "debug", "bootstrap.servers", "sasl.password"]).prop_map(str::to_owned)],
            value: String, other: String,
        ) {
            let secret = format!("canary{other}");
            let mut properties = Properties::default();
            properties.set(name.clone(), value.clone());
            properties.set(name, other);
            properties.set("sasl.password", secret);
            let problems = properties.problems(OWNED);
            let said = format!("{properties:?} {problems:?} {}", ConfigError { problems: problems.clone() });
            prop_assert!(!said.contains("canary") || value.contains("canary"), "{}", said);
        }
    }

    const OWNED: &[Owned] = &[Owned { name: "enable.auto.commit", reason: "offsets follow objects" }];

    #[test]
    fn every_problem_is_reported_at_once() {
        let mut properties = Properties::default();
        properties.set("enable.auto.commit", "true");
        properties.set("no.such.property", "1");
        properties.set("fetch.wait.max.ms", "soon");
        properties.set("client.id", "a");
        properties.set("client.id", "b");
        let error = ConfigError::check(properties.problems(OWNED)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.problems().len(), 4, "{text}");
        for part in
            ["offsets follow objects", "no.such.property", "fetch.wait.max.ms", "client.id is set twice"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains('\n'));
    }

    #[test]
    fn the_same_value_twice_is_no_problem() {
        let mut properties = Properties::default();
        properties.set("client.id", "a");
        properties.set("client.id", "a");
        assert_eq!(properties.problems(OWNED), []);
    }

    #[test]
    fn secrets_are_neither_printed_nor_quoted() {
        let secret = "canary-7f3a";
        let mut properties = Properties::default();
        for name in [
            "sasl.password",
            "ssl.key.password",
            "ssl.keystore.password",
            "ssl.key.pem",
            "ssl.certificate.pem",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.config",
        ] {
            properties.set(name, secret);
        }
        // A value librdkafka refuses must not come back in its message either.
        properties.set("sasl.oauthbearer.client.secret.typo", secret);
        properties.set("sasl.username", "shown");
        let text = format!("{properties:?} {:?}", ConfigError::check(properties.problems(OWNED)));
        assert!(!text.contains(secret), "{text}");
        assert!(text.contains("shown") && text.contains("client.secret.typo"), "{text}");
    }
}
