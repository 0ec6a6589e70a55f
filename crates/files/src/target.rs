//! What a store of objects has to offer.

use std::sync::Arc;

use aqueduct_core::StageError;
use async_trait::async_trait;
use bytes::Bytes;

/// A store of objects under keys: S3 and whatever speaks like it.
///
/// # Contract
/// - **Creation is conditional.** [`put`](Self::put) and [`complete`](Self::complete) create an object only if there is
///   none under its key (`If-None-Match: *`); if there is one they change nothing and answer
///   [`AlreadyExists`](Creation::AlreadyExists). A store that cannot says so in [`TargetLimits::conditional_create`].
/// - **Atomic.** An object becomes visible whole, with its metadata, or not at all. Parts of an upload that is not
///   completed are never visible.
/// - **Concurrency.** All methods are called from several tasks at once.
/// - **Cancellation.** A dropped future may have had its effect.
///
/// # Errors
/// [`StageError`] with its class. A lost answer is `Retry`: the repeated call meets the object and verifies it.
#[async_trait]
pub trait ObjectTarget: Send + Sync + 'static {
    /// Looks whether the store can be reached and lets us in; within ten seconds, and says what to do.
    async fn check(&self) -> Result<(), StageError> {
        Ok(())
    }

    /// What the store can do; constant over its life.
    fn limits(&self) -> TargetLimits;

    /// Where the objects go, for messages: `s3://bucket`. Never a secret.
    fn location(&self) -> String;

    /// Creates an object in one request. `crc32c` is the checksum of `body`: the store refuses what arrives otherwise.
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        crc32c: u32,
        meta: &ObjectMeta,
    ) -> Result<Creation, StageError>;

    /// Starts an upload in parts.
    async fn create_multipart(&self, key: &str, meta: &ObjectMeta) -> Result<Upload, StageError>;

    /// Sends part `number`, counted from 1; parts are sent in any order and several at once.
    async fn upload_part(
        &self,
        upload: &Upload,
        number: u32,
        body: Bytes,
        crc32c: u32,
    ) -> Result<Part, StageError>;

    /// Creates the object from its parts, in order of their numbers.
    async fn complete(&self, upload: &Upload, parts: &[Part]) -> Result<Completion, StageError>;

    /// Gives an upload up. One that does not exist any more is fine.
    async fn abort(&self, upload: &Upload) -> Result<(), StageError>;

    /// What stands under a key, if anything.
    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StageError>;

    /// Uploads of exactly this key that were neither completed nor aborted, whoever began them.
    ///
    /// Asked only once the object stands under the key, to [`abort`](Self::abort) what killed processes and lost answers have
    /// left behind: nobody can complete such an upload any more. A failure is logged and nothing else, since a lifecycle rule
    /// does the same later. By default there are none.
    async fn uploads_of(&self, key: &str) -> Result<Vec<Upload>, StageError> {
        let _ = key;
        Ok(Vec::new())
    }
}

/// Reading objects back: what an [`ObjectTarget`] need not do, and letters and repairs need.
///
/// # Contract
/// - An object that was created, or seen by anybody, is listed and read from then on.
/// - Nothing is changed.
///
/// # Errors
/// [`StageError`] with its class.
#[async_trait]
pub trait ObjectRead: Send + Sync + 'static {
    /// Some of the keys that begin with `prefix`, in ascending order of their bytes, the first of them behind `after`. None if
    /// there are no more.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StageError>;

    /// The bytes of an object; `None` if there is none. One of more than `most` bytes is not read, and is an error that no
    /// repetition helps.
    async fn get(&self, key: &str, most: u64) -> Result<Option<Bytes>, StageError>;
}

macro_rules! forward_read {
    ($($pointer:ident)*) => { $(
        #[async_trait]
        impl<O: ObjectRead + ?Sized> ObjectRead for $pointer<O> {
            async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StageError> {
                (**self).list(prefix, after).await
            }

            async fn get(&self, key: &str, most: u64) -> Result<Option<Bytes>, StageError> {
                (**self).get(key, most).await
            }
        }
    )* };
}
forward_read!(Arc Box);

macro_rules! forward_target {
    ($($pointer:ident)*) => { $(
        #[async_trait]
        impl<O: ObjectTarget + ?Sized> ObjectTarget for $pointer<O> {
            async fn check(&self) -> Result<(), StageError> {
                (**self).check().await
            }

            fn limits(&self) -> TargetLimits {
                (**self).limits()
            }

            fn location(&self) -> String {
                (**self).location()
            }

            async fn put(&self, key: &str, body: Bytes, crc32c: u32, meta: &ObjectMeta) -> Result<Creation, StageError> {
                (**self).put(key, body, crc32c, meta).await
            }

            async fn create_multipart(&self, key: &str, meta: &ObjectMeta) -> Result<Upload, StageError> {
                (**self).create_multipart(key, meta).await
            }

            async fn upload_part(
                &self,
                upload: &Upload,
                number: u32,
                body: Bytes,
                crc32c: u32,
            ) -> Result<Part, StageError> {
                (**self).upload_part(upload, number, body, crc32c).await
            }

            async fn complete(&self, upload: &Upload, parts: &[Part]) -> Result<Completion, StageError> {
                (**self).complete(upload, parts).await
            }

            async fn abort(&self, upload: &Upload) -> Result<(), StageError> {
                (**self).abort(upload).await
            }

            async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StageError> {
                (**self).head(key).await
            }

            async fn uploads_of(&self, key: &str) -> Result<Vec<Upload>, StageError> {
                (**self).uploads_of(key).await
            }
        }
    )* };
}
forward_target!(Arc Box);

/// What a store can do. The default is S3's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetLimits {
    /// Whether creation is conditional and atomic. Without it the writer looks first and the pipeline is not
    /// exactly-once if two processes publish the same segment in the same moment.
    pub conditional_create: bool,
    /// The smallest part but the last, in bytes.
    pub part_bytes_min: usize,
    /// The largest part, in bytes.
    pub part_bytes_max: usize,
    /// Most parts of an object.
    pub parts_max: u32,
}

impl Default for TargetLimits {
    fn default() -> Self {
        Self { conditional_create: true, part_bytes_min: 5 << 20, part_bytes_max: 5 << 30, parts_max: 10_000 }
    }
}

/// What an object carries beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The media type.
    pub content_type: String,
    /// User metadata, without the store's own prefix; ASCII.
    pub user: Vec<(&'static str, String)>,
}

/// What became of an attempt to create an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It exists now and is ours.
    Created,
    /// Something stands under the key; nothing was changed.
    AlreadyExists,
}

/// What became of an attempt to complete an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The object exists now and is ours.
    Created,
    /// Something stands under the key; nothing was changed.
    AlreadyExists,
    /// The store does not know the upload: an earlier answer was lost, or somebody aborted it.
    UploadGone,
}

/// An upload in parts that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The object's key.
    pub key: String,
    /// The store's name of the upload.
    pub id: String,
}

/// A part that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1.
    pub number: u32,
    /// The store's receipt.
    pub tag: String,
    /// The checksum of its bytes.
    pub crc32c: u32,
}

/// What stands under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its size in bytes.
    pub size: u64,
    /// Its user metadata; names in lower case.
    pub user: Vec<(String, String)>,
}
