//! A store in memory whose faults are scripted, and files without a segment around them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aqueduct_core::StageError;
use async_trait::async_trait;
use bytes::Bytes;

use crate::checksum::Crc;
use crate::format::{BuildError, FRAME, FileBuilder, FileOutline, Rows, frame};
use crate::target::{
    Completion, Creation, ObjectHead, ObjectMeta, ObjectRead, ObjectTarget, Part, TargetLimits, Upload,
};

/// Keys of one answer to a listing: few, so that lists have several.
const PAGE_KEYS: usize = 7;

/// Builds the file of `rows`, as a segment does: in chunks of whole rows.
///
/// # Errors
/// What the builder says.
pub fn build_file(
    builder: &dyn FileBuilder,
    shape: u32,
    rows: &[impl AsRef<[u8]>],
) -> Result<Vec<u8>, BuildError> {
    let lengths = rows.iter().map(|row| FRAME + row.as_ref().len());
    let row_max = lengths.clone().max().unwrap_or_default();
    let outline = FileOutline::new(shape, rows.len() as u64, lengths.sum::<usize>() as u64, row_max);
    let mut encoder = builder.open(&outline)?;
    let (mut out, mut chunk) = (Vec::new(), Vec::new());
    for row in rows {
        if chunk.len() + FRAME + row.as_ref().len() > outline.chunk_bytes() {
            encoder.write(Rows::new(&chunk), &mut out)?;
            chunk.clear();
        }
        frame(row.as_ref(), &mut chunk);
    }
    encoder.write(Rows::new(&chunk), &mut out)?;
    encoder.finish(&mut out)?;
    Ok(out)
}

/// A store in memory. It checks what S3 checks: request checksums, part sizes and numbers, free keys.
#[derive(Debug)]
pub struct MemoryTarget {
    limits: TargetLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, StoredObject>,
    uploads: BTreeMap<String, OpenUpload>,
    script: BTreeMap<usize, Fault>,
    calls: Vec<(Call, String)>,
    next_upload: usize,
    latency: Duration,
    body_bytes: usize,
    body_bytes_peak: usize,
}

#[derive(Debug)]
struct OpenUpload {
    key: String,
    meta: ObjectMeta,
    parts: BTreeMap<u32, Bytes>,
}

/// An object that is visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Its bytes.
    pub bytes: Bytes,
    /// What it carries beside them.
    pub meta: ObjectMeta,
}

/// The calls of an [`ObjectTarget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Call {
    Put,
    CreateMultipart,
    UploadPart,
    Complete,
    Abort,
    Head,
    ListUploads,
    List,
    Get,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused and has no effect; [`Retry`](aqueduct_core::Class::Retry).
    Reject,
    /// It has its effect, and the answer is lost; [`Retry`](aqueduct_core::Class::Retry).
    LoseAnswer,
    /// It is refused for good; [`Fatal`](aqueduct_core::Class::Fatal).
    Forbid,
    /// It never ends.
    Hang,
}

impl MemoryTarget {
    /// An empty store with S3's limits.
    pub fn new() -> Self {
        Self::with_limits(TargetLimits::default())
    }

    /// An empty store with other limits.
    pub fn with_limits(limits: TargetLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Makes call number `call`, counted from 0 over all calls, fail once.
    pub fn fail(&self, call: usize, fault: Fault) {
        self.state().script.insert(call, fault);
    }

    /// Lets every call take this long.
    pub fn slow(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// The calls so far, each with its key.
    pub fn calls(&self) -> Vec<(Call, String)> {
        self.state().calls.clone()
    }

    /// The visible objects by key.
    pub fn objects(&self) -> BTreeMap<String, StoredObject> {
        self.state().objects.clone()
    }

    /// Puts an object there, as another program would.
    pub fn insert(&self, key: &str, bytes: Bytes, meta: ObjectMeta) {
        self.state().objects.insert(key.to_owned(), StoredObject { bytes, meta });
    }

    /// Removes an object, as another program would; answers whether it was there.
    pub fn remove(&self, key: &str) -> bool {
        self.state().objects.remove(key).is_some()
    }

    /// Uploads that were neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// Forgets every upload, as a bucket's lifecycle rule does.
    pub fn expire_uploads(&self) {
        self.state().uploads.clear();
    }

    /// The most bytes of bodies that were under way at once.
    pub fn body_bytes_peak(&self) -> usize {
        self.state().body_bytes_peak
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a body as under way until the answer is dropped.
    fn body(&self, body: &Bytes) -> BodyUnderWay<'_> {
        let mut state = self.state();
        state.body_bytes += body.len();
        state.body_bytes_peak = state.body_bytes_peak.max(state.body_bytes);
        BodyUnderWay(self, body.len())
    }

    /// Notes the call and does it, unless its fault says otherwise.
    async fn call<R>(
        &self,
        call: Call,
        key: &str,
        effect: impl FnOnce(&mut State) -> Result<R, StageError>,
    ) -> Result<R, StageError> {
        let (fault, latency) = {
            let mut state = self.state();
            let number = state.calls.len();
            state.calls.push((call, key.to_owned()));
            (state.script.remove(&number), state.latency)
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match fault {
            None => effect(&mut self.state()),
            Some(Fault::Reject) => Err(StageError::retry("memory target", "slow down")),
            Some(Fault::Forbid) => Err(StageError::fatal("memory target", "access denied")),
            Some(Fault::LoseAnswer) => {
                effect(&mut self.state())?;
                Err(StageError::retry("memory target", "connection reset"))
            }
            Some(Fault::Hang) => std::future::pending().await,
        }
    }
}

impl Default for MemoryTarget {
    fn default() -> Self {
        Self::new()
    }
}

struct BodyUnderWay<'a>(&'a MemoryTarget, usize);

impl Drop for BodyUnderWay<'_> {
    fn drop(&mut self) {
        self.0.state().body_bytes -= self.1;
    }
}

fn check_body(body: &Bytes, crc32c: u32) -> Result<(), StageError> {
    if Crc::of(body).get() == crc32c {
        return Ok(());
    }
    Err(StageError::fatal("memory target", "the body does not have the checksum announced"))
}

impl State {
    fn create(&mut self, conditional: bool, key: &str, object: StoredObject) -> Creation {
        if conditional && self.objects.contains_key(key) {
            return Creation::AlreadyExists;
        }
        self.objects.insert(key.to_owned(), object);
        Creation::Created
    }
}

#[async_trait]
impl ObjectTarget for MemoryTarget {
    fn limits(&self) -> TargetLimits {
        self.limits
    }

    fn location(&self) -> String {
        "memory:".to_owned()
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        crc32c: u32,
        meta: &ObjectMeta,
    ) -> Result<Creation, StageError> {
        check_body(&body, crc32c)?;
        let _body = self.body(&body);
        let object = StoredObject { bytes: Bytes::copy_from_slice(&body), meta: meta.clone() };
        self.call(Call::Put, key, |state| Ok(state.create(self.limits.conditional_create, key, object))).await
    }

    async fn create_multipart(&self, key: &str, meta: &ObjectMeta) -> Result<Upload, StageError> {
        self.call(Call::CreateMultipart, key, |state| {
            state.next_upload += 1;
            let id = format!("upload-{}", state.next_upload);
            let open = OpenUpload { key: key.to_owned(), meta: meta.clone(), parts: BTreeMap::new() };
            state.uploads.insert(id.clone(), open);
            Ok(Upload { key: key.to_owned(), id })
        })
        .await
    }

    async fn upload_part(
        &self,
        upload: &Upload,
        number: u32,
        body: Bytes,
        crc32c: u32,
    ) -> Result<Part, StageError> {
        check_body(&body, crc32c)?;
        let _body = self.body(&body);
        let body = Bytes::copy_from_slice(&body);
        self.call(Call::UploadPart, &upload.key, |state| {
            let Some(open) = state.uploads.get_mut(&upload.id) else {
                return Err(StageError::retry("memory target", "no such upload"));
            };
            open.parts.insert(number, body);
            Ok(Part { number, tag: format!("tag-{number}"), crc32c })
        })
        .await
    }

    async fn complete(&self, upload: &Upload, parts: &[Part]) -> Result<Completion, StageError> {
        self.call(Call::Complete, &upload.key, |state| {
            let Some(open) = state.uploads.get(&upload.id) else {
                return Ok(Completion::UploadGone);
            };
            if self.limits.conditional_create && state.objects.contains_key(&open.key) {
                return Ok(Completion::AlreadyExists);
            }
            let mut bytes = Vec::new();
            for (index, part) in parts.iter().enumerate() {
                let expected = parts.get(index.wrapping_sub(1)).map_or(1, |before| before.number + 1);
                let Some(body) = open.parts.get(&part.number).filter(|_| part.number == expected) else {
                    return Err(StageError::fatal("memory target", "parts are missing or out of order"));
                };
                if index + 1 < parts.len() && body.len() < self.limits.part_bytes_min {
                    return Err(StageError::fatal("memory target", "a part is too small"));
                }
                bytes.extend_from_slice(body);
            }
            let object = StoredObject { bytes: bytes.into(), meta: open.meta.clone() };
            state.uploads.remove(&upload.id);
            state.create(false, &upload.key, object);
            Ok(Completion::Created)
        })
        .await
    }

    async fn abort(&self, upload: &Upload) -> Result<(), StageError> {
        self.call(Call::Abort, &upload.key, |state| {
            state.uploads.remove(&upload.id);
            Ok(())
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, StageError> {
        self.call(Call::Head, key, |state| {
            Ok(state.objects.get(key).map(|object| ObjectHead {
                size: object.bytes.len() as u64,
                user: object
                    .meta
                    .user
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect(),
            }))
        })
        .await
    }

    async fn uploads_of(&self, key: &str) -> Result<Vec<Upload>, StageError> {
        self.call(Call::ListUploads, key, |state| {
            let of_key = state.uploads.iter().filter(|(_, open)| open.key == key);
            Ok(of_key.map(|(id, open)| Upload { key: open.key.clone(), id: id.clone() }).collect())
        })
        .await
    }
}

#[async_trait]
impl ObjectRead for MemoryTarget {
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StageError> {
        self.call(Call::List, prefix, |state| {
            let keys = state.objects.keys().filter(|key| key.starts_with(prefix));
            let keys = keys.filter(|key| after.is_none_or(|after| key.as_str() > after));
            Ok(keys.take(PAGE_KEYS).cloned().collect())
        })
        .await
    }

    async fn get(&self, key: &str, most: u64) -> Result<Option<Bytes>, StageError> {
        self.call(Call::Get, key, |state| match state.objects.get(key) {
            Some(object) if object.bytes.len() as u64 > most => {
                let what = format!("{key} has {} bytes, at most {most} are read", object.bytes.len());
                Err(StageError::fatal("memory target", what))
            }
            found => Ok(found.map(|object| object.bytes.clone())),
        })
        .await
    }
}
