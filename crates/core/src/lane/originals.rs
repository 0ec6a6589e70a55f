//! The records of a segment as they were read, for sinks that refuse rows after the batch is gone.
//!
//! Kept on scratch and read again only if something is refused:
//!
//! ```text
//! frame   length u32 | offset i64 | timestamp tag u8, ms i64 | key | value | header count u32 | (name, value)*
//! bytes   length u32, or u32::MAX for an absent one | content
//! ```

use std::io;
use std::iter::Peekable;

use bytes::{Buf, Bytes};

use crate::convert::SkipReason;
use crate::dead_letter::{DeadLetter, OnPoison, Rejected};
use crate::error::{PoisonStage, StageError};
use crate::observe::Metric;
use crate::record::{Offset, OwnedRecord, Record, Timestamp, TopicPartition};
use crate::spool::{Scratch, ScratchFile};

use super::context::LaneContext;
use super::error::LaneError;

const ABSENT: u32 = u32::MAX;
/// Read back in pieces of this size, and one frame at least.
const READ_BYTES: usize = 1 << 20;
/// Letters that are in memory at a time have about this many bytes; one may have more.
const LETTERS_BYTES: usize = 1 << 20;

/// The originals of one segment.
#[derive(Debug)]
pub(super) struct Originals {
    file: ScratchFile,
    buffer: Vec<u8>,
    written: u64,
}

impl Originals {
    pub(super) fn create(scratch: &Scratch) -> io::Result<Self> {
        Ok(Self { file: scratch.create()?, buffer: Vec::new(), written: 0 })
    }

    /// Keeps a record that was stored.
    pub(super) fn push(&mut self, record: &Record<'_>) {
        let start = self.buffer.len();
        let out = &mut self.buffer;
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&record.offset().get().to_le_bytes());
        let (tag, ms) = match record.timestamp() {
            Timestamp::None => (0, 0),
            Timestamp::Create(ms) => (1, ms),
            Timestamp::LogAppend(ms) => (2, ms),
        };
        out.push(tag);
        out.extend_from_slice(&i64::to_le_bytes(ms));
        put(out, record.key());
        put(out, record.value());
        let headers = record.headers();
        out.extend_from_slice(&u32::try_from(headers.clone().count()).unwrap_or(u32::MAX).to_le_bytes());
        for (name, value) in headers {
            put(out, Some(name.as_bytes()));
            put(out, value);
        }
        let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(prefix) = out.get_mut(start..start + 4) {
            prefix.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Moves what was pushed to scratch. May be called again after an error.
    pub(super) async fn spill(&mut self) -> Result<(), StageError> {
        let buffer = std::mem::take(&mut self.buffer);
        let (buffer, result) = self.file.write_at(buffer, self.written).await;
        self.buffer = buffer;
        result.map_err(|error| StageError::spool("spool write", error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Applies the policy to rows refused at `stage`, in a segment that starts at `start`: those that are to become letters,
    /// or the error if it is to stop.
    pub(super) fn settle(
        context: &LaneContext,
        rejected: Vec<Rejected>,
        stage: PoisonStage,
        start: Offset,
    ) -> Result<Vec<Rejected>, LaneError> {
        let Some(first) = rejected.first() else { return Ok(rejected) };
        match &context.on_poison {
            OnPoison::Stop => Err(LaneError::Poisoned {
                offset: first.offset,
                stage,
                poison: first.poison.clone(),
                published: start,
            }),
            OnPoison::Skip => {
                let skipped = rejected.len() as u64;
                context.totals.skipped.fetch_add(skipped, std::sync::atomic::Ordering::Relaxed);
                Metric::RecordsSkipped.add(
                    &context.scope,
                    &[("reason", SkipReason::Poison.as_str())],
                    skipped,
                );
                Ok(Vec::new())
            }
            OnPoison::DeadLetter(_) => Ok(rejected),
        }
    }

    /// The letters of rows refused at `stage`.
    pub(super) fn letters(
        originals: Option<&Self>,
        context: &LaneContext,
        mut rejected: Vec<Rejected>,
        stage: PoisonStage,
    ) -> Result<Letters, LaneError> {
        let Some(first) = rejected.first() else { return Ok(Letters(None)) };
        let Some(originals) = originals else {
            return Err(LaneError::UndeclaredRejection { offset: first.offset });
        };
        rejected.sort_by_key(|rejected| rejected.offset);
        Ok(Letters(Some(Search {
            file: originals.file.clone(),
            length: originals.written,
            lane: context.lane.clone(),
            stage,
            wanted: rejected.into_iter().peekable(),
            position: 0,
            window: Bytes::new(),
        })))
    }
}

/// Letters still among the originals, in offset order.
pub(super) struct Letters(Option<Search>);

impl Letters {
    /// The next of them, about a mebibyte; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<DeadLetter>, LaneError> {
        let Some(mut search) = self.0.take() else { return Ok(Vec::new()) };
        let offload = search.file.offload();
        let found = offload.run(move || search.some().map(|letters| (letters, search))).await;
        let found = found.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        let (letters, mut search) = found.map_err(|error| StageError::fatal("spool read", error))?;
        self.0 = search.wanted.peek().is_some().then_some(search);
        Ok(letters)
    }

    /// Whether all have been given.
    pub(super) fn is_done(&self) -> bool {
        self.0.is_none()
    }
}

/// On its way through the file, which is walked once.
struct Search {
    file: ScratchFile,
    length: u64,
    lane: TopicPartition,
    stage: PoisonStage,
    wanted: Peekable<std::vec::IntoIter<Rejected>>,
    /// Where `window` begins.
    position: u64,
    window: Bytes,
}

impl Search {
    /// Blocks.
    fn some(&mut self) -> io::Result<Vec<DeadLetter>> {
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.wanted.peek()
            && bytes < LETTERS_BYTES
        {
            let frame_length = match self.window.get(..4).and_then(|prefix| prefix.try_into().ok()) {
                Some(prefix) => 4 + u32::from_le_bytes(prefix) as usize,
                None => 4,
            };
            if frame_length == 4 || self.window.len() < frame_length {
                let rest = usize::try_from(self.length - self.position).unwrap_or(usize::MAX);
                let want = READ_BYTES.max(frame_length).min(rest);
                if want < frame_length || want == self.window.len() {
                    return Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        format!("no original of offset {}", next.offset),
                    ));
                }
                let mut content = vec![0; want];
                self.file.read_exact_at(&mut content, self.position)?;
                self.window = Bytes::from(content);
                continue;
            }
            let frame = self.window.split_to(frame_length);
            self.position += frame_length as u64;
            let record = decode(&self.lane, frame.slice(4..)).map_err(io::Error::other)?;
            if record.offset == next.offset
                && let Some(Rejected { poison, .. }) = self.wanted.next()
            {
                bytes += frame_length + size_of::<DeadLetter>() + poison.detail().len();
                letters.push(DeadLetter { record, stage: self.stage, poison });
            }
        }
        Ok(letters)
    }
}

fn put(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or(ABSENT, |bytes| u32::try_from(bytes.len()).unwrap_or(ABSENT - 1));
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn decode(lane: &TopicPartition, mut frame: Bytes) -> Result<OwnedRecord, bytes::TryGetError> {
    let offset = Offset::new(frame.try_get_i64_le()?);
    let tag = frame.try_get_u8()?;
    let ms = frame.try_get_i64_le()?;
    let timestamp = match tag {
        0 => Timestamp::None,
        1 => Timestamp::Create(ms),
        _ => Timestamp::LogAppend(ms),
    };
    let key = take(&mut frame)?;
    let value = take(&mut frame)?;
    let count = frame.try_get_u32_le()?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = take(&mut frame)?.unwrap_or_default();
        headers.push((String::from_utf8_lossy(&name).into_owned(), take(&mut frame)?));
    }
    Ok(OwnedRecord { lane: lane.clone(), offset, timestamp, key, value, headers })
}

fn take(frame: &mut Bytes) -> Result<Option<Bytes>, bytes::TryGetError> {
    let length = frame.try_get_u32_le()?;
    if length == ABSENT {
        return Ok(None);
    }
    let length = length as usize;
    if frame.remaining() < length {
        return Err(bytes::TryGetError { requested: length, available: frame.remaining() });
    }
    // Copied, so that a letter does not hold the whole window.
    Ok(Some(Bytes::copy_from_slice(&frame.split_to(length))))
}
