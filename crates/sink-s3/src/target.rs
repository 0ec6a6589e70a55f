//! S3 as a store of objects.

use std::collections::HashMap;
use std::time::Duration;

use aqueduct_core::StageError;
use aqueduct_files::{
    Completion, Creation, ObjectHead, ObjectMeta, ObjectTarget, Part, TargetLimits, Upload,
};
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use crate::attributes::ObjectAttributes;
use crate::credentials::Renewing;
use crate::encryption::CustomerKey;
use crate::error::{At, S3Error};

/// One attempt of [`check`](ObjectTarget::check) takes no longer; the pipeline asks again, and gives up after eight seconds
/// with what the last attempt said.
const CHECK_TIMEOUT: Duration = Duration::from_secs(6);
/// Ends the key used by [`check`](ObjectTarget::check), which begins an upload there and aborts it.
const CHECK_KEY: &str = "aqueduct-check";
/// Pages of unfinished uploads of one key that are looked at, of up to 1 000 each.
const LEFTOVER_PAGES: usize = 3;

/// A bucket.
///
/// Every request with a body carries its CRC-32C in a header: the store refuses bytes that changed on the way.
///
/// # Payload signing
/// By default bodies are not hashed into the signature (`UNSIGNED-PAYLOAD`): SHA-256 over everything costs more than
/// the rest of an upload. Headers are signed, the body's checksum among them, so a body that is damaged or replaced is
/// refused unless it has the same CRC. Against somebody who forges that on the wire TLS protects; on a plain-text
/// endpoint outside a trusted network turn [`with_payload_signing`](Self::with_payload_signing) on.
///
/// # Permissions
/// `s3:PutObject`, `s3:GetObject` (to compare an object whose key is taken) and `s3:AbortMultipartUpload`, below the
/// prefix; what [`ObjectAttributes`] ask for needs more, which they say. Reading letters back and repairing need `s3:ListBucket`
/// on the bucket. With `s3:ListBucket` a key that is free is told from
/// one that may not be read; without it a store that cannot write conditionally cannot be used.
///
/// # Uploads left behind
/// A process that is killed while it sends an object in parts leaves the parts in the bucket, where they are charged for
/// and never seen. So does an upload whose beginning had its effect and was not answered. A lifecycle rule that aborts
/// incomplete uploads after some days removes them. With [`with_stale_upload_abort`](Self::with_stale_upload_abort) whoever
/// publishes the object next removes them at once; that costs one request for each object sent in parts and needs
/// `s3:ListBucketMultipartUploads` on the bucket.
#[derive(Clone, Debug)]
pub struct S3Target {
    client: Client,
    bucket: String,
    endpoint: String,
    check_key: String,
    expected_owner: Option<String>,
    sign_payloads: bool,
    conditional: bool,
    abort_stale: bool,
    attributes: ObjectAttributes,
    credentials: Option<Renewing>,
}

/// The headers of a key that you keep, which every request needs that touches the object.
macro_rules! with_customer_key {
    ($target:expr, $request:expr) => {{
        let key = $target.attributes.customer_key();
        $request
            .set_sse_customer_algorithm(key.map(|_| "AES256".to_owned()))
            .set_sse_customer_key(key.map(CustomerKey::key))
            .set_sse_customer_key_md5(key.map(CustomerKey::md5))
    }};
}

/// What both ways to create an object say about it.
macro_rules! with_attributes {
    ($target:expr, $request:expr, $meta:expr) => {{
        let encryption = $target.attributes.requested_encryption();
        let mut request = with_customer_key!($target, $request)
            .set_server_side_encryption(encryption.algorithm)
            .set_ssekms_key_id(encryption.key)
            .set_ssekms_encryption_context(encryption.context)
            .set_bucket_key_enabled(encryption.bucket_key)
            .set_acl($target.attributes.acl())
            .set_storage_class($target.attributes.class())
            .set_tagging($target.attributes.tagging($meta));
        for (name, value) in &$meta.user {
            request = request.metadata(*name, value);
        }
        for (name, value) in $target.attributes.own_metadata() {
            request = request.metadata(name, value);
        }
        request
    }};
}

// Below the macros, which it uses.
mod check;
mod read;

impl S3Target {
    /// Uses your own client, with whatever retries, timeouts and middleware it has. Set its
    /// `request_checksum_calculation` to `WhenRequired`, or the SDK computes a checksum of its own beside ours.
    pub fn from_client(client: Client, bucket: impl Into<String>) -> Self {
        Self {
            client,
            bucket: bucket.into(),
            endpoint: "the client's endpoint".to_owned(),
            check_key: CHECK_KEY.to_owned(),
            expected_owner: None,
            sign_payloads: false,
            conditional: true,
            abort_stale: false,
            attributes: ObjectAttributes::new(),
            credentials: None,
        }
    }

    /// Includes bodies in the signature; see the type's documentation.
    #[must_use]
    pub fn with_payload_signing(mut self, sign: bool) -> Self {
        self.sign_payloads = sign;
        self
    }

    /// For stores that do not know `If-None-Match`: the writer looks before it writes, and the pipeline is not
    /// exactly-once any more if two processes publish the same segment at the same moment.
    #[must_use]
    pub fn with_conditional_writes(mut self, conditional: bool) -> Self {
        self.conditional = conditional;
        self
    }

    /// Aborts unfinished uploads to a key once its object is there; see the type's documentation.
    ///
    /// Only uploads of exactly that key, and only when no one can complete them any more, because the key is taken: an upload
    /// of a process that still works on it, the rightful owner's or not, is sent in vain anyway. That process is told
    /// `NoSuchUpload`, looks, finds the object and goes on.
    #[must_use]
    pub fn with_stale_upload_abort(mut self, abort: bool) -> Self {
        self.abort_stale = abort;
        self
    }

    /// Refuses to write if the bucket belongs to another account.
    #[must_use]
    pub fn with_expected_bucket_owner(mut self, account: impl Into<String>) -> Self {
        self.expected_owner = Some(account.into());
        self
    }

    /// What objects are created with. [`ObjectAttributes::problems`] says what the store would refuse.
    #[must_use]
    pub fn with_attributes(mut self, attributes: ObjectAttributes) -> Self {
        self.attributes = attributes;
        self
    }

    pub(crate) fn with_credentials(mut self, credentials: Option<Renewing>) -> Self {
        self.credentials = credentials;
        self
    }

    /// The prefix [`check`](ObjectTarget::check) tries to write below: permissions may end there.
    #[must_use]
    pub fn with_check_prefix(mut self, prefix: &str) -> Self {
        let slash = if prefix.is_empty() { "" } else { "/" };
        self.check_key = format!("{prefix}{slash}{CHECK_KEY}");
        self
    }

    pub(crate) fn with_endpoint_name(mut self, endpoint: String) -> Self {
        self.endpoint = endpoint;
        self
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The SDK's client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn at(&self, key: &str) -> At {
        At { endpoint: self.endpoint.clone(), bucket: self.bucket.clone(), key: key.to_owned() }
    }

    fn failed<E>(&self, stage: &'static str, key: &str, error: &SdkError<E, HttpResponse>) -> StageError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let error = S3Error::from_sdk(self.at(key), error);
        if let (S3Error::CredentialsUnavailable { .. }, Some(credentials)) = (&error, &self.credentials) {
            credentials.refused();
        }
        StageError::new(stage, error)
    }

    /// Why a `HEAD` was refused: its answer has no body, and so neither 400 nor 403 says whether credentials have expired, which
    /// passes, or a permission is missing, which does not. A `GET` of one byte needs the same permission and gives the reason.
    async fn look_inside(&self, key: &str) -> Result<Option<ObjectHead>, StageError> {
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .range("bytes=0-0")
            .set_expected_bucket_owner(self.expected_owner.clone());
        match with_customer_key!(self, request).send().await {
            Ok(object) => {
                let whole = object.content_range.as_deref().and_then(|range| range.rsplit_once('/'));
                let size = whole.and_then(|(_, size)| size.parse().ok());
                Ok(Some(object_head(size.unwrap_or_default(), object.metadata)))
            }
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => Ok(None),
            Err(error) => Err(self.failed("s3 head", key, &error)),
        }
    }
}

/// A request is sent once and not again.
fn once() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::config::Config::builder().retry_config(RetryConfig::disabled())
}

/// Whether an error is the answer to a condition: the key is taken.
fn is_taken<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    status == Some(412) || code(error) == Some("PreconditionFailed")
}

/// Whether an error is one of those that only a body would explain.
fn gives_no_reason<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    matches!(status, Some(400 | 403))
}

fn object_head(size: u64, metadata: Option<HashMap<String, String>>) -> ObjectHead {
    let user = metadata.unwrap_or_default().into_iter();
    let mut user: Vec<_> = user.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    // The SDK's map has an order of its own each time.
    user.sort();
    ObjectHead { size, user }
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// A checksum as its header has it.
fn header(crc32c: u32) -> String {
    aws_smithy_types::base64::encode(crc32c.to_be_bytes())
}

fn missing(what: &'static str, at: &At) -> StageError {
    let answer = format!("the store's answer for {at} lacks {what}");
    StageError::unknown("s3", answer)
}

#[async_trait]
impl ObjectTarget for S3Target {
    async fn check(&self) -> Result<(), StageError> {
        match tokio::time::timeout(CHECK_TIMEOUT, self.try_to_write()).await {
            Ok(result) => result,
            Err(elapsed) => {
                let error = S3Error::Timeout { at: self.at(&self.check_key), source: elapsed.into() };
                Err(StageError::new("s3 check", error))
            }
        }
    }

    fn limits(&self) -> TargetLimits {
        let mut limits = TargetLimits::default();
        limits.conditional_create = self.conditional;
        limits
    }

    fn location(&self) -> String {
        format!("s3://{}", self.bucket)
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        crc32c: u32,
        meta: &ObjectMeta,
    ) -> Result<Creation, StageError> {
        let mut request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .body(ByteStream::from(body))
            .checksum_crc32_c(header(crc32c))
            .content_type(&meta.content_type)
            .set_expected_bucket_owner(self.expected_owner.clone());
        if self.conditional {
            request = request.if_none_match("*");
        }
        let mut request = with_attributes!(self, request, meta).customize();
        if !self.sign_payloads {
            request = request.disable_payload_signing();
        }
        match request.send().await {
            // Whatever answers without a tag, a proxy's page perhaps, has not stored the object.
            Ok(created) if created.e_tag.is_none() => Err(missing("the object's tag", &self.at(key))),
            Ok(_) => Ok(Creation::Created),
            Err(error) if is_taken(&error) => Ok(Creation::AlreadyExists),
            Err(error) => Err(self.failed("s3 put", key, &error)),
        }
    }

    async fn create_multipart(&self, key: &str, meta: &ObjectMeta) -> Result<Upload, StageError> {
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .content_type(&meta.content_type)
            .set_expected_bucket_owner(self.expected_owner.clone());
        let request = with_attributes!(self, request, meta);
        let created = request.send().await.map_err(|error| self.failed("s3 create upload", key, &error))?;
        let id = created.upload_id.ok_or_else(|| missing("the upload's id", &self.at(key)))?;
        Ok(Upload { key: key.to_owned(), id })
    }

    async fn upload_part(
        &self,
        upload: &Upload,
        number: u32,
        body: Bytes,
        crc32c: u32,
    ) -> Result<Part, StageError> {
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&upload.key)
            .upload_id(&upload.id)
            .part_number(number.cast_signed())
            .body(ByteStream::from(body))
            .checksum_crc32_c(header(crc32c))
            .set_expected_bucket_owner(self.expected_owner.clone());
        let mut request = with_customer_key!(self, request).customize();
        if !self.sign_payloads {
            request = request.disable_payload_signing();
        }
        let sent =
            request.send().await.map_err(|error| self.failed("s3 upload part", &upload.key, &error))?;
        let tag = sent.e_tag.ok_or_else(|| missing("the part's tag", &self.at(&upload.key)))?;
        Ok(Part { number, tag, crc32c })
    }

    async fn complete(&self, upload: &Upload, parts: &[Part]) -> Result<Completion, StageError> {
        let completed = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(part.number.cast_signed())
                .e_tag(&part.tag)
                .checksum_crc32_c(header(part.crc32c))
                .build()
        });
        let mut request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&upload.key)
            .upload_id(&upload.id)
            .multipart_upload(
                CompletedMultipartUpload::builder().set_parts(Some(completed.collect())).build(),
            )
            .set_expected_bucket_owner(self.expected_owner.clone());
        if self.conditional {
            request = request.if_none_match("*");
        }
        match with_customer_key!(self, request).send().await {
            // Completions begin their answer before they are done; one without a tag does not say that it is.
            Ok(completed) if completed.e_tag.is_none() => {
                Err(missing("the object's tag", &self.at(&upload.key)))
            }
            Ok(_) => Ok(Completion::Created),
            Err(error) if is_taken(&error) => Ok(Completion::AlreadyExists),
            Err(error) if code(&error) == Some("NoSuchUpload") => Ok(Completion::UploadGone),
            Err(error) => Err(self.failed("s3 complete upload", &upload.key, &error)),
        }
    }

    async fn abort(&self, upload: &Upload) -> Result<(), StageError> {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&upload.key)
            .upload_id(&upload.id)
            .set_expected_bucket_owner(self.expected_owner.clone());
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("NoSuchUpload") => Ok(()),
            Err(error) => Err(self.failed("s3 abort upload", &upload.key, &error)),
        }
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StageError> {
        let request = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key)
            .set_expected_bucket_owner(self.expected_owner.clone());
        match with_customer_key!(self, request).send().await {
            Ok(head) => {
                let size = head.content_length.and_then(|size| u64::try_from(size).ok());
                Ok(Some(object_head(size.unwrap_or_default(), head.metadata)))
            }
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(None),
            Err(error) if gives_no_reason(&error) => self.look_inside(key).await,
            Err(error) => Err(self.failed("s3 head", key, &error)),
        }
    }

    async fn uploads_of(&self, key: &str) -> Result<Vec<Upload>, StageError> {
        if !self.abort_stale {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        // What is left over by hundreds of killed processes; whatever is beyond is met next time or by a lifecycle rule.
        for _page in 0..LEFTOVER_PAGES {
            let page = self
                .client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(key)
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker)
                .set_expected_bucket_owner(self.expected_owner.clone())
                .customize()
                // Nobody waits for an answer that only tidies up.
                .config_override(once())
                .send()
                .await
                .map_err(|error| self.failed("s3 list uploads", key, &error))?;
            // The key may also begin another one.
            let of_key = page.uploads().iter().filter(|upload| upload.key() == Some(key));
            let ids = of_key.filter_map(|upload| upload.upload_id());
            found.extend(ids.map(|id| Upload { key: key.to_owned(), id: id.to_owned() }));
            (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) || key_marker.is_none() {
                break;
            }
        }
        Ok(found)
    }
}
