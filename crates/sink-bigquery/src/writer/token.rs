//! What the intent says of a segment: its streams.
//!
//! ```text
//! version 1 | rows refused: count, hash | table | stream id | rows     (table, stream id, rows) for each table
//! ```
//!
//! A table is spelled as short as it can be: not at all if it is where the lane's records go by default, and without project and
//! dataset if these are the sink's own. Both are part of the layout's identity, so whoever reads the token means the same.

use aqueduct_core::Intent;

use crate::error::BigQueryError;
use crate::name::{StreamName, TableName};

const VERSION: u8 = 1;
/// Version, count and hash.
const HEAD_MAX: usize = 1 + 5 + 8;
/// Beside its table's name, an entry has a kind, three lengths, the stream's id and the number of rows.
const ENTRY_MAX: usize = 1 + 3 * 2 + 9 + ID_PLANNED;
/// Stream ids are this long at most, as far as can be planned: those seen in Google's documents have about 60 characters. One that
/// is longer fits as long as there is room.
const ID_PLANNED: usize = 72;

/// What tables may be left out of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Defaults {
    pub(crate) project: String,
    pub(crate) dataset: String,
    /// Where the lane's records go without a route.
    pub(crate) table: TableName,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) refused: Refused,
    pub(crate) entries: Vec<Entry>,
}

/// Which rows the service has refused while they were staged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) count: u32,
    pub(crate) hash: u64,
}

/// One table's part of the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stream: StreamName,
    pub(crate) rows: u64,
}

/// The longest name a table may have, as it is spelled in a token, so that a segment of `routes` tables has room.
pub(crate) fn name_max(routes: usize) -> usize {
    ((Intent::TOKEN_MAX - HEAD_MAX) / routes.max(1)).saturating_sub(ENTRY_MAX)
}

/// Most tables that a segment can have at all.
pub(crate) const ROUTES_MAX: usize = 10;

/// How many bytes of a token the table's name takes.
pub(crate) fn name_length(table: &TableName, defaults: &Defaults) -> usize {
    match kind(table, defaults) {
        0 => 0,
        1 => table.table().len(),
        _ => table.table().len() + table.dataset().len() + table.project().len(),
    }
}

fn kind(table: &TableName, defaults: &Defaults) -> u8 {
    if *table == defaults.table {
        0
    } else if table.project() == defaults.project && table.dataset() == defaults.dataset {
        1
    } else {
        2
    }
}

impl Token {
    pub(crate) fn encode(&self, defaults: &Defaults) -> Result<Vec<u8>, BigQueryError> {
        let mut out = vec![VERSION];
        put(&mut out, u64::from(self.refused.count));
        if self.refused.count > 0 {
            out.extend_from_slice(&self.refused.hash.to_le_bytes());
        }
        for Entry { stream, rows } in &self.entries {
            let kind = kind(&stream.table, defaults);
            out.push(kind);
            if kind == 2 {
                put_text(&mut out, stream.table.project());
                put_text(&mut out, stream.table.dataset());
            }
            if kind > 0 {
                put_text(&mut out, stream.table.table());
            }
            put_text(&mut out, &stream.id);
            put(&mut out, *rows);
        }
        if out.len() > Intent::TOKEN_MAX {
            let (length, max) = (out.len(), Intent::TOKEN_MAX);
            return Err(BigQueryError::Token {
                problem: format!("would have {length} bytes, {max} are the most: lower routes_max"),
            });
        }
        Ok(out)
    }

    pub(crate) fn decode(bytes: &[u8], defaults: &Defaults) -> Result<Self, BigQueryError> {
        let damaged = || BigQueryError::Token { problem: "is damaged".to_owned() };
        let mut rest = bytes;
        match take(&mut rest, 1).ok_or_else(damaged)? {
            [VERSION] => {}
            other => {
                let problem = format!(
                    "is of version {other:?}, which this version does not read; run the one that wrote it"
                );
                return Err(BigQueryError::Token { problem });
            }
        }
        let token = Self::decode_rest(&mut rest, defaults).ok_or_else(damaged)?;
        // Nothing that is spelled in another way.
        if token.encode(defaults)? != bytes {
            return Err(damaged());
        }
        Ok(token)
    }

    fn decode_rest(rest: &mut &[u8], defaults: &Defaults) -> Option<Self> {
        let mut token = Self::default();
        token.refused.count = u32::try_from(number(rest)?).ok()?;
        if token.refused.count > 0 {
            token.refused.hash = u64::from_le_bytes(take(rest, 8)?.try_into().ok()?);
        }
        while !rest.is_empty() {
            let table = match take(rest, 1)? {
                [0] => defaults.table.clone(),
                [1] => {
                    TableName::new(defaults.project.as_str(), defaults.dataset.as_str(), text(rest)?).ok()?
                }
                [2] => TableName::new(text(rest)?, text(rest)?, text(rest)?).ok()?,
                _ => return None,
            };
            let id = text(rest)?;
            let stream = StreamName::of(&table, &format!("{}/streams/{id}", table.path()))?;
            token.entries.push(Entry { stream, rows: number(rest)? });
        }
        Some(token)
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn text<'b>(rest: &mut &'b [u8]) -> Option<&'b str> {
    let length = usize::try_from(number(rest)?).ok()?;
    std::str::from_utf8(take(rest, length)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn defaults() -> Defaults {
        let table = TableName::parse("shop.events.orders").unwrap();
        Defaults { project: "shop".into(), dataset: "events".into(), table }
    }

    fn entry(table: &str, id: &str, rows: u64) -> Entry {
        Entry { stream: StreamName { table: TableName::parse(table).unwrap(), id: id.into() }, rows }
    }

    #[test]
    fn tokens_are_short() {
        let token =
            Token { entries: vec![entry("shop.events.orders", &"x".repeat(60), 5)], ..Token::default() };
        let bytes = token.encode(&defaults()).unwrap();
        assert_eq!(bytes.len(), 1 + 1 + 1 + 61 + 1);
        assert_eq!(Token::decode(&bytes, &defaults()).unwrap(), token);
    }

    #[test]
    fn as_many_tables_fit_as_are_promised_and_no_more() {
        for routes in 1..=ROUTES_MAX {
            let name = "t".repeat(name_max(routes));
            assert!(!name.is_empty(), "{routes}");
            let full = entry(&format!("shop.events.{name}"), &"i".repeat(ID_PLANNED), u64::MAX >> 1);
            let refused = Refused { count: u32::MAX, hash: 7 };
            let token = Token { refused, entries: vec![full; routes] };
            let bytes = token.encode(&defaults()).unwrap();
            assert_eq!(Token::decode(&bytes, &defaults()).unwrap(), token);
        }
        assert_eq!(name_max(ROUTES_MAX + 5), 0, "names would have no room");
        let entries = vec![entry("shop.events.t", &"i".repeat(500), 1); 3];
        assert!(Token { entries, ..Token::default() }.encode(&defaults()).is_err());
    }

    #[test]
    fn other_versions_and_damage_are_told_apart() {
        let problem = |bytes: &[u8]| Token::decode(bytes, &defaults()).unwrap_err().to_string();
        assert!(problem(&[2, 0]).contains("version"), "{}", problem(&[2, 0]));
        for bytes in
            [&[][..], &[1], &[1, 0, 3], &[1, 0, 0, 5, b'a'], &[1, 0x80, 0], &[1, 0, 1, 1, b'/', 1, b'i', 1]]
        {
            assert!(problem(bytes).contains("damaged"), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_token_or_an_error(bytes: Vec<u8>) {
            drop(Token::decode(&bytes, &defaults()));
        }

        #[test]
        fn tokens_survive(
            tables in prop::collection::vec((0..3_usize, "[a-z]{1,9}", "[A-Za-z0-9_-]{1,40}", 0..u64::MAX >> 1), 0..9),
            count: u32, hash: u64,
        ) {
            let entries = tables.iter().map(|(kind, name, id, rows)| {
                let table = ["shop.events.orders".to_owned(), format!("shop.events.{name}"), format!("p.{name}.t")];
                entry(&table[*kind], id, *rows)
            });
            let token = Token {
                refused: Refused { count, hash: if count > 0 { hash } else { 0 } },
                entries: entries.collect(),
            };
            let bytes = token.encode(&defaults()).unwrap();
            prop_assert_eq!(Token::decode(&bytes, &defaults()).unwrap(), token);
        }
    }
}
