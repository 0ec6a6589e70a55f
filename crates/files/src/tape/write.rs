//! From a visit to the tape.

use std::hash::BuildHasher;

use aqueduct_core::{Composite, FieldValue, NESTING_MAX, Poison, PoisonReason, TimeUnit, ValueVisitor};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::form::{self, Form, Noted, kind_of};
use super::{Names, tag};

/// What rows of a segment have in common while they are written.
#[derive(Debug, Default)]
pub(crate) struct TapeState {
    names: Names,
    /// By place: the name that came here last time. A guess, checked before it is believed.
    followers: Vec<u32>,
    /// By name: the struct that has it, the last one if several are open.
    stamps: Vec<u64>,
    /// Stamps of structs that are still open, to be put back when an inner one ends.
    covered: Vec<(u32, u64)>,
    /// The struct begun last. Counted through the whole segment, so that no stamp needs to be wiped.
    serial: u64,
    levels: Vec<Level>,
    /// Names that have no number, by the struct that has them.
    spelled: HashTable<Spelled>,
    hasher: DefaultHashBuilder,
    /// The row written last has a date, a time or a timestamp.
    timed: bool,
    form: Form,
}

#[derive(Debug)]
struct Level {
    composite: Composite,
    /// Where the length of its parts belongs.
    length_at: usize,
    serial: u64,
    /// The member at hand, `NONE` before the first.
    member: u32,
    /// The place of the name that comes next.
    place: usize,
    covered: usize,
    /// A name was given, and no value yet.
    keyed: bool,
}

#[derive(Debug)]
struct Spelled {
    serial: u64,
    start: usize,
    end: usize,
}

const NONE: u32 = u32::MAX;

impl TapeState {
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Whether the row written last has a date, a time or a timestamp: not every one can be shown as text.
    pub(crate) fn is_timed(&self) -> bool {
        self.timed
    }

    /// Whether the row written last has the parts of the one before it, both with `NOTES`: members of the same names, and values of
    /// the same kinds, in the same order. A row that was [taken back](Self::undo) is none to compare with.
    pub(crate) fn is_formed_as_before(&self) -> bool {
        self.form.is_repeated()
    }

    /// Takes the names of the row written last back: it is none after all, and there were `known` before it.
    pub(crate) fn undo(&mut self, known: usize) {
        self.levels.clear();
        self.covered.clear();
        self.form.forget();
        self.names.truncate(known);
        self.stamps.truncate(known);
        // Guesses are checked, so those that lead nowhere now may stay.
        self.followers.truncate(2 * known + 2);
    }

    pub(crate) fn into_names(self) -> Names {
        self.names
    }
}

/// Appends one value to a row. After an error the row is to be cut off, and the state is what it was before.
///
/// With `NOTES` the state knows whether the row has the form of the one before it, see [`TapeState::is_formed_as_before`].
pub(crate) struct TapeWriter<'a, const NOTES: bool = false> {
    state: &'a mut TapeState,
    out: &'a mut Vec<u8>,
    known: usize,
    oldest: u64,
    rooted: bool,
    branched: bool,
    finished: bool,
    /// Parts of the form so far.
    noted: Noted,
}

impl<'a, const NOTES: bool> TapeWriter<'a, NOTES> {
    pub(crate) fn new(state: &'a mut TapeState, out: &'a mut Vec<u8>) -> Self {
        let (known, oldest) = (state.names.len(), state.serial);
        state.timed = false;
        let noted = state.form.begin(NOTES);
        Self { state, out, known, oldest, rooted: false, branched: false, finished: false, noted }
    }

    /// Notes a part of the row's form.
    #[inline]
    fn note(&mut self, part: u32) {
        if NOTES {
            self.state.form.note(&mut self.noted, part);
        }
    }

    /// After the visit.
    pub(crate) fn finish(mut self) -> Result<(), Poison> {
        if !self.rooted || self.branched || !self.state.levels.is_empty() {
            return Err(disorder());
        }
        self.finished = true;
        self.state.form.finish(&self.noted);
        Ok(())
    }

    /// Is a value due here?
    #[inline]
    fn value(&mut self) -> Result<(), Poison> {
        self.branched = false;
        match self.state.levels.last_mut() {
            None if self.rooted => Err(disorder()),
            None => {
                self.rooted = true;
                Ok(())
            }
            Some(level) if level.composite == Composite::List => Ok(()),
            Some(level) => {
                if std::mem::take(&mut level.keyed) {
                    Ok(())
                } else {
                    Err(disorder())
                }
            }
        }
    }

    fn unsigned(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(low_bits(number) | 0x80);
            number >>= 7;
        }
        self.out.push(low_bits(number));
    }

    fn signed(&mut self, number: i64) {
        self.unsigned((number << 1 ^ number >> 63).cast_unsigned());
    }

    #[inline]
    fn block(&mut self, bytes: &[u8]) {
        self.unsigned(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    fn put_text(&mut self, text: &[u8]) {
        if let Ok(short @ 0..tag::INLINE) = u8::try_from(text.len()) {
            self.out.push(tag::TEXT + short);
            self.out.extend_from_slice(text);
        } else {
            self.out.push(tag::LONG_TEXT);
            self.block(text);
        }
    }

    fn timed(&mut self, tag: u8, number: i64) {
        self.state.timed = true;
        self.tagged(tag, number);
    }

    fn tagged(&mut self, tag: u8, number: i64) {
        self.out.push(tag);
        self.signed(number);
    }

    #[inline]
    fn member(&mut self, name: &str) -> Result<(), Poison> {
        let TapeState { names, followers, stamps, covered, levels, .. } = &mut *self.state;
        let Some(level) = levels.last_mut() else { return Err(disorder()) };
        let guess = followers.get(level.place).copied().unwrap_or(NONE);
        let number = if names.is(guess, name) {
            guess
        } else if let Some(number) = names.number(name) {
            if followers.len() < 2 * names.len() + 2 {
                followers.resize(2 * names.len() + 2, NONE);
                stamps.resize(names.len(), 0);
            }
            if let Some(follower) = followers.get_mut(level.place) {
                *follower = number;
            }
            number
        } else {
            return self.spell(name);
        };
        if let Some(stamp) = stamps.get_mut(number as usize) {
            if *stamp == level.serial {
                return Err(twice(name));
            }
            if *stamp > self.oldest {
                covered.push((number, *stamp));
            }
            *stamp = level.serial;
        }
        level.member = number;
        level.place = 2 * number as usize + 3;
        self.note(number);
        if let Ok(number @ 0..tag::INLINE) = u8::try_from(number) {
            self.out.push(tag::MEMBER + number);
        } else {
            self.out.push(tag::LONG_MEMBER);
            self.unsigned(u64::from(number));
        }
        Ok(())
    }

    /// A member whose name has no number.
    #[cold]
    fn spell(&mut self, name: &str) -> Result<(), Poison> {
        self.state.form.leave_out();
        self.out.push(tag::SPELLED);
        self.block(name.as_bytes());
        let TapeState { spelled, levels, hasher, .. } = &mut *self.state;
        let Some(level) = levels.last_mut() else { return Err(disorder()) };
        let (start, end) = (self.out.len() - name.len(), self.out.len());
        let out: &[u8] = self.out;
        let hash = |serial: u64, start: usize, end: usize| hasher.hash_one((serial, out.get(start..end)));
        let is_it = |known: &Spelled| {
            known.serial == level.serial && out.get(known.start..known.end) == Some(name.as_bytes())
        };
        let mine = hash(level.serial, start, end);
        if spelled.find(mine, is_it).is_some() {
            return Err(twice(name));
        }
        let known = Spelled { serial: level.serial, start, end };
        spelled.insert_unique(mine, known, |it| hash(it.serial, it.start, it.end));
        level.member = NONE;
        Ok(())
    }
}

impl<const NOTES: bool> Drop for TapeWriter<'_, NOTES> {
    fn drop(&mut self) {
        self.state.spelled.clear();
        if !self.finished {
            self.state.undo(self.known);
        }
    }
}

impl<const NOTES: bool> ValueVisitor for TapeWriter<'_, NOTES> {
    #[inline]
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        self.value()?;
        if NOTES {
            match kind_of(&value) {
                Some(kind) => self.note(kind),
                None => self.state.form.leave_out(),
            }
        }
        match value {
            FieldValue::Null => self.out.push(tag::NULL),
            FieldValue::Bool(it) => self.out.push(if it { tag::TRUE } else { tag::FALSE }),
            FieldValue::I64(number) => match u8::try_from(number) {
                Ok(small @ 0..tag::INLINE) => self.out.push(small),
                _ => self.tagged(tag::I64, number),
            },
            FieldValue::U64(number) => {
                self.out.push(tag::U64);
                self.unsigned(number);
            }
            FieldValue::F32(number) => {
                self.out.push(tag::F32);
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            FieldValue::F64(number) => {
                self.out.push(tag::F64);
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            FieldValue::Number(text) => {
                self.out.push(tag::NUMBER);
                self.block(text.as_bytes());
            }
            FieldValue::Decimal(number) => {
                number.check_limits()?;
                self.out.push(tag::DECIMAL);
                self.unsigned(u64::from(number.scale()));
                self.block(number.unscaled());
            }
            FieldValue::Str(text) => self.put_text(text.as_bytes()),
            FieldValue::Bytes(bytes) => {
                self.out.push(tag::BYTES);
                self.block(&bytes);
            }
            FieldValue::Uuid(bytes) => {
                self.out.push(tag::UUID);
                self.out.extend_from_slice(&bytes);
            }
            FieldValue::Date(days) => self.timed(tag::DATE, i64::from(days)),
            FieldValue::Time { count, unit } => self.timed(tag::TIME + unit_index(unit), count),
            FieldValue::Timestamp { count, unit, utc } => {
                let zone = if utc { 0 } else { 3 };
                self.timed(tag::TIMESTAMP + zone + unit_index(unit), count);
            }
            FieldValue::Duration { months, days, millis } => {
                self.out.push(tag::DURATION);
                for part in [months, days, millis] {
                    self.unsigned(u64::from(part));
                }
            }
            _ => return Err(disorder()),
        }
        Ok(())
    }

    #[inline]
    fn text(&mut self, utf8: &[u8]) -> Result<(), Poison> {
        debug_assert!(std::str::from_utf8(utf8).is_ok(), "text that is not UTF-8");
        self.value()?;
        self.note(form::TEXT);
        self.put_text(utf8);
        Ok(())
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Poison> {
        self.value()?;
        let state = &mut *self.state;
        if state.levels.len() >= NESTING_MAX {
            let detail = format!("the value nests deeper than {NESTING_MAX} levels");
            return Err(Poison::new(PoisonReason::TooLarge, detail));
        }
        let tag = match composite {
            Composite::Struct => tag::STRUCT,
            Composite::Map => tag::MAP,
            Composite::List => tag::LIST,
        };
        self.out.push(tag);
        state.serial += 1;
        let parent = state.levels.last().map_or(NONE, |level| level.member);
        state.levels.push(Level {
            composite,
            length_at: self.out.len(),
            serial: state.serial,
            // Elements that are structs begin as their list's member does.
            member: if composite == Composite::Struct { NONE } else { parent },
            place: if parent == NONE { 0 } else { 2 * parent as usize + 2 },
            covered: state.covered.len(),
            keyed: false,
        });
        self.out.extend_from_slice(&[0; 4]);
        self.note(form::of_tag(tag));
        Ok(())
    }

    #[inline]
    fn key(&mut self, name: &str) -> Result<(), Poison> {
        let Some(level) = self.state.levels.last_mut() else { return Err(disorder()) };
        if level.keyed || level.composite == Composite::List {
            return Err(disorder());
        }
        level.keyed = true;
        if level.composite == Composite::Map {
            self.out.push(tag::SPELLED);
            self.block(name.as_bytes());
            return Ok(());
        }
        self.member(name)
    }

    fn end(&mut self) -> Result<(), Poison> {
        let state = &mut *self.state;
        let Some(level) = state.levels.pop() else { return Err(disorder()) };
        if level.keyed || self.branched {
            return Err(disorder());
        }
        while state.covered.len() > level.covered
            && let Some((name, stamp)) = state.covered.pop()
        {
            if let Some(known) = state.stamps.get_mut(name as usize) {
                *known = stamp;
            }
        }
        let parts = self.out.len() - level.length_at - 4;
        let length = u32::try_from(parts).map_err(|_| too_long())?;
        if let Some(place) = self.out.get_mut(level.length_at..level.length_at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        self.note(form::END);
        Ok(())
    }

    fn branch(&mut self, index: usize) -> Result<(), Poison> {
        if std::mem::replace(&mut self.branched, true) {
            return Err(disorder());
        }
        self.out.push(tag::BRANCH);
        self.unsigned(index as u64);
        Ok(())
    }
}

fn low_bits(number: u64) -> u8 {
    u8::try_from(number & 0x7f).unwrap_or_default()
}

pub(super) fn unit_index(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Millis => 0,
        TimeUnit::Micros => 1,
        TimeUnit::Nanos => 2,
    }
}

#[cold]
fn twice(name: &str) -> Poison {
    Poison::new(PoisonReason::Malformed, format!("an object has the member {name:?} twice"))
}

#[cold]
fn disorder() -> Poison {
    Poison::new(
        PoisonReason::Malformed,
        "the value's events do not nest; this is a defect of its converter, report it",
    )
}

#[cold]
fn too_long() -> Poison {
    Poison::new(PoisonReason::TooLarge, "a part of the value has more than 4 GiB")
}
