//! From a row on tape to cells, in the order of the schema.

use std::borrow::Cow;

use aqueduct_core::{Composite, FieldValue, JsonText, Literal, Poison, ValueVisitor as _};

use super::misfit::{Misfit, Problem};
use super::plan::{Kind, Node, Plan};
use super::scalar::{kind_of, scalar};
use super::wide::Wide;
use crate::tape::{Damaged, Item, Name, Names, Tape, replay};

/// Takes a row cell by cell: each member of a struct exactly once and in the schema's order, whatever order the record had.
/// Numbers are those of the plan's nodes. What a sink of cells does not ask for is dropped.
pub(crate) trait Cells {
    fn null(&mut self, _node: usize) {}
    fn boolean(&mut self, _node: usize, _value: bool) {}
    /// Signed kinds, `uint32`, dates, times and timestamps.
    fn integer(&mut self, _node: usize, _value: i64) {}
    fn unsigned(&mut self, _node: usize, _value: u64) {}
    fn float(&mut self, _node: usize, _value: f32) {}
    fn double(&mut self, _node: usize, _value: f64) {}
    /// At the node's scale.
    fn decimal(&mut self, _node: usize, _value: Wide) {}
    /// Strings, and JSON text.
    fn text(&mut self, _node: usize, _value: &[u8]) {}
    fn symbol(&mut self, _node: usize, _index: u32, _symbol: &[u8]) {}
    /// Bytes, fixed bytes and UUIDs.
    fn bytes(&mut self, _node: usize, _value: &[u8]) {}
    fn duration(&mut self, _node: usize, _months: u32, _days: u32, _millis: u32) {}
    /// Members follow.
    fn begin_struct(&mut self, _node: usize) {}
    /// So many elements follow.
    fn begin_list(&mut self, _node: usize, _count: usize) {}
    /// So many entries follow, each after its key.
    fn begin_map(&mut self, _node: usize, _count: usize) {}
    fn key(&mut self, _node: usize, _key: &[u8]) {}
    /// The value of this branch follows; the place among the union's children.
    fn branch(&mut self, _node: usize, _place: usize) {}
    /// Ends what began last: a struct, list or map.
    fn end(&mut self, _node: usize) {}
}

/// The most members of structs that one row may have, those that are absent among them. Columns have a cell for each: without
/// a limit a list of empty objects would be as many times larger in memory as its objects have fields.
pub(super) const CELLS_MAX: usize = 8 << 20;

/// Keeps nothing: whether a row fits is found by walking it.
#[derive(Debug)]
pub(super) struct Nowhere;

impl Cells for Nowhere {}

/// Buffers of walks.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// By member that is still to be given: how much of its struct follows where its value begins; 0 if it is absent.
    found: Vec<usize>,
    json: Vec<u8>,
}

/// A walk over rows of one plan. Deep values recurse, at most as deep as [`NESTING_MAX`](aqueduct_core::NESTING_MAX).
pub(crate) struct Walk<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) names: &'p Names,
    pub(crate) scratch: &'p mut Scratch,
    /// The number of the schema the row is of.
    source: u32,
    node: usize,
    cells: usize,
}

impl<'p> Walk<'p> {
    pub(crate) fn new(plan: &'p Plan, names: &'p Names, scratch: &'p mut Scratch) -> Self {
        scratch.found.clear();
        Self { plan, names, scratch, source: 0, node: 0, cells: 0 }
    }

    /// Gives the value on `tape`, of the schema with the number `source`, to `cells`.
    pub(crate) fn row(
        &mut self,
        source: u32,
        mut tape: Tape<'_>,
        cells: &mut impl Cells,
    ) -> Result<(), Misfit> {
        self.source = source;
        self.cells = 0;
        let walked = if self.plan.wrapped {
            cells.begin_struct(0);
            let walked = self.value(1, &mut tape, cells);
            cells.end(0);
            walked
        } else {
            self.value(0, &mut tape, cells)
        };
        walked.map_err(|problem| Misfit { node: self.node, problem })
    }

    /// How many members of structs the row has, those that are absent among them.
    pub(super) fn cells(&self) -> usize {
        self.cells
    }

    fn value(&mut self, id: usize, tape: &mut Tape<'_>, cells: &mut impl Cells) -> Result<(), Problem> {
        let node = self.plan.node(id);
        if node.kind == Kind::String
            && let Some(text) = tape.text()?
        {
            cells.text(id, text);
            return Ok(());
        }
        if node.kind == Kind::Json {
            return self.json(id, node, tape, cells);
        }
        let said = tape.branch()?;
        if node.kind == Kind::Union {
            return self.union(id, node, said, tape, cells);
        }
        let item = tape.item()?;
        let fits = match (&item, node.kind) {
            (Item::Null, _) => self.empty(id, node, cells, Problem::Null),
            (Item::Parts(composite, parts), kind) => return self.parts(id, kind, *composite, *parts, cells),
            (scalar_item, _) => scalar(id, node, scalar_item, cells),
        };
        fits.map_err(|problem| self.at(id, problem))
    }

    #[cold]
    fn at(&mut self, id: usize, problem: Problem) -> Problem {
        self.node = id;
        problem
    }

    /// What stands for a value that is null or absent.
    fn empty(
        &mut self,
        id: usize,
        node: &Node,
        cells: &mut impl Cells,
        problem: Problem,
    ) -> Result<(), Problem> {
        let absent = matches!(problem, Problem::Missing);
        match &node.default {
            // A null that is allowed is no reason to take the default.
            _ if node.nullable && !absent => cells.null(id),
            Some(default) if self.default(id, node, default, cells) => {}
            _ if node.nullable => cells.null(id),
            _ => return Err(problem),
        }
        Ok(())
    }

    /// Whether the default is a value of the node.
    fn default(&mut self, id: usize, node: &Node, default: &Literal, cells: &mut impl Cells) -> bool {
        match (default, node.kind) {
            (Literal::Scalar(FieldValue::Null), _) if node.nullable => {
                cells.null(id);
                true
            }
            (_, Kind::Json) => {
                let mut text = std::mem::take(&mut self.scratch.json);
                text.clear();
                let written = write_literal(default, &mut text).is_ok();
                if written {
                    cells.text(id, &text);
                }
                self.scratch.json = text;
                written
            }
            (_, Kind::Union) => {
                // The first branch that holds it. In Avro it is of the first one, which other converters do not know.
                for (place, &child) in node.children.iter().enumerate() {
                    let (child, inner) = (child as usize, self.plan.node(child as usize));
                    if self.default(child, inner, default, &mut Nowhere) {
                        cells.branch(id, place);
                        return self.default(child, inner, default, cells);
                    }
                }
                false
            }
            (Literal::EmptyList, Kind::List) => {
                cells.begin_list(id, 0);
                cells.end(id);
                true
            }
            (Literal::EmptyMap, Kind::Map) => {
                cells.begin_map(id, 0);
                cells.end(id);
                true
            }
            (Literal::Scalar(value), _) => match Item::of(value) {
                // Nothing is given to the cells before it is known to fit.
                Some(item) => scalar(id, node, &item, cells).is_ok(),
                None => false,
            },
            _ => false,
        }
    }

    fn parts(
        &mut self,
        id: usize,
        kind: Kind,
        composite: Composite,
        parts: Tape<'_>,
        cells: &mut impl Cells,
    ) -> Result<(), Problem> {
        match (kind, composite) {
            (Kind::Struct, Composite::Struct | Composite::Map) => self.members(id, parts, cells),
            (Kind::List, Composite::List) => {
                let Some(&element) = self.plan.node(id).children.first() else {
                    return Err(Problem::Damaged);
                };
                cells.begin_list(id, parts.count_elements()?);
                let mut parts = parts;
                while !parts.is_empty() {
                    self.value(element as usize, &mut parts, cells)?;
                }
                cells.end(id);
                Ok(())
            }
            (Kind::Map, Composite::Struct | Composite::Map) => {
                let Some(&value) = self.plan.node(id).children.first() else { return Err(Problem::Damaged) };
                cells.begin_map(id, parts.count_members()?);
                let mut parts = parts;
                while !parts.is_empty() {
                    match parts.name()? {
                        Name::Spelled(key) => cells.key(id, key),
                        name @ Name::Number(_) => cells.key(id, name.spelled(self.names)?.as_bytes()),
                    }
                    self.value(value as usize, &mut parts, cells)?;
                }
                cells.end(id);
                Ok(())
            }
            _ => Err(self.at(id, kind_of(&Item::Parts(composite, parts)))),
        }
    }

    /// Members in the schema's order. As long as they come in it, nothing is looked up.
    fn members(&mut self, id: usize, parts: Tape<'_>, cells: &mut impl Cells) -> Result<(), Problem> {
        let node = self.plan.node(id);
        cells.begin_struct(id);
        self.cells += node.children.len();
        let mut rest = parts;
        let mut next = 0;
        for (&child, &number) in node.children.iter().zip(&node.numbers) {
            let mut ahead = rest;
            if ahead.is_empty() || ahead.name()? != Name::Number(number) {
                break;
            }
            self.value(child as usize, &mut ahead, cells)?;
            rest = ahead;
            next += 1;
        }
        if next < node.children.len() || !rest.is_empty() {
            self.scattered(id, node, next, rest, cells)?;
        }
        cells.end(id);
        Ok(())
    }

    /// Members from the place `next` on: found first, given in order then.
    fn scattered(
        &mut self,
        id: usize,
        node: &Node,
        next: usize,
        rest: Tape<'_>,
        cells: &mut impl Cells,
    ) -> Result<(), Problem> {
        let base = self.scratch.found.len();
        self.scratch.found.resize(base + node.children.len() - next, 0);
        let mut tape = rest;
        while !tape.is_empty() {
            let name = tape.name()?;
            match self.place(node, name)? {
                Some(place) => {
                    let slot =
                        place.checked_sub(next).and_then(|slot| self.scratch.found.get_mut(base + slot));
                    match slot {
                        Some(found) if *found == 0 => *found = tape.len(),
                        _ => {
                            let twice = Problem::Twice(name.spelled(self.names)?.to_owned());
                            return Err(self.at(id, twice));
                        }
                    }
                }
                None if self.plan.strict => {
                    let unknown = Problem::Unknown(name.spelled(self.names)?.to_owned());
                    return Err(self.at(id, unknown));
                }
                None => {}
            }
            tape.skip()?;
        }
        for (slot, &child) in node.children.iter().skip(next).enumerate() {
            let child = child as usize;
            match self.scratch.found.get(base + slot) {
                Some(&found) if found > 0 => self.value(child, &mut rest.last(found), cells)?,
                _ => self
                    .empty(child, self.plan.node(child), cells, Problem::Missing)
                    .map_err(|problem| self.at(child, problem))?,
            }
        }
        self.scratch.found.truncate(base);
        Ok(())
    }

    fn place(&self, node: &Node, name: Name<'_>) -> Result<Option<usize>, Problem> {
        let place = match name {
            Name::Number(number) => node.place(number),
            Name::Spelled(_) => node.place_of(name.spelled(self.names)?),
        };
        Ok(place.map(|place| place as usize))
    }

    fn union(
        &mut self,
        id: usize,
        node: &Node,
        said: Option<u32>,
        tape: &mut Tape<'_>,
        cells: &mut impl Cells,
    ) -> Result<(), Problem> {
        let mut ahead = *tape;
        if let Item::Null = ahead.item()? {
            *tape = ahead;
            return self.empty(id, node, cells, Problem::Null).map_err(|problem| self.at(id, problem));
        }
        if let Some(place) = said.and_then(|said| self.plan.branch(self.source, id, said)) {
            let place = place as usize;
            let Some(&child) = node.children.get(place) else { return Err(self.at(id, Problem::Branch)) };
            cells.branch(id, place);
            return self.value(child as usize, tape, cells);
        }
        // Nobody says which: the first that holds the value.
        for (place, &child) in node.children.iter().enumerate() {
            let (child, mut tried) = (child as usize, *tape);
            let found = self.scratch.found.len();
            let fits = self.value(child, &mut tried, &mut Nowhere);
            self.scratch.found.truncate(found);
            if fits.is_ok() {
                cells.branch(id, place);
                return self.value(child, tape, cells);
            }
        }
        Err(self.at(id, Problem::Branch))
    }

    fn json(
        &mut self,
        id: usize,
        node: &Node,
        tape: &mut Tape<'_>,
        cells: &mut impl Cells,
    ) -> Result<(), Problem> {
        let mut ahead = *tape;
        ahead.branch()?;
        if matches!(ahead.item()?, Item::Null) && (node.nullable || node.default.is_some()) {
            *tape = ahead;
            return self.empty(id, node, cells, Problem::Null).map_err(|problem| self.at(id, problem));
        }
        let mut text = std::mem::take(&mut self.scratch.json);
        text.clear();
        let written = replay(tape, self.names, &mut JsonText::new(&mut text))?;
        cells.text(id, &text);
        self.scratch.json = text;
        written.map_err(|poison| self.at(id, Problem::Json(poison)))
    }
}

/// Whether each default that may have to stand for a value is one.
pub(super) fn defaults_fit(plan: &Plan) -> bool {
    let (names, mut scratch) = (Names::default(), Scratch::default());
    let mut walk = Walk::new(plan, &names, &mut scratch);
    plan.nodes().iter().enumerate().all(|(id, node)| match &node.default {
        Some(default) if !node.nullable => walk.default(id, node, default, &mut Nowhere),
        _ => true,
    })
}

/// A default as JSON text.
fn write_literal(default: &Literal, text: &mut Vec<u8>) -> Result<(), Poison> {
    match default {
        Literal::EmptyList => text.extend_from_slice(b"[]"),
        Literal::EmptyMap => text.extend_from_slice(b"{}"),
        Literal::Scalar(value) => return JsonText::new(text).scalar(value.clone()),
    }
    Ok(())
}

impl From<Damaged> for Problem {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

impl<'a> Item<'a> {
    /// A default as a value of the tape.
    fn of(value: &'a FieldValue<'static>) -> Option<Self> {
        Some(match value {
            FieldValue::Null => Self::Null,
            FieldValue::Bool(it) => Self::Bool(*it),
            FieldValue::I64(it) => Self::I64(*it),
            FieldValue::U64(it) => Self::U64(*it),
            FieldValue::F32(it) => Self::F32(*it),
            FieldValue::F64(it) => Self::F64(*it),
            FieldValue::Number(it) => Self::Number(it.as_bytes()),
            FieldValue::Decimal(it) => Self::Decimal { scale: it.scale(), unscaled: it.unscaled() },
            FieldValue::Str(Cow::Borrowed(it)) => Self::Str(it.as_bytes()),
            FieldValue::Str(Cow::Owned(it)) => Self::Str(it.as_bytes()),
            FieldValue::Bytes(it) => Self::Bytes(it),
            FieldValue::Uuid(it) => Self::Uuid(it),
            FieldValue::Date(it) => Self::Date(*it),
            &FieldValue::Time { count, unit } => Self::Time { count, unit },
            &FieldValue::Timestamp { count, unit, utc } => Self::Timestamp { count, unit, utc },
            &FieldValue::Duration { months, days, millis } => Self::Duration { months, days, millis },
            _ => return None,
        })
    }
}
