//! What can be wrong with a configuration.

use std::fmt;

use aqueduct_files::OptionError;

/// One thing that is wrong with the configuration of an [`S3Sink`](crate::S3Sink).
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
    /// The proxy. Its URL is not repeated, because it may hold a password.
    #[error("proxy {problem}; write it like http://proxy.example.org:3128")]
    Proxy {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The security token service's URL. Its text is not repeated.
    #[error("sts_endpoint {problem}; write it like https://sts.eu-central-1.amazonaws.com")]
    StsEndpoint {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The profile has no name.
    #[error("the profile's name is empty; name one, or leave it out to use the default chain")]
    Profile,
    /// A role that cannot be assumed.
    #[error("role {arn:?} {problem}")]
    Role {
        /// The role's ARN.
        arn: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The account's number.
    #[error("expected_bucket_owner {account:?} is not an account's number, which has twelve digits")]
    BucketOwner {
        /// The number.
        account: String,
    },
    /// Options that exclude each other.
    #[error("{option} does not go with {other}")]
    Excluded {
        /// One of them.
        option: &'static str,
        /// The other.
        other: &'static str,
    },
    /// The key that you keep. It is not repeated.
    #[error("the customer key is not base64 of 32 bytes; `openssl rand -base64 32` makes one")]
    CustomerKey,
    /// The store would get the customer key over a connection that anybody can read.
    #[error("a customer key would be sent in plain text; use an https endpoint")]
    CustomerKeyInPlainText,
    /// The key of the key management service.
    #[error("the KMS key {problem}")]
    KmsKey {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A tag the store would refuse.
    #[error("tag {key:?} {problem}")]
    Tag {
        /// Its key.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More tags than an object can have.
    #[error("{tags} tags are more than the 10 an object can have; tag_offsets counts as three")]
    TooManyTags {
        /// How many.
        tags: usize,
    },
    /// Metadata the store would refuse or change.
    #[error("metadata {name:?} {problem}")]
    Metadata {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More metadata than fits beside the object's identity.
    #[error("{bytes} bytes of metadata are more than the {max} that fit beside the object's identity")]
    MetadataSize {
        /// How much.
        bytes: usize,
        /// The most.
        max: usize,
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

/// Everything that is wrong with the configuration of an [`S3Sink`](crate::S3Sink).
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
