//! The object store, the dead letters and the disks.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct_core::{DeadLetter, DeadLetterSink, Disk, DiskFile, StageError};
use aqueduct_files::{
    Completion, Creation, ObjectHead, ObjectMeta, ObjectTarget, Part, TargetLimits, Upload,
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::process::{Mode, Process};
use crate::world::State;

#[derive(Debug, Default)]
pub(crate) struct Store {
    objects: BTreeMap<String, ObjectHead>,
    uploads: BTreeMap<String, OpenUpload>,
    begun: u64,
}

#[derive(Debug)]
struct OpenUpload {
    key: String,
    meta: ObjectMeta,
    parts: BTreeMap<u32, Bytes>,
}

impl Store {
    pub(crate) fn objects(&self) -> usize {
        self.objects.len()
    }
}

impl State {
    fn create(&mut self, key: &str, body: &Bytes, meta: ObjectMeta) -> Creation {
        if self.store.objects.contains_key(key) {
            self.trace.note(format_args!("store: {key} is there"));
            return Creation::AlreadyExists;
        }
        let user = meta.user.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.store.objects.insert(key.to_owned(), ObjectHead { size: body.len() as u64, user });
        self.trace.note(format_args!("store: {key} created, {} bytes", body.len()));
        self.ledger.created(&self.logs, key, body);
        Creation::Created
    }
}

/// A process's client of the store.
#[derive(Debug)]
pub(crate) struct Target(pub(crate) Arc<Process>);

#[async_trait]
impl ObjectTarget for Target {
    fn limits(&self) -> TargetLimits {
        let mut limits = TargetLimits::default();
        limits.part_bytes_min = 500;
        limits
    }

    fn location(&self) -> String {
        "sim://store".to_owned()
    }

    async fn check(&self) -> Result<(), StageError> {
        self.0.request("check", |_| Ok(())).await
    }

    async fn put(&self, key: &str, body: Bytes, _: u32, meta: &ObjectMeta) -> Result<Creation, StageError> {
        let (key, meta) = (key.to_owned(), meta.clone());
        // A client may be filling the buffer again while a copy of the request is still on its way.
        let body = Bytes::copy_from_slice(&body);
        self.0.request("put", move |state| Ok(state.create(&key, &body, meta))).await
    }

    async fn create_multipart(&self, key: &str, meta: &ObjectMeta) -> Result<Upload, StageError> {
        let (key, meta) = (key.to_owned(), meta.clone());
        let begin = move |state: &mut State| {
            state.store.begun += 1;
            let id = format!("u{:06}", state.store.begun);
            let upload = OpenUpload { key: key.clone(), meta, parts: BTreeMap::new() };
            state.store.uploads.insert(id.clone(), upload);
            Ok(Upload { key, id })
        };
        self.0.request("create multipart", begin).await
    }

    async fn upload_part(
        &self,
        to: &Upload,
        number: u32,
        body: Bytes,
        crc32c: u32,
    ) -> Result<Part, StageError> {
        let (id, body) = (to.id.clone(), Bytes::copy_from_slice(&body));
        let send = move |state: &mut State| {
            let upload = state.store.uploads.get_mut(&id);
            let upload = upload.ok_or_else(|| StageError::retry("upload part", "no such upload"))?;
            upload.parts.insert(number, body);
            Ok(Part { number, tag: format!("{id}.{number}"), crc32c })
        };
        self.0.request("upload part", send).await
    }

    async fn complete(&self, upload: &Upload, parts: &[Part]) -> Result<Completion, StageError> {
        let (id, numbers) = (upload.id.clone(), parts.iter().map(|part| part.number).collect::<Vec<_>>());
        let complete = move |state: &mut State| {
            let Some(upload) = state.store.uploads.get(&id) else { return Ok(Completion::UploadGone) };
            let mut body = BytesMut::new();
            for number in &numbers {
                let part = upload.parts.get(number);
                body.extend_from_slice(part.ok_or_else(|| StageError::fatal("complete", "no such part"))?);
            }
            let (key, meta) = (upload.key.clone(), upload.meta.clone());
            Ok(match state.create(&key, &body.freeze(), meta) {
                Creation::AlreadyExists => Completion::AlreadyExists,
                Creation::Created => {
                    state.store.uploads.remove(&id);
                    Completion::Created
                }
            })
        };
        self.0.request("complete", complete).await
    }

    async fn abort(&self, upload: &Upload) -> Result<(), StageError> {
        let id = upload.id.clone();
        let abort = move |state: &mut State| {
            state.store.uploads.remove(&id);
            Ok(())
        };
        self.0.request("abort", abort).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StageError> {
        let key = key.to_owned();
        self.0.request("head", move |state| Ok(state.store.objects.get(&key).cloned())).await
    }

    async fn uploads_of(&self, key: &str) -> Result<Vec<Upload>, StageError> {
        let key = key.to_owned();
        let list = move |state: &mut State| {
            let uploads = state.store.uploads.iter().filter(|(_, upload)| upload.key == key);
            Ok(uploads.map(|(id, upload)| Upload { key: upload.key.clone(), id: id.clone() }).collect())
        };
        self.0.request("list uploads", list).await
    }
}

/// A process's client of the dead letters.
#[derive(Debug)]
pub(crate) struct Letters(pub(crate) Arc<Process>);

#[async_trait]
impl DeadLetterSink for Letters {
    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StageError> {
        let store = move |state: &mut State| {
            for letter in &letters {
                let (partition, offset) = (letter.record.lane.partition(), letter.record.offset.get());
                state.trace.note(format_args!("letter {partition}@{offset}"));
                state.ledger.letter(state.logs.get(&partition), partition, offset);
            }
            Ok(())
        };
        self.0.request("letters", store).await
    }
}

/// The files of one place; they outlive its processes.
#[derive(Debug, Default)]
pub(crate) struct Files {
    files: BTreeMap<PathBuf, Arc<Mutex<Vec<u8>>>>,
    /// The life that holds the marker.
    pub(crate) locked_by: Option<u64>,
}

impl Files {
    pub(crate) fn names(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.keys()
    }

    fn bytes(&self) -> u64 {
        self.files.values().map(|file| lock(file).len() as u64).sum()
    }
}

fn lock(file: &Mutex<Vec<u8>>) -> std::sync::MutexGuard<'_, Vec<u8>> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process's file system.
#[derive(Clone, Debug)]
pub(crate) struct MemoryDisk(pub(crate) Arc<Process>);

/// What the spool leaves to others.
const HEADROOM: u64 = 8 << 20;

impl MemoryDisk {
    /// What a dead process does has no effect.
    fn with<R>(&self, change: impl FnOnce(&mut Files, u64) -> io::Result<R>) -> io::Result<R> {
        if self.0.is(Mode::Dead) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        change(self.0.world.state().disks.entry(self.0.slot).or_default(), self.0.life)
    }

    fn fails(&self, kind: &'static str, per_mille: u32) -> bool {
        self.0.world.scenario.bad_disks && self.0.world.state().strikes(kind, per_mille)
    }
}

impl Disk for MemoryDisk {
    fn blocks(&self) -> bool {
        false
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let content = self.with(|files, _| {
            if files.files.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(Arc::clone(files.files.entry(path.to_owned()).or_default()))
        })?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), content, marker: false }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|files, _| files.files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.with(|files, _| Ok(files.names().filter(|name| name.starts_with(path)).cloned().collect()))
    }

    fn available(&self, _: &Path) -> io::Result<u64> {
        let capacity = HEADROOM + self.0.world.scenario.disk_bytes;
        self.with(|files, _| Ok(capacity.saturating_sub(files.bytes())))
    }

    fn lock(&self, path: &Path, content: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let file = self.with(|files, life| {
            if files.locked_by.is_some_and(|holder| holder != life) {
                return Ok(None);
            }
            files.locked_by = Some(life);
            let file = Arc::clone(files.files.entry(path.to_owned()).or_default());
            *lock(&file) = content.as_bytes().to_vec();
            Ok(Some(file))
        })?;
        let held = |content| Arc::new(MemoryFile { disk: self.clone(), content, marker: true }) as _;
        Ok(file.map(held))
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    content: Arc<Mutex<Vec<u8>>>,
    marker: bool,
}

impl DiskFile for MemoryFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.disk.fails("disk full in a write", 10) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let torn = self.disk.fails("torn writes", 10);
        let written = bytes.get(..if torn { bytes.len() / 2 } else { bytes.len() }).unwrap_or_default();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let mut content = lock(&self.content);
        let end = start + written.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        if let Some(place) = content.get_mut(start..end) {
            place.copy_from_slice(written);
        }
        if torn { Err(io::Error::other("input/output error")) } else { Ok(()) }
    }

    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        if self.disk.fails("failed reads", 10) {
            return Err(io::Error::other("input/output error"));
        }
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        {
            let content = lock(&self.content);
            let found = content.get(start..start + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            into.copy_from_slice(found);
        }
        if !into.is_empty() && self.disk.fails("flipped bits", 10) {
            let at = self.disk.0.world.state().rng.usize(0..into.len());
            if let Some(byte) = into.get_mut(at) {
                *byte ^= 4;
            }
        }
        Ok(())
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if self.marker {
            // A dead process's lock was given back when it died.
            let released = self.disk.with(|files, life| {
                if files.locked_by == Some(life) {
                    files.locked_by = None;
                }
                Ok(())
            });
            drop(released);
        }
    }
}
