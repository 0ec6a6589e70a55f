//! Configuration: a builder that reports everything that is wrong at once.

use std::fmt;
use std::time::Duration;

use aqueduct_files::{Compression, KeyTemplate, ObjectOptions, ObjectSink, ObjectTarget, OptionError};
use aws_sdk_s3::Client;
use secrecy::SecretString;

use crate::client;
use crate::credentials::StaticCredentials;
use crate::sink::S3Sink;
use crate::target::S3Target;

/// How to reach the store.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) path_style: Option<bool>,
    pub(crate) credentials: Option<StaticCredentials>,
    pub(crate) connect_timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) attempts: u32,
}

/// No format was chosen yet.
#[derive(Clone, Copy, Debug)]
pub struct NoFormat(());

/// Configures an [`S3Sink`]. Only [`bucket`](Self::bucket) and [`format`](Self::format) have no default.
#[derive(Clone, Debug)]
#[must_use]
pub struct S3SinkBuilder<F> {
    format: F,
    bucket: String,
    prefix: String,
    file_name: Option<String>,
    pad_width: Option<usize>,
    connection: Connection,
    client: Option<Client>,
    options: ObjectOptions,
    sign_payloads: bool,
    conditional: bool,
    abort_stale_uploads: bool,
    expected_owner: Option<String>,
}

impl S3SinkBuilder<NoFormat> {
    pub(crate) fn new() -> Self {
        Self {
            format: NoFormat(()),
            bucket: String::new(),
            prefix: "topics".to_owned(),
            file_name: None,
            pad_width: None,
            connection: Connection {
                region: None,
                endpoint: None,
                path_style: None,
                credentials: None,
                connect_timeout: Duration::from_secs(5),
                attempt_timeout: Duration::from_mins(1),
                attempts: 4,
            },
            client: None,
            options: ObjectOptions::default(),
            sign_payloads: false,
            conditional: true,
            abort_stale_uploads: false,
            expected_owner: None,
        }
    }
}

impl<F> S3SinkBuilder<F> {
    /// The bucket.
    pub fn bucket(mut self, bucket: impl Into<String>) -> Self {
        self.bucket = bucket.into();
        self
    }

    /// What all keys start with; `topics` by default, as in Kafka Connect. May be empty.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The bucket's region. By default the environment's, or `us-east-1` where an endpoint is given.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.connection.region = Some(region.into());
        self
    }

    /// The store's URL, for anything that is not AWS: `http://localhost:9000`.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.connection.endpoint = Some(url.into());
        self
    }

    /// Whether the bucket goes into the URL's path instead of the host's name. By default only where an endpoint is
    /// given.
    pub fn path_style(mut self, path_style: bool) -> Self {
        self.connection.path_style = Some(path_style);
        self
    }

    /// A static access key. Without it the SDK's default chain is asked: environment, profile, web identity, ECS, EC2.
    pub fn credentials(mut self, access_key: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        self.connection.credentials = Some(StaticCredentials {
            access_key: access_key.into(),
            secret: secret.into(),
            session_token: None,
        });
        self
    }

    /// A temporary access key.
    pub fn session_credentials(
        mut self,
        access_key: impl Into<String>,
        secret: impl Into<SecretString>,
        session_token: impl Into<SecretString>,
    ) -> Self {
        let session_token = Some(session_token.into());
        self.connection.credentials =
            Some(StaticCredentials { access_key: access_key.into(), secret: secret.into(), session_token });
        self
    }

    /// Your own client, instead of region, endpoint, path style, credentials and timeouts. See
    /// [`S3Target::from_client`].
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// How long connecting may take; 5 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connection.connect_timeout = timeout;
        self
    }

    /// How long one attempt of a request may take, its body included; 60 s by default.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.connection.attempt_timeout = timeout;
        self
    }

    /// Attempts of a request before the lane itself backs off and tries again; 4 by default.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.connection.attempts = attempts;
        self
    }

    /// How records become rows.
    pub fn format<G>(self, format: G) -> S3SinkBuilder<G> {
        let Self {
            format: _,
            bucket,
            prefix,
            file_name,
            pad_width,
            connection,
            client,
            options,
            sign_payloads,
            conditional,
            abort_stale_uploads,
            expected_owner,
        } = self;
        S3SinkBuilder {
            format,
            bucket,
            prefix,
            file_name,
            pad_width,
            connection,
            client,
            options,
            sign_payloads,
            conditional,
            abort_stale_uploads,
            expected_owner,
        }
    }

    /// How objects are compressed; not at all by default.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.options.compression = compression;
        self
    }

    /// The level of compression; 1 by default.
    pub fn compression_level(mut self, level: i32) -> Self {
        self.options.compression_level = level;
        self
    }

    /// The last part of keys, before the extension; see [`KeyTemplate::with_file_name`].
    pub fn file_name(mut self, template: impl Into<String>) -> Self {
        self.file_name = Some(template.into());
        self
    }

    /// Digits the offset in a key is padded to; 10 by default.
    pub fn pad_width(mut self, digits: usize) -> Self {
        self.pad_width = Some(digits);
        self
    }

    /// Bytes of rows at which a route's next object begins; 256 MiB by default.
    pub fn target_object_bytes(mut self, bytes: u64) -> Self {
        self.options.target_object_bytes = bytes;
        self
    }

    /// Size of the parts of large objects in bytes; 8 MiB by default, 5 MiB at least.
    pub fn part_bytes(mut self, bytes: usize) -> Self {
        self.options.part_bytes = bytes;
        self
    }

    /// Most requests with a body under way at once; 16 by default.
    pub fn requests(mut self, requests: usize) -> Self {
        self.options.requests = requests;
        self
    }

    /// Includes bodies in the signature; off by default. See [`S3Target`] for what that means.
    pub fn payload_signing(mut self, sign: bool) -> Self {
        self.sign_payloads = sign;
        self
    }

    /// Off for stores that do not know `If-None-Match`; see [`S3Target::with_conditional_writes`].
    pub fn conditional_writes(mut self, conditional: bool) -> Self {
        self.conditional = conditional;
        self
    }

    /// Removes what killed processes have left of uploads in parts, as soon as the object is there; off by default. It costs one
    /// request for each object sent in parts and needs `s3:ListBucketMultipartUploads` on the bucket. See [`S3Target`].
    pub fn abort_stale_uploads(mut self, abort: bool) -> Self {
        self.abort_stale_uploads = abort;
        self
    }

    /// Refuses to write if the bucket belongs to another account.
    pub fn expected_bucket_owner(mut self, account: impl Into<String>) -> Self {
        self.expected_owner = Some(account.into());
        self
    }

    /// Builds the sink. Asks the environment for what is not configured, and nobody else: whether the bucket exists
    /// and lets us in is seen when the pipeline starts.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, at once.
    pub async fn build(self) -> Result<S3Sink<F>, S3ConfigErrors> {
        let mut keys = KeyTemplate::new(self.prefix.clone());
        if let Some(template) = &self.file_name {
            keys = keys.with_file_name(template);
        }
        if let Some(digits) = self.pad_width {
            keys = keys.with_pad_width(digits);
        }
        let options = self.options.clone().with_keys(keys);
        let mut problems = self.problems();
        let client = match &self.client {
            Some(client) => client.clone(),
            // A builder with problems may name an endpoint nobody should talk to.
            None if !problems.is_empty() => {
                let limits = aqueduct_files::TargetLimits::default();
                problems.extend(options.problems(&limits).into_iter().map(S3ConfigError::Files));
                return Err(S3ConfigErrors(problems));
            }
            None => client::connect(&self.connection, client::http_client(options.requests)).await,
        };
        if client.config().region().is_none() {
            problems.push(S3ConfigError::NoRegion);
        }
        let endpoint = self.endpoint_name(&client);
        let mut target = S3Target::from_client(client, self.bucket)
            .with_payload_signing(self.sign_payloads)
            .with_conditional_writes(self.conditional)
            .with_stale_upload_abort(self.abort_stale_uploads)
            .with_check_prefix(&self.prefix)
            .with_endpoint_name(endpoint);
        if let Some(account) = self.expected_owner {
            target = target.with_expected_bucket_owner(account);
        }
        if problems.is_empty() {
            let sink = ObjectSink::new(self.format, target, options);
            return sink.map(S3Sink::new).map_err(|problems| {
                S3ConfigErrors(problems.into_iter().map(S3ConfigError::Files).collect())
            });
        }
        problems.extend(options.problems(&target.limits()).into_iter().map(S3ConfigError::Files));
        Err(S3ConfigErrors(problems))
    }

    /// How messages name the store.
    fn endpoint_name(&self, client: &Client) -> String {
        match (&self.connection.endpoint, client.config().region()) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(region)) => format!("S3 in {region}"),
            (None, None) => "S3".to_owned(),
        }
    }

    fn problems(&self) -> Vec<S3ConfigError> {
        let mut problems = Vec::new();
        let bucket = |problem| S3ConfigError::Bucket { bucket: self.bucket.clone(), problem };
        if self.bucket.is_empty() {
            problems.push(bucket("is empty; name the bucket to write to"));
        } else if self.bucket.contains("://") {
            problems.push(bucket("is a URL; give the bucket's name alone, and the rest as prefix"));
        } else if !self.bucket.starts_with("arn:") && self.bucket.contains('/') {
            problems.push(bucket("has a slash; give what follows it as prefix"));
        }
        let Connection {
            region,
            endpoint,
            path_style,
            credentials,
            connect_timeout,
            attempt_timeout,
            attempts,
        } = &self.connection;
        if let Some(url) = endpoint {
            problems.extend(check_endpoint(url).map(|problem| S3ConfigError::Endpoint { problem }));
        }
        if let Some(region) = region
            && (region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
        {
            problems.push(S3ConfigError::Region { region: region.clone() });
        }
        if let Some(credentials) = credentials {
            use secrecy::ExposeSecret;
            if credentials.access_key.is_empty() {
                problems.push(S3ConfigError::EmptyCredential { what: "access key" });
            }
            if credentials.secret.expose_secret().is_empty() {
                problems.push(S3ConfigError::EmptyCredential { what: "secret" });
            }
        }
        for (option, timeout) in [("connect_timeout", connect_timeout), ("attempt_timeout", attempt_timeout)]
        {
            if timeout.is_zero() {
                problems.push(S3ConfigError::Zero { option });
            }
        }
        if *attempts == 0 {
            problems.push(S3ConfigError::Zero { option: "attempts" });
        }
        if self.client.is_some() {
            let set = [
                ("region", region.is_some()),
                ("endpoint", endpoint.is_some()),
                ("path_style", path_style.is_some()),
                ("credentials", credentials.is_some()),
            ];
            problems.extend(
                set.into_iter()
                    .filter(|(_, set)| *set)
                    .map(|(option, _)| S3ConfigError::WithClient { option }),
            );
        }
        problems
    }
}

/// Never repeats the URL: it may hold a password.
fn check_endpoint(url: &str) -> Option<&'static str> {
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return Some("does not start with http:// or https://");
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Some("holds a user name or password; use credentials()");
    }
    if host.is_empty() || host.starts_with(':') || host.contains(char::is_whitespace) {
        return Some("has no host name");
    }
    if rest.contains(['?', '#']) {
        return Some("has a query or fragment");
    }
    None
}

/// One thing that is wrong with the configuration of an [`S3Sink`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum S3ConfigError {
    /// The bucket's name.
    #[error("bucket {bucket:?} {problem}")]
    Bucket {
        /// The name.
        bucket: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The endpoint. Its text is not repeated, because it may hold a password.
    #[error("endpoint {problem}; write it like https://s3.example.org:9000")]
    Endpoint {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The region's name.
    #[error("region {region:?} is not a region's name; write it like eu-central-1")]
    Region {
        /// The name.
        region: String,
    },
    /// There is no region.
    #[error("no region is known; call region(), or set AWS_REGION or a profile")]
    NoRegion,
    /// A credential without content, mostly an environment variable that is not set.
    #[error("the {what} is empty; give both parts of the credentials, or none to use the default chain")]
    EmptyCredential {
        /// Which.
        what: &'static str,
    },
    /// Something that must be more than zero.
    #[error("{option} is zero; it must be more")]
    Zero {
        /// Which.
        option: &'static str,
    },
    /// Given twice.
    #[error("{option} is given beside an own client; set it on the client")]
    WithClient {
        /// Which.
        option: &'static str,
    },
    /// In keys, compression or sizes.
    #[error(transparent)]
    Files(OptionError),
}

/// Everything that is wrong with the configuration of an [`S3Sink`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3ConfigErrors(pub Vec<S3ConfigError>);

impl fmt::Display for S3ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the S3 sink cannot be built: ")?;
        for (index, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for S3ConfigErrors {}
