//! Configuration: a builder that reports everything that is wrong at once.

mod build;
mod error;
mod place;

use std::time::Duration;

use aqueduct_files::{Compression, ObjectOptions, PartitionRegistry, RecordKeys};
use aws_sdk_s3::Client;
use secrecy::SecretString;

use crate::attributes::ObjectAttributes;
use crate::credentials::{AssumeRole, Base, StaticCredentials, WebIdentity};
use crate::proxy::Proxy;

pub(crate) use self::build::check_url;
pub use self::error::{S3ConfigError, S3ConfigErrors};
pub(crate) use self::place::Place;

/// How to reach the store.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<Place>,
    pub(crate) path_style: Option<bool>,
    pub(crate) base: Base,
    pub(crate) assume_role: Option<AssumeRole>,
    pub(crate) sts_endpoint: Option<Place>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) accelerate: bool,
    pub(crate) dual_stack: bool,
    pub(crate) fips: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) attempts: u32,
}

/// No format was chosen yet.
#[derive(Clone, Copy, Debug)]
pub struct NoFormat(());

/// Configures an [`S3Sink`](crate::S3Sink). Only [`bucket`](Self::bucket) and [`format`](Self::format) have no default.
#[derive(Clone, Debug)]
#[must_use]
pub struct S3SinkBuilder<F> {
    format: F,
    bucket: Place,
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
    attributes: ObjectAttributes,
}

impl S3SinkBuilder<NoFormat> {
    pub(crate) fn new() -> Self {
        Self {
            format: NoFormat(()),
            bucket: Place::default(),
            prefix: "topics".to_owned(),
            file_name: None,
            pad_width: None,
            connection: Connection {
                region: None,
                endpoint: None,
                path_style: None,
                base: Base::Default,
                assume_role: None,
                sts_endpoint: None,
                proxy: None,
                accelerate: false,
                dual_stack: false,
                fips: false,
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
            attributes: ObjectAttributes::new(),
        }
    }
}

impl<F> S3SinkBuilder<F> {
    /// The bucket.
    pub fn bucket(mut self, bucket: impl Into<String>) -> Self {
        self.bucket = Place::new(bucket);
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
        self.connection.endpoint = Some(Place::new(url));
        self
    }

    /// Whether the bucket goes into the URL's path instead of the host's name. By default only where an endpoint is
    /// given.
    pub fn path_style(mut self, path_style: bool) -> Self {
        self.connection.path_style = Some(path_style);
        self
    }

    /// A static access key. Of this, [`profile`](Self::profile) and [`web_identity`](Self::web_identity) the last one counts;
    /// without any the SDK's default chain is asked: environment, profile, web identity, ECS, EC2. Whatever expires is renewed
    /// while the pipeline runs.
    pub fn credentials(mut self, access_key: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        self.connection.base = Base::Static(StaticCredentials {
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
        self.connection.base = Base::Static(StaticCredentials {
            access_key: access_key.into(),
            secret: secret.into(),
            session_token,
        });
        self
    }

    /// The credentials, and without [`region`](Self::region) the region, of a profile in `~/.aws`; environment variables with
    /// keys do not count then.
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.connection.base = Base::Profile(name.into());
        self
    }

    /// A role that a token in a file gives, as on Kubernetes.
    pub fn web_identity(mut self, role: WebIdentity) -> Self {
        self.connection.base = Base::WebIdentity(role);
        self
    }

    /// A role to assume with whatever credentials are configured, the default chain's included.
    pub fn assume_role(mut self, role: AssumeRole) -> Self {
        self.connection.assume_role = Some(role);
        self
    }

    /// The URL of the security token service, which gives roles; by default AWS's of the region.
    pub fn sts_endpoint(mut self, url: impl Into<String>) -> Self {
        self.connection.sts_endpoint = Some(Place::new(url));
        self
    }

    /// Goes through an HTTP proxy, to the store and to the security token service.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.connection.proxy = Some(proxy);
        self
    }

    /// Sends through the nearest edge location (transfer acceleration), which must be switched on for the bucket and is
    /// charged for.
    pub fn accelerate(mut self, accelerate: bool) -> Self {
        self.connection.accelerate = accelerate;
        self
    }

    /// Uses AWS's endpoints that are reached by IPv6 too.
    pub fn dual_stack(mut self, dual_stack: bool) -> Self {
        self.connection.dual_stack = dual_stack;
        self
    }

    /// Uses AWS's endpoints with validated cryptography (FIPS 140).
    pub fn fips(mut self, fips: bool) -> Self {
        self.connection.fips = fips;
        self
    }

    /// What objects are created with: encryption, storage class, tags, metadata, ACL.
    pub fn attributes(mut self, attributes: ObjectAttributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Your own client, instead of region, endpoint, path style, credentials and timeouts. See
    /// [`S3Target::from_client`](crate::S3Target::from_client).
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
            attributes,
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
            attributes,
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

    /// The last part of keys, before the extension; see [`KeyTemplate::with_file_name`](aqueduct_files::KeyTemplate::with_file_name).
    pub fn file_name(mut self, template: impl Into<String>) -> Self {
        self.file_name = Some(template.into());
        self
    }

    /// Digits the offset in a key is padded to; 10 by default.
    pub fn pad_width(mut self, digits: usize) -> Self {
        self.pad_width = Some(digits);
        self
    }

    /// Tells a catalogue (Hive, Glue, Athena) of the routes there are objects of, before their offsets are committed.
    pub fn partition_registry(mut self, registry: impl PartitionRegistry) -> Self {
        self.options = self.options.with_partition_registry(registry);
        self
    }

    /// Stores the keys of records in objects beside those of their values; not at all by default. See
    /// [`ObjectOptions::with_record_keys`].
    pub fn record_keys(mut self, keys: RecordKeys) -> Self {
        self.options = self.options.with_record_keys(keys);
        self
    }

    /// Stores the headers of records in objects beside those of their values; off by default. See
    /// [`ObjectOptions::with_record_headers`].
    pub fn record_headers(mut self, headers: bool) -> Self {
        self.options = self.options.with_record_headers(headers);
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

    /// Includes bodies in the signature; off by default. See [`S3Target`](crate::S3Target) for what that means.
    pub fn payload_signing(mut self, sign: bool) -> Self {
        self.sign_payloads = sign;
        self
    }

    /// Off for stores that do not know `If-None-Match`; see [`S3Target::with_conditional_writes`](crate::S3Target::with_conditional_writes).
    pub fn conditional_writes(mut self, conditional: bool) -> Self {
        self.conditional = conditional;
        self
    }

    /// Removes what killed processes have left of uploads in parts, as soon as the object is there; off by default. It costs one
    /// request for each object sent in parts and needs `s3:ListBucketMultipartUploads` on the bucket. See [`S3Target`](crate::S3Target).
    pub fn abort_stale_uploads(mut self, abort: bool) -> Self {
        self.abort_stale_uploads = abort;
        self
    }

    /// Refuses to write if the bucket belongs to another account than this one, of twelve digits. Said in every request.
    pub fn expected_bucket_owner(mut self, account: impl Into<String>) -> Self {
        self.expected_owner = Some(account.into());
        self
    }
}
