//! Reading back: letters and claims.

use aqueduct_core::StageError;
use aqueduct_files::ObjectRead;
use async_trait::async_trait;
use aws_sdk_s3::operation::get_object::GetObjectError;
use bytes::{Bytes, BytesMut};

use super::S3Target;
use crate::encryption::CustomerKey;

#[async_trait]
impl ObjectRead for S3Target {
    /// Needs `s3:ListBucket` on the bucket.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StageError> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_start_after(after.map(str::to_owned))
            .set_expected_bucket_owner(self.expected_owner.clone());
        let page = request.send().await.map_err(|error| self.failed("s3 list", prefix, &error))?;
        Ok(page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key).collect())
    }

    async fn get(&self, key: &str, most: u64) -> Result<Option<Bytes>, StageError> {
        const STAGE: &str = "s3 get";
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .set_expected_bucket_owner(self.expected_owner.clone());
        let mut object = match with_customer_key!(self, request).send().await {
            Ok(object) => object,
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
                return Ok(None);
            }
            Err(error) => return Err(self.failed(STAGE, key, &error)),
        };
        let too_large = || StageError::fatal(STAGE, format!("{} has more than {most} bytes", self.at(key)));
        let announced = object.content_length.and_then(|length| u64::try_from(length).ok());
        if announced.is_some_and(|length| length > most) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(bytes) = object.body.next().await {
            let bytes = bytes.map_err(|error| StageError::retry(STAGE, error))?;
            if (body.len() + bytes.len()) as u64 > most {
                return Err(too_large());
            }
            body.extend_from_slice(&bytes);
        }
        // A connection that ends early must not pass for a short object.
        if announced.is_some_and(|length| length != body.len() as u64) {
            return Err(StageError::retry(STAGE, format!("{} ended early", self.at(key))));
        }
        Ok(Some(body.freeze()))
    }
}
