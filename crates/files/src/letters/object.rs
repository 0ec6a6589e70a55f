//! Dead letters in objects of a store.
//!
//! ```text
//! {prefix}/{topic}/{topic}+{partition}+{first offset}-{last offset}-{checksum}.jsonl
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use aqueduct_core::{
    DeadLetter, DeadLetterSink, LetterSource, StageError, StoredLetter, TopicPartition, UnreadableLetter,
};
use async_trait::async_trait;
use bytes::Bytes;

use super::line;
use crate::checksum::Crc;
use crate::keys::{KeyError, KeyTemplate};
use crate::retry::retried;
use crate::target::{Creation, ObjectMeta, ObjectRead, ObjectTarget};

const EXTENSION: &str = ".jsonl";
/// Lines of one object; one letter may be larger.
const OBJECT_BYTES: usize = 8 << 20;
/// The largest object that is read: one letter of as many bytes as a record can have, escaped.
const READ_BYTES_MAX: u64 = 2 << 30;

/// Stores dead letters as objects of JSON lines, for S3 and whatever else is an [`ObjectTarget`]. [`ObjectLetters`] reads them
/// back.
///
/// The lines are those of [`DirectoryDeadLetters`](super::DirectoryDeadLetters). What is sent in one call becomes one object, or
/// several of about 8 MiB, `{prefix}/{topic}/{topic}+{partition}+{first offset}-{last offset}-{checksum}.jsonl`.
///
/// # Durability
/// `send` returns once every object is there. What is sent again after a crash by the same version has the same name and meets
/// its own object; nothing is overwritten. Letters of one record may still be in several objects, when they were sent by other
/// versions or cut elsewhere: (topic, partition, offset) identifies them.
///
/// ```
/// use std::sync::Arc;
///
/// use aqueduct_core::OnPoison;
/// use aqueduct_files::{KeyError, ObjectDeadLetters, ObjectTarget};
///
/// fn policy(bucket: impl ObjectTarget) -> Result<OnPoison, KeyError> {
///     let letters = ObjectDeadLetters::new(bucket, "dead-letters")?.with_pipeline("orders");
///     Ok(OnPoison::DeadLetter(Arc::new(letters)))
/// }
/// ```
pub struct ObjectDeadLetters<O> {
    target: Arc<O>,
    keys: KeyTemplate,
    by: line::Writer,
}

impl<O: ObjectTarget> ObjectDeadLetters<O> {
    /// Letters below a prefix, which should hold nothing else.
    ///
    /// # Errors
    /// If the prefix cannot begin a key.
    pub fn new(target: O, prefix: impl Into<String>) -> Result<Self, KeyError> {
        let keys = KeyTemplate::new(prefix);
        match keys.problems().into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(Self { target: Arc::new(target), keys, by: line::Writer::default() }),
        }
    }

    /// The name of the pipeline that letters carry.
    #[must_use]
    pub fn with_pipeline(mut self, name: impl Into<String>) -> Self {
        self.by.pipeline = name.into();
        self
    }

    /// The version of the pipeline that letters carry, as you call it: a tag, a commit. Empty by default.
    #[must_use]
    pub fn with_pipeline_version(mut self, version: impl Into<String>) -> Self {
        self.by.version = version.into();
        self
    }

    /// Reads them back.
    pub fn letters(&self) -> ObjectLetters<O>
    where
        O: ObjectRead,
    {
        ObjectLetters::below(Arc::clone(&self.target), &self.keys)
    }

    async fn put(&self, lane: &TopicPartition, lines: Lines) -> Result<(), StageError> {
        let Lines { first, last, text } = lines;
        let crc32c = Crc::of(&text).get();
        let extension = format!("-{last:010}-{crc32c:08x}{EXTENSION}");
        let named = self.keys.check_lane(lane, &extension);
        named.map_err(|error| StageError::fatal("dead letters", error))?;
        let (topic, partition) = (lane.topic(), lane.partition());
        let key = format!("{}{topic}+{partition}+{first:010}{extension}", self.keys.folder(topic, ""));
        let meta = ObjectMeta { content_type: "application/x-ndjson".to_owned(), user: Vec::new() };
        if !self.target.limits().conditional_create && self.target.head(&key).await?.is_some() {
            return Ok(());
        }
        // One that stands there has the same lines: their checksum is in its name.
        match self.target.put(&key, Bytes::from(text), crc32c, &meta).await? {
            Creation::Created | Creation::AlreadyExists => Ok(()),
        }
    }
}

impl<O> Clone for ObjectDeadLetters<O> {
    fn clone(&self) -> Self {
        Self { target: Arc::clone(&self.target), keys: self.keys.clone(), by: self.by.clone() }
    }
}

impl<O> fmt::Debug for ObjectDeadLetters<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectDeadLetters").field("prefix", &self.keys.prefix()).finish_non_exhaustive()
    }
}

/// The lines of one object.
struct Lines {
    first: i64,
    last: i64,
    text: Vec<u8>,
}

#[async_trait]
impl<O: ObjectTarget> DeadLetterSink for ObjectDeadLetters<O> {
    async fn check(&self) -> Result<(), StageError> {
        self.target.check().await
    }

    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StageError> {
        let Some(lane) = letters.first().map(|letter| letter.record.lane.clone()) else { return Ok(()) };
        let mut lines: Option<Lines> = None;
        for letter in letters {
            let offset = letter.record.offset.get();
            let open = lines.get_or_insert_with(|| Lines { first: offset, last: offset, text: Vec::new() });
            line::write(&letter, &self.by, &mut open.text)
                .map_err(|error| StageError::fatal("dead letters", error))?;
            open.last = offset;
            if open.text.len() >= OBJECT_BYTES
                && let Some(full) = lines.take()
            {
                self.put(&lane, full).await?;
            }
        }
        match lines {
            Some(lines) => self.put(&lane, lines).await,
            None => Ok(()),
        }
    }
}

/// Reads the letters that [`ObjectDeadLetters`] has stored below a prefix, object by object in order of their keys.
///
/// A line that is no letter is named and costs itself. An outage is waited for, about half a minute at a time.
pub struct ObjectLetters<R> {
    target: Arc<R>,
    location: String,
    prefix: String,
    /// The last key that was listed.
    after: Option<String>,
    keys: VecDeque<String>,
    open: Option<Open>,
}

struct Open {
    key: String,
    rest: Bytes,
    line: u64,
}

impl<R: ObjectTarget + ObjectRead> ObjectLetters<R> {
    /// The letters below a prefix.
    ///
    /// # Errors
    /// If the prefix cannot begin a key.
    pub fn new(target: R, prefix: impl Into<String>) -> Result<Self, KeyError> {
        ObjectDeadLetters::new(target, prefix).map(|letters| letters.letters())
    }

    fn below(target: Arc<R>, keys: &KeyTemplate) -> Self {
        let (location, prefix) = (target.location(), keys.folder("", ""));
        Self { target, location, prefix, after: None, keys: VecDeque::new(), open: None }
    }

    /// The next object of letters; `None` behind the last.
    async fn object(&mut self) -> Result<Option<Open>, StageError> {
        loop {
            while let Some(key) = self.keys.pop_front() {
                if !key.ends_with(EXTENSION) {
                    continue;
                }
                // One that somebody has removed since holds no letters.
                if let Some(rest) = retried(|| self.target.get(&key, READ_BYTES_MAX)).await? {
                    return Ok(Some(Open { key, rest, line: 0 }));
                }
            }
            let page = retried(|| self.target.list(&self.prefix, self.after.as_deref())).await?;
            let Some(last) = page.last() else { return Ok(None) };
            self.after = Some(last.clone());
            self.keys.extend(page);
        }
    }
}

impl<R> fmt::Debug for ObjectLetters<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectLetters")
            .field("location", &self.location)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<R: ObjectTarget + ObjectRead> LetterSource for ObjectLetters<R> {
    async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError> {
        loop {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.object().await? {
                    Some(open) => open,
                    None => return Ok(None),
                },
            };
            let end = memchr::memchr(b'\n', &open.rest).map_or(open.rest.len(), |end| end + 1);
            let text = open.rest.split_to(end);
            open.line += 1;
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            if text.is_empty() && open.rest.is_empty() {
                continue;
            }
            let read = line::read(text).map_err(|detail| UnreadableLetter {
                place: format!("line {} of {}/{}", open.line, self.location, open.key),
                detail,
            });
            self.open = Some(open);
            return Ok(Some(read));
        }
    }
}
