//! A sink in two phases: segments become files of JSON lines below a directory.
//!
//! ```text
//! <root>/topics/orders/service=checkout/3+00000000000000095403.jsonl     partition + offset of the first row
//! <root>/parts/                                                          files on their way; nobody reads them
//! ```
//!
//! While a segment fills, its rows wait on scratch. At the cut nothing happens but that the lane writes the cut down. Then
//! every route's rows become a file of their own: written below `parts`, synced, and given their name by an operation that
//! fails if the name is taken (`claim.rs`). A name depends on the segment's rows alone, never on a clock or a process, so
//! whoever does the same segment again meets the files that are there already, compares them, and goes on.
//!
//! Both directories have to be on one file system, which is why both are below the root.

mod claim;
mod error;
mod segment;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aqueduct::{Begun, Fingerprint, JsonRow, SegmentStart, Sink, SinkCapabilities, StageError};
use async_trait::async_trait;

pub use error::DirectoryError;

/// Stores values as lines of JSON in files, one a route and segment. See the [module](self).
#[derive(Clone, Debug)]
pub struct DirectorySink {
    places: Arc<Places>,
}

/// Where files go.
#[derive(Debug)]
struct Places {
    topics: PathBuf,
    parts: PathBuf,
}

impl DirectorySink {
    /// Stores below `root`, which is made if it is not there.
    pub fn new(root: impl AsRef<Path>) -> Self {
        let root = root.as_ref();
        Self { places: Arc::new(Places { topics: root.join("topics"), parts: root.join("parts") }) }
    }
}

#[async_trait]
impl<T: JsonRow + Send + 'static> Sink<T> for DirectorySink {
    /// Makes the directories and a file in each of them, so that a missing right is found before a record is read.
    async fn check(&self) -> Result<(), StageError> {
        let places = Arc::clone(&self.places);
        blocking("check the directory", move || places.try_out()).await
    }

    async fn begin(&self, at: SegmentStart) -> Result<Begun<T>, StageError> {
        let writer = segment::SegmentFiles::begin(&self.places, at)?;
        Ok(Begun::Fill(Box::new(writer)))
    }

    /// A segment that was cut and not published is filled and published again.
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities::redo()
    }

    /// What decides names and contents. The root does not: the same files may be moved elsewhere.
    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("sink", "directory/1");
    }
}

impl Places {
    fn try_out(&self) -> Result<(), DirectoryError> {
        for directory in [&self.topics, &self.parts] {
            std::fs::create_dir_all(directory).map_err(DirectoryError::at("create", directory))?;
            // Gone again when it is dropped.
            tempfile::tempfile_in(directory).map_err(DirectoryError::at("create a file in", directory))?;
        }
        claim::sync_directories(
            self.topics.parent().into_iter(),
            self.topics.parent().unwrap_or(&self.topics),
        )
    }
}

/// File systems block: off the async threads with them.
async fn blocking<R: Send + 'static>(
    stage: &'static str,
    work: impl FnOnce() -> Result<R, DirectoryError> + Send + 'static,
) -> Result<R, StageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| StageError::new(stage, error)),
        // It panicked, or the runtime is shutting down.
        Err(error) => Err(StageError::unknown(stage, error)),
    }
}
