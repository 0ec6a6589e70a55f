//! What is tried before the first record: whether we may write where we are to write.

use aqueduct_core::StageError;
use aqueduct_files::ObjectMeta;
use aws_sdk_s3::operation::head_bucket::HeadBucketError;

use super::{S3Target, once};
use crate::encryption::CustomerKey;
use crate::error::S3Error;

impl S3Target {
    /// Looks for the bucket, then begins an upload and aborts it. `HEAD` gives no reasons and needs a permission we do
    /// not ask for, so of its answers only "not there" and "elsewhere" count; only an upload shows before the first
    /// record that we may write.
    pub(super) async fn try_to_write(&self) -> Result<(), StageError> {
        const STAGE: &str = "s3 check";
        let bucket = self
            .client
            .head_bucket()
            .bucket(&self.bucket)
            .set_expected_bucket_owner(self.expected_owner.clone())
            .customize()
            .config_override(once())
            .send()
            .await;
        if let Err(error) = bucket {
            let absent = error.as_service_error().is_some_and(HeadBucketError::is_not_found);
            let error = match S3Error::from_sdk(self.at(""), &error) {
                _ if absent => S3Error::NoSuchBucket { at: self.at("") },
                error => error,
            };
            match &error {
                S3Error::Refused { .. } | S3Error::AccessDenied { .. } | S3Error::BadCredentials { .. } => {}
                _ => return Err(StageError::new(STAGE, error)),
            }
        }
        // With everything an object gets, so that a key or a permission that is missing is seen now.
        let create = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.check_key)
            .set_expected_bucket_owner(self.expected_owner.clone());
        let created = with_attributes!(self, create, &ObjectMeta::default())
            .customize()
            .config_override(once())
            .send()
            .await
            .map_err(|error| self.failed(STAGE, &self.check_key, &error))?;
        self.client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.check_key)
            .set_upload_id(created.upload_id)
            .set_expected_bucket_owner(self.expected_owner.clone())
            .customize()
            .config_override(once())
            .send()
            .await
            .map_err(|error| self.failed(STAGE, &self.check_key, &error))?;
        Ok(())
    }
}
