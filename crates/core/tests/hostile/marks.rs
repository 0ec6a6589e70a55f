//! The text in an offset commit: what earlier versions wrote, what others write, and what is left after damage.

use aqueduct_core::testkit::check_corpus;
use aqueduct_core::{Fingerprint, Intent, Mark, MarkError, Offset, OffsetRange};
use bytes::Bytes;
use proptest::prelude::*;

const NEXT: Offset = Offset::new(4711);

/// Golden: what is in the files called `0.1-…` has been committed by released versions, and every later one has to read it.
#[test]
fn marks_of_the_corpus_are_read_as_they_always_were() {
    check_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/marks"), |_, bytes| {
        // The source takes metadata that is not text for somebody else's.
        let text = String::from_utf8(bytes).unwrap_or_default();
        match Mark::decode(NEXT, &text) {
            Ok(Mark { next, intent: None }) => format!("mark at {next}"),
            Ok(Mark { next, intent: Some(intent) }) => format!(
                "mark at {next}, intent {} rows={} hash={:016x} opened={} layout={:?} token of {} from {:?}",
                intent.range,
                intent.rows,
                intent.offsets_hash,
                intent.opened_at_ms,
                intent.fingerprint,
                intent.token.len(),
                intent.token.slice(..intent.token.len().min(4)),
            ),
            Err(error) => error.to_string(),
        }
    });
}

fn mark() -> impl Strategy<Value = Mark> {
    let intent = (
        (0..i64::MAX / 2, 1..1_000_000_i64),
        (any::<u64>(), any::<u64>(), any::<i64>()),
        prop::collection::vec(("[a-zA-Z0-9-]{1,12}", any::<u16>()), 0..9),
        prop::collection::vec(any::<u8>(), 0..64),
    );
    intent.prop_map(|((start, length), (rows, offsets_hash, opened_at_ms), parts, token)| {
        let mut fingerprint = Fingerprint::new();
        for (name, value) in parts {
            fingerprint.put(&name, value);
        }
        let range = OffsetRange::new(Offset::new(start), Offset::new(start + length)).unwrap();
        let token = Bytes::from(token);
        let intent = Intent { range, fingerprint, rows, offsets_hash, opened_at_ms, token };
        Mark { next: range.start(), intent: Some(intent) }
    })
}

/// Either refused, or exactly what is written for what was read: nothing is read by halves or guessed.
fn check(next: Offset, text: &str) -> Result<(), TestCaseError> {
    match Mark::decode(next, text) {
        Ok(mark) => {
            prop_assert_eq!(mark.next, next);
            prop_assert_eq!(mark.encode(), text.trim_end_matches(' '));
        }
        Err(MarkError::Version { marker }) => prop_assert!(marker.len() <= 8),
        Err(error) => prop_assert!(!error.to_string().contains('\n')),
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_mark_of_any_layout_and_token_survives_the_commit(mark in mark()) {
        prop_assert_eq!(Mark::decode(mark.next, &mark.encode()), Ok(mark));
    }

    #[test]
    fn damaged_marks_are_refused_or_read_to_the_letter(
        mark in mark(), at: prop::sample::Index, bit in 0..7_u8, other: prop::sample::Index, insert in "[ -~]{0,3}",
    ) {
        let text = mark.encode();
        let at = at.index(text.len());
        let mut flipped = text.clone().into_bytes();
        flipped[at] ^= 1 << bit;
        check(mark.next, std::str::from_utf8(&flipped).unwrap())?;
        check(mark.next, &text[..at])?;
        check(mark.next, &format!("{text}{insert}"))?;
        check(mark.next, &format!("{}{insert}{}", &text[..at], &text[at..]))?;
        // A field that is missing, or there twice.
        let words: Vec<&str> = text.split(' ').collect();
        let other = other.index(words.len());
        let without: Vec<&str> = words.iter().enumerate().filter(|(index, _)| *index != other).map(|(_, word)| *word).collect();
        check(mark.next, &without.join(" "))?;
        prop_assert!(other == 0 || Mark::decode(mark.next, &without.join(" ")).is_err());
        let doubled = format!("{text} {}", words[other]);
        prop_assert!(Mark::decode(mark.next, &doubled).is_err(), "{}", doubled);
    }

    #[test]
    fn any_fields_behind_our_marker_are_refused_or_read_to_the_letter(
        next: i64,
        fields in prop::collection::vec(("[enhoftx]?", "[+-]?[0-9a-fA-F:,]{0,20}"), 0..8),
        text: String,
    ) {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        check(Offset::new(next), &format!("aq1 {}", fields.join(" ")))?;
        check(Offset::new(next), &format!("aq1 {text}"))?;
        check(Offset::new(next), &text)?;
    }
}
