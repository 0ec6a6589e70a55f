//! Which rows of a segment share files.
//!
//! A producer that alternates between two schemas makes two objects per route and segment, not one per change: rows of a
//! schema go to the objects of its shape. Which schema the files of a shape get is known at the cut, when all have been met.

use std::sync::Arc;

use aqueduct_core::{Compatibility, Composite, Poison, PoisonReason, Schema};
use hashbrown::HashMap;

use super::infer::{Inferred, Refused};
use super::plan::Plan;
use super::walk::defaults_fit;
use crate::tape::{Damaged, Item, Names, Tape};

/// The schemas a segment has met, and the shapes they make.
#[derive(Debug)]
pub(super) struct Shapes {
    mode: Compatibility,
    sources: Vec<Source>,
    /// Sources by the digest of their schema.
    known: HashMap<u64, Vec<u32>>,
    last: usize,
    all: Vec<Shape>,
    /// Values without a schema: objects, other values, and what had no place left.
    objects: Option<u32>,
    others: Option<u32>,
    texts: Option<u32>,
}

/// A schema that records have.
#[derive(Debug)]
pub(super) struct Source {
    schema: Arc<Schema>,
    shape: u32,
    /// Its defaults are values of their fields.
    is_whole: bool,
    /// What its values are checked against.
    pub(super) plan: Plan,
    /// See [`Plan::takes_every_value`].
    pub(super) takes_every_value: bool,
}

#[derive(Debug)]
enum Shape {
    /// Of values with schemas: whose the files have, and whose values are in them.
    Declared {
        target: u32,
        members: Vec<u32>,
    },
    Inferred(Box<Inferred>),
    Text,
}

/// What the files of a shape have in common.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) schema: Arc<Schema>,
    /// Numbers and schemas of the sources.
    pub(super) sources: Vec<(u32, Arc<Schema>)>,
}

impl Shapes {
    /// The most schemas a segment may meet. A registry has a few per topic; one schema a record is a mistake. With the shapes of
    /// values without a schema they stay below [`Encoded::SHAPES_MAX`](crate::Encoded::SHAPES_MAX).
    pub(super) const SCHEMAS_MAX: usize = 1_000;

    pub(super) fn new(mode: Compatibility) -> Self {
        Self {
            mode,
            sources: Vec::new(),
            known: HashMap::new(),
            last: 0,
            all: Vec::new(),
            objects: None,
            others: None,
            texts: None,
        }
    }

    /// The number of a schema, from 1; `None` if it is new.
    #[inline]
    pub(super) fn find(&mut self, schema: &Arc<Schema>) -> Option<u32> {
        if let Some(source) = self.sources.get(self.last)
            && Arc::ptr_eq(&source.schema, schema)
        {
            return number(self.last);
        }
        self.find_again(schema)
    }

    fn find_again(&mut self, schema: &Arc<Schema>) -> Option<u32> {
        let candidates = self.known.get(&schema.digest())?;
        let found = candidates.iter().copied().find(|&source| {
            let known = self.sources.get(source as usize);
            known.is_some_and(|known| Arc::ptr_eq(&known.schema, schema) || known.schema == *schema)
        })?;
        self.last = found as usize;
        if let Some(source) = self.sources.get_mut(self.last) {
            // Converters forget schemas too, and read them again.
            source.schema = Arc::clone(schema);
        }
        number(self.last)
    }

    /// Whether another schema may come.
    pub(super) fn check_room(&self) -> Result<(), Poison> {
        Self::check_number(self.sources.len())
    }

    /// Whether another schema may come after so many.
    pub(super) fn check_number(met: usize) -> Result<(), Poison> {
        if met < Self::SCHEMAS_MAX {
            return Ok(());
        }
        let detail = format!("the segment has met {} schemas already", Self::SCHEMAS_MAX);
        Err(Poison::new(PoisonReason::TooLarge, detail))
    }

    /// The number the next new schema gets.
    pub(super) fn next_number(&self) -> u32 {
        number(self.sources.len()).unwrap_or(u32::MAX)
    }

    /// Takes in a schema, after a row of it fitted.
    pub(super) fn add(&mut self, schema: &Arc<Schema>, plan: Plan) {
        let source = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        let is_whole = defaults_fit(&plan);
        let joined = (0..)
            .zip(&self.all)
            .find_map(|(id, shape)| Some((id, self.joins(schema, (source, is_whole), shape)?)));
        let shape = match joined {
            Some((id, target)) => {
                if let Some(Shape::Declared { target: old, members }) = self.all.get_mut(id) {
                    *old = target;
                    members.push(source);
                }
                u32::try_from(id).unwrap_or(u32::MAX)
            }
            None => self.open(Shape::Declared { target: source, members: vec![source] }),
        };
        self.known.entry(schema.digest()).or_default().push(source);
        self.last = self.sources.len();
        let takes_every_value = plan.takes_every_value();
        self.sources.push(Source { schema: Arc::clone(schema), shape, is_whole, plan, takes_every_value });
    }

    /// Whose schema the shape has after `schema` has joined it; `None` if that cannot be.
    fn joins(&self, schema: &Arc<Schema>, (source, is_whole): (u32, bool), shape: &Shape) -> Option<u32> {
        let Shape::Declared { target, members } = shape else { return None };
        let of = |source: u32| self.sources.get(source as usize).map(|source| &source.schema);
        let known = self.sources.get(*target as usize)?;
        let (target, of_target, is_whole) = if self.mode.prefers(schema, &known.schema) {
            (source, schema, is_whole)
        } else {
            (*target, &known.schema, known.is_whole)
        };
        // A default that is no value would be missed at the cut, when it is too late to refuse the record.
        let fits = is_whole
            && self.mode.admits(schema, of_target)
            && members
                .iter()
                .all(|&member| of(member).is_some_and(|member| self.mode.admits(member, of_target)));
        fits.then_some(target)
    }

    fn open(&mut self, shape: Shape) -> u32 {
        self.all.push(shape);
        u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn source(&mut self, number: u32) -> Option<&mut Source> {
        self.sources.get_mut((number as usize).checked_sub(1)?)
    }

    /// The shape of rows of this schema.
    pub(super) fn of_source(&self, number: u32) -> u32 {
        let source = (number as usize).checked_sub(1).and_then(|source| self.sources.get(source));
        source.map_or(u32::MAX, |source| source.shape)
    }

    /// The shape of a row without a schema, after it was taken in.
    pub(super) fn of_value(&mut self, tape: Tape<'_>) -> Result<u32, Refused> {
        let mut ahead = tape;
        let damaged = |_: Damaged| Refused::Damaged;
        ahead.branch().map_err(damaged)?;
        let is_object = matches!(ahead.item().map_err(damaged)?, Item::Parts(Composite::Struct, _));
        let known = if is_object { self.objects } else { self.others };
        let Some(id) = known else {
            let mut inferred = Box::new(Inferred::new());
            return match inferred.observe(tape) {
                Ok(()) => {
                    let id = self.open(Shape::Inferred(inferred));
                    *(if is_object { &mut self.objects } else { &mut self.others }) = Some(id);
                    Ok(id)
                }
                Err(Refused::Full) => Ok(self.of_texts()),
                Err(refused) => Err(refused),
            };
        };
        match self.all.get_mut(id as usize) {
            Some(Shape::Inferred(inferred)) => match inferred.observe(tape) {
                Ok(()) => Ok(id),
                Err(Refused::Full) => Ok(self.of_texts()),
                Err(refused) => Err(refused),
            },
            _ => Err(Refused::Damaged),
        }
    }

    fn of_texts(&mut self) -> u32 {
        if let Some(id) = self.texts {
            return id;
        }
        let id = self.open(Shape::Text);
        self.texts = Some(id);
        id
    }

    /// The shapes with their schemas, after the last row.
    pub(super) fn settle(&self, names: &Names) -> Vec<Settled> {
        let settle = |shape: &Shape| match shape {
            Shape::Declared { target, members } => {
                let of =
                    |source: u32| self.sources.get(source as usize).map(|source| Arc::clone(&source.schema));
                let sources = members.iter().filter_map(|&member| Some((member + 1, of(member)?)));
                Settled { schema: of(*target).unwrap_or_else(text), sources: sources.collect() }
            }
            Shape::Inferred(inferred) => {
                Settled { schema: Arc::new(inferred.schema(names)), sources: Vec::new() }
            }
            Shape::Text => Settled { schema: text(), sources: Vec::new() },
        };
        self.all.iter().map(settle).collect()
    }
}

fn number(index: usize) -> Option<u32> {
    u32::try_from(index + 1).ok()
}

fn text() -> Arc<Schema> {
    use aqueduct_core::DataType;
    Arc::new(Schema::new(DataType::Json))
}
