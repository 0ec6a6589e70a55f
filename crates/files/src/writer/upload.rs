//! One object on its way to the target.

use std::sync::Arc;

use aqueduct_core::{Class, Failpoint, Permit, StageError};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::publish::Plan;
use super::stream::{ObjectReader, PartFilled};
use crate::claim::{ObjectConflict, ObjectIdentity};
use crate::target::{Completion, Creation, ObjectTarget, Part, Upload};

/// A buffer and what paid for it before it existed.
struct Slot {
    buffer: Vec<u8>,
    paid: Paid,
}

/// A part that was sent, and what paid for the buffer it was in.
struct Sent {
    part: Part,
    paid: Paid,
}

/// The permit of a part.
#[derive(Debug)]
struct Paid {
    permit: Arc<Permit>,
    /// It pays for the file that is being built as well, and is held until that is whole: whoever holds memory must be able
    /// to go on with it alone, or lanes would wait for each other.
    kept: bool,
}

impl<O: ObjectTarget> Plan<O> {
    /// Creates an object in one request; answers the bytes stored.
    pub(super) async fn put(&self, id: u32, body: Bytes, crc32c: u32) -> Result<u64, StageError> {
        let (key, identity) = self.named(id)?;
        if !self.limits.conditional_create
            && let Some(stored) = self.look(&key, &identity).await?
        {
            return Ok(stored);
        }
        let length = body.len() as u64;
        let _request = self.request().await;
        Failpoint::ObjectBeforeCreate.check()?;
        let creation = self.target.put(&key, body, crc32c, &self.meta(id, &identity)).await?;
        Failpoint::ObjectCreated.check()?;
        match creation {
            Creation::Created => Ok(length),
            Creation::AlreadyExists => self.claim(&key, &identity).await,
        }
    }

    /// Publishes an object that is larger than a group: in one request if it turns out to fit into a part, else in
    /// parts, several at once. A part's memory is the only thing waited for, and whoever holds some is sending it, so
    /// lanes cannot wait for each other.
    pub(super) async fn publish_large(self: Arc<Self>, id: u32) -> Result<(), StageError> {
        let (key, identity) = self.named(id)?;
        // A former owner, or our own attempt before this one, may have got this far; sending it all only to learn that would
        // be a waste.
        if (self.segment.pinned || self.is_repeated() || !self.limits.conditional_create)
            && let Some(stored) = self.look(&key, &identity).await?
        {
            self.abort_leftovers(&key).await;
            self.stored(id, stored);
            return Ok(());
        }
        let object = self.object(id)?.clone();
        let (part, building) = (self.part_bytes(id, &object), self.segment.assembly.build_bytes(id, &object));
        let permit = self.segment.memory.acquire(self.slot_bytes(part).saturating_add(building as u64)).await;
        let paid = Paid { permit: Arc::new(permit), kept: building > 0 };
        let _building = paid.kept.then(|| Arc::clone(&paid.permit));
        let reader = ObjectReader::new(Arc::clone(&self.spooled), id, object, &self.segment.assembly)
            .map_err(|error| self.failed(error))?;
        let slot = self.slot(part, paid);
        let (reader, slot, filled) = self.fill(reader, slot, part).await?;
        if filled.last {
            drop(reader);
            let Slot { buffer, paid: _paid } = slot;
            let whole = Bytes::from(buffer);
            let stored = self.put(id, whole.slice(..filled.length), filled.crc32c).await?;
            self.buffers.reclaim(whole);
            self.stored(id, stored);
            return Ok(());
        }
        Failpoint::UploadBeforeCreate.check()?;
        let upload = self.target.create_multipart(&key, &self.meta(id, &identity)).await?;
        Failpoint::UploadCreated.reach();
        self.open_upload(&upload);
        let stored = match self.send_parts(&upload, part, reader, slot, filled).await {
            Ok((parts, length)) => self.complete(&upload, &parts, length, &identity).await,
            Err(error) => {
                self.abort(&upload).await;
                Err(error)
            }
        };
        let stored = stored?;
        self.abort_leftovers(&key).await;
        self.stored(id, stored);
        Ok(())
    }

    /// Sends all parts; answers their receipts in order, and their bytes.
    async fn send_parts(
        self: &Arc<Self>,
        upload: &Upload,
        part: usize,
        mut reader: ObjectReader,
        mut slot: Slot,
        mut filled: PartFilled,
    ) -> Result<(Vec<Part>, u64), StageError> {
        let mut parts = Vec::new();
        let mut uploads = JoinSet::new();
        let (mut number, mut length) = (0_u32, 0_u64);
        loop {
            number += 1;
            length += filled.length as u64;
            if number > self.limits.parts_max {
                let problem = format!(
                    "more than {} parts; make objects smaller or parts larger",
                    self.limits.parts_max
                );
                return Err(StageError::fatal("upload part", problem));
            }
            uploads.spawn(Arc::clone(self).send_part(
                upload.clone(),
                number,
                slot,
                filled.length,
                filled.crc32c,
            ));
            if filled.last {
                break;
            }
            slot = loop {
                // The next part takes the place of one that was sent, or another one if there is memory.
                let sent = tokio::select! {
                    biased;
                    Some(sent) = uploads.join_next() => sent,
                    permit = self.segment.memory.acquire(self.slot_bytes(part)), if uploads.len() < self.parts_in_flight() => {
                        break self.slot(part, Paid { permit: Arc::new(permit), kept: false });
                    }
                };
                let Sent { part: receipt, paid } = joined(sent)?;
                parts.push(receipt);
                // Others wait for memory: queue up behind them.
                if paid.kept || self.segment.memory.waiting() == 0 {
                    break self.slot(part, paid);
                }
            };
            (reader, slot, filled) = self.fill(reader, slot, part).await?;
        }
        drop(reader);
        while let Some(sent) = uploads.join_next().await {
            parts.push(joined(sent)?.part);
        }
        parts.sort_unstable_by_key(|part| part.number);
        Ok((parts, length))
    }

    async fn send_part(
        self: Arc<Self>,
        upload: Upload,
        number: u32,
        slot: Slot,
        length: usize,
        crc32c: u32,
    ) -> Result<Sent, StageError> {
        let Slot { buffer, paid } = slot;
        let whole = Bytes::from(buffer);
        let part = {
            let _request = self.request().await;
            Failpoint::PartBeforeSend.check()?;
            self.target.upload_part(&upload, number, whole.slice(..length), crc32c).await?
        };
        Failpoint::PartSent.check()?;
        self.buffers.reclaim(whole);
        Ok(Sent { part, paid })
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        length: u64,
        identity: &ObjectIdentity,
    ) -> Result<u64, StageError> {
        Failpoint::UploadBeforeComplete.reach();
        let answer = self.target.complete(upload, parts).await;
        Failpoint::UploadCompleted.reach();
        match answer {
            Ok(Completion::Created) => {
                self.close_upload(upload);
                Ok(length)
            }
            Ok(Completion::AlreadyExists) => {
                self.abort(upload).await;
                self.claim(&upload.key, identity).await
            }
            // Completed before, and the answer was lost; or somebody aborted it, and then it is sent anew.
            Ok(Completion::UploadGone) => {
                self.close_upload(upload);
                self.look(&upload.key, identity).await?.ok_or_else(|| {
                    let key = &upload.key;
                    StageError::retry(
                        "complete upload",
                        format!("the upload to {key} is gone, and there is no object"),
                    )
                })
            }
            // It may have been applied and only the answer be lost: that would save sending everything again.
            Err(error) => match self.look(&upload.key, identity).await {
                Ok(Some(stored)) => {
                    self.close_upload(upload);
                    Ok(stored)
                }
                found => {
                    self.abort(upload).await;
                    Err(found.err().filter(|found| found.class() == Class::Fatal).unwrap_or(error))
                }
            },
        }
    }

    /// The key is taken, or should be by now: is it by us?
    async fn claim(&self, key: &str, ours: &ObjectIdentity) -> Result<u64, StageError> {
        self.look(key, ours).await?.ok_or_else(|| {
            StageError::retry("claim object", format!("{key} was there a moment ago and is not any more"))
        })
    }

    /// What stands under the key: nothing, our own object (its size), or a conflict.
    async fn look(&self, key: &str, ours: &ObjectIdentity) -> Result<Option<u64>, StageError> {
        let Some(head) = self.target.head(key).await? else {
            return Ok(None);
        };
        let theirs = ObjectIdentity::from_metadata(&head.user);
        if theirs.as_ref() == Some(ours) {
            tracing::debug!(key, "the object is there already");
            return Ok(Some(head.size));
        }
        let (location, key) = (self.target.location(), key.to_owned());
        Err(StageError::new("claim object", ObjectConflict { location, key, ours: ours.clone(), theirs }))
    }

    async fn abort(&self, upload: &Upload) {
        self.close_upload(upload);
        if let Err(error) = self.target.abort(upload).await {
            tracing::warn!(
                key = upload.key,
                error = %aqueduct_core::ErrorChain(&error),
                "could not abort an upload; a lifecycle rule for incomplete uploads removes its parts"
            );
        }
    }

    /// Aborts what is still under way to a key whose object stands: uploads of processes that were killed, or whose beginning
    /// was not answered. Only now, and never before sending: whoever takes himself for the owner may be wrong, and the upload
    /// he aborts may be the owner's. Now nobody needs one any more, and who still works on one meets the object.
    async fn abort_leftovers(&self, key: &str) {
        match self.target.uploads_of(key).await {
            Ok(uploads) => {
                for upload in uploads {
                    tracing::info!(key, upload = upload.id, "aborting an upload that was left behind");
                    self.abort(&upload).await;
                }
            }
            Err(error) => tracing::warn!(
                key,
                error = %aqueduct_core::ErrorChain(&error),
                "could not look for uploads that were left behind; a lifecycle rule for incomplete uploads removes them"
            ),
        }
    }

    /// Aborts what a dropped `publish` left behind.
    pub(super) async fn abort_uploads(&self) {
        for upload in self.open_uploads() {
            self.abort(&upload).await;
        }
    }

    fn slot(&self, part: usize, paid: Paid) -> Slot {
        Slot { buffer: self.buffers.take(self.buffer_bytes(part)), paid }
    }

    async fn fill(
        &self,
        mut reader: ObjectReader,
        mut slot: Slot,
        part: usize,
    ) -> Result<(ObjectReader, Slot, PartFilled), StageError> {
        let read = self.segment.offload.run(move || {
            let filled = reader.fill(&mut slot.buffer, part)?;
            Ok((reader, slot, filled))
        });
        joined(read.await.map(|result| result.map_err(|error| self.failed(error))))
    }
}

/// A task that panicked is a defect: the lane stops.
pub(super) fn joined<T>(
    result: Result<Result<T, StageError>, tokio::task::JoinError>,
) -> Result<T, StageError> {
    result.unwrap_or_else(|error| Err(StageError::fatal("publish", error)))
}
