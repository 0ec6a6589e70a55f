//! Which piece of the spool belongs to which object: the index beside the rows.
//!
//! ```text
//! rows    [object 0 ........][object 3 ..][object 7 .....] [object 0 ...][object 1 ...] ...
//!          one batch, its rows grouped by object            the next batch
//! index   (object, length, position) of each run, 16 bytes, in the order of the rows
//! ```
//!
//! The index is on disk like the rows, so that nothing in memory grows with the records of a segment. It is read from
//! the front for as many objects as there is memory for, see `excerpt.rs`; within a batch the runs are in order of their
//! objects, so a group of neighbouring objects is one stretch per batch.

use std::io;
use std::ops::Range;

use aqueduct_core::ScratchFile;

/// A run: consecutive rows of one object that lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) object: u32,
    pub(super) length: u32,
    pub(super) position: u64,
}

impl Run {
    pub(super) const SIZE: usize = 16;

    /// Where it ends. One that is damaged may claim to end where no file does.
    pub(super) fn end(self) -> u64 {
        self.position.saturating_add(u64::from(self.length))
    }

    fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let packed =
            u128::from(self.object) | u128::from(self.length) << 32 | u128::from(self.position) << 64;
        bytes.copy_from_slice(&packed.to_le_bytes());
        bytes
    }

    #[inline]
    fn object_of([a, b, c, d, ..]: &[u8; Self::SIZE]) -> u32 {
        u32::from_le_bytes([*a, *b, *c, *d])
    }

    fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        let packed = u128::from_le_bytes(*bytes);
        let low = |shift: u32| (packed >> shift) & u128::from(u32::MAX);
        // Each is masked to 32 bits, so nothing is cut off.
        let half = |shift| u32::try_from(low(shift)).unwrap_or_default();
        Self { object: half(0), length: half(32), position: u64::from(half(64)) | u64::from(half(96)) << 32 }
    }
}

/// The end of the index that is not written yet.
#[derive(Debug, Default)]
pub(super) struct IndexTail {
    buffer: Vec<u8>,
    last: Option<Run>,
    written: u64,
}

impl IndexTail {
    /// Runs are written once there are this many bytes of them.
    const FLUSH: usize = 16 << 10;
    /// The longest run, in bytes; longer ones are split.
    const RUN_MAX: u32 = 1 << 30;

    /// Adds a run of `length` bytes. Runs of one object that follow each other become one.
    pub(super) fn push(&mut self, object: u32, position: u64, length: u64) {
        let (mut position, mut rest) = (position, length);
        while rest > 0 {
            let length = u32::try_from(rest).unwrap_or(u32::MAX).min(Self::RUN_MAX);
            let mut run = Run { object, length, position };
            if let Some(last) = self.last
                && last.object == object
                && last.end() == position
                && last.length <= Self::RUN_MAX - length
            {
                self.buffer.truncate(self.buffer.len() - Run::SIZE);
                run = Run { length: last.length + length, ..last };
            }
            self.buffer.extend_from_slice(&run.encode());
            self.last = Some(run);
            position += u64::from(length);
            rest -= u64::from(length);
        }
    }

    /// The bytes to append to the index at the position given, if there are enough of them or this is the `end`.
    pub(super) fn take(&mut self, end: bool) -> Option<(Vec<u8>, u64)> {
        if self.buffer.is_empty() || (!end && self.buffer.len() < Self::FLUSH) {
            return None;
        }
        // A run that is written can no longer be extended.
        self.last = None;
        Some((std::mem::take(&mut self.buffer), self.written))
    }

    /// After a failure: the bytes taken are still to be written, before any added since.
    pub(super) fn put_back(&mut self, mut bytes: Vec<u8>) {
        bytes.append(&mut self.buffer);
        self.buffer = bytes;
        self.last = None;
    }

    /// After success; the buffer is used again.
    pub(super) fn wrote(&mut self, mut bytes: Vec<u8>) {
        self.written += bytes.len() as u64;
        if self.buffer.is_empty() {
            bytes.clear();
            self.buffer = bytes;
        }
    }

    /// Length of the index on disk, in bytes.
    pub(super) fn written(&self) -> u64 {
        self.written
    }
}

/// Looks for runs in the index, from the front. Blocks.
#[derive(Debug)]
pub(super) struct IndexReader {
    file: Option<ScratchFile>,
    length: u64,
    position: u64,
    chunk: Vec<u8>,
    consumed: usize,
}

impl IndexReader {
    /// Bytes of index read at once.
    pub(super) const CHUNK: usize = 64 << 10;

    pub(super) fn new(file: Option<ScratchFile>, length: u64) -> Self {
        Self { file, length, position: 0, chunk: Vec::new(), consumed: 0 }
    }

    /// The next run of one of `objects`; `None` at the end.
    pub(super) fn next_of(&mut self, objects: &Range<u32>) -> io::Result<Option<Run>> {
        loop {
            // Most runs of a large index are of other objects.
            let unread = self.chunk.get(self.consumed..).unwrap_or_default().as_chunks::<{ Run::SIZE }>().0;
            match unread.iter().position(|run| objects.contains(&Run::object_of(run))) {
                Some(place) => {
                    self.consumed += (place + 1) * Run::SIZE;
                    return Ok(unread.get(place).map(Run::decode));
                }
                None => self.consumed += unread.len() * Run::SIZE,
            }
            let Some(file) = &self.file else { return Ok(None) };
            let left = usize::try_from(self.length - self.position).unwrap_or(usize::MAX);
            if left < Run::SIZE {
                return Ok(None);
            }
            self.chunk.resize(left.min(Self::CHUNK), 0);
            file.read_exact_at(&mut self.chunk, self.position)?;
            self.position += self.chunk.len() as u64;
            self.consumed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_index_tells_every_byte_s_object(
            pushed in proptest::collection::vec((0..3_u32, 0..40_u64), 0..60), take in proptest::collection::vec(any::<bool>(), 60),
            retry in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let (mut tail, mut written, mut owners) = (IndexTail::default(), Vec::new(), Vec::new());
            for (((object, length), take), retry) in pushed.iter().zip(&take).zip(&retry) {
                tail.push(*object, owners.len() as u64, *length);
                owners.extend((0..*length).map(|_| *object));
                if let Some((bytes, at)) = tail.take(*take) {
                    prop_assert_eq!(at, written.len() as u64);
                    if *retry {
                        tail.put_back(bytes);
                    } else {
                        written.extend_from_slice(&bytes);
                        tail.wrote(bytes);
                    }
                }
            }
            if let Some((bytes, _)) = tail.take(true) {
                written.extend_from_slice(&bytes);
            }
            let mut read = Vec::new();
            for run in written.as_chunks().0.iter().map(Run::decode) {
                prop_assert_eq!(run.position, read.len() as u64);
                read.extend((0..run.length).map(|_| run.object));
            }
            prop_assert_eq!(read, owners);
        }

        #[test]
        fn any_sixteen_bytes_are_a_run(bytes: [u8; 16]) {
            let run = Run::decode(&bytes);
            prop_assert_eq!(run.encode(), bytes);
            prop_assert!(run.end() >= run.position);
        }
    }

    #[test]
    fn runs_of_one_object_that_touch_become_one() {
        let mut tail = IndexTail::default();
        tail.push(1, 0, 10);
        tail.push(1, 10, 5);
        tail.push(2, 15, 5);
        tail.push(1, 20, 5);
        tail.push(1, 26, 5);
        let (bytes, at) = tail.take(true).unwrap();
        let runs: Vec<Run> = bytes.as_chunks().0.iter().map(Run::decode).collect();
        assert_eq!(at, 0);
        assert_eq!(
            runs,
            [
                Run { object: 1, length: 15, position: 0 },
                Run { object: 2, length: 5, position: 15 },
                Run { object: 1, length: 5, position: 20 },
                Run { object: 1, length: 5, position: 26 },
            ]
        );
    }

    #[test]
    fn a_run_past_the_limit_is_split() {
        let mut tail = IndexTail::default();
        tail.push(9, 7, (1 << 30) + 3);
        let (bytes, _) = tail.take(true).unwrap();
        let runs: Vec<Run> = bytes.as_chunks().0.iter().map(Run::decode).collect();
        assert_eq!(runs.iter().map(|run| u64::from(run.length)).sum::<u64>(), (1 << 30) + 3);
        assert_eq!(runs[0].end(), runs[1].position);
    }

    #[test]
    fn what_could_not_be_written_comes_first_again() {
        let mut tail = IndexTail::default();
        tail.push(1, 0, 1);
        assert!(tail.take(false).is_none(), "too little yet");
        let (bytes, _) = tail.take(true).unwrap();
        tail.push(1, 1, 1);
        tail.put_back(bytes);
        let (bytes, at) = tail.take(true).unwrap();
        assert_eq!((bytes.len(), at), (2 * Run::SIZE, 0));
        tail.wrote(bytes);
        assert_eq!(tail.written(), 32);
        assert!(tail.take(true).is_none());
    }
}
