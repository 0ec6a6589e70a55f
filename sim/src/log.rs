//! One partition's records.

use std::collections::BTreeMap;

use bytes::Bytes;

/// What a record is to the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Good,
    Tombstone,
    Poison,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) value: Option<Bytes>,
    pub(crate) time_ms: i64,
}

/// All there ever was, for the audit; a reader gets only what is at or above `start`.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) entries: BTreeMap<i64, Entry>,
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Retention has passed the mark here: these records are gone, and whoever needs them stops.
    pub(crate) passed: bool,
    /// An operator has set the offset; nobody of ours may go on until it is put back.
    pub(crate) foreign: bool,
}

impl Log {
    /// Appends a record of `bytes` bytes at least, that says where it is.
    pub(crate) fn append(&mut self, partition: i32, kind: Kind, route: u8, bytes: usize, time_ms: i64) {
        let offset = self.end;
        let route = char::from(b'a' + route);
        let value = match kind {
            Kind::Tombstone => None,
            Kind::Poison => Some(Bytes::from(format!("!{partition}:{offset}"))),
            Kind::Good => Some(Bytes::from(format!("{route}{partition}:{offset}:{}", "x".repeat(bytes)))),
        };
        self.entries.insert(offset, Entry { kind, value, time_ms });
        self.end += 1;
    }
}
