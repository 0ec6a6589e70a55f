//! The mark and the intent: what stands in Kafka, in the offset commit, and nowhere else.
//!
//! ```text
//! phase 1   commit(start, intent)   the cut is written down; the commit is also the fence
//! phase 2   letters, publish        letters become durable, objects visible, idempotently
//! phase 3   commit(end)             or commit(end, intent of the next segment): one commit serves as both
//! ```
//!
//! The text form is at most a few hundred characters of ASCII and starts with a marker, so that a commit by
//! somebody else (an operator's reset, another tool) is recognised as foreign:
//!
//! ```text
//! aq1                                                        a plain mark
//! aq1 e=<end> n=<rows> h=<hash> o=<opened> f=<parts> t=<token>   a mark with an intent
//! ```

use std::fmt::Write as _;

use bytes::Bytes;

use crate::fingerprint::Fingerprint;
use crate::record::{Offset, OffsetRange};

/// A cut that is written down before anything of it becomes visible, row or letter.
///
/// A new owner that finds one reproduces exactly `range`, so that names and contents match whatever the clock, a
/// shutdown or a rebalance did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The segment's offsets.
    pub range: OffsetRange,
    /// The layout that decided names and contents.
    pub fingerprint: Fingerprint,
    /// Number of rows stored; 0 for a segment of nothing but letters.
    pub rows: u64,
    /// Hash of the offsets stored (see [`OffsetsHash`]); a replay that stores others stops before it publishes or sends a letter.
    pub offsets_hash: u64,
    /// When the segment was opened, in ms since the Unix epoch: what wall-clock layouts read instead of a clock.
    pub opened_at_ms: i64,
    /// The sink's own words, opaque to the core, at most [`Intent::TOKEN_MAX`] bytes.
    pub token: Bytes,
}

impl Intent {
    /// The longest token, in bytes.
    pub const TOKEN_MAX: usize = 1024;
}

/// What is committed for a lane: the next offset to read and, between cut and publication, the intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Everything below is durable, dead-lettered or skipped by policy.
    pub next: Offset,
    /// The segment starting at `next` that is being published, if any.
    pub intent: Option<Intent>,
}

/// Why a commit's metadata is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MarkError {
    /// It has no marker: somebody else committed this offset.
    #[error("the committed offset does not carry our marker: it was set by another program")]
    Foreign,
    /// It has a marker of a version this build does not know.
    #[error(
        "the committed offset carries marker {marker:?}, which this version does not read; run the version that wrote it"
    )]
    Version {
        /// The marker found.
        marker: String,
    },
    /// It has our marker and the rest makes no sense.
    #[error("the intent committed at offset {next} is damaged: field {field}")]
    Damaged {
        /// The offset committed.
        next: Offset,
        /// The field that cannot be read.
        field: &'static str,
    },
}

const MARKER: &str = "aq1";

impl Mark {
    /// A mark without an intent.
    pub fn at(next: Offset) -> Self {
        Self { next, intent: None }
    }

    /// A mark in front of the segment that the intent pins.
    pub fn pinning(intent: Intent) -> Self {
        Self { next: intent.range.start(), intent: Some(intent) }
    }

    /// The text to commit as offset metadata beside [`next`](Self::next).
    pub fn encode(&self) -> String {
        let mut out = String::from(MARKER);
        if let Some(intent) = &self.intent {
            // Writing to a string cannot fail.
            write!(
                out,
                " e={} n={} h={:016x} o={} f=",
                intent.range.end(),
                intent.rows,
                intent.offsets_hash,
                intent.opened_at_ms
            )
            .ok();
            intent.fingerprint.encode(&mut out);
            out.push_str(" t=");
            for byte in &intent.token {
                write!(out, "{byte:02x}").ok();
            }
        }
        out
    }

    /// Reads back what [`encode`](Self::encode) wrote beside offset `next`, and nothing that is spelled in another way: fields
    /// in another order, a field twice, a number with a sign or a zero in front. Trailing spaces are allowed (a source
    /// pads a probe to learn the broker's limit).
    ///
    /// # Errors
    /// [`MarkError`] if the text is not ours, is of another version or is damaged.
    pub fn decode(next: Offset, metadata: &str) -> Result<Self, MarkError> {
        let metadata = metadata.trim_end_matches(' ');
        let (marker, fields) = metadata.split_once(' ').unwrap_or((metadata, ""));
        if marker != MARKER {
            return Err(if is_marker(marker) {
                MarkError::Version { marker: marker.to_owned() }
            } else {
                MarkError::Foreign
            });
        }
        if fields.is_empty() {
            return Ok(Self::at(next));
        }
        let damaged = |field| MarkError::Damaged { next, field };
        let mut words = fields.split(' ');
        let mut word = |name: &'static str| {
            words.next().and_then(|word| word.strip_prefix(name)?.strip_prefix('=')).ok_or(damaged(name))
        };
        let end: i64 = word("e")?.parse().map_err(|_| damaged("e"))?;
        let intent = Intent {
            range: OffsetRange::new(next, Offset::new(end)).ok_or(damaged("e"))?,
            rows: word("n")?.parse().map_err(|_| damaged("n"))?,
            offsets_hash: u64::from_str_radix(word("h")?, 16).map_err(|_| damaged("h"))?,
            opened_at_ms: word("o")?.parse().map_err(|_| damaged("o"))?,
            fingerprint: Fingerprint::decode(word("f")?).ok_or(damaged("f"))?,
            token: decode_hex(word("t")?).ok_or(damaged("t"))?,
        };
        let mark = Self { next, intent: Some(intent) };
        let written = mark.encode();
        match FIELDS
            .iter()
            .zip(written.split(' ').zip(metadata.split(' ')).skip(1))
            .find(|(_, (a, b))| a != b)
        {
            Some((field, _)) => Err(damaged(field)),
            None if written.len() != metadata.len() => Err(damaged("t")),
            None => Ok(mark),
        }
    }
}

/// The fields of an intent, in their order.
const FIELDS: [&str; 6] = ["e", "n", "h", "o", "f", "t"];

/// Whether a word is the marker of some version.
fn is_marker(word: &str) -> bool {
    word.strip_prefix("aq").is_some_and(|version| {
        (1..=6).contains(&version.len()) && version.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn decode_hex(text: &str) -> Option<Bytes> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) || text.len() > 2 * Intent::TOKEN_MAX {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.last()?)?))
        .collect()
}

/// Hash of a set of ascending offsets, by its maximal runs: as cheap as a comparison per record while offsets are
/// contiguous, and the same however the records were batched.
#[derive(Clone, Debug, Default)]
pub struct OffsetsHash {
    state: u64,
    run: Option<OffsetRange>,
    /// Hash of those that were refused after they had been taken; 0 if there are none.
    refused: u64,
}

impl OffsetsHash {
    /// Adds the next offset; offsets ascend.
    pub fn push(&mut self, offset: Offset) {
        match self.run {
            Some(run) if run.end() == offset => {
                self.run = OffsetRange::new(run.start(), offset.next());
            }
            _ => {
                self.state = self.taken();
                self.run = OffsetRange::new(offset, offset.next());
            }
        }
    }

    /// Takes one of them out again, whose row was refused after all. Those ascend too, among the ones of one stage.
    pub fn refuse(&mut self, offset: Offset) {
        self.refused = hash([self.refused, offset.get().cast_unsigned(), 1]);
    }

    /// The hash of all offsets so far, without those that were refused.
    pub fn finish(&self) -> u64 {
        match self.refused {
            0 => self.taken(),
            refused => hash([self.taken(), refused, 2]),
        }
    }

    fn taken(&self) -> u64 {
        let Some(run) = self.run else { return self.state };
        hash([self.state, run.start().get().cast_unsigned(), run.end().get().cast_unsigned()])
    }
}

fn hash(words: [u64; 3]) -> u64 {
    let mut bytes = [0_u8; 24];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn marks_survive_the_commit(
            start in 0..i64::MAX / 2, length in 1..1_000_000_i64, rows: u64, hash: u64, opened: i64,
            token in proptest::collection::vec(any::<u8>(), 0..64), pad in 0..9_usize,
        ) {
            let mut fingerprint = Fingerprint::new();
            fingerprint.put("converter", "json/1");
            fingerprint.put("key", "{prefix}/{topic}");
            let mark = Mark {
                next: Offset::new(start),
                intent: Some(Intent {
                    range: OffsetRange::new(Offset::new(start), Offset::new(start + length)).unwrap(),
                    fingerprint, rows, offsets_hash: hash, opened_at_ms: opened, token: token.into(),
                }),
            };
            let text = mark.encode() + &" ".repeat(pad);
            prop_assert_eq!(Mark::decode(mark.next, &text), Ok(mark));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String, next: i64) {
            drop(Mark::decode(Offset::new(next), &text));
            drop(Mark::decode(Offset::new(next), &format!("aq1 {text}")));
        }

        #[test]
        fn batching_does_not_change_the_hash(offsets in proptest::collection::btree_set(0..200_i64, 0..100)) {
            let mut hash = OffsetsHash::default();
            for offset in &offsets {
                hash.push(Offset::new(*offset));
                hash.finish();
            }
            let mut again = OffsetsHash::default();
            for offset in &offsets {
                again.push(Offset::new(*offset));
            }
            prop_assert_eq!(hash.finish(), again.finish());
            if let Some(last) = offsets.last() {
                let mut shorter = OffsetsHash::default();
                offsets.iter().filter(|offset| *offset != last).for_each(|o| shorter.push(Offset::new(*o)));
                prop_assert_ne!(hash.finish(), shorter.finish());
                let mut refused = hash.clone();
                refused.refuse(Offset::new(*last));
                prop_assert_ne!(hash.finish(), refused.finish());
            }
        }
    }

    #[test]
    fn commits_of_others_are_foreign() {
        let next = Offset::new(5);
        assert_eq!(Mark::decode(next, "aq1"), Ok(Mark::at(next)));
        assert_eq!(Mark::decode(next, ""), Err(MarkError::Foreign));
        assert_eq!(Mark::decode(next, "reset by ops"), Err(MarkError::Foreign));
        assert_eq!(Mark::decode(next, "aq9 x=1"), Err(MarkError::Version { marker: "aq9".into() }));
        assert_eq!(
            Mark::decode(next, "aq1 e=5 n=1 h=0 o=0 f= t="),
            Err(MarkError::Damaged { next, field: "e" }),
            "an intent is never empty"
        );
    }
}
