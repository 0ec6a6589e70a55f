//! Whose object is it? The identity every object carries, and what happens when a key is taken.
//!
//! A key that is taken is no error by itself: after a crash, a lost answer or a take-over the same rows meet their own
//! object. It is ours if the metadata says the same offsets, the same number of rows, the same checksum *of the rows*
//! (not of the bytes stored: another compressor version is no conflict) and the same layout. Anything else is
//! [`ObjectConflict`]: nothing is overwritten.

use std::fmt;

use aqueduct_core::{Class, Classify, Offset, OffsetRange, TopicPartition};

use crate::target::ObjectHead;

/// The names of the metadata, as written to the store.
///
/// | name | content |
/// | --- | --- |
/// | `aqueduct-version` | version of this table: `1` |
/// | `aqueduct-topic`, `aqueduct-partition` | where the rows were read |
/// | `aqueduct-start`, `aqueduct-end` | from the first row's offset to the one after the last row's |
/// | `aqueduct-rows`, `aqueduct-row-bytes` | number of rows; their bytes with terminators, not compressed |
/// | `aqueduct-rows-crc32c` | CRC-32C of those bytes, 8 hex digits |
/// | `aqueduct-layout` | digest of the pipeline's layout, 16 hex digits |
pub mod metadata {
    /// Version of the metadata.
    pub const VERSION: &str = "aqueduct-version";
    /// The topic.
    pub const TOPIC: &str = "aqueduct-topic";
    /// The partition.
    pub const PARTITION: &str = "aqueduct-partition";
    /// The first row's offset.
    pub const START: &str = "aqueduct-start";
    /// The offset after the last row's.
    pub const END: &str = "aqueduct-end";
    /// Number of rows.
    pub const ROWS: &str = "aqueduct-rows";
    /// Bytes of the rows.
    pub const ROW_BYTES: &str = "aqueduct-row-bytes";
    /// Checksum of the rows.
    pub const ROWS_CRC32C: &str = "aqueduct-rows-crc32c";
    /// Digest of the layout.
    pub const LAYOUT: &str = "aqueduct-layout";
}

const VERSION: &str = "1";

/// What an object holds: equal identities mean equal rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectIdentity {
    /// The partition its rows were read from.
    pub lane: TopicPartition,
    /// From its first row's offset to the one after its last row's.
    pub range: OffsetRange,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of its rows with terminators, before compression.
    pub row_bytes: u64,
    /// CRC-32C of those bytes.
    pub rows_crc32c: u32,
    /// Digest of the layout that decided name and contents.
    pub layout: u64,
}

impl ObjectIdentity {
    /// As user metadata.
    pub fn to_metadata(&self) -> Vec<(&'static str, String)> {
        vec![
            (metadata::VERSION, VERSION.to_owned()),
            (metadata::TOPIC, self.lane.topic().to_owned()),
            (metadata::PARTITION, self.lane.partition().to_string()),
            (metadata::START, self.range.start().to_string()),
            (metadata::END, self.range.end().to_string()),
            (metadata::ROWS, self.rows.to_string()),
            (metadata::ROW_BYTES, self.row_bytes.to_string()),
            (metadata::ROWS_CRC32C, format!("{:08x}", self.rows_crc32c)),
            (metadata::LAYOUT, format!("{:016x}", self.layout)),
        ]
    }

    /// Reads the identity of an object; `None` if it is not one of ours or of another version.
    pub fn from_metadata(head: &ObjectHead) -> Option<Self> {
        let text =
            |name: &str| head.user.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        if text(metadata::VERSION)? != VERSION {
            return None;
        }
        let offset = |name| Some(Offset::new(text(name)?.parse().ok()?));
        Some(Self {
            lane: TopicPartition::new(text(metadata::TOPIC)?, text(metadata::PARTITION)?.parse().ok()?),
            range: OffsetRange::new(offset(metadata::START)?, offset(metadata::END)?)?,
            rows: text(metadata::ROWS)?.parse().ok()?,
            row_bytes: text(metadata::ROW_BYTES)?.parse().ok()?,
            rows_crc32c: u32::from_str_radix(text(metadata::ROWS_CRC32C)?, 16).ok()?,
            layout: u64::from_str_radix(text(metadata::LAYOUT)?, 16).ok()?,
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

    fn head(user: Vec<(&'static str, String)>) -> ObjectHead {
        ObjectHead { size: 1, user: user.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
    }

    #[test]
    fn metadata_is_golden_and_reads_back() {
        let written = identity().to_metadata();
        let text: Vec<String> = written.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            text.join(" "),
            "aqueduct-version=1 aqueduct-topic=orders aqueduct-partition=3 aqueduct-start=10 aqueduct-end=20 \
             aqueduct-rows=9 aqueduct-row-bytes=1234 aqueduct-rows-crc32c=00000abc aqueduct-layout=0000000000000007"
        );
        assert_eq!(ObjectIdentity::from_metadata(&head(written)), Some(identity()));
    }

    #[test]
    fn anything_missing_or_of_another_version_is_not_ours() {
        for index in 0..identity().to_metadata().len() {
            let mut user = identity().to_metadata();
            user.remove(index);
            assert_eq!(ObjectIdentity::from_metadata(&head(user)), None);
        }
        let mut user = identity().to_metadata();
        user[0].1 = "2".to_owned();
        assert_eq!(ObjectIdentity::from_metadata(&head(user)), None);
    }

    proptest! {
        #[test]
        fn every_identity_reads_back(
            topic: String, partition: i32, (start, length) in (0..i64::MAX / 2, 1..i64::MAX / 2), rows: u64, row_bytes: u64, crc: u32, layout: u64,
        ) {
            let range = OffsetRange::new(Offset::new(start), Offset::new(start + length)).unwrap();
            let lane = TopicPartition::new(topic, partition);
            let identity = ObjectIdentity { lane, range, rows, row_bytes, rows_crc32c: crc, layout };
            prop_assert_eq!(ObjectIdentity::from_metadata(&head(identity.to_metadata())), Some(identity));
        }

        /// Whatever happens to one value: it is not ours, or another's, or means the same number.
        #[test]
        fn damaged_metadata_does_not_pass_for_ours(
            field in 0..9_usize, at: proptest::sample::Index, put in proptest::option::of(any::<char>()), whole in proptest::option::of(any::<String>()),
        ) {
            let mut user = identity().to_metadata();
            let value = &mut user[field].1;
            let (before, at) = (value.clone(), at.index(value.len()));
            *value = whole.unwrap_or_else(|| {
                let changed: String = put.into_iter().collect();
                format!("{}{changed}{}", &before[..at], &before[at + 1..])
            });
            let same = |radix| {
                let number = |text: &str| u64::from_str_radix(text, radix).ok();
                number(value).is_some() && number(value) == number(&before)
            };
            let same = *value == before || same(if field < 7 { 10 } else { 16 });
            let ours = ObjectIdentity::from_metadata(&head(user.clone())) == Some(identity());
            prop_assert!(!ours || same, "{:?}", user[field]);
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
