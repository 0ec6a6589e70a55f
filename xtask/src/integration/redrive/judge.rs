//! What is in the bucket, live and repaired, and among the letters, against what is in the topic.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::load::audit::Audit;
use xtask::readers::{Around, Cell, Contents, Reader, Request};

use super::tickets::{Fault, Ticket};
use crate::integration::formats::produce::Place;
use crate::integration::objects::Object;

/// Everyone who reads every object.
pub(crate) const READERS: [Reader; 2] = [Reader::Arrow, Reader::DuckDb];

/// A letter, as far as it is judged: the record's place, stage, reason.
pub(crate) type Told = (Place, String, String);

/// What the topic holds.
pub(crate) struct Judge<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) tickets: &'a BTreeMap<Place, Ticket>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) audit: Audit,
    /// Rows that the pipeline has stored itself.
    pub(crate) live: u64,
    /// Rows that were stored from letters.
    pub(crate) repaired: u64,
    places: BTreeSet<Place>,
}

/// Whether an object's key says that it holds repaired records.
fn is_repair(key: &str) -> bool {
    key.contains(".repair-")
}

impl Judge<'_> {
    /// Who is to read what, in the order in which [`objects`](Self::objects) takes the answers.
    pub(crate) fn requests(objects: &[Object]) -> Vec<Request> {
        let request = |object: &Object, reader| Request {
            path: object.path.clone(),
            reader,
            compression: Around::None,
        };
        objects.iter().flat_map(|object| READERS.map(|reader| request(object, reader))).collect()
    }

    /// Every ticket that can be stored is, once: by the pipeline if nothing is wrong with it, else from its letter; each value as it
    /// was produced.
    pub(crate) fn objects(&self, objects: &[Object], contents: &[Result<Contents, String>]) -> Result<Found> {
        ensure!(contents.len() == objects.len() * READERS.len(), "contents of other objects");
        let mut found = Found::default();
        for (object, told) in objects.iter().zip(contents.chunks(READERS.len())) {
            found.audit.objects += 1;
            for (reader, told) in READERS.iter().zip(told) {
                let rows = told.as_ref().map_err(|error| anyhow::anyhow!("{error}"));
                if let Err(what) = rows.and_then(|told| self.rows(object, *reader, &told.rows, &mut found)) {
                    found.audit.corrupt += 1;
                    found.audit.findings.push(format!("{} by {reader:?}: {what}", object.key));
                }
            }
        }
        let can_be = |ticket: &Ticket| ticket.fault() != Some(Fault::Torn);
        let missing =
            self.tickets.iter().filter(|(place, ticket)| can_be(ticket) && !found.places.contains(*place));
        let missing: Vec<_> = missing.collect();
        found.audit.records = found.places.len() as u64;
        found.audit.lost = missing.len() as u64;
        found.audit.findings.extend(missing.iter().take(3).map(|it| format!("lost: {it:?}")));
        Ok(found)
    }

    fn rows(&self, object: &Object, reader: Reader, rows: &[Cell], found: &mut Found) -> Result<()> {
        let (partition, start, end) = object.range()?;
        ensure!(object.claim("rows")? == i64::try_from(rows.len())?, "it has {} rows", rows.len());
        let repaired = is_repair(&object.key);
        let mut last = i64::MIN;
        for row in rows {
            let (Some(Cell::Int(of)), Some(Cell::Int(at))) =
                (row.member("_partition"), row.member("_offset"))
            else {
                bail!("{row} does not say where it is from");
            };
            let place = (i32::try_from(*of)?, i64::try_from(*at)?);
            let ticket =
                *self.tickets.get(&place).with_context(|| format!("no record stands at {place:?}"))?;
            let wanted = match ticket.fault() {
                None => Some(false),
                Some(Fault::Torn) => None,
                Some(_) => Some(true),
            };
            ensure!(wanted == Some(repaired), "{ticket:?} with {:?} is stored here", ticket.fault());
            let (route, expected) = ticket.stored(place, repaired);
            if let Some(difference) = reader.sees(expected).difference(row) {
                bail!("{ticket:?}{difference}");
            }
            ensure!(place.0 == partition && (start..end).contains(&place.1), "{ticket:?} is at {place:?}");
            ensure!(
                object.route(self.prefix, self.topic) == Some(route.as_str()),
                "{ticket:?} belongs in {route}"
            );
            if reader != Reader::Arrow {
                continue;
            }
            found.audit.rows += 1;
            found.audit.reordered += u64::from(place.1 < last);
            last = place.1;
            *(if repaired { &mut found.repaired } else { &mut found.live }) += 1;
            if !found.places.insert(place) {
                found.audit.duplicated += 1;
                found.audit.findings.push(format!("{}: {place:?} is elsewhere too", object.key));
            }
        }
        Ok(())
    }

    /// Each bad ticket has a letter, perhaps several, that says what is wrong with it; nothing else has one. Answers how many of
    /// them are repeats.
    pub(crate) fn letters(&self, letters: &[Told]) -> Result<u64> {
        let mut found = BTreeSet::new();
        for (place, stage, reason) in letters {
            let ticket =
                self.tickets.get(place).with_context(|| format!("a letter of no record: {place:?}"))?;
            let wanted = ticket.fault().map(Fault::letter);
            ensure!(
                wanted == Some((stage.as_str(), reason.as_str())),
                "the letter of {ticket:?} says {stage}: {reason}, expected {wanted:?}"
            );
            found.insert(*place);
        }
        let bad = self.tickets.iter().filter(|(_, ticket)| ticket.fault().is_some());
        let without: Vec<_> = bad.filter(|(place, _)| !found.contains(*place)).collect();
        ensure!(without.is_empty(), "{} bad records have no letter: {:?}", without.len(), without.first());
        Ok(letters.len() as u64 - found.len() as u64)
    }
}

#[cfg(test)]
mod tests;
