//! How a registry is reached.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::auth::{Auth, BearerTokens};
use crate::client::RegistryClient;
use crate::http::{Http, Patience};
use crate::resolve::ReferenceLimits;
use crate::tls::Tls;

/// Configures a [`RegistryClient`].
///
/// ```
/// use std::time::Duration;
/// use aqueduct_schema_registry::RegistryClient;
///
/// let client = RegistryClient::builder("https://registry-1.example.org")
///     .url("https://registry-2.example.org")
///     .basic_auth("archive", "pass-word")
///     .request_timeout(Duration::from_secs(5))
///     .build()?;
/// assert!(!format!("{client:?}").contains("pass-word"));
/// # Ok::<(), aqueduct_schema_registry::RegistryConfigErrors>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct RegistryBuilder {
    urls: Vec<String>,
    auth: Auth,
    doubly_authenticated: bool,
    headers: Vec<(String, SecretString)>,
    tls: Tls,
    patience: Patience,
    response_max: usize,
    subject: Option<String>,
    versions: bool,
    references: ReferenceLimits,
}

impl RegistryBuilder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            urls: vec![url],
            auth: Auth::default(),
            doubly_authenticated: false,
            headers: Vec::new(),
            tls: Tls::default(),
            patience: Patience::default(),
            response_max: RegistryClient::RESPONSE_MAX,
            subject: None,
            versions: true,
            references: ReferenceLimits::default(),
        }
    }

    /// Another server of the same registry, asked when the ones before do not answer. The one that answered last is asked first.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// User and password; for a hosted registry the API key and its secret.
    pub fn basic_auth(self, user: impl Into<String>, password: impl Into<SecretString>) -> Self {
        self.authenticate(Auth::Basic { user: user.into(), password: password.into() })
    }

    /// A bearer token for each request; a [`SecretString`] is one that does not change.
    pub fn bearer_auth(self, tokens: impl BearerTokens) -> Self {
        self.authenticate(Auth::Bearer(Arc::new(tokens)))
    }

    fn authenticate(mut self, auth: Auth) -> Self {
        self.doubly_authenticated |= !matches!(self.auth, Auth::Nobody);
        self.auth = auth;
        self
    }

    /// A header for each request. Its value is treated as a secret.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A PEM file of the authorities to believe, instead of the system's.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.authorities = Some(file.into());
        self
    }

    /// PEM files of the client's certificate, its chain behind it, and of its key: mutual TLS.
    pub fn client_certificate(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.identity = Some((chain.into(), key.into()));
        self
    }

    /// How long a connection may take to come about; 3 s by default.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.patience.connect = time;
        self
    }

    /// How long one request may take, from the connection to the last byte of the answer; 10 s by default.
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.patience.request = time;
        self
    }

    /// How long a schema may take, with all requests for what it refers to and all their repetitions; 60 s by default. After that
    /// the lane says what it waits for, and begins anew.
    pub fn total_timeout(mut self, time: Duration) -> Self {
        self.patience.total = time;
        self
    }

    /// How often a request is sent to each server before the lane is told; 3 by default.
    pub fn attempts(mut self, attempts: usize) -> Self {
        self.patience.attempts = attempts;
        self
    }

    /// The wait before the second attempt, doubled for each further one up to 5 s, and jittered; 100 ms by default.
    pub fn backoff(mut self, first: Duration) -> Self {
        self.patience.backoff = first;
        self
    }

    /// The largest answer that is read, in bytes; 4 MiB by default.
    pub fn response_max(mut self, bytes: usize) -> Self {
        self.response_max = bytes;
        self
    }

    /// How long to wait before an id that the registry does not know is asked for again; 500 ms by default, zero to believe it at
    /// once. A follower of the registry may not have yet what a producer has registered at its leader a moment ago, and the
    /// producer's record can be here before. When [`UNKNOWN_IN_VAIN`](RegistryClient::UNKNOWN_IN_VAIN) ids in a row stayed
    /// unknown, the next ones are believed at once, so that a producer of nonsense does not hold its lane up.
    pub fn unknown_again_after(mut self, time: Duration) -> Self {
        self.patience.unknown = time;
        self
    }

    /// Looks ids up as `subject` has them: a subject, or a context such as `:.staging:`, for registries where an id does not mean
    /// the same everywhere.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Whether a schema's subjects and versions are asked for, too ([`RegisteredSchema::versions`]); they are by default, by one
    /// more request for each schema. Without them formats go by the order in which a segment meets schemas, and one that writes
    /// all rows by its newest schema may take an older one for it and leave columns out. A registry that does not tell them
    /// leaves them empty; one that is down is waited for, as for the schema.
    ///
    /// [`RegisteredSchema::versions`]: aqueduct_converters::registry::RegisteredSchema::versions
    pub fn versions(mut self, asked: bool) -> Self {
        self.versions = asked;
        self
    }

    /// How many schemas one may refer to, directly or not; 500 by default.
    pub fn references_max(mut self, count: usize) -> Self {
        self.references.count = count;
        self
    }

    /// How long a chain of references may be; 32 by default.
    pub fn reference_depth_max(mut self, depth: usize) -> Self {
        self.references.depth = depth;
        self
    }

    /// How many bytes the texts of a schema and of everything it refers to may have together; 16 MiB by default.
    pub fn texts_max(mut self, bytes: usize) -> Self {
        self.references.bytes = bytes;
        self
    }

    /// Builds the client, without a request.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn build(self) -> Result<RegistryClient, RegistryConfigErrors> {
        let mut problems = Vec::new();
        let urls = self
            .urls
            .iter()
            .filter_map(|url| base_url(url).map_err(|problem| problems.push(problem)).ok())
            .collect();
        let headers = self.header_map(&mut problems);
        if self.doubly_authenticated {
            problems.push(RegistryConfigError::AuthTwice);
        }
        if let Auth::Basic { user, password } = &self.auth {
            for (what, empty) in
                [("user", user.is_empty()), ("password", password.expose_secret().is_empty())]
            {
                if empty {
                    problems.push(RegistryConfigError::EmptyCredential { what });
                }
            }
            if user.contains(':') {
                problems.push(RegistryConfigError::ColonInUser);
            }
        }
        let patience = &self.patience;
        for (option, zero) in [
            ("connect_timeout", patience.connect.is_zero()),
            ("request_timeout", patience.request.is_zero()),
            ("total_timeout", patience.total.is_zero()),
            ("backoff", patience.backoff.is_zero()),
            ("attempts", patience.attempts == 0),
            ("response_max", self.response_max == 0),
            ("texts_max", self.references.bytes == 0),
        ] {
            if zero {
                problems.push(RegistryConfigError::Zero { option });
            }
        }
        let tls = self.tls.client_config().map_err(|found| problems.extend(found)).ok();
        let (true, Some(tls)) = (problems.is_empty(), tls) else {
            return Err(RegistryConfigErrors(problems));
        };
        let http = Http::new(urls, self.auth, headers, tls, self.patience, self.response_max)
            .map_err(|problem| RegistryConfigErrors(vec![problem]))?;
        Ok(RegistryClient::new(http, self.subject, self.versions, self.references))
    }

    fn header_map(&self, problems: &mut Vec<RegistryConfigError>) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let parsed =
                HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value.expose_secret()).ok());
            match parsed {
                Some((name, mut value)) => {
                    value.set_sensitive(true);
                    map.append(name, value);
                }
                None => problems.push(RegistryConfigError::Header { name: name.escape_debug().to_string() }),
            }
        }
        map
    }
}

impl fmt::Debug for RegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs may hold a password until `build` has refused them.
        f.debug_struct("RegistryBuilder")
            .field("urls", &self.urls.len())
            .field("auth", &self.auth)
            .field("tls", &self.tls)
            .field("patience", &self.patience)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// Checks a base URL and makes its path one that others can be put behind.
fn base_url(text: &str) -> Result<Url, RegistryConfigError> {
    let wrong = |problem| Err(RegistryConfigError::Url { problem });
    // A user that is set by mistake without a scheme would be taken for one.
    let Ok(url) = Url::parse(text) else { return wrong("is not a URL") };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong("does not begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has a user or a password in it: give them to basic_auth()");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("has a query or a fragment");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return wrong("has no host");
    }
    Ok(url)
}

/// One thing that is wrong with the configuration of a [`RegistryClient`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryConfigError {
    /// A base URL. Its text is not repeated, because it may hold a password.
    #[error("a registry's URL {problem}; write it like https://registry.example.org:8081")]
    Url {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two ways to authenticate.
    #[error("basic_auth and bearer_auth exclude each other")]
    AuthTwice,
    /// A credential without content, mostly an environment variable that is not set.
    #[error("the {what} of basic_auth is empty")]
    EmptyCredential {
        /// Which.
        what: &'static str,
    },
    /// A user that basic authentication cannot spell.
    #[error("the user of basic_auth has a colon, which basic authentication cannot send")]
    ColonInUser,
    /// A header that HTTP does not have. Its value is not repeated.
    #[error("the header {name:?} has a name or a value that HTTP does not allow")]
    Header {
        /// Its name.
        name: String,
    },
    /// A file with certificates or a key.
    #[error("the file {file:?} {problem}")]
    Pem {
        /// Its path.
        file: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nobody to believe.
    #[error("{place} holds no certificate of an authority; install ca-certificates, or call ca_file()")]
    NoAuthority {
        /// Where they were looked for.
        place: String,
    },
    /// A certificate and a key that do not go together.
    #[error("the certificate in {file:?} and its key do not go together")]
    Identity {
        /// The certificate's file.
        file: String,
    },
    /// Something that must be more than zero.
    #[error("{option} is zero; it must be more")]
    Zero {
        /// Which.
        option: &'static str,
    },
    /// The HTTP client could not be made.
    #[error("the http client cannot be made")]
    Client,
}

/// Everything that is wrong with the configuration of a [`RegistryClient`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfigErrors(pub Vec<RegistryConfigError>);

impl fmt::Display for RegistryConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the schema registry's client cannot be built: ")?;
        for (index, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for RegistryConfigErrors {}
