//! The sink.

use std::fmt;

use aqueduct_core::{Begun, Fingerprint, SegmentStart, Sink, SinkCapabilities, StageError};
use aqueduct_files::{Format, ObjectDeadLetters, ObjectSink};
use async_trait::async_trait;

use crate::config::{NoFormat, S3SinkBuilder};
use crate::target::S3Target;

/// Archives records as objects in a bucket, exactly once. See [`ObjectSink`] for how, and [`S3Target`] for what it
/// asks of the store.
///
/// ```no_run
/// use aqueduct_files::{Compression, JsonLines};
/// use aqueduct_sink_s3::S3Sink;
///
/// # async fn build() -> Result<(), aqueduct_sink_s3::S3ConfigErrors> {
/// let sink = S3Sink::builder()
///     .bucket("archive")
///     .region("eu-central-1")
///     .format(JsonLines::new())
///     .compression(Compression::Gzip)
///     .build()
///     .await?;
/// # drop(sink); Ok(())
/// # }
/// ```
pub struct S3Sink<F>(ObjectSink<F, S3Target>);

/// Dead letters in a bucket, and [`letters`](ObjectDeadLetters::letters) that reads them back.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use aqueduct_core::OnPoison;
/// use aqueduct_sink_s3::S3Sink;
///
/// # async fn build() -> Result<(), aqueduct_sink_s3::S3ConfigErrors> {
/// let letters = S3Sink::builder().bucket("archive").prefix("dead-letters").build_dead_letters().await?;
/// let policy = OnPoison::DeadLetter(Arc::new(letters.with_pipeline("orders")));
/// # drop(policy); Ok(())
/// # }
/// ```
pub type S3DeadLetters = ObjectDeadLetters<S3Target>;

impl S3Sink<NoFormat> {
    /// Starts the configuration.
    pub fn builder() -> S3SinkBuilder<NoFormat> {
        S3SinkBuilder::new()
    }
}

impl<F> S3Sink<F> {
    pub(crate) fn new(sink: ObjectSink<F, S3Target>) -> Self {
        Self(sink)
    }

    /// The bucket.
    pub fn target(&self) -> &S3Target {
        self.0.target()
    }
}

impl<F> Clone for S3Sink<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F> fmt::Debug for S3Sink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Sink")
            .field("bucket", &self.target().bucket())
            .field("options", self.0.options())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<T, F> Sink<T> for S3Sink<F>
where
    T: Send + 'static,
    F: Format<T>,
{
    async fn check(&self) -> Result<(), StageError> {
        Sink::<T>::check(&self.0).await
    }

    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
        self.0.begin(at).await
    }

    fn capabilities(&self) -> SinkCapabilities {
        Sink::<T>::capabilities(&self.0)
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        Sink::<T>::fingerprint(&self.0, parts);
    }
}
