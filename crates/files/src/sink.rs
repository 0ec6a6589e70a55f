//! The sink: format, compression, keys and target together.

use std::sync::Arc;

use aqueduct_core::{Begun, Fingerprint, SegmentStart, Sink, SinkCapabilities, StageError};
use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::beside::{RecordHeaders, RecordKeys};
use crate::compress::{Compression, LevelError};
use crate::format::{FileKind, Format};
use crate::keys::{KeyError, KeyTemplate};
use crate::registry::{PartitionRegistry, Registration};
use crate::target::{ObjectTarget, TargetLimits};
use crate::writer::{Buffers, KEPT_EXCERPTS_MAX, ObjectStyle, ObjectWriter, Stream, Workspaces};

/// Writes records as rows of objects in a store.
///
/// While a segment fills, its rows go to scratch disk, grouped by object; memory does not grow with records, routes or
/// objects beyond about a hundred bytes per object. At the cut each object's rows are read back, verified against the
/// checksum taken when they were appended, built into a file where they are not one already, compressed, and sent: in one request if it is small, in parts, several at
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
    pub(crate) kept_excerpts: Arc<Semaphore>,
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
            kept_excerpts: Arc::new(Semaphore::new(KEPT_EXCERPTS_MAX)),
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
    /// Bytes of rows as spooled, before files are built and compressed, at which a route's next object begins. 256 MiB by
    /// default. Part of the layout: it decides names.
    pub target_object_bytes: u64,
    /// The size of the parts of large objects, in bytes. 8 MiB by default; less where the memory budget is small, but
    /// never below the store's minimum. With compression a part may be larger by one piece.
    pub part_bytes: usize,
    /// Most requests with a body under way at once, over all lanes of the sink. 16 by default. Memory bounds them too.
    pub requests: usize,
    /// The keys of records beside their values; see [`with_record_keys`](Self::with_record_keys).
    pub record_keys: Option<RecordKeys>,
    /// The headers of records beside their values; see [`with_record_headers`](Self::with_record_headers).
    pub record_headers: bool,
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
            record_keys: None,
            record_headers: false,
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
    /// The keys beside values could not be told apart.
    #[error(
        "the delimiter of record keys is empty, so that keys could not be told apart; choose one, or JSON"
    )]
    RecordKeys,
    /// Objects beside those of values would have their names.
    #[error("the format's extension is {extension:?}, as that of objects beside it; choose another one")]
    Extension {
        /// The format's extension.
        extension: String,
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

    /// Stores the keys of records in objects of their own, beside those of the values: `….keys.json` or `….keys.bin`, and the
    /// same [`compression`](Self::compression). None by default.
    ///
    /// Such an object holds the same records in the same order as the object whose name it has, so line N is the key of row N,
    /// and both end where one of them reaches [`target_object_bytes`](Self::target_object_bytes). It is created, claimed and
    /// recognised like any other; until the segment's end is committed it may be there without the other, or the other without
    /// it. Part of the layout.
    #[must_use]
    pub fn with_record_keys(mut self, keys: RecordKeys) -> Self {
        self.record_keys = Some(keys);
        self
    }

    /// Stores the headers of records in objects of their own, like [`with_record_keys`](Self::with_record_keys):
    /// `….headers.json`, a JSON array of `{"key":"…","value":"…"}` a line, in the order they were sent in. A value that is not
    /// UTF-8 is `"base64":"…"` instead of `"value"`; without headers the line is `[]`.
    #[must_use]
    pub fn with_record_headers(mut self, headers: bool) -> Self {
        self.record_headers = headers;
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
        if self.record_keys.as_ref().is_some_and(RecordKeys::is_without_delimiter) {
            problems.push(OptionError::RecordKeys);
        }
        let beside = [
            self.record_keys.as_ref().map(RecordKeys::extension),
            self.record_headers.then_some(RecordHeaders::EXTENSION),
        ];
        if beside.into_iter().flatten().any(|beside| beside == format.extension()) {
            problems.push(OptionError::Extension { extension: format.extension().to_owned() });
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
        let ObjectOptions { compression, keys, record_keys, record_headers, .. } = &*parts.options;
        let style = |extension: &str, content_type: &str| ObjectStyle {
            extension: format!("{extension}{}", compression.extension()),
            content_type: compression.content_type().unwrap_or(content_type).to_owned(),
        };
        let values = style(format.extension(), format.content_type());
        let named = keys.check_lane(&at.lane, &values.extension);
        named.map_err(|error| StageError::fatal("begin", error))?;
        let mut streams = vec![Stream::new(format.encoder(), values)];
        if let Some(keys) = record_keys {
            streams.push(Stream::new(keys.encoder(), style(keys.extension(), keys.content_type())));
        }
        if *record_headers {
            let style = style(RecordHeaders::EXTENSION, RecordHeaders::CONTENT_TYPE);
            streams.push(Stream::new(RecordHeaders::encoder(), style));
        }
        let writer = ObjectWriter::new(Arc::clone(parts), streams, at);
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
        if let Some(keys) = &options.record_keys {
            keys.fingerprint(parts);
        }
        if options.record_headers {
            RecordHeaders::fingerprint(parts);
        }
    }
}

/// Changes when this crate decides names, object boundaries or row bytes otherwise than before.
pub(crate) const LAYOUT_VERSION: &str = "1";
