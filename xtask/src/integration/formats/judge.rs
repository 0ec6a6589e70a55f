//! What is in the bucket against what is in the topic: every order once, every field of it, and no more objects than versions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use xtask::load::audit::Audit;
use xtask::readers::{Cell, Contents, Reader, Request};

use super::orders::{Order, Version};
use super::produce::Place;
use crate::integration::member::Segment;
use crate::integration::objects::Object;
use crate::worker::Sharing;

/// Everyone who reads every object.
pub(crate) const READERS: [Reader; 2] = [Reader::Arrow, Reader::DuckDb];

/// What the objects below a prefix are to hold.
pub(crate) struct Judge<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) sharing: Sharing,
    /// The orders in the topic.
    pub(crate) orders: &'a BTreeMap<Place, Order>,
    /// Segments that workers have told of. One that was killed has not told of its last ones.
    pub(crate) segments: &'a [Segment],
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) audit: Audit,
    /// Values that were compared.
    pub(crate) values: u64,
    /// Segments that have objects.
    pub(crate) segments: u64,
    /// Objects of one path, version and segment, where there are most.
    pub(crate) most: u64,
    places: BTreeSet<Place>,
    counts: BTreeMap<(i32, i64, String, Version), u64>,
}

impl Judge<'_> {
    /// Who is to read what, in the order in which [`judge`](Self::judge) takes the answers.
    pub(crate) fn requests(objects: &[Object]) -> Vec<Request> {
        let request = |object: &Object, reader| Request {
            path: object.path.clone(),
            reader,
            compression: xtask::readers::Around::None,
        };
        objects.iter().flat_map(|object| READERS.map(|reader| request(object, reader))).collect()
    }

    /// Compares all of it.
    pub(crate) fn judge(&self, objects: &[Object], contents: &[Result<Contents, String>]) -> Result<Found> {
        ensure!(contents.len() == objects.len() * READERS.len(), "contents of other objects");
        let numbers: BTreeMap<u64, Place> =
            self.orders.iter().map(|(place, order)| (order.number, *place)).collect();
        ensure!(numbers.len() == self.orders.len(), "the topic holds a number twice");
        let pieces = self.pieces(objects)?;
        let mut found = Found::default();
        for (object, told) in objects.iter().zip(contents.chunks(READERS.len())) {
            let segment = segment_of(object, &pieces)?;
            found.audit.objects += 1;
            for (reader, told) in READERS.iter().zip(told) {
                let at = |what: &str| format!("{} by {reader:?}: {what}", object.key);
                let contents = match told {
                    Ok(contents) => contents,
                    Err(error) => {
                        found.audit.corrupt += 1;
                        found.audit.findings.push(at(error));
                        continue;
                    }
                };
                let seen = Seen { object, reader: *reader, segment: &segment, numbers: &numbers };
                if let Err(what) = self.rows(&seen, &contents.rows, &mut found) {
                    found.audit.corrupt += 1;
                    found.audit.findings.push(at(&what.to_string()));
                }
            }
        }
        Ok(self.settle(found))
    }

    fn rows(&self, seen: &Seen<'_>, rows: &[Cell], found: &mut Found) -> Result<()> {
        let Seen { object, reader, segment, numbers } = seen;
        let (partition, start, end) = object.range()?;
        ensure!(object.claim("rows")? == i64::try_from(rows.len())?, "it has {} rows", rows.len());
        let (mut last, mut file) = (i64::MIN, None);
        for row in rows {
            let Some(Cell::Int(id)) = row.member("id") else { anyhow::bail!("{row} has no id") };
            let place = u64::try_from(*id).ok().and_then(|number| numbers.get(&number));
            let place = *place.with_context(|| format!("no order of the topic has number {id}"))?;
            let order = *self.orders.get(&place).context("no order")?;
            let version = *file.get_or_insert_with(|| Version::of_row(row));
            ensure!(
                self.may_be_in(order, version, segment),
                "order {id} is in a file of version {version:?}"
            );
            if let Some(difference) = reader.sees(order.row(version)).difference(row) {
                anyhow::bail!("order {id}{difference}");
            }
            ensure!(place.0 == partition && (start..end).contains(&place.1), "order {id} is at {place:?}");
            ensure!(
                object.route(self.prefix, self.topic) == Some(order.route()),
                "order {id} belongs in {}",
                order.route()
            );
            found.values += leaves(row);
            if *reader != Reader::Arrow {
                continue;
            }
            found.audit.rows += 1;
            found.audit.reordered += u64::from(place.1 < last);
            last = place.1;
            if !found.places.insert(place) {
                found.audit.duplicated += 1;
                found.audit.findings.push(format!("{}: order {id} is elsewhere too", object.key));
            }
        }
        if *reader == Reader::Arrow
            && let Some(version) = file
        {
            let route = object.route(self.prefix, self.topic).unwrap_or_default().to_owned();
            *found.counts.entry((partition, segment.start, route, version)).or_default() += 1;
        }
        Ok(())
    }

    /// Whether a file of this version may hold the order: its own alone, or the newest that its segment has met.
    fn may_be_in(&self, order: Order, file: Version, segment: &Piece) -> bool {
        match self.sharing {
            Sharing::None => order.version == file,
            Sharing::Backward if segment.is_told => segment.newest == Some(file),
            // Where it begins and ends is only known as far as its objects show.
            Sharing::Backward => order.version <= file,
        }
    }

    /// The segments: those that were told, and of what no worker has told anything, objects that lie across each other. Those
    /// of two segments never do.
    fn pieces(&self, objects: &[Object]) -> Result<Vec<Piece>> {
        let mut pieces: Vec<Piece> = self.segments.iter().map(Piece::told).collect::<Result<_>>()?;
        let mut rest = Vec::new();
        for object in objects {
            let range = object.range()?;
            if !pieces.iter().any(|piece| piece.holds(range)) {
                rest.push(range);
            }
        }
        rest.sort_unstable();
        let told = pieces.len();
        for (partition, start, end) in rest {
            match pieces.get_mut(told..).and_then(|untold| untold.last_mut()) {
                Some(piece) if piece.partition == partition && start < piece.end => {
                    piece.end = piece.end.max(end);
                }
                _ => pieces.push(Piece { partition, start, end, is_told: false, newest: None }),
            }
        }
        for piece in &mut pieces {
            let of = self.orders.range((piece.partition, piece.start)..(piece.partition, piece.end));
            piece.newest = of.map(|(_, order)| order.version).max();
        }
        Ok(pieces)
    }

    fn settle(&self, mut found: Found) -> Found {
        let lost: Vec<_> = self.orders.keys().filter(|place| !found.places.contains(*place)).collect();
        found.audit.records = found.places.len() as u64;
        found.audit.lost = lost.len() as u64;
        found.audit.findings.extend(lost.iter().take(3).map(|place| format!("lost: {place:?}")));
        let segments: BTreeSet<_> =
            found.counts.keys().map(|(partition, start, ..)| (*partition, *start)).collect();
        found.segments = segments.len() as u64;
        found.most = found.counts.values().copied().max().unwrap_or(0);
        for (of, count) in found.counts.iter().filter(|(_, count)| **count > 1) {
            found.audit.orphans += count - 1;
            found.audit.findings.push(format!("{count} objects of {of:?}"));
        }
        found
    }
}

fn segment_of(object: &Object, pieces: &[Piece]) -> Result<Piece> {
    let range = object.range()?;
    let piece = pieces.iter().find(|piece| piece.holds(range));
    piece.copied().with_context(|| format!("{} is of no segment", object.key))
}

/// One object before one reader.
struct Seen<'a> {
    object: &'a Object,
    reader: Reader,
    segment: &'a Piece,
    numbers: &'a BTreeMap<u64, Place>,
}

/// A segment, or what is known of one.
#[derive(Clone, Copy, Debug)]
struct Piece {
    partition: i32,
    start: i64,
    end: i64,
    is_told: bool,
    /// The newest version of its orders.
    newest: Option<Version>,
}

impl Piece {
    fn told(segment: &Segment) -> Result<Self> {
        let Segment { lane, start, end } = segment;
        let partition = lane.rsplit_once('[').and_then(|(_, rest)| rest.strip_suffix(']')?.parse().ok());
        let partition = partition.with_context(|| format!("{lane} names no partition"))?;
        Ok(Self { partition, start: *start, end: *end, is_told: true, newest: None })
    }

    fn holds(&self, (partition, start, end): (i32, i64, i64)) -> bool {
        self.partition == partition && self.start <= start && end <= self.end
    }
}

/// Scalars in a value.
fn leaves(cell: &Cell) -> u64 {
    match cell {
        Cell::List(items) => items.iter().map(leaves).sum(),
        Cell::Map(members) | Cell::Record(members) => members.iter().map(|(_, value)| leaves(value)).sum(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests;
