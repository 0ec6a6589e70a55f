//! The sink: format, compression, keys and target together.

use std::sync::Arc;

use aqueduct_core::{Begun, Fingerprint, SegmentStart, Sink, SinkCapabilities, StageError};
use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::compress::{Compression, LevelError};
use crate::format::{FileKind, Format};
use crate::keys::{KeyError, KeyTemplate};
use crate::registry::{PartitionRegistry, Registration};
use crate::target::{ObjectTarget, TargetLimits};
use crate::writer::{Buffers, ObjectStyle, ObjectWriter, Workspaces};

/// Writes records as rows of objects in a store.
///
/// While a segment fills, its rows go to scratch disk, grouped by object; memory does not grow with records, routes or
/// objects beyond about a hundred bytes per object. At the cut each object's rows are read back, verified against the
/// checksum taken when they were appended, compressed, and sent: in one request if it is small, in parts, several at
/// once, if it is large.
///
/// **Exactly once** on a store with conditional creation: a replay after a crash makes the same keys with the same
/// rows, meets what is there already, verifies it by its metadata, and creates the rest. A key taken by anything else
/// is an [`ObjectConflict`](crate::ObjectConflict): nothing is overwritten.
pub struct ObjectSink<F, O> {
    format: Arc<F>,
    parts: Arc<SinkParts<O>>,
}

/// What the writers of a sink share.
pub(crate) struct SinkParts<O> {
    pub(crate) target: Arc<O>,
    pub(crate) options: Arc<ObjectOptions>,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) workspaces: Workspaces,
    pub(crate) buffers: Arc<Buffers>,
}

impl<F, O> Clone for ObjectSink<F, O> {
    fn clone(&self) -> Self {
        Self { format: Arc::clone(&self.format), parts: Arc::clone(&self.parts) }
    }
}

impl<F, O> std::fmt::Debug for ObjectSink<F, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectSink").field("options", &self.parts.options).finish_non_exhaustive()
    }
}

impl<F: FileKind, O: ObjectTarget> ObjectSink<F, O> {
    /// Puts the parts together.
    ///
    /// # Errors
    /// Every [`OptionError`] there is, at once.
    pub fn new(format: F, target: O, options: ObjectOptions) -> Result<Self, Vec<OptionError>> {
        let problems = options.problems(&format, &target.limits());
        if !problems.is_empty() {
            return Err(problems);
        }
        let parts = Arc::new(SinkParts {
            target: Arc::new(target),
            requests: Arc::new(Semaphore::new(options.requests)),
            options: Arc::new(options),
            workspaces: Workspaces::default(),
            buffers: Arc::default(),
        });
        Ok(Self { format: Arc::new(format), parts })
    }
}

impl<F, O> ObjectSink<F, O> {
    /// The store.
    pub fn target(&self) -> &O {
        &self.parts.target
    }

    /// The options.
    pub fn options(&self) -> &ObjectOptions {
        &self.parts.options
    }
}

/// How rows become objects.
///
/// ```
/// use aqueduct_files::{Compression, KeyTemplate, ObjectOptions};
///
/// let options = ObjectOptions::default()
///     .with_keys(KeyTemplate::new("topics"))
///     .with_compression(Compression::Gzip)
///     .with_target_object_bytes(64 << 20);
/// assert_eq!(options.target_object_bytes, 64 << 20);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObjectOptions {
    /// Names. [`KeyTemplate::new`]`("topics")` by default, as in Kafka Connect.
    pub keys: KeyTemplate,
    /// None by default.
    pub compression: Compression,
    /// [`Compression::DEFAULT_LEVEL`] by default.
    pub compression_level: i32,
    /// Bytes of rows, with terminators and before compression, at which a route's next object begins. 256 MiB by
    /// default. Part of the layout: it decides names.
    pub target_object_bytes: u64,
    /// The size of the parts of large objects, in bytes. 8 MiB by default; less where the memory budget is small, but
    /// never below the store's minimum. With compression a part may be larger by one piece.
    pub part_bytes: usize,
    /// Most requests with a body under way at once, over all lanes of the sink. 16 by default. Memory bounds them too.
    pub requests: usize,
    pub(crate) registration: Option<Registration>,
}

impl Default for ObjectOptions {
    fn default() -> Self {
        Self {
            keys: KeyTemplate::new("topics"),
            compression: Compression::None,
            compression_level: Compression::DEFAULT_LEVEL,
            target_object_bytes: 256 << 20,
            part_bytes: 8 << 20,
            requests: 16,
            registration: None,
        }
    }
}

/// An option that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// In the key template.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// In the compression level.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// Files that are compressed inside would be compressed again.
    #[error(
        "compression is {}, but {extension} files are compressed inside; leave it out and choose the format's own codec",
        .codec.name()
    )]
    Compressed {
        /// The option's value.
        codec: Compression,
        /// The format's extension.
        extension: String,
    },
    /// The size of objects.
    #[error(
        "target_object_bytes is {bytes}; it must be at least 1 and at most {max}, what the store takes in parts of this size"
    )]
    ObjectBytes {
        /// The option's value.
        bytes: u64,
        /// The most.
        max: u64,
    },
    /// The size of parts.
    #[error("part_bytes is {bytes}; the store takes parts of {min} to {max} bytes")]
    PartBytes {
        /// The option's value.
        bytes: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// The number of requests.
    #[error("requests is {requests}; it must be 1 to {max}", max = ObjectOptions::REQUESTS_MAX)]
    Requests {
        /// The option's value.
        requests: usize,
    },
}

impl ObjectOptions {
    /// Most requests at once.
    pub const REQUESTS_MAX: usize = 1024;

    /// Sets [`keys`](Self::keys).
    #[must_use]
    pub fn with_keys(mut self, keys: KeyTemplate) -> Self {
        self.keys = keys;
        self
    }

    /// Sets [`compression`](Self::compression).
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets [`compression_level`](Self::compression_level).
    #[must_use]
    pub fn with_compression_level(mut self, level: i32) -> Self {
        self.compression_level = level;
        self
    }

    /// Sets [`target_object_bytes`](Self::target_object_bytes).
    #[must_use]
    pub fn with_target_object_bytes(mut self, bytes: u64) -> Self {
        self.target_object_bytes = bytes;
        self
    }

    /// Sets [`part_bytes`](Self::part_bytes).
    #[must_use]
    pub fn with_part_bytes(mut self, bytes: usize) -> Self {
        self.part_bytes = bytes;
        self
    }

    /// Sets [`requests`](Self::requests).
    #[must_use]
    pub fn with_requests(mut self, requests: usize) -> Self {
        self.requests = requests;
        self
    }

    /// Tells a catalogue of the routes there are objects of; nobody by default.
    #[must_use]
    pub fn with_partition_registry(mut self, registry: impl PartitionRegistry) -> Self {
        self.registration = Some(Registration::new(registry));
        self
    }

    /// Everything that is wrong for files of this format in a store with these limits; empty if nothing is.
    pub fn problems(&self, format: &(impl FileKind + ?Sized), limits: &TargetLimits) -> Vec<OptionError> {
        let mut problems: Vec<OptionError> = self.keys.problems().into_iter().map(OptionError::Key).collect();
        problems.extend(self.compression.check_level(self.compression_level).err().map(OptionError::Level));
        if format.is_compressed() && self.compression != Compression::None {
            let extension = format.extension().to_owned();
            problems.push(OptionError::Compressed { codec: self.compression, extension });
        }
        let parts = (limits.part_bytes_min, limits.part_bytes_max);
        if self.part_bytes < parts.0 || self.part_bytes > parts.1 {
            problems.push(OptionError::PartBytes { bytes: self.part_bytes, min: parts.0, max: parts.1 });
        }
        let max = (self.part_bytes.max(parts.0) as u64).saturating_mul(u64::from(limits.parts_max));
        if self.target_object_bytes == 0 || self.target_object_bytes > max {
            problems.push(OptionError::ObjectBytes { bytes: self.target_object_bytes, max });
        }
        if self.requests == 0 || self.requests > Self::REQUESTS_MAX {
            problems.push(OptionError::Requests { requests: self.requests });
        }
        problems
    }
}

#[async_trait]
impl<T, F, O> Sink<T> for ObjectSink<F, O>
where
    T: Send + 'static,
    F: Format<T>,
    O: ObjectTarget,
{
    async fn check(&self) -> Result<(), StageError> {
        self.parts.target.check().await
    }

    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
        let Self { format, parts } = self;
        let codec = parts.options.compression;
        let content_type = codec.content_type().unwrap_or_else(|| format.content_type());
        let style = ObjectStyle {
            extension: format!("{}{}", format.extension(), codec.extension()),
            content_type: content_type.to_owned(),
        };
        let named = parts.options.keys.check_lane(&at.lane, &style.extension);
        named.map_err(|error| StageError::fatal("begin", error))?;
        let writer = ObjectWriter::new(Arc::clone(parts), format.encoder(), style, at);
        Ok(Begun::Fill(Box::new(writer)))
    }

    fn capabilities(&self) -> SinkCapabilities {
        let mut capabilities = SinkCapabilities::redo();
        if self.parts.options.keys.names_the_end() {
            // A claim is on a name. Cut elsewhere, the same records have another one, and nothing is met there.
            capabilities.weakness = Some(
                "keys hold the end offset, so records that are read again from an older mark may get other keys",
            );
        }
        if !self.parts.target.limits().conditional_create {
            capabilities.weakness = Some("the store cannot create an object only if its key is free");
        }
        capabilities
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        let options = &self.parts.options;
        parts.put("files", LAYOUT_VERSION);
        self.format.fingerprint(parts);
        parts.put("compression", options.compression.name());
        options.keys.fingerprint(parts);
        parts.put("object-bytes", options.target_object_bytes);
    }
}

/// Changes when this crate decides names, object boundaries or row bytes otherwise than before.
const LAYOUT_VERSION: &str = "1";
