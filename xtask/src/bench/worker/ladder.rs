//! The pipeline's steps with an early end each: what a step costs is the difference between two of them.
//!
//! No clock runs inside of the pipeline for this, so that what is taken apart is the very thing that ships.

use aqueduct::files::{
    Completion, Creation, ObjectHead, ObjectMeta, ObjectTarget, Part, TargetLimits, Upload,
};
use aqueduct::{
    Begun, Envelope, Fingerprint, OffsetRange, Poison, Published, Rejected, RoutePath, SegmentStart,
    SegmentWriter, Sink, SinkCapabilities, StageError, Staged,
};
use async_trait::async_trait;
use bytes::Bytes;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How far a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Until {
    /// Into the lane: copied out of the client, handed over in batches. Values stay bytes, the layout has one path.
    Lane,
    /// Converted and routed.
    Convert,
    /// Encoded and written to scratch.
    Spool,
    /// Read back, verified, compressed if it is to be.
    ReadBack,
    /// Stored: the whole way.
    Store,
}

impl Until {
    /// What is added by going this far.
    pub(crate) fn costs(self) -> &'static str {
        match self {
            Self::Lane => "batch",
            Self::Convert => "convert",
            Self::Spool => "spool",
            Self::ReadBack => "read back",
            Self::Store => "upload",
        }
    }
}

/// Takes records and forgets them.
#[derive(Debug)]
pub(super) struct Discard;

struct DiscardWriter;

#[async_trait]
impl<T: Send + 'static> Sink<T> for Discard {
    async fn begin(&self, _at: SegmentStart) -> Result<Begun<T>, StageError> {
        Ok(Begun::Fill(Box::new(DiscardWriter)))
    }

    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities::redo()
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("bench", "discard");
    }
}

#[async_trait]
impl<T: Send + 'static> SegmentWriter<T> for DiscardWriter {
    fn append(&mut self, _envelope: Envelope<'_, T>) -> Result<(), Poison> {
        Ok(())
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        Ok(Vec::new())
    }

    async fn stage(&mut self, _range: OffsetRange) -> Result<Staged, StageError> {
        Ok(Staged::default())
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        Ok(Published::default())
    }

    async fn abandon(&mut self) {}

    fn encoded_bytes(&self) -> u64 {
        0
    }
}

/// A sink whose segments are given up where they would be published.
#[derive(Debug)]
pub(super) struct Unpublished<S>(pub(super) S);

struct UnpublishedWriter<T: Send + 'static>(Box<dyn SegmentWriter<T>>);

#[async_trait]
impl<T: Send + 'static, S: Sink<T>> Sink<T> for Unpublished<S> {
    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
        Ok(match self.0.begin(at).await? {
            Begun::Fill(writer) => Begun::Fill(Box::new(UnpublishedWriter(writer))),
            published @ Begun::AlreadyPublished(_) => published,
        })
    }

    fn capabilities(&self) -> SinkCapabilities {
        self.0.capabilities()
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        self.0.fingerprint(parts);
    }
}

#[async_trait]
impl<T: Send + 'static> SegmentWriter<T> for UnpublishedWriter<T> {
    async fn open_route(&mut self, path: &RoutePath) -> Result<(), StageError> {
        self.0.open_route(path).await
    }

    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        self.0.append(envelope)
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        self.0.spill().await
    }

    async fn stage(&mut self, range: OffsetRange) -> Result<Staged, StageError> {
        self.0.stage(range).await
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        self.0.abandon().await;
        Ok(Published::default())
    }

    async fn abandon(&mut self) {
        self.0.abandon().await;
    }

    fn encoded_bytes(&self) -> u64 {
        self.0.encoded_bytes()
    }
}

/// A store that takes everything and looks at nothing.
#[derive(Debug)]
pub(super) struct Blind;

#[async_trait]
impl ObjectTarget for Blind {
    fn limits(&self) -> TargetLimits {
        TargetLimits::default()
    }

    fn location(&self) -> String {
        "nowhere".to_owned()
    }

    async fn put(&self, _: &str, _: Bytes, _: u32, _: &ObjectMeta) -> Result<Creation, StageError> {
        Ok(Creation::Created)
    }

    async fn create_multipart(&self, key: &str, _: &ObjectMeta) -> Result<Upload, StageError> {
        Ok(Upload { key: key.to_owned(), id: String::new() })
    }

    async fn upload_part(&self, _: &Upload, number: u32, _: Bytes, crc32c: u32) -> Result<Part, StageError> {
        Ok(Part { number, tag: String::new(), crc32c })
    }

    async fn complete(&self, _: &Upload, _: &[Part]) -> Result<Completion, StageError> {
        Ok(Completion::Created)
    }

    async fn abort(&self, _: &Upload) -> Result<(), StageError> {
        Ok(())
    }

    async fn head(&self, _: &str) -> Result<Option<ObjectHead>, StageError> {
        Ok(None)
    }
}
