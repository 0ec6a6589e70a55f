//! The schema of values that declare none, as their segment shows it.
//!
//! | seen | column |
//! | --- | --- |
//! | whole numbers | `int64`; `uint64` if one needs it; `decimal(20,0)` if there are negative ones beside those |
//! | whole numbers and fractions | `float64` |
//! | decimals, also with whole numbers | a decimal with all their digits |
//! | text, truth values, bytes, UUIDs, dates, times … | the same |
//! | objects | a struct, with a field for each name seen |
//! | lists | a list of what its elements are together |
//! | null only | `string` |
//! | anything else together | JSON text, whatever each value is |
//!
//! Every field may be null, because the next segment may lack it; an object that is a whole value may not. Fields are in order of their first appearance. All of it
//! depends on the rows that were accepted, in their order, and on nothing else.
//!
//! What is inferred is bounded: an object that nests deeper than [`Inferred::DEPTH_MAX`] is JSON text, and so is the object
//! with the most members where there would be more than [`Inferred::PLACES_MAX`] places, or more than
//! [`Inferred::LISTED_MAX`] fields below lists, each of which takes a cell for every element. Objects whose names are data, such
//! as customers' numbers, end as text that way and take no other field with them.

use aqueduct_core::{Composite, DataType, Field, Poison, PoisonReason, Schema, TimeUnit};
use hashbrown::HashMap;

use super::walk::CELLS_MAX;
use super::wide::Wide;
use crate::tape::{Damaged, Item, Name, Names, Tape};

/// Places where values stand, from the root, and what was seen there.
#[derive(Debug)]
pub(super) struct Inferred {
    places: Vec<Place>,
    free: Vec<u32>,
    /// Members below lists and maps.
    listed: usize,
    /// Objects below lists and maps in the row at hand.
    elements: usize,
    /// The row at hand may be refused half-way.
    refusable: bool,
    /// What was there before such a row changed it: places, free ones, members below lists.
    before: Option<(Vec<Place>, Vec<u32>, usize)>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    seen: Seen,
    depth: u8,
    /// Members in order of their first appearance; of a list or map the one element.
    below: Vec<(Key, u32)>,
    index: HashMap<Key, u32>,
    live: bool,
    /// Below a list or map: it takes a cell for each element.
    listed: bool,
    /// A member, counted among those below lists.
    counted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Number(u32),
    Spelled(Box<[u8]>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    Nothing,
    Bool,
    Whole {
        negative: bool,
        large: bool,
    },
    Single,
    Double,
    Decimal {
        whole: u32,
        scale: u32,
    },
    Text,
    Bytes,
    Uuid,
    Date,
    Time(TimeUnit),
    Timestamp {
        unit: TimeUnit,
        utc: bool,
    },
    Duration,
    List,
    Map,
    Struct,
    Json,
}

/// Why a row was not taken in.
#[derive(Debug)]
pub(super) enum Refused {
    /// No place is left for its fields.
    Full,
    /// It has too many parts.
    Poison(Poison),
    Damaged,
}

enum Stop {
    Refused(Refused),
    /// An object has become text: numbers of places are others now.
    Again,
}

impl From<Damaged> for Stop {
    fn from(_: Damaged) -> Self {
        Self::Refused(Refused::Damaged)
    }
}

impl Inferred {
    /// Fields, elements and whatever else a value stands in, in all.
    pub(super) const PLACES_MAX: usize = 1_000;
    /// Fields below lists and maps.
    pub(super) const LISTED_MAX: usize = 256;
    /// Levels of objects, maps and lists.
    pub(super) const DEPTH_MAX: u8 = 15;
    /// Objects below lists and maps that one row may have.
    pub(super) const ELEMENTS_MAX: usize = CELLS_MAX / Self::LISTED_MAX;

    pub(super) fn new() -> Self {
        let root = Place { live: true, ..Place::default() };
        let (places, free) = (vec![root], Vec::new());
        Self { places, free, listed: 0, elements: 0, refusable: false, before: None }
    }

    /// Takes in the value on `tape`: all of it, or nothing.
    pub(super) fn observe(&mut self, tape: Tape<'_>) -> Result<(), Refused> {
        // A member has two bytes at least.
        if tape.len() > 2 * Self::PLACES_MAX {
            let mut value = tape;
            value.branch().map_err(|_| Refused::Damaged)?;
            if let Ok(Item::Parts(Composite::Struct, members)) = value.item()
                && members.count_members().map_err(|_| Refused::Damaged)? > Self::PLACES_MAX
            {
                return Err(Refused::Full);
            }
        }
        // A place costs a row two bytes at least, an object in a list five.
        let places = self.places.len() - self.free.len() + tape.len() / 2;
        self.refusable = places >= Self::PLACES_MAX || tape.len() > 5 * Self::ELEMENTS_MAX;
        let taken = loop {
            self.elements = 0;
            match self.value(0, &mut tape.clone()) {
                Ok(()) => break Ok(()),
                Err(Stop::Refused(refused)) => break Err(refused),
                Err(Stop::Again) => {}
            }
        };
        if let (Some((places, free, listed)), true) = (self.before.take(), taken.is_err()) {
            (self.places, self.free, self.listed) = (places, free, listed);
        }
        taken
    }

    /// Before anything changes. Most rows show nothing new, so that few are copied for.
    #[inline]
    fn remember(&mut self) {
        if self.refusable && self.before.is_none() {
            self.before = Some((self.places.clone(), self.free.clone(), self.listed));
        }
    }

    fn value(&mut self, at: u32, tape: &mut Tape<'_>) -> Result<(), Stop> {
        tape.branch()?;
        let item = tape.item()?;
        let Some(known) = self.places.get(at as usize).map(|place| place.seen) else {
            return Err(Damaged.into());
        };
        if matches!(item, Item::Null) {
            return Ok(());
        }
        let merged = known.and(Seen::of(&item));
        if merged != known {
            self.remember();
            if let Some(place) = self.places.get_mut(at as usize) {
                place.seen = merged;
            }
            if merged == Seen::Json {
                return self.forget_below(at);
            }
        }
        match item {
            Item::Parts(composite, parts) if merged != Seen::Json => self.parts(at, composite, parts),
            _ => Ok(()),
        }
    }

    fn parts(&mut self, at: u32, composite: Composite, mut parts: Tape<'_>) -> Result<(), Stop> {
        if let Some(place) = self.places.get_mut(at as usize) {
            if place.depth >= Self::DEPTH_MAX {
                place.seen = Seen::Json;
                return Ok(());
            }
            if place.listed && composite == Composite::Struct {
                self.elements += 1;
                if self.elements > Self::ELEMENTS_MAX {
                    return Err(Stop::Refused(Refused::Poison(too_many(Self::ELEMENTS_MAX))));
                }
            }
        }
        let mut guess = 0;
        while !parts.is_empty() {
            let name = match composite {
                Composite::Struct => Some(parts.name()?),
                Composite::Map => {
                    parts.name()?;
                    None
                }
                Composite::List => None,
            };
            let below = self.below(at, name.unwrap_or(Name::Number(0)), &mut guess)?;
            let is_text = self.places.get(below as usize).is_some_and(|place| place.seen == Seen::Text);
            // Text where there was text shows nothing new.
            if !is_text || parts.text()?.is_none() {
                self.value(below, &mut parts)?;
            }
        }
        Ok(())
    }

    /// The place of a member or element; made if it is new.
    fn below(&mut self, at: u32, name: Name<'_>, guess: &mut usize) -> Result<u32, Stop> {
        let Some(place) = self.places.get(at as usize) else { return Err(Damaged.into()) };
        if let Some((key, below)) = place.below.get(*guess)
            && key.is(name)
        {
            *guess += usize::from(place.seen == Seen::Struct);
            return Ok(*below);
        }
        let key = Key::of(name);
        if let Some(index) = place.index.get(&key) {
            *guess = *index as usize + 1;
            let below = place.below.get(*index as usize);
            return below.map(|(_, below)| *below).ok_or_else(|| Damaged.into());
        }
        let is_member = place.seen == Seen::Struct;
        let fresh = Place {
            depth: place.depth + 1,
            live: true,
            listed: place.listed || !is_member,
            counted: place.listed && is_member,
            ..Place::default()
        };
        let below = self.add(fresh)?;
        if let Some(place) = self.places.get_mut(at as usize) {
            let index = u32::try_from(place.below.len()).unwrap_or(u32::MAX);
            place.index.insert(key.clone(), index);
            place.below.push((key, below));
            *guess = if place.seen == Seen::Struct { place.below.len() } else { 0 };
        }
        Ok(below)
    }

    fn add(&mut self, fresh: Place) -> Result<u32, Stop> {
        self.remember();
        if fresh.counted {
            if self.listed >= Self::LISTED_MAX {
                return Err(self.collapse(true));
            }
            self.listed += 1;
        }
        if let Some(id) = self.free.pop() {
            if let Some(place) = self.places.get_mut(id as usize) {
                *place = fresh;
            }
            return Ok(id);
        }
        if self.places.len() > Self::PLACES_MAX {
            self.listed -= usize::from(fresh.counted);
            return Err(self.collapse(false));
        }
        self.places.push(fresh);
        u32::try_from(self.places.len() - 1).map_err(|_| Damaged.into())
    }

    /// Makes room: the object with the most members, the first of several, becomes text. Never the root.
    #[cold]
    fn collapse(&mut self, listed: bool) -> Stop {
        let objects = self.places.iter().enumerate().skip(1).filter(|(_, place)| {
            place.live && place.seen == Seen::Struct && !place.below.is_empty() && (place.listed || !listed)
        });
        let largest = objects
            .max_by(|(id, one), (other, two)| one.below.len().cmp(&two.below.len()).then(other.cmp(id)));
        let Some(id) = largest.and_then(|(id, _)| u32::try_from(id).ok()) else {
            return Stop::Refused(Refused::Full);
        };
        if let Some(place) = self.places.get_mut(id as usize) {
            place.seen = Seen::Json;
        }
        match self.forget_below(id) {
            Ok(()) => Stop::Again,
            Err(stop) => stop,
        }
    }

    fn forget_below(&mut self, at: u32) -> Result<(), Stop> {
        let mut gone = match self.places.get_mut(at as usize) {
            Some(place) => {
                place.index = HashMap::new();
                std::mem::take(&mut place.below)
            }
            None => return Err(Damaged.into()),
        };
        while let Some((_, id)) = gone.pop() {
            if let Some(place) = self.places.get_mut(id as usize) {
                gone.append(&mut place.below);
                self.listed -= usize::from(place.counted);
                *place = Place::default();
                self.free.push(id);
            }
        }
        Ok(())
    }

    /// The schema of everything taken in.
    pub(super) fn schema(&self, names: &Names) -> Schema {
        let root = Field::new("", self.data_type(0, names));
        // Values that are null are none of the objects. Engines load no file whose rows may be null themselves.
        let is_object = matches!(root.data_type(), DataType::Struct(_));
        Schema::of_root(if is_object { root } else { root.nullable() })
    }

    fn field(&self, at: u32, name: String, names: &Names) -> Field {
        Field::new(name, self.data_type(at, names)).nullable()
    }

    fn data_type(&self, at: u32, names: &Names) -> DataType {
        let nothing = Place::default();
        let place = self.places.get(at as usize).unwrap_or(&nothing);
        let element = || {
            let below = place.below.first().map(|(_, below)| *below);
            Box::new(match below {
                Some(below) => self.field(below, String::new(), names),
                None => Field::new("", DataType::String).nullable(),
            })
        };
        match place.seen {
            Seen::Nothing | Seen::Text => DataType::String,
            Seen::Bool => DataType::Bool,
            Seen::Whole { large: false, .. } => DataType::Int64,
            Seen::Whole { negative: false, .. } => DataType::UInt64,
            Seen::Whole { .. } => DataType::Decimal { precision: 20, scale: 0 },
            Seen::Single => DataType::Float32,
            Seen::Double => DataType::Float64,
            Seen::Decimal { whole, scale } => DataType::Decimal { precision: (whole + scale).max(1), scale },
            Seen::Bytes => DataType::Bytes,
            Seen::Uuid => DataType::Uuid,
            Seen::Date => DataType::Date,
            Seen::Time(unit) => DataType::Time(unit),
            Seen::Timestamp { unit, utc } => DataType::Timestamp { unit, utc },
            Seen::Duration => DataType::Duration,
            Seen::List => DataType::List(element()),
            Seen::Map => DataType::Map(element()),
            Seen::Struct => DataType::Struct(
                place
                    .below
                    .iter()
                    .map(|(key, below)| self.field(*below, key.spelled(names), names))
                    .collect(),
            ),
            Seen::Json => DataType::Json,
        }
    }
}

#[cold]
fn too_many(most: usize) -> Poison {
    let detail = format!("the value has more than {most} objects in lists");
    Poison::new(PoisonReason::TooLarge, detail)
}

impl Key {
    fn of(name: Name<'_>) -> Self {
        match name {
            Name::Number(number) => Self::Number(number),
            Name::Spelled(text) => Self::Spelled(text.into()),
        }
    }

    #[inline]
    fn is(&self, name: Name<'_>) -> bool {
        match (self, name) {
            (Self::Number(known), Name::Number(number)) => *known == number,
            (Self::Spelled(known), Name::Spelled(text)) => **known == *text,
            _ => false,
        }
    }

    fn spelled(&self, names: &Names) -> String {
        match self {
            Self::Number(number) => names.get(*number).unwrap_or_default().to_owned(),
            Self::Spelled(text) => String::from_utf8_lossy(text).into_owned(),
        }
    }
}

impl Seen {
    #[inline]
    fn of(item: &Item<'_>) -> Self {
        match item {
            Item::Null => Self::Nothing,
            Item::Bool(_) => Self::Bool,
            Item::I64(number) => Self::Whole { negative: *number < 0, large: false },
            Item::U64(number) => Self::Whole { negative: false, large: i64::try_from(*number).is_err() },
            Item::F32(_) => Self::Single,
            Item::F64(_) | Item::Number(_) => Self::Double,
            Item::Decimal { scale, unscaled } => Self::of_decimal(*scale, unscaled),
            Item::Str(_) => Self::Text,
            Item::Bytes(_) => Self::Bytes,
            Item::Uuid(_) => Self::Uuid,
            Item::Date(_) => Self::Date,
            Item::Time { unit, .. } => Self::Time(*unit),
            Item::Timestamp { unit, utc, .. } => Self::Timestamp { unit: *unit, utc: *utc },
            Item::Duration { .. } => Self::Duration,
            Item::Parts(Composite::Struct, _) => Self::Struct,
            Item::Parts(Composite::Map, _) => Self::Map,
            Item::Parts(Composite::List, _) => Self::List,
        }
    }

    fn of_decimal(scale: u32, unscaled: &[u8]) -> Self {
        match Wide::from_be_bytes(unscaled) {
            Some(number) => Self::decimal(number.digits().saturating_sub(scale), scale),
            None => Self::Json,
        }
    }

    fn decimal(whole: u32, scale: u32) -> Self {
        let digits = whole.saturating_add(scale);
        if digits <= super::plan::DIGITS_MAX { Self::Decimal { whole, scale } } else { Self::Json }
    }

    /// What holds both.
    #[inline]
    fn and(self, other: Self) -> Self {
        if self == other { self } else { self.and_other(other) }
    }

    fn and_other(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, seen) | (seen, Self::Nothing) => seen,
            (Self::Whole { negative, large }, Self::Whole { negative: more_negative, large: more_large }) => {
                Self::Whole { negative: negative || more_negative, large: large || more_large }
            }
            (
                Self::Whole { .. } | Self::Single | Self::Double,
                Self::Whole { .. } | Self::Single | Self::Double,
            ) => Self::Double,
            (Self::Decimal { whole, scale }, Self::Decimal { whole: more, scale: finer }) => {
                Self::decimal(whole.max(more), scale.max(finer))
            }
            (Self::Decimal { whole, scale }, Self::Whole { .. })
            | (Self::Whole { .. }, Self::Decimal { whole, scale }) => Self::decimal(whole.max(20), scale),
            _ => Self::Json,
        }
    }
}
