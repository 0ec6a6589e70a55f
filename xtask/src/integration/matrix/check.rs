//! What is in the bucket against what is in the topic: every value, every route, every offset, once.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::readers::{Cell, Contents, Request};

use super::Combination;
use super::encode::beside::Stands;
use super::produce::{Sent, Topic};
use super::storage::Kind;
use crate::integration::objects::Object;

/// Who is to read an object, in the order of the format's readers.
pub(super) fn requests(object: &Object, combination: &Combination) -> impl Iterator<Item = Request> {
    let compression = combination.storage.around();
    let path = object.path.clone();
    combination.storage.format.readers().iter().map(move |reader| Request {
        path: path.clone(),
        reader: *reader,
        compression,
    })
}

/// What a combination's objects hold, against its topic.
pub(super) struct Check<'a> {
    pub(super) combination: &'a Combination,
    pub(super) topic_name: &'a str,
    pub(super) topic: &'a Topic,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compared {
    pub(super) objects: u64,
    pub(super) rows: u64,
    pub(super) values: u64,
}

impl Check<'_> {
    /// Compares all of it; `contents` are of each object by each reader.
    pub(super) fn objects(
        &self,
        objects: &[Object],
        contents: &[Result<Contents, String>],
    ) -> Result<Compared> {
        let readers = self.combination.storage.format.readers();
        let mut compared = Compared::default();
        let mut found = BTreeMap::new();
        for (object, contents) in objects.iter().zip(contents.chunks(readers.len())) {
            for (reader, contents) in readers.iter().zip(contents) {
                let at = |what: &str| format!("{} by {reader:?}: {what}", object.key);
                let contents = contents.as_ref().map_err(|error| anyhow::anyhow!("{}", at(error)))?;
                ensure!(
                    contents.codecs == [self.combination.storage.codec],
                    at(&format!("{:?}", contents.codecs))
                );
                let expected = self.expected(object)?;
                let rows = self.rows(object, &expected, contents).with_context(|| at("its rows"))?;
                for ((_, expected), row) in expected.iter().zip(rows) {
                    let Combination { encoding, storage, .. } = self.combination;
                    if let Some(difference) = storage.format.difference(encoding, *reader, expected, &row) {
                        bail!(at(&difference));
                    }
                    compared.values += leaves(&row);
                }
                for (place, _) in expected.iter().filter(|_| readers.first() == Some(reader)) {
                    if found.insert(*place, &object.key).is_some() {
                        bail!(at(&format!("{place:?} is in {:?} too", found.get(place))));
                    }
                    compared.rows += 1;
                }
            }
            compared.objects += 1;
        }
        let good = self.topic.iter().filter(|(_, sent)| matches!(sent, Sent::Good { .. }));
        let missing: Vec<_> =
            good.map(|(place, _)| place).filter(|place| !found.contains_key(*place)).collect();
        ensure!(missing.is_empty(), "{} records are in no object: {:?}", missing.len(), missing.first());
        Ok(compared)
    }

    /// The rows that an object must have by its key and its claims: those of its route between its first and its last.
    fn expected(&self, object: &Object) -> Result<Vec<((i32, i64), Cell)>> {
        let (partition, start, end) = object.range()?;
        let route = self.route_of(object, partition, start)?;
        let mut expected = Vec::new();
        for (place, sent) in self.topic.range((partition, start)..(partition, end)) {
            if let Sent::Good { place: of, value } = sent
                && self.combination.layout.route(*of, value) == route
            {
                let Combination { encoding, storage, .. } = self.combination;
                let stands = Stands { topic: self.topic_name, offset: place.1, place: *of };
                expected.push((*place, storage.format.stores(encoding, value, stands)));
            }
        }
        let (first, last) = (expected.first().map(|(it, _)| it.1), expected.last().map(|(it, _)| it.1 + 1));
        ensure!(
            first == Some(start) && last == Some(end),
            "{} claims {start} to {end} and its route has {first:?} to {last:?} there",
            object.key
        );
        ensure!(object.claim("rows")? == i64::try_from(expected.len())?, "{} claims other rows", object.key);
        Ok(expected)
    }

    /// The route that the key names; the rest of the key must be what partition and offset make of it.
    fn route_of(&self, object: &Object, partition: i32, start: i64) -> Result<String> {
        let name =
            format!("{}+{partition}+{start:010}{}", self.topic_name, self.combination.storage.extension());
        let folder = format!("{}/{}/", self.combination.name(), self.topic_name);
        let middle = object.key.strip_prefix(&folder).and_then(|rest| rest.strip_suffix(&name));
        let middle = middle.with_context(|| format!("{} is not {folder}…/{name}", object.key))?;
        Ok(middle.strip_suffix('/').unwrap_or(middle).to_owned())
    }

    /// The rows a reader has found. Values without anything between them are cut as they are expected to lie.
    fn rows(
        &self,
        object: &Object,
        expected: &[((i32, i64), Cell)],
        contents: &Contents,
    ) -> Result<Vec<Cell>> {
        if self.combination.storage.format != Kind::Raw {
            let (wanted, found) = (expected.len(), contents.rows.len());
            ensure!(wanted == found, "{found} rows, {wanted} are expected");
            return Ok(contents.rows.clone());
        }
        let Some(Cell::Bytes(all)) = contents.rows.first() else { bail!("{} has no bytes", object.key) };
        let mut rest = all.as_slice();
        let mut rows = Vec::new();
        for (_, cell) in expected {
            let Cell::Bytes(row) = cell else { bail!("{cell} is no bytes") };
            let (head, tail) = rest.split_at_checked(row.len()).context("too few bytes")?;
            rows.push(Cell::Bytes(head.to_vec()));
            rest = tail;
        }
        ensure!(rest.is_empty(), "{} bytes too many", rest.len());
        Ok(rows)
    }
}

/// Partition and offset to what is wrong and the reason.
pub(super) type Letters = BTreeMap<(i32, i64), (&'static str, &'static str)>;

/// Scalars in a value.
fn leaves(cell: &Cell) -> u64 {
    match cell {
        Cell::List(items) => items.iter().map(leaves).sum(),
        Cell::Map(members) | Cell::Record(members) => members.iter().map(|(_, value)| leaves(value)).sum(),
        _ => 1,
    }
}

/// The records that are to become letters, each by what is wrong with it, and the reason.
pub(super) fn letters(topic: &Topic, combination: &Combination) -> Letters {
    let reason = |sent: &Sent| match sent {
        Sent::Spoilt(spoilt) => Some((spoilt.name, spoilt.reason)),
        Sent::Tombstone if !combination.skips_tombstones() => Some(("a tombstone", "null-value")),
        Sent::Tombstone | Sent::Good { .. } => None,
    };
    topic.iter().filter_map(|(place, sent)| Some((*place, reason(sent)?))).collect()
}

#[cfg(test)]
mod tests;
