//! Whose object is it? The identity every object carries, and what happens when a key is taken.
//!
//! A key that is taken is no error by itself: after a crash, a lost answer or a take-over the same rows meet their own
//! object. It is ours if the metadata says the same offsets, the same number of rows, the same checksum *of the rows*
//! (not of the bytes stored: another compressor version is no conflict) and the same layout. Anything else is
//! [`ObjectConflict`]: nothing is overwritten.

use std::fmt;

use aqueduct_core::{Class, Classify, Offset, OffsetRange, TopicPartition};

/// The name of the user metadata that holds an object's identity: `x-amz-meta-aqueduct` at S3.
///
/// One value, because each header of a small object costs as much as some rows do:
///
/// ```text
/// v=1 partition=3 start=10 end=20 rows=9 row-bytes=1234 rows-crc32c=00000abc layout=0000000000000007 topic=orders
/// ```
///
/// | field | content |
/// | --- | --- |
/// | `v` | version of this table: `1` |
/// | `partition`, `topic` | where the rows were read |
/// | `start`, `end` | from the first row's offset to the one after the last row's |
/// | `rows`, `row-bytes` | number of rows; their bytes as spooled: with terminators or, where files are built of them, lengths of four bytes |
/// | `rows-crc32c` | CRC-32C of those bytes, 8 hex digits |
/// | `layout` | digest of the pipeline's layout, 16 hex digits |
///
/// The fields are there in this order, a space between them.
pub const IDENTITY: &str = "aqueduct";

/// What an object holds: equal identities mean equal rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectIdentity {
    /// The partition its rows were read from.
    pub lane: TopicPartition,
    /// From its first row's offset to the one after its last row's.
    pub range: OffsetRange,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of its rows as spooled: with terminators, or with lengths where files are built of them.
    pub row_bytes: u64,
    /// CRC-32C of those bytes.
    pub rows_crc32c: u32,
    /// Digest of the layout that decided name and contents.
    pub layout: u64,
}

impl ObjectIdentity {
    /// As user metadata, see [`IDENTITY`].
    pub fn to_metadata(&self) -> (&'static str, String) {
        let Self { lane, range, rows, row_bytes, rows_crc32c, layout } = self;
        let (start, end) = (range.start(), range.end());
        let text = format!(
            "v=1 partition={} start={start} end={end} rows={rows} row-bytes={row_bytes} rows-crc32c={rows_crc32c:08x} \
             layout={layout:016x} topic={}",
            lane.partition(),
            lane.topic(),
        );
        (IDENTITY, text)
    }

    /// Finds the identity in an object's user metadata; `None` if it is not one of ours or of another version.
    pub fn from_metadata<N: AsRef<str>>(user: &[(N, String)]) -> Option<Self> {
        let (_, text) = user.iter().find(|(name, _)| name.as_ref() == IDENTITY)?;
        let mut rest = text.strip_prefix("v=1 ")?;
        let mut field = |name: &str| {
            let (value, after) = rest.strip_prefix(name)?.strip_prefix('=')?.split_once(' ')?;
            rest = after;
            Some(value)
        };
        let partition = field("partition")?.parse().ok()?;
        let start = Offset::new(field("start")?.parse().ok()?);
        let end = Offset::new(field("end")?.parse().ok()?);
        let (rows, row_bytes) = (field("rows")?.parse().ok()?, field("row-bytes")?.parse().ok()?);
        let rows_crc32c = u32::from_str_radix(field("rows-crc32c")?, 16).ok()?;
        let layout = u64::from_str_radix(field("layout")?, 16).ok()?;
        let topic = rest.strip_prefix("topic=")?;
        Some(Self {
            lane: TopicPartition::new(topic, partition),
            range: OffsetRange::new(start, end)?,
            rows,
            row_bytes,
            rows_crc32c,
            layout,
        })
    }
}

impl fmt::Display for ObjectIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lane, range, rows, row_bytes, rows_crc32c, layout } = self;
        write!(
            f,
            "{lane} {range}, {rows} rows, {row_bytes} bytes, crc32c {rows_crc32c:08x}, layout {layout:016x}"
        )
    }
}

/// A key we must create is taken by an object with other contents.
#[derive(Debug, thiserror::Error)]
#[error("{location}/{key} exists with other contents: found {}, expected {ours}", Found(.theirs.as_ref()))]
pub struct ObjectConflict {
    /// The store.
    pub location: String,
    /// The key.
    pub key: String,
    /// What we would have written.
    pub ours: ObjectIdentity,
    /// What is there; `None` if it does not carry our metadata.
    pub theirs: Option<ObjectIdentity>,
}

struct Found<'a>(Option<&'a ObjectIdentity>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(identity) => identity.fmt(f),
            None => f.write_str("an object without our metadata"),
        }
    }
}

impl Classify for ObjectConflict {
    fn class(&self) -> Class {
        Class::Fatal
    }

    fn hint(&self) -> Option<String> {
        let hint = match &self.theirs {
            Some(theirs) if theirs.layout != self.ours.layout => {
                "a pipeline of another layout wrote it: use another prefix, or finish with the layout that wrote it"
            }
            Some(theirs) if theirs.lane == self.ours.lane => {
                "the same offsets were archived before, with other contents: was the topic recreated or the group's \
                 offset reset? use another prefix, or move the old objects away"
            }
            _ => "another program writes below this prefix: use another prefix, or move its objects away",
        };
        Some(format!("nothing was overwritten; {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity() -> ObjectIdentity {
        ObjectIdentity {
            lane: TopicPartition::new("orders", 3),
            range: OffsetRange::new(Offset::new(10), Offset::new(20)).unwrap(),
            rows: 9,
            row_bytes: 1234,
            rows_crc32c: 0xabc,
            layout: 7,
        }
    }

    fn read(text: &str) -> Option<ObjectIdentity> {
        ObjectIdentity::from_metadata(&[("other", "x".to_owned()), (IDENTITY, text.to_owned())])
    }

    #[test]
    fn metadata_is_golden_and_reads_back() {
        let (name, text) = identity().to_metadata();
        let golden = "v=1 partition=3 start=10 end=20 rows=9 row-bytes=1234 rows-crc32c=00000abc \
                      layout=0000000000000007 topic=orders";
        assert_eq!((name, text.as_str()), ("aqueduct", golden));
        assert_eq!(read(golden), Some(identity()));
    }

    #[test]
    fn anything_missing_or_of_another_version_is_not_ours() {
        assert_eq!(ObjectIdentity::from_metadata(&[("other", String::new())]), None);
        let (_, text) = identity().to_metadata();
        let fields: Vec<&str> = text.split(' ').collect();
        for index in 0..fields.len() {
            let mut fewer = fields.clone();
            fewer.remove(index);
            assert_eq!(read(&fewer.join(" ")), None, "{fewer:?}");
        }
        assert_eq!(read(&text.replace("v=1", "v=2")), None);
    }

    proptest! {
        #[test]
        fn every_identity_reads_back(
            topic: String, partition: i32, (start, length) in (0..i64::MAX / 2, 1..i64::MAX / 2), rows: u64, row_bytes: u64, crc: u32, layout: u64,
        ) {
            let range = OffsetRange::new(Offset::new(start), Offset::new(start + length)).unwrap();
            let lane = TopicPartition::new(topic, partition);
            let identity = ObjectIdentity { lane, range, rows, row_bytes, rows_crc32c: crc, layout };
            prop_assert_eq!(read(&identity.to_metadata().1), Some(identity));
        }

        /// Whatever happens to one place: it is not ours, or another's, or means the same numbers.
        #[test]
        fn damaged_metadata_does_not_pass_for_ours(
            at: proptest::sample::Index, put in proptest::option::of(any::<char>()),
        ) {
            let (_, text) = identity().to_metadata();
            let at = at.index(text.len());
            let changed: String = put.into_iter().collect();
            let changed = format!("{}{changed}{}", &text[..at], &text[at + 1..]);
            let numbers = |text: &str| -> Vec<(String, Option<u64>)> {
                let fields = text.split(' ').map(|field| field.split_once('=').unwrap_or((field, "")));
                fields.map(|(name, value)| (name.to_owned(), u64::from_str_radix(value, 16).ok())).collect()
            };
            let same = numbers(&changed) == numbers(&text) && changed.ends_with("topic=orders");
            prop_assert!(read(&changed) != Some(identity()) || same, "{}", changed);
        }
    }

    #[test]
    fn a_conflict_names_both_and_the_remedy() {
        let theirs = ObjectIdentity { rows: 8, ..identity() };
        let conflict = ObjectConflict {
            location: "s3://b".into(),
            key: "k".into(),
            ours: identity(),
            theirs: Some(theirs),
        };
        let text = conflict.to_string();
        assert!(text.contains("s3://b/k") && text.contains("8 rows") && text.contains("9 rows"), "{text}");
        assert!(conflict.hint().unwrap().contains("recreated"));
    }
}
