//! Goes through a document with its shape in hand.

use std::fmt;

use aqueduct_core::{Composite, FieldValue, JsonText, Poison, PoisonReason, ValueVisitor};

use super::{Kind, Members, Pairs, Shape, scalar};
use crate::json;
use crate::json::lookup::skip_value;
use crate::json::text::{skip_space, skip_string};
use crate::nobody::Nobody;
use crate::unfold::Unfold;

/// Gives `text`, a valid JSON document, to `visitor` as what `shape` makes of it.
pub(crate) fn visit(shape: &Shape, text: &[u8], visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
    within(shape, text, visitor, &mut Unfold::of(text.len()))
}

/// Checks that the document fits.
pub(crate) fn check(shape: &Shape, text: &[u8]) -> Result<(), Poison> {
    visit(shape, text, &mut Nobody)
}

/// Checks that a default fits. Defaults are made of those within, so all of a schema are paid for together.
#[cfg(feature = "connect-json")]
pub(crate) fn check_default(shape: &Shape, text: &[u8], unfold: &mut Unfold) -> Result<(), Poison> {
    unfold.pay(text.len())?;
    within(shape, text, &mut Nobody, unfold)
}

fn within(
    shape: &Shape,
    text: &[u8],
    visitor: &mut dyn ValueVisitor,
    unfold: &mut Unfold,
) -> Result<(), Poison> {
    let mut walk = Walk { text, visitor, unfold };
    walk.value(shape, skip_space(text, 0), &Place::Root).map(drop)
}

struct Walk<'t, 'v> {
    text: &'t [u8],
    visitor: &'v mut dyn ValueVisitor,
    unfold: &'v mut Unfold,
}

/// Where in the document, for messages.
#[derive(Clone, Copy)]
enum Place<'p> {
    Root,
    Member(&'p Self, &'p str),
    /// Of a list; or of a map, whose keys are data and not shown.
    Element(&'p Self, usize),
}

impl Walk<'_, '_> {
    /// Reads the value at `at`; answers where it ends. Recursion is as deep as the document, which the validator bounds.
    fn value(&mut self, shape: &Shape, at: usize, place: &Place<'_>) -> Result<usize, Poison> {
        let first = self.text.get(at).copied();
        if first == Some(b'n') {
            self.null(shape, place)?;
            return Ok(at + 4);
        }
        match (&shape.kind, first) {
            (Kind::Json, _) => {
                let end = skip_value(self.text, at);
                json::visit::visit(self.text.get(at..end).unwrap_or_default(), self.visitor)?;
                Ok(end)
            }
            (Kind::Struct(members), Some(b'{')) => self.members(members, at, place),
            (Kind::Map(values), Some(b'{')) => self.entries(values, at, place),
            (Kind::List(elements), Some(b'[')) => {
                self.visitor.begin(Composite::List)?;
                let end = self.elements(at, place, |walk, at, place| walk.value(elements, at, place))?;
                self.visitor.end()?;
                Ok(end)
            }
            (Kind::Pairs { key, value, spelled }, Some(b'[')) => {
                self.visitor.begin(Composite::Map)?;
                let end = self.elements(at, place, |walk, at, place| match spelled {
                    Pairs::Lists => walk.pair(key, value, at, place),
                    Pairs::Objects => walk.entry(key, value, at, place),
                })?;
                self.visitor.end()?;
                Ok(end)
            }
            (_, Some(b'{' | b'[')) => Err(unfit(&shape.kind, place, first)),
            (kind, _) => {
                let end = skip_value(self.text, at);
                let text = self.text.get(at..end).unwrap_or_default();
                let value = scalar::read(kind, text).map_err(|_| unfit(kind, place, first))?;
                self.visitor.scalar(value)?;
                Ok(end)
            }
        }
    }

    /// What stands for null and for a member that is missing.
    fn null(&mut self, shape: &Shape, place: &Place<'_>) -> Result<(), Poison> {
        if let Some(default) = &shape.default {
            // Those within it pay for themselves.
            self.unfold.pay(default.len() + 1)?;
            let mut plain =
                Walk { text: default.as_bytes(), visitor: &mut *self.visitor, unfold: &mut *self.unfold };
            return plain.value(shape, 0, place).map(drop);
        }
        if shape.nullable || matches!(shape.kind, Kind::Json) {
            return self.visitor.scalar(FieldValue::Null);
        }
        Err(Poison::new(PoisonReason::NullValue, format!("{place} is null and must not be")))
    }

    fn members(&mut self, members: &Members, at: usize, place: &Place<'_>) -> Result<usize, Poison> {
        let mut seen = Seen::default();
        let mut next = 0;
        self.visitor.begin(Composite::Struct)?;
        let end = self.object(at, |walk, name, _, at| {
            let name = scalar::string(name).unwrap_or_default();
            let Some((index, shape)) = members.find(&name, next) else {
                if members.closed {
                    let text = format!("{place} has a member that its schema does not allow");
                    return Err(Poison::new(PoisonReason::InvalidField, text));
                }
                return Ok(skip_value(walk.text, at));
            };
            next = index + 1;
            let place = Place::Member(place, &name);
            if !seen.insert(index) {
                return Err(Poison::new(PoisonReason::Malformed, format!("{place} comes twice")));
            }
            walk.visitor.key(&name)?;
            walk.value(shape, at, &place)
        })?;
        if seen.count < members.list.len() {
            for (index, (name, shape)) in members.list.iter().enumerate() {
                if seen.contains(index) {
                    continue;
                }
                if shape.nullable && shape.default.is_none() {
                    self.unfold.pay(1)?;
                    continue;
                }
                self.unfold.pay(name.len() + 1)?;
                let place = Place::Member(place, name);
                if shape.default.is_none() {
                    return Err(Poison::new(PoisonReason::MissingField, format!("{place} is missing")));
                }
                self.visitor.key(name)?;
                self.null(shape, &place)?;
            }
        }
        self.visitor.end()?;
        Ok(end)
    }

    fn entries(&mut self, values: &Shape, at: usize, place: &Place<'_>) -> Result<usize, Poison> {
        self.visitor.begin(Composite::Map)?;
        let end = self.object(at, |walk, name, index, at| {
            walk.visitor.key(&scalar::string(name).unwrap_or_default())?;
            walk.value(values, at, &Place::Element(place, index))
        })?;
        self.visitor.end()?;
        Ok(end)
    }

    /// `[key, value]`.
    fn pair(&mut self, key: &Shape, value: &Shape, at: usize, place: &Place<'_>) -> Result<usize, Poison> {
        let mut count = 0;
        if self.text.get(at) != Some(&b'[') {
            return Err(no_pair(place));
        }
        let end = self.elements(at, place, |walk, at, place| {
            count += 1;
            match count {
                1 => walk.key(key, at, place),
                2 => walk.value(value, at, place),
                _ => Err(no_pair(place)),
            }
        })?;
        if count == 2 { Ok(end) } else { Err(no_pair(place)) }
    }

    /// `{"key": …, "value": …}`.
    fn entry(&mut self, key: &Shape, value: &Shape, at: usize, place: &Place<'_>) -> Result<usize, Poison> {
        let (mut keys, mut values) = (None, None);
        if self.text.get(at) != Some(&b'{') {
            return Err(no_pair(place));
        }
        let end = self.object(at, |walk, name, _, at| {
            match name {
                b"\"key\"" => keys = Some(at),
                b"\"value\"" => values = Some(at),
                _ => return Err(no_pair(place)),
            }
            Ok(skip_value(walk.text, at))
        })?;
        let (Some(key_at), Some(value_at)) = (keys, values) else { return Err(no_pair(place)) };
        self.key(key, key_at, place)?;
        self.value(value, value_at, place)?;
        Ok(end)
    }

    /// A key that is no text becomes its text in JSON.
    fn key(&mut self, shape: &Shape, at: usize, place: &Place<'_>) -> Result<usize, Poison> {
        let end = skip_value(self.text, at);
        let text = self.text.get(at..end).unwrap_or_default();
        let value =
            scalar::read(&shape.kind, text).map_err(|_| unfit(&shape.kind, place, text.first().copied()))?;
        if let FieldValue::Str(text) = &value {
            self.visitor.key(text)?;
        } else {
            let mut shown = Vec::new();
            JsonText::new(&mut shown).scalar(value)?;
            let shown = String::from_utf8(shown).unwrap_or_default();
            self.visitor.key(shown.trim_matches('"'))?;
        }
        Ok(end)
    }

    /// Calls `each` with every member's name in its quotes, its number, and where its value starts; it answers where that ends.
    fn object(
        &mut self,
        at: usize,
        mut each: impl FnMut(&mut Self, &[u8], usize, usize) -> Result<usize, Poison>,
    ) -> Result<usize, Poison> {
        let text = self.text;
        let mut at = skip_space(text, at + 1);
        let mut index = 0;
        while text.get(at) == Some(&b'"') {
            let end = skip_string(text, at);
            let name = text.get(at..end).unwrap_or_default();
            let value = skip_space(text, skip_space(text, end) + 1);
            at = skip_space(text, each(self, name, index, value)?);
            index += 1;
            if text.get(at) != Some(&b',') {
                break;
            }
            at = skip_space(text, at + 1);
        }
        Ok(at + 1)
    }

    fn elements(
        &mut self,
        at: usize,
        place: &Place<'_>,
        mut each: impl FnMut(&mut Self, usize, &Place<'_>) -> Result<usize, Poison>,
    ) -> Result<usize, Poison> {
        let text = self.text;
        let mut at = skip_space(text, at + 1);
        let mut index = 0;
        while text.get(at).is_some_and(|byte| *byte != b']') {
            at = skip_space(text, each(self, at, &Place::Element(place, index))?);
            index += 1;
            if text.get(at) != Some(&b',') {
                break;
            }
            at = skip_space(text, at + 1);
        }
        Ok(at + 1)
    }
}

#[cold]
fn unfit(kind: &Kind, place: &Place<'_>, found: Option<u8>) -> Poison {
    let found = match found {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a truth value",
        _ => "a number",
    };
    let text = format!("{place}: expected {kind}, found {found} that is none");
    Poison::new(PoisonReason::InvalidField, text)
}

#[cold]
fn no_pair(place: &Place<'_>) -> Poison {
    Poison::new(PoisonReason::InvalidField, format!("{place}: expected a key and a value"))
}

/// Which members have come.
#[derive(Default)]
struct Seen {
    first: u128,
    others: Vec<bool>,
    count: usize,
}

impl Seen {
    fn insert(&mut self, index: usize) -> bool {
        let is_new = if let Some(bit) = bit(index) {
            let is_new = self.first & bit == 0;
            self.first |= bit;
            is_new
        } else {
            if self.others.len() <= index {
                self.others.resize(index + 1, false);
            }
            self.others.get_mut(index).is_some_and(|seen| !std::mem::replace(seen, true))
        };
        self.count += usize::from(is_new);
        is_new
    }

    fn contains(&self, index: usize) -> bool {
        match bit(index) {
            Some(bit) => self.first & bit != 0,
            None => self.others.get(index).copied().unwrap_or_default(),
        }
    }
}

fn bit(index: usize) -> Option<u128> {
    1_u128.checked_shl(u32::try_from(index).ok()?)
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the value"),
            Self::Member(Self::Root, name) => f.write_str(name),
            Self::Member(parent, name) => write!(f, "{parent}.{name}"),
            Self::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}
