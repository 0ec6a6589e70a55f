//! What a record is besides its value: what producers send of it, and the columns that it becomes.

use aqueduct::convert::ColumnsBuilder;
use xtask::readers::{Cell, Unit};

use super::super::truth::Place;

/// What keys and headers are read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Spelling {
    Text,
    /// Keys are numbers of eight bytes.
    Bytes,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Stands<'a> {
    pub(in super::super) topic: &'a str,
    pub(in super::super) offset: i64,
    pub(in super::super) place: Place,
}

/// The columns that are called the same for all.
pub(super) fn columns<C>(builder: ColumnsBuilder<C>) -> ColumnsBuilder<C> {
    builder.topic("_topic").partition("_partition").offset("_offset").timestamp("_timestamp")
}

pub(super) const KEY: &str = "_key";
pub(super) const HEADERS: &str = "_headers";

impl Spelling {
    /// The key of a record; every fifth has none.
    pub(in super::super) fn key(self, place: Place) -> Option<Vec<u8>> {
        let key = match self {
            Self::Text => format!("key \"{}\" ü", place.seq).into_bytes(),
            Self::Bytes => place.seq.to_be_bytes().to_vec(),
        };
        (place.seq % 5 != 0).then_some(key)
    }

    /// The headers of a record: none, one, or several, some of one name and one without a value.
    pub(in super::super) fn headers(self, place: Place) -> Vec<(&'static str, Option<Vec<u8>>)> {
        let value = match self {
            Self::Text => format!("trace {}, ü", place.seq).into_bytes(),
            Self::Bytes => vec![0xff, 0, place.seq.to_le_bytes()[0]],
        };
        let all = [
            ("trace", Some(value)),
            ("nothing", None),
            ("trace", Some(b"again".to_vec())),
            ("", Some(Vec::new())),
        ];
        all.into_iter().take(usize::try_from(place.seq % 5).unwrap_or(0)).collect()
    }

    /// `row` with the columns.
    pub(in super::super) fn beside(self, row: Cell, stands: Stands<'_>) -> Cell {
        let Cell::Record(members) = row else { return row };
        let Stands { topic, offset, place } = stands;
        let bytes = |bytes: Vec<u8>| match self {
            Self::Text => Cell::text(String::from_utf8_lossy(&bytes).into_owned()),
            Self::Bytes => Cell::Bytes(bytes),
        };
        let key = match (self, self.key(place)) {
            (_, None) => Cell::Null,
            (Self::Text, Some(key)) => bytes(key),
            (Self::Bytes, Some(_)) => Cell::Int(place.seq.into()),
        };
        let header = |(name, value): (&str, Option<Vec<u8>>)| {
            Cell::record([("key", Cell::text(name)), ("value", value.map_or(Cell::Null, bytes))])
        };
        let columns = [
            ("_topic", Cell::text(topic)),
            ("_partition", Cell::Int(place.partition.into())),
            ("_offset", Cell::Int(offset.into())),
            ("_timestamp", Cell::Timestamp(place.timestamp(), Unit::Millis, true)),
            (KEY, key),
            (HEADERS, Cell::List(self.headers(place).into_iter().map(header).collect())),
        ];
        let columns = columns.map(|(name, cell)| (name.to_owned(), cell));
        Cell::record(members.into_iter().chain(columns))
    }
}
