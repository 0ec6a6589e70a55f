//! How the store encrypts what it keeps.

use std::collections::BTreeMap;
use std::fmt;

use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_types::base64;
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};

use crate::config::S3ConfigError;

/// Server-side encryption of the objects. Without one the bucket's default applies, which is [`S3Managed`](Self::S3Managed)
/// on AWS unless somebody changed it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Encryption {
    /// With a key that S3 keeps (SSE-S3).
    S3Managed,
    /// With a key of the key management service (SSE-KMS). Needs `kms:GenerateDataKey` and, for uploads in parts,
    /// `kms:Decrypt` on the key.
    Kms(KmsKey),
    /// Twice, with a key of the key management service (DSSE-KMS).
    KmsDual(KmsKey),
    /// With a key that you keep and send along (SSE-C). Without it nobody reads the objects again. Only over TLS.
    CustomerKey(CustomerKey),
}

/// A key of the key management service.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct KmsKey {
    id: Option<String>,
    context: BTreeMap<String, String>,
    bucket_key: Option<bool>,
}

impl KmsKey {
    /// The key with this id, ARN or alias (`alias/archive`).
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..Self::default() }
    }

    /// The account's key for S3 (`aws/s3`).
    pub fn of_account() -> Self {
        Self::default()
    }

    /// Adds to the encryption context, which key policies and the audit log see. Not a secret.
    pub fn context(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.context.insert(name.into(), value.into());
        self
    }

    /// Whether the bucket's own key stands between, which makes for far fewer requests to the key management service. By
    /// default what the bucket says.
    pub fn bucket_key(mut self, enabled: bool) -> Self {
        self.bucket_key = Some(enabled);
        self
    }
}

/// A key of 256 bits for [`Encryption::CustomerKey`]. Never printed.
#[derive(Clone)]
pub struct CustomerKey {
    key: SecretString,
    md5: String,
}

impl CustomerKey {
    /// The key itself.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: base64::encode(key).into(), md5: base64::encode(Md5::digest(key)) }
    }

    /// The key in base64, as tools and key stores print it.
    ///
    /// # Errors
    /// [`S3ConfigError::CustomerKey`] unless it is base64 of 32 bytes. The text is not repeated.
    pub fn from_base64(key: &SecretString) -> Result<Self, S3ConfigError> {
        let bytes = base64::decode(key.expose_secret().trim()).map_err(|_| S3ConfigError::CustomerKey)?;
        let key: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| S3ConfigError::CustomerKey)?;
        Ok(Self::new(key))
    }

    pub(crate) fn key(&self) -> String {
        self.key.expose_secret().to_owned()
    }

    pub(crate) fn md5(&self) -> String {
        self.md5.clone()
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomerKey").finish_non_exhaustive()
    }
}

/// What goes into the request that creates an object.
#[derive(Debug, Default)]
pub(crate) struct Requested {
    pub(crate) algorithm: Option<ServerSideEncryption>,
    pub(crate) key: Option<String>,
    pub(crate) context: Option<String>,
    pub(crate) bucket_key: Option<bool>,
}

impl Encryption {
    pub(crate) fn requested(&self) -> Requested {
        let (algorithm, key) = match self {
            Self::S3Managed => {
                return Requested { algorithm: Some(ServerSideEncryption::Aes256), ..Requested::default() };
            }
            // Asked for by headers of its own, in every request that touches the object.
            Self::CustomerKey(_) => return Requested::default(),
            Self::Kms(key) => (ServerSideEncryption::AwsKms, key),
            Self::KmsDual(key) => (ServerSideEncryption::AwsKmsDsse, key),
        };
        let context = if key.context.is_empty() {
            None
        } else {
            serde_json::to_vec(&key.context).ok().map(base64::encode)
        };
        Requested { algorithm: Some(algorithm), key: key.id.clone(), context, bucket_key: key.bucket_key }
    }

    pub(crate) fn problems(&self) -> Vec<S3ConfigError> {
        let mut problems = Vec::new();
        if let Self::Kms(key) | Self::KmsDual(key) = self
            && key.id.as_ref().is_some_and(|id| id.is_empty() || id.contains(char::is_whitespace))
        {
            problems.push(S3ConfigError::KmsKey { problem: "is empty or holds white space" });
        }
        if let Self::KmsDual(key) = self
            && key.bucket_key == Some(true)
        {
            problems.push(S3ConfigError::KmsKey { problem: "cannot be a bucket key with two layers" });
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_key_is_checked_and_never_printed() {
        let text = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        let key = CustomerKey::from_base64(&text.into()).unwrap();
        assert_eq!(key.key(), text);
        // printf 01234567890123456789012345678901 | openssl md5 -binary | base64
        assert_eq!(key.md5(), "KYvwGXoFFJ42a2u2GDWhwQ==");
        assert!(!format!("{:?}", Encryption::CustomerKey(key)).contains("MDEy"));
        for wrong in ["", "MDEy", "no base64!", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEy"] {
            assert_eq!(CustomerKey::from_base64(&wrong.into()).unwrap_err(), S3ConfigError::CustomerKey);
        }
    }
}
