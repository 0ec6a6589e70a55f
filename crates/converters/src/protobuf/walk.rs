//! Goes through a message with its plan in hand, in the order of its fields.
//!
//! Fields may stand in any order, lists may be scattered over the message, and of a singular message there may be several pieces,
//! which are one message when they are put together. So each message is gone through once to find where its fields are, and then
//! field by field. Nothing is built but that list of places.

use std::borrow::Cow;

use aqueduct_core::{
    Composite, Decimal, FieldValue, NESTING_MAX, Poison, PoisonReason, TimeUnit, ValueVisitor,
};
use xxhash_rust::xxh3::xxh3_64;

use super::plan::{Member, Message, Plan, Presence, Scalar, Special};
use super::scalar;
use super::wire::{Wire, WireType, malformed, too_deep};
use crate::unfold::Unfold;

/// Gives the message to `visitor`.
pub(super) fn visit(plan: &Plan, bytes: &[u8], visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
    let copies = bytes.len().saturating_mul(COPIES_MAX);
    let mut walk = Walk {
        plan,
        visitor,
        places: Vec::new(),
        depth: 0,
        messages: 0,
        copies,
        unfold: Unfold::of(bytes.len()),
    };
    walk.message(0, bytes)
}

pub(super) struct Walk<'p, 'v> {
    pub(super) plan: &'p Plan,
    pub(super) visitor: &'v mut dyn ValueVisitor,
    /// Of the messages that are open, the innermost last.
    places: Vec<Place>,
    depth: usize,
    /// Messages that are open. A `Value` is one, and no level.
    messages: usize,
    /// Bytes that may still be put together.
    copies: usize,
    unfold: Unfold,
}

/// Where a field's content is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    member: u32,
    wire: WireType,
    start: u32,
    end: u32,
}

impl Place {
    pub(super) fn of<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl Walk<'_, '_> {
    fn message(&mut self, index: usize, bytes: &[u8]) -> Result<(), Poison> {
        if self.messages >= MESSAGES_DEEP_MAX {
            return Err(too_deep());
        }
        self.messages += 1;
        self.content(index, bytes)?;
        self.messages -= 1;
        Ok(())
    }

    fn content(&mut self, index: usize, bytes: &[u8]) -> Result<(), Poison> {
        let plan = self.plan;
        let Some(message) = plan.messages.get(index) else { return self.visitor.scalar(FieldValue::Null) };
        match message.special {
            Special::None => {}
            Special::Wrapper => return self.wrapper(message, bytes),
            Special::Timestamp => {
                let (seconds, nanos) = scalar::seconds_and_nanos(bytes)?;
                return self.visitor.scalar(scalar::timestamp(seconds, nanos)?);
            }
            Special::Duration => {
                let (seconds, nanos) = scalar::seconds_and_nanos(bytes)?;
                return self.visitor.scalar(scalar::duration(seconds, nanos)?);
            }
            Special::Struct | Special::Value | Special::List | Special::Any => {
                return self.json(message.special, message, bytes);
            }
        }
        self.begin(Composite::Struct)?;
        let mark = self.places.len();
        find(message, bytes, &mut self.places)?;
        let mut next = mark;
        for (index, member) in message.members.iter().enumerate() {
            let first = next;
            while self.places.get(next).is_some_and(|place| place.member as usize == index) {
                next += 1;
            }
            let first = self.of_oneof(message, member, mark, first, next);
            self.member(member, bytes, first, next)?;
        }
        self.places.truncate(mark);
        self.end()
    }

    /// The places of a member that count: in a oneof those behind the last of any other member.
    fn of_oneof(&self, message: &Message, member: &Member, mark: usize, first: usize, end: usize) -> usize {
        let Some(oneof) = member.oneof else { return first };
        let own = self.places.get(first..end).unwrap_or_default();
        if own.is_empty() {
            return first;
        }
        let is_rival = |place: &&Place| {
            message.members.get(place.member as usize).is_some_and(|it| it.oneof == Some(oneof))
        };
        let others = [self.places.get(mark..first), self.places.get(end..)];
        let others = others.into_iter().flatten().flatten();
        let last = others.filter(is_rival).map(|place| place.start).max().unwrap_or(0);
        first + own.partition_point(|place| place.start < last)
    }

    /// Gives one member, whose places are those from `first` up to `end`.
    fn member(&mut self, member: &Member, bytes: &[u8], first: usize, end: usize) -> Result<(), Poison> {
        let last = self.places.get(first..end).and_then(<[Place]>::last).copied();
        match (member.presence, last) {
            (Presence::Repeated, _) => {
                self.name(member)?;
                self.begin(Composite::List)?;
                for index in first..end {
                    let Some(place) = self.places.get(index).copied() else { break };
                    self.elements(member, place, bytes)?;
                }
                self.end()
            }
            (Presence::Map, _) => {
                self.name(member)?;
                self.begin(Composite::Map)?;
                self.entries(member, bytes, first, end)?;
                self.end()
            }
            (Presence::Explicit, None) => self.unfold.pay(1),
            (Presence::Required, None) => {
                Err(Poison::new(PoisonReason::MissingField, format!("{} is missing", member.name)))
            }
            (Presence::Implicit, None) => {
                self.name(member)?;
                self.give(&member.kind, scalar::default(&member.kind))
            }
            (_, Some(last)) => {
                self.name(member)?;
                self.singular(member, bytes, last, first, end)
            }
        }
    }

    fn singular(
        &mut self,
        member: &Member,
        bytes: &[u8],
        last: Place,
        first: usize,
        end: usize,
    ) -> Result<(), Poison> {
        match member.kind {
            Scalar::Message(index) | Scalar::Group(index) => {
                let places = self.places.get(first..end).unwrap_or_default();
                for place in places {
                    check_wire(member, place.wire)?;
                }
                if places.len() > 1 {
                    let joined: Vec<u8> = places.iter().flat_map(|place| place.of(bytes)).copied().collect();
                    self.copies = self.copies.checked_sub(joined.len()).ok_or_else(|| {
                        Poison::new(PoisonReason::TooLarge, "the message has too many parts of parts")
                    })?;
                    return self.message(index, &joined);
                }
                self.message(index, last.of(bytes))
            }
            _ => {
                let value = scalar::one(member, last.wire, last.of(bytes))?;
                self.give(&member.kind, value)
            }
        }
    }

    /// One element, or several that are packed.
    fn elements(&mut self, member: &Member, place: Place, bytes: &[u8]) -> Result<(), Poison> {
        let content = place.of(bytes);
        match member.kind {
            Scalar::Message(index) | Scalar::Group(index) => {
                check_wire(member, place.wire)?;
                self.message(index, content)
            }
            _ if place.wire == WireType::Length && scalar::packs(&member.kind) => {
                let mut wire = Wire::new(content);
                while !wire.is_done() {
                    let value = scalar::read(&member.kind, &mut wire)?;
                    self.give(&member.kind, value)?;
                }
                Ok(())
            }
            _ => {
                let value = scalar::one(member, place.wire, content)?;
                self.give(&member.kind, value)
            }
        }
    }

    /// The entries of a map; of several with one key the last counts.
    fn entries(&mut self, member: &Member, bytes: &[u8], first: usize, end: usize) -> Result<(), Poison> {
        let plan = self.plan;
        let Scalar::Message(index) = member.kind else { return Ok(()) };
        let Some(entry) = plan.messages.get(index) else { return Ok(()) };
        let mut keys = Vec::new();
        if end - first > 1 {
            for index in first..end {
                let Some(place) = self.places.get(index) else { break };
                let key = scalar::key(entry, place.of(bytes))?;
                keys.push((xxh3_64(key.as_bytes()), index));
            }
            keys.sort_unstable();
            keys = overridden(&keys, |index| {
                let place = self.places.get(index)?;
                scalar::key(entry, place.of(bytes)).ok()
            });
        }
        for index in first..end {
            let Some(place) = self.places.get(index).copied() else { break };
            check_wire(member, place.wire)?;
            if keys.binary_search(&(0, index)).is_ok() {
                continue;
            }
            let content = place.of(bytes);
            self.visitor.key(&scalar::key(entry, content)?)?;
            self.entry_value(entry, content)?;
        }
        Ok(())
    }

    fn entry_value(&mut self, entry: &Message, bytes: &[u8]) -> Result<(), Poison> {
        let mark = self.places.len();
        find(entry, bytes, &mut self.places)?;
        let value = entry.index_of(2).and_then(|index| Some((index, entry.members.get(index)?)));
        let Some((index, member)) = value else { return Err(malformed("a map has no values")) };
        let found = self.places.get(mark..).unwrap_or_default();
        let first = mark + found.partition_point(|place| (place.member as usize) < index);
        let end = mark + found.partition_point(|place| (place.member as usize) <= index);
        match (self.places.get(first..end).and_then(<[Place]>::last).copied(), &member.kind) {
            (Some(last), _) => self.singular(member, bytes, last, first, end)?,
            (None, Scalar::Message(index)) => self.message(*index, &[])?,
            (None, kind) => self.give(kind, scalar::default(kind))?,
        }
        self.places.truncate(mark);
        Ok(())
    }

    fn wrapper(&mut self, message: &Message, bytes: &[u8]) -> Result<(), Poison> {
        let Some(member) = message.members.first() else { return self.visitor.scalar(FieldValue::Null) };
        let value = scalar::of_field(message, 0, member, bytes)?;
        self.visitor.scalar(value.unwrap_or_else(|| scalar::default(&member.kind)))
    }

    /// `Struct`, `Value` and `ListValue` are the JSON they stand for, an `Any` is its type and bytes.
    fn json(&mut self, special: Special, message: &Message, bytes: &[u8]) -> Result<(), Poison> {
        match special {
            Special::Struct => {
                self.begin(Composite::Struct)?;
                if let Some(fields) = message.members.first() {
                    let mark = self.places.len();
                    find(message, bytes, &mut self.places)?;
                    let end = self.places.len();
                    self.entries(fields, bytes, mark, end)?;
                    self.places.truncate(mark);
                }
                self.end()
            }
            Special::List => {
                self.begin(Composite::List)?;
                if let Some(values) = message.members.first() {
                    let mark = self.places.len();
                    find(message, bytes, &mut self.places)?;
                    for index in mark..self.places.len() {
                        let Some(place) = self.places.get(index).copied() else { break };
                        self.elements(values, place, bytes)?;
                    }
                    self.places.truncate(mark);
                }
                self.end()
            }
            Special::Value => self.json_value(message, bytes),
            _ => {
                self.begin(Composite::Struct)?;
                for (index, member) in message.members.iter().enumerate() {
                    let name = if index == 0 { "@type" } else { &*member.name };
                    self.visitor.key(name)?;
                    let value = scalar::of_field(message, index, member, bytes)?;
                    self.visitor.scalar(value.unwrap_or_else(|| scalar::default(&member.kind)))?;
                }
                self.end()
            }
        }
    }

    fn json_value(&mut self, message: &Message, bytes: &[u8]) -> Result<(), Poison> {
        let mark = self.places.len();
        find(message, bytes, &mut self.places)?;
        let last =
            self.places.get(mark..).unwrap_or_default().iter().max_by_key(|place| place.start).copied();
        let member = last.and_then(|last| message.members.get(last.member as usize));
        let given = match (last, member) {
            (Some(last), Some(member)) if &*member.name != "null_value" => {
                let places = self.places.get(mark..).unwrap_or_default();
                let first = mark + places.partition_point(|place| place.member < last.member);
                let end = mark + places.partition_point(|place| place.member <= last.member);
                let first = self.of_oneof(message, member, mark, first, end);
                self.singular(member, bytes, last, first, end)
            }
            _ => self.visitor.scalar(FieldValue::Null),
        };
        self.places.truncate(mark);
        given
    }

    /// The name of a member. One that is absent has no bytes, and of those that are there names may be long.
    fn name(&mut self, member: &Member) -> Result<(), Poison> {
        self.unfold.pay(member.name.len() + 1)?;
        self.visitor.key(&member.name)
    }

    /// Of an enum one byte may be a long name.
    fn give(&mut self, kind: &Scalar, value: FieldValue<'_>) -> Result<(), Poison> {
        if let (Scalar::Enum(_), FieldValue::Str(name)) = (kind, &value) {
            self.unfold.pay(name.len())?;
        }
        self.visitor.scalar(value)
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Poison> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(too_deep());
        }
        self.visitor.begin(composite)
    }

    fn end(&mut self) -> Result<(), Poison> {
        self.depth -= 1;
        self.visitor.end()
    }
}

/// Appends where the message's fields are, ascending by member; those of one member in their order. Unknown ones are left out.
pub(super) fn find(message: &Message, bytes: &[u8], places: &mut Vec<Place>) -> Result<(), Poison> {
    let mark = places.len();
    let mut wire = Wire::new(bytes);
    while !wire.is_done() {
        let raw = wire.field()?;
        let Some(index) = message.index_of(raw.number) else { continue };
        let narrow = |number: usize| u32::try_from(number).map_err(|_| too_deep());
        let (member, start, end) = (narrow(index)?, narrow(raw.start)?, narrow(raw.end)?);
        places.push(Place { member, wire: raw.wire, start, end });
    }
    let found = places.get_mut(mark..).unwrap_or_default();
    // Encoders write fields in the order of their numbers, which mostly is that of the text.
    if !found.is_sorted_by_key(|place| place.member) {
        found.sort_unstable_by_key(|place| (place.member, place.start));
    }
    Ok(())
}

/// Where a member's last content is, and all of its places.
pub(super) fn places_of(message: &Message, index: usize, bytes: &[u8]) -> Result<Vec<Place>, Poison> {
    let mut places = Vec::new();
    find(message, bytes, &mut places)?;
    let member = message.members.get(index);
    let rivals = places.iter().filter(|place| {
        let other = message.members.get(place.member as usize);
        place.member as usize != index
            && member.and_then(|it| it.oneof).is_some()
            && other.and_then(|it| it.oneof) == member.and_then(|it| it.oneof)
    });
    let last = rivals.map(|place| place.start).max().unwrap_or(0);
    places.retain(|place| place.member as usize == index && place.start >= last);
    Ok(places)
}

/// The pieces of a message put together.
pub(super) fn joined<'b>(places: &[Place], bytes: &'b [u8]) -> Cow<'b, [u8]> {
    match places {
        [] => Cow::Borrowed(&[]),
        [only] => Cow::Borrowed(only.of(bytes)),
        several => Cow::Owned(several.iter().flat_map(|place| place.of(bytes)).copied().collect()),
    }
}

/// The last of the places and its content.
pub(super) fn last<'b>(places: &[Place], bytes: &'b [u8]) -> Option<(WireType, &'b [u8])> {
    places.last().map(|place| (place.wire, place.of(bytes)))
}

/// Of entries with one key all but the last, as `(0, index)`, ascending.
fn overridden<'k>(sorted: &[(u64, usize)], key: impl Fn(usize) -> Option<Cow<'k, str>>) -> Vec<(u64, usize)> {
    let mut overridden = Vec::new();
    for pair in sorted.windows(2) {
        if let [(left, first), (right, second)] = pair
            // Equal hashes are not yet equal keys.
            && left == right
            && key(*first) == key(*second)
        {
            overridden.push((0, *first));
        }
    }
    overridden.sort_unstable();
    overridden
}

pub(super) fn check_wire(member: &Member, found: WireType) -> Result<(), Poison> {
    let expected = match member.kind {
        Scalar::Group(_) => WireType::Group,
        _ => scalar::wire_type(&member.kind),
    };
    if found == expected { Ok(()) } else { Err(unfit(member)) }
}

#[cold]
pub(super) fn unfit(member: &Member) -> Poison {
    malformed(&format!("the field {} is encoded as something else than its schema says", member.name))
}

/// A moment is what a message of seconds and nanoseconds says.
pub(super) fn micros(count: i64) -> FieldValue<'static> {
    FieldValue::Timestamp { count, unit: TimeUnit::Micros, utc: true }
}

/// Seconds with nine digits behind the point.
pub(super) fn seconds(nanos: i128) -> FieldValue<'static> {
    FieldValue::Decimal(Decimal::from_i128(nanos, 9))
}

/// Messages within messages: at every level a `Struct` or a `ListValue` and a `Value`, and one that ends there.
const MESSAGES_DEEP_MAX: usize = 2 * NESTING_MAX + 2;
/// How often the bytes of a record may be copied to put the pieces of messages together.
const COPIES_MAX: usize = 4;
